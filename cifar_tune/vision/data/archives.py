"""Reads the files of a folder, tar or zip one by one, in memory, and refuses hostile ones."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from cifar_tune.errors import DataError
from cifar_tune.vision.data.folders import MAX_FILE_BYTES, folder_files, read_file
from cifar_tune.vision.names import on_disk, spelt

MIB = 1 << 20
TAR_BLOCK = 512  # bytes; a tar ends in two blocks of zeros
ENCRYPTED, NAMED_IN_UTF8 = 0x1, 0x800  # flags of a zip's files
ZIP_END_BYTES = 22 + 0xFFFF  # the record at the end of a zip, with the longest comment
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    struct.error,
    RuntimeError,  # zipfile: a method or version that it does not know
    ValueError,  # zipfile: names that are no text
)


class Limits(NamedTuple):
    """What an archive may ask of this machine before it is taken for a bomb."""

    member_bytes: int = MAX_FILE_BYTES
    total_bytes: int = 8192 * MIB  # unpacked
    members: int = 2_000_000


LIMITS = Limits()


class Member(NamedTuple):
    """One regular file: its path inside the source with `/` between parts, and its content.

    `read` may be called once, before the next member is asked for; it raises DataError on damage.
    """

    name: str
    read: Callable[[], bytes]


def read_members(path: Path, limits: Limits = LIMITS) -> Iterator[Member]:
    """Yields the regular files of a folder or archive in the order they are stored in.

    Raises DataError for a file that is no archive, a damaged or cut one, and one with links,
    devices, absolute paths, `..`, or more than `limits` allow. Nothing is unpacked to the disk.
    """
    if path.is_dir():
        return _folder_members(path, limits)
    with _readable(path), path.open("rb") as file:
        head = file.read(TAR_BLOCK)
    if head.startswith(b"PK\x03\x04"):
        return _zip_members(path, limits)
    if head.startswith(b"\xfd7zXZ\x00"):
        return _tar_members(path, lzma.open, limits)
    if head.startswith(b"\x1f\x8b"):
        return _tar_members(path, gzip.open, limits)
    if head[257:262] == b"ustar":
        return _tar_members(path, open, limits)
    what = "is empty" if not head else "is no archive that can be read here"
    raise DataError(f"{path} {what}; data.path must name a folder, .tar, .tar.gz, .tar.xz or .zip.")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what a damaged or unreadable file raises into one line that names it."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(
            f"{path} is damaged or cut short ({error}); get a fresh copy of it."
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{path} can't be read: {reason}; check the file and its permissions."
        ) from error


def _folder_members(folder: Path, limits: Limits) -> Iterator[Member]:
    for file in folder_files(folder):
        name = on_disk(file.relative_to(folder).as_posix())
        yield Member(name, partial(read_file, file, limits.member_bytes))


def _zip_members(path: Path, limits: Limits) -> Iterator[Member]:
    with _readable(path), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_total(path, len(infos), sum(info.file_size for info in infos), limits)
        _check_count(path, len(infos))
        for info in infos:
            if info.is_dir():
                continue
            name = _zip_name(info)
            _check_name(path, name)
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _hostile(path, name, "is a link or device")
            if info.flag_bits & ENCRYPTED:
                raise DataError(f"{path}: {spelt(name)} is encrypted; pack it without password.")
            # The directory at the end has no checksum: also of a file that nobody reads, opening it
            # compares both records of its name.
            with archive.open(info) as file:
                yield Member(name, partial(_read_zipped, path, info, file, limits))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A name as its bytes are in UTF-8; zipfile takes those without a mark for DOS letters."""
    if info.flag_bits & NAMED_IN_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it had a second name, in UTF-8
        return info.filename


def _check_count(path: Path, files: int) -> None:
    """Compares the directory with the count at the zip's end, which zipfile does not look at."""
    with path.open("rb") as file:
        file.seek(-min(ZIP_END_BYTES, path.stat().st_size), io.SEEK_END)
        tail = file.read()
    (count,) = struct.unpack_from("<H", tail, tail.rindex(b"PK\x05\x06") + 10)
    if count != min(files, 0xFFFF):
        raise zipfile.BadZipFile(f"{files} files in its directory, {count} at its end")


def _read_zipped(path: Path, info: zipfile.ZipInfo, file: IO[bytes], limits: Limits) -> bytes:
    """Unpacks a file; zipfile stops at the stated size and checks the CRC."""
    _check_size(path, info.filename, info.file_size, limits)
    with _readable(path):
        return file.read()


def _tar_members(
    path: Path, opener: Callable[[Path, str], object], limits: Limits
) -> Iterator[Member]:
    with _readable(path), cast(IO[bytes], opener(path, "rb")) as plain:
        stream = _CappedStream(path, plain, limits)
        with tarfile.open(
            fileobj=cast(IO[bytes], stream), mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            for count, info in enumerate(archive):
                _check_total(path, count, 0, limits)
                if info.isdir():
                    continue
                _check_name(path, info.name)
                if not info.isreg():
                    raise _hostile(path, info.name, "is a link or device")
                yield Member(info.name, partial(_read_packed, path, info, archive, limits))
            stream.check_end(archive.offset)


def _read_packed(
    path: Path, info: tarfile.TarInfo, archive: tarfile.TarFile, limits: Limits
) -> bytes:
    _check_size(path, info.name, info.size, limits)
    with _readable(path):
        file = archive.extractfile(info)
        content = file.read() if file is not None else b""
        if len(content) != info.size:
            raise EOFError(f"{info.name} has {len(content)} of {info.size} bytes")
        return content


class _CappedStream:
    """The unpacked bytes of a tar, counted: tarfile believes any size that a header states."""

    def __init__(self, path: Path, stream: IO[bytes], limits: Limits) -> None:
        self._path, self._stream, self._limits = path, stream, limits

    def read(self, size: int) -> bytes:
        _check_size(self._path, "a header", size, self._limits)
        return self._stream.read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            _check_total(self._path, 0, position, self._limits)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def check_end(self, position: int) -> None:
        """Checks that only empty blocks follow, and reads them all.

        tarfile takes a damaged header, and a cut between two members, for the end of the archive;
        gzip and xz keep their checksums behind the last byte.
        """
        self._stream.seek(position)
        empty_bytes = 0
        while chunk := self._stream.read(MIB):
            _check_total(self._path, 0, self._stream.tell(), self._limits)
            if any(chunk):
                raise EOFError(f"the header at byte {position + empty_bytes:,} is damaged")
            empty_bytes += len(chunk)
        if empty_bytes < TAR_BLOCK:
            raise EOFError("the empty blocks at the end of a tar are missing")


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise _hostile(path, name, "leads out of the archive")


def _check_size(path: Path, name: str, size: int, limits: Limits) -> None:
    if size > limits.member_bytes:
        raise _hostile(path, name, f"has {size:,} bytes (at most {limits.member_bytes:,})")


def _check_total(path: Path, members: int, total_bytes: int, limits: Limits) -> None:
    if members > limits.members or total_bytes > limits.total_bytes:
        raise DataError(
            f"{path} unpacks to more than {limits.total_bytes:,} bytes or {limits.members:,} files "
            "and is not read any further. Is it the dataset?"
        )


def _hostile(path: Path, name: str, what: str) -> DataError:
    return DataError(
        f"{path}: '{spelt(name)}' {what}; an archive may hold plain files below its own folder "
        "only."
    )
