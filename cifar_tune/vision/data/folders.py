"""Walks the few folders of a dataset, and reads their files one by one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cifar_tune.errors import DataError
from cifar_tune.vision.data.layout import SPLIT_FOLDERS, has_image_suffix
from cifar_tune.vision.data.split_files import has_split_files, listed_files
from cifar_tune.vision.names import is_hidden, spelt

FOLDERS_READ = (
    *SPLIT_FOLDERS, "cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python",
    "cifar-100-binary",
)  # fmt: skip
Inode = tuple[int, int]  # a device and a number on it: what a folder is, by whatever name
MAX_FILE_BYTES = 256 << 20  # a picture of 64 million pixels with transparency, not compressed


class UnreadableFileError(DataError):
    """One file of a folder can't be read; `reason` is why, in words that follow its name."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{spelt(str(file))} can't be read: {reason}; mend it or take it away.")
        self.reason = reason


def folder_files(folder: Path) -> Iterator[Path]:
    """Yields, sorted, the files of the folder itself and of the few folders that a dataset has.

    Those are splits, official distributions, or, without any, classes; where there is but one
    folder, they may lie in that; split files name theirs. It goes into no others, so a wrong path
    costs no walk over a whole disk.

    Raises:
        DataError: a folder can't be read, or a split file has wrong lines.
    """
    root = root_of(folder)
    read = read_of(root)
    if has_split_files(root):
        yield from listed_files(root)
        return
    if root != folder:
        yield from (Path(entry.path) for entry in _entries(folder) if not _is_folder(entry))
    for entry in _entries(root):
        if not _is_folder(entry):
            yield Path(entry.path)
        elif entry.name in read:
            yield from files_below(Path(entry.path), frozenset({_identity(root)}))


def root_of(folder: Path) -> Path:
    """The folder, or the only one in it where the dataset lies there."""
    entries = _entries(folder)
    inner = [entry.path for entry in entries if _is_folder(entry) and not is_hidden(entry.name)]
    if len(inner) != 1 or _begins(folder) or any(has_image_suffix(one.name) for one in entries):
        return folder
    return Path(inner[0]) if _begins(Path(inner[0])) else folder


def _begins(folder: Path) -> bool:
    """Whether a dataset's own folders or files lie there."""
    return has_split_files(folder) or bool(read_of(folder))


def read_of(folder: Path) -> frozenset[str]:
    """Names of the folders that are read: splits and official ones, else at least two classes."""
    inner = [entry for entry in _entries(folder) if _is_folder(entry)]
    known = {entry.name for entry in inner if entry.name in FOLDERS_READ}
    if any(SPLIT_FOLDERS.get(name) != "val" for name in known):
        return frozenset(known)
    visible = [Path(entry.path) for entry in inner if not is_hidden(entry.name)]
    if sum(map(_has_images, visible)) < 2:
        return frozenset()
    return frozenset(folder.name for folder in visible)


def _has_images(folder: Path) -> bool:
    return any(has_image_suffix(entry.name) for entry in _entries(folder))


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
