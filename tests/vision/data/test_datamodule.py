"""Tests of the batches that Lightning gets, with a real Trainer on a CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifar_tune.errors import DataError
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import CifarDataModule, EvalLoader, TrainLoader, as_tensor
from cifar_tune.vision.data.dataset import SearchData
from cifar_tune.vision.data_config import DataConfig

MakeConfig = Callable[..., DataConfig]
CPU = torch.device("cpu")

# Lightning 2.6.6 asks torch's pytree in a way that torch 2.15 deprecates; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


class Watcher(L.LightningModule):
    """A linear model that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
        self.batches: list[tuple[int, Tensor, Tensor]] = []
        self.validated = 0

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        self.batches.append((self.current_epoch, images, labels))
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.validated += len(batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class KeepsCheckpoints(L.Callback):
    """Saves at the end of each validation, as the search does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self._folder / f"{trainer.current_epoch}.ckpt", weights_only=False)


def make_trainer(epochs: int, *callbacks: L.Callback, **fields: object) -> L.Trainer:
    options: dict[str, object] = {
        "max_epochs": epochs,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "callbacks": list(callbacks),
    }
    return L.Trainer(**{**options, **fields})


def test_lightning_trains_and_validates_on_all_of_it(
    noise_data: SearchData, make_config: MakeConfig
) -> None:
    model = Watcher()
    make_trainer(2).fit(model, datamodule=CifarDataModule(noise_data, make_config(), seed=0))
    assert [epoch for epoch, _, _ in model.batches] == [0] * 6 + [1] * 6  # 100 // 16 = 6
    assert model.batches[0][1].shape == (16, 3, 32, 32)
    assert model.validated == 60


def test_a_resumed_run_sees_the_batches_of_an_unbroken_one(
    noise_data: SearchData, make_config: MakeConfig, tmp_path: Path
) -> None:
    def module() -> CifarDataModule:
        return CifarDataModule(noise_data, make_config(flip="alternating", cutout=4), seed=3)

    unbroken, resumed = Watcher(), Watcher()
    make_trainer(4, KeepsCheckpoints(tmp_path)).fit(unbroken, datamodule=module())
    make_trainer(4).fit(
        resumed, datamodule=module(), ckpt_path=tmp_path / "1.ckpt", weights_only=True
    )
    rest = [batch for batch in unbroken.batches if batch[0] >= 2]
    assert [epoch for epoch, _, _ in resumed.batches] == [2] * 6 + [3] * 6
    for (_, images, labels), (_, again, labels_again) in zip(rest, resumed.batches, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
    for parameter, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_fast_dev_run_works(noise_data: SearchData, make_config: MakeConfig) -> None:
    model = Watcher()
    trainer = make_trainer(9, fast_dev_run=2)
    trainer.fit(model, datamodule=CifarDataModule(noise_data, make_config(), seed=0))
    assert len(model.batches) == 2


def test_the_last_batch_is_left_out_or_not(noise_data: SearchData, make_config: MakeConfig) -> None:
    model = Watcher()
    config = make_config(drop_last=False)
    make_trainer(1).fit(model, datamodule=CifarDataModule(noise_data, config, seed=0))
    assert [len(labels) for _, _, labels in model.batches] == [16] * 6 + [4]


def test_the_only_batch_is_not_left_out(noise_data: SearchData, make_config: MakeConfig) -> None:
    model = Watcher()
    module = CifarDataModule(noise_data, make_config(batch_size=256), seed=0)
    make_trainer(2).fit(model, datamodule=module)
    assert [len(labels) for _, _, labels in model.batches] == [100, 100]


def test_processes_share_each_training_batch(
    noise_data: SearchData, make_config: MakeConfig
) -> None:
    config = make_config(drop_last=False)
    maker = BatchMaker(config, noise_data.mean, noise_data.std, CPU)
    images, labels = as_tensor(noise_data.train_images), as_tensor(noise_data.train_labels)

    def batches(rank: int, world: int) -> list[tuple[Tensor, Tensor]]:
        return list(TrainLoader(images, labels, maker, config, 0, lambda: 0, rank, world))

    whole, shares = batches(0, 1), [batches(rank, 3) for rank in range(3)]
    assert len(whole) == len(shares[0]) == len(shares[1]) == len(shares[2]) == 7
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sum(len(part[1]) for part in parts) == len(batch[1])
        for rank, part in enumerate(parts):
            assert torch.equal(part[0], batch[0][rank::3])
    with pytest.raises(
        DataError, match=r"has 16 images \(data\.batch_size is 16\), shared by 17 processes"
    ):
        batches(0, 17)


def test_evaluation_batches_are_plain_and_complete(noise_data: SearchData) -> None:
    maker = BatchMaker(DataConfig(), noise_data.mean, noise_data.std, CPU)
    images, labels = as_tensor(noise_data.val_images), as_tensor(noise_data.val_labels)
    loader = EvalLoader(images, labels, maker, 8)
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    assert torch.equal(torch.cat([batch[0] for batch in batches]), maker.plain(images))
    assert torch.equal(torch.cat([batch[1] for batch in batches]), labels)


def test_a_tensor_shares_the_memory_of_a_read_only_array() -> None:
    array = np.arange(6, dtype=np.uint8)
    array.setflags(write=False)
    tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    address = weakref.ref(array)
    del array
    gc.collect()
    assert address() is not None
    assert tensor.tolist() == [0, 1, 2, 3, 4, 5]


def test_teardown_lets_go_of_the_arrays(noise_data: SearchData, make_config: MakeConfig) -> None:
    module = CifarDataModule(noise_data, make_config(), seed=0)
    make_trainer(1).fit(Watcher(), datamodule=module)
    assert module._train is None
    assert module._val is None
