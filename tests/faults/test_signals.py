"""What ends a search from outside: signals, once and twice, and the loss of Ray itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import command, run, wait_for_results

from cifar_tune.record.journal import FILE_NAME, read_journal
from cifar_tune.record.results import Results

TRIALS, EPOCHS = 4, 6


@pytest.fixture
def arguments(image_folder: Path, tmp_path: Path) -> list[str]:
    given = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=16",
        "search.space.data.batch_size={choice: [8, 16]}", f"search.num_samples={TRIALS}",
        f"train.max_epochs={EPOCHS}", "finals.seeds=0", "search.searcher=tpe", "search.scheduler=none",
    ]  # fmt: skip
    sets = [word for value in given for word in ("--set", value)]
    return ["--out", str(tmp_path), "--name", "one", "--resume", "auto", *sets]


def begin(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a search in a process group of its own, and wait for its first reports."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command(*arguments), text=True, start_new_session=True, **pipes)
    wait_for_results(folder, 3, process)
    return process


def check_that_it_goes_on(arguments: list[str], folder: Path, recorded: bytes) -> None:
    """The same command ends the search; no report is lost, none comes twice."""
    done = run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / FILE_NAME).read_bytes().startswith(recorded[: recorded.rfind(b"\n") + 1])
    reports = Counter(
        (event["trial_id"], event["metrics"]["epoch"])
        for event in read_journal(folder).of("result")
    )
    assert len(reports) == TRIALS * EPOCHS
    assert set(reports.values()) == {1}
    assert Results.read(folder).counts()["completed"] == TRIALS


SLOW = """
import time
from torch import nn

class Slow(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Linear(3072, num_classes)

    def forward(self, x):
        time.sleep(2)
        return self.layer(x.flatten(1))

def build(config, num_classes):
    return Slow(num_classes)
"""


@pytest.mark.faults
def test_row_03_a_sigterm_in_the_middle_of_a_long_epoch_is_saved_within_ten_seconds(
    arguments: list[str], tmp_path: Path, own_code: Callable[[str], str]
) -> None:
    slow = command(*arguments, "--set", f"model.name={own_code(SLOW)}:build")
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(slow, text=True, stdout=log, stderr=log, cwd=tmp_path)
        journal, until = tmp_path / "one" / FILE_NAME, time.monotonic() + 200
        while not (journal.exists() and b"trial_started" in journal.read_bytes()):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(15)  # for the imports; an epoch takes over 60 s
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        assert process.wait(timeout=60) == 143
    taken = time.monotonic() - sent
    print(f"\nSIGTERM in a long epoch: exit after {taken:.1f} s")  # noqa: T201
    assert taken < 10
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("python -m cifar_tune.tune resume")
    records = read_journal(tmp_path / "one")
    assert [event["reason"] for event in records.of("stopped")] == ["SIGTERM"]


@pytest.mark.faults
def test_row_04_a_second_ctrl_c_leaves_at_once_and_loses_nothing_recorded(
    arguments: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    process = begin(arguments, folder)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers as well
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    sent = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - sent < 5
    assert process.returncode == 130
    assert output.splitlines()[-1].startswith("python -m cifar_tune.tune resume")
    check_that_it_goes_on(arguments, folder, (folder / FILE_NAME).read_bytes())


@pytest.mark.faults
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_search_whose_ray_is_killed_goes_on(
    arguments: list[str], tmp_path: Path, victim: str
) -> None:
    folder = tmp_path / "one"
    process = begin(arguments, folder)
    for pid in _descendants(process.pid, victim):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=150)
    assert process.returncode != 0, output
    check_that_it_goes_on(arguments, folder, (folder / FILE_NAME).read_bytes())


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_row_36_what_a_batch_system_or_a_closed_terminal_sends_to_all_is_saved_and_named(
    arguments: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    """To all: Ray's processes and the trials' get it as well. Ray would end, and say nothing."""
    folder = tmp_path / "one"
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    process = begin(arguments, folder)
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)  # a shell sends SIGHUP once more
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    *_, cause, last = output.splitlines()
    assert cause == f"Stopped by {number.name}; everything reported is saved. Go on with:"
    assert last == f"python -m cifar_tune.tune resume {folder}"
    records = read_journal(folder)
    assert [event["reason"] for event in records.of("stopped")] == [number.name]
    if number == signal.SIGUSR1:
        check_that_it_goes_on(arguments, folder, (folder / FILE_NAME).read_bytes())


@pytest.mark.faults
def test_row_36_a_search_under_nohup_outlives_its_terminal(
    arguments: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    words = ["nohup", *command(*arguments, "--num-samples", "2")]
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
        wait_for_results(tmp_path / "one", 3, process)
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(timeout=200) == 0, log.read_text()
    assert Results.read(tmp_path / "one").counts()["completed"] == 2


def _descendants(ancestor: int, name: str) -> list[int]:
    """Processes of this name that descend from another."""
    parents, named = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text()
        except OSError:
            continue  # it ended meanwhile
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        parents[int(path.name)] = int(fields["PPid"])
        if fields["Name"] == name:
            named.append(int(path.name))
    found = []
    for pid in named:
        above = pid
        while above > 1 and above != ancestor:
            above = parents.get(above, 0)
        if above == ancestor:
            found.append(pid)
    assert found, f"there is no {name}"
    return found
