"""Tests of telling apart what lies at a path, and of noticing that it changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vision.data.small_sets import write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data.sources import decode, identify, look_at


def test_a_missing_path_is_refused_with_the_layouts(tmp_path: Path) -> None:
    for function in (look_at, decode, identify):
        with pytest.raises(DataError, match=r"gone, which does not exist\. Give the official"):
            function(tmp_path / "gone")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    for function in (look_at, decode, identify):
        with pytest.raises(DataError, match=r"an empty folder\. Give the official CIFAR-10"):
            function(tmp_path)


def test_a_folder_with_neither_layout_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, {"notes.txt": b"x", "cats/1.png": b"x"})
    for function in (look_at, decode):
        with pytest.raises(DataError, match="in which no dataset was recognised"):
            function(tmp_path)


def test_images_and_batches_together_are_refused(image_tree: Path) -> None:
    write_tree(image_tree, {"data_batch_1.bin": b"x"})
    with pytest.raises(DataError, match=r"holds both|data_batch_1\.bin has sha1"):
        decode(image_tree)


def test_a_key_changes_with_a_files_time_and_a_listing_does_not(image_tree: Path) -> None:
    before = identify(image_tree)
    assert identify(image_tree) == before
    os.utime(image_tree / "train" / "cat" / "000.png", (1, 1))
    touched = identify(image_tree)
    assert touched.key != before.key
    assert touched.listing == before.listing
    (image_tree / "train" / "cat" / "000.png").unlink()
    assert identify(image_tree).listing != before.listing


def test_files_that_can_not_be_read_are_named_with_the_damaged_ones(image_tree: Path) -> None:
    cats = image_tree / "train" / "cat"
    (cats / "link.png").symlink_to(image_tree / "gone.png")
    (cats / "loop.png").symlink_to("loop.png")
    os.mkfifo(cats / "pipe.png")
    (cats / "notes.txt").symlink_to(image_tree / "gone.txt")  # nobody reads it
    assert identify(image_tree) == identify(image_tree)
    with pytest.raises(DataError, match="3 of 19 images can't be read") as refused:
        decode(image_tree)
    *_, link, loop, pipe = str(refused.value).splitlines()
    assert link == "  train/cat/link.png: a link to what is not there"
    assert loop.startswith("  train/cat/loop.png: too many levels of symbolic links")
    assert pipe == "  train/cat/pipe.png: no plain file"


def test_a_copy_elsewhere_is_another_source(image_tree: Path, tmp_path: Path) -> None:
    before = identify(image_tree)
    moved = image_tree.rename(tmp_path / "moved")
    assert identify(moved).key != before.key


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe, which is no file or folder"):
        look_at(tmp_path / "pipe")
