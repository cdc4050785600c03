"""Datasets from anywhere: archives, folders, official batches, pickles, images; decoded or refused."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import damaged_bytes, fuzz, limited, on_cases
from hypothesis import strategies as st
from PIL import Image
from vision.data.packing import PACKERS
from vision.data.small_sets import (
    binary_members,
    checksums_of,
    image_members,
    official_arrays,
    picture,
    python_members,
    write_tree,
)

from cifar_tune.errors import CifarTuneError, DataError
from cifar_tune.vision.data.archives import MIB
from cifar_tune.vision.data.dataset import Decoded
from cifar_tune.vision.data.pickles import load_arrays
from cifar_tune.vision.data.sources import decode, identify, look_at
from cifar_tune.vision.predict import read_image

SMALL = image_members(train=1)
ARCHIVES = {form: pack(SMALL) for form, pack in PACKERS.items()}
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
BATCHES = {"python": python_members(), "binary": binary_members()}
ONE_BATCH = {b"data": official_arrays(2)["data_batch_1"][0], b"labels": [1, 2]}
PICKLES = [pickle.dumps(ONE_BATCH, protocol) for protocol in range(2, 6)]
NAMES = st.one_of(
    st.sampled_from(
        [
            *SMALL, "train/cat/000.png", "./train/cat/1.png", "train//cat/1.png", "/train/cat/1.png",
            "../x/train/a/1.png", "train/../train/a/1.png", "train\\cat\\1.png", "C:/train/a/1.png",
            "train/cat/.png", "train/é/1.png", "train/\udce9/1.png", "train/a\n/1.png", "test/new/1.jpg",
            "data_batch_1", "test_batch", "data_batch_1.bin", "x" * 300, "train/" + "d/" * 60 + "1.png",
        ]
    ),
    st.text(min_size=1, max_size=12),
)  # fmt: skip


def encoded(image: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


IMAGES = [encoded(picture(1, *size), kind) for kind in FORMATS for size in ((32, 32), (40, 21))]
DAMAGED_IMAGES = st.one_of(*(damaged_bytes(image) for image in IMAGES), st.binary(max_size=60))
CONTENTS = st.one_of(st.sampled_from(IMAGES), DAMAGED_IMAGES)


def check_decoded(decoded: Decoded) -> None:
    """All that the rest of the program relies on."""
    for images in (decoded.train, decoded.test):
        assert images.images.shape == (len(images.labels), 32, 32, 3)
        assert images.images.dtype == np.uint8
        assert len(images.labels)
        assert 0 <= images.labels.min() <= images.labels.max() < len(decoded.classes)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A small dataset packed and damaged, or hostile names and contents packed in good order."""
    form = draw(st.sampled_from(sorted(PACKERS)))
    if draw(st.booleans()):
        return draw(damaged_bytes(ARCHIVES[form]))
    if draw(st.booleans()):
        return draw(st.sampled_from([b"PK\x03\x04", b"\xfd7zXZ\x00", b"\x1f\x8b", b""])) + draw(
            st.binary(max_size=600)
        )
    members = {**SMALL, **draw(st.dictionaries(NAMES, CONTENTS, max_size=3))}
    try:
        whole = PACKERS[form](members)
    except (ValueError, UnicodeError):  # a name that the packer itself does not take
        return ARCHIVES[form]
    return draw(damaged_bytes(whole)) if draw(st.booleans()) else whole


@on_cases
def test_archives(cases: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        look_at(path)
        check_decoded(decode(path))

    fuzz(cases, archives(), check)


@on_cases
def test_folders(cases: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"

    def check(members: Mapping[str, bytes]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        inside = {name: x for name, x in members.items() if _is_a_file_name(name)}
        try:
            write_tree(folder, {**SMALL, **inside})
        except OSError:  # names that this file system does not take, or a file where a folder is
            return
        identify(folder)
        look_at(folder)
        check_decoded(decode(folder))

    fuzz(cases, st.dictionaries(NAMES, CONTENTS, max_size=3), check)


def _is_a_file_name(name: str) -> bool:
    return ".." not in name and not name.startswith("/") and "\0" not in name and name.isprintable()


@on_cases
def test_official_batches_whose_checksums_are_right(cases: str, tmp_path: Path) -> None:
    python, binary = (sorted(BATCHES[kind].items()) for kind in ("python", "binary"))
    few = {name: damaged_bytes(content) for name, content in (python[0], binary[0], binary[5])}
    damaged = st.one_of(*(st.tuples(st.just(name), x) for name, x in few.items()))

    def check(case: tuple[str, bytes]) -> None:
        kind = "binary" if case[0].endswith(".bin") else "python"
        members = {**BATCHES[kind], case[0]: case[1]}
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        decoded = decode(write_tree(tmp_path / "data", members), checksums_of(members))
        check_decoded(decoded)
        with pytest.raises(DataError, match="it is damaged or changed"):
            decode(tmp_path / "data")

    fuzz(cases, damaged, check)


@on_cases
def test_pickles(cases: str) -> None:
    opcodes = st.lists(st.sampled_from([bytes([code]) for code in range(40, 150)]), max_size=12)
    made_up = opcodes.map(lambda codes: b"\x80\x04" + b"".join(codes) + b".")
    names = st.sampled_from([b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\nndarray\n"])
    hostile = st.tuples(names, made_up).map(b"".join)

    def check(content: bytes) -> None:
        assert isinstance(load_arrays(content, "batch"), dict)

    fuzz(cases, st.one_of(*map(damaged_bytes, PICKLES), made_up, hostile, st.binary()), check)


@on_cases
def test_images_to_predict(cases: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert read_image(path).shape == (32, 32, 3)

    fuzz(cases, DAMAGED_IMAGES, check)


def bombs() -> dict[str, Any]:
    """Files of some kilobytes to some megabytes that ask for gigabytes, by name."""
    huge = bytes(63 * MIB)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    many = {**SMALL, **{f"train/cat/{number}.png": huge for number in range(3)}}
    return {
        "an image of 3.6 gigapixels": PACKERS["tar"]({**SMALL, "train/cat/9.png": png}),
        "members of 63 MB of zeros": PACKERS["zip"](many),
        "a member of 65 MB of zeros": PACKERS["tar.xz"](
            {**SMALL, "train/cat/9.png": huge + bytes(2 * MIB)}
        ),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_within_its_seconds_and_bytes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(bombs()[name])
    with limited(), pytest.raises(CifarTuneError, match=r"images can't be read|bytes"):
        decode(path)


def test_a_pickle_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    """Its memo's index is 2^27: Python makes room for all that lie below."""
    with limited(), pytest.raises(DataError, match="no pickle of plain arrays"):
        load_arrays(b"\x80\x02}r" + struct.pack("<I", 1 << 27) + b"cos\nsystem\n.", "batch")
