"""Rare classes: drawn more often, or with more weight in the loss, in training alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_images import toy_data, toy_run

from cifar_tune.plan.load import plan_from
from cifar_tune.train.fit import fit
from cifar_tune.vision.data.augmentation import BatchMaker, plan_epoch
from cifar_tune.vision.data.datamodule import TrainLoader
from cifar_tune.vision.data.dataset import SearchData
from cifar_tune.vision.data.found import found
from cifar_tune.vision.data.sources import Seen
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.task import VISION

CPU = torch.device("cpu")


def unbalanced() -> SearchData:
    """240 training images, 30 times as many of class 0 as of each other."""
    data = toy_data(240, 32)
    labels = np.zeros(240, np.int64)
    labels[:54] = np.repeat(np.arange(1, 10), 6)
    return replace(data, train_labels=labels)


def loader(config: DataConfig, epoch: int = 0) -> TrainLoader:
    data = unbalanced()
    maker = BatchMaker(config, data.mean, data.std, CPU)
    images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    return TrainLoader(images, labels, maker, config, 0, lambda: epoch)


def test_the_sampler_has_each_class_come_as_often() -> None:
    config = DataConfig(batch_size=60, balance="sampler")
    drawn = torch.cat([labels for epoch in range(20) for _, labels in loader(config, epoch)])
    counts = torch.bincount(drawn, minlength=10)
    assert len(drawn) == 20 * 240
    assert counts.min() > 380
    assert counts.max() < 590


def test_an_epoch_of_it_is_the_same_again_and_others_are_not() -> None:
    config = DataConfig(batch_size=60, balance="sampler")
    first, again, other = (
        torch.cat([labels for _, labels in loader(config, epoch)]) for epoch in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain = plan_epoch(240, DataConfig(), 0, 3)
    assert torch.equal(plain.order.sort().values, torch.arange(240))


def test_the_loss_weighs_classes_by_their_rarity_in_training_alone() -> None:
    data, run = unbalanced(), toy_run(data__balance="loss")
    module, _ = VISION.build(run, data, fresh=True)
    weights = module.class_weights
    assert isinstance(weights, torch.Tensor)
    assert weights[0].item() == pytest.approx(240 / (10 * 186))
    assert weights[1].item() == pytest.approx(240 / (10 * 6))
    assert "class_weights" not in module.state_dict()
    plain, _ = VISION.build(toy_run(), data, fresh=True)
    assert plain.class_weights is None


def test_both_train(tmp_path: object) -> None:
    for balance in ("sampler", "loss"):
        result = fit(toy_run(max_epochs=1, data__balance=balance), unbalanced())
        assert 0 < result.metrics["train_loss"] < 10


def test_an_unbalanced_set_is_told_with_what_helps() -> None:
    seen = Seen("images", ("a", "b"), (300, 10), (5, 5))
    (note,) = [one for one in found("x", seen, DataConfig()).sentences if "Unbalanced" in one]
    assert "has 30 times the training images of the smallest. data.balance=sampler or" in note
    assert "val_balanced_accuracy" in note
    for config, counts in ((DataConfig(balance="loss"), (300, 10)), (DataConfig(), (300, 60))):
        told = found("x", seen._replace(train=counts), config).sentences
        assert not any("Unbalanced" in one for one in told)


def test_it_can_be_searched() -> None:
    space = {"data.balance": {"choice": ["none", "sampler", "loss"]}}
    plan = plan_from({"search": {"space": space}}, "a plan")
    assert plan.with_values({"data.balance": "loss"}, 0).data.balance == "loss"
