"""The test split is opened once, for the models that were named first, whatever is interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from told import Story, story

from cifar_tune.errors import ResultsError
from cifar_tune.finals.models import model_at
from cifar_tune.finals.opening import score_models, score_winner, scored_as_asked
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Share, read_machine
from cifar_tune.record.journal import read_journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.search.session import Session
from cifar_tune.train.fit import fit
from cifar_tune.vision.data import Dataset, prepare_drawn, search_data
from cifar_tune.vision.data.held_out import open_test_split
from cifar_tune.vision.data.stored import open_images
from cifar_tune.vision.ensemble import combine
from cifar_tune.vision.evaluate import accuracy, loaded_logits
from cifar_tune.vision.opened import VisionData
from cifar_tune.vision.task import VISION

GIVEN = (
    "data.val_size=60", "data.confirm_size=20", "data.batch_size=32", "model.width=2",
    "train.max_epochs=1", "train.threads=1",
)  # fmt: skip
PLAN = load_plan(None, GIVEN)


@pytest.fixture
def drawn() -> Dataset:
    return prepare_drawn(lambda note: None, 200, 100)


@pytest.fixture
def checkpoint(tmp_path: Path, drawn: Dataset) -> Path:
    """A trained network, small and bad."""
    return trained(tmp_path / "model.ckpt", drawn, {}, 0)


def trained(path: Path, drawn: Dataset, values: dict[str, Any], index: int) -> Path:
    save = LambdaCallback(on_validation_end=lambda trainer, _: trainer.save_checkpoint(path))
    fit(PLAN.run(values, index), search_data(drawn, PLAN.data), callbacks=[save])
    return path


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A search of two trials of which the second leads."""
    with story(tmp_path) as told:
        told.begin(*GIVEN)
        for accuracy in (0.1, 0.2):
            told.report(told.create({}), 1, accuracy, done=True)
        yield told.recorder


def report(recorder: Recorder, name: str, accuracy: float) -> None:
    Story(recorder).report(name, 1, accuracy, done=True)


def openings(recorder: Recorder) -> list[str]:
    looks = read_journal(recorder.journal.folder).of("test_opened", "test_scored")
    return [event["event"] for event in looks]


def refuse(line: str) -> None:
    raise AssertionError(line)


def model_of(recorder: Recorder, checkpoint: Path, name: str, seed: int) -> dict[str, Any]:
    """A copy of the checkpoint as a final model."""
    path = recorder.journal.folder / "finals" / name / "model.ckpt"
    path.parent.mkdir(parents=True)
    shutil.copy(checkpoint, path)
    return model_at(recorder.journal.folder, path, seed)


def first_of(models: list[dict[str, Any]]) -> dict[str, Any]:
    """What is handed over if nothing else is asked for."""
    return {"kind": "final", **models[0]}


def begin_look(recorder: Recorder, models: list[dict[str, Any]]) -> None:
    """An opening that a crash interrupts."""
    recorder.write(
        "test_opened", **SUBJECT, fingerprint="", models=models, lost={}, flip_averaging=True,
        again=False,
    )  # fmt: skip


SUBJECT = {"trial_id": "t0002", "epoch": 1, "number": 1}


def session(recorder: Recorder, drawn: Dataset, say: Any = print) -> Session:
    """A start of that search, which trains nothing."""
    return Session(
        recorder=recorder, data=VisionData(drawn, PLAN.data), machine=read_machine(), say=say,
        share=Share(cpus=1, gpus=0, slots=1), objective=print, ray=ExitStack(),
    )  # fmt: skip


def logits(checkpoint: Path, images: np.ndarray, **averaging: bool) -> torch.Tensor:
    return loaded_logits(checkpoint, images, gpu=False, threads=1, **averaging)


def test_the_winner_is_scored_on_all_test_images_and_once(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    score_winner(session(recorder, drawn, refuse), checkpoint)
    test, scored = open_test_split(drawn), recorder.results.test_scored
    assert scored is not None
    assert scored["test_accuracy"] == [accuracy(logits(checkpoint, test.images), test)]
    model = scored["model"]
    assert (model["kind"], model["score"]) == ("winner", scored["test_accuracy"][0])
    assert model["ci95"][0] < model["score"] < model["ci95"][1]  # of this model, on new images
    assert (scored["trial_id"], scored["std"], scored["ci95"]) == ("t0002", None, None)
    score_winner(session(recorder, drawn, refuse), checkpoint)
    assert openings(recorder) == ["test_opened", "test_scored"]


def test_the_test_split_stays_closed_for_another_winner_and_it_is_said(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    score_winner(session(recorder, drawn, refuse), checkpoint)
    report(recorder, "t0001", 0.9)
    said: list[str] = []
    score_winner(session(recorder, drawn, said.append), checkpoint)
    assert openings(recorder) == ["test_opened", "test_scored"]
    assert "was opened for t0002" in said[0]
    assert "--open-test-again" in said[0]


def test_another_look_that_was_asked_for_is_recorded(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    score_winner(session(recorder, drawn, refuse), checkpoint)
    report(recorder, "t0001", 0.9)
    score_winner(session(recorder, drawn, refuse), checkpoint, again=True)
    opened = read_journal(recorder.journal.folder).of("test_opened")
    assert [event["again"] for event in opened] == [False, True]
    assert recorder.results.test_openings == 2


def test_all_models_are_scored_in_one_opening(
    recorder: Recorder, drawn: Dataset, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counting(dataset: Dataset, split: str) -> Any:
        reads.append(split)
        return open_images(dataset, split)

    monkeypatch.setattr("cifar_tune.vision.data.held_out.open_images", counting)
    models = [model_of(recorder, checkpoint, f"seed-{n}", n) for n in (1, 2, 3)]
    score_models(session(recorder, drawn), SUBJECT, models, first_of(models), lost={})
    assert reads == ["test"]
    scored = recorder.results.test_scored
    assert scored is not None
    assert scored["seeds"] == [1, 2, 3]
    assert scored["std"] == pytest.approx(0)
    low, high = scored["ci95"]
    assert low < scored["mean"] < high
    opened = recorder.results.test_opened
    assert opened is not None
    assert (opened["models"], opened["fingerprint"]) == (models, drawn.fingerprint)


def test_an_opening_that_was_interrupted_is_finished_as_the_same_opening(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    models = [model_of(recorder, checkpoint, "seed-1", 1)]
    begin_look(recorder, models)
    score_models(session(recorder, drawn), SUBJECT, models, first_of(models), lost={})
    assert openings(recorder) == ["test_opened", "test_scored"]
    scored = recorder.results.test_scored
    assert scored is not None
    assert scored["flip_averaging"]  # as it was opened, whatever the plan says now


def test_an_interrupted_opening_is_not_finished_with_other_models(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    models = [model_of(recorder, checkpoint, "seed-1", 1)]
    begin_look(recorder, models)
    others = [model_of(recorder, checkpoint, "seed-2", 2)]
    with pytest.raises(ResultsError, match=r"was opened for t0002 on .* stays closed"):
        score_models(session(recorder, drawn), SUBJECT, others, first_of(others), lost={})
    assert openings(recorder) == ["test_opened"]


def test_a_model_that_was_changed_is_not_scored(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    models = [model_of(recorder, checkpoint, "seed-1", 1)]
    (recorder.journal.folder / models[0]["file"]).write_bytes(b"another")
    with pytest.raises(ResultsError, match=r"seed-1/model.ckpt is gone or not the model"):
        score_models(session(recorder, drawn), SUBJECT, models, first_of(models), lost={})
    assert openings(recorder) == []


def test_flip_averaging_is_the_mean_over_an_image_and_its_mirror_image(
    drawn: Dataset, checkpoint: Path
) -> None:
    test = open_test_split(drawn)
    mirrored = np.ascontiguousarray(test.images[:, :, ::-1])
    plain = [logits(checkpoint, images) for images in (test.images, mirrored)]
    averaged = logits(checkpoint, test.images, flip_averaging=True)
    assert torch.equal(averaged, (plain[0] + plain[1]) / 2)
    assert not torch.equal(plain[0], plain[1])


def test_translate_averaging_takes_half_from_the_image_moved_by_a_pixel(
    drawn: Dataset, checkpoint: Path
) -> None:
    images = open_test_split(drawn).images
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    size = images.shape[1]
    for flip in (False, True):
        views = (images, wide[:, :size, :size], wide[:, 2:, 2:])
        still, first, other = (logits(checkpoint, x, flip_averaging=flip) for x in views)
        averaged = logits(checkpoint, images, flip_averaging=flip, translate_averaging=True)
        torch.testing.assert_close(averaged, (still + (first + other) / 2) / 2)
        assert not torch.allclose(averaged, still)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("translate", [False, True])
def test_a_score_averages_what_the_plan_says(
    drawn: Dataset,
    checkpoint: Path,
    *,
    flip: bool,
    translate: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "cifar_tune.vision.evaluate.loaded_logits",
        lambda path, images, **given: asked.append(given) or logits(path, images),  # type: ignore[func-returns-value]
    )
    given = [f"finals.flip_averaging={flip}", f"finals.translate_averaging={translate}"]
    VISION.score(checkpoint, open_test_split(drawn), load_plan(None, [x.lower() for x in given]))
    assert asked[0]["flip_averaging"] is flip
    assert asked[0]["translate_averaging"] is translate


@pytest.mark.parametrize("finals", [{}, {"flip_averaging": True}, {"translate_averaging": True}])
def test_an_opening_of_an_earlier_version_averaged_only_what_it_says(
    finals: dict[str, bool],
) -> None:
    """Before there was translate_averaging, no score could have it."""
    plan = load_plan(None, [f"finals.{name}=true" for name in finals])
    opened = {"models": [{}], "flip_averaging": plan.finals.flip_averaging}  # type: ignore[attr-defined]
    assert scored_as_asked(plan, opened) == ("translate_averaging" not in finals)


def test_the_mean_of_several_models_is_scored_as_a_model_of_its_own(
    recorder: Recorder, drawn: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    other = trained(tmp_path / "other.ckpt", drawn, {"optim.lr": 0.5}, 7)
    models = [model_of(recorder, path, f"seed-{n}", n) for n, path in ((1, checkpoint), (2, other))]
    target = recorder.journal.folder / "finals" / "ensemble" / "model.ckpt"
    combine([checkpoint, other], target)
    mean = {"kind": "ensemble", **model_at(recorder.journal.folder, target, None)}
    score_models(session(recorder, drawn), SUBJECT, models, mean, lost={})
    test, scored = open_test_split(drawn), recorder.results.test_scored
    assert scored is not None
    each = [logits(path, test.images) for path in (checkpoint, other)]
    assert scored["test_accuracy"] == [accuracy(one, test) for one in each]
    assert scored["model"]["score"] == accuracy((each[0] + each[1]) / 2, test)
    assert scored["model"]["seed"] is None


def test_final_models_train_on_all_training_images_and_no_test_image(
    recorder: Recorder, drawn: Dataset
) -> None:
    data = VisionData(drawn, PLAN.data).part("final")
    stored = open_images(drawn, "train")
    assert len(data.train_labels) == 200
    assert {image.tobytes() for image in data.train_images} == {
        image.tobytes() for image in stored.images
    }
