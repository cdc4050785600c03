"""Packs files as tar, tar.gz, tar.xz and zip, in memory."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from vision.data.small_sets import write_tree


def tar_bytes(members: Mapping[str, bytes], *special: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in special:
            archive.addfile(info)
    return buffer.getvalue()


def zip_bytes(members: Mapping[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/", b"")
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "tar": tar_bytes,
    "tar.gz": lambda members: gzip.compress(tar_bytes(members)),
    "tar.xz": lambda members: lzma.compress(tar_bytes(members)),
    "zip": zip_bytes,
}


def laid(at: Path, folder: str, members: Mapping[str, bytes], place: str) -> Path:
    """Where `members` lie: in the folder, in one above it, or packed as PACKERS have it."""
    inside = {f"{folder}/{name}": content for name, content in members.items()}
    if not place.startswith("folder"):
        at.write_bytes(PACKERS[place](inside))
        return at
    write_tree(at, inside)
    return at if place == "folder above" else at / folder
