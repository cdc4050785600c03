"""Tests of reading folders and archives: the same files from each, none from hostile ones."""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
from pathlib import Path

import pytest
from vision.data.packing import PACKERS, tar_bytes, zip_bytes
from vision.data.small_sets import write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data.archives import MIB, Limits, read_members

MEMBERS = {"train/cat/1.png": b"one" * 400, "test/cat/2.png": b"two", "readme.txt": b""}


def contents(path: Path, limits: Limits | None = None) -> dict[str, bytes]:
    return {member.name: member.read() for member in read_members(path, limits or Limits())}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.mark.parametrize("form", PACKERS)
def test_archives_give_their_files_whatever_they_are_called(file: Path, form: str) -> None:
    file.write_bytes(PACKERS[form](MEMBERS))
    assert contents(file) == MEMBERS


def test_a_folder_gives_the_same_files_and_leaves_strange_folders_alone(tmp_path: Path) -> None:
    deep = {**MEMBERS, "train/a/b/c/4.png": b"4"}
    write_tree(tmp_path / "data", {**deep, "other/deep/3.png": b""})
    assert contents(tmp_path / "data") == deep


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "data", MEMBERS)
    (folder / "train" / "loop").symlink_to(folder / "train")
    (folder / "train" / "cat" / "up").symlink_to(folder)
    assert set(contents(folder)) == set(MEMBERS)


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "data", MEMBERS)
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png can't be read: no plain file"):
        contents(folder)


@pytest.mark.parametrize("form", PACKERS)
def test_every_cut_is_noticed(file: Path, form: str) -> None:
    whole = PACKERS[form]({f"train/cat/{i}.png": os.urandom(700) for i in range(4)})
    # tar pads with zeros to 10 KiB: cut among the members
    end = len(whole.rstrip(b"\0")) if form == "tar" else len(whole)
    for length in sorted({1, 100, 512, 1024, 2048, 3000, end - 512, end - 100, end - 1}):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"damaged|cut|no archive"):
            contents(file)


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "zip"])
def test_a_flipped_bit_is_noticed(file: Path, form: str) -> None:
    whole = bytearray(PACKERS[form]({"train/cat/1.png": os.urandom(3000)}))
    whole[1500] ^= 4
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"damaged or cut short .*get a fresh copy"):
        contents(file)


def test_a_damaged_header_inside_a_tar_is_not_taken_for_its_end(file: Path) -> None:
    whole = bytearray(tar_bytes({f"train/cat/{i}.png": b"x" * 512 for i in range(3)}))
    whole[512 + 2 * 512 + 10] ^= 1  # in the second file's header
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"the header at byte 1,536 is damaged"):
        contents(file)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.png", "train/../../up.png", "C:/up.png"])
@pytest.mark.parametrize("form", PACKERS)
def test_names_that_lead_out_are_refused(file: Path, form: str, name: str) -> None:
    file.write_bytes(PACKERS[form]({name: b"x"}))
    with pytest.raises(DataError, match="leads out of the archive"):
        contents(file)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(file: Path, kind: bytes) -> None:
    special = tarfile.TarInfo("train/cat/9.png")
    special.type, special.linkname = kind, "/etc/passwd"
    file.write_bytes(tar_bytes(MEMBERS, special))
    with pytest.raises(DataError, match=r"'train/cat/9\.png' is a link or device"):
        contents(file)


def test_links_in_a_zip_are_refused(file: Path) -> None:
    file.write_bytes(zip_bytes({"train/cat/9.png": b"/etc/passwd"}, mode=0o120777))
    with pytest.raises(DataError, match="is a link or device"):
        contents(file)


@pytest.mark.parametrize("form", PACKERS)
def test_a_bomb_is_not_unpacked(file: Path, form: str) -> None:
    file.write_bytes(PACKERS[form]({"train/cat/1.png": bytes(3 * MIB)}))
    with pytest.raises(DataError, match=r"has 3,145,728 bytes \(at most 1,048,576\)"):
        contents(file, Limits(member_bytes=MIB))
    with pytest.raises(DataError, match="unpacks to more than 2,097,152 bytes"):
        contents(file, Limits(total_bytes=2 * MIB))


@pytest.mark.parametrize("form", PACKERS)
def test_too_many_files_are_refused(file: Path, form: str) -> None:
    file.write_bytes(PACKERS[form]({f"train/cat/{i}.png": b"" for i in range(30)}))
    with pytest.raises(DataError, match="or 20 files"):
        contents(file, Limits(members=20))


def test_a_tar_whose_header_lies_about_its_size_is_refused(file: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 60 * MIB
    header = info.tobuf(tarfile.USTAR_FORMAT)
    file.write_bytes(gzip.compress(header + bytes(60 * MIB)))
    with pytest.raises(DataError, match=r"'a header' has 62,914,560 bytes"):
        contents(file, Limits(member_bytes=MIB))


def test_an_encrypted_zip_is_refused(file: Path) -> None:
    whole = bytearray(zip_bytes({"train/cat/1.png": b"x"}))
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        position = whole.rindex(signature)
        whole[position + offset] |= 1
    file.write_bytes(whole)
    with pytest.raises(DataError, match="is encrypted; pack it without password"):
        contents(file)


def test_a_zip_whose_directory_lost_or_renamed_a_file_is_refused(file: Path) -> None:
    whole = zip_bytes(MEMBERS)
    directory = whole.index(b"PK\x01\x02")
    renamed = whole[:directory] + whole[directory:].replace(b"train/cat", b"tr_in/cat")
    file.write_bytes(renamed)
    with pytest.raises(DataError, match="damaged or cut short"):
        list(read_members(file))  # also where nobody reads the member
    last = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    size = struct.pack("<I", last - directory)
    file.write_bytes(whole[:last] + whole[end : end + 12] + size + whole[end + 16 :])
    with pytest.raises(DataError, match="3 files in its directory, 4 at its end"):
        contents(file)


@pytest.mark.parametrize(("content", "what"), [(b"", "is empty"), (b"hello", "is no archive")])
def test_a_file_that_is_no_archive_is_refused(file: Path, content: bytes, what: str) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=what):
        contents(file)


def test_nothing_is_written_to_the_disk(file: Path, tmp_path: Path) -> None:
    file.write_bytes(tar_bytes(MEMBERS))
    contents(file)
    assert list(tmp_path.iterdir()) == [file]
