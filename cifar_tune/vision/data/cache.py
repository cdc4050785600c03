"""Keeps decoded datasets and downloads in the user's cache, under a lock and by atomic rename."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import Dataset, Decoded, Kind
from cifar_tune.vision.data.sources import Identity
from cifar_tune.vision.data.stored import (
    DamagedEntryError,
    Meta,
    OutdatedEntryError,
    describe_dataset,
    read_dataset,
    read_meta,
    write_dataset,
)

CACHE_VARIABLE = "CIFAR_TUNE_CACHE"
Note = Callable[[str], None]


@dataclass(frozen=True)
class CacheRoot:
    """Where the cache lies, and the sentence to tell the user if that is not where it belongs."""

    path: Path
    note: str | None = None


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache, as `cifar-tune data` lists it."""

    kind: Kind | str
    source: str
    size_bytes: int
    path: Path


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
    return CacheRoot(
        fallback,
        f"the cache {wanted} can't be written, so {fallback} is used; "
        f"set {CACHE_VARIABLE} to a folder that lasts.",
    )


def list_entries() -> list[CacheEntry]:
    """Lists what the cache holds, decoded datasets first, then downloads."""
    root = cache_root()
    entries = []
    for folder in _entry_folders(_entries(root)):
        try:
            meta = read_meta(folder)
        except DamagedEntryError as error:
            what = "outdated" if isinstance(error, OutdatedEntryError) else "damaged"
            entries.append(CacheEntry(what, "", _size(folder), folder))
        else:
            entries.append(CacheEntry(meta.kind, meta.source, _size(folder), folder))
    for file in sorted(downloads_folder(root).glob("*")):
        if file.suffix != ".lock":
            entries.append(CacheEntry("download", file.name, file.stat().st_size, file))
    return entries


def find_dataset(fingerprint: str) -> Dataset | None:
    """The dataset of this fingerprint if the cache has it decoded; its arrays are not read yet."""
    for folder in _entry_folders(_entries(cache_root())):
        with contextlib.suppress(DamagedEntryError):
            dataset = describe_dataset(folder)
            if dataset.fingerprint == fingerprint:
                return dataset
    return None


def empty_cache() -> int:
    """Deletes everything in the cache and returns how many bytes that freed."""
    root = cache_root()
    freed = _size(root)
    for name in ("entries", "downloads", "locks"):
        shutil.rmtree(root / name, ignore_errors=True)
    return freed - _size(root)


def downloads_folder(root: Path) -> Path:
    """Returns the folder below a cache root that downloads lie in."""
    return root / "downloads"


def find_entry(root: Path, identity: Identity) -> Dataset | None:
    """The dataset if it was decoded before; its arrays are not checked, which costs little."""
    try:
        return describe_dataset(_entries(root) / identity.key)
    except DamagedEntryError:
        return None


def get_or_decode(
    root: Path, identity: Identity, source: str, decode: Callable[[], Decoded], on_note: Note
) -> Dataset:
    """Returns the stored dataset, checked, or decodes and stores it.

    Of several processes that come at once one decodes and the others wait. A damaged entry is
    rebuilt, and said so. Raises what `decode` raises, and DataError where the disk is full or the
    content changed although names and sizes did not.
    """
    folder = _entries(root) / identity.key
    with locked(root / "locks" / identity.key, on_note):
        notes: tuple[str, ...] = ()
        if folder.exists():
            try:
                return read_dataset(folder)
            except OutdatedEntryError as error:
                on_note(f"{source} is decoded anew: {error}.")
            except DamagedEntryError as error:
                notes = (f"the cached copy of {source} was damaged ({error}) and was rebuilt.",)
        decoded = decode()
        with _storage_errors(root):
            _store(folder, identity, source, decoded)
        dataset = read_dataset(folder)
        return replace(dataset, notes=dataset.notes + notes)


def _store(folder: Path, identity: Identity, source: str, decoded: Decoded) -> None:
    entries = folder.parent
    entries.mkdir(parents=True, exist_ok=True)
    for left_over in entries.glob(f".{identity.key}-*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{identity.key}-", dir=entries))
    try:
        meta = write_dataset(decoded, source, identity.listing, temporary)
        _check_against_first_use(entries, meta)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_against_first_use(entries: Path, meta: Meta) -> None:
    """Content that changed under equal names and sizes is damaged until someone denies it.

    Official files have published checksums; for everything else the first use is all there is.
    """
    for folder in _entry_folders(entries):
        try:
            first = read_meta(folder)
        except DamagedEntryError:
            continue
        if first.listing == meta.listing and first.fingerprint != meta.fingerprint:
            raise DataError(
                f"{meta.source} has the fingerprint {meta.fingerprint[:12]}, but had "
                f"{first.fingerprint[:12]} at its first use, with equal names and sizes: a flipped "
                f"bit looks like that. If you changed it on purpose, delete {folder}."
            )


@contextmanager
def locked(path: Path, on_note: Note) -> Iterator[None]:
    """Holds an exclusive lock between processes; the kernel frees it when a process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_note("another process is preparing the same data; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: the work may be done twice, the rename stays atomic
        yield


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache {root} could not be written ({error.strerror or error}); free 200 MB there "
            f"or set {CACHE_VARIABLE} to another folder."
        ) from error


def _entries(root: Path) -> Path:
    return root / "entries"


def _entry_folders(entries: Path) -> list[Path]:
    return sorted(folder for folder in entries.glob("[!.]*") if folder.is_dir())


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
