"""Recognises what lies at `data.path` and decodes it: official CIFAR, or a tree of images."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cifar_tune.errors import DataError
from cifar_tune.plan.task import Say
from cifar_tune.vision.data.archives import Member, read_members
from cifar_tune.vision.data.dataset import Decoded, Images, Kind, Sizes
from cifar_tune.vision.data.decoding import Target, decode_images
from cifar_tune.vision.data.folders import UnreadableFileError, folder_files, read_of, root_of
from cifar_tune.vision.data.image_files import smallest_and_largest, suggested_side
from cifar_tune.vision.data.layout import Form, Tree, form_of, has_image_suffix, parts_of
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
from cifar_tune.vision.data.ordering import put_in_order
from cifar_tune.vision.data.pictures import PictureError, size_of_picture
from cifar_tune.vision.data.split_files import has_split_files, read_split_files
from cifar_tune.vision.data_config import SIDE, Resize
from cifar_tune.vision.names import is_hidden, is_text, on_disk, spelt

LAYOUTS = (
    "Give the official CIFAR-10 or CIFAR-100 (python or binary), or images as <class>/*, or as "
    "train/<class>/* and test/<class>/*, in PNG, JPEG, WebP, GIF, BMP, TIFF or PPM; a folder, "
    ".tar, .tar.gz, .tar.xz or .zip."
)
HEADS_READ, HEADS_BYTES = 60, 64 << 20  # images whose sizes are looked at before all are decoded


class Identity(NamedTuple):
    """What tells whether a source is still the one that was decoded.

    `key` changes with any file's name, size or time, `listing` with names and sizes only: an equal
    listing with other content is how a flipped bit looks.
    """

    key: str
    listing: str

    def of(self, side: int, resize: Resize, cut: int | None) -> Identity:
        """The same of a source brought to another size, or with a test part cut by a seed."""
        if (side, resize, cut) == (SIDE, "squash", None):
            return self
        return Identity(*(_digest([one, side, resize, cut]) for one in self))


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

    `train`, `test` and `val`, the source's own for validation, count the images of each class;
    `sizes` are those of the `opened` images whose heads were read (none: all were), `looked` each
    of theirs before they are decoded, and `notes` say what is left out. `suggested` is what they
    suggest for `data.image_size`, `cut` whether the test images are cut from the others.
    """

    kind: Kind
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    notes: tuple[str, ...] = ()
    sizes: Sizes | None = None
    opened: int | None = None
    val: tuple[int, ...] = ()
    looked: tuple[tuple[int, int], ...] = ()
    suggested: int = SIDE
    cut: bool = False


class Survey(NamedTuple):
    """What the names of a source tell, and a few images' heads: width and height of `looked`."""

    batches: dict[OfficialKind, set[str]]
    tree: Tree
    form: Form
    looked: tuple[tuple[int, int], ...]


def survey(path: Path) -> Survey:
    """Reads the names of all files, and a few images' heads. Raises what `decode` does but damage.

    Folders and zips have their names apart; a packed tar is unpacked for them, 3 s for 60,000.
    """
    check_exists(path)
    heads, names = _Heads(), []
    batches: dict[OfficialKind, set[str]] = {}
    for member in read_members(path):
        if kind := official_kind(member.name):
            batches.setdefault(kind, set()).add(base_name(member.name))
        else:
            names.append(member.name)
            heads.see(member)
    form = _listed(path) or form_of(names)
    if not path.is_dir() and form.flat is not None and "train.csv" in map(base_name, names):
        raise DataError(f"{path} has a train.csv, which is read from a folder only; unpack it.")
    tree = Tree(str(path), form)
    for name in names:
        tree.take(name)
    _check_one_layout(path, batches, tree)
    return Survey(batches, tree, form, tuple(sorted(heads.sizes)))


def _listed(path: Path) -> Form | None:
    """The form of a folder with split files."""
    if not path.is_dir() or not has_split_files(root := root_of(path)):
        return None
    above = root.relative_to(path)
    places = read_split_files(root)
    return Form(listed={on_disk((above / name).as_posix()): one for name, one in places.items()})


class _Heads:
    """The sizes of at most HEADS_READ images, spread over all that come, however many."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self._bytes_left, self._seen, self._step = HEADS_BYTES, 0, 1

    def see(self, member: Member) -> None:
        if not has_image_suffix(member.name) or any(map(is_hidden, parts_of(member.name))):
            return
        self._seen += 1
        if (self._seen - 1) % self._step or self._bytes_left <= 0:
            return
        # Damaged ones are told when all are decoded.
        with contextlib.suppress(PictureError, UnreadableFileError):
            content = member.read()
            self._bytes_left -= len(content)
            self.sizes.append(size_of_picture(content))
        if len(self.sizes) > HEADS_READ:
            self.sizes, self._step = self.sizes[::2], 2 * self._step


def look_at(path: Path, split_seed: int = 0, surveyed: Survey | None = None) -> Seen:
    """What names and heads tell, without decoding. Raises DataError as `survey`.

    `split_seed` is that of the test part, where one has to be cut.
    """
    batches, tree, _, looked = surveyed or survey(path)
    for kind, names in batches.items():
        check_complete(str(path), kind, names)
        return official_seen(kind)
    ordered = put_in_order(tree, split_seed)
    return Seen(
        kind="images",
        classes=ordered.classes,
        train=ordered.counts(ordered.train),
        test=ordered.counts(ordered.test),
        notes=(*tree.notes(), *cut_note(len(ordered.test), split_seed, cut=ordered.cut)),
        sizes=smallest_and_largest(looked) if looked else None,
        opened=None if len(looked) == len(tree.places) else len(looked),
        val=ordered.counts(ordered.val) if ordered.val else (),
        looked=looked,
        suggested=suggested_side(looked),
        cut=ordered.cut,
    )


def official_seen(kind: OfficialKind) -> Seen:
    """What is known of an official distribution."""
    classes = CLASSES[kind]
    return Seen(
        kind, classes, (TRAIN_IMAGES // len(classes),) * len(classes),
        (TEST_IMAGES // len(classes),) * len(classes),
    )  # fmt: skip


def cut_note(images: int, split_seed: int, *, cut: bool) -> tuple[str, ...]:
    """A sentence where the source has no test part."""
    if not cut:
        return ()
    return (
        f"There is no test part: {images:,} images were cut for it from the others (stratified,"
        f" data.split_seed {split_seed}), and no trial sees them.",
    )


def decode(
    path: Path,
    checksums: Checksums = CHECKSUMS,
    *,
    target: Target = Target(),  # noqa: B008 - it is frozen
    folder: Path | None = None,
    say: Say = lambda _line: None,
    surveyed: Survey | None = None,
) -> Decoded:
    """Reads a whole dataset: the official ones into memory, image files into arrays in `folder`.

    Without a folder the arrays are temporary: they last as long as they are used. Raises DataError
    as archives.py, official.py, layout.py and decoding.py say, and where the layout is neither, or
    both.
    """
    batches, tree, form, looked = surveyed = surveyed or survey(path)
    if batches:
        return _decode_official(path, checksums)
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return decode(path, target=target, folder=Path(temporary), surveyed=surveyed)
    members = ((member, form.place_of(member.name)) for member in read_members(path))
    ordered = put_in_order(tree, target.split_seed)
    decoded = decode_images(
        str(path),
        ((member, place) for member, place in members if place is not None),
        ordered,
        target,
        folder,
        say,
        at_once=not path.is_dir(),
    )
    cut = cut_note(len(ordered.test), target.split_seed, cut=ordered.cut)
    return dataclasses.replace(
        decoded,
        notes=(*tree.notes(), *cut, *decoded.notes),
        suggested=suggested_side(looked),
    )


def _decode_official(path: Path, checksums: Checksums) -> Decoded:
    batches: dict[OfficialKind, dict[str, Images]] = {}
    for member in read_members(path):
        if kind := official_kind(member.name):
            base = base_name(member.name)
            batch = read_batch(str(path), kind, member, checksums[kind][base])
            batches.setdefault(kind, {})[base] = batch
    ((kind, images_of),) = batches.items()
    return put_together(str(path), kind, images_of)


def _check_one_layout(path: Path, batches: Iterable[Kind], tree: Tree) -> None:
    """Also looks at the folders themselves, of which the names of files do not tell."""
    if path.is_dir():
        root = root_of(path)
        tree.look_around(root, read_of(root))
    found = [*batches, *(["images"] if tree.places else [])]
    if len(found) > 1:
        raise DataError(f"{path} holds both {found[0]} and {found[1]}; give one of them alone.")
    if not found and not tree.has_classes:
        raise DataError(f"data.path is {path}, in which no dataset was recognised. {LAYOUTS}")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
