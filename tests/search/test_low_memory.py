"""Memory runs low on the machine, and Ray's monitor kills a trial's process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results

ROOM, TAKEN = 2 * 2**30, 4 * 2**30  # bytes: until the monitor steps in, and what a trial takes

SEARCH = """
import os, sys
from pathlib import Path
import ray.cloudpickle
from search import objectives
from search.searching import searching

ray.cloudpickle.register_pickle_by_value(objectives)
os.environ["CIFAR_TUNE_TEST_NOTES"] = sys.argv[1]
os.environ["CIFAR_TUNE_TEST_BYTES"] = sys.argv[2]
run = searching(Path(sys.argv[1]) / "search")
run(
    "search.num_samples=4", "search.scheduler=none", "train.max_epochs=2", "finals.seeds=0",
    objective=objectives.taking,
)
"""


def memory() -> tuple[int, int]:
    """Bytes of this machine: all, and what can't be had."""
    text = Path("/proc/meminfo").read_text()
    total, free = (
        int(re.search(rf"{name}: *(\d+)", text)[1]) * 1024  # type: ignore[index]
        for name in ("MemTotal", "MemAvailable")
    )
    return total, total - free


@pytest.mark.faults
def test_a_process_that_rays_monitor_kills_is_a_trial_that_is_tried_again_alone(
    tmp_path: Path,
) -> None:
    total, used = memory()
    if total - used < ROOM + TAKEN:
        pytest.skip("the machine has too little memory left")
    here = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, str(tmp_path), str(TAKEN)],
        check=False, capture_output=True, text=True, timeout=200,
        env={
            **os.environ, "PYTHONPATH": here, "RAY_memory_monitor_refresh_ms": "100",
            "RAY_memory_usage_threshold": str((used + ROOM) / total),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = Results.read(tmp_path / "search")
    assert results.counts()["completed"] == 4
    told = read_journal(results.folder).of("trial_retried")
    assert "t0002" in {event["trial_id"] for event in told}
    for event in told:  # the monitor may take the one beside it first
        assert event["kind"] == "out of memory"
        assert "low on memory" in event["reason"]
