"""What is shown can't be shown: closed, full and broken streams, and terminals of any size."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import command

from cifar_tune.record.results import Results

pytestmark = pytest.mark.faults


@pytest.fixture
def words(small_plan: list[str], tmp_path: Path) -> list[str]:
    """A small search with finals."""
    given = [*small_plan, "finals.seeds=2", "finals.candidates=2", "train.max_epochs=2"]
    sets = [word for value in given for word in ("--set", value)]
    return command("--out", str(tmp_path), "--name", "one", "--num-samples", "2", *sets)


def shell(text: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `text` in a shell, in which `search` is the command."""
    script = f'search() {{ "$@"; }}; set -o pipefail; {text}'
    line = ["bash", "-c", script.replace("search_it", 'search "$@"'), "bash", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "text",
    [
        "search_it >&-",
        "search_it > /dev/full",
        "search_it | head -1",
        "search_it 2>&1 | true",
        "search_it <&- >&- 2>&-",
    ],
)
def test_row_37_a_search_ends_as_it_would_where_nobody_can_see_it(
    text: str, words: list[str], tmp_path: Path
) -> None:
    done = shell(text, words)
    assert done.returncode == 0, done.stderr
    results = Results.read(tmp_path / "one")
    assert results.finished
    assert results.test_scored is not None
    assert (tmp_path / "one" / "report.html").is_file()
    assert "Traceback" not in done.stdout + done.stderr
    assert "can't be written:" not in done.stderr


def test_row_37_a_search_that_fails_keeps_its_exit_code(
    words: list[str], own_code: Callable[[str], str], tmp_path: Path
) -> None:
    text = "def build(config, num_classes):\n    raise SystemExit\n"
    named = [*words, "--set", f"model.name={own_code(text)}:build"]
    for where in ("search_it >&-", "search_it > /dev/full", "search_it 2>&1 | true"):
        assert shell(where, named).returncode == 2


class _Window:
    """A real terminal, with a search in it."""

    def __init__(self, words: list[str], columns: int, rows: int) -> None:
        self.process, self._side = self._start(words, columns, rows)
        self.shown = b""

    @staticmethod
    def _start(words: list[str], columns: int, rows: int) -> tuple[subprocess.Popen[bytes], int]:
        side, its = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        leads = [sys.executable, "-c", LEAD, *words]  # a session of its own, whose terminal it is
        environment = {**os.environ, "TERM": "xterm-256color"}
        process = subprocess.Popen(
            leads, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
        )
        os.close(its)
        return process, side

    def watch(self) -> int:
        """Until the end; its exit code."""
        while True:
            try:
                part = os.read(self._side, 65536)
            except OSError:
                break
            if not part:
                break
            self.shown += part
        return self.process.wait(timeout=60)

    def close(self) -> None:
        """As one closes a window: the kernel sends SIGHUP to the search."""
        os.close(self._side)


LEAD = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (1, 1), (7, 3)])
def test_row_37_a_terminal_of_any_size_does_no_harm(
    columns: int, rows: int, words: list[str], tmp_path: Path
) -> None:
    window = _Window(words, columns, rows)
    assert window.watch() == 0, window.shown.decode()
    assert b"Traceback" not in window.shown
    assert Results.read(tmp_path / "one").finished


def test_row_37_a_window_that_is_closed_stops_the_search_in_order(
    words: list[str], tmp_path: Path
) -> None:
    long = [*words, "--max-epochs", "500", "--set", "resources.max_concurrent=2"]
    window = _Window(long, 80, 24)
    folder = tmp_path / "one"
    deadline = time.monotonic() + 200
    os.set_blocking(window._side, False)
    while time.monotonic() < deadline and not _both_have_results(folder):
        try:
            os.read(window._side, 65536)
        except BlockingIOError:
            time.sleep(0.1)
    window.close()
    assert window.process.wait(timeout=60) == 129
    results = Results.read(folder)
    assert results.counts()["interrupted"] == 2
    assert (folder / "summary.json").is_file()


def _both_have_results(folder: Path) -> bool:
    try:
        return sum(bool(trial.results) for trial in Results.read(folder).trials.values()) == 2
    except Exception:  # not begun yet
        return False
