"""Runs the program as users do: a process of its own, with real signals."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_tune.errors import CifarTuneError
from cifar_tune.record.journal import read_journal
from cifar_tune.tune import main

LONGEST = 900  # seconds of a command, where other programs have the machine as well


def command(*arguments: str) -> list[str]:
    """The words of a command line."""
    return [sys.executable, "-m", "cifar_tune.tune", *arguments]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    words = command(*arguments)
    return subprocess.run(
        words, capture_output=True, text=True, cwd=cwd, timeout=LONGEST, check=False
    )


def run_here(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: for answers that need no process of their own."""
    capsys.readouterr()
    code = main(arguments)
    said = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, said.out, said.err)


def wait_for_results(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until the journal in `folder` holds so many reports of epochs."""
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if len(read_journal(folder).of("result")) >= count:
                return
        except CifarTuneError:
            pass  # not begun yet
        time.sleep(0.05)
    raise AssertionError(f"no {count} results in {folder}; exit code {process.poll()}")
