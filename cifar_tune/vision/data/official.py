"""Reads the official CIFAR-10 distributions, python and binary, against known checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from typing import Literal

import numpy as np

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import Member
from cifar_tune.vision.data.dataset import Decoded, Images, Int64Array, Uint8Array
from cifar_tune.vision.data.pickles import load_arrays

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TRAIN_IMAGES, TEST_IMAGES = (5000,) * len(CLASSES), (1000,) * len(CLASSES)  # of each class
PIXELS_BYTES = 3 * 32 * 32  # red, green and blue plane, each row by row

OfficialKind = Literal["cifar10-python", "cifar10-binary"]
Checksums = Mapping[OfficialKind, Mapping[str, str]]  # of each file: SHA-256 or SHA-1, in hex

# The author publishes MD5s of the archives only. SHA-256 of the files inside, as several public
# projects record them next to those MD5s; of the binary ones SHA-1, as MXNet has long checked them:
# nothing is unpickled there, so only damage is to be feared.
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
}


def official_kind(name: str) -> OfficialKind | None:
    """Says which distribution a file's path belongs to, None for neither."""
    base = base_name(name)
    return next((kind for kind, files in CHECKSUMS.items() if base in files), None)


def base_name(name: str) -> str:
    """The name of a file without its folders."""
    return name.rsplit("/", 1)[-1]


def check_complete(source: str, kind: OfficialKind, names: Container[str]) -> None:
    """Raises DataError where one of the six files is missing."""
    missing = [name for name in CHECKSUMS[kind] if name not in names]
    if missing:
        raise DataError(
            f"{source} is {kind} without {', '.join(missing)}; "
            "the distribution has five training batches and a test batch. Unpack it again."
        )


def read_batch(source: str, kind: OfficialKind, member: Member, expected: str) -> Images:
    """Reads a member once, checks those bytes and decodes those bytes.

    Raises DataError where they do not hash to what is `expected`.
    """
    content = member.read()
    algorithm = "sha1" if len(expected) == 40 else "sha256"
    got = hashlib.new(algorithm, content).hexdigest()
    if got != expected:
        raise DataError(
            f"{source}: {member.name} has {algorithm} {got}, but the official file has "
            f"{expected}; it is damaged or changed. Download it again (cifar-tune data "
            "--download), or give changed images as train/<class>/* and test/<class>/*."
        )
    read = _read_python if kind == "cifar10-python" else _read_binary
    return read(content, f"{source}: {member.name}")


def put_together(source: str, kind: OfficialKind, batches: Mapping[str, Images]) -> Decoded:
    """Puts the batches together in their official order. Raises DataError if one is missing."""
    check_complete(source, kind, batches)
    *train, test = (batches[name] for name in CHECKSUMS[kind])
    images = np.concatenate([batch.images for batch in train])
    labels = np.concatenate([batch.labels for batch in train])
    return Decoded(kind, CLASSES, Images(images, labels), test)


def _read_python(content: bytes, name: str) -> Images:
    batch = load_arrays(content, name)
    pixels = np.asarray(batch.get(b"data"))
    labels = np.asarray(batch.get(b"labels"))
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS_BYTES):
        raise DataError(f"{name}: its arrays have not the shape of CIFAR-10; download it again.")
    return _images(pixels, labels.astype(np.int64), name)


def _read_binary(content: bytes, name: str) -> Images:
    if not content or len(content) % (1 + PIXELS_BYTES):
        raise DataError(
            f"{name} has {len(content)} bytes; records have 3073, a label and the pixels. "
            "Download it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS_BYTES)
    return _images(records[:, 1:], records[:, 0].astype(np.int64), name)


def _images(pixels: Uint8Array, labels: Int64Array, name: str) -> Images:
    """Brings [n, 3072] planes to [n, 32, 32, 3]."""
    if labels.size and (labels.min() < 0 or labels.max() >= len(CLASSES)):
        raise DataError(f"{name} has a label outside 0 to 9; download it again.")
    planes = pixels.reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)
