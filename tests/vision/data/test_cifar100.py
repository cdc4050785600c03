"""CIFAR-100, python and binary: the fine labels, under the checksums of its files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from vision.data.packing import laid
from vision.data.small_sets import image_members, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data import describe
from cifar_tune.vision.data.official import CHECKSUMS, CLASSES, OfficialKind
from cifar_tune.vision.data.sources import decode, look_at
from cifar_tune.vision.data_config import DataConfig

KINDS: tuple[OfficialKind, ...] = ("cifar100-python", "cifar100-binary")


def arrays() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels [n, 3072], fine and coarse labels [n], of training and test."""
    generator = np.random.default_rng(5)
    return {
        name: (
            generator.integers(0, 256, (images, 3072), np.uint8),
            generator.permutation(np.arange(images) % 100),
            generator.integers(0, 20, images),
        )
        for name, images in (("train", 200), ("test", 100))
    }


def members_of(kind: str) -> dict[str, bytes]:
    """The files as the official distribution has them, with others beside."""
    if kind == "cifar100-python":
        found = {
            name: pickle.dumps(
                {b"data": pixels, b"fine_labels": fine.tolist(), b"coarse_labels": coarse.tolist()},
                2,
            )
            for name, (pixels, fine, coarse) in arrays().items()
        }
        return {**found, "meta": pickle.dumps({b"fine_label_names": []}, 2), "file.txt~": b""}
    return {
        "coarse_label_names.txt": b"fish\n",
        **{
            f"{name}.bin": np.hstack(
                [coarse[:, None].astype(np.uint8), fine[:, None].astype(np.uint8), pixels]
            ).tobytes()
            for name, (pixels, fine, coarse) in arrays().items()
        },
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["folder", "folder above", "tar.gz", "zip"])
def test_both_distributions_give_pixels_and_fine_labels(
    kind: OfficialKind, place: str, tmp_path: Path
) -> None:
    members, folder = members_of(kind), f"cifar-100-{kind.split('-')[1]}"
    path = laid(tmp_path / "data", folder, members, place)
    seen = look_at(path)
    assert (seen.kind, sum(seen.train), sum(seen.test)) == (kind, 50_000, 10_000)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    decoded = decode(path, {**CHECKSUMS, kind: sums})
    assert decoded.classes == CLASSES[kind]
    for name, part in (("train", decoded.train), ("test", decoded.test)):
        pixels, fine, _ = arrays()[name]
        assert np.array_equal(part.labels, fine)
        assert np.array_equal(part.images.transpose(0, 3, 1, 2).reshape(len(fine), 3072), pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_files_with_other_checksums_are_refused(kind: OfficialKind, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has (md5|sha1) \w+, but the official file has \w+"):
        decode(write_tree(tmp_path, members_of(kind)))


def test_checksums_and_names_are_those_of_torchvision() -> None:
    from torchvision.datasets import CIFAR100

    files = CHECKSUMS["cifar100-python"]
    assert dict(CIFAR100.train_list + CIFAR100.test_list) == files
    names = CLASSES["cifar100-python"]
    assert len(set(names)) == 100
    assert list(names) == sorted(names)


def test_it_is_called_by_its_name(tmp_path: Path) -> None:
    found = describe(DataConfig(path=str(write_tree(tmp_path, members_of("cifar100-python")))))
    assert "holds CIFAR-100: 100 classes (apple, aquarium_fish," in found.sentences[0]
    assert "50,000 training images (500 of each class)" in found.sentences[0]
    assert found.config.image_size == 32


def test_a_half_is_told(tmp_path: Path) -> None:
    members = members_of("cifar100-binary")
    del members["test.bin"]
    with pytest.raises(DataError, match=r"is cifar100-binary without test\.bin"):
        look_at(write_tree(tmp_path, members))


def test_folders_of_images_called_train_and_test_are_none_of_it(tmp_path: Path) -> None:
    assert look_at(write_tree(tmp_path, image_members())).kind == "images"
