"""Decodes PNG and JPEG files that lie as train/<class>/* and test/<class>/*."""

from __future__ import annotations

import io
from collections import Counter
from typing import NamedTuple

import numpy as np
from PIL import Image

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import Member
from cifar_tune.vision.data.dataset import IMAGE_SIDE, SPLITS, Decoded, Images, Uint8Array

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 16_000_000  # in one image before resizing; more is taken for a bomb
MAX_IMAGES = 1_000_000  # 3 GB of pixels


class Place(NamedTuple):
    """Where an image belongs, in the order that the arrays have."""

    split: str
    label: str
    file: str


def place_of(name: str) -> Place | None:
    """Reads split and class off `[folder/]train/<class>/<file>`; None: it is no image here."""
    place = _file_of_a_class(name)
    return place if place and place.file.lower().endswith(SUFFIXES) else None


def _file_of_a_class(name: str) -> Place | None:
    parts = [part for part in name.split("/") if part != "."]
    if len(parts) not in (3, 4) or parts[-3] not in SPLITS or parts[-1].startswith("."):
        return None
    return Place(*parts[-3:])


class ImageFiles:
    """Collects decoded images; the arrays are in order of class and file name, whatever was first.

    So a folder and an archive of the same files give equal arrays and equal splits.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._pixels: dict[Place, bytes] = {}
        self._modes: Counter[str] = Counter()
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._passed_over: list[str] = []

    def add(self, member: Member) -> None:
        """Decodes a member that `place_of` knows. Raises DataError naming a damaged image."""
        place = place_of(member.name)
        if place is None:
            return
        if place in self._pixels:
            raise DataError(f"{self._source}: {'/'.join(place)} is there twice; keep one of them.")
        if len(self._pixels) >= MAX_IMAGES:
            raise DataError(f"{self._source} has more than {MAX_IMAGES:,} images; use fewer.")
        self._pixels[place] = self._decode(member)

    def pass_over(self, name: str) -> None:
        """Remembers a file that is no PNG or JPEG if it lies where images are expected."""
        if _file_of_a_class(name):
            self._passed_over.append(name)

    def _decode(self, member: Member) -> bytes:
        content = member.read()
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels, at most 16 million")
                self._sizes[image.size] += 1
                self._modes[image.mode] += 1
                return to_rgb(image).tobytes()
        # Pillow raises half a dozen kinds of error, and damaged files now and then find another.
        except Exception as error:
            raise DataError(
                f"{self._source}: {member.name} can't be decoded ({error}); "
                "replace it or take it away."
            ) from error

    def finish(self) -> Decoded:
        """Makes the arrays. Raises DataError where a split or a class is missing."""
        places = sorted(self._pixels)
        names = {split: {p.label for p in places if p.split == split} for split in SPLITS}
        self._check_classes(names["train"], names["test"])
        classes = tuple(sorted(names["train"]))
        train, test = (self._split(split, places, classes) for split in SPLITS)
        return Decoded("images", classes, train, test, self._notes())

    def _check_classes(self, train: set[str], test: set[str]) -> None:
        if len(train) < 2 or not test:
            raise DataError(
                f"{self._source} has {len(train)} classes in train/ and {len(test)} in test/, but "
                "at least 2 and 1 are needed. Images lie as train/<class>/* and test/<class>/*."
            )
        if unknown := sorted(test - train):
            raise DataError(
                f"{self._source}: test/ has classes that train/ has not: {', '.join(unknown)}; "
                "a model can't learn them. Add training images or take them away."
            )

    def _split(self, split: str, places: list[Place], classes: tuple[str, ...]) -> Images:
        index = {name: label for label, name in enumerate(classes)}
        chosen = [place for place in places if place.split == split]
        joined = b"".join(self._pixels.pop(place) for place in chosen)
        images: Uint8Array = np.frombuffer(joined, np.uint8)
        labels = np.array([index[place.label] for place in chosen], np.int64)
        return Images(images.reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 3), labels)

    def _notes(self) -> tuple[str, ...]:
        total = self._sizes.total()
        resized = total - self._sizes[(IMAGE_SIDE, IMAGE_SIDE)]
        recoloured = total - self._modes["RGB"]
        notes = []
        if resized:
            notes.append(f"{resized} of {total} images were resized to 32 x 32 pixels.")
        if recoloured:
            notes.append(f"{recoloured} of {total} images were converted to RGB.")
        if self._passed_over:
            count, first = len(self._passed_over), self._passed_over[0]
            notes.append(f"{count} files are neither PNG nor JPEG and were left out, like {first}.")
        return tuple(notes)


def to_rgb(image: Image.Image) -> Image.Image:
    """Decodes to 32 x 32 RGB; a large JPEG at a fraction of its size, which is quicker."""
    if image.size == (IMAGE_SIDE, IMAGE_SIDE):
        return image.convert("RGB")
    image.draft("RGB", (4 * IMAGE_SIDE, 4 * IMAGE_SIDE))
    return image.convert("RGB").resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)
