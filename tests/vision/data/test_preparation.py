"""Tests of finding the data: a path, the cache, a download, or, where allowed, the drawn set."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from local_server import Server, archive_at, dead_url
from vision.data.packing import PACKERS
from vision.data.small_sets import (
    checksums_of,
    encoded,
    image_members,
    picture,
    python_members,
    write_tree,
)

from cifar_tune.errors import DataError
from cifar_tune.vision.data import describe, prepare, prepare_drawn
from cifar_tune.vision.data.fetch import downloaded_path
from cifar_tune.vision.data.sources import decode
from cifar_tune.vision.data_config import DataConfig


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
    link = tmp_path / "elsewhere" / image_tree.name
    link.parent.mkdir()
    link.symlink_to(image_tree)
    second = prepare(DataConfig(path=str(link)), notes.append)
    assert (first.source, second.source) == (str(image_tree), str(link))
    assert second.folder == first.folder  # and is decoded once


def test_what_is_found_is_said_in_a_line_and_nothing_is_touched(
    image_tree: Path, private_cache: Path
) -> None:
    line = (
        f"{image_tree} holds images: 2 classes (cat, dog) with 12 training images (6 of each"
        " class) and 4 test images (2 of each class); of the training images 2 are for"
        " validation, 2 for confirmation, 8 are trained on."
    )
    config = DataConfig(path=str(image_tree))
    assert describe(config).sentences == (line, "Images of 32 x 32 pixels.")
    assert not list(private_cache.glob("entries/*"))
    line = describe(DataConfig()).sentences[0]
    assert line.startswith("CIFAR-10 will be downloaded from https://www.cs.toronto")
    line = describe(DataConfig(fallback="drawn")).sentences[0]
    assert ", or else the built-in drawn set: 10 classes" in line
    downloaded = downloaded_path()
    downloaded.parent.mkdir(parents=True)
    downloaded.write_bytes(b"")
    line = describe(DataConfig()).sentences[0]
    assert line.startswith(f"{downloaded} holds CIFAR-10: 10 classes (airplane, ")
    assert "50,000 training images (5,000 of each class)" in line
    assert "5,000 are for validation, 5,000 for confirmation, 40,000 are" in line


def test_what_is_found_tells_the_classes_and_settles_the_sizes(image_tree: Path) -> None:
    found = describe(DataConfig(path=str(image_tree), val_size=0.25, confirm_size=0))
    assert (found.classes, found.train_size) == (("cat", "dog"), 9)
    assert (found.config.val_size, found.config.confirm_size) == (3, 0)


@pytest.mark.parametrize("form", ["folder", "zip", "tar.xz"])
def test_the_start_says_what_was_found_before_and_what_decoding_told(
    tmp_path: Path, notes: list[str], form: str
) -> None:
    members = {
        **image_members(),
        "train/cat/.b/1.png": b"",
        "train/dog/z.png": encoded(picture(1, 9, 7)),
    }
    path = write_tree(tmp_path / "x", members) if form == "folder" else tmp_path / "archive"
    if form != "folder":
        path.write_bytes(PACKERS[form](members))
    config = DataConfig(path=str(path))
    before = describe(config).sentences
    dataset = prepare(config, notes.append)
    assert [line for line in notes if line not in before] == [
        f"decoding {path} into the cache {tmp_path / 'cache'}; done once.",
        "1 of 17 images were resized to 32 x 32 pixels.",
    ]
    assert set(before) <= set(notes)
    assert set(dataset.notes) < set(notes)
    assert describe(config).sentences == tuple(notes[1:])  # now from the cache, with all of it


def small_sets() -> dict[str, tuple[dict[str, bytes], str]]:
    """Datasets that no start takes, with a part of what is said, by name."""
    whole = image_members()
    return {
        "one class": (image_members(("cat",)), "has 1 classes in train/ and 1 in test/"),
        "unknown class": (
            {**whole, "test/cow/1.png": b""},
            "test/ has classes that train/ has not",
        ),
        "both": ({**whole, "test_batch.bin": b""}, "holds both cifar10-binary and images"),
        "half": (
            {"cifar-10-batches-py/data_batch_1": b"x"},
            "is cifar10-python without data_batch_2",
        ),
        "nothing": ({"train/readme.txt": b"", "x.png": b""}, "no dataset was recognised"),
        "tiny": (image_members(train=1), "leaves 0 of 2 training images"),
    }


@pytest.mark.parametrize("name", small_sets())
def test_check_refuses_what_the_start_would_refuse(
    tmp_path: Path, notes: list[str], name: str
) -> None:
    members, said = small_sets()[name]
    config = DataConfig(path=str(write_tree(tmp_path / "set", members)))
    with pytest.raises(DataError, match=said):
        describe(config)
    with pytest.raises(DataError, match=f"{said}|has sha"):
        prepare(config, notes.append)


def test_check_refuses_splits_that_are_too_large(image_tree: Path, notes: list[str]) -> None:
    config = DataConfig(path=str(image_tree), val_size=5000)
    for call in (
        describe,
        lambda config: prepare(config, notes.append),
        describe,
    ):  # and from the cache
        with pytest.raises(DataError, match=r"is 5000 \+ 2, which leaves -4990 of 12 training"):
            call(config)


def test_a_class_too_small_for_its_split_is_a_note(tmp_path: Path) -> None:
    members = {**image_members(train=40), "train/yak/1.png": encoded(picture(1))}
    found = describe(DataConfig(path=str(write_tree(tmp_path, members))))
    line, _, *small = found.sentences
    assert "81 training images (1 of yak to 40 of cat)" in line
    assert "Too small: no test image is of yak." in small
    assert {note for note in small if "yak" in note} >= {
        "Too small: no validation image is of yak.",
        "Too small: no confirmation image is of yak.",
    }


def test_a_path_that_is_no_utf_8_is_refused(image_tree: Path) -> None:
    moved = image_tree.rename(image_tree.with_name("caf\udce9"))
    with pytest.raises(DataError, match=r"caf\\xe9, no name in UTF-8; rename it"):
        describe(DataConfig(path=str(moved)))


def test_what_is_missing_is_refused(image_tree: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        describe(DataConfig(path=str(image_tree / "gone")))
