"""Augmentation for photographs: transforms of torchvision v2 on batches, drawn by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cifar_tune.vision.data_config import DataConfig

GROUP = 4  # images of a batch that share a draw
Transform = Callable[..., Tensor]


class Photographs:
    """What a config asks of torchvision's transforms: on pixels, and on finished batches.

    v2 draws once a call, so that a batch is cut into groups of 4 images, each with draws of its
    own: an image is cropped, coloured and changed like three others of its batch, which the order
    of the epoch chose. mixup and cutmix draw once a batch and pair each image with the one before
    it. All draws come from (seed, epoch, batch) alone, so that a resumed training has those of an
    unbroken one. Of several workers each takes the draws of its images' places in the whole batch,
    and mixes within its own part.
    """

    def __init__(self, config: DataConfig, side: int, num_classes: int, seed: int) -> None:
        self._seed = seed
        self._on_pixels = _pixel_transforms(config, side)
        self._on_batch = _mixing(config, num_classes)

    @property
    def changes_pixels(self) -> bool:
        """Whether there is anything to do before images are normalised."""
        return bool(self._on_pixels)

    @property
    def mixes(self) -> bool:
        """Whether labels become shares of classes, float [batch, classes]."""
        return bool(self._on_batch)

    def pixels(self, images: Tensor, places: Sequence[int], epoch: int, batch: int) -> Tensor:
        """Change uint8 images [n, side, side, 3], which stand at `places` of the whole batch."""
        channels_first = images.permute(0, 3, 1, 2)
        groups = [place // GROUP for place in places]
        changed = []
        with _own_draws() as generator:
            for group in dict.fromkeys(groups):  # their places rise, so each is one slice
                start = groups.index(group)
                part = channels_first[start : start + groups.count(group)]
                generator.manual_seed(_state(self._seed, epoch, batch, group + 1))
                for transform in self._on_pixels:
                    part = transform(part)
                changed.append(part)
        return torch.cat(changed).permute(0, 2, 3, 1).contiguous()

    def mixed(
        self, images: Tensor, labels: Tensor, epoch: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """Mix normalised images [n, 3, side, side] and labels [n] of a batch with one another."""
        with _own_draws() as generator:
            generator.manual_seed(_state(self._seed, epoch, batch, 0))
            which = int(torch.randint(len(self._on_batch), ()))
            mixed: tuple[Tensor, Tensor] = self._on_batch[which](images, labels)  # type: ignore[assignment]
        return mixed


def photographs_of(
    config: DataConfig, side: int, num_classes: int, seed: int
) -> Photographs | None:
    """What a config asks for, or none: then nothing of it is imported or run."""
    asked = (
        config.random_resized_crop < 1,
        config.color_jitter > 0,
        config.trivial_augment,
        config.mixup > 0,
        config.cutmix > 0,
    )
    return Photographs(config, side, num_classes, seed) if any(asked) else None


def _pixel_transforms(config: DataConfig, side: int) -> list[Transform]:
    from torchvision.transforms import InterpolationMode, v2

    transforms: list[Transform] = []
    if config.random_resized_crop < 1:
        area = (config.random_resized_crop, 1.0)
        transforms.append(v2.RandomResizedCrop(side, scale=area, antialias=True))
    if config.color_jitter > 0:
        strength = config.color_jitter
        # No hue: that takes most of the time (6.3 ms an image of 224 x 224 with it).
        transforms.append(v2.ColorJitter(strength, strength, strength))
    if config.trivial_augment:
        transforms.append(v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR))
    return transforms


def _mixing(config: DataConfig, num_classes: int) -> list[Transform]:
    from torchvision.transforms import v2

    kinds = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
    return [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha > 0]


def _state(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _own_draws() -> Iterator[torch.Generator]:
    """v2 draws from the CPU's global state, which is a network's too: it is put back afterwards."""
    before = torch.default_generator.get_state()
    try:
        yield torch.default_generator
    finally:
        torch.default_generator.set_state(before)
