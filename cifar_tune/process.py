"""What a command's process stands on: standard streams that may be gone, signals that end it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
from types import FrameType
from typing import TextIO

from cifar_tune.errors import StorageError

# All that ask a command to stop: a terminal that is closed sends SIGHUP, and batch systems send
# SIGUSR1 or SIGUSR2 a while before they end a job.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
INPUT, OUTPUT, ERRORS = 0, 1, 2  # the descriptors of the standard streams


def current_directory() -> str | None:
    """Where this process stands; none if that folder was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def end_on_signals() -> None:
    """What asks to stop ends this process by `SystemExit`, so that what is half done is cleared.

    Ctrl-C does so already. What is ignored stays so, as nohup wants of SIGHUP.
    """
    for number in set(STOPPING) - {signal.SIGINT}:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    os.write(ERRORS, f"Stopped by {signal.Signals(number).name}.\n".encode())
    sys.exit(128 + number)


def say(*lines: str, end: str = "\n") -> None:
    """Show lines to whoever gave the command; where nobody can see them, nothing happens."""
    text, stream = "".join(f"{line}{end}" for line in lines), sys.stdout
    if stream is None:  # pythonw, or a daemon
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # the terminal has no such letters, or a name is no text
            known = stream.encoding or "ascii"
            stream.write(text.encode(known, "backslashreplace").decode(known))
        stream.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            _put_away(stream)
    except ValueError:  # somebody closed it
        pass


def _put_away(stream: TextIO) -> None:
    """What a broken pipe did not take would be tried again at the end, which then fails."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at a stream; one that is closed or not there is no terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def outlast_streams() -> None:
    """Standard output and error that never raise, for a process that belongs to a command.

    What can't be written is dropped, which is said once: a search goes on when the reader of its
    lines ends (`| head`), the disk below its log is full, or its terminal is closed. Streams that
    were closed get the null device, or the next file to be opened, such as a journal, would be
    taken for one.
    """
    for descriptor in (INPUT, OUTPUT, ERRORS):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest that is free is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stderr = _outlasting(sys.stderr, ERRORS)
    sys.stdout = _outlasting(sys.stdout, OUTPUT)


def check_shown() -> None:
    """A StorageError if not all was shown, and not because the reader had seen enough."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    sys.stdout.flush()
    if isinstance(raw, _Outlasting) and raw.fault and raw.fault.errno != errno.EPIPE:
        raise StorageError(
            f"standard output can't be written: {raw.fault.strerror}; free space or mend it, and"
            " give the command again"
        )


def _outlasting(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # its descriptor may be another file's by now
        return open(os.devnull, "w", encoding="utf-8")  # as long as the process
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Outlasting(descriptor, "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=descriptor == ERRORS or is_terminal(stream),
    )


class _Outlasting(io.FileIO):
    """A descriptor that takes all it is given: from its first fault on, for nothing."""

    fault: OSError | None = None

    def write(self, data: object) -> int:
        """Write some of `data`, bytes, and tell how many; all of them once there was a fault."""
        view = memoryview(data)  # type: ignore[arg-type]
        while self.fault is None:
            try:
                written = super().write(view)
                if written is not None:
                    return written
                select.select([], [self], [])  # whoever shares it has set it not to wait
            except OSError as fault:
                self.fault = fault
                if self.fileno() == OUTPUT:
                    why = os.strerror(fault.errno or 0)
                    sys.stderr.write(
                        f"Standard output is closed ({why}): no more is shown there.\n"
                    )
        return view.nbytes
