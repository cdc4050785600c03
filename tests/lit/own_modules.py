"""Modules and data modules as people write them: they know nothing of a search."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class Blobs(L.LightningDataModule):
    """Three classes of points in ten dimensions."""

    def __init__(self, batch_size: int = 32, examples: int = 240, noise: float = 0.5) -> None:
        super().__init__()
        self.batch_size, self.examples, self.noise = batch_size, examples, noise

    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(self.examples, 10, generator=generator)
        away = self.noise * torch.randn(self.examples, 3, generator=generator)
        y = (x @ torch.randn(10, 3, generator=generator) + away).argmax(1)
        self.train, self.val, self.test = random_split(TensorDataset(x, y), [0.6, 0.2, 0.2])

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, batch_size=64)

    def test_dataloader(self) -> Any:
        return DataLoader(self.test, batch_size=64)


class WithConfirm(Blobs):
    """Has examples for the finals alone."""

    def confirm_dataloader(self) -> Any:
        return DataLoader(self.test, batch_size=64)


class TwoLoaders(Blobs):
    """Validates on two loaders, so that Lightning adds their numbers to the names."""

    def val_dataloader(self) -> Any:
        return [DataLoader(self.val, batch_size=64), DataLoader(self.test, batch_size=64)]


class NoValidation(Blobs):
    """Has no validation data."""

    val_dataloader = L.LightningDataModule.val_dataloader


class _Jittered(Dataset[tuple[Tensor, Tensor]]):
    """Draws from numpy and from Python for each example."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.of[index]
        return x + 0.1 * float(np.random.randn()) + 0.1 * random.random(), y


class Jittered(Blobs):
    """Augments, in processes of its own if that is wanted; counts what it prepares."""

    def __init__(self, workers: int = 0, told: str = "", **given: Any) -> None:
        super().__init__(**given)
        self.workers, self.told = workers, told

    def prepare_data(self) -> None:
        if self.told:
            with Path(self.told).open("a") as file:
                file.write("prepared\n")

    def train_dataloader(self) -> Any:
        return DataLoader(
            _Jittered(self.train),
            batch_size=self.batch_size,
            shuffle=True,
            num_workers=self.workers,
        )


class Classifier(L.LightningModule):
    """The usual one: hyperparameters saved, metrics as objects and as floats."""

    def __init__(self, lr: float = 0.1, hidden: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(10, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 3)
        )
        self.f1 = torchmetrics.classification.MulticlassF1Score(3)

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        logits = self(x)
        self.f1(logits, y)
        self.log("val_f1", self.f1)
        self.log("val_acc", (logits.argmax(1) == y).float().mean())
        self.log("val_loss", F.cross_entropy(logits, y))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)


class ListForm(Classifier):
    """Optimizers and schedules in lists; the schedule goes over all epochs."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
        epochs = self.trainer.max_epochs or 1
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)]


class DictForm(Classifier):
    """One cycle, step by step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams["lr"], total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Plateau(Classifier):
    """A schedule that watches a metric."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "val_loss"}


class TupleForm(Classifier):
    """Two optimizers as a tuple of dicts, stepped by hand."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            loss = F.cross_entropy(self(x), y)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        first, last = self.net[0].parameters(), self.net[3].parameters()
        lr = self.hparams["lr"]
        return (
            {"optimizer": torch.optim.SGD(first, lr=lr)},
            {"optimizer": torch.optim.Adam(last, lr=lr / 10)},
        )


class NoOptimizer(Classifier):
    """Trains nothing, and says so."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None

    def configure_optimizers(self) -> Any:
        return None


class Unsaved(L.LightningModule):
    """Saves no hyperparameters, and makes its layers late."""

    def __init__(self, lr: float, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.lr, self.activation = lr, activation or nn.ReLU()

    def configure_model(self) -> None:
        if not hasattr(self, "net"):
            self.net = nn.Sequential(nn.Linear(10, 8), self.activation, nn.Linear(8, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Bag(Unsaved):
    """Takes whatever it is given by name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(lr=kwargs["lr"])
        self.kept = kwargs


class Hparams(Unsaved):
    """Takes a dict, as modules used to."""

    def __init__(self, hparams: dict) -> None:  # type: ignore[type-arg]
        super().__init__(lr=hparams["optim"]["lr"])


class WithCallbacks(Classifier):
    """Brings its own early stopping."""

    def configure_callbacks(self) -> Any:
        from lightning.pytorch.callbacks import EarlyStopping

        return [EarlyStopping("val_loss", patience=1, min_delta=100.0)]


class Loud(Classifier):
    """Prints and warns."""

    def on_fit_start(self) -> None:
        print("a word of the module's own")  # noqa: T201
        warnings.warn("and a warning", stacklevel=1)


class Raising(Classifier):
    """Breaks in its first step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise RuntimeError("the shapes do not go together")


class Nan(Classifier):
    """Logs no number once its rate is high."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_aux", float("nan"))
        self.log("val_f1", float("nan") if self.hparams["lr"] > 0.5 else 0.5)


class NotAModule:
    """No LightningModule."""


def a_function() -> None:
    """No class at all."""


class WithoutLog(Classifier):
    """Validates, and tells nobody."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self(batch[0])


class Injected(Unsaved):
    """Gets what makes its optimizer and its schedule, as modules for Hydra do."""

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler = None,  # type: ignore[valid-type, assignment]
    ) -> None:
        super().__init__(lr=0.0)
        self.net, self.optimizer, self.scheduler = net, optimizer, scheduler

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(params=self.parameters())  # type: ignore[operator]
        if self.scheduler is None:
            return optimizer
        return [optimizer], [self.scheduler(optimizer=optimizer)]


class Splits(Blobs):
    """Splits anew in each setup, whatever the stage."""

    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed(1)
        whole = TensorDataset(torch.randn(200, 10, generator=generator), torch.arange(200) % 3)
        self.train, self.val, self.test = random_split(whole, [100, 50, 50])


class Staged(Blobs):
    """Knows the stages of Lightning's own documents alone."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            del self.test
        if stage == "test":
            del self.train, self.val


class Keeping(Blobs):
    """Keeps what it prepares in the object, as it should not."""

    def prepare_data(self) -> None:
        self.raw = torch.randn(self.examples, 10)

    def setup(self, stage: str) -> None:
        assert len(self.raw) == self.examples
        super().setup(stage)


class MadeInSetup(Classifier):
    """Makes a layer when it is set up, logs by itself, and has odd words for arguments."""

    def __init__(self, lr: float = 0.1, untyped="x") -> None:  # type: ignore[no-untyped-def]
        super().__init__(lr=lr)
        self.untyped = untyped

    def setup(self, stage: str) -> None:
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.net(x))

    def on_train_epoch_end(self) -> None:
        self.logger.log_metrics({"mine": 1.0})  # type: ignore[union-attr]
        self.logger.experiment.add_image("mine", torch.zeros(3, 3))  # type: ignore[union-attr]


class Sequential(Classifier):
    """A schedule of two, and one that needs more than one epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])
        epochs = self.trainer.max_epochs or 0
        parts = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (epochs - 1)),
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0),
        ]
        return [optimizer], [torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [1])]


class Odd(Classifier):
    """Puts into its checkpoint what only code can load."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = {Path("a")}


class Shared(Classifier):
    """Logs over all workers; its BatchNorm has figures of its own."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr=lr)
        self.net.insert(1, nn.BatchNorm1d(16))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        logits = self(x)
        self.f1(logits, y)
        self.log("val_f1", self.f1)
        self.log("val_loss", F.cross_entropy(logits, y), sync_dist=True)


class Turns(Shared):
    """Two networks that take turns, as in a GAN: each loss leaves one of them out."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr=lr)
        self.automatic_optimization = False
        self.other = nn.Linear(10, 3)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        part = batch_idx % 2
        optimizer = self.optimizers()[part]  # type: ignore[index]
        loss = F.cross_entropy(self.other(x) if part else self(x), y)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def configure_optimizers(self) -> Any:
        lr = self.hparams["lr"]
        return [
            torch.optim.SGD(self.net.parameters(), lr=lr, momentum=0.9),
            torch.optim.SGD(self.other.parameters(), lr=lr),
        ]
