"""Streams that are closed, full or broken: what is shown gets lost, and nothing else does."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.process import is_terminal, say
from cifar_tune.tune import check_given

OUTLAST = """
import sys
from cifar_tune.process import check_shown, outlast_streams, say
outlast_streams()
"""
MANY = OUTLAST + "for number in range(20_000): say(f'line {number}')\nsys.stderr.write('done')\n"


def python(code: str, shell: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run code by the words of a shell, where `$RUN` stands for it."""
    run = {**os.environ, "CODE": textwrap.dedent(code), **more}
    words = f'run() {{ {sys.executable} -c "$CODE"; }}; {shell}'
    return subprocess.run(
        ["bash", "-c", words], env=run, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ("run | head -1; exit ${PIPESTATUS[0]}", "Broken pipe"),
        ("run > /dev/full", "No space left on device"),
    ],
)
def test_a_program_goes_on_when_its_output_can_not_be_written(shell: str, reason: str) -> None:
    done = python(MANY, shell)
    assert done.returncode == 0
    assert done.stderr == f"Standard output is closed ({reason}): no more is shown there.\ndone"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_are_silent_and_no_file_takes_their_place(
    closed: str, tmp_path: Path
) -> None:
    code = (
        OUTLAST
        + f"""
with open({str(tmp_path / "journal")!r}, "w") as file:
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    say("a line")
    import subprocess
    subprocess.run(["sh", "-c", "echo child; echo child >&2"])
    file.write("mine")
"""
    )
    done = python(code, f"run {closed}")
    assert done.returncode == 0
    assert (tmp_path / "journal").read_text() == "mine"
    assert "Traceback" not in done.stdout + done.stderr


def test_both_streams_into_one_broken_pipe() -> None:
    done = python(MANY, "run 2>&1 | head -1; exit ${PIPESTATUS[0]}")
    assert (done.stdout, done.returncode) == ("line 0\n", 0)


def test_a_pipe_that_does_not_wait_gets_everything() -> None:
    """As a program leaves it that shares it: a write may then find no room."""
    code = OUTLAST + "import os; os.set_blocking(1, False)\n" + MANY
    done = python(code, "run | (sleep 1; cat)")
    assert done.stdout.splitlines() == [f"line {number}" for number in range(20_000)]
    assert done.stderr == "done"


def test_what_only_shows_fails_if_it_can_not() -> None:
    code = OUTLAST + "say('all there is'); check_shown()"
    full = python(code, "run > /dev/full")
    assert full.returncode != 0
    assert "standard output can't be written: No space left on device" in full.stderr
    assert python(code, "run | true; exit ${PIPESTATUS[0]}").returncode == 0, "seen enough"


@pytest.mark.parametrize(
    "words", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_letters_that_a_terminal_lacks_are_spelt_out(words: dict[str, str]) -> None:
    done = python(OUTLAST + r"say('gr\u00f6\u00dfe \udcff \u2192')", "run", **words)
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("größe \\udcff →\n", "gr\\xf6\\xdfe \\udcff \\u2192\n")


def test_it_is_said_to_any_stream_that_python_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "full")

    closed = io.StringIO()
    closed.close()
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    for stream in (None, closed, Broken(), ascii_only):
        monkeypatch.setattr(sys, "stdout", stream)
        say("größe", "\udcff")
    assert ascii_only.buffer.getvalue() == b"gr\\xf6\\xdfe\n\\udcff\n"  # type: ignore[attr-defined]
    assert not any(is_terminal(stream) for stream in (None, closed))


def test_a_script_whose_reader_ends_ends_as_it_would(tmp_path: Path) -> None:
    """A search from Python says its lines to a standard output that is the script's own."""
    code = "from cifar_tune.process import say\nfor number in range(20_000): say(f'line {number}')"
    done = python(code, "run | head -1; exit ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr, done.returncode) == ("line 0\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_what_asks_to_stop_clears_up_and_is_named(number: signal.Signals, tmp_path: Path) -> None:
    code = """
        import signal, tempfile, sys
        from cifar_tune.process import STOPPING, end_on_signals
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)  # these tests may run under nohup
        end_on_signals()
        with tempfile.TemporaryDirectory(dir="."):
            print("ready", flush=True)
            while True:
                signal.pause()
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(words, cwd=tmp_path, text=True, **pipes)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == f"Stopped by {number.name}.\n"
    assert list(tmp_path.iterdir()) == []


def test_nohup_stays_in_force() -> None:
    code = """
        import os, signal
        from cifar_tune.process import end_on_signals
        end_on_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        print("goes on")
    """
    assert python(code, "trap '' HUP; run").stdout == "goes on\n"


def test_words_and_directories_that_are_no_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_given(["--name", "größe 😀"])
    with pytest.raises(PlanError, match=r"results/\\udcff is no text in utf-8.*another name"):
        check_given(["--out", "results/\udcff"])
    odd = tmp_path / "\udcfe"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(PlanError, match=r"\\udcfe is no text in utf-8"):
        check_given([])
    odd.rmdir()
    with pytest.raises(PlanError, match="the current directory was deleted"):
        check_given([])
