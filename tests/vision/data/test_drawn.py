"""Tests of the drawn set: the same every time, balanced, and no task for a linear model."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from cifar_tune.vision.data.drawn import draw


def test_it_has_the_shape_of_cifar_10_in_small() -> None:
    decoded = draw(1200, 300)
    assert decoded.kind == "drawn"
    assert len(decoded.classes) == 10
    assert decoded.train.images.shape == (1200, 32, 32, 3)
    assert decoded.train.images.dtype == decoded.test.images.dtype == np.uint8
    assert decoded.train.labels.dtype == np.int64
    assert np.array_equal(np.bincount(decoded.train.labels), np.full(10, 120))
    assert np.array_equal(np.bincount(decoded.test.labels), np.full(10, 30))


def test_it_is_the_same_every_time_and_another_with_another_seed() -> None:
    def digest(seed: int) -> str:
        return hashlib.sha256(draw(600, 10, seed).train.images.tobytes()).hexdigest()

    assert digest(0) == digest(0)
    assert digest(0) != digest(1)


def test_a_smaller_set_is_the_beginning_of_a_larger() -> None:
    small, large = draw(150, 20), draw(1100, 40)
    assert np.array_equal(small.train.images, large.train.images[:150])
    assert np.array_equal(small.test.labels, large.test.labels[:20])


def test_training_and_test_images_are_different() -> None:
    decoded = draw(500, 500)
    train = {image.tobytes() for image in decoded.train.images}
    assert not train & {image.tobytes() for image in decoded.test.images}


def test_a_linear_model_learns_little() -> None:
    decoded = draw(3000, 1000)

    def pixels(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images.reshape(len(images), -1)).float() / 127.5 - 1

    torch.manual_seed(0)
    model = nn.Linear(3072, 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    images, labels = pixels(decoded.train.images), torch.from_numpy(decoded.train.labels)
    for _ in range(5):
        for index in torch.randperm(3000).split(128):
            loss = nn.functional.cross_entropy(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    guessed = model(pixels(decoded.test.images)).argmax(dim=1)
    accuracy = (guessed == torch.from_numpy(decoded.test.labels)).float().mean()
    assert 0.1 < accuracy <= 0.5
