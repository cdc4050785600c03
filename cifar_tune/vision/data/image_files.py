"""Says what there is to say of image files that were decoded, and names all that are damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import Sizes
from cifar_tune.vision.data.layout import listed
from cifar_tune.vision.data.pictures import CHANGES
from cifar_tune.vision.data_config import Resize
from cifar_tune.vision.names import named_below

DARK = 0.25  # of the range of 16 bits: where no picture gets beyond it, 8 bits keep little
SIDES = (32, 48, 64, 96, 128, 160, 192, 224)  # what `auto` takes of data.image_size
MUCH_LARGER, LONG, MANY = 4, 1.5, 0.25  # sides of pictures and pixels kept; one side by the other
OF_LONG = {
    "squash": "data.resize=squash distorts them; crop or letterbox keeps the proportions",
    "crop": "data.resize=crop leaves out more than a third; letterbox keeps it",
    "letterbox": "data.resize=letterbox leaves more than a third black; crop fills it",
}


class Done(NamedTuple):
    """What is kept of a decoded image besides its pixels, plain values all."""

    row: int  # in the order of training, validation and test images
    size: tuple[int, int]
    changes: tuple[str, ...]
    peak: float | None
    misnamed: str | None  # its name and what it is instead
    digest: str  # of its pixels


def notes_on(done: Sequence[Done], side: int, resize: Resize) -> tuple[str, ...]:
    """Sentences on what was done to the images, but for their names."""
    changes = Counter(change for one in done for change in one.changes)
    made = [change for change in CHANGES if changes[change]]
    notes = [
        f"{changes[change]} of {len(done)} images were {change.format(side=side)}."
        for change in made
    ]
    notes += losses([one.size for one in done], side, resize)
    peaks = [one.peak for one in done if one.peak is not None]
    if peaks and max(peaks) < DARK:
        notes.append(
            f"No 16-bit image gets beyond {max(peaks):.0%} of its range: they are dark,"
            " and 8 bits keep few of their greys; stretch them over the range first."
        )
    return (*notes, *misnamed_note(done))


def losses(sizes: Sequence[tuple[int, int]], side: int, resize: Resize) -> list[str]:
    """Sentences where much is lost on the way to side x side pixels."""
    if not sizes:
        return []
    lost, middle = [], _middle_side(sizes)
    if middle >= MUCH_LARGER * side:
        more = f"; a larger data.image_size (now {side}) keeps more" if side < SIDES[-1] else ""
        lost.append(
            f"Much is lost: the middle one of the images' shorter sides has {middle} pixels, of"
            f" which {side} are left{more}."
        )
    long = sum(max(size) > LONG * min(size) for size in sizes)
    if long >= MANY * len(sizes):
        lost.append(
            f"{long} of {len(sizes)} images have one side more than {LONG} times the other:"
            f" {OF_LONG[resize]}."
        )
    return lost


def suggested_side(sizes: Sequence[tuple[int, int]]) -> int:
    """What `auto` takes of data.image_size: of SIDES the one nearest to the middle shorter side."""
    middle = _middle_side(sizes) if sizes else SIDES[0]
    return min(SIDES, key=lambda side: max(side / middle, middle / side))


def _middle_side(sizes: Sequence[tuple[int, int]]) -> int:
    shorter = sorted(map(min, sizes))
    return shorter[len(shorter) // 2]


def twins_note(part: str, digests: Iterable[str], seen: frozenset[str]) -> tuple[str, ...]:
    """A sentence on images of a part that are training images too."""
    found = [digest in seen for digest in digests]
    if not any(found):
        return ()
    return (
        f"{sum(found):,} of {len(found):,} {part} images are training images too, pixel for pixel:"
        " a score on them says too much; take them out of one of the two.",
    )


def check_damage(source: str, damaged: Sequence[str], done: Sequence[Done]) -> None:
    """Raises DataError naming the damaged images, if there are any."""
    if not damaged:
        return
    of = f"{len(damaged)} of {len(done) + len(damaged)} images"
    head = f"{source}: {of} can't be read; replace them or take them away:"
    raise DataError("\n".join([*named_below(head, sorted(damaged)), *misnamed_note(done)]))


def misnamed_note(done: Sequence[Done]) -> tuple[str, ...]:
    """A sentence on files whose names say another format."""
    names = [one.misnamed for one in done if one.misnamed is not None]
    if not names:
        return ()
    files = f"{len(names)} files were read as what they are"
    if len(names) == 1:
        files = "1 file was read as what it is"
    return (f"{files}, not as the name says: {listed(names)}.",)


def smallest_and_largest(sizes: Iterable[tuple[int, int]]) -> Sizes:
    """The sizes with the fewest and the most pixels."""
    by_pixels = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
    return by_pixels[0], by_pixels[-1]
