"""Tests of the batched augmentation: against a naive one, its statistics and its repeatability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cifar_tune.vision.data.augmentation import BatchMaker, Choices, plan_epoch, reflected_windows
from cifar_tune.vision.data_config import DataConfig

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CHI_SQUARE_8_AT_1E6 = 42.7  # 1 in a million for 8 degrees of freedom


def noise(images: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (images, side, side, 3), generator=generator, dtype=torch.uint8)


def naive(image: torch.Tensor, choices: Choices, i: int, padding: int) -> torch.Tensor:
    """One image the slow way: pad, cut, flip, divide; [3, side, side] float32."""
    side = len(image)
    padded = F.pad(image.permute(2, 0, 1)[None].float(), (padding,) * 4, mode="reflect")[0]
    top, left = int(choices.top[i]), int(choices.left[i])
    crop = padded[:, top : top + side, left : left + side]
    if choices.flip[i]:
        crop = crop.flip(2)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (crop / 255 - mean) / std


@pytest.mark.parametrize(
    ("padding", "side"), [(1, 32), (4, 32), (16, 32), (4, 8), (7, 8), (20, 75)]
)
def test_equals_padding_cropping_and_flipping_image_by_image(padding: int, side: int) -> None:
    images, config = noise(40, side), DataConfig(crop_padding=padding, image_size=side)
    plan = plan_epoch(40, config, seed=1, epoch=0)
    batch = BatchMaker(config, MEAN, STD, CPU).augmented(images, plan.order, plan.choices)
    expected = torch.stack(
        [naive(images[image], plan.choices, i, padding) for i, image in enumerate(plan.order)]
    )
    torch.testing.assert_close(batch, expected, rtol=0, atol=2e-6)


def test_leaves_images_as_they_are_without_padding_and_flip() -> None:
    images, config = noise(8), DataConfig(crop_padding=0, flip="none")
    plan = plan_epoch(8, config, seed=1, epoch=0)
    maker = BatchMaker(config, MEAN, STD, CPU)
    batch = maker.augmented(images, plan.order, plan.choices)
    assert torch.equal(batch, maker.plain(images[plan.order]))


def test_reflects_like_torch_pads() -> None:
    row = torch.arange(32.0)[None, None]
    for padding in (0, 4, 16):
        padded = F.pad(row, (padding, padding), mode="reflect")[0, 0]
        expected = padded.unfold(0, 32, 1).long()
        assert torch.equal(reflected_windows(padding), expected)


def test_gives_the_memory_format_asked_for() -> None:
    images, config = noise(4), DataConfig()
    last = BatchMaker(config, MEAN, STD, CPU).plain(images)
    first = BatchMaker(config, MEAN, STD, CPU, channels_last=False).plain(images)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(last, first)


def test_offsets_are_uniform_and_independent_of_each_other() -> None:
    choices = plan_epoch(50_000, DataConfig(), seed=5, epoch=3).choices
    for offsets in (choices.top, choices.left):
        counts = torch.bincount(offsets, minlength=9).double()
        assert len(counts) == 9
        assert chi_square(counts) < CHI_SQUARE_8_AT_1E6
    both = torch.bincount(9 * choices.top + choices.left, minlength=81).double()
    assert chi_square(both) < 162  # 1 in a million for 80 degrees of freedom


def chi_square(counts: torch.Tensor) -> float:
    expected = counts.mean()
    return float(((counts - expected) ** 2 / expected).sum())


def test_random_flips_one_half() -> None:
    flips = plan_epoch(50_000, DataConfig(flip="random"), seed=5, epoch=3).choices.flip
    assert abs(flips.double().mean() - 0.5) < 5 * 0.5 / np.sqrt(50_000)
    assert not plan_epoch(1000, DataConfig(flip="none"), seed=5, epoch=3).choices.flip.any()


def test_alternating_flips_show_every_image_from_both_sides_in_turn() -> None:
    config, sides = DataConfig(flip="alternating"), []
    for epoch in range(4):
        plan = plan_epoch(2000, config, seed=5, epoch=epoch)
        by_image = torch.empty(2000, dtype=torch.int64)
        by_image[plan.order] = plan.choices.flip
        sides.append(by_image)
    assert torch.equal(sides[0], 1 - sides[1])
    assert torch.equal(sides[0], sides[2])
    assert torch.equal(sides[1], sides[3])
    assert 850 < int(sides[0].sum()) < 1150


def test_an_epoch_is_told_by_seed_and_number_alone() -> None:
    config = DataConfig(cutout=8)

    def fields(seed: int, epoch: int) -> list[torch.Tensor]:
        plan = plan_epoch(500, config, seed, epoch)
        return [plan.order, *plan.choices]

    first = fields(1, 2)
    plan_epoch(500, config, 9, 9)
    torch.manual_seed(4)
    assert all(torch.equal(a, b) for a, b in zip(first, fields(1, 2), strict=True))
    for other in (fields(1, 3), fields(2, 2), fields(2, 1)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_every_image_comes_once_an_epoch() -> None:
    assert torch.equal(plan_epoch(999, DataConfig(), 0, 0).order.sort().values, torch.arange(999))


def test_cutout_blanks_a_whole_square_with_the_mean() -> None:
    images, config = noise(300), DataConfig(cutout=9)
    plan = plan_epoch(300, config, seed=0, epoch=0)
    batch = BatchMaker(config, MEAN, STD, CPU).augmented(images, plan.order, plan.choices)
    blank = (batch == 0).all(dim=1)  # [300, 32, 32]; noise is never exactly the mean in all three
    assert (blank.sum(dim=(1, 2)) == 81).all()
    assert (blank.any(dim=1).sum(dim=1) == 9).all()
    assert (blank.any(dim=2).sum(dim=1) == 9).all()
    covered = blank.float().mean(dim=0)
    assert covered[16, 16] > 0.1  # the middle is hit, and so are the corners
    assert covered[0, 0] > 0


def test_values_are_those_of_totensor_and_normalize() -> None:
    images = noise(2)
    batch = BatchMaker(DataConfig(), MEAN, STD, CPU).plain(images)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    expected = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(batch, expected, rtol=0, atol=2e-6)
