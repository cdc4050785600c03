"""Tries a module of the user's own on two batches before hours are spent on it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden

from cifar_tune.errors import PlanError
from cifar_tune.lit.classes import own_code
from cifar_tune.lit.config import LitRun
from cifar_tune.plan.own_code import nearest
from cifar_tune.train.figures import logged_by
from cifar_tune.train.fit import fit

BATCHES = 2


@dataclass(kw_only=True)
class Tried:
    """What two batches of training and validation showed.

    Attributes:
        logged: figures by their names, at the end of the validation.
        later: names that were logged only after it.
        train, val: examples, 0 where the loader does not say.
        confirm: examples of `confirm_dataloader`; 1 where it does not say, 0 where it is not there.
        has_test: whether there is a `test_dataloader`.
        validations: of an epoch.
        model_bytes: of all weights.
    """

    logged: dict[str, float] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    train: int = 0
    val: int = 0
    has_test: bool = False
    confirm: int = 0
    validations: int = 1
    model_bytes: int = 0
    seconds: float = 0.0


class _Look(Callback):
    """Notes what is logged, and how much data there is."""

    def __init__(self) -> None:
        self.tried = Tried()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.tried.logged = logged_by(trainer)
        self.tried.val = _examples(trainer.val_dataloaders)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        tried, logged = self.tried, self.tried.logged
        tried.later = [name for name in trainer.callback_metrics if name not in logged]
        tried.train = _examples(trainer.train_dataloader)
        data = trainer.datamodule or pl_module  # type: ignore[attr-defined]
        base = L.LightningDataModule if data is not pl_module else L.LightningModule
        tried.has_test = is_overridden("test_dataloader", data, parent=base)
        if hasattr(data, "confirm_dataloader"):
            tried.confirm = _examples(data.confirm_dataloader()) or 1
        tried.model_bytes = sum(p.numel() * p.element_size() for p in pl_module.parameters())


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
    told = run.model_dump_json()
    return _try_out(told, run.run_class(), part)


@lru_cache(maxsize=2)
def _try_out(told: str, kind: type[LitRun], part: Any) -> Tried:
    run, look, began = kind.model_validate_json(told), _Look(), time.perf_counter()
    own = own_code("model", str(run.model.class_path))
    with (
        own.guarded("trying it on two batches"),
        TemporaryDirectory(prefix="cifar_tune_") as place,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`")  # told better here
        fit(run, part, callbacks=[look], fast_dev_run=BATCHES, folder=Path(place))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    look.tried.seconds = time.perf_counter() - began
    return look.tried


def check_metric(tried: Tried, metric: str, module: str, data: str) -> None:
    """A PlanError unless a validation logs the metric that is searched by."""
    if metric in tried.logged:
        return
    if not tried.logged and not tried.val:
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
