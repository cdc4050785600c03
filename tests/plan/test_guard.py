"""Code that would leave, or changes what lies around it: it comes back, and is told by its line."""

from __future__ import annotations

import argparse
import asyncio
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_tune.plan.guard import LeavingError, MissingFolderError, guarded, told, working_in


def interrupt_itself() -> None:
    raise KeyboardInterrupt


def ask_for_arguments() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", required=True)
    parser.parse_args()


def use_up() -> None:
    next(iter(()))


def be_cancelled() -> None:
    raise asyncio.CancelledError("no more")


LEAVES: dict[str, tuple[Callable[[], Any], str]] = {
    "sys.exit without a code": (sys.exit, r"called sys\.exit\(\)"),
    "sys.exit with 0": (lambda: sys.exit(0), r"called sys\.exit\(0\)"),
    "sys.exit with words": (lambda: sys.exit("no file"), r"called sys\.exit\('no file'\)"),
    "os._exit": (lambda: os._exit(0), r"called os\._exit\(0\)"),
    "an interrupt of its own": (interrupt_itself, r"raised KeyboardInterrupt"),
    "the end of an iterator": (use_up, r"raised StopIteration"),
    "an error that is no Exception": (be_cancelled, r"raised CancelledError: no more"),
    "a generator's end": (lambda: (_ for _ in ()).throw(GeneratorExit()), "raised GeneratorExit"),
    "argparse": (ask_for_arguments, r"called sys\.exit\(2\) at .*, by argparse"),
}


def leave_from(module: str, leave: Callable[[], Any]) -> None:
    with guarded(module):
        leave()


@pytest.mark.parametrize("name", LEAVES)
def test_what_would_end_the_process_is_an_error_with_file_and_line(name: str) -> None:
    leave, message = LEAVES[name]
    with pytest.raises(LeavingError, match=rf"^code of your own {message}") as caught:
        leave_from("their.module", leave)
    assert f" at {__file__}:" in str(caught.value)


def test_such_an_error_travels_between_processes() -> None:
    with pytest.raises(LeavingError, match="called") as caught, guarded("their.module"):
        sys.exit(3)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_other_errors_are_as_they_were_raised() -> None:
    error = ValueError("three")
    with pytest.raises(ValueError, match="three") as caught, guarded("their.module"):
        raise error
    assert caught.value is error


def test_what_ends_a_thread_by_our_own_wish_ends_it() -> None:
    with pytest.raises(SystemExit, match="0"), guarded("their.module", ours=lambda: True):
        sys.exit(0)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Handlers that raise, as Python has one for Ctrl-C; afterwards those of before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_a_real_signal_is_no_fault_of_the_code_that_runs(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    message = r"^$" if raised is KeyboardInterrupt else str(128 + number)

    def wait() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    with pytest.raises(raised, match=message):
        leave_from("their.module", wait)


@pytest.mark.usefixtures("handlers")
def test_handlers_arguments_and_directory_are_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arguments, leave = list(sys.argv), os._exit
    with guarded("their.module"):
        assert sys.argv == ["their.module"]
        sys.argv.append("--more")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir("/")
    assert Path.cwd() == tmp_path
    assert sys.argv == arguments
    assert os._exit is leave
    assert {number: signal.getsignal(number) for number in before} == before


def test_it_works_in_a_directory_that_was_deleted_and_in_another_thread(tmp_path: Path) -> None:
    """Each in a process of its own: the directory is the whole process's."""
    code = """
        import os, sys, threading
        from cifar_tune.plan.guard import LeavingError, guarded
        os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
        def run():
            try:
                with guarded("m"):
                    sys.exit(0)
            except LeavingError as error:
                print("kept in")
        run()
        thread = threading.Thread(target=run); thread.start(); thread.join()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("kept in\nkept in\n", 0), done.stderr


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "sys.exit(7)", "1 / 0", "os._exit(7)"])
def test_a_process_that_it_forks_does_not_go_on_with_our_work(end: str, tmp_path: Path) -> None:
    code = f"""
        import os, sys
        from cifar_tune.plan.guard import guarded
        with guarded("m"):
            child = os.fork()
            if not child:
                {end or "pass"}
        open(f"went-on-{{os.getpid()}}", "w").close()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 1, done.stderr
    expected = {"": "0", "sys.exit(0)": "0", "1 / 0": "1"}.get(end, "7")
    assert done.stdout.split() == [expected]


def test_other_threads_and_forked_children_leave_as_ever(tmp_path: Path) -> None:
    code = """
        import multiprocessing, os, threading
        from cifar_tune.plan.guard import guarded
        with guarded("m"):
            child = multiprocessing.get_context("fork").Process(target=os.getpid)
            child.start(); child.join()
            print(child.exitcode, flush=True)
            threading.Thread(target=lambda: os._exit(9)).start()
            threading.Event().wait(20)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("0\n", 9), done.stderr


def test_the_line_that_is_told_is_the_users_not_a_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_reader.py").write_text(
        "import json\n\ndef read():\n    return json.loads('{')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import their_reader  # type: ignore[import-not-found]

    with pytest.raises(ValueError, match="Expecting") as caught:
        their_reader.read()
    line = told(caught.value)
    assert line.startswith("raised JSONDecodeError: Expecting property name")
    assert line.endswith(f"at {tmp_path / 'their_reader.py'}:4")


def test_a_long_message_of_many_lines_is_told_in_one_short_line() -> None:
    line = told(ValueError("many\nwords " * 1000))
    assert "\n" not in line
    assert len(line) < 600


def test_a_trial_runs_where_the_command_was_given(tmp_path: Path) -> None:
    place = os.getcwd()
    try:
        with working_in(str(tmp_path)):
            assert Path.cwd() == tmp_path
    finally:
        os.chdir(place)


def test_where_that_folder_is_not_there_what_fails_for_want_of_it_says_so(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    message = rf"FileNotFoundError: .*widths\.txt.* \({gone}, where the command was given, can't be"
    with pytest.raises(MissingFolderError, match=message), working_in(str(gone)):
        Path("widths.txt").read_text()
    with pytest.raises(ValueError, match=r"^three$"), working_in(str(gone)):
        raise ValueError("three")


def test_an_interrupt_of_another_thread_does_not_excuse_this_one() -> None:
    """Signals are noted in the main thread alone, where Python handles them."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            with guarded("m"):
                raise KeyboardInterrupt
        except LeavingError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "raised KeyboardInterrupt" in str(caught[0])
