"""Transforms of torchvision on batches: off by default, drawn by epoch, equal after a restart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from toy_images import toy_data, toy_run

from cifar_tune.train.fit import fit
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import TrainLoader, as_tensor
from cifar_tune.vision.data.photographs import photographs_of
from cifar_tune.vision.data_config import DataConfig

DATA = toy_data(train=40)
EACH = [
    {"random_resized_crop": 0.3},
    {"color_jitter": 0.4},
    {"trivial_augment": True},
    {"mixup": 0.2},
    {"cutmix": 1.0},
]
ALL = {name: value for one in EACH for name, value in one.items()}


def batches(epoch: int = 0, rank: int = 0, world_size: int = 1, **values: Any) -> list[Any]:
    """The batches of one epoch of 16, 16 and 8 images, as a training gets them."""
    config = DataConfig(batch_size=16, drop_last=False, **values)
    maker = BatchMaker(config, DATA.mean, DATA.std, torch.device("cpu"))
    photographs = photographs_of(config, 32, len(DATA.classes), seed=3)
    arrays = as_tensor(DATA.train_images), as_tensor(DATA.train_labels)
    return list(
        TrainLoader(*arrays, maker, config, 3, lambda: epoch, rank, world_size, None, photographs)
    )


def same(one: list[Any], other: list[Any]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(x, y) for a, b in pairs for x, y in zip(a, b, strict=True))


def test_by_default_nothing_of_it_is_made() -> None:
    assert photographs_of(DataConfig(), 32, 10, seed=0) is None


@pytest.mark.parametrize("values", [*EACH, ALL])
def test_an_epoch_is_the_same_whatever_was_drawn_before_and_unlike_the_next(
    values: dict[str, Any],
) -> None:
    state = torch.get_rng_state()
    first = batches(**values)
    assert torch.equal(torch.get_rng_state(), state), "a network's own draws are as ever"
    torch.rand(7)
    assert same(first, batches(**values))
    assert not same(first, batches(epoch=1, **values))
    plain = batches()
    assert not same(first, plain)
    assert all(
        a.shape == b.shape and a.dtype == b.dtype
        for (a, _), (b, _) in zip(first, plain, strict=True)
    )
    assert all(bool(images.isfinite().all()) for images, _ in first)


@pytest.mark.parametrize("values", EACH[:3])
def test_two_workers_change_their_images_as_one_does(values: dict[str, Any]) -> None:
    alone = batches(**values)
    shares = [batches(rank=rank, world_size=2, **values) for rank in (0, 1)]
    for number, (images, labels) in enumerate(alone):
        for rank, share in enumerate(shares):
            assert torch.equal(share[number][0], images[rank::2])
            assert torch.equal(share[number][1], labels[rank::2])


def test_a_crop_of_nearly_all_of_an_image_is_nearly_the_image() -> None:
    still = {"crop_padding": 0, "flip": "none"}
    (cropped, _), (plain, _) = batches(random_resized_crop=0.99, **still)[0], batches(**still)[0]
    assert (cropped - plain).abs().mean() < 0.5 < (plain - plain.mean()).abs().mean()


@pytest.mark.parametrize("values", EACH[3:])
def test_mixed_labels_are_the_shares_of_two_images_classes(values: dict[str, Any]) -> None:
    for (_, shares), (_, labels) in zip(batches(**values), batches(), strict=True):
        assert shares.sum(dim=1) == pytest.approx(torch.ones(len(labels)))
        expected = torch.nn.functional.one_hot(labels, 10).float()
        share = shares[torch.arange(len(labels)), labels]
        assert torch.equal(shares > 0, (expected + expected.roll(1, 0)) * (shares > 0) > 0)
        assert (share > 0).all() or values == {"cutmix": 1.0}


@pytest.mark.parametrize("side", [64, 96])
def test_images_of_other_sizes_are_changed_too(side: int) -> None:
    photographs = photographs_of(DataConfig(**ALL), side, 3, seed=0)  # type: ignore[arg-type]
    assert photographs is not None
    pixels = torch.randint(256, (6, side, side, 3), dtype=torch.uint8)
    changed = photographs.pixels(pixels, range(6), epoch=0, batch=0)
    assert (changed.shape, changed.dtype) == (pixels.shape, torch.uint8)


def test_a_training_with_all_of_it_resumes_to_the_same_bits(tmp_path: Any) -> None:
    run = toy_run(
        max_epochs=2, optim__label_smoothing=0.1, **{f"data__{k}": x for k, x in ALL.items()}
    )
    half = tmp_path / "half.ckpt"

    def save(trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(half)

    whole = fit(run, toy_data(), callbacks=[LambdaCallback(on_validation_end=save)])
    resumed = fit(run, toy_data(), resume_from=half)
    assert whole.metrics["train_loss"] == resumed.metrics["train_loss"] > 0
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
