"""`best/` holds files of one winner, all of them, whatever happened before or goes wrong now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from saved_models import begin_search, report_trial, save_model
from toy_images import toy_data

from cifar_tune.errors import ResultsError
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.vision.best import write_winner
from cifar_tune.vision.config import VisionPlan, VisionSearch, VisionTrain
from cifar_tune.vision.portable import load_portable

DATA = toy_data(32, 16)
PLAN = VisionPlan(train=VisionTrain(max_epochs=1), search=VisionSearch(num_samples=3))
FILES = {
    "config.yaml", "metrics.json", "model.ckpt", "model.json", "model.onnx", "model.pt2",
    "model.safetensors",
    "validation_predictions.npz", "README.md",
}  # fmt: skip
PROGRAMS = {"model.onnx", "model.pt2"}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Two small networks."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = [save_model(folder / f"{width}.ckpt", model__width=width) for width in (2, 3)]
    return [path.read_bytes() for path in paths]


@pytest.fixture
def recorder(tmp_path: Path, checkpoints: list[bytes]) -> Iterator[Recorder]:
    """A search that the first of the networks leads."""
    with Journal(tmp_path) as journal:
        recorder = begin_search(journal, PLAN)
        add_trial(recorder, 0, 0.5, checkpoints[0])
        yield recorder


def add_trial(recorder: Recorder, index: int, accuracy: float, content: bytes) -> None:
    path = recorder.journal.folder / "ray" / str(index) / "model.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    report_trial(recorder, index, accuracy, str(path.relative_to(recorder.journal.folder)))


def drop_checkpoint(recorder: Recorder, name: str) -> None:
    """As the end of a search does it."""
    for path in recorder.results.trials[name].checkpoints.values():
        (recorder.journal.folder / path).unlink()
    recorder.write("checkpoints_dropped", trial_id=name, epochs=[1])


def written(recorder: Recorder) -> Path | None:
    """Without the programs, which take seconds."""
    return write_winner(recorder.results, DATA, print, whole=False)


def whose(folder: Path) -> tuple[str, int]:
    """The trial that the figures name, and the width of the model that is there."""
    figures = json.loads((folder / "metrics.json").read_text())
    return figures["trial_id"], load_portable(folder).card.model.width


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_winner_is_there_in_all_its_forms(recorder: Recorder, tmp_path: Path) -> None:
    assert write_winner(recorder.results, DATA, print) == tmp_path / "best" / "model.ckpt"
    assert {path.name for path in (tmp_path / "best").iterdir()} == FILES
    assert whose(tmp_path / "best") == ("t0001", 2)
    assert load_portable(tmp_path / "best").card.dataset_fingerprint == "of the toys"
    assert hidden(tmp_path) == []


def test_what_is_there_is_not_written_again_and_what_is_missing_or_damaged_is(
    recorder: Recorder, tmp_path: Path
) -> None:
    best = tmp_path / "best"
    written(recorder)
    assert {path.name for path in best.iterdir()} == FILES - PROGRAMS
    first = best.stat().st_ino
    assert written(recorder) == best / "model.ckpt"
    assert best.stat().st_ino == first
    for damage in (
        (best / "model.safetensors").unlink,
        lambda: (best / "model.safetensors").write_bytes(b""),
        (best / "config.yaml").unlink,
        (best / "README.md").unlink,
        (best / "validation_predictions.npz").unlink,
        lambda: (best / "model.json").write_text("torn"),
        lambda: (best / "model.ckpt").write_bytes(b"torn"),
    ):
        damage()
        written(recorder)
        assert whose(best) == ("t0001", 2)
        assert {path.name for path in best.iterdir()} == FILES - PROGRAMS


def test_programs_that_a_winner_was_spared_come_when_it_stays(
    recorder: Recorder, tmp_path: Path
) -> None:
    written(recorder)
    write_winner(recorder.results, DATA, print)
    assert {path.name for path in (tmp_path / "best").iterdir()} == FILES


def test_the_card_counts_the_trials_of_now(
    recorder: Recorder, tmp_path: Path, checkpoints: list[bytes]
) -> None:
    written(recorder)
    before = (tmp_path / "best" / "README.md").read_text()
    add_trial(recorder, 1, 0.1, checkpoints[1])  # no better than the first
    written(recorder)
    assert (tmp_path / "best" / "README.md").read_text() != before
    assert whose(tmp_path / "best") == ("t0001", 2)


def test_another_winner_takes_the_place_of_the_first_with_all_files(
    recorder: Recorder, tmp_path: Path, checkpoints: list[bytes]
) -> None:
    written(recorder)
    (tmp_path / "best" / "left.txt").touch()
    add_trial(recorder, 1, 0.6, checkpoints[1])
    written(recorder)
    assert whose(tmp_path / "best") == ("t0002", 3)
    assert {path.name for path in (tmp_path / "best").iterdir()} == FILES - PROGRAMS
    assert hidden(tmp_path) == []


def test_a_winner_that_cannot_be_read_leaves_the_folder_as_it_was(
    recorder: Recorder, tmp_path: Path
) -> None:
    written(recorder)
    add_trial(recorder, 1, 0.6, b"torn")
    with pytest.raises(ResultsError, match=r"ray/1/model\.ckpt can't be used"):
        written(recorder)
    assert whose(tmp_path / "best") == ("t0001", 2)
    assert hidden(tmp_path) == []


def test_a_crash_between_the_two_steps_of_the_swap_loses_nothing(
    recorder: Recorder, tmp_path: Path
) -> None:
    checkpoint = written(recorder)
    drop_checkpoint(recorder, "t0001")
    (tmp_path / "best").rename(tmp_path / ".best.aside")
    (tmp_path / ".best.draft").mkdir()
    assert written(recorder) == checkpoint
    assert whose(tmp_path / "best") == ("t0001", 2)


def test_a_crash_after_the_swap_leaves_nothing_behind(
    recorder: Recorder, tmp_path: Path, checkpoints: list[bytes]
) -> None:
    written(recorder)
    (tmp_path / ".best.aside").mkdir()
    (tmp_path / ".best.aside" / "model.ckpt").touch()
    add_trial(recorder, 1, 0.6, checkpoints[1])
    written(recorder)
    assert whose(tmp_path / "best") == ("t0002", 3)
    assert hidden(tmp_path) == []


def test_a_folder_of_an_earlier_version_gets_the_forms_it_lacks(
    recorder: Recorder, tmp_path: Path
) -> None:
    write_winner(recorder.results, DATA, print)
    drop_checkpoint(recorder, "t0001")
    for name in ("model.json", "model.onnx", "model.pt2", "model.safetensors"):
        (tmp_path / "best" / name).unlink()
    write_winner(recorder.results, DATA, print)
    assert {path.name for path in (tmp_path / "best").iterdir()} == FILES


def test_a_folder_of_another_winner_is_not_taken_for_one_whose_checkpoint_is_gone(
    recorder: Recorder, tmp_path: Path, checkpoints: list[bytes]
) -> None:
    written(recorder)
    add_trial(recorder, 1, 0.6, checkpoints[1])
    drop_checkpoint(recorder, "t0002")
    assert written(recorder) is None
    assert whose(tmp_path / "best") == ("t0001", 2)


def test_what_could_not_be_written_is_told(recorder: Recorder, tmp_path: Path) -> None:
    path = save_model(tmp_path / "own.ckpt", model__name="test_export:branching")
    add_trial(recorder, 1, 0.6, path.read_bytes())
    notes: list[str] = []
    assert write_winner(recorder.results, DATA, notes.append) is not None
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path}/best: model.pt2 is left out")
