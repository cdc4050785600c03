"""Recognises what lies at `data.path` and decodes it: official CIFAR-10 or a tree of images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import folder_files, read_members
from cifar_tune.vision.data.dataset import Decoded, Kind
from cifar_tune.vision.data.image_files import ImageFiles, place_of
from cifar_tune.vision.data.official import OfficialChecksums, OfficialFiles, official_kind

LAYOUTS = (
    "Give the official CIFAR-10 (python or binary), or images as train/<class>/* and "
    "test/<class>/* in PNG or JPEG; a folder, .tar, .tar.gz, .tar.xz or .zip."
)
MEMBERS_LOOKED_AT = 1000  # in a quick look; a dataset shows within a few


@dataclass(frozen=True)
class Identity:
    """What tells whether a source is still the one that was decoded.

    `key` changes with any file's name, size or time, `listing` with names and sizes only: an equal
    listing with other content is how a flipped bit looks.
    """

    key: str
    listing: str


def identify(path: Path) -> Identity:
    """Reads names, sizes and times, no content. Raises DataError if the path is not there."""
    check_exists(path)
    files = list(folder_files(path)) if path.is_dir() else [path]
    rows = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(
                f"{file} can't be read: {error.strerror}; take it away or mend it."
            ) from error
        rows.append((file.relative_to(path.parent).as_posix(), status.st_size, status.st_mtime_ns))
    place = str(path.resolve())
    return Identity(
        key=_digest([place, rows]),
        listing=_digest([place, [row[:2] for row in rows]]),
    )


def check_exists(path: Path) -> None:
    """Raises DataError where there is no file or folder at the path, or an empty folder."""
    try:
        if not path.exists():
            raise DataError(f"data.path is {path}, which does not exist. {LAYOUTS}")
        if not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise DataError(f"data.path is {path}, which is no file or folder. {LAYOUTS}")
        if path.is_dir() and not any(path.iterdir()):
            raise DataError(f"data.path is {path}, an empty folder. {LAYOUTS}")
    except (OSError, ValueError) as error:  # too long, not ours to read, or with a zero byte
        raise DataError(f"data.path is {path}, which can't be read: {error}. {LAYOUTS}") from None


def recognise(path: Path) -> Kind:
    """Tells the layout from the first members, without decoding. Raises DataError for neither."""
    check_exists(path)
    for member in islice(read_members(path), MEMBERS_LOOKED_AT):
        if kind := _kind_of(member.name):
            return kind
    raise _neither(path)


def decode(path: Path, checksums: OfficialChecksums | None = None) -> Decoded:
    """Reads a whole dataset into memory in one pass over the source.

    Raises DataError as archives.py, official.py and image_files.py say, and where the layout is
    neither, or both.
    """
    check_exists(path)
    found: Kind | None = None
    files: OfficialFiles | ImageFiles = ImageFiles(str(path))
    for member in read_members(path):
        kind = _kind_of(member.name)
        if kind is None:
            if isinstance(files, ImageFiles):
                files.pass_over(member.name)
            continue
        if found is None:
            found = kind
            if kind == "cifar10-python" or kind == "cifar10-binary":
                files = OfficialFiles(str(path), kind, checksums or OfficialChecksums())
        if kind != found:
            raise DataError(f"{path} holds both {found} and {kind}; give one of them alone.")
        files.add(member)
    if found is None:
        raise _neither(path)
    return files.finish()


def _kind_of(name: str) -> Kind | None:
    return official_kind(name) or ("images" if place_of(name) else None)


def _neither(path: Path) -> DataError:
    return DataError(f"data.path is {path}, in which no dataset was recognised. {LAYOUTS}")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
