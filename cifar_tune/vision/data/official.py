"""Reads the official CIFAR-10 and CIFAR-100, python and binary, against known checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from typing import Literal

import numpy as np

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import Member
from cifar_tune.vision.data.dataset import Decoded, Images, Int64Array, Uint8Array
from cifar_tune.vision.data.pickles import load_arrays

OfficialKind = Literal["cifar10-python", "cifar10-binary", "cifar100-python", "cifar100-binary"]
Checksums = Mapping[OfficialKind, Mapping[str, str]]  # of each file: SHA-256, SHA-1 or MD5, in hex

CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100 = (  # the fine labels
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle",
    "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
CLASSES: Mapping[OfficialKind, tuple[str, ...]] = {
    "cifar10-python": CIFAR10,
    "cifar10-binary": CIFAR10,
    "cifar100-python": CIFAR100,
    "cifar100-binary": CIFAR100,
}
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000  # of all classes, in equal parts
PIXELS_BYTES = 3 * 32 * 32  # red, green and blue plane, each row by row

# The author publishes MD5s of the archives only. SHA-256 of the files inside, as several public
# projects record them next to those MD5s; of the binary ones SHA-1, as MXNet has long checked them:
# nothing is unpickled there, so only damage is to be feared. Of CIFAR-100's pickles MD5, as
# torchvision has them: who forges one still meets the unpickler, which builds arrays only.
CHECKSUMS: Checksums = {
    "cifar10-python": {
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    "cifar10-binary": {
        "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    },
    "cifar100-python": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
    "cifar100-binary": {
        "train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
        "test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
    },
}


def official_kind(name: str) -> OfficialKind | None:
    """Says which distribution a file's path belongs to, None for neither."""
    base = base_name(name)
    # Two files have plain words for names: only at the top, or in the distribution's own folder.
    above = [part for part in name.split("/")[:-1] if part not in ("", ".")]
    if base in CHECKSUMS["cifar100-python"] and above not in ([], ["cifar-100-python"]):
        return None
    return next((kind for kind, files in CHECKSUMS.items() if base in files), None)


def base_name(name: str) -> str:
    """The name of a file without its folders."""
    return name.rsplit("/", 1)[-1]


def check_complete(source: str, kind: OfficialKind, names: Container[str]) -> None:
    """Raises DataError where one of its files is missing."""
    missing = [name for name in CHECKSUMS[kind] if name not in names]
    if missing:
        raise DataError(
            f"{source} is {kind} without {', '.join(missing)}; the distribution has"
            f" {', '.join(CHECKSUMS[kind])}. Unpack it again."
        )


def read_batch(source: str, kind: OfficialKind, member: Member, expected: str) -> Images:
    """Reads a member once, checks those bytes and decodes those bytes.

    Raises DataError where they do not hash to what is `expected`.
    """
    content = member.read()
    algorithm = {32: "md5", 40: "sha1", 64: "sha256"}[len(expected)]
    got = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if got != expected:
        raise DataError(
            f"{source}: {member.name} has {algorithm} {got}, but the official file has "
            f"{expected}; it is damaged or changed. Download it again (CIFAR-10: cifar-tune data "
            "--download), or give changed images as train/<class>/* and test/<class>/*."
        )
    read = _read_python if kind.endswith("python") else _read_binary
    return read(content, f"{source}: {member.name}", len(CLASSES[kind]))


def put_together(source: str, kind: OfficialKind, batches: Mapping[str, Images]) -> Decoded:
    """Puts the batches together in their official order. Raises DataError if one is missing."""
    check_complete(source, kind, batches)
    *train, test = (batches[name] for name in CHECKSUMS[kind])
    images = np.concatenate([batch.images for batch in train])
    labels = np.concatenate([batch.labels for batch in train])
    return Decoded(kind, CLASSES[kind], Images(images, labels), test)


def _read_python(content: bytes, name: str, classes: int) -> Images:
    batch = load_arrays(content, name)
    pixels = np.asarray(batch.get(b"data"))
    labels = np.asarray(batch.get(b"labels" if classes == 10 else b"fine_labels"))
    if pixels.dtype != np.uint8 or pixels.shape != (labels.size, PIXELS_BYTES):
        raise DataError(f"{name}: its arrays have not the shape of CIFAR; download it again.")
    return _images(pixels, labels.astype(np.int64), name, classes)


def _read_binary(content: bytes, name: str, classes: int) -> Images:
    before = 1 if classes == 10 else 2  # bytes of labels; of CIFAR-100 the coarse one comes first
    record = before + PIXELS_BYTES
    if not content or len(content) % record:
        raise DataError(
            f"{name} has {len(content)} bytes; records have {record}, {before} for the label and"
            " the pixels. Download it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _images(records[:, before:], records[:, before - 1].astype(np.int64), name, classes)


def _images(pixels: Uint8Array, labels: Int64Array, name: str, classes: int) -> Images:
    """Brings [n, 3072] planes to [n, 32, 32, 3]."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(f"{name} has a label outside 0 to {classes - 1}; download it again.")
    planes = pixels.reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)
