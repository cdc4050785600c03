"""wandb's real files, written offline by real trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from toy_images import toy_data, toy_run

from cifar_tune.config import Plan
from cifar_tune.load import load_plan
from cifar_tune.tracking.wandb_run import trial_trackers
from cifar_tune.train import fit

# wandb's own code meets deprecations of its dependencies; what we call is not among them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine where nobody has logged in to wandb."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def records(file: Path) -> Iterator[bytes]:
    """The records of a wandb file: LevelDB's log format after a header of 7 bytes.

    In blocks of 32 KiB stand parts of records: checksum (4), length (2), type (1: whole, 2: first,
    3: middle, 4: last), content.
    """
    content, place, begun = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if place % 32768 > 32768 - 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield begun
            begun = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows that one run logged, read back from wandb's own file."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    rows = []
    for content in records(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append(
                {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in items
                }
            )
    return rows


def plan(*overrides: str) -> Plan:
    return load_plan(None, ["tracking.wandb=project", *overrides])


def test_without_a_project_there_is_nothing_to_track(tmp_path: Path) -> None:
    assert trial_trackers(load_plan(), tmp_path, "t0001", {}) == []


def test_every_epoch_is_in_the_offline_file_without_a_key(tmp_path: Path) -> None:
    trackers = trial_trackers(plan(), tmp_path, "t0001", {"optim.lr": 0.1})
    fit(toy_run(max_epochs=3), toy_data(), callbacks=trackers)
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all({"train_loss", "val_loss", "val_accuracy"} <= set(row) for row in rows)


def test_a_trial_that_ray_ends_in_its_report_is_logged_to_its_last_epoch(tmp_path: Path) -> None:
    class EndsInItsReport(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if pl_module.epoch_metrics["epoch"] == 2:
                raise SystemExit(0)

    trackers = trial_trackers(plan(), tmp_path, "t0001", {})
    with pytest.raises(SystemExit, match="0"):
        fit(toy_run(max_epochs=3), toy_data(), callbacks=[*trackers, EndsInItsReport()])
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2]


def test_watched_gradients_keep_their_names_in_a_reused_process(tmp_path: Path) -> None:
    names = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        trackers = trial_trackers(plan("tracking.watch=true"), folder, f"t000{number}", {})
        fit(toy_run(max_epochs=60), toy_data(), callbacks=trackers)
        rows = history(folder)
        names.append({key for row in rows for key in row if "gradients" in key})
    assert names[0]
    assert names[0] == names[1]


def test_a_tracker_that_fails_costs_no_result(tmp_path: Path, caplog: Any) -> None:
    """A real failure of wandb: its folder is a file."""
    (tmp_path / "wandb").touch()
    trackers = trial_trackers(plan(), tmp_path, "t0001", {})
    result = fit(toy_run(max_epochs=2), toy_data(), callbacks=trackers)
    assert result.metrics["epoch"] == 2
    assert "wandb is off for trial t0001" in caplog.text
