"""Walks the few folders of a dataset, and reads their files one by one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cifar_tune.errors import DataError
from cifar_tune.vision.names import spelt

FOLDERS_READ = ("train", "test", "cifar-10-batches-py", "cifar-10-batches-bin")
Inode = tuple[int, int]  # a device and a number on it: what a folder is, by whatever name
MAX_FILE_BYTES = 256 << 20  # a picture of 64 million pixels with transparency, not compressed


class UnreadableFileError(DataError):
    """One file of a folder can't be read; `reason` is why, in words that follow its name."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{spelt(str(file))} can't be read: {reason}; mend it or take it away.")
        self.reason = reason


def folder_files(folder: Path) -> Iterator[Path]:
    """Yields, sorted, the files of the folder itself and of the few folders that a dataset has.

    It goes into no others, so a wrong path costs no walk over a whole disk.

    Raises:
        DataError: a folder can't be read.
    """
    for entry in _entries(folder):
        if not _is_folder(entry):
            yield Path(entry.path)
        elif entry.name in FOLDERS_READ:
            yield from files_below(Path(entry.path), frozenset({_identity(folder)}))


def files_below(folder: Path, above: frozenset[Inode] = frozenset()) -> Iterator[Path]:
    """Yields, sorted, all that is no folder, at any depth, in what links lead to as well.

    A link to a folder that it lies in, or to one of `above`, is not followed. Raises DataError as
    `folder_files`.
    """
    waiting = [(folder, above)]
    while waiting:
        where, above = waiting.pop()
        entries, identity = _entries(where), _identity(where)
        if identity in above:
            continue
        inner = [Path(entry.path) for entry in entries if _is_folder(entry)]
        yield from (Path(entry.path) for entry in entries if not _is_folder(entry))
        waiting += [(path, above | {identity}) for path in reversed(inner)]


def _identity(folder: Path) -> Inode:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{spelt(str(folder))} can't be read: {error.strerror or error}; check the folder and "
            "its permissions."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say: whoever reads it will be told
        return False


def read_file(file: Path, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The content of a plain file.

    Raises:
        UnreadableFileError: it is none, is too large, or can't be opened.
    """
    try:
        status = file.stat()  # before it is opened: a pipe would be waited for
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFileError(file, "no plain file")
        if status.st_size > most_bytes:
            raise UnreadableFileError(file, f"{status.st_size:,} bytes, at most {most_bytes:,}")
        return file.read_bytes()
    except FileNotFoundError:
        what = "a link to what is not there" if file.is_symlink() else "not there"
        raise UnreadableFileError(file, what) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise UnreadableFileError(file, reason) from error
