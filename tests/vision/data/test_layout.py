"""A tree of images is read by its names as torchvision's ImageFolder would, hidden files apart."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vision.data.packing import PACKERS, tar_bytes
from vision.data.small_sets import encoded, image_members, picture, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data.layout import Form
from cifar_tune.vision.data.sources import decode, look_at

NFC, NFD = "Kätzchen", unicodedata.normalize("NFD", "Kätzchen")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("train/cat/1.png", ("train", "cat", "1.png")),
        ("./test/cat/1.JPG", ("test", "cat", "1.JPG")),
        ("root/train/cat/1.jpeg", ("train", "cat", "1.jpeg")),
        (".root/train/cat/1.jpeg", ("train", "cat", "1.jpeg")),
        ("train/cat/deep/er/1.png", ("train", "cat", "deep/er/1.png")),
        ("train//cat/./1.webp", ("train", "cat", "1.webp")),
        ("train/test/1.gif", ("train", "test", "1.gif")),
        ("a/b/train/cat/1.png", None),
        ("val/cat/1.png", ("val", "cat", "1.png")),
        ("valid/cat/1.png", ("val", "cat", "1.png")),
        ("validation/cat/1.png", ("val", "cat", "1.png")),
        ("vals/cat/1.png", None),
        ("train/cat/1.txt", None),
        ("train/cat/._1.png", None),
        ("train/.ipynb_checkpoints/1.png", None),
        ("train/cat/@eaDir/1.png", None),
        ("__MACOSX/train/cat/1.png", None),
        ("train/1.png", None),
        ("train", None),
    ],
)
def test_split_and_class_are_read_off_the_path(name: str, place: tuple[str, ...] | None) -> None:
    found = Form().place_of(name)
    assert (found and found[:3]) == place


def test_the_classes_are_those_of_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    members = image_members(("b", "a", "Z"))
    members["train/a/deep/er/x.bmp"] = encoded(picture(7), "BMP")
    members["train/Z/000.tif"] = encoded(picture(8), "TIFF")
    decoded = decode(write_tree(tmp_path, members))
    theirs = ImageFolder(str(tmp_path / "train"))
    assert list(decoded.classes) == theirs.classes
    assert np.bincount(decoded.train.labels).tolist() == np.bincount(theirs.targets).tolist()
    ours = {image.tobytes() for image in decoded.train.images}
    assert ours == {np.asarray(image).tobytes() for image, _ in theirs}


def test_what_is_left_out_is_said_with_its_reason(tmp_path: Path) -> None:
    extra = {
        "train/.ipynb_checkpoints/a.png": encoded(picture(1)),
        "train/@eaDir/a.png": encoded(picture(2)),
        "train/@eaDir/b/c.png": b"",
        "test/cat/.DS_Store": b"x",
        "train/7.png": encoded(picture(3)),
        "train/cat/notes.txt": b"x",
        "train/cat/list.txt": b"x",
        "train/dog/IMG_1.HEIC": b"x",
        "more/cat/1.png": encoded(picture(4)),
        ".git/train/x/1.png": b"",
        "readme.txt": b"",
    }
    folder = write_tree(tmp_path / "tree", image_members() | extra)
    (folder / "train" / "horse").mkdir()
    expected = (
        "Left out: hidden folders with 3 files (train/.ipynb_checkpoints, train/@eaDir);"
        " 1 file hidden, like test/cat/.DS_Store; 1 file in no class, like train/7.png;"
        " 3 files (2 .txt, 1 .heic), which are no images that can be read;"
        " empty folders (train/horse); what is not in train/ or test/ (more).",
    )
    assert look_at(folder).notes == decode(folder).notes == expected
    assert decode(folder).classes == ("cat", "dog")
    archive = tmp_path / "archive.tar"
    archive.write_bytes(tar_bytes(image_members() | extra))
    (one,) = expected
    assert look_at(archive).notes == (one.replace(" empty folders (train/horse);", ""),)


def test_the_macos_halves_in_a_zip_are_left_out(tmp_path: Path) -> None:
    halves = {f"__MACOSX/{name}".replace("/0", "/._0"): b"x" for name in image_members()}
    archive = tmp_path / "a.zip"
    archive.write_bytes(PACKERS["zip"](image_members() | halves))
    assert decode(archive).notes == ("Left out: hidden folders with 16 files (__MACOSX).",)


@pytest.mark.parametrize("form", ["folder", *PACKERS])
def test_two_unicode_forms_of_a_name_are_one_class(tmp_path: Path, form: str) -> None:
    members = image_members((NFC, "dog")) | {
        name.replace("test/dog", f"test/{NFD}"): data
        for name, data in image_members((NFC, "dog")).items()
        if name.startswith("test/dog")
    }
    members[f"train/{NFD}/000.png"] = encoded(picture(77))  # its namesake is another picture
    path = write_tree(tmp_path / "x", members) if form == "folder" else tmp_path / "archive"
    if form != "folder":
        path.write_bytes(PACKERS[form](members))
    decoded = decode(path)
    assert decoded.classes == (NFC, "dog")
    assert np.bincount(decoded.train.labels).tolist() == [7, 6]
    assert np.bincount(decoded.test.labels).tolist() == [4, 2]
    assert decoded.notes == (f"Spelt in two Unicode forms, and one class each: {NFC}.",)


def bytes_folder(tmp_path: Path, name: bytes) -> Path:
    folder = write_tree(tmp_path / "tree", image_members())
    for split in ("train", "test"):
        os.rename(folder / split / "dog", os.fsencode(folder / split) + b"/" + name)
    return folder


def test_a_class_whose_name_is_no_utf_8_is_named_in_a_line(tmp_path: Path) -> None:
    folder = bytes_folder(tmp_path, b"caf\xe9")
    for read in (look_at, decode):
        with pytest.raises(
            DataError, match=r"must be UTF-8.*test/caf\\xe9, train/caf\\xe9"
        ) as error:
            read(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", PACKERS)
def test_in_archives_too(tmp_path: Path, form: str) -> None:
    members = {name.replace("dog", "caf\udce9"): data for name, data in image_members().items()}
    archive = tmp_path / "archive"
    if form == "zip":  # zipfile can't write such names: they are put in afterwards
        plain = {name.replace("dog", "cafe"): data for name, data in image_members().items()}
        archive.write_bytes(PACKERS["zip"](plain).replace(b"/cafe/", b"/caf\xe9/"))
        assert len(zipfile.ZipFile(archive).namelist()) == 17
    else:
        archive.write_bytes(PACKERS[form](members))
    for read in (look_at, decode):
        with pytest.raises(DataError, match=r"must be UTF-8.*test/caf\\xe9, train/caf\\xe9"):
            read(archive)


def test_a_zip_with_utf_8_names_that_do_not_say_so_is_read(tmp_path: Path) -> None:
    content = bytearray(PACKERS["zip"](image_members((NFC, "dog"))))
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset + 1] &= ~0x08
            at = content.find(signature, at + 1)
    (tmp_path / "a.zip").write_bytes(content)
    assert decode(tmp_path / "a.zip").classes == (NFC, "dog")


def test_a_file_name_that_is_no_utf_8_is_fine(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "tree", image_members())
    cats = os.fsencode(folder / "train" / "cat")
    os.rename(cats + b"/000.png", cats + b"/caf\xe9.png")
    (folder / "train" / "cat" / "caf\udce9.txt").write_bytes(b"")
    decoded = decode(folder)
    assert len(decoded.train) == 12
    "".join(decoded.notes).encode("utf-8")


def test_a_class_of_other_formats_does_not_vanish(tmp_path: Path) -> None:
    members = {**image_members(), **{f"train/horse/{n}.heic": b"x" for n in range(3)}}
    folder = write_tree(tmp_path, members)
    for read in (look_at, decode):
        with pytest.raises(DataError, match=r"train/horse has 3 files \(3 \.heic\), and no image"):
            read(folder)


def test_a_folder_that_may_not_be_opened_does_not_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tree(tmp_path, image_members())
    real = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("train/dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=r"train/dog can't be read: Permission denied"):
        look_at(folder)


def test_a_split_by_another_name_is_pointed_at(tmp_path: Path) -> None:
    members = {name.replace("train/", "fit/"): data for name, data in image_members().items()}
    with pytest.raises(DataError, match=r"0 classes in train/ and 2 in test/.* fit is not read"):
        look_at(write_tree(tmp_path, members))


@pytest.mark.parametrize("suffix", ["webp", "bmp", "tif", "TIFF", "gif", "pgm", "jfif"])
def test_every_format_is_taken(tmp_path: Path, suffix: str) -> None:
    form = {"tif": "TIFF", "pgm": "PPM", "jfif": "JPEG"}.get(suffix, suffix.upper())
    grey = Image.effect_noise((32, 32), 80)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / f"1.{suffix}").write_bytes(encoded(grey, form))
    decoded = decode(tmp_path)
    assert (len(decoded.train), len(decoded.test)) == (2, 2)
    assert not any("name says" in note for note in decoded.notes)
