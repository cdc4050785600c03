"""wandb's real files, written offline by real trainings."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from toy_images import toy_data, toy_run
from wandb_server import server

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.train.fit import fit
from cifar_tune.train.wandb_run import plain_name, trial_trackers

# wandb's own code meets deprecations of its dependencies; what we call is not among them.
KEY = "0123456789" * 4
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As on a machine where nobody has logged in to wandb."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    os.environ.pop("WANDB_MODE", None)  # ours sets it where it goes offline


@pytest.fixture
def fresh_wandb() -> Iterator[None]:
    """For tests that set wandb's variables: it reads them once, and again after this."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


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


def parsed(folder: Path, kind: str) -> list[Any]:
    """The messages of a kind in all of a folder's runs, the oldest run first."""
    messages = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        messages += [getattr(record, kind) for record in ended(file) if _kind(record) == kind]
    return messages


def ended(file: Path) -> list[Any]:
    """The records of a run that has ended; wandb's `finish` may return before they are written."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    deadline = time.monotonic() + 20
    while True:
        with suppress(DecodeError):  # its last record is half written
            told = [wandb_internal_pb2.Record.FromString(content) for content in records(file)]
            if any(_kind(record) == "exit" for record in told):
                return told
        assert time.monotonic() < deadline, f"{file} has no end"
        time.sleep(0.02)


def _kind(record: Any) -> str:
    return str(record.WhichOneof("record_type"))


def plain(items: Iterable[Any]) -> dict[str, Any]:
    """Keys and values of wandb's items."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    return [plain(message.item) for message in parsed(folder, "history")]


def summary(folder: Path) -> dict[str, Any]:
    """What is told of a run as a whole."""
    told: dict[str, Any] = {}
    for message in parsed(folder, "summary"):
        told |= plain(message.update)
    return told


def plan(*overrides: str) -> Plan:
    return load_plan(None, ["tracking.wandb=project", *overrides])


def test_without_a_project_there_is_nothing_to_track(tmp_path: Path) -> None:
    assert trial_trackers(load_plan(), tmp_path, "t0001", {}, toy_run(max_epochs=1)) == []


def test_every_epoch_is_in_the_offline_file_without_a_key(tmp_path: Path) -> None:
    trackers = trial_trackers(plan(), tmp_path, "t0001", {"optim.lr": 0.1}, toy_run(max_epochs=3))
    fit(toy_run(max_epochs=3), toy_data(), callbacks=trackers)
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all({"train_loss", "val_loss", "val_accuracy"} <= set(row) for row in rows)


def test_a_run_carries_the_whole_config_and_says_what_it_belongs_to(tmp_path: Path) -> None:
    path = "/home/somebody/images"
    values = {"optim.lr": 0.25}
    run = toy_run(max_epochs=1, seed=7).with_values(values, 7)
    run = run.model_copy(update={"data": run.data.model_copy(update={"path": path})})
    trackers = trial_trackers(
        plan("search.searcher=tpe"), tmp_path / "asha-1", "t0008", values, run
    )
    fit(run, toy_data(), callbacks=trackers)
    (told,) = parsed(tmp_path / "asha-1", "run")
    config = plain(told.config.update)
    expected = run.as_values()
    del expected["data"]["path"], expected["model"]["weights"]  # whose machine it is
    assert {name: config[name] for name in expected} == expected
    assert config["searched"] == values
    assert config["trial_id"] == "t0008"
    assert (told.run_id, told.display_name) == ("asha-1-t0008", "t0008")
    assert (told.run_group, told.job_type) == ("asha-1", "trial")
    assert list(told.tags) == ["asha", "resnet9", "tpe"]
    assert told.project == "project"
    files = [file for file in (tmp_path / "asha-1").rglob("*") if file.is_file()]
    assert files
    assert not any(path.encode() in file.read_bytes() for file in files)


def test_the_finals_are_a_group_of_their_own_beside_the_search(tmp_path: Path) -> None:
    search = tmp_path / "asha-1"
    for folder in ("confirm-1", "final-1"):
        trackers = trial_trackers(
            plan(), search / "finals" / folder, "t0002", {}, toy_run(max_epochs=1)
        )
        fit(toy_run(max_epochs=1), toy_data(), callbacks=trackers)
    told = {run.run_id: (run.run_group, run.job_type) for run in parsed(search, "run")}
    assert told == {
        "asha-1-confirm-1-t0002": ("asha-1-finals", "confirm"),
        "asha-1-final-1-t0002": ("asha-1-finals", "final"),
    }
    assert not (search / "finals").exists()


def test_the_summary_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    trackers = trial_trackers(plan(), tmp_path, "t0001", {}, toy_run(max_epochs=4))
    result = fit(toy_run(max_epochs=4, optim__lr=0.5), toy_data(), callbacks=trackers)
    told, rows = summary(tmp_path), history(tmp_path)
    best = max(rows, key=lambda row: row["val_accuracy"])
    assert told["best_epoch"] == result.module.best_epoch == best["epoch"]
    assert told["best_val_accuracy"] == best["val_accuracy"]


def test_a_trial_that_goes_on_is_one_run_with_every_epoch_once(tmp_path: Path) -> None:
    class EndsInItsReport(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if pl_module.epoch_metrics["epoch"] == 2:
                trainer.save_checkpoint(tmp_path / "model.ckpt")
                raise SystemExit(0)

    trackers = trial_trackers(plan(), tmp_path, "t0001", {}, toy_run(max_epochs=4))
    with pytest.raises(SystemExit, match="0"):
        fit(toy_run(max_epochs=4), toy_data(), callbacks=[*trackers, EndsInItsReport()])
    time.sleep(1.1)  # wandb names a run's files by the second
    trackers = trial_trackers(plan(), tmp_path, "t0001", {}, toy_run(max_epochs=4))
    checkpoint = tmp_path / "model.ckpt"
    fit(toy_run(max_epochs=4), toy_data(), callbacks=trackers, resume_from=checkpoint)
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2, 3, 4]
    assert {run.run_id for run in parsed(tmp_path, "run")} == {f"{tmp_path.name}-t0001"}
    assert summary(tmp_path)["best_val_accuracy"] == max(
        row["val_accuracy"] for row in history(tmp_path)
    )


@pytest.mark.parametrize(
    "name", ["asha-1-t0001", "50 % of: everything?-t0001", " spaced ", "x" * 250 + "-t0001"]
)
def test_every_name_of_a_folder_makes_one_that_wandb_takes(name: str) -> None:
    told = plain_name(name)
    assert 0 < len(told) <= 128
    assert not set(told) & set("/\\#?%:")
    assert told == told.strip()
    assert (told == name) == (name == "asha-1-t0001")
    assert plain_name(name + "0") != told


def test_a_trial_that_ray_ends_in_its_report_is_logged_to_its_last_epoch(tmp_path: Path) -> None:
    class EndsInItsReport(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if pl_module.epoch_metrics["epoch"] == 2:
                raise SystemExit(0)

    trackers = trial_trackers(plan(), tmp_path, "t0001", {}, toy_run(max_epochs=4))
    with pytest.raises(SystemExit, match="0"):
        fit(toy_run(max_epochs=3), toy_data(), callbacks=[*trackers, EndsInItsReport()])
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2]


def test_watched_gradients_keep_their_names_in_a_reused_process(tmp_path: Path) -> None:
    names = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        trackers = trial_trackers(
            plan("tracking.watch=true"), folder, f"t000{number}", {}, toy_run(max_epochs=7)
        )
        run = toy_run(max_epochs=7, data__batch_size=4)  # 112 steps; wandb looks at every 100th
        fit(run, toy_data(), callbacks=trackers)
        rows = history(folder)
        names.append({key for row in rows for key in row if "gradients" in key})
    assert names[0]
    assert names[0] == names[1]


def told_once(caplog: Any, words: str) -> bool:
    """Whether our own log has the words, and has them once."""
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith("cifar_tune")
    ]
    return sum(words in line for line in ours) == 1


@pytest.mark.usefixtures("fresh_wandb")
@pytest.mark.parametrize("fault", ["folder", "mode"])
def test_a_tracker_that_can_not_begin_costs_no_result(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Real failures of wandb: its folder is a file; its mode is a word that it does not know."""
    if fault == "folder":
        (tmp_path / "wandb").touch()
    else:
        monkeypatch.setenv("WANDB_MODE", "nonsense")
    trackers = trial_trackers(plan(), tmp_path, "t0001", {}, toy_run(max_epochs=4))
    result = fit(toy_run(max_epochs=3), toy_data(), callbacks=trackers)
    assert result.metrics["epoch"] == 3
    assert told_once(caplog, "wandb is off for trial t0001")


def test_a_run_that_breaks_on_the_way_is_told_once_and_costs_no_result(
    tmp_path: Path, caplog: Any
) -> None:
    class EndsTheRun(Callback):
        """Someone else in this process finishes the run: logging to it raises from then on."""

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            import wandb

            if pl_module.epoch_metrics["epoch"] == 1:
                wandb.finish()

    trackers = trial_trackers(plan(), tmp_path, "t0001", {}, toy_run(max_epochs=4))
    result = fit(toy_run(max_epochs=4), toy_data(), callbacks=[*trackers, EndsTheRun()])
    assert result.metrics["epoch"] == 4
    assert [row["epoch"] for row in history(tmp_path)] == [1]
    assert told_once(caplog, "wandb is off for trial t0001")


@pytest.mark.usefixtures("fresh_wandb")
def test_without_a_server_the_files_stay_here_and_it_is_told_once(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is there and nobody answers at the address: the second trial does not wait again."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("cifar_tune.train.wandb_run.INIT_SECONDS", 2)
    for number in (1, 2):
        trackers = trial_trackers(plan(), tmp_path, f"t000{number}", {}, toy_run(max_epochs=2))
        fit(toy_run(max_epochs=2), toy_data(), callbacks=trackers)
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2, 1, 2]
    assert told_once(caplog, "wandb's server does not answer")
    _check_that_no_file_has_the_key(tmp_path)


@pytest.mark.faults
@pytest.mark.usefixtures("fresh_wandb")
@pytest.mark.parametrize("fault", ["silent", "errors", "errors later"])
def test_row_23_a_server_that_fails_costs_no_result_and_less_than_ten_seconds(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    without = fit(toy_run(max_epochs=2), toy_data())
    results, taken = [], []
    with server(fault) as serving:
        monkeypatch.setenv("WANDB_BASE_URL", serving.url)
        for number in (1, 2):
            trackers = trial_trackers(plan(), tmp_path, f"t000{number}", {}, toy_run(max_epochs=2))
            began = time.monotonic()
            results.append(fit(toy_run(max_epochs=2), toy_data(), callbacks=trackers))
            taken.append(time.monotonic() - began)
        assert serving.asked
    for result in results:
        timed = {"images_per_second": without.metrics["images_per_second"]}
        assert {**result.metrics, **timed} == without.metrics
    print(f"\nwandb's server {fault}: {taken[0]:.1f} s, then {taken[1]:.1f} s")  # noqa: T201
    assert sum(taken) < 10
    assert told_once(caplog, "wandb's server does not answer")
    offline = [1, 2] if fault == "errors later" else [1, 2, 1, 2]  # the rest is in another file
    assert [row["epoch"] for row in history(tmp_path)] == offline
    files = [file for file in tmp_path.glob("wandb/*run-*/run-*.wandb") if file.stat().st_size]
    assert {file.stem.rpartition("-")[2] for file in files} == {"t0001", "t0002"}
    _check_that_no_file_has_the_key(tmp_path)


def _check_that_no_file_has_the_key(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    assert not any(KEY.encode() in file.read_bytes() for file in files)
