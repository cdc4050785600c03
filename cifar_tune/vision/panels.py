"""What is got wrong: the confusion matrix, and the most confident mistakes as images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from cifar_tune.errors import DataError
from cifar_tune.files import BEST as FOLDER
from cifar_tune.files import CONFIRMED, PREDICTIONS, WINNER
from cifar_tune.plan.abilities import Panel
from cifar_tune.record.model_folder import figures_of, holds_final
from cifar_tune.record.results import Results
from cifar_tune.vision.config import VisionPlan
from cifar_tune.vision.data import find_dataset, search_data
from cifar_tune.vision.data.dataset import in_memory

MOST_MISTAKES = 24
SHOWN_SIDE = 112  # pixels, at most: about what the page has for a picture
LONGEST_NAME = 18
MOST_CLASSES_IN_WORDS = 20  # more do not fit into cells that can be read


class Predictions(NamedTuple):
    """A model's on images that it was not trained on."""

    probabilities: NDArray[np.float64]  # [n, classes]
    labels: NDArray[np.int64]  # [n]
    classes: tuple[str, ...]  # their names
    of: str  # whose they are, on which images
    split: str  # which these are: `val` or `confirm`

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class, [n]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)


def panels(results: Results) -> list[Panel]:
    """The confusion matrix and the most confident mistakes, or why there are none."""
    title, predictions = "Confusion matrix", read_predictions(results)
    if isinstance(predictions, str):
        return [Panel(name="confusion", title=title, caption=predictions)]
    classes = predictions.classes
    table = np.zeros((len(classes), len(classes)), np.int64)  # [true, predicted]
    np.add.at(table, (predictions.labels, predictions.predicted), 1)
    matrix = Panel(
        name="confusion",
        title=title,
        caption=_confusion_caption(predictions, table),
        figure=confusion(classes, table),
        height=500,
    )
    return [matrix, _mistakes(predictions, results)]


def read_predictions(results: Results) -> Predictions | str:
    """Read the predictions that `best/` has, or say why there are none."""
    best = results.folder / FOLDER
    split, path = "confirm", best / CONFIRMED
    if not path.is_file():
        split, path = "val", best / PREDICTIONS
    try:
        # From memory: of a damaged file numpy leaves the descriptor open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            logits, labels = stored["logits"].astype(np.float64), stored["labels"].astype(np.int64)
            of = str(stored["of"]) if "of" in stored else ""
    except FileNotFoundError:
        return _why_missing(best)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        return f"{FOLDER}/{path.name} can't be read: {error}"
    if logits.ndim != 2 or len(logits) != len(labels) or not len(labels):
        return f"{FOLDER}/{path.name} has shapes {logits.shape} and {labels.shape}."
    known = [str(name) for name in results.data.get("classes", ())]
    names = [*known, *(f"class {number}" for number in range(len(known), logits.shape[1]))]
    return Predictions(
        probabilities=softmax(np.nan_to_num(logits, nan=-1e30), axis=1),
        labels=labels,
        classes=tuple(names[: logits.shape[1]]),
        of=of or f"{figures_of(best).get('trial_id', 'an unknown trial')} on the validation images",
        split=split,
    )


def _why_missing(best: Path) -> str:
    if not holds_final(best):
        return f"{FOLDER}/{PREDICTIONS} is not there yet: it is written when a search ends."
    return (
        "The finals were held by an earlier version, which kept no predictions of the configuration"
        f" that they chose; those of the search's winner are in {WINNER}/{PREDICTIONS}."
    )


def confusion(classes: Sequence[str], table: NDArray[np.int64]) -> go.Figure:
    """Images by true class (rows) and predicted class (columns), shaded by the part of the row."""
    parts = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    names = list(classes)
    figure = go.Figure()
    figure.add_heatmap(
        z=np.round(parts, 4).tolist(), x=names, y=names, customdata=table.tolist(), zmin=0, zmax=1,
        colorscale=[[0, "rgba(47, 134, 201, 0)"], [1, "rgba(47, 134, 201, 1)"]], xgap=1, ygap=1,
        showscale=False, name="images",
        hovertemplate="true %{y}, predicted %{x}: %{customdata} images, %{z:.3f} of the row"
        "<extra></extra>",
    )  # fmt: skip
    if len(names) <= MOST_CLASSES_IN_WORDS:
        cells = [[str(cell) if cell else "" for cell in row] for row in table.tolist()]
        figure.update_traces(text=cells, texttemplate="%{text}", textfont={"size": 11})
    shown = [
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]}..." for name in names
    ]
    figure.update_xaxes(
        title_text="predicted", type="category", showgrid=False, tickangle=-40,
        tickvals=names, ticktext=shown,
    )  # fmt: skip
    figure.update_yaxes(
        title_text="true", type="category", showgrid=False, autorange="reversed",
        tickvals=names, ticktext=shown, automargin=True, title_standoff=10,
    )  # fmt: skip
    longest = max(map(len, shown))  # letters of about 7 pixels
    return figure.update_layout(margin={"l": 44 + 7 * longest, "b": 44 + 6 * longest, "t": 12})


def _confusion_caption(predictions: Predictions, table: NDArray[np.int64]) -> str:
    right, images = int(np.trace(table)), len(predictions.labels)
    caption = f"By {predictions.of}: {right:,} of {images:,} are right ({right / images:.3f})."
    wrong = table - np.diag(np.diag(table))
    if not wrong.any():
        return f"{caption} There is no mistake."
    true, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return (
        f"{caption} The most frequent mistake: {predictions.classes[true]} taken for"
        f" {predictions.classes[taken]}, {int(wrong[true, taken])} times."
    )


def _mistakes(predictions: Predictions, results: Results) -> Panel:
    """The mistakes with the highest probability, with their images, or why there are none."""
    labels, predicted = predictions.labels, predictions.predicted
    wrong = np.flatnonzero(predicted != labels)
    images = shown_images(results, predictions) if len(wrong) else "There is no mistake."
    gallery: list[tuple[str, str]] = []
    if isinstance(images, str):
        caption = images
    else:
        sure = predictions.probabilities.max(axis=1)  # of the class that was predicted
        for place in wrong[np.argsort(-sure[wrong], kind="stable")[:MOST_MISTAKES]]:
            true, taken = (predictions.classes[names[place]] for names in (labels, predicted))
            words = f"{true}, taken for {taken} ({sure[place]:.3f})"
            gallery.append((_png(images[place]), words))
        caption = (
            f"The {len(gallery)} images that are named most surely and wrongly by {predictions.of},"
            " each with the probability that it gave."
        )
    return Panel(
        name="mistakes",
        title="Most confident mistakes",
        caption=caption,
        gallery=tuple(gallery),
    )


def shown_images(results: Results, predictions: Predictions) -> NDArray[np.uint8] | str:
    """The images, [n, side, side, 3], if the cache still has them; nothing is decoded."""
    dataset = find_dataset(results.data.get("fingerprint", ""))
    if dataset is None:
        return "The cache does not hold this search's dataset any more, so images are left out."
    # Training images aren't shown; how many there are doesn't move the others.
    plan = results.plan
    assert isinstance(plan, VisionPlan)
    config = plan.data.model_copy(update={"train_size": len(dataset.classes)})
    try:
        if predictions.split == "confirm":
            from cifar_tune.vision.data.held_out import open_confirm_split

            held = open_confirm_split(dataset, config)
            images, labels = held.images, held.labels
        else:
            data = search_data(dataset, config)
            images, labels = in_memory(data.val_images), data.val_labels
    except DataError as error:
        return f"The images can't be shown: {error}"
    if not np.array_equal(labels, predictions.labels):
        return "The predictions are not of this plan's images, so images are left out."
    return images


def _png(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    image = Image.fromarray(pixels)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    image.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
