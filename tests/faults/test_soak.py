"""Many short trials in a row in reused processes, with faults in them: nothing piles up."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results

pytestmark = pytest.mark.faults
TRIALS, FIRST, STRETCH = 300, 50, 30
PROGRAM = Path(__file__).parents[1] / "soaking.py"
MARK = "CIFAR_TUNE_TEST_SOAK"


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a soak that has ended; Ray's and all other temporary files lie in `t`."""
    folder = tmp_path_factory.mktemp("soak")
    (folder / "search").mkdir()
    with tempfile.TemporaryDirectory(prefix="ct", dir="/tmp") as short:  # sockets' paths are short
        (Path(short) / "t").mkdir()
        (folder / "t").symlink_to(short)
        environment = {
            **os.environ, "RAY_TMPDIR": short, "TMPDIR": f"{short}/t", MARK: str(folder),
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        words = [sys.executable, str(PROGRAM), str(folder), str(TRIALS)]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder


def noted(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_faults_cost_their_own_trials_alone(soaked: Path) -> None:
    records = read_journal(soaked / "search")
    kinds = Counter(event["kind"] for event in records.of("trial_retried"))
    counts = Results.from_records(soaked / "search", records).counts()
    print(f"\ntried again: {dict(kinds)}; at the end: {counts}")  # noqa: T201
    assert kinds == {"lost process": 5, "out of memory": 5, "code": 5}
    assert (counts["completed"], counts["diverged"]) == (TRIALS - 15, 15)


def test_the_driver_grows_by_less_than_20_kb_a_trial_and_keeps_its_file_handles(
    soaked: Path,
) -> None:
    late = noted(soaked / "driver.jsonl")[FIRST:]
    # The median over stretches: Python's table of interned strings doubles once (3.5 MB), and the
    # heap shrinks once; neither is what a trial leaves.
    stretches = zip(late, late[STRETCH:], strict=False)
    growth = statistics.median((end["bytes"] - one["bytes"]) / STRETCH for one, end in stretches)
    handles = [one["handles"] for one in late]
    print(f"\ndriver: {growth / 1e3:.1f} kB a trial; handles {min(handles)} to {max(handles)}")  # noqa: T201
    assert growth < 20e3
    half = len(handles) // 2
    assert statistics.median(handles[half:]) <= statistics.median(handles[:half]) + 2


def test_a_worker_grows_by_less_than_200_kb_a_trial_and_keeps_its_file_handles(
    soaked: Path,
) -> None:
    grown, trials, lives = 0, 0, []
    for file in soaked.glob("worker-*.jsonl"):
        life = noted(file)
        lives.append(len(life))
        settled = life[5:]  # the first trials of a process load what they need
        if len(settled) > 5:
            grown += settled[-1]["bytes"] - settled[0]["bytes"]
            trials += len(settled) - 1
            assert settled[-1]["handles"] <= settled[0]["handles"] + 2
    print(  # noqa: T201
        f"\nworkers: {grown / trials / 1e3:.1f} kB a trial; processes {len(lives)}, trials in each {sorted(lives)}"
    )
    assert trials > 100
    assert grown / trials < 200e3


def test_no_process_is_left(soaked: Path) -> None:
    deadline = time.monotonic() + 10
    while (left := _marked(str(soaked))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def _marked(value: str) -> list[str]:
    """Command lines of the processes that the soak started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={value}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended meanwhile
    return found


def test_temporary_space_is_returned(soaked: Path) -> None:
    files = [file for file in (soaked / "t").resolve().rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    kept = sum(
        file.stat().st_size for file in (soaked / "search" / "ray").rglob("*") if file.is_file()
    )
    print(  # noqa: T201
        f"\ntemporary files: {len(files)} of {size / 1e6:.1f} MB; checkpoints kept {kept / 1e6:.1f} MB"
    )
    assert size < 1e6
