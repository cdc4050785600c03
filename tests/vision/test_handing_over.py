"""After finals `best/` is a final model, the winner lies beside it, and no crash loses either."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_models import report_trial, save_model

from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.vision import best as module
from cifar_tune.vision.best import hand_over, write_winner
from cifar_tune.vision.data import prepare_drawn
from cifar_tune.vision.opened import VisionData
from cifar_tune.vision.panels import panels
from cifar_tune.vision.portable import load_portable
from cifar_tune.vision.predict import load_model

PLAN = load_plan(None, [
    "data.val_size=40", "data.confirm_size=30", "data.train_size=80", "train.max_epochs=1",
    "train.threads=1",
])  # fmt: skip
WIDTHS = {"winner": 2, "final": 3, "judged": 4}
FILES = {
    "README.md", "config.yaml", "confirmation_predictions.npz", "metrics.json", "model.ckpt",
    "model.json", "model.onnx", "model.pt2", "model.safetensors",
}  # fmt: skip
SUBJECT = {"number": 1, "trial_id": "t0001", "epoch": 1}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small networks of different widths, so that one can be told from another."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        name: save_model(folder / f"{name}.ckpt", model__width=width)
        for name, width in WIDTHS.items()
    }


@pytest.fixture(scope="module")
def data() -> VisionData:
    return VisionData(prepare_drawn(lambda note: None, 200, 100), PLAN.data)


@pytest.fixture
def recorder(tmp_path: Path, checkpoints: dict[str, Path], data: VisionData) -> Iterator[Recorder]:
    """A search whose winner is t0002, and whose finals chose t0001 and scored two models of it."""
    with Journal(tmp_path) as journal:
        recorder = Recorder(journal)
        plan, facts = PLAN.model_dump(mode="json"), dict(data.facts)
        recorder.write("search", version=1, plan=plan, data=facts, environment={})
        for index, accuracy in enumerate((0.5, 0.6)):
            path = tmp_path / "ray" / str(index) / "model.ckpt"
            path.parent.mkdir(parents=True)
            shutil.copy(checkpoints["winner"], path)
            report_trial(recorder, index, accuracy, str(path.relative_to(tmp_path)))
        write_winner(recorder.results, data.search, print, whole=False)
        home = tmp_path / "finals" / "seed-1"
        home.mkdir(parents=True)
        shutil.copy(checkpoints["final"], home / "model.ckpt")
        (home / "config.yaml").write_text("of the final model")
        score(recorder)
        yield recorder


def score(recorder: Recorder) -> None:
    content = (recorder.journal.folder / "finals" / "seed-1" / "model.ckpt").read_bytes()
    file = {"file": "finals/seed-1/model.ckpt", "sha256": hashlib.sha256(content).hexdigest()}
    models = [{**file, "seed": 7}, {**file, "seed": 8}]
    recorder.write(
        "test_opened", **SUBJECT, models=models, model={"kind": "final", **models[0]}, lost={},
        again=False,
    )  # fmt: skip
    recorder.write(
        "test_scored", **SUBJECT, seeds=[7, 8], test_accuracy=[0.75, 0.65], mean=0.7, std=None,
        ci95=None, lost={},
        model={"kind": "final", **models[0], "score": 0.75, "ci95": [0.7, 0.8]},
    )  # fmt: skip


def handed(
    recorder: Recorder, data: VisionData, judged: Path | None, notes: list[str] | None = None
) -> bool:
    scored = recorder.results.test_scored
    assert scored is not None
    say = [].append if notes is None else notes.append
    return hand_over(recorder.results, data, scored["model"], judged, say)


def width_in(folder: Path) -> int:
    return load_portable(folder).card.model.width


def test_best_is_the_final_model_and_the_winner_lies_beside_it(
    recorder: Recorder, data: VisionData, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in (tmp_path / "best").iterdir()}
    assert handed(recorder, data, checkpoints["judged"])
    best = tmp_path / "best"
    assert {path.name for path in best.iterdir()} == FILES
    assert best.joinpath("model.ckpt").read_bytes() == checkpoints["final"].read_bytes()
    assert best.joinpath("config.yaml").read_text() == "of the final model"
    assert load_model(tmp_path).card.holds == "the first of 2 final models of t0001's configuration"
    assert width_in(best) == WIDTHS["final"]
    figures = json.loads((best / "metrics.json").read_text())
    assert (figures["model"], figures["test_accuracy"], figures["seed"]) == ("final", 0.75, 7)
    after = {path.name: path.read_bytes() for path in (tmp_path / "search-winner").iterdir()}
    assert after == before


def test_the_card_of_the_model_tells_scores_data_loading_and_limits(
    recorder: Recorder, data: VisionData, tmp_path: Path
) -> None:
    winner = (tmp_path / "best" / "README.md").read_text()
    assert "Validation accuracy 0.6000" in winner
    assert "so expect less on new images" in winner
    handed(recorder, data, None)
    card = (tmp_path / "best" / "README.md").read_text()
    assert "# " + tmp_path.name + ": the first of 2 final models of t0001's configuration" in card
    assert "Test accuracy 0.7500 on the DRAWN set, not CIFAR-10 on 100 images" in card
    assert "95 % interval for this model on new images: 0.7000 to 0.8000" in card
    assert "Mean of the 2 final models 0.7000" in card
    assert "Trained on 150 images" in card
    assert data.fingerprint in card
    for word in ("load_model", "torch.export.load", "model.safetensors", "## Limits"):
        assert word in card
    assert str(tmp_path) not in card  # a card goes to others


def test_what_is_there_is_not_written_again(
    recorder: Recorder, data: VisionData, tmp_path: Path
) -> None:
    handed(recorder, data, None)
    before = (tmp_path / "best").stat().st_ino
    assert handed(recorder, data, None)
    assert (tmp_path / "best").stat().st_ino == before


def test_a_later_winner_does_not_take_the_place_of_the_final_model(
    recorder: Recorder, data: VisionData, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    handed(recorder, data, None)
    path = tmp_path / "ray" / "2" / "model.ckpt"
    path.parent.mkdir()
    shutil.copy(checkpoints["judged"], path)
    report_trial(recorder, 2, 0.9, "ray/2/model.ckpt")
    assert (
        write_winner(recorder.results, data.search, print)
        == tmp_path / "search-winner" / "model.ckpt"
    )
    assert width_in(tmp_path / "search-winner") == WIDTHS["judged"]
    assert width_in(tmp_path / "best") == WIDTHS["final"]


class Killed(BaseException):
    """What no handler of ours takes for a failure."""


@pytest.mark.parametrize("step", ["copytree", "write_figures", "write_portable", "model_card"])
def test_a_kill_on_the_way_leaves_a_whole_model_and_the_next_start_goes_on(
    step: str, recorder: Recorder, data: VisionData, tmp_path: Path, monkeypatch: Any
) -> None:
    def kill(*args: Any, **kwargs: Any) -> None:
        raise Killed("there")

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil if step == "copytree" else module, step, kill)
        with pytest.raises(Killed, match="there"):
            handed(recorder, data, None)
    assert width_in(tmp_path / "best") == WIDTHS["winner"]
    assert handed(recorder, data, None)
    assert width_in(tmp_path / "best") == WIDTHS["final"]
    assert width_in(tmp_path / "search-winner") == WIDTHS["winner"]


@pytest.mark.parametrize("name", ["best", "search-winner"])
def test_a_kill_between_the_two_steps_of_a_swap_loses_nothing(
    name: str, recorder: Recorder, data: VisionData, tmp_path: Path
) -> None:
    handed(recorder, data, None)
    (tmp_path / name).rename(tmp_path / f".{name}.aside")
    assert handed(recorder, data, None)
    assert width_in(tmp_path / "best") == WIDTHS["final"]
    assert width_in(tmp_path / "search-winner") == WIDTHS["winner"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_final_model_that_is_gone_leaves_best_as_it_was_and_is_told(
    recorder: Recorder, data: VisionData, tmp_path: Path
) -> None:
    notes: list[str] = []
    (tmp_path / "finals" / "seed-1" / "model.ckpt").write_bytes(b"another")
    assert not handed(recorder, data, None, notes)
    assert width_in(tmp_path / "best") == WIDTHS["winner"]
    assert "is gone or was changed" in notes[0]


def test_mistakes_are_those_of_a_training_that_has_not_seen_the_images(
    recorder: Recorder, data: VisionData, checkpoints: dict[str, Path]
) -> None:
    handed(recorder, data, checkpoints["judged"])
    with np.load(recorder.journal.folder / "best" / "confirmation_predictions.npz") as stored:
        expected = load_model(checkpoints["judged"]).logits(images_of(data))
        assert np.allclose(stored["logits"], expected, atol=1e-5)
        assert str(stored["of"]) == (
            "a confirmation training of t0001's configuration on the confirmation images"
        )
    matrix, mistakes = panels(recorder.results)
    assert "By a confirmation training of t0001's configuration" in matrix.caption
    assert "30 are right" in matrix.caption
    assert mistakes.gallery


def images_of(data: VisionData) -> np.ndarray:
    from cifar_tune.vision.data.held_out import open_confirm_split

    return open_confirm_split(data.dataset, data.config).images


def test_predictions_of_another_configuration_are_not_shown(
    recorder: Recorder, data: VisionData
) -> None:
    """The finals of an earlier version kept no training of the configuration that they chose."""
    handed(recorder, data, None)
    (only,) = panels(recorder.results)
    assert "kept no predictions of the configuration that they chose" in only.caption


def test_of_a_winner_that_was_chosen_again_its_own_predictions_are_shown(
    recorder: Recorder, data: VisionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUBJECT, "trial_id", "t0002")
    score(recorder)
    handed(recorder, data, None)
    assert "By t0002 of the search on the validation images" in panels(recorder.results)[0].caption


def test_a_folder_of_an_earlier_version_says_which_model_it_holds(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figures = json.loads((tmp_path / "best" / "metrics.json").read_text())
    del figures["model"], figures["holds"]
    (tmp_path / "best" / "metrics.json").write_text(json.dumps(figures))
    with caplog.at_level(logging.WARNING):
        load_model(tmp_path)
    (told,) = caplog.messages
    assert "best holds the winner of the search, t0002, and not one of its final models" in told
    assert f"cifar-tune confirm {tmp_path}" in told
