"""Whether a search is finished, was stopped, is running, or was killed."""

from __future__ import annotations

from pathlib import Path

from cifar_tune.record.journal import Records, is_running

FINISHED, STOPPED, RUNNING, KILLED = "finished", "stopped", "running", "killed"


def state_of(folder: Path, records: Records) -> str:
    """One of the four words."""
    marks = records.of("start", "stopped", "finished", "extended", "trial_retried")
    last = marks[-1]["event"] if marks else "start"
    if last in (FINISHED, STOPPED):
        return str(last)
    return RUNNING if is_running(folder) else KILLED
