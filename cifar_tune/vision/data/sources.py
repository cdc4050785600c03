"""Recognises what lies at `data.path` and decodes it: official CIFAR-10 or a tree of images."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import read_members
from cifar_tune.vision.data.dataset import SPLITS, Decoded, Images, Kind, Sizes
from cifar_tune.vision.data.folders import FOLDERS_READ, UnreadableFileError, folder_files
from cifar_tune.vision.data.image_files import ImageFiles, smallest_and_largest
from cifar_tune.vision.data.layout import Tree
from cifar_tune.vision.data.official import (
    CHECKSUMS,
    CLASSES,
    TEST_IMAGES,
    TRAIN_IMAGES,
    Checksums,
    OfficialKind,
    base_name,
    check_complete,
    official_kind,
    put_together,
    read_batch,
)
from cifar_tune.vision.data.pictures import PictureError, size_of_picture
from cifar_tune.vision.names import is_text, spelt

LAYOUTS = (
    "Give the official CIFAR-10 (python or binary), or images as train/<class>/* and "
    "test/<class>/* in PNG, JPEG, WebP, GIF, BMP, TIFF or PPM; a folder, .tar, .tar.gz, .tar.xz or "
    ".zip."
)
HEADS_READ, HEADS_BYTES = 60, 64 << 20  # images whose sizes are looked at before all are decoded


class Identity(NamedTuple):
    """What tells whether a source is still the one that was decoded.

    `key` changes with any file's name, size or time, `listing` with names and sizes only: an equal
    listing with other content is how a flipped bit looks.
    """

    key: str
    listing: str


def identify(path: Path) -> Identity:
    """Reads names, sizes and times, no content. Raises DataError if the path is not there."""
    check_exists(path)
    rows = []
    for file in folder_files(path) if path.is_dir() else [path]:
        try:
            status = file.stat()
        except OSError:  # a link to nothing, say: told with all else that is damaged
            status = file.lstat()
        rows.append((file.relative_to(path.parent).as_posix(), status.st_size, status.st_mtime_ns))
    place = str(path.resolve())
    return Identity(_digest([place, rows]), _digest([place, [row[:2] for row in rows]]))


def check_exists(path: Path) -> None:
    """Raises DataError where there is no file or folder at the path, or an empty folder."""
    if not is_text(str(path)):  # it goes into files that are text
        raise DataError(f"data.path is {spelt(str(path))}, no name in UTF-8; rename it.")
    try:
        if not path.exists():
            raise DataError(f"data.path is {path}, which does not exist. {LAYOUTS}")
        if not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise DataError(f"data.path is {path}, which is no file or folder. {LAYOUTS}")
        if path.is_dir() and not any(path.iterdir()):
            raise DataError(f"data.path is {path}, an empty folder. {LAYOUTS}")
    except (OSError, ValueError) as error:  # too long, not ours to read, or with a zero byte
        raise DataError(f"data.path is {path}, which can't be read: {error}. {LAYOUTS}") from None


class Seen(NamedTuple):
    """What is known of a source's images, before they are decoded or after.

    `train` and `test` count the images of each class, `sizes` are those of the `opened` images
    whose heads were read (none: all were), and `notes` say what is left out.
    """

    kind: Kind
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    notes: tuple[str, ...] = ()
    sizes: Sizes | None = None
    opened: int | None = None


def look_at(path: Path) -> Seen:
    """Reads the names of all files, and a few images' heads. Raises what `decode` does but damage.

    Folders and zips have their names apart; a packed tar is unpacked for them, 3 s for 60,000.
    """
    check_exists(path)
    tree, bytes_left = Tree(str(path)), HEADS_BYTES
    sizes: list[tuple[int, int]] = []
    batches: dict[OfficialKind, set[str]] = {}
    for member in read_members(path):
        if kind := official_kind(member.name):
            batches.setdefault(kind, set()).add(base_name(member.name))
        elif tree.take(member.name) and len(sizes) < HEADS_READ and bytes_left > 0:
            # Damaged ones are told when all are decoded.
            with contextlib.suppress(PictureError, UnreadableFileError):
                content = member.read()
                bytes_left -= len(content)
                sizes.append(size_of_picture(content))
    _check_one_layout(path, batches, tree)
    for kind, names in batches.items():
        check_complete(str(path), kind, names)
        return Seen(kind, CLASSES, TRAIN_IMAGES, TEST_IMAGES)
    classes, counts = tree.classes(), tree.counts()
    train, test = (tuple(counts[split][name] for name in classes) for split in SPLITS)
    extremes = smallest_and_largest(sizes) if sizes else None
    opened = None if len(sizes) == len(tree.places) else len(sizes)
    return Seen("images", classes, train, test, tree.notes(), extremes, opened)


def decode(path: Path, checksums: Checksums = CHECKSUMS) -> Decoded:
    """Reads a whole dataset into memory in one pass over the source.

    Raises DataError as archives.py, official.py and image_files.py say, and where the layout is
    neither, or both.
    """
    check_exists(path)
    tree = Tree(str(path))
    images = ImageFiles(str(path), tree)
    batches: dict[OfficialKind, dict[str, Images]] = {}
    for member in read_members(path):
        if kind := official_kind(member.name):
            base = base_name(member.name)
            batch = read_batch(str(path), kind, member, checksums[kind][base])
            batches.setdefault(kind, {})[base] = batch
        else:
            images.add(member)
    _check_one_layout(path, batches, tree)
    for kind, images_of in batches.items():
        return put_together(str(path), kind, images_of)
    return images.finish()


def _check_one_layout(path: Path, batches: Iterable[Kind], tree: Tree) -> None:
    """Also looks at the folders themselves, of which the names of files do not tell."""
    if path.is_dir():
        tree.look_around(path, FOLDERS_READ)
    found = [*batches, *(["images"] if tree.places else [])]
    if len(found) > 1:
        raise DataError(f"{path} holds both {found[0]} and {found[1]}; give one of them alone.")
    if not found and not tree.has_classes:
        raise DataError(f"data.path is {path}, in which no dataset was recognised. {LAYOUTS}")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
