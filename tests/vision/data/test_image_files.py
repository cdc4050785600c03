"""Tests of image trees: order, resizing, colours, and a name in every complaint."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vision.data.packing import PACKERS
from vision.data.small_sets import encoded, image_members, picture, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data.sources import decode, look_at


@pytest.mark.parametrize("form", PACKERS)
@pytest.mark.parametrize("prefix", ["", "./", "cifar10/"])
def test_folder_and_archives_give_equal_arrays(tmp_path: Path, form: str, prefix: str) -> None:
    members = image_members()
    folder = decode(write_tree(tmp_path / "tree", members))
    backwards = {prefix + name: members[name] for name in sorted(members, reverse=True)}
    archive = tmp_path / "archive"
    archive.write_bytes(PACKERS[form](backwards))
    assert look_at(archive) == look_at(tmp_path / "tree")
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
    assert decoded.sizes == ((32, 32), (500, 300))
    assert decoded.notes == (
        "2 of 18 images were resized to 32 x 32 pixels.",
        "1 of 18 images were converted to RGB.",
        "1 of 18 images were laid on white, for they have transparency.",
    )


def test_resizing_keeps_the_picture(tmp_path: Path) -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 200
    members = {**image_members(), "train/cat/000.png": encoded(Image.fromarray(halves))}
    image = decode(write_tree(tmp_path, members)).train.images[0]
    assert image[:, :14].max() <= 2
    assert image[:, 18:].min() >= 198


def damaged_files() -> dict[str, tuple[bytes, str]]:
    """Contents that are no picture, by name, with a part of what is said of each."""
    whole, jpeg = encoded(picture(1)), encoded(picture(1), "JPEG")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    return {
        "cut.png": (whole[:200], "a PNG picture that is damaged (image file is truncated"),
        "flipped.png": (bytes(flipped), "a PNG picture that is damaged"),
        "head.jpg": (jpeg[:20], "a JPEG picture that can't be read here"),
        "half.jpg": (jpeg[:400], "a JPEG picture that is damaged ("),
        "nothing.png": (b"", "empty"),
        "text.png": (b"hello", "a text"),
        "page.jpg": (b"\n<!DOCTYPE html><p>404 Not found", "an HTML page"),
    }


def test_damaged_images_are_all_named_with_what_they_are(tmp_path: Path) -> None:
    damaged = {f"train/dog/{name}": content for name, (content, _) in damaged_files().items()}
    with pytest.raises(DataError, match="7 of 23 images can't be read") as refused:
        decode(write_tree(tmp_path, image_members() | damaged))
    _, *lines = str(refused.value).splitlines()
    for line, (name, (_, said)) in zip(lines, sorted(damaged_files().items()), strict=True):
        assert line.startswith(f"  train/dog/{name}: {said}")
    assert " at 0x" not in str(refused.value)


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_of_many_damaged_images_ten_are_named_and_the_rest_counted(
    tmp_path: Path, form: str
) -> None:
    archive = tmp_path / "archive"
    damaged = {f"test/cat/a{number:02}.gif": b"" for number in range(13)}
    archive.write_bytes(PACKERS[form](image_members() | damaged))
    with pytest.raises(DataError, match="13 of 29 images can't be read") as refused:
        decode(archive)
    _, *lines, last = str(refused.value).splitlines()
    assert lines == [f"  test/cat/a{number:02}.gif: empty" for number in range(10)]
    assert last == "  and 3 more"


def test_a_picture_is_read_as_what_it_is_and_not_as_its_name_says(tmp_path: Path) -> None:
    odd = Image.effect_noise((32, 32), 60).convert("RGB")
    members = {**image_members(), "train/dog/003.png": encoded(odd, "BMP")}
    decoded = decode(write_tree(tmp_path, members))
    assert np.array_equal(decoded.train.images[9], np.asarray(odd))
    assert decoded.notes == (
        "1 file was read as what it is, not as the name says: train/dog/003.png (a BMP picture).",
    )
    (tmp_path / "train" / "cat" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\n1 file was read as what it is"):
        decode(tmp_path)


def test_16_bits_that_are_hardly_used_are_told(tmp_path: Path) -> None:
    twelve_bits = Image.fromarray(np.full((32, 32), 4095, np.uint16))
    members = {
        f"{split}/{name}/1.png": encoded(twelve_bits)
        for split in ("train", "test")
        for name in "ab"
    }
    notes = decode(write_tree(tmp_path, members)).notes
    assert notes[-1].startswith("No 16-bit image gets beyond 6% of its range: they are dark")


@pytest.mark.parametrize("side", [9000, 12_000, 20_000])
def test_a_pixel_bomb_is_not_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    members = {**image_members(), "test/dog/000.png": bomb}
    with pytest.raises(DataError, match=r"test/dog/000\.png: .* at most 64 million pixels"):
        decode(write_tree(tmp_path, members))


def test_a_class_that_only_the_test_has_is_refused(tmp_path: Path) -> None:
    members = {**image_members(), "test/horse/1.png": encoded(picture(1))}
    with pytest.raises(DataError, match="test/ has classes that train/ has not: horse"):
        decode(write_tree(tmp_path, members))


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 1 classes in train/ and 1 in test/"):
        decode(write_tree(tmp_path / "one", image_members(("cat",))))


def test_the_same_image_twice_is_refused(tmp_path: Path) -> None:
    members = image_members()
    members["other/train/cat/000.png"] = members["train/cat/000.png"]
    archive = tmp_path / "a.tar"
    archive.write_bytes(PACKERS["tar"](members))
    with pytest.raises(DataError, match=r"train/cat/000\.png is there twice"):
        decode(archive)


@pytest.mark.faults  # it takes half a minute; nothing is damaged
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
