"""Names in a results folder, checkpoints wherever they lie, and writing without torn files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cifar_tune.errors import PlanError, StorageError

BEST = "best"  # the model that is handed over: a final one, before the finals the winner
WINNER = "search-winner"  # the search's winner, once there is a final model
RAY = "ray"  # a folder for each start: Ray's own, with the trials' checkpoints
FINALS = "finals"  # the final models, and the searches that the finals are
TRIALS = "trials"  # a folder for what each trial's own loggers and callbacks write
STATE_KEY = "cifar_tune"  # ours among the entries of a checkpoint
MODEL = "model.ckpt"  # Lightning's checkpoint of a model, wherever one lies
BEST_SO_FAR = "best.ckpt"  # beside a trial's checkpoint: that of an earlier epoch, held until then
CARD = "model.json"  # what a model is, beside it
PREDICTIONS = "validation_predictions.npz"  # the winner's
CONFIRMED = "confirmation_predictions.npz"  # of a training that saw no such data


def is_of_finals(folder: Path) -> bool:
    """Whether a search's folder is that of a stage of another search's finals."""
    return folder.parent.name == FINALS


LONGEST_NAME = 255  # bytes of a folder's or a file's
# What pyarrow raises for a URI that it can't open, or a file system that does not answer, are
# subclasses of these.
FAULTS = (OSError, ValueError, ImportError)
OWN_STORAGE = re.compile(r"-[0-9a-f]{8}/\d+$")  # of one start; run.py makes these names


def is_uri(location: str) -> bool:
    return "://" in location


def inside(location: str, *parts: str) -> str:
    """A location below another; a URI's query, such as S3's endpoint, stays at its end."""
    if not is_uri(location):
        return str(Path(location, *parts))
    base, mark, query = location.partition("?")
    return "/".join([base.rstrip("/"), *parts]) + mark + query


def parent(location: str) -> str:
    if not is_uri(location):
        return str(Path(location).parent)
    base, mark, query = location.partition("?")
    return base.rpartition("/")[0] + mark + query


def name_of(location: str) -> str:
    return (
        location.partition("?")[0].rpartition("/")[2] if is_uri(location) else Path(location).name
    )


def leads_out(recorded: str, storages: Collection[str] = ()) -> bool:
    """Whether what a journal names lies neither in its folder nor in a storage of its own.

    Files there are deleted when nothing needs them, and the journal may be a stranger's. A storage
    outside the folder has a name that only a search gives: NAME-1a2b3c4d/1.
    """
    base = _without_query(recorded)
    if ".." in base.split("/"):
        return True
    if not is_uri(recorded) and not base.startswith("/"):
        return False
    if any(base.startswith(f"{_without_query(storage)}/") for storage in storages):
        return False
    return OWN_STORAGE.search(base) is None


def _without_query(location: str) -> str:
    return location.partition("?")[0] if is_uri(location) else location


def linked(folder: Path, *names: str) -> Path | None:
    """A symbolic link in one of these subfolders of a folder, or one of them if it is one."""
    for name in names:
        if (folder / name).is_symlink():
            return folder / name
        for where, folders, files in os.walk(folder / name):
            for entry in (*folders, *files):
                if os.path.islink(os.path.join(where, entry)):
                    return Path(where, entry)
    return None


def locate(folder: Path, recorded: str) -> str:
    """Absolute path or URI of what a journal names: its own URI, or a path from its folder."""
    return recorded if is_uri(recorded) else str(folder / recorded)


def is_whole(location: str) -> bool:
    """Whether a checkpoint is there and, on a path, undamaged: torch's files have checksums.

    One at a URI is only looked for: object stores show no half-written file, and whoever
    downloads it checks it.

    Raises:
        StorageError: the URI's storage does not say whether it is there.
    """
    if is_uri(location):
        try:
            filesystem, path = _filesystem(location)
            return bool(filesystem.get_file_info(path).is_file)
        except FAULTS as error:
            raise StorageError(
                f"{location} can't be looked for: {error}; bring its storage back, then go on"
            ) from None
    try:
        with zipfile.ZipFile(location) as archive:
            return not is_packed(archive) and archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError):
        return False  # RuntimeError: flags of what torch never writes, such as encryption


def is_packed(archive: zipfile.ZipFile) -> bool:
    """Whether an archive holds more than its file has bytes, or may: torch's own are not packed.

    Of a packed file, some kilobytes may fill the memory.
    """
    members = archive.infolist()
    size = os.stat(str(archive.filename)).st_size
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    return not stored or sum(member.file_size for member in members) > size


@contextmanager
def at_hand(location: str) -> Iterator[Path]:
    """A path to the file: its own, or that of a copy, which is deleted afterwards."""
    if not is_uri(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="cifar_tune_") as folder:
        copy = Path(folder, name_of(location))
        _copy(location, str(copy))
        yield copy


def copy(source: str, target: str) -> None:
    """Copy a file within one file system; by a hard link where that is possible."""
    if is_uri(source) or is_uri(target):
        filesystem, folder = _filesystem(parent(target))
        filesystem.create_dir(folder, recursive=True)
        _copy(source, target)
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        Path(target).hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def delete_folder(location: str) -> None:
    """Delete a folder with all in it; what can't be deleted stays."""
    if not is_uri(location):
        shutil.rmtree(location, ignore_errors=True)
        return
    with suppress(*FAULTS):
        filesystem, path = _filesystem(location)
        filesystem.delete_dir(path)


def keep_only(folder: str, names: set[str]) -> None:
    """Delete all in a folder but these; and the folder, if it is empty then."""
    for name, is_folder in _listed(folder):
        if name in names:
            continue
        if is_folder:
            delete_folder(inside(folder, name))
        else:
            with suppress(*FAULTS):
                filesystem, path = _filesystem(inside(folder, name))
                filesystem.delete_file(path)
    if not _listed(folder):
        delete_folder(folder)


def _listed(folder: str) -> list[tuple[str, bool]]:
    """Names in a folder, and whether each is one; none where there is no folder."""
    if not is_uri(folder):
        with suppress(OSError):
            return [(path.name, path.is_dir()) for path in Path(folder).iterdir()]
        return []
    from pyarrow.fs import FileSelector, FileType

    with suppress(*FAULTS):
        filesystem, path = _filesystem(folder)
        found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
        return [(info.base_name, info.type == FileType.Directory) for info in found]
    return []


def check_uri(location: str, setting: str) -> None:
    """A PlanError unless a URI is one of a file system that can be opened here."""
    try:
        _filesystem(location)
    except FAULTS as error:
        raise PlanError(
            f"{setting} is {location!r}, which can't be opened: {error}; give a path, or a URI that"
            " pyarrow knows (s3://, gs://, hdfs://, file://), or fsspec+PROTOCOL://"
        ) from None


def write_probe(location: str, content: bytes) -> None:
    """Write a small file, with the folders that lead to it; an OSError if that can't be."""
    filesystem, path = _filesystem(location)
    filesystem.create_dir(_filesystem(parent(location))[1], recursive=True)
    with filesystem.open_output_stream(path) as file:
        file.write(content)


def read_probe(location: str) -> bytes:
    """What `write_probe` wrote; an OSError if it can't be read."""
    filesystem, path = _filesystem(location)
    with filesystem.open_input_stream(path) as file:
        return bytes(file.read())


def _filesystem(location: str) -> tuple[Any, str]:
    """pyarrow's file system and the path in it, as Ray takes them from a `storage_path`."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if not is_uri(location):
        return LocalFileSystem(), location
    filesystem, path = FileSystem.from_uri(location)
    return filesystem, path


def _copy(source: str, target: str) -> None:
    # Not by pyarrow's `copy_files`: within one storage that asks for a copy of its own, which not
    # every fsspec has.
    (origin, path), (goal, new) = _filesystem(source), _filesystem(target)
    with origin.open_input_stream(path) as whence, goal.open_output_stream(new) as whither:
        shutil.copyfileobj(whence, whither, 1 << 20)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file so that a reader, or a crash of the program, sees the old or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with draft.open("xb") as file:  # never through a link that somebody put there
        file.write(content.encode() if isinstance(content, str) else content)
    draft.replace(path)


def as_path(given: str | Path) -> Path:
    """The path as it is given; `~` is a home, where that can be found."""
    return Path(os.path.expanduser(given))
