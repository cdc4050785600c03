"""Image files are decoded on all CPUs, straight to the disk, and after a kill from where it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vision.data.packing import PACKERS
from vision.data.small_sets import encoded, image_members, picture, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data import empty_cache, list_entries, prepare
from cifar_tune.vision.data.decoding import RECORD, Target
from cifar_tune.vision.data.held_out import open_test_split
from cifar_tune.vision.data.sources import decode
from cifar_tune.vision.data.stored import open_images
from cifar_tune.vision.data_config import DataConfig

KILLED = """
import os, signal, sys
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.data import decoding, prepare

decode_one, decoded = decoding._decode_one, []

def dying(*given):
    decoded.append(given)
    if len(decoded) > 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_one(*given)

decoding.RECORD_SECONDS = 0.0
decoding._decode_one = dying
prepare(DataConfig(path=sys.argv[1]), print)
"""


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_a_killed_decoding_goes_on_where_it_was(
    tmp_path: Path, notes: list[str], private_cache: Path, form: str
) -> None:
    members = image_members(train=40)
    path = write_tree(tmp_path / "x", members) if form == "folder" else tmp_path / "x.tgz"
    if form != "folder":
        path.write_bytes(PACKERS[form](members))
    config = DataConfig(path=str(path))
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (draft,) = (private_cache / "entries").glob(".*-partial")
    assert [entry.kind for entry in list_entries()] == ["unfinished"]
    with (draft / RECORD).open("a") as record:
        record.write("[40, [32, 3")  # as a kill in the middle of a line leaves it
    dataset = prepare(config, notes.append)
    (said,) = [note for note in notes if note.startswith("going on with")]
    count = int(said.split()[3])
    assert 1 <= count <= 30
    assert said == f"going on with {count} of 84 images decoded before."
    assert not list((private_cache / "entries").glob(".*"))
    assert not (dataset.folder / RECORD).exists()
    empty_cache()
    assert prepare(config, notes.append).fingerprint == dataset.fingerprint


def test_what_was_decoded_to_another_size_or_by_another_version_is_not_gone_on_with(
    tmp_path: Path, notes: list[str]
) -> None:
    tree, draft = write_tree(tmp_path / "x", image_members()), tmp_path / "draft"
    draft.mkdir()
    first = decode(tree, target=Target(side=16), folder=draft)
    lines = (draft / RECORD).read_text().splitlines()
    assert len(lines) == 17
    decode(tree, target=Target(side=16), folder=draft, say=notes.append)
    assert notes == ["going on with 16 of 16 images decoded before."]
    version, *rest = json.loads(lines[0])
    for head in ([version + 1, *rest], [version, *rest[:-1], 7]):
        (draft / RECORD).write_text("\n".join([json.dumps(head), *lines[1:]]) + "\n")
        notes.clear()
        again = decode(tree, target=Target(side=16), folder=draft, say=notes.append)
        assert notes == []
        assert np.array_equal(again.train.images, first.train.images)
    larger = decode(tree, target=Target(side=24), folder=draft, say=notes.append)
    assert larger.train.images.shape == (12, 24, 24, 3)
    assert notes == []


def test_how_far_it_is_is_said_in_tenths(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_tune.vision.data.decoding.SAID_SECONDS", 0.0)
    prepare(DataConfig(path=str(write_tree(tmp_path, image_members(train=18)))), notes.append)
    tenths = [note for note in notes if note.startswith("decoded")]
    assert len(tenths) == 10
    assert tenths[0] == "decoded 4 of 40 images."
    assert tenths[-1] == "decoded 40 of 40 images."


def test_a_damaged_image_leaves_nothing_behind(tmp_path: Path, private_cache: Path) -> None:
    members = {**image_members(), "train/cat/x.png": b"no picture"}
    with pytest.raises(DataError, match="1 of 17 images can't be read"):
        prepare(DataConfig(path=str(write_tree(tmp_path / "x", members))), lambda _note: None)
    assert not list((private_cache / "entries").iterdir())


def test_a_full_disk_ends_it_in_one_sentence(
    image_tree: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_given: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cifar_tune.vision.data.decoding.os.pwrite", no_space)
    with pytest.raises(DataError, match=r"could not be written \(No space left on device\)"):
        prepare(DataConfig(path=str(image_tree)), lambda _note: None)
    assert not list((private_cache / "entries").iterdir())


def test_official_and_drawn_images_are_brought_to_another_size_too(notes: list[str]) -> None:
    from cifar_tune.vision.data import prepare_drawn

    small, large = prepare_drawn(notes.append, 50, 20), prepare_drawn(notes.append, 50, 20, side=48)
    assert large.folder != small.folder
    assert open_images(large, "train").images.shape == (50, 48, 48, 3)
    shrunk = open_test_split(large).images[:, ::3, ::3].astype(int)
    plain = open_test_split(small).images[:, ::2, ::2].astype(int)
    assert np.abs(shrunk - plain).mean() < 25


def test_threads_do_not_change_the_pixels_or_the_notes(tmp_path: Path) -> None:
    members = image_members(train=30)
    members["train/cat/000.png"] = encoded(picture(1, 64, 48))
    members["train/dog/002.PNG"] = encoded(picture(4).convert("RGBA"))
    tree = write_tree(tmp_path, members)
    first, second = decode(tree), decode(tree)
    assert np.array_equal(first.train.images, second.train.images)
    assert first.notes == second.notes
