"""Image folders as people have them: without test part, with val/, flat, by split files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vision.data.packing import PACKERS
from vision.data.small_sets import encoded, image_members, picture, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data import describe, prepare, search_data
from cifar_tune.vision.data.held_out import open_confirm_split, open_test_split
from cifar_tune.vision.data.sources import decode, look_at
from cifar_tune.vision.data_config import DataConfig


def flat_members(above: str = "", each: int = 20) -> dict[str, bytes]:
    """`cats/*` and `dogs/*` with different pictures."""
    return {
        f"{above}{name}/{number:03}.png": encoded(picture(1000 * label + number))
        for label, name in enumerate(("cats", "dogs"))
        for number in range(each)
    }


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize("above", ["", "pets/"])
def test_classes_at_the_top_get_a_test_part_that_is_cut_once(
    tmp_path: Path, notes: list[str], form: str, above: str
) -> None:
    path = tmp_path / "data"
    if form == "folder":
        write_tree(path, flat_members(above))
    else:
        path.write_bytes(PACKERS[form](flat_members(above)))
    config = DataConfig(path=str(path))
    found = describe(config)
    assert found.classes == ("cats", "dogs")
    assert (
        "32 training images (16 of each class) and 8 test images (4 of each" in found.sentences[0]
    )
    dataset = prepare(config, notes.append)
    said = "There is no test part: 8 images were cut for it from the others (stratified,"
    assert any(note.startswith(said) for note in found.sentences)
    assert any(note.startswith(said) for note in dataset.notes)
    assert set(describe(config).sentences) <= set(notes)
    # Nothing that a search is given is a test image, and another seed cuts others.
    test = {image.tobytes() for image in open_test_split(dataset).images}
    data = search_data(dataset, config)
    seen = {image.tobytes() for image in (*data.train_images, *data.val_images)}
    confirm = {image.tobytes() for image in open_confirm_split(dataset, config).images}
    assert (len(test), len(seen), len(confirm)) == (8, 26, 6)
    assert not test & seen
    assert not confirm & (seen | test)
    other = prepare(config.model_copy(update={"split_seed": 1}), notes.append)
    assert other.folder != dataset.folder
    assert {image.tobytes() for image in open_test_split(other).images} != test


def test_a_train_folder_alone_gets_a_test_part_too(tmp_path: Path) -> None:
    members = {name: data for name, data in image_members(train=20).items() if "train" in name}
    decoded = decode(write_tree(tmp_path, members))
    assert (len(decoded.train), len(decoded.test)) == (32, 8)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_part_for_validation_is_what_trials_are_judged_by(
    tmp_path: Path, notes: list[str], name: str
) -> None:
    members = image_members(train=20)
    own = {
        f"{name}/{kind}/{n}.png": encoded(picture(9000 + n)) for n in range(3) for kind in ("dog",)
    }
    config = DataConfig(path=str(write_tree(tmp_path / "x", {**members, **own})))
    found = describe(config)
    line = found.sentences[0]
    assert "3 validation images (0 of cat to 3 of dog) and 4 test images" in line
    assert "of the training images 8 are for confirmation, 32 are trained on" in line
    assert (found.config.val_size, found.config.confirm_size) == (3, 8)
    dataset = prepare(config, notes.append)
    assert (dataset.train_size, dataset.val_given) == (40, 3)
    for given in (config, found.config):
        data = search_data(dataset, given)
        assert sorted(map(bytes, data.val_images)) == sorted(
            picture(9000 + n).tobytes() for n in range(3)
        )
        assert data.val_labels.tolist() == [1, 1, 1]
        assert len(data.train_images) == 32
    assert describe(config).sentences[0] == line  # from the cache
    with pytest.raises(
        DataError, match=r"val_size is 4, and the dataset's own validation part has 3"
    ):
        describe(DataConfig(path=config.path, val_size=4))
    without = prepare(DataConfig(path=str(write_tree(tmp_path / "y", members))), notes.append)
    assert without.fingerprint != dataset.fingerprint


def split_files(folder: Path, **lines: list[str]) -> Path:
    """A folder of forty pictures in img/, and CSV files of these lines."""
    pictures = {f"img/{n}.png": encoded(picture(n)) for n in range(40)}
    tables = {
        f"{name}.csv": "\n".join(["path,label", *rows]).encode() for name, rows in lines.items()
    }
    return write_tree(folder, pictures | tables)


def rows(start: int, stop: int) -> list[str]:
    return [f"img/{n}.png,{'even' if n % 2 == 0 else 'odd'}" for n in range(start, stop)]


def test_split_files_say_which_image_is_what(tmp_path: Path, notes: list[str]) -> None:
    folder = split_files(tmp_path / "x", train=rows(0, 30), val=rows(30, 34), test=rows(34, 40))
    dataset = prepare(DataConfig(path=str(folder)), notes.append)
    assert dataset.classes == ("even", "odd")
    assert (dataset.train_size, dataset.val_given, dataset.test_size) == (30, 4, 6)
    test = open_test_split(dataset)
    assert {
        (bytes(image), label)
        for image, label in zip(test.images, test.labels.tolist(), strict=True)
    } == {(picture(n).tobytes(), n % 2) for n in range(34, 40)}
    before = dataset.folder
    (folder / "train.csv").write_text("\n".join(["path,label", *rows(0, 28)]))
    changed = prepare(DataConfig(path=str(folder)), notes.append)
    assert (changed.train_size, changed.folder != before) == (28, True)


def test_lines_of_split_files_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    wrong = ["/etc/x.png,even", "../x.png,odd", "img/1.png,", "img/1.txt,odd", "img/2.png,odd"]
    folder = split_files(tmp_path / "x", train=[*rows(0, 30), *wrong])
    with pytest.raises(DataError, match="5 lines can't be used; mend them") as refused:
        look_at(folder)
    assert str(refused.value).splitlines()[1:] == [
        "  train.csv, line 32: path is /etc/x.png; it must lie below the folder of the file",
        "  train.csv, line 33: path is ../x.png; it must lie below the folder of the file",
        "  train.csv, line 34: path is 'img/1.png' and label ''; both are needed",
        "  train.csv, line 35: path is img/1.txt; an image ends in .png, .jpg, .jpeg, .jpe, .jfif,"
        " .webp, .gif, .bmp, .dib, .tif, .tiff, .ppm, .pgm, .pbm, .pnm",
        "  train.csv, line 36: img/2.png stands in train.csv already",
    ]
    (folder / "train.csv").write_text("file;class\na;b\n")
    with pytest.raises(DataError, match=r"has the columns file;class; it must have path and label"):
        look_at(folder)
    (folder / "train.csv").write_text(
        "path,label\nimg/gone.png,a\nimg/1.png,b\nimg/2.png,a\nimg/3.png,b\n"
    )
    with pytest.raises(DataError, match=r"img/gone\.png: not there"):
        decode(folder)


def test_images_that_are_in_two_parts_are_counted(tmp_path: Path) -> None:
    members = image_members(train=8)
    members["test/cat/000.png"] = members["train/dog/003.png"]
    (note,) = decode(write_tree(tmp_path, members)).notes
    assert note.startswith("1 of 4 test images are training images too, pixel for pixel")


def test_classes_that_differ_in_capitals_are_told(tmp_path: Path) -> None:
    notes = look_at(write_tree(tmp_path, image_members(("cat", "Cat", "dog")))).notes
    assert notes == ("Classes whose names differ in capitals alone: Cat and cat.",)


def test_a_wrong_path_costs_no_walk(tmp_path: Path) -> None:
    """Folders are gone into where at least two have images right inside."""
    write_tree(tmp_path, {"a/deep/er/1.png": b"x", "b/notes.txt": b"x", "c/1.png": b"x"})
    with pytest.raises(DataError, match="no dataset was recognised"):
        look_at(tmp_path)


def test_the_size_of_a_folder_is_what_its_images_suggest(tmp_path: Path, notes: list[str]) -> None:
    members = {
        f"{split}/{name}/{n}.png": encoded(picture(n, 90 + n, 150))
        for split in ("train", "test")
        for name in ("cat", "dog")
        for n in range(6)
    }
    config = DataConfig(path=str(write_tree(tmp_path / "x", members)))
    found = describe(config)
    assert found.config.image_size == 96
    assert found.sentences[1].endswith(
        "They are brought to 96 x 96 (data.image_size, auto: by the middle one of their shorter"
        " sides; data.resize squash)."
    )
    assert "24 of 24 images have one side more than 1.5 times the other" in " ".join(
        found.sentences
    )
    dataset = prepare(config, notes.append)
    assert dataset.image_size == 96
    assert search_data(dataset, found.config).side == 96
    again = describe(config)  # from the cache
    assert again.config.image_size == 96
    assert prepare(found.config, notes.append).folder == dataset.folder
    small = prepare(config.model_copy(update={"image_size": 16, "resize": "crop"}), notes.append)
    assert small.folder != dataset.folder
    assert search_data(small, DataConfig()).train_images.shape[1:] == (16, 16, 3)
    assert any(note.startswith("Much is lost: the middle one") for note in small.notes)
    assert describe(config, {"kind": "images"}).config.image_size == 32  # of an earlier version


def test_crop_and_letterbox_keep_the_proportions(tmp_path: Path) -> None:
    from cifar_tune.vision.data.pictures import read_picture

    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, :64], wide[:, 64:128], wide[:, 128:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    content = encoded(Image.fromarray(wide))
    crop = read_picture(content, 48, "crop").pixels
    assert crop.shape == (48, 48, 3)
    assert (crop[:, 4:-4].argmax(axis=2) == 1).all()
    box = read_picture(content, 48, "letterbox").pixels
    assert not box[:15].any()
    assert not box[-15:].any()
    assert box[20:28, [2, 24, 45]].argmax(axis=2).tolist() == [[0, 1, 2]] * 8
    squashed = read_picture(content, 48).pixels
    assert squashed[:, [2, 24, 45]].argmax(axis=2).tolist() == [[0, 1, 2]] * 48


def test_a_table_in_an_archive_or_beside_classes_is_no_split_file(tmp_path: Path) -> None:
    folder = split_files(tmp_path / "x", train=rows(0, 40))
    members = {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")
    }
    archive = tmp_path / "x.zip"
    archive.write_bytes(PACKERS["zip"](members))
    with pytest.raises(DataError, match=r"has a train\.csv, which is read from a folder only"):
        look_at(archive)
    tree = write_tree(tmp_path / "y", {**image_members(), "train.csv": b"id,breed\n"})
    assert look_at(tree).classes == ("cat", "dog")


@pytest.mark.parametrize("above", ["", "pets/"])
def test_of_classes_at_the_top_too_it_is_said_what_is_left_out(tmp_path: Path, above: str) -> None:
    extra = {
        f"{above}cats/notes.txt": b"x",
        f"{above}cats/.hidden/1.png": b"x",
        f"{above}lists/a.txt": b"x",
        f"{above}readme.md": b"x",
        f"{above}cover.png": encoded(picture(1)),
    }
    folder = write_tree(tmp_path / "x", flat_members(above) | (extra if not above else {}))
    (folder / above / "horses").mkdir()
    left_out, cut = look_at(folder).notes
    assert cut.startswith("There is no test part")
    assert decode(folder).classes == ("cats", "dogs")
    if above:
        assert left_out == "Left out: empty folders (horses)."
    else:
        assert left_out == (
            "Left out: hidden folders with 1 file (cats/.hidden); 1 file in no class, like"
            " cover.png; 2 files (2 .txt), which are no images that can be read; empty folders"
            " (horses)."
        )
