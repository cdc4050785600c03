"""What the real TensorBoard shows of a search that failed, diverged, was stopped and went on."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from told import Story, story

from cifar_tune.report.tensorboard import TensorBoardFiles

Ask = Callable[..., Any]
SPACE = {
    "optim.name": {"choice": ["sgd", "adamw"]},
    "optim.momentum": {"uniform": [0.5, 0.9], "when": {"optim.name": "sgd"}},
    "optim.nesterov": {"choice": [True, False]},
    "train.channels_last": {"choice": ["auto", True]},
    "data.batch_size": {"pow2": [16, 64]},
}
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)


def first_start(tell: Story) -> None:
    """Trials that were completed, stopped, diverged, failed early, and interrupted."""
    tell.begin("search.num_samples=6", f"search.space={json.dumps(SPACE)}")
    tell.create({"optim.name": "sgd", "optim.momentum": 0.9, "optim.nesterov": True})
    for epoch in range(1, 4):
        tell.report("t0001", epoch, 0.1 * epoch)
    tell.end("t0001", "completed")
    tell.create({"optim.name": "adamw", "train.channels_last": "auto", "data.batch_size": 64})
    tell.report("t0002", 1, 0.25, done=True)
    tell.end("t0002", "stopped", "early stopping at epoch 1")
    tell.create({"optim.name": "adamw", "train.channels_last": True})
    tell.report("t0003", 1, 0.0, diverged=True, done=True)
    tell.end("t0003", "diverged")
    tell.create({"optim.name": "sgd"})
    tell.end("t0004", "failed", "RuntimeError: the third bolt is loose", kind="code")
    tell.create({"optim.name": "sgd"})
    for epoch in range(1, 4):
        tell.report("t0005", epoch, 0.1 * epoch)
    tell.end("t0005", "interrupted", "SIGTERM")


def second_start(tell: Story) -> None:
    """The interrupted trial goes on from its second epoch, in other values of a population."""
    tell.start()
    clone = {"trial_id": "t0005", "source": "t0001", "values": {"optim.name": "adamw"}}
    tell.recorder.write("exchanged", epoch=2, clones=[{**clone, "checkpoint": "none"}])
    tell.report("t0005", 3, 0.5)
    tell.report("t0005", 4, 0.6)
    tell.end("t0005", "completed")
    tell.create({"optim.name": "sgd"})
    tell.report("t0006", 1, 0.7)  # and then the program ends without a word on it


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    for part in (first_start, second_start):
        files = TensorBoardFiles(folder / "tensorboard")
        with story(folder, [files]) as tell:
            part(tell)
            files.close()
    files = TensorBoardFiles(folder / "tensorboard" / "finals-confirm-1")
    with story(folder / "finals" / "confirm-1", [files]) as tell:
        tell.begin()
        tell.create({"optim.name": "sgd"})
        tell.report("t0001", 1, 0.8)
        tell.end("t0001", "completed")
        files.close()
    return folder / "tensorboard"


@pytest.fixture(scope="module", params=["true", "false"], ids=["data server", "Python"])
def ask(written: Path, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Asks a real TensorBoard that shows the folder; its two readers of files differ."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(written)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load_fast", request.param]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{port}/data/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return json.loads(answer.read())

    try:
        _wait_until(lambda: len(get("runs")) == 8)  # with "." for the columns
        _wait_until(lambda: sum("epoch" in row[1] for row in rows(get).values()) == 6)
        yield get
    finally:
        server.terminate()
        server.wait()


def _wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if done():
                return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail("TensorBoard does not show the folder")


def rows(ask: Ask) -> dict[str, Any]:
    """The rows of the HPARAMS page by run: hyperparameters, metrics, status."""
    body = {
        "experimentName": "", "allowedStatuses": STATUSES, "colParams": [], "startIndex": 0,
        "sliceSize": 100,
    }  # fmt: skip
    shown = {}
    for group in ask("plugin/hparams/session_groups", body)["sessionGroups"]:
        (session,) = group["sessions"]
        metrics = {one["name"]["tag"]: one["value"] for one in session.get("metricValues", [])}
        shown[group["name"]] = group["hparams"], metrics, session["status"]
    return shown


@needs_tensorboard
def test_every_trial_has_one_row_with_its_status(ask: Ask) -> None:
    status = {name: (row[0]["status"], row[2]) for name, row in rows(ask).items()}
    assert status == {
        "t0001": ("completed", "STATUS_SUCCESS"),
        "t0002": ("stopped", "STATUS_SUCCESS"),
        "t0003": ("diverged", "STATUS_FAILURE"),
        "t0004": ("failed", "STATUS_FAILURE"),
        "t0005": ("completed", "STATUS_SUCCESS"),
        "t0006": ("running", "STATUS_RUNNING"),
        "finals-confirm-1/t0001": ("completed", "STATUS_SUCCESS"),
    }


@needs_tensorboard
def test_rows_have_the_figures_of_the_last_epoch(ask: Ask) -> None:
    metrics = {name: row[1] for name, row in rows(ask).items()}
    assert metrics["t0001"]["val_accuracy"] == pytest.approx(0.3)
    assert metrics["t0005"] == pytest.approx(
        {"epoch": 4.0, "val_accuracy": 0.6, "val_loss": 0.4, "best_val_accuracy": 0.6}
    )
    assert metrics["t0004"] == {}


@needs_tensorboard
def test_values_of_every_kind_are_shown_and_those_a_trial_lacks_are_blank(ask: Ask) -> None:
    values = {name: row[0] for name, row in rows(ask).items()}
    assert values["t0001"]["optim.nesterov"] is True
    assert values["t0001"]["optim.momentum"] == 0.9
    assert values["t0002"]["train.channels_last"] == "auto"
    assert values["t0002"]["data.batch_size"] == 64
    assert "optim.momentum" not in values["t0002"]
    assert values["t0005"]["optim.name"] == "adamw"  # what holds now, after the exchange
    assert values["t0003"]["train.channels_last"] == "True"


@needs_tensorboard
def test_columns_are_the_fields_of_the_space_and_the_metrics_in_our_order(ask: Ask) -> None:
    columns = ask("plugin/hparams/experiment", {"experimentName": ""})
    fields = {column["name"]: column for column in columns["hparamInfos"]}
    assert set(fields) == {*SPACE, "status"}
    assert fields["optim.momentum"]["domainInterval"] == {"minValue": 0.5, "maxValue": 0.9}
    assert fields["data.batch_size"]["domainDiscrete"] == [16, 32, 64]
    assert fields["train.channels_last"]["domainDiscrete"] == ["auto", "True"]
    tags = [column["name"]["tag"] for column in columns["metricInfos"]]
    assert tags == ["val_accuracy", "val_loss", "best_val_accuracy", "epoch"]


@needs_tensorboard
def test_scalars_go_on_over_two_starts_with_every_epoch_once(ask: Ask) -> None:
    points = ask("plugin/scalars/scalars?run=t0005&tag=val_accuracy")
    assert [step for _, step, _ in points] == [1, 2, 3, 4]
    assert [value for _, _, value in points] == pytest.approx([0.1, 0.2, 0.5, 0.6])
    assert not any(tag.endswith("_at") for tag in ask("plugin/scalars/tags")["t0005"])


def test_an_epoch_that_is_repeated_in_one_start_counts_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="it is not installed"
    )
    files = TensorBoardFiles(tmp_path / "tensorboard")
    with story(tmp_path, [files]) as tell:
        tell.begin()
        tell.create({})
        for epoch, value in ((1, 0.1), (2, 0.2), (2, 0.4), (3, 0.5)):
            tell.report("t0001", epoch, value)
    shown = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "t0001")).Reload()
    assert [(e.step, round(e.value, 3)) for e in shown.Scalars("val_accuracy")] == [
        (1, 0.1),
        (2, 0.4),
        (3, 0.5),
    ]


def test_a_folder_that_can_not_be_written_is_told_once_and_costs_nothing(
    tmp_path: Path, caplog: Any
) -> None:
    files = TensorBoardFiles(tmp_path / "tensorboard")
    with story(tmp_path, [files]) as tell:
        tell.begin()
        tell.create({})
        tell.report("t0001", 1, 0.1)
        shutil.rmtree(tmp_path / "tensorboard")
        (tmp_path / "tensorboard").touch()
        tell.report("t0001", 2, 0.2)
        tell.end("t0001", "completed")
        files.close()
        assert tell.recorder.results.trials["t0001"].epochs == 2
        assert files in tell.recorder.observers
    assert caplog.text.count("TensorBoard files can't be written any more") == 1


def test_what_is_written_does_not_wait_for_the_end_of_the_program(tmp_path: Path) -> None:
    """A kill loses nothing: the file is whole after every report."""
    files = TensorBoardFiles(tmp_path / "tensorboard")
    with story(tmp_path, [files]) as tell:
        tell.begin()
        tell.create({})
        sizes = []
        for epoch in (1, 2):
            tell.report("t0001", epoch, 0.1)
            (file,) = (tmp_path / "tensorboard" / "t0001").iterdir()
            sizes.append(file.stat().st_size)
    assert 0 < sizes[0] < sizes[1]
