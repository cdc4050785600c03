"""The results folder of a start: its name, whether a search lies there, whether it can be made."""

from __future__ import annotations

import glob
import tempfile
from pathlib import Path

from cifar_tune.errors import ResultsError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.place import check_depth, nearest_folder
from cifar_tune.record.journal import FILE_NAME, LOCK_NAME, is_running, read_journal, resume_command
from cifar_tune.record.results import Results

DEFAULT_STEM = "asha"  # without a config; configs/asha.yaml spells the plan's defaults out


def results_folder(plan: Plan, config: str | None) -> Path:
    """Where a search's results go: its name, or the config's name and the next free number."""
    out = Path(plan.out)
    if plan.name is not None:
        return out / plan.name
    stem = _stem(config)
    taken = [_number(path.name, stem) for path in out.glob(f"{glob.escape(stem)}-*")]
    return out / f"{stem}-{max(taken, default=0) + 1}"


def _stem(config: str | None) -> str:
    return Path(config).stem if config else DEFAULT_STEM


def _number(name: str, stem: str) -> int:
    number = name.removeprefix(f"{stem}-")
    return int(number) if number.isdecimal() else 0


def unfinished_folder(plan: Plan, config: str | None) -> Path | None:
    """For a plan without a name: the newest search of its config, if it did not end.

    Raises:
        ResultsError, JournalError: its folder holds something, and no search that can be read.
    """
    if plan.name is not None:
        return None
    stem, following = _stem(config), results_folder(plan, config)
    newest = following.with_name(f"{stem}-{_number(following.name, stem) - 1}")
    if newest.is_dir() and not holds_search(newest):
        check_folder(newest)
    return newest if holds_search(newest) and not Results.read(newest).finished else None


def holds_search(folder: Path) -> bool:
    """Whether a search was begun in this folder: a crash may leave a journal with no whole line."""
    return (folder / FILE_NAME).is_file() and bool(read_journal(folder).events)


def check_folder(folder: Path) -> None:
    """Check that a new results folder can be made at this path, and leave nothing behind.

    Raises:
        ResultsError: the name is in use, or nothing can be written there.
    """
    if holds_search(folder):
        if is_running(folder):
            raise ResultsError(
                f"{folder} is in use by a search that is running; choose another --name, or wait;"
                f" if it is stopped: {resume_command(folder)}"
            )
        raise ResultsError(
            f"{folder} holds a search already; go on with it: {resume_command(folder)}, or"
            " choose another --name"
        )
    check_depth(str(folder), "--out")
    try:
        ours = {FILE_NAME, LOCK_NAME}  # what a start leaves that died before its first event
        if folder.exists() and not {path.name for path in folder.iterdir()} <= ours:
            raise ResultsError(f"{folder} exists and is not a search; choose another --name")
        nearest = nearest_folder(folder)
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"probe")
            probe.flush()
    except OSError as error:
        raise ResultsError(
            f"{folder} can't be written: {error.strerror}; choose another --out"
        ) from None
