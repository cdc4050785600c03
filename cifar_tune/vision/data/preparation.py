"""Finds the dataset that a config asks for and brings it, decoded once, into the user's cache."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cifar_tune.errors import DataError
from cifar_tune.plan.task import Facts, Say
from cifar_tune.vision.data.cache import find_cache_root, get_or_decode, known_entry
from cifar_tune.vision.data.dataset import Dataset, Decoded, Kind
from cifar_tune.vision.data.decoding import Target
from cifar_tune.vision.data.drawn import TEST_SIZE, TRAIN_SIZE, draw, drawn_identity
from cifar_tune.vision.data.fetch import (
    CIFAR10_PYTHON,
    Archive,
    Progress,
    download,
    downloaded_path,
)
from cifar_tune.vision.data.found import KINDS, Found, found
from cifar_tune.vision.data.sources import (
    Seen,
    decode,
    identify,
    look_at,
    official_seen,
    survey,
)
from cifar_tune.vision.data.stored import DamagedEntryError, class_counts
from cifar_tune.vision.data_config import SIDE, DataConfig


def prepare(config: DataConfig, on_note: Say, archive: Archive = CIFAR10_PYTHON) -> Dataset:
    """Returns the dataset of `data.path`, or official CIFAR-10 from the cache or by download.

    Where that can't be had and `data.fallback` is "drawn", the built-in drawn set. `on_note` is
    told, in sentences, what was understood and what a user should know, and every tenth of a
    download; what lasts of it stands in the dataset's `notes` too.
    Raises DataError where the data is missing, damaged or can't be had, or the splits do not fit.
    """
    root = find_cache_root()
    if root.note:
        on_note(root.note)
    dataset = _find(config, root.path, on_note, archive)
    for sentence in _describe_decoded(dataset, config).sentences:
        on_note(sentence)
    notes = (root.note, *dataset.notes) if root.note else dataset.notes
    return dataset.model_copy(update={"notes": notes})


def prepare_drawn(
    on_note: Say, train_size: int = TRAIN_SIZE, test_size: int = TEST_SIZE, side: int = SIDE
) -> Dataset:
    """Returns the drawn set from the cache, drawn at its first use; smaller ones suit tests."""
    root, identity = find_cache_root().path, drawn_identity(train_size, test_size)
    identity = identity.of(side, "squash", None)

    def drawn(_folder: Path) -> Decoded:
        on_note(f"drawing {train_size + test_size:,} images into the cache {root}; done once.")
        return draw(train_size, test_size)

    return get_or_decode(root, identity, "built-in drawn set", drawn, on_note, side)


def describe(config: DataConfig, recorded: Facts | None = None) -> Found:
    """Finds out what `prepare` would use, without decoding or downloading anything.

    What was decoded before is known to the image; of other sources the names of all files are read.

    Args:
        recorded: the facts of a search that goes on, whose image size it keeps.

    Raises:
        DataError: what `prepare` and the splits would raise, as far as names tell: `data.path` is
            not there, can't be read, has neither layout, or lacks a class, a split or a batch, or
            the splits do not fit.
    """
    if recorded and config.image_size == "auto":
        config = config.model_copy(update={"image_size": recorded.get("image_size", SIDE)})
    if config.path is not None:
        return _describe_path(Path(config.path), config)
    downloaded = downloaded_path()
    otherwise = ", or else the built-in drawn set" if config.fallback == "drawn" else ""
    where = f"CIFAR-10 will be downloaded from {CIFAR10_PYTHON.urls[0]}{otherwise}"
    if downloaded.exists():
        where = _holds(str(downloaded), "cifar10-python")
    return found(where, official_seen("cifar10-python"), config)


def _describe_path(path: Path, config: DataConfig) -> Found:
    with contextlib.suppress(DamagedEntryError):
        if known := known_entry(find_cache_root().path, identify(path), config):
            return _describe_decoded(known, config)
    seen = look_at(path, config.split_seed)
    return found(_holds(str(path), seen.kind), seen, config)


def _describe_decoded(dataset: Dataset, config: DataConfig) -> Found:
    seen = Seen(
        dataset.kind,
        dataset.classes,
        class_counts(dataset, "train"),
        class_counts(dataset, "test"),
        dataset.notes,
        dataset.sizes,
        val=class_counts(dataset, "val") if dataset.val_given else (),
        suggested=dataset.image_size,
    )
    return found(_holds(dataset.source, dataset.kind), seen, config)


def _holds(source: str, kind: Kind) -> str:
    return KINDS[kind] if kind == "drawn" else f"{source} holds {KINDS[kind]}"


def _find(config: DataConfig, root: Path, on_note: Say, archive: Archive) -> Dataset:
    if config.path is not None:
        return _from_path(Path(config.path), config, root, on_note)
    if not downloaded_path(archive, root).exists():
        on_note(f"CIFAR-10 is not in the cache; asking {archive.urls[0]} for it.")
    try:
        downloaded = download(_every_tenth(on_note), on_note, archive, root)
    except DataError as error:
        if config.fallback != "drawn":
            raise
        dataset = prepare_drawn(on_note, side=config.side)
        note = f"this is the built-in DRAWN set, not CIFAR-10: {error}"
        return dataset.model_copy(update={"notes": (*dataset.notes, note)})
    return _from_path(downloaded, config, root, on_note)


def _from_path(path: Path, config: DataConfig, root: Path, on_note: Say) -> Dataset:
    identity, surveyed = identify(path), None
    if known := known_entry(root, identity, config):
        side, cut = known.image_size, known.cut
    else:
        surveyed = survey(path)
        seen = look_at(path, config.split_seed, surveyed)
        side = seen.suggested if config.image_size == "auto" else config.side
        cut = config.split_seed if seen.cut else None

    def decoded(folder: Path) -> Decoded:
        on_note(f"decoding {path} into the cache {root}; done once.")
        target = Target(side, config.resize, config.split_seed)
        return decode(path, target=target, folder=folder, say=on_note, surveyed=surveyed)

    key = identity.of(side, config.resize, cut)
    dataset = get_or_decode(root, key, str(path), decoded, on_note, side, config.resize)
    # It may have been decoded through a link elsewhere.
    return dataset.model_copy(update={"source": str(path)})


def _every_tenth(on_note: Say) -> Progress:
    """Progress as a sentence at each tenth of the way: fit for a pipe or a log file."""
    said = 0

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal said
        tenths = 10 * done_bytes // max(total_bytes, 1)
        if tenths > said:
            said = tenths
            on_note(f"downloaded {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB.")

    return on_progress
