"""Tests of the official distributions, python and binary, on small files with their checksums."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vision.data.packing import laid, tar_bytes
from vision.data.small_sets import (
    BATCHES,
    binary_members,
    checksums_of,
    official_arrays,
    python_members,
    write_tree,
)

from cifar_tune.errors import DataError
from cifar_tune.vision.data.official import CHECKSUMS, CLASSES
from cifar_tune.vision.data.sources import decode, look_at

FORMS: dict[str, tuple[str, Callable[[], dict[str, bytes]]]] = {
    "cifar10-python": ("cifar-10-batches-py", python_members),
    "cifar10-binary": ("cifar-10-batches-bin", binary_members),
}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("place", ["folder", "folder above", "tar.gz", "zip"])
def test_both_distributions_give_their_pixels(kind: str, place: str, tmp_path: Path) -> None:
    folder, make = FORMS[kind]
    members = make()
    beside = {"readme.html": b"not checked and not read"}
    path = laid(tmp_path / "data", folder, members | beside, place)
    assert look_at(path).kind == kind
    decoded = decode(path, checksums_of(members))
    assert decoded.kind == kind
    assert decoded.classes == CLASSES["cifar10-python"]
    check_pixels(decoded.test.images, decoded.test.labels, "test_batch")
    for number, name in enumerate(BATCHES[:5]):
        part = slice(20 * number, 20 * number + 20)
        check_pixels(decoded.train.images[part], decoded.train.labels[part], name)


def check_pixels(images: np.ndarray, labels: np.ndarray, name: str) -> None:
    pixels, expected = official_arrays()[name]
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.array_equal(labels, expected)
    assert images[3, 5, 7].tolist() == [pixels[3, c * 1024 + 5 * 32 + 7] for c in range(3)]
    assert np.array_equal(images.transpose(0, 3, 1, 2).reshape(20, 3072), pixels)


@pytest.mark.parametrize("kind", FORMS)
def test_one_flipped_bit_is_refused_with_both_checksums(kind: str, tmp_path: Path) -> None:
    members = FORMS[kind][1]()
    checksums = checksums_of(members)
    name = sorted(members)[2]
    damaged = bytearray(members[name])
    damaged[500] ^= 1
    write_tree(tmp_path, {**members, name: bytes(damaged)})
    got = hashlib.sha256(damaged).hexdigest()
    expected = hashlib.sha256(members[name]).hexdigest()
    with pytest.raises(DataError, match=f"{name} has sha256 {got}, but .* {expected}"):
        decode(tmp_path, checksums)


def test_by_default_only_the_published_files_are_taken(tmp_path: Path) -> None:
    write_tree(tmp_path, python_members())
    with pytest.raises(DataError, match=CHECKSUMS["cifar10-python"]["data_batch_1"]):
        decode(tmp_path)
    (tmp_path / "bin").mkdir()
    write_tree(tmp_path / "bin", binary_members())
    with pytest.raises(DataError, match=CHECKSUMS["cifar10-binary"]["data_batch_1.bin"]):
        decode(tmp_path / "bin")


def test_a_hostile_batch_never_runs_even_under_a_right_checksum(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.system, (f"touch {canary}",))

    members = {**python_members(), "data_batch_1": pickle.dumps({b"data": Hostile()}, 2)}
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(members)))
    with pytest.raises(DataError, match="data_batch_1 has sha256"):
        decode(path)
    with pytest.raises(DataError, match="data_batch_1 is no pickle of plain arrays"):
        decode(path, checksums_of(members))
    assert not canary.exists()


@pytest.mark.parametrize("kind", FORMS)
def test_a_missing_batch_is_named(kind: str, tmp_path: Path) -> None:
    members = FORMS[kind][1]()
    missing = sorted(members)[3]
    checksums = checksums_of(members)
    write_tree(tmp_path, {name: data for name, data in members.items() if name != missing})
    with pytest.raises(
        DataError, match=f"is {kind} without {missing}; the distribution has data_batch_1"
    ):
        decode(tmp_path, checksums)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "data_batch_1",
            pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [0, 1]}),
            "shape",
        ),
        (
            "data_batch_1",
            pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}),
            "label",
        ),
        ("data_batch_1", pickle.dumps({}), "shape"),
        ("data_batch_1.bin", bytes(3000), "has 3000 bytes; records have 3073"),
        ("data_batch_1.bin", b"\x0b" + bytes(3072), "label outside 0 to 9"),
    ],
)
def test_arrays_that_are_not_cifar_10s_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    members = binary_members() if name.endswith(".bin") else python_members()
    members[name] = content
    write_tree(tmp_path, members)
    with pytest.raises(DataError, match=message):
        decode(tmp_path, checksums_of(members))


def test_both_distributions_at_once_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path / "cifar-10-batches-py", python_members())
    write_tree(tmp_path / "cifar-10-batches-bin", binary_members())
    checksums = checksums_of({**python_members(), **binary_members()})
    with pytest.raises(DataError, match="holds both cifar10-binary and cifar10-python"):
        decode(tmp_path, checksums)
