"""A tiny task without images: find the lowest point of a bowl; the engine must run it as any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan, RunConfig, SearchConfig
from cifar_tune.plan.section import Mode, Section
from cifar_tune.plan.task import Found

NAME = "analytic_task:Bowl"


class PointConfig(Section):
    """Where the ball is put down."""

    x: float = 0.5
    """Its place; the lowest is at 0.25."""
    step: float = 0.5
    """The part of the way to the lowest point that it rolls in an epoch."""


class BowlRun(RunConfig):
    """One ball."""

    point: PointConfig = PointConfig()


class BowlSearch(SearchConfig):
    """A search for the best place to begin."""

    modes: ClassVar[Mapping[str, Mode]] = {"depth": "max"}

    metric: str = "depth"
    space: dict[str, Any] = {"point.x": {"uniform": [-1.0, 1.0]}}  # noqa: RUF012


class BowlPlan(Plan, BowlRun):
    """A search for the best place to begin."""

    search: BowlSearch = BowlSearch()


class Ball(L.LightningModule):
    """Rolls; logs how deep it lies after each epoch, and never a number that is not one."""

    def __init__(self, run: BowlRun) -> None:
        super().__init__()
        self.point = run.point
        self.place = torch.nn.Parameter(torch.tensor([run.point.x]))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return ((self.place - 0.25) ** 2).sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("depth", -((self.place - 0.25) ** 2).sum())
        self.log("place", self.place.sum())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.point.step)


class Nothing(L.LightningDataModule):
    """One batch of nothing."""

    def train_dataloader(self) -> Any:
        return DataLoader(torch.zeros(1, 1))

    val_dataloader = train_dataloader


class Opened:
    """There is no data."""

    fingerprint = "bowl"
    facts: ClassVar[dict[str, Any]] = {
        "kind": "bowl", "source": "nowhere", "fingerprint": "bowl", "notes": [],
        "train": 1, "val": 1, "confirm": 0, "test": 0,
    }  # fmt: skip

    def part(self, name: Literal["search", "final"]) -> str:
        return name

    def settled(self, plan: Any) -> Any:
        return plan


class Bowl:
    """What the engine asks of a task, and no more."""

    name = NAME
    Plan = BowlPlan
    fixed: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    mutable = ("point.step",)
    main_loss = "depth"
    keeps_best = False
    modules: tuple[str, ...] = ()
    ddp: Mapping[str, Any] = MappingProxyType({})

    def columns(self, plan: Any) -> Sequence[str]:
        return ["depth", "place"]

    def caveat(self, facts: Mapping[str, Any]) -> str:
        return ""

    def tags(self, run: Any) -> list[str]:
        return []

    def check(self, plan: Any, *, workers: int) -> Sequence[str]:
        if plan.point.step > 1:
            raise PlanError(f"point.step is {plan.point.step}; it must be at most 1")
        return []

    def find(self, plan: Any, *, recorded: Any = None) -> Found:
        return Found(["no data is needed"], plan)

    def holds_out(self, plan: Any) -> bool:
        return False

    def open(self, plan: Any, say: Any, *, recorded: Any = None) -> Opened:
        return Opened()

    def trainer_options(self, run: Any, folder: Any) -> dict[str, Any]:
        return {}

    def build(self, run: Any, part: Any, *, fresh: bool) -> tuple[Ball, Nothing]:
        return Ball(run), Nothing()
