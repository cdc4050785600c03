"""Tests of the cache: decoded once, never trusted when damaged, somewhere else when it must."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_tune.errors import DataError
from cifar_tune.vision.data import (
    cache_root,
    empty_cache,
    find_dataset,
    list_entries,
    prepare,
    prepare_drawn,
)
from cifar_tune.vision.data.cache import CACHE_VARIABLE, find_cache_root, get_or_decode
from cifar_tune.vision.data.dataset import Decoded, Images
from cifar_tune.vision.data.drawn import draw
from cifar_tune.vision.data.sources import Identity
from cifar_tune.vision.data.stored import ARRAYS, channel_statistics
from cifar_tune.vision.data_config import DataConfig


def test_a_second_use_decodes_nothing(image_tree: Path, notes: list[str]) -> None:
    config = DataConfig(path=str(image_tree))
    first = prepare(config, notes.append)
    assert [note for note in notes if note.startswith("decoding")]
    notes.clear()
    second = prepare(config, notes.append)
    assert not [note for note in notes if note.startswith("decoding")]
    assert second == first
    assert (first.train_size, first.test_size, first.classes) == (12, 4, ("cat", "dog"))


def test_arrays_are_plain_npy_files_with_a_description(image_tree: Path, notes: list[str]) -> None:
    dataset = prepare(DataConfig(path=str(image_tree)), notes.append)
    meta = json.loads((dataset.folder / "meta.json").read_text())
    for name in ARRAYS:
        array = np.load(dataset.folder / f"{name}.npy", allow_pickle=False)
        assert list(array.shape) == meta["shapes"][name]
    train = np.load(dataset.folder / "train_images.npy")
    scaled = train.reshape(-1, 3) / 255
    np.testing.assert_allclose(dataset.mean, scaled.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, scaled.std(axis=0), rtol=1e-12)


def test_statistics_are_those_of_numpy_over_several_parts() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2100, 32, 32, 3), np.uint8)
    mean, std = channel_statistics(images)
    scaled = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("name", ARRAYS)
def test_one_flipped_bit_is_found_and_the_entry_rebuilt(
    image_tree: Path, notes: list[str], name: str
) -> None:
    config = DataConfig(path=str(image_tree))
    first = prepare(config, notes.append)
    file = first.folder / f"{name}.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x10
    file.write_bytes(content)
    second = prepare(config, notes.append)
    assert second.fingerprint == first.fingerprint
    assert f"damaged ({name}.npy does not have its checksum) and was rebuilt" in second.notes[0]
    assert second.notes[0] in notes
    assert prepare(config, notes.append).notes == ()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "meta.json").write_text("{}"), "meta.json can't be read"),
        (lambda folder: (folder / "meta.json").unlink(), "meta.json can't be read"),
        (lambda folder: (folder / "train_labels.npy").unlink(), "train_labels.npy can't be read"),
        (lambda folder: os.truncate(folder / "train_images.npy", 500), "can't be read"),
        (lambda folder: (folder / "test_labels.npy").write_bytes(b""), "can't be read"),
        (lambda folder: np.save(folder / "test_labels.npy", np.zeros(9)), "has another shape"),
    ],
)
def test_other_damage_is_found_too(
    image_tree: Path, notes: list[str], damage: object, reason: str
) -> None:
    config = DataConfig(path=str(image_tree))
    first = prepare(config, notes.append)
    assert callable(damage)
    damage(first.folder)
    second = prepare(config, notes.append)
    assert second.fingerprint == first.fingerprint
    assert reason in second.notes[0]


def test_meta_whose_figures_were_changed_is_not_believed(
    image_tree: Path, notes: list[str]
) -> None:
    config = DataConfig(path=str(image_tree))
    folder = prepare(config, notes.append).folder
    meta = json.loads((folder / "meta.json").read_text())
    meta["classes"] = ["dog", "cat"]
    (folder / "meta.json").write_text(json.dumps(meta))
    assert "does not fit its own fingerprint" in prepare(config, notes.append).notes[0]


def test_a_pickle_in_place_of_an_array_never_runs(image_tree: Path, notes: list[str]) -> None:
    config = DataConfig(path=str(image_tree))
    folder = prepare(config, notes.append).folder
    canary = folder / "canary"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (canary.write_text, ("ran",))

    np.save(folder / "train_images.npy", np.array([Hostile()], object), allow_pickle=True)
    assert "train_images.npy can't be read" in prepare(config, notes.append).notes[0]
    assert not canary.exists()


def test_what_a_killed_process_left_is_cleared_away(
    image_tree: Path, notes: list[str], private_cache: Path
) -> None:
    config = DataConfig(path=str(image_tree))
    folder = prepare(config, notes.append).folder
    folder.rename(folder.with_name(f".{folder.name}-half"))
    prepare(config, notes.append)
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def _prepare_and_count(tree: str, barrier: object, counts: object) -> None:
    """Runs in another process: prepares the tree and reports how often it decoded."""
    from cifar_tune.vision.data import prepare as prepare_module_function
    from cifar_tune.vision.data import sources

    decodings = 0
    decode_images = sources.decode_images

    def counted(*given: Any, **named: Any) -> Decoded:
        nonlocal decodings
        decodings += 1
        return decode_images(*given, **named)

    sources.decode_images = counted
    barrier.wait()  # type: ignore[attr-defined]
    dataset = prepare_module_function(DataConfig(path=tree), lambda note: None)
    counts.put((decodings, dataset.fingerprint))  # type: ignore[attr-defined]


def test_processes_that_come_at_once_decode_once(image_tree: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=_prepare_and_count, args=(str(image_tree), barrier, counts))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    results = [counts.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(decodings for decodings, _ in results) == 1
    assert len({fingerprint for _, fingerprint in results}) == 1


def test_equal_names_and_sizes_with_other_content_are_refused(
    image_tree: Path, notes: list[str]
) -> None:
    config = DataConfig(path=str(image_tree))
    file = image_tree / "train" / "cat" / "000.png"
    other = image_tree / "train" / "cat" / "001.png"
    same_length = min(file.stat().st_size, other.stat().st_size)
    for each in (file, other):  # PNG readers ignore what follows the end of the image
        each.write_bytes(each.read_bytes().ljust(same_length + 200, b"\0"))
    size = file.stat().st_size
    first = prepare(config, notes.append)
    file.write_bytes(other.read_bytes()[:size].ljust(size, b"\0"))
    with pytest.raises(DataError, match="at its first use, with equal names and sizes"):
        prepare(config, notes.append)
    empty_cache()
    assert prepare(config, notes.append).fingerprint != first.fingerprint


def test_added_images_are_taken_as_meant(image_tree: Path, notes: list[str]) -> None:
    config = DataConfig(path=str(image_tree))
    first = prepare(config, notes.append)
    content = (image_tree / "train" / "cat" / "000.png").read_bytes()
    (image_tree / "train" / "cat" / "new.png").write_bytes(content)
    second = prepare(config, notes.append)
    assert second.train_size == first.train_size + 1
    assert second.fingerprint != first.fingerprint


def test_a_dataset_is_found_by_its_fingerprint_without_decoding(
    image_tree: Path, notes: list[str]
) -> None:
    dataset = prepare(DataConfig(path=str(image_tree)), notes.append)
    prepare_drawn(notes.append, 20, 10)
    (dataset.folder.parent / "torn").mkdir()
    assert find_dataset(dataset.fingerprint) == dataset
    assert find_dataset("another") is None


def test_entries_are_listed_and_emptied(image_tree: Path, notes: list[str]) -> None:
    prepare(DataConfig(path=str(image_tree)), notes.append)
    prepare_drawn(notes.append, 50, 10)
    damaged = prepare(DataConfig(path=str(image_tree)), notes.append).folder
    found = {entry.kind: entry for entry in list_entries()}
    assert set(found) == {"images", "drawn"}
    assert found["images"].source == str(image_tree)
    assert found["images"].size_bytes > 16 * 3072
    (damaged / "meta.json").unlink()
    assert {entry.kind for entry in list_entries()} == {"damaged", "drawn"}
    assert empty_cache() > 60 * 3072
    assert list_entries() == []


def test_a_cache_that_can_not_be_written_moves_and_says_so(
    image_tree: Path, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("no folder can be made below this")
    monkeypatch.setenv(CACHE_VARIABLE, str(blocker / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = prepare(DataConfig(path=str(image_tree)), notes.append)
    assert dataset.folder.is_relative_to(tmp_path / f"cifar-tune-{os.getuid()}")
    assert f"{blocker / 'cache'} can't be written" in dataset.notes[0]
    assert dataset.notes[0] in notes


def test_a_temporary_cache_of_someone_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(blocker / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"cifar-tune-{os.getuid()}").symlink_to(elsewhere)
    assert elsewhere not in (cache_root(), *cache_root().parents)


def test_without_a_home_or_a_name_it_still_finds_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, tempfile; from cifar_tune.vision.data.cache import find_cache_root; "
        "root = find_cache_root(); print(root.path); assert root.path.is_dir()"
    )
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "HOME": "/proc/nothing"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path))


@pytest.mark.parametrize("name", ["with space", "ünïcode", "a#%?b"])
def test_odd_paths_work(image_tree: Path, notes: list[str], name: str) -> None:
    odd = image_tree.rename(image_tree.parent / name)
    assert prepare(DataConfig(path=str(odd)), notes.append).train_size == 12


def test_a_full_disk_is_one_sentence(
    notes: list[str], private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_space)
    identity = Identity(key="k", listing="k")
    with pytest.raises(DataError, match=r"could not be written \(No space left on device\)"):
        get_or_decode(private_cache, identity, "drawn", lambda folder: draw(20, 10), notes.append)
    assert not list((private_cache / "entries").iterdir())


def test_equal_content_has_equal_fingerprints_wherever_it_came_from(
    notes: list[str], private_cache: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    part = Images(pixels, np.arange(4) % 2)

    def fingerprint(key: str, classes: tuple[str, ...]) -> str:
        decoded = Decoded("images", classes, part, part)
        identity = Identity(key, key)
        return get_or_decode(
            private_cache, identity, key, lambda folder: decoded, notes.append
        ).fingerprint

    assert fingerprint("a", ("x", "y")) == fingerprint("b", ("x", "y"))
    assert fingerprint("a", ("x", "y")) != fingerprint("c", ("x", "z"))


def test_the_root_is_the_variable_or_the_platforms_place(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_cache_root().path == private_cache
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_cache_root().path == tmp_path / "xdg" / "cifar-tune"
    assert find_cache_root().note is None
