"""Tries a module of the user's own on two batches before hours are spent on it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden

from cifar_tune.errors import PlanError, one_line
from cifar_tune.lit.classes import own_code
from cifar_tune.lit.config import LitRun, arguments_of
from cifar_tune.plan.own_code import nearest
from cifar_tune.train.figures import logged_by
from cifar_tune.train.fit import fit

FEW = {
    "limit_train_batches": 2, "limit_val_batches": 2, "check_val_every_n_epoch": 1,
    "val_check_interval": 1.0, "overfit_batches": 0.0,
}  # fmt: skip


@dataclass(kw_only=True)
class Tried:
    """What two batches of training and validation showed.

    Attributes:
        logged: figures by their names, at the end of the validation.
        later: names that were logged only after it.
        train, val: examples, 0 where the loader does not say.
        confirm: examples of `confirm_dataloader`; 1 where it does not say, 0 where it is not there.
        has_test: whether there is a `test_dataloader`.
        validated: whether there was a validation.
        model_bytes: of all weights.
    """

    logged: dict[str, float] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    train: int = 0
    val: int = 0
    has_test: bool = False
    confirm: int = 0
    validated: bool = False
    model_bytes: int = 0
    seconds: float = 0.0


class _Look(Callback):
    """Notes what is logged, and how much data there is."""

    def __init__(self, run: LitRun) -> None:
        self._run, self.tried = run, Tried()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True
        self.tried.validated = True
        self.tried.logged = logged_by(trainer)
        self.tried.val = _examples(trainer.val_dataloaders)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        tried, logged = self.tried, self.tried.logged
        _check_checkpoint(trainer)
        tried.later = [name for name in trainer.callback_metrics if name not in logged]
        tried.train = _examples(trainer.train_dataloader)
        interval = arguments_of(self._run.trainer).get("val_check_interval")
        if interval not in (None, 1.0) and not tried.train:
            raise PlanError(
                f"trainer.val_check_interval is {interval!r}, and the training loader has no"
                " length, so that nobody knows which validation is an epoch's last; leave it out"
            )
        data: Any = trainer.datamodule or pl_module  # type: ignore[attr-defined]
        base = L.LightningDataModule if data is not pl_module else L.LightningModule
        tried.has_test = is_overridden("test_dataloader", data, parent=base)
        if hasattr(data, "confirm_dataloader"):
            tried.confirm = _examples(data.confirm_dataloader()) or 1
        tried.model_bytes = sum(p.numel() * p.element_size() for p in pl_module.parameters())


def _check_checkpoint(trainer: L.Trainer) -> None:
    """A PlanError unless what the module puts into a checkpoint loads without running code."""
    path = Path(trainer.default_root_dir, "tried.ckpt")
    trainer.save_checkpoint(path)
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise PlanError(
            "the module's checkpoint holds values that only code could load, and a checkpoint is"
            f" never allowed to run any ({one_line(error):.200}); put numbers, words, lists, dicts"
            " and tensors there (on_save_checkpoint, states of callbacks)"
        ) from None


def _examples(loaders: Any) -> int:
    """Of all loaders together; 0 where one does not know."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    total = 0
    for loader in loaders if isinstance(loaders, (list, tuple)) else [loaders]:
        try:
            total += len(loader.dataset)
        except (TypeError, AttributeError, NotImplementedError):
            return 0
    return total


def try_out(run: LitRun, part: Any) -> Tried:
    """Train and validate on two batches each, in this process.

    Raises:
        PlanError: what the user's code raised, with its file and line; or nothing was validated.
    """
    return _try_out(run.model_dump_json(), part)


@lru_cache(maxsize=2)
def _try_out(told: str, part: Any) -> Tried:
    run, began = LitRun.model_validate_json(told), time.perf_counter()
    look = _Look(run)
    own = own_code("model", str(run.model.class_path))
    with (
        own.guarded("trying it on two batches"),
        TemporaryDirectory(prefix="cifar_tune_") as place,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`")  # told better here
        fit(run, part, callbacks=[look], overrides=FEW, folder=Path(place))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    look.tried.seconds = time.perf_counter() - began
    return look.tried


def check_metric(tried: Tried, metric: str, module: str, data: str) -> None:
    """A PlanError unless a validation logs the metric that is searched by."""
    if metric in tried.logged:
        return
    if not tried.validated:
        raise PlanError(
            f"{data} has no val_dataloader, or {module} no validation_step: no validation ran, and"
            " a search is decided on validations; give it both"
        )
    known = ", ".join(tried.logged)
    does = f"it logs {known}" if known else "it logs nothing (self.log in validation_step)"
    suffixed = [name for name in tried.logged if name.startswith(f"{metric}/")]
    hint = f"; did you mean {suffixed[0]}?" if suffixed else nearest(metric, tried.logged)
    if metric in tried.later:
        hint = f"; {metric} is logged in training, after it: log it in validation_step as well"
    raise PlanError(
        f"search.metric is {metric!r}, which no validation of {module} logs; {does}{hint}"
    )
