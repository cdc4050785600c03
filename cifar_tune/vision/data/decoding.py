"""Decodes image files into arrays on the disk: on all CPUs, and after a kill from where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from cifar_tune.errors import DataError
from cifar_tune.plan.machine import read_machine
from cifar_tune.plan.task import Say
from cifar_tune.vision.data.archives import Member
from cifar_tune.vision.data.dataset import Decoded, Images, Uint8Array
from cifar_tune.vision.data.file_kinds import kind_of_file
from cifar_tune.vision.data.folders import UnreadableFileError
from cifar_tune.vision.data.image_files import (
    Done,
    check_damage,
    notes_on,
    smallest_and_largest,
    twins_note,
)
from cifar_tune.vision.data.layout import Place
from cifar_tune.vision.data.ordering import Ordered
from cifar_tune.vision.data.pictures import VERSION, PictureError, decode_picture, quietly
from cifar_tune.vision.data_config import SIDE, Resize
from cifar_tune.vision.names import spelt

RECORD = "decoded.jsonl"  # beside the arrays: what is done, a line an image
RECORD_SECONDS = 5.0  # a kill loses no more than that
SAID_SECONDS = 2.0  # between two lines on how far it is
AHEAD = 4  # files that wait in memory, for each thread
FORM_OF_SUFFIX = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP",
    ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip


class Target(NamedTuple):
    """What a dataset is brought to: the size of its images, and how; the seed of what is cut."""

    side: int = SIDE
    resize: Resize = "squash"
    split_seed: int = 0


def decode_images(
    source: str,
    files: Iterable[tuple[Member, Place]],
    ordered: Ordered,
    target: Target,
    folder: Path,
    say: Say,
    *,
    at_once: bool,
) -> Decoded:
    """Decodes the images of a tree into `folder`, going on from what a killed process left there.

    Args:
        files: in any order.
        at_once: whether a file must be read before the next is asked for.

    Raises:
        DataError: files are damaged, all of which are named, or have gone.
        OSError: the folder can't be written.
    """
    places = (*ordered.train, *ordered.val, *ordered.test)
    rows = {place: row for row, place in enumerate(places)}
    later = len(ordered.train) + len(ordered.val)
    with contextlib.ExitStack() as files_open:
        arrays = _Arrays(folder, later, len(places) - later, target.side, files_open)
        record = files_open.enter_context(_Record(folder, arrays, len(places), target))
        if record.done:
            say(f"going on with {len(record.done):,} of {len(places):,} images decoded before.")
        todo = ((m, rows[p]) for m, p in files if p in rows and rows[p] not in record.done)
        damaged = _decode_all(todo, record, arrays, target, say, at_once=at_once)
        done = [record.done[row] for row in sorted(record.done)]
    check_damage(source, damaged, done)
    if len(done) < len(places):
        raise DataError(f"{source} changed while it was read; start again when it is whole.")
    return _decoded(ordered, done, target, folder)


def _decoded(ordered: Ordered, done: list[Done], target: Target, folder: Path) -> Decoded:
    count, later = len(ordered.train), len(ordered.train) + len(ordered.val)
    train, val, test = done[:count], done[count:later], done[later:]
    own, known = (frozenset(one.digest for one in part) for part in (train, [*train, *val]))
    notes = (
        *twins_note("validation", (one.digest for one in val), own),
        *twins_note("test", (one.digest for one in test), known),
        *notes_on(done, target.side, target.resize),
    )
    sizes = [one.size for one in done]
    (train_pixels, test_pixels) = (
        np.load(folder / f"{name}_images.npy", mmap_mode="r") for name in ("train", "test")
    )
    return Decoded(
        kind="images",
        classes=ordered.classes,
        train=Images(train_pixels, ordered.labels((*ordered.train, *ordered.val))),
        test=Images(test_pixels, ordered.labels(ordered.test)),
        notes=notes,
        sizes=smallest_and_largest(sizes),
        val_start=count if val else None,
        cut=target.split_seed if ordered.cut else None,
        in_place=True,
    )


def _decode_all(
    todo: Iterator[tuple[Member, int]],
    record: _Record,
    arrays: _Arrays,
    target: Target,
    say: Say,
    *,
    at_once: bool,
) -> list[str]:
    """Fills arrays and record; what is wrong with each damaged file."""
    damaged: list[str] = []
    threads = read_machine().cpus
    waiting: deque[Future[Done | str]] = deque()

    def take() -> None:
        outcome = waiting.popleft().result()
        if isinstance(outcome, str):
            damaged.append(outcome)
        else:
            record.add(outcome, say)

    # Pillow lets go of the interpreter while it decodes and resizes, so threads are enough.
    with quietly(), ThreadPoolExecutor(threads) as pool:
        for member, row in todo:
            read = _read_now(member) if at_once else member.read
            waiting.append(pool.submit(_decode_one, member.name, read, row, arrays, target))
            if len(waiting) > AHEAD * threads:
                take()
        while waiting:
            take()
    return damaged


def _read_now(member: Member) -> Callable[[], bytes]:
    content = member.read()
    return lambda: content


def _decode_one(
    name: str, read: Callable[[], bytes], row: int, arrays: _Arrays, target: Target
) -> Done | str:
    """Decodes one file and writes its pixels; what is wrong with it if it is damaged."""
    name = spelt(name)
    try:
        content = read()
        picture = decode_picture(content, target.side, target.resize)
    except (PictureError, UnreadableFileError) as error:
        reason = error.reason if isinstance(error, UnreadableFileError) else error
        return f"{name}: {reason}"
    arrays.write(row, picture.rgb)
    known = FORM_OF_SUFFIX.get(PurePosixPath(name).suffix.lower(), picture.form)
    return Done(
        row=row,
        size=picture.size,
        changes=picture.changes,
        peak=picture.peak,
        misnamed=None if known == picture.form else f"{name} ({kind_of_file(content)})",
        digest=hashlib.blake2b(picture.rgb, digest_size=8).hexdigest(),
    )


class _Arrays:
    """The .npy files of training and test images, written row by row by several threads."""

    def __init__(
        self, folder: Path, train: int, test: int, side: int, stack: contextlib.ExitStack
    ) -> None:
        self._row_bytes, self._train = 3 * side * side, train
        self.fresh = False  # whether a file had to be made anew
        shapes = {"train": (train, side, side, 3), "test": (test, side, side, 3)}
        self._files = [
            self._open(folder / f"{name}_images.npy", shape, stack)
            for name, shape in shapes.items()
        ]

    def _open(
        self, path: Path, shape: tuple[int, ...], stack: contextlib.ExitStack
    ) -> tuple[int, int]:
        """The file's descriptor, and where its pixels begin."""
        try:
            there: Uint8Array = np.load(path, mmap_mode="r")
            fits = there.shape == shape and there.dtype == np.uint8
        except (OSError, ValueError):
            fits = False
        if not fits:
            self.fresh = True
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        file = stack.enter_context(path.open("r+b"))
        return file.fileno(), os.fstat(file.fileno()).st_size - shape[0] * self._row_bytes

    def write(self, row: int, pixels: bytes) -> None:
        """Not through a map: where the disk is full, that would kill the process."""
        test = row >= self._train
        descriptor, begin = self._files[test]
        place = begin + (row - self._train * test) * self._row_bytes
        left = memoryview(pixels)
        while left:
            written = os.pwrite(descriptor, left, place)
            left, place = left[written:], place + written

    def sync(self) -> None:
        for descriptor, _ in self._files:
            os.fsync(descriptor)


class _Record:
    """What is decoded, on the disk after its pixels are."""

    def __init__(self, folder: Path, arrays: _Arrays, images: int, target: Target) -> None:
        self._arrays, self._images, self._path = arrays, images, folder / RECORD
        self._head = [VERSION, images, *target]
        self.done = {} if arrays.fresh else self._read()
        self._file = self._path.open("w", encoding="utf-8")
        self._new = list(self.done.values())
        self._file.write(json.dumps(self._head) + "\n")
        self._flush()
        self._recorded = self._said = time.monotonic()

    def _read(self) -> dict[int, Done]:
        """What an earlier process wrote; its last line may be torn."""
        done: dict[int, Done] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            head, *lines = self._path.read_text(encoding="utf-8").splitlines()
            if json.loads(head) == self._head:
                for line in lines:
                    row, size, changes, *rest = json.loads(line)
                    done[row] = Done(row, tuple(size), tuple(changes), *rest)
        return done

    def __enter__(self) -> _Record:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._flush()

    def add(self, done: Done, say: Say) -> None:
        """Notes an image; on the disk it is a few seconds later, and then with a word of it."""
        self.done[done.row] = done
        self._new.append(done)
        now = time.monotonic()
        if now - self._recorded > RECORD_SECONDS:
            self._recorded = now
            self._flush()
        tenths = 10 * len(self.done) // self._images
        if tenths > 10 * (len(self.done) - 1) // self._images and now - self._said > SAID_SECONDS:
            self._said = now
            say(f"decoded {len(self.done):,} of {self._images:,} images.")

    def _flush(self) -> None:
        self._arrays.sync()
        self._file.writelines(json.dumps(one) + "\n" for one in self._new)
        self._new = []
        self._file.flush()
        os.fsync(self._file.fileno())
