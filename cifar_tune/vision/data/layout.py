"""Reads a tree of images by its names: splits and classes, and what is left out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cifar_tune.errors import DataError
from cifar_tune.vision.data.pictures import SUFFIXES
from cifar_tune.vision.names import is_hidden, is_text, on_disk, one_form, spelt

SHOWN = 3  # names in a sentence; the rest are counted
MACOS_HALVES = "__MACOSX"  # in a zip: a tree of its own like the images', of what is no image
MAX_IMAGES = 1_000_000
PARTS = ("train", "val", "test")  # of images: what a place's split can be
SPLIT_FOLDERS = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip


class Place(NamedTuple):
    """Where an image belongs, in the order that the arrays have.

    `label` is the class in one Unicode form, `file` the path below the class's folder, which is
    called `folder` on the disk.
    """

    split: str
    label: str
    file: str
    folder: str


@dataclass(frozen=True)
class Form:
    """How the names of a tree tell split and class.

    `flat` is what stands before the class where there is no split; without it, names are as
    `[folder/]train/<class>/<path>`. `listed` are the places that split files give.
    """

    flat: str | None = None
    listed: Mapping[str, Place] | None = None

    def place_of(self, name: str) -> Place | None:
        """Reads split and class off a name; None: it is no image here.

        As torchvision's ImageFolder has it, images may lie deeper; hidden files and folders, at any
        depth, are none.
        """
        if self.listed is not None:
            return self.listed.get(name)
        split, parts = self.split_of(name)
        if len(parts) < 2 or any(map(is_hidden, parts)) or not has_image_suffix(parts[-1]):
            return None
        folder = sys.intern(parts[0])  # shared by all images of the class
        if self.flat is None:
            split = SPLIT_FOLDERS[split]
        return Place(split, sys.intern(one_form(folder)), "/".join(parts[1:]), folder)

    def split_of(self, name: str) -> tuple[str, list[str]]:
        """The split's folder and what follows it, the class first; empty where there is none."""
        parts = parts_of(name)
        if parts[:1] == [MACOS_HALVES]:
            return "", []
        if self.flat is not None:
            above = parts_of(self.flat)
            inside = parts[: len(above)] == above
            return ("train", parts[len(above) :]) if inside else ("", [])
        for depth in (0, 1):
            if depth < len(parts) and parts[depth] in SPLIT_FOLDERS:
                return parts[depth], parts[depth + 1 :]
        return "", []

    def shown(self, split: str, *parts: str) -> str:
        """A path of the tree as its owner knows it."""
        return "/".join(parts if self.flat is not None else (split, *parts))


def form_of(names: Iterable[str]) -> Form:
    """The form of a tree by its names: classes lie at the top where nothing lies in a split."""
    tops, wrapped, deeper = set[str](), False, False
    for parts in filter(None, map(parts_of, names)):
        if parts[0] in ("train", "test"):
            return Form()
        wrapped |= len(parts) > 3 and parts[1] in ("train", "test")
        if len(parts) > 1 and has_image_suffix(parts[-1]) and not any(map(is_hidden, parts)):
            tops.add(parts[0])
            deeper |= len(parts) > 2
    if wrapped or not tops:
        return Form()
    return Form(flat=tops.pop() if len(tops) == 1 and deeper else "")


def has_image_suffix(name: str) -> bool:
    """Whether a file is taken for an image, by its name."""
    return name.lower().endswith(SUFFIXES)


def parts_of(name: str) -> list[str]:
    """The parts of a path without empty ones."""
    return [part for part in name.split("/") if part not in ("", ".")]


class Tree:
    """The names of an image dataset as they come: the classes, and what is left out and why."""

    def __init__(self, source: str, form: Form = Form()) -> None:
        self._source, self._form = source, form
        self.places: set[Place] = set()
        self._used: set[tuple[str, str]] = set()  # split's and class's folder of images
        self._folders: set[tuple[str, str]] = set()  # the same of other files, or of none
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
        place = self._form.place_of(name)
        if place is None:
            self._leave_out(name)
            return None
        if place in self.places:
            name = spelt(self._form.shown(place.split, place.folder, place.file))
            raise DataError(f"{self._source}: {name} is there twice; keep one of them.")
        if len(self.places) >= MAX_IMAGES:
            raise DataError(f"{self._source} has more than {MAX_IMAGES:,} images; use fewer.")
        self.places.add(place)
        if self._form.listed is None:
            self._used.add((self._form.split_of(name)[0], place.folder))
        return place

    def look_around(self, folder: Path, read: Iterable[str]) -> None:
        """Notes what names of files do not show: folders not `read`, and classes without a file."""
        if self._form.listed is not None:
            return
        if self._form.flat is not None:
            self._folders |= {("train", name) for name in _folders_in(folder)}
            return
        self._elsewhere |= {name for name in _folders_in(folder) if name not in read}
        for split in SPLIT_FOLDERS:
            self._folders |= {(split, name) for name in _folders_in(folder / split)}

    def _leave_out(self, name: str) -> None:
        if self._form.listed is not None:
            return
        split, parts = self._form.split_of(name)
        hidden = next((depth for depth, part in enumerate(parts) if is_hidden(part)), None)
        if not split:
            *folders, _class, file = ("", "", *parts_of(name))
            if MACOS_HALVES in folders:
                self._hidden_folders[MACOS_HALVES] += 1
            elif has_image_suffix(file) and not any(map(is_hidden, folders)):
                self._elsewhere.add("/".join(folders).strip("/"))
        elif hidden is not None and hidden < len(parts) - 1:
            self._hidden_folders[self._form.shown(split, *parts[: hidden + 1])] += 1
        elif hidden is not None:
            self._hidden_files.append(self._form.shown(split, *parts))
        elif len(parts) == 1:
            if self._form.flat is None or has_image_suffix(parts[0]):
                self._without_class.append(self._form.shown(split, parts[0]))
        elif parts:
            self._folders.add((split, parts[0]))
            suffixes = self._other.setdefault((split, parts[0]), Counter())
            suffixes[PurePosixPath(parts[-1]).suffix.lower() or "without suffix"] += 1

    @property
    def has_classes(self) -> bool:
        """Whether any folder lies where a class does, with images or without."""
        return bool(self._folders | self._used)

    def counts(self) -> dict[str, Counter[str]]:
        """Images of each class, by split."""
        counted: dict[str, Counter[str]] = {split: Counter() for split in PARTS}
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
        train, val, test = (set(self.counts()[split]) for split in PARTS)
        if len(train) < 2:
            what = f"{len(train)} classes in train/ and {len(test)} in test/"
            if self._form.flat is not None:
                what = f"{len(train)} folders with images"
            beside = f" {listed(self._elsewhere)} is not read." if self._elsewhere else ""
            raise DataError(
                f"{self._source} has {what}, but at least 2 classes are needed. Images lie as"
                " train/<class>/* and test/<class>/*, or as <class>/*." + beside
            )
        for split, names in (("val", val), ("test", test)):
            if unknown := sorted(names - train):
                raise DataError(
                    f"{self._source}: {split}/ has classes that train/ has not: {listed(unknown)};"
                    " a model can't learn them. Add training images or take them away."
                )
        return tuple(sorted(train))

    def _check_names(self) -> None:
        folders = self._folders | self._used
        wrong = sorted(self._form.shown(*one) for one in folders if not is_text(one[1]))
        if wrong:
            raise DataError(
                f"{self._source}: the name of a class must be UTF-8, and is not: {listed(wrong)}; "
                "rename the folder, and pack archives with names in UTF-8."
            )

    def _check_other_formats(self) -> None:
        """A class of other formats would vanish unseen."""
        for (split, name), suffixes in sorted(self._other.items()):
            if (split, name) not in self._used and self._form.flat is None:
                folder = spelt(self._form.shown(split, name))
                raise DataError(
                    f"{self._source}: {folder} has {_files(suffixes)}, and no "
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
        alike: dict[str, set[str]] = {}
        for label in spellings:
            alike.setdefault(label.casefold(), set()).add(label)
        if several := [" and ".join(sorted(names)) for names in alike.values() if len(names) > 1]:
            notes.append(f"Classes whose names differ in capitals alone: {listed(several)}.")
        return tuple(notes)

    def _left_out(self) -> list[str]:
        """What was left out, and why, in parts of a sentence."""
        without = self._folders - self._used
        empty = {self._form.shown(*one) for one in without if one not in self._other}
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
            where = "train/ or test/" if self._form.flat is None else "a folder of images"
            parts.append(f"what is not in {where} ({listed(self._elsewhere)})")
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


def _folders_in(folder: Path) -> set[str]:
    """Names of the folders in a folder, hidden ones not; none where it is not there."""
    if not folder.is_dir():
        return set()
    names = {on_disk(inner.name) for inner in folder.iterdir() if inner.is_dir()}
    return {name for name in names if not is_hidden(name)}
