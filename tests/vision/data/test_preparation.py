"""Tests of finding the data: a path, the cache, a download, or, where allowed, the drawn set."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
from local_server import Server, archive_at, dead_url
from packing import PACKERS
from small_sets import checksums_of, python_members

from cifar_tune.errors import DataError
from cifar_tune.vision.config import DataConfig
from cifar_tune.vision.data import check, prepare, prepare_drawn
from cifar_tune.vision.data.fetch import downloaded_path
from cifar_tune.vision.data.sources import decode


def test_prepare_downloads_decodes_and_then_needs_no_network(
    server: Server, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = python_members()
    server.content = PACKERS["tar.gz"](members)
    checksums = checksums_of(members)
    small = functools.partial(decode, checksums=checksums)
    monkeypatch.setattr("cifar_tune.vision.data.preparation.decode", small)
    archive = archive_at(server.url, content=server.content)
    dataset = prepare(DataConfig(), notes.append, archive=archive)
    assert (dataset.kind, dataset.train_size, dataset.test_size) == ("cifar10-python", 100, 20)
    again = prepare(DataConfig(), notes.append, archive=archive)
    assert again == dataset
    assert len(server.ranges) == 1


def test_without_a_callback_progress_is_said_in_tenths(server: Server, notes: list[str]) -> None:
    server.content = bytes(3_000_000)
    with pytest.raises(DataError, match=r"damaged or cut short|no archive"):
        prepare(DataConfig(), notes.append, archive=archive_at(server.url, content=server.content))
    tenths = [note for note in notes if note.startswith("downloaded")]
    assert 2 <= len(tenths) <= 10
    assert tenths[-1] == "downloaded 3 of 3 MB."


def test_only_a_config_that_says_so_falls_back_to_the_drawn_set(
    notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = functools.partial(prepare_drawn, train_size=50, test_size=20)
    monkeypatch.setattr("cifar_tune.vision.data.preparation.prepare_drawn", small)
    nowhere = archive_at(dead_url())
    with pytest.raises(DataError, match="could not be downloaded"):
        prepare(DataConfig(), notes.append, archive=nowhere)
    dataset = prepare(DataConfig(fallback="drawn"), notes.append, archive=nowhere)
    assert dataset.kind == "drawn"
    assert "built-in DRAWN set, not CIFAR-10" in dataset.notes[-1]
    assert dataset.notes[-1] in notes


def test_a_dataset_is_told_by_the_path_that_was_given(
    image_tree: Path, tmp_path: Path, notes: list[str]
) -> None:
    first = prepare(DataConfig(path=str(image_tree)), notes.append)
    copy = shutil.copytree(image_tree, tmp_path / "copy", copy_function=shutil.copy2)
    second = prepare(DataConfig(path=str(copy)), notes.append)
    assert (first.source, second.source) == (str(image_tree), str(copy))
    assert second.folder == first.folder  # and is decoded once


def test_check_says_what_would_be_used_and_touches_nothing(
    image_tree: Path, private_cache: Path
) -> None:
    assert check(DataConfig(path=str(image_tree))) == f"{image_tree} holds images."
    assert check(DataConfig()).startswith("CIFAR-10 will be downloaded from https://www.cs.toronto")
    assert check(DataConfig(fallback="drawn")).endswith(", or else the built-in drawn set.")
    with pytest.raises(DataError, match="does not exist"):
        check(DataConfig(path=str(image_tree / "gone")))
    downloaded = downloaded_path()
    downloaded.parent.mkdir(parents=True)
    downloaded.write_bytes(b"")
    assert check(DataConfig()) == f"CIFAR-10 from the cache, {downloaded}."
