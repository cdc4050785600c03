"""Tests of image trees: order, resizing, colours, and a name in every complaint."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from packing import PACKERS
from PIL import Image
from small_sets import encoded, image_members, picture, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data.image_files import place_of
from cifar_tune.vision.data.sources import decode, recognise


@pytest.mark.parametrize("form", PACKERS)
@pytest.mark.parametrize("prefix", ["", "./", "cifar10/"])
def test_folder_and_archives_give_equal_arrays(tmp_path: Path, form: str, prefix: str) -> None:
    members = image_members()
    folder = decode(write_tree(tmp_path / "tree", members))
    backwards = {prefix + name: members[name] for name in sorted(members, reverse=True)}
    archive = tmp_path / "archive"
    archive.write_bytes(PACKERS[form](backwards))
    assert recognise(archive) == "images"
    decoded = decode(archive)
    for one, other in ((folder.train, decoded.train), (folder.test, decoded.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
    assert decoded.classes == ("cat", "dog")
    assert decoded.train.labels.tolist() == [0] * 6 + [1] * 6
    assert np.array_equal(decoded.train.images[7], np.asarray(picture(1001)))
    assert decoded.notes == ()


def test_other_sizes_and_colours_are_converted_and_said_so(tmp_path: Path) -> None:
    members = image_members()
    members["train/cat/000.png"] = encoded(picture(1, 64, 48))
    members["train/cat/001.jpeg"] = encoded(picture(2, 500, 300), "JPEG")
    members["train/dog/000.png"] = encoded(picture(3).convert("L"))
    members["train/dog/002.PNG"] = encoded(picture(4).convert("RGBA"))
    decoded = decode(write_tree(tmp_path, members))
    assert decoded.train.images.shape == (14, 32, 32, 3)
    assert decoded.notes == (
        "2 of 18 images were resized to 32 x 32 pixels.",
        "2 of 18 images were converted to RGB.",
    )


def test_other_files_among_the_images_are_left_out_and_said_so(tmp_path: Path) -> None:
    members = {**image_members(), "train/cat/7.webp": b"", "train/cat/.hidden": b"", "a.txt": b""}
    decoded = decode(write_tree(tmp_path, members))
    assert decoded.notes == (
        "1 files are neither PNG nor JPEG and were left out, like train/cat/7.webp.",
    )


def test_resizing_keeps_the_picture(tmp_path: Path) -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 200
    members = {**image_members(), "train/cat/000.png": encoded(Image.fromarray(halves))}
    image = decode(write_tree(tmp_path, members)).train.images[0]
    assert image[:, :14].max() <= 2
    assert image[:, 18:].min() >= 198


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("train/cat/1.png", ("train", "cat", "1.png")),
        ("./test/cat/1.JPG", ("test", "cat", "1.JPG")),
        ("root/train/cat/1.jpeg", ("train", "cat", "1.jpeg")),
        ("a/b/train/cat/1.png", None),
        ("train/cat/deep/1.png", None),
        ("val/cat/1.png", None),
        ("train/cat/1.gif", None),
        ("train/cat/._1.png", None),
        ("train/1.png", None),
    ],
)
def test_split_and_class_are_read_off_the_path(name: str, place: tuple[str, ...] | None) -> None:
    assert place_of(name) == place


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    whole = encoded(picture(1))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    jpeg = encoded(picture(1), "JPEG")
    for content in (whole[:200], bytes(flipped), b"", b"hello", jpeg[:400]):
        members = {**image_members(), "train/dog/003.png": content}
        with pytest.raises(DataError, match=r"train/dog/003\.png can't be decoded \("):
            decode(write_tree(tmp_path, members))


def test_formats_that_only_pretend_are_refused(tmp_path: Path) -> None:
    members = {**image_members(), "train/dog/003.png": encoded(picture(1), "GIF")}
    with pytest.raises(DataError, match=r"train/dog/003\.png can't be decoded"):
        decode(write_tree(tmp_path, members))


@pytest.mark.parametrize("side", [5000, 12_000])
def test_a_pixel_bomb_is_not_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    members = {**image_members(), "test/dog/000.png": bomb}
    with pytest.raises(DataError, match=r"test/dog/000\.png can't be decoded \(.*pixels"):
        decode(write_tree(tmp_path, members))


def test_a_class_that_only_the_test_has_is_refused(tmp_path: Path) -> None:
    members = {**image_members(), "test/horse/1.png": encoded(picture(1))}
    with pytest.raises(DataError, match="test/ has classes that train/ has not: horse"):
        decode(write_tree(tmp_path, members))


def test_one_class_or_no_test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 1 classes in train/ and 1 in test/"):
        decode(write_tree(tmp_path / "one", image_members(("cat",))))
    train = {name: data for name, data in image_members().items() if name.startswith("train")}
    with pytest.raises(DataError, match=r"has 2 classes in train/ and 0 in test/"):
        decode(write_tree(tmp_path / "no test", train))


def test_the_same_image_twice_is_refused(tmp_path: Path) -> None:
    members = image_members()
    members["other/train/cat/000.png"] = members["train/cat/000.png"]
    archive = tmp_path / "a.tar"
    archive.write_bytes(PACKERS["tar"](members))
    with pytest.raises(DataError, match=r"train/cat/000\.png is there twice"):
        decode(archive)


@pytest.mark.skipif(
    not os.environ.get("CIFAR_TUNE_TEST_DATA"), reason="CIFAR_TUNE_TEST_DATA names no archive"
)
def test_the_real_images_decode() -> None:
    decoded = decode(Path(os.environ["CIFAR_TUNE_TEST_DATA"]))
    assert np.array_equal(np.bincount(decoded.train.labels), np.full(10, 5000))
    assert np.array_equal(np.bincount(decoded.test.labels), np.full(10, 1000))
    assert decoded.classes[0] == "airplane"
    assert decoded.notes == ()
    mean = decoded.train.images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, (0.491, 0.482, 0.447), atol=0.001)
