"""Keeps code of the user's own in: whatever it does, it comes back, or what it did is an error."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import gethostname
from types import FrameType
from typing import Any, NoReturn

from cifar_tune.errors import MOST_TOLD, CifarTuneError, one_line
from cifar_tune.process import STOPPING, current_directory

PLACES = ("stdlib", "platstdlib", "purelib", "platlib")
LIBRARIES = tuple(os.path.join(sysconfig.get_path(name), "") for name in PLACES)
OURS = os.path.join(Path(__file__).parent.parent, "")

_exit = os._exit


class LeavingError(CifarTuneError):
    """Code of the user's own would have ended its caller; the argument: what it did, and where."""

    def __str__(self) -> str:
        """The message, for one who does not know whose code it is."""
        return f"code of your own {self.args[0]}"


@contextmanager
def guarded(module: str, *, ours: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Run code of the user's own, which can't leave, and leaves our surroundings as they were.

    Its errors are raised as they are. `sys.exit`, `os._exit`, an interrupt of its own making and
    whatever else is no `Exception` become one. It sees neither our arguments nor our input; these,
    the directory and the handlers of signals are as before afterwards. A process that it forks
    does not go on with our work.

    Args:
        module: its name, which stands for the program's while it runs.
        ours: whether what would end this thread is a wish of ours, as a trial's end is of Ray's.

    Raises:
        LeavingError: it tried to leave, with file and line.
        KeyboardInterrupt, SystemExit: a signal came meanwhile whose handler raises that.
    """
    here, process = current_directory(), os.getpid()
    arguments, sys.argv = sys.argv, [module]
    asked, sys.stdin = sys.stdin, io.StringIO()  # in a trial nobody answers either
    before, os._exit = os._exit, partial(_refuse, process, threading.get_ident())
    with _noted() as signals:
        try:
            yield
        except BaseException as error:
            _end_if_forked(process, error)
            # Ray and Lightning take a StopIteration for the end of a thread, or of a training.
            kept = isinstance(error, Exception) and not isinstance(error, StopIteration)
            if kept or signals or ours():
                raise
            raise LeavingError(told(error)) from error
        finally:
            _end_if_forked(process)
            sys.argv, sys.stdin, os._exit = arguments, asked, before
            if here is not None:
                with contextlib.suppress(OSError):
                    os.chdir(here)


@contextmanager
def working_in(place: str) -> Iterator[None]:
    """Run where the command was given, also on another node, if its folder is there as well.

    Raises:
        MissingFolderError: there is no such folder, and what ran may have failed for want of it.
    """
    try:
        os.chdir(place)
        missing = ""
    except OSError as error:
        missing = f"{place}, where the command was given, can't be entered on {gethostname()}"
        missing += f" ({error.strerror}): what is read from there is not found"
    try:
        yield
    except (OSError, ImportError, CifarTuneError) as error:
        if not missing:
            raise
        raise MissingFolderError(f"{type(error).__name__}: {error} ({missing})") from error


class MissingFolderError(CifarTuneError):
    """A failure on a node that does not have the folder in which the command was given."""


class _ExitError(SystemExit):
    """`os._exit` of a user's own code."""


def _refuse(process: int, thread: int, status: int) -> NoReturn:
    """Stands for `os._exit`; children that own code forks, and other threads, get the real one."""
    if os.getpid() == process and threading.get_ident() == thread:
        raise _ExitError(status)
    _exit(status)


def _end_if_forked(process: int, error: BaseException | None = None) -> None:
    if os.getpid() != process:
        code = getattr(error, "code", 1) if error is not None else 0
        _exit(code if isinstance(code, int) else int(code is not None))


@contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals that come meanwhile and have a handler; they get there all the same."""
    came: list[int] = []
    main_thread = threading.current_thread() is threading.main_thread()
    with contextlib.ExitStack() as afterwards:
        for number in STOPPING if main_thread else ():
            handler = signal.getsignal(number)
            if handler is not None:  # one that C set can't be set again
                afterwards.callback(signal.signal, number, handler)
            if callable(handler):
                signal.signal(number, partial(_note, came, handler))
        yield came


def _note(
    came: list[int], handler: Callable[[int, FrameType | None], Any], number: int,
    frame: FrameType | None,
) -> None:  # fmt: skip
    came.append(number)
    handler(number, frame)


def told(error: BaseException) -> str:
    """What code of the user's own did, in one line, with the place in its file."""
    if isinstance(error, LeavingError):
        return str(error.args[0])
    found = place_of(error)
    place = f" at {found}" if found else ""
    if isinstance(error, SystemExit):
        name = "os._exit" if isinstance(error, _ExitError) else "sys.exit"
        given = "" if error.code is None else repr(error.code)[:MOST_TOLD]
        return f"called {name}({given}){place}{_why(error)}; it must return, or raise an error"
    message = one_line(error)
    return f"raised {type(error).__name__}{': ' * bool(message)}{message}{place}"


def _why(error: SystemExit) -> str:
    """argparse at the top of what used to be a script: what it misses it has said itself."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not any(Path(file).name == "argparse.py" for file in files):
        return ""
    return ", by argparse, which finds no arguments here (parse them in a main of its own)"


def place_of(error: BaseException) -> str:
    """FILE:LINE of the user's own that an error came from; of a library's if there is none."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((OURS, "<"))
    ]
    own = [place for place in frames if not place[0].startswith(LIBRARIES)]
    file, line = (own or frames or [("", 0)])[-1]
    return f"{file}:{line}" if file else ""
