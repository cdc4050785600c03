"""What the cache has from an earlier decoder of image files is never used again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cifar_tune.vision.data import find_dataset, list_entries, prepare, prepare_drawn, stored
from cifar_tune.vision.data_config import DataConfig


def made_by_version(folder: Path, decoder: int | None) -> None:
    """Marks an entry as one that another version's decoder wrote, with pixels of its own."""
    file = folder / "train_images.npy"
    np.save(file, np.load(file) // 2)
    meta = json.loads((folder / "meta.json").read_text())
    digest = stored._digest(file, np.load(file))
    digests = meta["digests"] | {"train_images": digest}
    fingerprint = stored._fingerprint(tuple(meta["classes"]), digests)
    meta |= {"digests": digests, "fingerprint": fingerprint, "decoder": decoder}
    if decoder is None:  # as the first version wrote it
        del meta["decoder"], meta["sizes"]
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("decoder", [None, 1, 99])
def test_what_another_decoder_made_of_images_is_not_used_again(
    image_tree: Path, notes: list[str], decoder: int | None
) -> None:
    config = DataConfig(path=str(image_tree))
    first = prepare(config, notes.append)
    made_by_version(first.folder, decoder)
    outdated = json.loads((first.folder / "meta.json").read_text())["fingerprint"]
    assert find_dataset(outdated) is None
    assert {entry.kind for entry in list_entries()} == {"outdated"}
    notes.clear()
    assert prepare(config, notes.append) == first
    said = f"{image_tree} is decoded anew: another version read image files in another way."
    assert said in notes
    made_by_version(first.folder, decoder)
    os.utime(image_tree / "train" / "cat" / "000.png", (1, 1))  # an entry of its own, same listing
    assert prepare(config, notes.append).fingerprint == first.fingerprint


def test_what_another_decoder_made_of_no_images_is_used(notes: list[str]) -> None:
    dataset = prepare_drawn(notes.append, 20, 10)
    made_by_version(dataset.folder, None)
    assert prepare_drawn(notes.append, 20, 10).fingerprint != dataset.fingerprint


def test_what_was_decoded_before_there_were_other_sizes_is_used(
    image_tree: Path, notes: list[str]
) -> None:
    first = prepare(DataConfig(path=str(image_tree)), notes.append)
    meta = json.loads((first.folder / "meta.json").read_text())
    for later in ("image_size", "resize", "val_start", "cut", "suggested"):
        del meta[later]
    (first.folder / "meta.json").write_text(json.dumps(meta))
    notes.clear()
    for size in ("auto", 32):
        again = prepare(DataConfig(path=str(image_tree), image_size=size), notes.append)
        assert (again.folder, again.image_size) == (first.folder, 32)
    assert not [note for note in notes if note.startswith("decoding")]
