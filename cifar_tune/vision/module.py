"""The LightningModule: loss, optimizer and an epoch's figures, hooks in Lightning's order."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from cifar_tune.files import STATE_KEY
from cifar_tune.train.fit import epoch_seed
from cifar_tune.train.parallel import add_up, average_buffers
from cifar_tune.vision.config import DataConfig, VisionRun, side_of
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import as_tensor
from cifar_tune.vision.ensemble import build_members
from cifar_tune.vision.metrics import Validation
from cifar_tune.vision.models.stages import freeze
from cifar_tune.vision.optim import apply_config, build_optimizer, build_schedule

INIT_IMAGES = 2000  # at most, that a network may start from


class Classifier(L.LightningModule):
    """An image classifier that knows how it was trained and what its images look like.

    Everything that it is made from is plain (dicts, lists, words, numbers), so that
    `Classifier.load_from_checkpoint(path, weights_only=True)` works in any process.

    Attributes:
        run: the checked config.
        classes, mean, std: as given to the constructor, as tuples.
        model: the network alone.
        epoch_metrics: the figures of the newest epoch, finite floats, ready when callbacks get
            `on_validation_end`: `epoch` (from 1), `val_loss` (cross entropy, no label smoothing),
            `val_accuracy`, `train_loss` (as optimised, mean over the epoch), `best_val_accuracy`,
            `lr` (of the epoch's last step), `images_per_second` (training alone) and, on a GPU,
            `gpu_peak_bytes`; and what `train.metrics` asks for. `trainer.callback_metrics` has them
            too.
        best_epoch: the epoch (from 1) of `best_val_accuracy`, the first if several are equal.
        diverged: whether a loss or a weight stopped being finite. Then the metrics have only what
            is finite, once, and the trainer is told to stop.
        loss_weight: what the loss is multiplied by for its gradient; of several workers each has
            its part of a batch. The figures are those of all workers, and equal in them.
    """

    def __init__(
        self,
        run: VisionRun | dict[str, Any],
        classes: list[str],
        mean: list[float],
        std: list[float],
        members: int = 1,
    ) -> None:
        """Build the network from torch's global random state.

        Args:
            run: the config, or its plain values (`as_values`) as a checkpoint has them; `auto`
                fields count as off.
            classes: names, in the order of the labels.
            mean: of each channel, in 0..1, that images were normalised with.
            std: the same.
            members: networks whose logits are averaged; a training has one.

        Raises:
            PlanError: the model can't be built.
        """
        super().__init__()
        self.run = run if isinstance(run, VisionRun) else VisionRun.model_validate(run)
        values = {"run": self.run.as_values(), "classes": classes, "mean": mean, "std": std}
        self.save_hyperparameters(values)
        self.classes, self.mean, self.std = tuple(classes), tuple(mean), tuple(std)
        side = side_of(self.run.data)
        self.model = build_members(self.run.model, len(classes), members, side)
        frozen = 0 if members > 1 else self.run.model.freeze
        self._frozen = freeze(self.model, frozen, self.run.model.name)
        channels_last = self.run.train.channels_last is True
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)
        self.epoch_metrics: dict[str, float] = {}
        self.best_epoch = 0
        self.diverged = False
        self.loss_weight = 1.0
        self._train = _Sums(self.device)
        self._val = _Sums(self.device)
        self._validation = Validation(())
        self.train()

    def train(self, mode: bool = True) -> Classifier:
        """Frozen stages stay in eval mode: the running figures of their BatchNorm do not move."""
        super().train(mode)
        for name in self._frozen:
            self.model.get_submodule(name).eval()
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning writes this word 46 times a step, and each time nn.Module would look whether
        # the value is a parameter, a buffer or a module: 56 of the 435 µs it adds to a step.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float [batch, classes], of normalised images, float [batch, 3, 32, 32]."""
        logits: Tensor = self.model(images.contiguous(memory_format=self.memory_format))
        return logits

    def configure_optimizers(self) -> OptimizerLRScheduler:
        precision = self.run.train.precision
        optimizer = build_optimizer(self.model, self.run.optim, precision=precision)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimizer, self.run.optim, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_fit_start(self) -> None:
        if self._frozen:  # `fit` undoes this filter
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")

    def on_train_start(self) -> None:
        # The figures are summed over the workers before they are logged; `fit` undoes this filter.
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
        # The first hook after a checkpoint's optimizer and schedule are restored.
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        apply_config(self.trainer.optimizers[0], schedule, self.run.optim)

    def on_train_epoch_start(self) -> None:
        # Dropout and its like draw from the global state. Seeding it here by the epoch makes a
        # resumed run draw what an unbroken one does, with nothing to save.
        seed = epoch_seed(self.run.seed, self.current_epoch, self.trainer.global_rank)
        torch.manual_seed(seed)
        self._train = _Sums(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        # No self.log here (it costs more than the rest of Lightning's step) and nothing that
        # waits for the device.
        images, labels = batch
        smoothing = self.run.optim.label_smoothing
        loss = F.cross_entropy(self(images), labels, label_smoothing=smoothing)
        self._train.loss.add_(loss.detach(), alpha=len(labels))
        self._train.images += len(labels)
        return loss if self.loss_weight == 1.0 else loss * self.loss_weight

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        self._train.lr = scheduler.optimizer.param_groups[0]["lr"]
        scheduler.step()

    def on_validation_epoch_start(self) -> None:
        self._train.stop(self._workers)
        if self._workers > 1:
            average_buffers(self.model)
        self._val = _Sums(self.device)
        self._validation = Validation(self.run.train.metrics)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        # Plain integer sums rather than torchmetrics: its accuracy is a float32, so 0.7 would be
        # reported as 0.699999988.
        images, labels = batch
        logits = self(images).float()
        self._val.loss += F.cross_entropy(logits, labels, reduction="sum")
        self._val.correct += (logits.argmax(dim=1) == labels).sum()
        self._val.images += len(labels)
        self._validation.add(logits, labels)

    def on_validation_epoch_end(self) -> None:
        self._val.stop(self._workers)
        figures = {
            "val_loss": self._val.mean_loss,
            "val_accuracy": self._val.accuracy,
            **self._validation.figures(workers=self._workers),
        }
        if self.trainer.state.fn == TrainerFn.FITTING:
            figures = self._finish_epoch(figures)
            self.epoch_metrics = figures
        # As float64 tensors, or Lightning would round them to float32.
        self.log_dict({name: torch.tensor(x, dtype=torch.float64) for name, x in figures.items()})

    @property
    def _workers(self) -> int:
        return self.trainer.world_size

    def _finish_epoch(self, figures: dict[str, float]) -> dict[str, float]:
        """The epoch's figures, made finite; notes the best epoch, and stops a diverged training."""
        train_loss = self._train.mean_loss
        best = self.epoch_metrics.get("best_val_accuracy", 0.0)
        self.diverged = not (
            math.isfinite(train_loss) and math.isfinite(figures["val_loss"]) and self._finite()
        )
        if self.diverged:
            self.trainer.should_stop = True
            figures = {}
        elif figures["val_accuracy"] > best or not self.best_epoch:
            best, self.best_epoch = figures["val_accuracy"], self.current_epoch + 1
        figures = {
            "epoch": float(self.current_epoch + 1),
            **figures,
            "train_loss": train_loss,
            "best_val_accuracy": best,
            "lr": self._train.lr,
            "images_per_second": self._train.images / self._train.seconds,
        }
        if self.device.type == "cuda":
            figures["gpu_peak_bytes"] = float(torch.cuda.max_memory_allocated(self.device))
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def _finite(self) -> bool:
        """Whether all weights and running statistics are finite; waits for the device once."""
        floats = [x for x in self.model.state_dict().values() if x.is_floating_point()]
        return bool(torch.stack([x.isfinite().all() for x in floats]).all())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = {"epoch_metrics": dict(self.epoch_metrics), "best_epoch": self.best_epoch}
        checkpoint[STATE_KEY] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get(STATE_KEY, {})
        self.epoch_metrics = dict(state.get("epoch_metrics", {}))
        self.best_epoch = state.get("best_epoch", 0)


class _Sums:
    """Sums over the batches of an epoch, kept on the device until `stop` fetches them."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = 0
        self.lr = 0.0  # of the newest step
        self.seconds = 0.0
        self.mean_loss = math.nan
        self.accuracy = 0.0
        self._started = time.perf_counter()

    def stop(self, workers: int) -> None:
        """Wait for device and workers, and fill `mean_loss`, `accuracy` and `seconds`."""
        if workers > 1:
            self.loss, self.correct, images = add_up(
                self.loss, self.correct, torch.tensor(self.images)
            )
            self.images = int(images)
        count = max(1, self.images)
        self.mean_loss = self.loss.item() / count
        self.accuracy = self.correct.item() / count
        self.seconds = time.perf_counter() - self._started


def init_from_images(network: nn.Module, data: SearchData) -> None:
    """Let a network that starts from data, such as a whitening layer, see training images.

    Such a network has a method `init_from_images(images)`, which gets normalised images, float
    [n, 3, 32, 32], on the CPU, the same ones in every worker and whatever the seed. A resumed
    training has its outcome in the checkpoint.
    """
    init = getattr(network, "init_from_images", None)
    if init is None:
        return
    # Spread over all of them: an image folder's come class by class.
    step = -(-len(data.train_images) // INIT_IMAGES)
    images = as_tensor(data.train_images[::step])
    maker = BatchMaker(DataConfig(), data.mean, data.std, images.device, channels_last=False)
    init(maker.plain(images))
