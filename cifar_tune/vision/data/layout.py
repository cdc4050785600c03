"""Reads a tree of images by its names: train/<class>/... and test/<class>/..., and what is not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import SPLITS
from cifar_tune.vision.data.pictures import SUFFIXES
from cifar_tune.vision.names import is_hidden, is_text, on_disk, one_form, spelt

SHOWN = 3  # names in a sentence; the rest are counted
MACOS_HALVES = "__MACOSX"  # in a zip: a tree of its own like the images', of what is no image
MAX_IMAGES = 1_000_000  # 3 GB of pixels


class Place(NamedTuple):
    """Where an image belongs, in the order that the arrays have.

    `label` is the class in one Unicode form, `file` the path below the class's folder, which is
    called `folder` on the disk.
    """

    split: str
    label: str
    file: str
    folder: str


def place_of(name: str) -> Place | None:
    """Reads split and class off `[folder/]train/<class>/<path>`; None: it is no image here.

    As torchvision's ImageFolder has it, images may lie deeper; hidden files and folders, at any
    depth, are none.
    """
    split, parts = _split_of(name)
    if len(parts) < 2 or any(map(is_hidden, parts)) or not has_image_suffix(parts[-1]):
        return None
    folder = sys.intern(parts[0])  # shared by all images of the class
    return Place(split, sys.intern(one_form(folder)), "/".join(parts[1:]), folder)


def has_image_suffix(name: str) -> bool:
    """Whether a file is taken for an image, by its name."""
    return name.lower().endswith(SUFFIXES)


def _split_of(name: str) -> tuple[str, list[str]]:
    """The split and what follows it, the class first; empty where the name has no split."""
    parts = _parts(name)
    if parts[:1] == [MACOS_HALVES]:
        return "", []
    for depth in (0, 1):
        if depth < len(parts) and parts[depth] in SPLITS:
            return parts[depth], parts[depth + 1 :]
    return "", []


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


class Tree:
    """The names of an image dataset as they come: the classes, and what is left out and why."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.places: set[Place] = set()
        self._folders: set[tuple[str, str]] = set()  # split and class's folder, hidden ones not
        self._hidden_folders: Counter[str] = Counter()
        self._hidden_files: list[str] = []
        self._other: dict[tuple[str, str], Counter[str]] = {}  # suffixes of no images, by folder
        self._without_class: list[str] = []
        self._elsewhere: set[str] = set()

    def take(self, name: str) -> Place | None:
        """Notes a file's name; its place if it is an image.

        Raises:
            DataError: it is there twice, or the dataset is too large.
        """
        place = place_of(name)
        if place is None:
            self._leave_out(name)
            return None
        if place in self.places:
            name = spelt("/".join((place.split, place.folder, place.file)))
            raise DataError(f"{self._source}: {name} is there twice; keep one of them.")
        if len(self.places) >= MAX_IMAGES:
            raise DataError(f"{self._source} has more than {MAX_IMAGES:,} images; use fewer.")
        self.places.add(place)
        self._folders.add((place.split, place.folder))
        return place

    def look_around(self, folder: Path, read: Iterable[str]) -> None:
        """Notes what names of files do not show: folders not `read`, and classes without a file."""
        for inner in folder.iterdir():
            if inner.is_dir() and inner.name not in read and not is_hidden(inner.name):
                self._elsewhere.add(on_disk(inner.name))
        for split in SPLITS:
            if (folder / split).is_dir():
                names = (inner.name for inner in (folder / split).iterdir() if inner.is_dir())
                self._folders |= {(split, on_disk(name)) for name in names if not is_hidden(name)}

    def _leave_out(self, name: str) -> None:
        split, parts = _split_of(name)
        hidden = next((depth for depth, part in enumerate(parts) if is_hidden(part)), None)
        if not split:
            *folders, _class, file = ("", "", *_parts(name))
            if MACOS_HALVES in folders:
                self._hidden_folders[MACOS_HALVES] += 1
            elif has_image_suffix(file) and not any(map(is_hidden, folders)):
                self._elsewhere.add("/".join(folders).strip("/"))
        elif hidden is not None and hidden < len(parts) - 1:
            self._hidden_folders["/".join((split, *parts[: hidden + 1]))] += 1
        elif hidden is not None:
            self._hidden_files.append("/".join((split, *parts)))
        elif len(parts) == 1:
            self._without_class.append(f"{split}/{parts[0]}")
        elif parts:
            self._folders.add((split, parts[0]))
            suffixes = self._other.setdefault((split, parts[0]), Counter())
            suffixes[PurePosixPath(parts[-1]).suffix.lower() or "without suffix"] += 1

    @property
    def has_classes(self) -> bool:
        """Whether any folder lies where a class does, with images or without."""
        return bool(self._folders)

    def counts(self) -> dict[str, Counter[str]]:
        """Images of each class, by split."""
        counted: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for place in self.places:
            counted[place.split][place.label] += 1
        return counted

    def classes(self) -> tuple[str, ...]:
        """The classes in order.

        Raises:
            DataError: a name is no text, a class has files but no image, a split or class lacks.
        """
        self._check_names()
        self._check_other_formats()
        train, test = (set(self.counts()[split]) for split in SPLITS)
        if len(train) < 2 or not test:
            beside = f" {listed(self._elsewhere)} is not read." if self._elsewhere else ""
            raise DataError(
                f"{self._source} has {len(train)} classes in train/ and {len(test)} in test/, but "
                "at least 2 and 1 are needed. Images lie as train/<class>/* and test/<class>/*."
                + beside
            )
        if unknown := sorted(test - train):
            raise DataError(
                f"{self._source}: test/ has classes that train/ has not: {listed(unknown)}; "
                "a model can't learn them. Add training images or take them away."
            )
        return tuple(sorted(train))

    def _check_names(self) -> None:
        wrong = sorted(f"{split}/{name}" for split, name in self._folders if not is_text(name))
        if wrong:
            raise DataError(
                f"{self._source}: the name of a class must be UTF-8, and is not: {listed(wrong)}; "
                "rename the folder, and pack archives with names in UTF-8."
            )

    def _check_other_formats(self) -> None:
        """A class of other formats would vanish unseen."""
        with_images = {(place.split, place.folder) for place in self.places}
        for (split, name), suffixes in sorted(self._other.items()):
            if (split, name) not in with_images:
                raise DataError(
                    f"{self._source}: {spelt(f'{split}/{name}')} has {_files(suffixes)}, and no "
                    f"image that can be read ({', '.join(SUFFIXES)}); convert them, or take the "
                    "folder away."
                )

    def notes(self) -> tuple[str, ...]:
        """Sentences on what was left out, and on names that were put together."""
        notes = []
        if left_out := self._left_out():
            notes.append(f"Left out: {'; '.join(left_out)}.")
        spellings: dict[str, set[str]] = {}
        for place in self.places:
            spellings.setdefault(place.label, set()).add(place.folder)
        if twice := sorted(label for label, names in spellings.items() if len(names) > 1):
            notes.append(f"Spelt in two Unicode forms, and one class each: {listed(twice)}.")
        return tuple(notes)

    def _left_out(self) -> list[str]:
        """What was left out, and why, in parts of a sentence."""
        with_images = {(place.split, place.folder) for place in self.places}
        empty = {f"{split}/{name}" for split, name in self._folders - with_images}
        hidden, other = self._hidden_folders, sum(self._other.values(), Counter[str]())
        parts = []
        if hidden:
            parts.append(f"hidden folders with {_counted(hidden.total())} ({listed(hidden)})")
        for files, what in ((self._hidden_files, "hidden"), (self._without_class, "in no class")):
            if files:
                parts.append(f"{_counted(len(files))} {what}, like {spelt(min(files))}")
        if other:
            parts.append(f"{_files(other)}, which are no images that can be read")
        if empty:
            parts.append(f"empty folders ({listed(empty)})")
        if self._elsewhere:
            parts.append(f"what is not in train/ or test/ ({listed(self._elsewhere)})")
        return parts


def _files(suffixes: Counter[str]) -> str:
    """`3 files (2 .txt, 1 .heic)`."""
    kinds = ", ".join(f"{count} {spelt(suffix)}" for suffix, count in suffixes.most_common(SHOWN))
    return f"{_counted(suffixes.total())} ({kinds}{', ...' if len(suffixes) > SHOWN else ''})"


def _counted(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"


def listed(names: Iterable[str], most: int = SHOWN) -> str:
    """The first names in order, as they can be printed, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - most
    shown = ", ".join(map(spelt, ordered[:most]))
    return f"{shown} and {more} more" if more > 0 else shown
