"""Keeps decoded datasets and downloads in the user's cache, under a lock and by atomic rename."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs

from cifar_tune.errors import DataError
from cifar_tune.plan.task import Say
from cifar_tune.vision.data.dataset import Dataset, Decoded, Kind
from cifar_tune.vision.data.decoding import RECORD
from cifar_tune.vision.data.image_files import SIDES
from cifar_tune.vision.data.sources import Identity
from cifar_tune.vision.data.stored import (
    DamagedEntryError,
    OutdatedEntryError,
    describe_dataset,
    read_dataset,
    write_dataset,
)
from cifar_tune.vision.data_config import SIDE, DataConfig, Resize

CACHE_VARIABLE = "CIFAR_TUNE_CACHE"
ENTRIES, DOWNLOADS = "entries", "downloads"  # folders below a cache root
PARTIAL = "-partial"  # after the name of an entry that is being decoded


class CacheRoot(NamedTuple):
    """Where the cache lies, and the sentence to tell the user if that is not where it belongs."""

    path: Path
    note: str | None = None


class CacheEntry(NamedTuple):
    """One thing in the cache, as `cifar-tune data` lists it."""

    kind: Kind | str
    source: str
    size_bytes: int


def cache_root() -> Path:
    """Returns the cache's folder, which exists: $CIFAR_TUNE_CACHE, else the platform's place."""
    return find_cache_root().path


def find_cache_root() -> CacheRoot:
    """Like cache_root, with a note where the usual place can't be written.

    A read-only or missing HOME, or a user without a name, gets a temporary folder of its own.
    """
    wanted = Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("cifar-tune"))
    if wanted.is_absolute() or os.environ.get(CACHE_VARIABLE):
        wanted = wanted.absolute()
        if _can_write(wanted):
            return CacheRoot(wanted)
    fallback = _temporary_root()
    note = f"the cache {wanted} can't be written, so {fallback} is used; "
    return CacheRoot(fallback, f"{note}set {CACHE_VARIABLE} to a folder that lasts.")


def list_entries() -> list[CacheEntry]:
    """Lists what the cache holds, decoded datasets first, then downloads."""
    root = cache_root()
    entries = []
    for folder in _entry_folders(root):
        kind, source = "damaged", ""
        try:
            dataset = describe_dataset(folder)
            kind, source = dataset.kind, dataset.source
        except OutdatedEntryError:
            kind = "outdated"
        except DamagedEntryError:
            pass
        entries.append(CacheEntry(kind, source, _size(folder)))
    for folder in sorted((root / ENTRIES).glob(f".*{PARTIAL}")):
        entries.append(CacheEntry("unfinished", "", _size(folder)))
    for file in sorted((root / DOWNLOADS).glob("*")):
        if file.suffix != ".lock":
            entries.append(CacheEntry("download", file.name, file.stat().st_size))
    return entries


def find_dataset(fingerprint: str) -> Dataset | None:
    """The dataset of this fingerprint if the cache has it decoded; its arrays are not read yet."""
    whole = _whole_entries(cache_root())
    return next((dataset for dataset in whole if dataset.fingerprint == fingerprint), None)


def empty_cache() -> int:
    """Deletes everything in the cache and returns how many bytes that freed."""
    root = cache_root()
    freed = _size(root)
    for name in (ENTRIES, DOWNLOADS, "locks"):
        shutil.rmtree(root / name, ignore_errors=True)
    return freed - _size(root)


def entry_folder(root: Path, identity: Identity) -> Path:
    """Where the decoded dataset lies, or would lie."""
    return root / ENTRIES / identity.key


def known_entry(root: Path, identity: Identity, config: DataConfig) -> Dataset | None:
    """What the cache has decoded of a source for this config; its arrays are not read yet.

    For `auto` it is the entry of the size that the images themselves suggested.
    """
    sides = SIDES if config.image_size == "auto" else (config.image_size,)
    for side, cut in itertools.product(sides, (None, config.split_seed)):
        key = identity.of(side, config.resize, cut)
        with contextlib.suppress(DamagedEntryError):  # also where there is no such entry
            known = describe_dataset(entry_folder(root, key))
            suggested = known.suggested or (None if known.kind == "images" else SIDE)
            if suggested == side or config.image_size != "auto":
                return known
    return None


def get_or_decode(
    root: Path,
    identity: Identity,
    source: str,
    decode: Callable[[Path], Decoded],
    on_note: Say,
    side: int = SIDE,
    resize: Resize = "squash",
) -> Dataset:
    """Returns the stored dataset, checked, or decodes and stores it.

    `decode` gets a folder that may hold what a killed process left of the same. Of several
    processes that come at once one decodes and the others wait. A damaged entry is rebuilt, and
    said so. Raises what `decode` raises, and DataError where the disk is full or the content
    changed although names and sizes did not.
    """
    folder = entry_folder(root, identity)
    with locked(root / "locks" / identity.key, on_note) as alone:
        notes: tuple[str, ...] = ()
        if folder.exists():
            try:
                return read_dataset(folder)
            except OutdatedEntryError as error:
                on_note(f"{source} is decoded anew: {error}.")
            except DamagedEntryError as error:
                notes = (f"the cached copy of {source} was damaged ({error}) and was rebuilt.",)
        try:
            with _draft(folder, alone=alone) as draft:
                decoded = decode(draft)
                dataset = write_dataset(decoded, source, identity.listing, draft, side, resize)
                _check_against_first_use(root, dataset)
                (draft / RECORD).unlink(missing_ok=True)
                if folder.exists():
                    shutil.rmtree(folder)
                draft.rename(folder)
        except OSError as error:
            raise DataError(
                f"the cache {root} could not be written ({error.strerror or error}); free some room"
                f" there or set {CACHE_VARIABLE} to another folder."
            ) from error
        dataset = read_dataset(folder)
        return dataset.model_copy(update={"notes": dataset.notes + notes})


@contextmanager
def _draft(folder: Path, *, alone: bool) -> Iterator[Path]:
    """A folder that is to become the entry.

    What an error leaves of it is deleted. What a kill leaves is there at the next start, if it
    is certain that nobody else works on it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}{PARTIAL}")
    for left_over in folder.parent.glob(f".{folder.name}-*"):
        if left_over != draft:
            shutil.rmtree(left_over, ignore_errors=True)
    if alone:
        draft.mkdir(exist_ok=True)
    else:
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
    except Exception:  # not a Ctrl-C
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _check_against_first_use(root: Path, dataset: Dataset) -> None:
    """Content that changed under equal names and sizes is damaged until someone denies it.

    Official files have published checksums; for everything else the first use is all there is.
    """
    for first in _whole_entries(root):
        if first.listing == dataset.listing and first.fingerprint != dataset.fingerprint:
            raise DataError(
                f"{dataset.source} has the fingerprint {dataset.fingerprint[:12]}, but had "
                f"{first.fingerprint[:12]} at its first use, with equal names and sizes: a flipped "
                f"bit looks like that. If you changed it on purpose, delete {first.folder}."
            )


@contextmanager
def locked(path: Path, on_note: Say) -> Iterator[bool]:
    """Holds an exclusive lock between processes; the kernel frees it when a process dies.

    Gives whether it does: a file system may have none. The work may then be done twice.
    """
    alone = True
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_note("another process is preparing the same data; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            alone = False
        yield alone


def _entry_folders(root: Path) -> list[Path]:
    return sorted(folder for folder in (root / ENTRIES).glob("[!.]*") if folder.is_dir())


def _whole_entries(root: Path) -> Iterator[Dataset]:
    for folder in _entry_folders(root):
        with contextlib.suppress(DamagedEntryError):
            yield describe_dataset(folder)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary_root() -> Path:
    """A folder that is this user's alone: in /tmp someone else may have taken the name."""
    folder = Path(tempfile.gettempdir(), f"cifar-tune-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if mine and not status.st_mode & 0o022 and _can_write(folder):
            return folder
        return Path(tempfile.mkdtemp(prefix="cifar-tune-"))
    except OSError as error:
        raise DataError(
            f"neither the user's cache nor {folder} can be written ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a folder that can."
        ) from error
