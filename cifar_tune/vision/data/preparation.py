"""Finds the dataset that a config asks for and brings it, decoded once, into the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cifar_tune.errors import DataError
from cifar_tune.vision.config import DataConfig
from cifar_tune.vision.data.cache import find_cache_root, get_or_decode, has_entry
from cifar_tune.vision.data.dataset import Dataset
from cifar_tune.vision.data.drawn import TEST_SIZE, TRAIN_SIZE, draw, drawn_identity
from cifar_tune.vision.data.fetch import (
    CIFAR10_PYTHON,
    Archive,
    Progress,
    download,
    downloaded_path,
)
from cifar_tune.vision.data.sources import decode, identify, recognise

Note = Callable[[str], None]


def prepare(
    config: DataConfig,
    on_note: Note,
    on_progress: Progress | None = None,
    archive: Archive = CIFAR10_PYTHON,
) -> Dataset:
    """Returns the dataset of `data.path`, or official CIFAR-10 from the cache or by download.

    Where that can't be had and `data.fallback` is "drawn", the built-in drawn set. `on_note` is
    told, in sentences, what a user should know; what lasts stands in the dataset's `notes` too.
    `on_progress` gets a download's bytes; without it `on_note` is told every tenth.
    Raises DataError where the data is missing, damaged or can't be had.
    """
    root = find_cache_root()
    if root.note:
        on_note(root.note)
    dataset = _find(config, root.path, on_note, on_progress or _every_tenth(on_note), archive)
    for note in dataset.notes:
        on_note(note)
    return replace(dataset, notes=((root.note,) if root.note else ()) + dataset.notes)


def prepare_drawn(
    on_note: Note, train_size: int = TRAIN_SIZE, test_size: int = TEST_SIZE
) -> Dataset:
    """Returns the drawn set from the cache, drawn at its first use; smaller ones suit tests."""
    root, identity = find_cache_root().path, drawn_identity(train_size, test_size)
    if not has_entry(root, identity):
        on_note(f"drawing {train_size + test_size:,} images into the cache {root}; done once.")
    return get_or_decode(
        root,
        identity,
        "built-in drawn set",
        lambda: draw(train_size, test_size),
        on_note,
    )


def check(config: DataConfig) -> str:
    """Says in one sentence what `prepare` would use, without decoding or downloading anything.

    Raises DataError where `data.path` is not there, not readable, or has neither layout.
    """
    if config.path is not None:
        path = Path(config.path)
        return f"{path} holds {recognise(path)}."
    downloaded = downloaded_path()
    if downloaded.exists():
        return f"CIFAR-10 from the cache, {downloaded}."
    otherwise = ", or else the built-in drawn set" if config.fallback == "drawn" else ""
    return f"CIFAR-10 will be downloaded from {CIFAR10_PYTHON.urls[0]}{otherwise}."


def _find(
    config: DataConfig, root: Path, on_note: Note, on_progress: Progress, archive: Archive
) -> Dataset:
    if config.path is not None:
        return _from_path(Path(config.path), root, on_note)
    if not downloaded_path(archive, root).exists():
        on_note(f"CIFAR-10 is not in the cache; asking {archive.urls[0]} for it.")
    try:
        downloaded = download(on_progress, on_note, archive, root)
    except DataError as error:
        if config.fallback != "drawn":
            raise
        dataset = prepare_drawn(on_note)
        note = f"this is the built-in DRAWN set, not CIFAR-10: {error}"
        return replace(dataset, notes=(*dataset.notes, note))
    return _from_path(downloaded, root, on_note)


def _from_path(path: Path, root: Path, on_note: Note) -> Dataset:
    identity = identify(path)
    if not has_entry(root, identity):
        on_note(f"decoding {path} into the cache {root}; done once.")
    dataset = get_or_decode(root, identity, str(path), lambda: decode(path), on_note)
    return replace(dataset, source=str(path))  # it may have been decoded from a copy elsewhere


def _every_tenth(on_note: Note) -> Progress:
    """Progress as a sentence at each tenth of the way: fit for a pipe or a log file."""
    said = 0

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal said
        tenths = 10 * done_bytes // max(total_bytes, 1)
        if tenths > said:
            said = tenths
            on_note(f"downloaded {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB.")

    return on_progress
