"""Collects the images of train/<class>/ and test/<class>/, and names all that are damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import Member
from cifar_tune.vision.data.dataset import IMAGE_SIDE, SPLITS, Decoded, Images, Sizes
from cifar_tune.vision.data.file_kinds import kind_of_file
from cifar_tune.vision.data.folders import UnreadableFileError
from cifar_tune.vision.data.layout import Place, Tree, listed
from cifar_tune.vision.data.pictures import CHANGES, Picture, PictureError, read_picture
from cifar_tune.vision.names import spelt

NAMED = 10  # damaged files in an error; the rest are counted
DARK = 0.25  # of the range of 16 bits: where no picture gets beyond it, 8 bits keep little
# By name: what else a suffix may stand for needs no word.
FORM_OF_SUFFIX = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP",
    ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip


class ImageFiles:
    """Decodes image files; the arrays are in order of class and file name, whatever came first.

    So a folder and an archive of the same files give equal arrays and equal splits.
    """

    def __init__(self, source: str, tree: Tree) -> None:
        self._source, self._tree = source, tree
        self._pixels: dict[Place, bytes] = {}
        self._changes: Counter[str] = Counter()
        self._sizes: set[tuple[int, int]] = set()
        self._damaged: list[str] = []
        self._misnamed: list[str] = []
        self._peaks: list[float] = []

    def add(self, member: Member) -> None:
        """Decodes a member if it is an image. Raises DataError as `Tree.take`, and on damage of an
        archive; damaged images are remembered."""
        place = self._tree.take(member.name)
        if place is None:
            return
        name = spelt(member.name)
        try:
            content = member.read()
            picture = read_picture(content)
        except (PictureError, UnreadableFileError) as error:
            reason = error.reason if isinstance(error, UnreadableFileError) else error
            self._damaged.append(f"{name}: {reason}")
        else:
            self._pixels[place] = picture.rgb
            self._note(picture, name, content)

    def _note(self, picture: Picture, name: str, content: bytes) -> None:
        self._changes.update(picture.changes)
        self._sizes.add(picture.size)
        if picture.peak is not None:
            self._peaks.append(picture.peak)
        suffix = PurePosixPath(name).suffix.lower()
        if FORM_OF_SUFFIX.get(suffix, picture.form) != picture.form:
            self._misnamed.append(f"{name} ({kind_of_file(content)})")

    def finish(self) -> Decoded:
        """Makes the arrays. Raises DataError as `Tree.classes`, and naming the damaged images."""
        classes = self._tree.classes()
        self._check_damage()
        notes, places = self._notes(), sorted(self._pixels)
        train, test = (self._split(split, places, classes) for split in SPLITS)
        return Decoded("images", classes, train, test, notes, smallest_and_largest(self._sizes))

    def _check_damage(self) -> None:
        if not self._damaged:
            return
        files, total = sorted(self._damaged), len(self._pixels) + len(self._damaged)
        lines = [
            f"{self._source}: {len(files)} of {total} images can't be read; replace them or take"
            " them away:",
            *(f"  {file}" for file in files[:NAMED]),
        ]
        if len(files) > NAMED:
            lines.append(f"  and {len(files) - NAMED} more")
        raise DataError("\n".join([*lines, *self._misnamed_note()]))

    def _split(self, split: str, places: list[Place], classes: tuple[str, ...]) -> Images:
        index = {name: label for label, name in enumerate(classes)}
        chosen = [place for place in places if place.split == split]
        joined = b"".join(self._pixels.pop(place) for place in chosen)
        images = np.frombuffer(joined, np.uint8).reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 3)
        return Images(images, np.array([index[place.label] for place in chosen], np.int64))

    def _notes(self) -> tuple[str, ...]:
        total = len(self._pixels)
        made = [change for change in CHANGES if self._changes[change]]
        done = [f"{self._changes[change]} of {total} images were {change}." for change in made]
        if self._peaks and max(self._peaks) < DARK:
            done.append(
                f"No 16-bit image gets beyond {max(self._peaks):.0%} of its range: they are dark,"
                " and 8 bits keep few of their greys; stretch them over the range first."
            )
        return (*self._tree.notes(), *done, *self._misnamed_note())

    def _misnamed_note(self) -> tuple[str, ...]:
        if not self._misnamed:
            return ()
        files = f"{len(self._misnamed)} files were read as what they are"
        if len(self._misnamed) == 1:
            files = "1 file was read as what it is"
        return (f"{files}, not as the name says: {listed(self._misnamed)}.",)


def smallest_and_largest(sizes: Iterable[tuple[int, int]]) -> Sizes:
    """The sizes with the fewest and the most pixels."""
    by_pixels = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return by_pixels[0], by_pixels[-1]
