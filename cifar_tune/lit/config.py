"""The sections of a plan that the lightning task reads: arguments of the user's own, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from cifar_tune.errors import PlanError
from cifar_tune.lit.cli_file import read_cli_file
from cifar_tune.plan.config import Plan, RunConfig, SearchConfig
from cifar_tune.plan.section import Auto, Flag, Mode, OpenSection
from cifar_tune.plan.training import TrainConfig

LEARNING_RATES = ("model.lr", "model.learning_rate", "optimizer.lr")  # what pbt may change
SECTIONS = ("model", "data", "trainer", "optimizer", "lr_scheduler")
DOTTED = re.compile(r"([A-Za-z_][\w.]*)\.([A-Za-z_]\w*)")


def own_name(name: str | None) -> str | None:
    """`package.module:Name`; LightningCLI writes a dot for the colon."""
    found = DOTTED.fullmatch(name or "")
    return name if found is None else f"{found[1]}:{found[2]}"


OwnName = Annotated[str | None, AfterValidator(own_name)]


class ModuleConfig(OpenSection):
    """Your LightningModule: its class, and the arguments of its `__init__` by their names."""

    class_path: Annotated[OwnName, Flag("CLASS", "--module")] = None
    """Your LightningModule, as package.module:Class; model.NAME are arguments of its __init__."""


class DataModuleConfig(OpenSection):
    """Your LightningDataModule: its class, and the arguments of its `__init__` by their names."""

    class_path: Annotated[OwnName, Flag("CLASS", "--datamodule")] = None
    """Your LightningDataModule, as package.module:Class; none: the module has its own loaders."""


class TrainerConfig(OpenSection):
    """Arguments of Lightning's Trainer, but for what the search itself settles."""


class OptimizerConfig(OpenSection):
    """An optimizer that takes the place of the module's own, as LightningCLI's --optimizer."""

    class_path: str | None = None
    """Its class, as torch.optim.AdamW; none: the module's own configure_optimizers."""


class SchedulerConfig(OpenSection):
    """A schedule of the learning rate beside `optimizer`, as LightningCLI's --lr_scheduler."""

    class_path: str | None = None
    """Its class, as torch.optim.lr_scheduler.StepLR; none: no schedule."""


class LitTrain(TrainConfig):
    """One training of a module of the user's own: its length, its arithmetic."""

    precision: Auto | Literal["32", "bf16", "16"] = "32"
    """Arithmetic; auto: the machine's flags. trainer.precision, if it is given, wins."""


class LitSearch(SearchConfig):
    """A search among configurations of a module of the user's own."""

    metric: Annotated[str, Flag("NAME")] = "val_loss"
    """What early stopping and the choice of the winner go by: any scalar that a validation logs."""
    metrics: list[str] = Field(default=[])
    """What tables and page show beside the metric; empty: what a first validation logs."""
    space: dict[str, Any] = Field(default={})
    """Searched fields (model.NAME, data.NAME, trainer.NAME), each with one of choice, grid,
    uniform, loguniform, int, logint, pow2."""

    @classmethod
    def mode_of_unknown(cls, metric: str) -> Mode:
        """Less of a loss is better; of anything else it must be said."""
        if "loss" not in metric:
            raise ValueError(
                f"has metric {metric!r} and no mode; say whether more or less of it is better:"
                " --mode max or --mode min"
            )
        return "min"


class LitRun(RunConfig):
    """One training of a module of the user's own."""

    task: str = "lightning"
    model: ModuleConfig = ModuleConfig()
    data: DataModuleConfig = DataModuleConfig()
    trainer: TrainerConfig = TrainerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_scheduler: SchedulerConfig = SchedulerConfig()
    train: LitTrain = LitTrain()


class LitPlan(Plan, LitRun):
    """A search among configurations of a module of the user's own."""

    train: LitTrain = LitTrain()
    search: LitSearch = LitSearch()
    lightning_config: Annotated[str | None, Flag("FILE", "--lightning-config")] = None
    """A config file of LightningCLI, as it is; what the plan says itself wins over it."""

    @model_validator(mode="before")
    @classmethod
    def _read_cli_file(cls, raw: Any) -> Any:
        """The file's values are the plan's own from then on, so that a recorded plan has all."""
        name = raw.get("lightning_config") if isinstance(raw, dict) else None
        if not isinstance(name, str):
            return raw
        try:
            file = read_cli_file(name, SECTIONS)
        except ValueError as error:
            raise PlanError(f"--lightning-config {error}") from None
        return merged(file, {**raw, "lightning_config": None})


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one, section by section; what stands above wins."""
    both = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping):
            both[name] = merged(below[name], above[name])
    return both


def arguments_of(section: OpenSection) -> dict[str, Any]:
    """What the user gives a class by name."""
    return dict(section.model_extra or {})


def searched(plan: LitPlan, section: str) -> list[str]:
    """The searched fields of a section."""
    return [field for field in plan.search.space if field.startswith(f"{section}.")]
