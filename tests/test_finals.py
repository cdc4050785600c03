"""The test split is opened once, for one winner, whatever is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import LambdaCallback

from cifar_tune.data import Dataset, prepare_drawn, search_data
from cifar_tune.evaluate import accuracy, predict_logits
from cifar_tune.finals import score_test_split
from cifar_tune.journal import Journal
from cifar_tune.load import load_plan
from cifar_tune.results import Recorder
from cifar_tune.train import fit

PLAN = load_plan(None, [
    "data.val_size=60", "data.confirm_size=20", "data.batch_size=32", "model.width=2",
    "train.max_epochs=1", "train.threads=1",
])  # fmt: skip


@pytest.fixture
def drawn() -> Dataset:
    return prepare_drawn(lambda note: None, 200, 100)


@pytest.fixture
def checkpoint(tmp_path: Path, drawn: Dataset) -> Path:
    """A trained network, small and bad."""
    path = tmp_path / "model.ckpt"
    save = LambdaCallback(on_validation_end=lambda trainer, module: trainer.save_checkpoint(path))
    fit(PLAN.run({}, 0), search_data(drawn, PLAN.data), callbacks=[save])
    return path


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A search of two trials of which the second leads."""
    with Journal(tmp_path) as journal:
        recorder = Recorder(journal)
        recorder.write(
            "search", version=1, plan=PLAN.model_dump(mode="json"), data={}, environment={}
        )
        for index in range(2):
            name = f"t000{index + 1}"
            created = {"trial_id": name, "index": index, "seed": index, "values": {}}
            recorder.write("trial_created", **created)
            report(recorder, name, 0.1 + 0.1 * index)
        yield recorder


def report(recorder: Recorder, name: str, accuracy: float) -> None:
    metrics = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0}
    clock = {"first_step_at": 1.0, "reported_at": 2.0}
    event: dict[str, Any] = {"trial_id": name, "metrics": {**metrics, **clock}, "checkpoint": None}
    recorder.write("result", **event, done=True, diverged=False)


def openings(recorder: Recorder) -> list[str]:
    return [event["event"] for event in recorder.journal.records.of("test_opened", "test_scored")]


def test_the_winner_is_scored_on_all_test_images_and_once(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    from cifar_tune.data.held_out import open_test_split

    score = score_test_split(recorder, drawn, checkpoint)
    test = open_test_split(drawn)
    assert score == accuracy(predict_logits(checkpoint, test, gpu=False), test)
    assert recorder.results.test_scored is not None
    assert recorder.results.test_scored["trial_id"] == "t0002"
    assert score_test_split(recorder, drawn, checkpoint) == score
    assert openings(recorder) == ["test_opened", "test_scored"]


def test_an_opening_that_was_interrupted_is_finished_as_the_same_opening(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    recorder.write("test_opened", trial_id="t0002", epoch=1, fingerprint=drawn.fingerprint)
    assert score_test_split(recorder, drawn, checkpoint) is not None
    assert openings(recorder) == ["test_opened", "test_scored"]


def test_the_test_split_stays_closed_for_another_winner(
    recorder: Recorder, drawn: Dataset, checkpoint: Path
) -> None:
    score_test_split(recorder, drawn, checkpoint)
    report(recorder, "t0001", 0.9)
    assert score_test_split(recorder, drawn, checkpoint) is None
    assert openings(recorder) == ["test_opened", "test_scored"]
