"""A search killed again and again at random moments, and gone on with by the same command."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from command_line import command, run

from cifar_tune.errors import CifarTuneError
from cifar_tune.journal import FILE_NAME, read_journal
from cifar_tune.load import load_plan
from cifar_tune.results import Results
from cifar_tune.search.configurations import Configurations

KILLS = 10
TRIALS, EPOCHS = 12, 9


@pytest.mark.faults
def test_ten_kills_lose_no_result_and_run_no_trial_twice(
    image_folder: Path, tmp_path: Path
) -> None:
    given = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=16",
        "search.space.data.batch_size={choice: [8, 16]}", f"search.num_samples={TRIALS}",
        f"train.max_epochs={EPOCHS}", "finals.seeds=0",
    ]  # fmt: skip
    sets = [word for value in given for word in ("--set", value)]
    arguments = ["--out", str(tmp_path), "--name", "one", "--resume", "auto", *sets]
    folder, rng = tmp_path / "one", random.Random(int(os.environ.get("CIFAR_TUNE_TEST_SEED", "0")))
    lost, sent, moments = 0, 0, []
    while sent < KILLS:
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        moments.append(_wait(folder, rng, process))
        if process.poll() is not None:
            assert process.returncode == 0, "it may end before the last kill, but only well"
            break
        acknowledged = _whole_lines(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
        sent += 1
        lost += not (folder / FILE_NAME).read_bytes().startswith(acknowledged)
    done = run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    records = read_journal(folder)
    results = Results.from_records(folder, records)
    reports = Counter((e["trial_id"], e["metrics"]["epoch"]) for e in records.of("result"))
    repeated = sum(count - 1 for count in reports.values())
    ended = Counter(
        event["trial_id"] for event in records.of("trial_ended") if event["status"] != "interrupted"
    )
    # What `make faults` is run for: its figures.
    print(  # noqa: T201
        f"\n{sent} kills after {moments} reports; {len(reports)} reports, {lost} lost, {repeated} epochs repeated"
    )
    assert sent == KILLS
    assert lost == 0
    assert set(ended.values()) == {1}, "a trial ended twice"
    assert repeated <= 2 * KILLS
    assert all(count <= 2 for count in reports.values())
    assert [t.values for t in results.trials.values()] == list(
        Configurations(load_plan(None, given))
    )


def _wait(folder: Path, rng: random.Random, process: subprocess.Popen[bytes]) -> int:
    """Wait for a few more reports, mostly, and then for a part of an epoch; reports so far."""
    before, more = len(_reports(folder)), rng.randint(0, 6)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(_reports(folder)) >= before + more:
            break
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 12 if more == 0 else 1.5))
    return len(_reports(folder))


def _reports(folder: Path) -> list[object]:
    try:
        return list(read_journal(folder).of("result"))
    except CifarTuneError:
        return []  # not begun yet


def _whole_lines(folder: Path) -> bytes:
    path = folder / FILE_NAME
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]
