"""Tests of the splits: stratified, nested, disjoint, and closed to what a search may not see."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cifar_tune.errors import DataError
from cifar_tune.vision.data import Dataset, prepare_drawn, search_data
from cifar_tune.vision.data.held_out import open_confirm_split, open_test_split
from cifar_tune.vision.data.splits import lacking_classes, settle, sizes_of, split_indices
from cifar_tune.vision.data_config import DataConfig

MakeConfig = Callable[..., DataConfig]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))  # [600]


def test_parts_are_disjoint_and_by_default_cover_everything(make_config: MakeConfig) -> None:
    split = split_indices(LABELS, 10, make_config())
    assert (len(split.train), len(split.val), len(split.confirm)) == (560, 20, 20)
    together = np.concatenate([split.train, split.val, split.confirm])
    assert np.array_equal(np.sort(together), np.arange(600))


def test_parts_have_equal_shares_of_each_class(make_config: MakeConfig) -> None:
    split = split_indices(LABELS, 10, make_config(val_size=100, confirm_size=50, train_size=300))
    for part, each in ((split.train, 30), (split.val, 10), (split.confirm, 5)):
        assert np.array_equal(np.bincount(LABELS[part]), np.full(10, each))


def test_unequal_classes_keep_their_proportions(make_config: MakeConfig) -> None:
    labels = np.repeat([0, 1, 2], [300, 200, 100])
    split = split_indices(labels, 3, make_config(val_size=60, confirm_size=60, train_size=120))
    for part, scale in ((split.val, 1), (split.confirm, 1), (split.train, 2)):
        counts = np.bincount(labels[part])
        assert np.abs(counts - np.array([30, 20, 10]) * scale).max() <= 1


def test_a_smaller_train_size_is_part_of_a_larger_and_moves_nothing_else(
    make_config: MakeConfig,
) -> None:
    small = split_indices(LABELS, 10, make_config(train_size=100))
    large = split_indices(LABELS, 10, make_config(train_size=400))
    assert set(small.train) < set(large.train)
    assert np.array_equal(small.val, large.val)
    assert np.array_equal(small.confirm, large.confirm)


def test_another_val_size_moves_no_confirmation_image(make_config: MakeConfig) -> None:
    small = split_indices(LABELS, 10, make_config(val_size=20))
    large = split_indices(LABELS, 10, make_config(val_size=200))
    assert np.array_equal(small.confirm, large.confirm)
    assert set(small.val) < set(large.val)


def test_the_seed_decides(make_config: MakeConfig) -> None:
    first, again, other = (
        split_indices(LABELS, 10, make_config(split_seed=seed)).val for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"val_size": 580}, r"data\.val_size \+ data\.confirm_size is 580 \+ 20, which leaves 0"),
        ({"train_size": 561}, r"data\.train_size is 561, but .* leaves 560 of 600"),
        ({"val_size": 9}, r"data\.val_size is 9; it must be at least 10, one image of each class"),
        ({"train_size": 9}, r"data\.train_size is 9; it must be at least 10"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    make_config: MakeConfig, fields: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        split_indices(LABELS, 10, make_config(**fields))


@pytest.fixture
def drawn(notes: list[str]) -> Dataset:
    return prepare_drawn(notes.append, train_size=300, test_size=50)


def test_a_search_gets_plain_copies_and_no_road_to_the_rest(
    drawn: Dataset, make_config: MakeConfig
) -> None:
    data = search_data(drawn, make_config())
    assert set(vars(data)) == {
        "train_images",
        "train_labels",
        "val_images",
        "val_labels",
        "classes",
        "mean",
        "std",
        "weights",
    }
    for name in ("train_images", "train_labels", "val_images", "val_labels"):
        array = getattr(data, name)
        assert type(array) is np.ndarray
        assert array.base is None  # no view through which the whole training set could be had
    assert b"entries" not in pickle.dumps((data.classes, data.mean, data.std))


def test_what_a_search_gets_overlaps_with_neither_held_out_split(
    drawn: Dataset, make_config: MakeConfig
) -> None:
    config = make_config()
    data = search_data(drawn, config)
    seen = {image.tobytes() for image in (*data.train_images, *data.val_images)}
    confirm, test = open_confirm_split(drawn, config), open_test_split(drawn)
    assert (len(seen), len(confirm), len(test)) == (280, 20, 50)
    for held_out in (confirm, test):
        assert not seen & {image.tobytes() for image in held_out.images}


def test_it_pickles_out_of_band(drawn: Dataset, make_config: MakeConfig) -> None:
    data = search_data(drawn, make_config())
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(stream) < 2000
    again = pickle.loads(stream, buffers=buffers)
    assert np.array_equal(again.train_images, data.train_images)


@pytest.mark.parametrize(
    ("images", "each"),
    [(12, 2), (80, 16), (2500, 500), (4000, 500), (8000, 800), (50_000, 5000), (10**6, 5000)],
)
def test_by_default_a_set_gives_what_it_can(images: int, each: int) -> None:
    assert sizes_of(DataConfig(), images, classes=2) == (images - 2 * each, each, each)


def test_by_default_each_class_can_be_in_the_validation_and_no_set_is_used_up() -> None:
    assert sizes_of(DataConfig(), 300, classes=100) == (200, 100, 0)
    assert sizes_of(DataConfig(), 4, classes=2) == (2, 2, 0)
    with pytest.raises(DataError, match="leaves 1 of 3 training images"):
        sizes_of(DataConfig(), 3, classes=2)


def test_a_part_of_the_images_becomes_their_number_and_stays_the_same_split(
    make_config: MakeConfig,
) -> None:
    config = make_config(val_size=0.25, confirm_size=0.1)
    settled = settle(config, 600, 10)
    assert (settled.val_size, settled.confirm_size) == (150, 60)
    assert settle(settled, 600, 10) == settled
    for one, other in zip(
        split_indices(LABELS, 10, config),
        split_indices(LABELS, 10, settled),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_classes_that_a_part_has_none_of_are_told(make_config: MakeConfig) -> None:
    assert lacking_classes([60] * 10, make_config()) == {}
    few = lacking_classes([100, 1, 2], make_config(val_size=10, confirm_size=10))
    assert set(few) <= {"train", "val", "confirm"}
    assert all(2 in few[part] or 1 in few[part] for part in few)
    assert 1 in few["val"] + few["confirm"]


def test_held_out_splits_say_when_the_cache_was_damaged_meanwhile(
    drawn: Dataset, make_config: MakeConfig
) -> None:
    file = drawn.folder / "test_images.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged \(test_images.npy does not have its checksum\)"):
        open_test_split(drawn)
    assert len(open_confirm_split(drawn, make_config())) == 20


def test_the_test_split_is_opened_by_the_task_alone_and_that_is_asked_for_by_the_finals_alone() -> (
    None
):
    package = Path(__file__).parents[3] / "cifar_tune"
    texts = {
        file.relative_to(package).as_posix(): file.read_text(encoding="utf-8")
        for file in package.rglob("*.py")
    }
    opening = {name for name, text in texts.items() if "open_test_split" in text}
    assert opening == {"vision/data/held_out.py", "vision/task.py"}
    asking = {name for name, text in texts.items() if ".held_out(" in text}
    assert asking
    assert all(name.startswith(("finals/", "vision/")) for name in asking)
