"""The append-only record of a search, `journal.jsonl`: one writer, one reader.

A line is a JSON object with `seq` (from 1, the only order that counts), `event`, `time` (Unix
seconds, for people and durations) and `crc` (CRC-32 of the line without it, 8 hex digits, always
last). A crash can tear only the last line; that line is dropped and counted, and the next writer
writes over it. Anything else that does not fit is damage, and is refused.

The first event is `search`, whose `version` is that of the format: a later one than this program's
is refused. Within a version events and fields are only added: a reader passes over events that it
doesn't know, and gives a field that older journals lack a default. docs/results.md lists events,
fields and what is made from them; `results.py` reads each of them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_tune.errors import JournalError, ResultsError, StorageError

FILE_NAME = "journal.jsonl"
LOCK_NAME = "lock"
VERSION = 1
TAKE_AWAY = "take it away, or choose another --name"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PAUSES_SECONDS = (0.5, 1.0, 2.0)  # in which a storage that is gone may come back

Event = dict[str, Any]

_BEGAN = time.time() - time.monotonic()


def now() -> float:
    """Unix seconds that never go back: the clock at the process's start, and what passed since."""
    return _BEGAN + time.monotonic()


@dataclass(kw_only=True)
class Records:
    """The events of a journal in order, and how many torn lines were dropped (0 or 1)."""

    events: list[Event] = field(default_factory=list)
    torn_lines: int = 0
    good_bytes: int = 0

    def of(self, *names: str) -> list[Event]:
        return [event for event in self.events if event["event"] in names]


def read_journal(folder: Path) -> Records:
    """Read the journal of a results folder; it may be growing at the same time.

    Raises:
        ResultsError: there is no journal.
        JournalError: a line other than the last is damaged, or a sequence number is missing.
    """
    path = folder / FILE_NAME
    try:
        content = _read_plain(path)
    except OSError as error:
        raise ResultsError(
            f"{folder} holds no search that can be read: {error.strerror or error}:"
            f" {FILE_NAME}; name the folder of a search, such as results/asha-1"
        ) from None
    records = Records()
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        event = _parse_line(line)
        if event is None and number == len(lines) - 1:
            break  # the newline reached the disk and a part before it did not
        if event is None or event["seq"] != number:
            raise JournalError(
                f"{path}:{number}: this line is damaged, and a crash damages only the last one;"
                " restore the file from a copy, or start a new search under another --name"
            )
        records.events.append(event)
        records.good_bytes += len(line) + 1
    records.torn_lines = int(records.good_bytes < len(content))
    return records


def _read_plain(path: Path) -> bytes:
    """A file's content; of what only looks like one, a pipe or a device, reading might not end."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        return file.read()


def _format_line(event: Mapping[str, Any]) -> bytes:
    body = json.dumps(event, allow_nan=False, separators=(",", ":")).encode()
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


def _parse_line(line: bytes) -> Event | None:
    body, found, tail = line.rpartition(b',"crc":"')
    if not found or tail != b'%08x"}' % zlib.crc32(body + b"}"):
        return None
    try:
        event = json.loads(body + b"}")
    except (ValueError, RecursionError):  # a checksum is easily made: the line may be a stranger's
        return None
    ours = isinstance(event, dict) and type(event.get("seq")) is int
    return event if ours and isinstance(event.get("event"), str) else None


class Journal:
    """The one writer of a results folder; holds the folder's lock as long as it is open.

    Use it as a context manager. A second process that opens the same folder is refused.
    `records` is what it holds, until it lets go of them: from then on none is kept in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with contextlib.ExitStack() as opened:
            opened.enter_context(locked(folder))
            self.records = read_journal(folder) if (folder / FILE_NAME).exists() else Records()
            self._file = _open_plain(folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            opened.callback(os.close, self._file)
            self._keeps = True
            self._torn = self.records.torn_lines > 0
            self._last = len(self.records.events)
            self.size_bytes = self.records.good_bytes
            _sync_folder(folder)
            self._opened = opened.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def append(self, name: str, **values: Any) -> Event:
        """Write one event and wait until it is on the disk; tries again if the storage is gone.

        Raises:
            StorageError: it could not be written; a half-written line is taken back if possible.
            ValueError: a value is not finite or not JSON.
        """
        event: Event = {"seq": self._last + 1, "event": name, "time": now(), **values}
        line = _format_line(event)
        for pause_seconds in (*PAUSES_SECONDS, None):
            try:
                self._write(line)
                break
            except OSError as error:
                with contextlib.suppress(OSError):  # else the next reader drops the torn line
                    os.ftruncate(self._file, self.size_bytes)
                if pause_seconds is None or error.errno in FULL:
                    what = f"{self.folder / FILE_NAME} can't be written: {error.strerror}"
                    raise storage_error(self.folder, what) from None
                time.sleep(pause_seconds)
        self._last += 1
        self.size_bytes += len(line)
        if self._keeps:
            self.records.events.append(event)
        return event

    def let_go(self) -> list[Event]:
        """All events so far, for the last time without reading the file again."""
        if not self._keeps:
            return read_journal(self.folder).events
        self._keeps = False
        events, self.records.events = self.records.events, []
        return events

    def _write(self, line: bytes) -> None:
        if self._torn:  # whoever only looks and goes away leaves the file as it is
            os.ftruncate(self._file, self.size_bytes)
            self._torn = False
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, "only a part of the line was written")
        os.fsync(self._file)
        # What is written to a file that was deleted, or lies below a mount that is gone, is lost.
        if not os.path.samestat(os.fstat(self._file), os.stat(self.folder / FILE_NAME)):
            raise OSError(errno.ESTALE, "another file is in its place")


def resume_command(folder: Path) -> str:
    """The command that goes on with the search in a results folder."""
    return f"python -m cifar_tune.tune resume {shlex.quote(str(folder))}"


AGAIN = "--open-test-again"  # of `confirm`


def confirm_command(folder: Path, *flags: str) -> str:
    """The command that holds finals of the search in a results folder."""
    return " ".join(("cifar-tune confirm", shlex.quote(str(folder)), *flags))


def storage_error(folder: Path, fault: OSError | str) -> StorageError:
    """Why a search ends that can't write any more, and how it goes on."""
    if isinstance(fault, OSError):
        file = str(fault.filename or folder)
        what = f"{folder} can't be written" if file.startswith(str(folder)) else f"{file} failed"
        # pyarrow's have a text alone
        where = f": {file}" if fault.filename else ""
        fault = f"{what}: {fault.strerror or fault}{where}"
    back = "free space or bring the storage back, then"
    return StorageError(f"{fault}; {back}: {resume_command(folder)}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep searches out of a results folder for a while; a ResultsError if one is running."""
    lock = _open_plain(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        if not _try_to_lock(lock):
            owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
            raise ResultsError(
                f"{folder} is in use by process {owner or 'unknown'}; wait for it, or choose"
                f" another --name; if it is stopped: {resume_command(folder)}"
            )
        # The kernel drops the lock when the process dies, so a stale process id does no harm.
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def is_running(folder: Path) -> bool:
    """Whether a process holds the lock of this results folder; changes nothing there."""
    if not (folder / LOCK_NAME).exists():
        return False
    lock = _open_plain(folder / LOCK_NAME, os.O_RDWR)
    try:
        return not _try_to_lock(lock)
    finally:
        os.close(lock)


def _try_to_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open_plain(path: Path, flags: int) -> int:
    """Open a file to write; what a link in a stranger's folder leads to stays as it is."""
    try:
        opened = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise ResultsError(f"{path} can't be opened: {why}; {TAKE_AWAY}") from None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ResultsError(f"{path} is not a plain file; {TAKE_AWAY}")
    return opened


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
