"""What is got wrong is counted, named and shown, or it is said why not."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from report.searches import WrittenSearch, usual, write_predictions

from cifar_tune.record.results import Results
from cifar_tune.vision import panels
from cifar_tune.vision.data import prepare_drawn, search_data

SIZES = ("data.val_size=60", "data.confirm_size=40", "data.train_size=100")
LABELS = np.arange(60) % 3


def test_the_confusion_matrix_counts_and_names_the_most_frequent_mistake(tmp_path: Path) -> None:
    results = usual(tmp_path).results
    write_predictions(tmp_path, LABELS, [0, 3, 1])
    matrix, mistakes = panels.panels(results)
    (cells,) = matrix.figure.data
    assert [list(row) for row in cells.customdata] == [[18, 2, 0], [0, 19, 1], [0, 0, 20]]
    assert list(cells.x) == list(cells.y) == ["cat", "dog", "frog"]
    assert "57 of 60 are right (0.950)" in matrix.caption
    assert "cat taken for dog, 2 times" in matrix.caption
    assert "does not hold this search's dataset" in mistakes.caption
    assert not mistakes.gallery


def test_predictions_that_are_missing_or_damaged_are_said_to_be(tmp_path: Path) -> None:
    results = usual(tmp_path).results
    (missing,) = panels.panels(results)
    assert "not there yet" in missing.caption
    write_predictions(tmp_path, LABELS, [])
    path = tmp_path / "best" / "validation_predictions.npz"
    path.write_bytes(path.read_bytes()[:100])
    (damaged,) = panels.panels(results)
    assert "can't be read" in damaged.caption
    assert damaged.figure is None


def test_the_surest_mistakes_come_first_with_the_images_of_the_cache(tmp_path: Path) -> None:
    dataset = prepare_drawn(lambda _: None, 400, 100)
    search = WrittenSearch(
        tmp_path, *SIZES, fingerprint=dataset.fingerprint, classes=list(dataset.classes)
    )
    data = search_data(dataset, search.plan.data)
    write_predictions(tmp_path, data.val_labels, [7, 2, 30])
    gallery = panels.panels(search.results)[1].gallery
    for place, (png, caption) in zip((7, 2, 30), gallery, strict=True):
        true = dataset.classes[data.val_labels[place]]
        assert caption.startswith(f"{true}, taken for ")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        assert np.array_equal(shown, data.val_images[place])


def test_images_are_left_out_with_a_reason(tmp_path: Path) -> None:
    results = usual(tmp_path).results
    assert "does not hold this search's dataset" in shown(results, LABELS)
    dataset = prepare_drawn(lambda _: None, 400, 100)
    other = WrittenSearch(tmp_path / "other", *SIZES, fingerprint=dataset.fingerprint).results
    assert "not of this plan's" in shown(other, LABELS[:5])
    large = WrittenSearch(
        tmp_path / "large", "data.val_size=5000", fingerprint=dataset.fingerprint
    ).results
    assert "can't be shown" in shown(large, LABELS)


def shown(results: Results, labels: np.ndarray) -> str:
    """Why the images of predictions with these labels are left out."""
    predictions = panels.Predictions(
        probabilities=np.zeros((len(labels), 3)), labels=labels, classes=("a", "b", "c"), of="",
        split="val",
    )  # fmt: skip
    return str(panels.shown_images(results, predictions))


def test_a_model_without_a_mistake_has_none_to_show(tmp_path: Path) -> None:
    write_predictions(tmp_path, LABELS, [])
    matrix, mistakes = panels.panels(usual(tmp_path).results)
    assert "There is no mistake" in matrix.caption
    assert "no mistake" in mistakes.caption
