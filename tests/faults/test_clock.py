"""The clock of the machine is set back an hour while a search runs, and between its starts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import command, wait_for_results

from cifar_tune.record.results import Results
from cifar_tune.report.slots import slots_of

# Imported by every Python process of the search, Ray's workers too: to set the machine's own clock
# would be felt by everybody on it.
CLOCK = """
import os, time
_real = time.time
time.time = lambda: _real() - 3600 * os.path.exists(os.environ["SET_BACK"])
"""
TRIALS, EPOCHS = 4, 6


@pytest.mark.faults
def test_row_30_a_clock_set_back_an_hour_has_no_effect(
    small_plan: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    set_back = tmp_path / "set back"
    sets = [*small_plan, f"train.max_epochs={EPOCHS}", "search.scheduler=none"]
    words = command(
        "--out", str(tmp_path), "--name", "one", "--resume", "auto", "--num-samples", str(TRIALS),
        *[word for value in sets for word in ("--set", value)],
    )  # fmt: skip
    environment = {**os.environ, "SET_BACK": str(set_back)}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    began = time.monotonic()

    def begin() -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(words, env=environment, text=True, **pipes)

    process = begin()
    wait_for_results(tmp_path / "one", 3, process)
    set_back.touch()
    wait_for_results(tmp_path / "one", 6, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    process = begin()  # an hour before the first start, by the clock
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 0, output
    taken = time.monotonic() - began

    results = Results.read(tmp_path / "one")
    assert results.counts()["completed"] == TRIALS
    assert results.starts[0].began > results.starts[1].ended  # type: ignore[operator]
    for trial in results.trials.values():
        assert list(trial.results) == list(range(1, EPOCHS + 1))
        assert 0 < trial.busy_seconds < taken
    assert 0 < results.cost()["wall_seconds"] < taken
    assert 0 < results.cost()["utilisation"] <= 1
    assert all(0 <= one.begin < one.end for one in slots_of(results).segments)
    assert (tmp_path / "one" / "report.html").exists()
