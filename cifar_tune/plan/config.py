"""The plan of a search and the config of one run, as every task has them; the home of defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.plan.methods import settled_methods
from cifar_tune.plan.objectives import (
    COSTS,
    Goal,
    Objectives,
    check_first,
    first_of,
    goals_of,
)
from cifar_tune.plan.resources import URI, ResourcesConfig
from cifar_tune.plan.section import (
    Absolute,
    Auto,
    Count,
    Flag,
    Mode,
    NotNegative,
    OwnCode,
    Positive,
    PositiveInt,
    Section,
    Seed,
    absolute_path,
    budget_seconds,
    put,
)
from cifar_tune.plan.space import Space, SpaceError, Value, parse_space
from cifar_tune.plan.training import TrainConfig


class SearchConfig(Section):
    """How configurations are suggested, stopped early and judged."""

    modes: ClassVar[Mapping[str, Mode]] = {}
    """The direction of each metric that is known beforehand; less of any other is better."""
    promote_from: ClassVar[int | None] = None
    """Trials from which on `promote` is the scheduler where none is named; none: it is `asha`. A
    task may set it whose trainings have nothing that is not in their checkpoints."""

    searcher: Annotated[
        Literal["auto", "grid", "random", "sobol", "priorband", "tpe", "gp", "cmaes", "bohb"]
        | OwnCode,
        Flag("NAME"),
    ] = "auto"
    """Where configurations come from; your own as `package.module:factory`; auto: random, or what
    suits the scheduler and the space better."""
    # bohb stands in searches of earlier versions: it can be read, and `check_pair` refuses it.
    scheduler: Annotated[
        Literal["auto", "asha", "promote", "halving", "hyperband", "median", "pbt", "none", "bohb"],
        Flag("NAME"),
    ] = "auto"
    """Which trials are stopped early, or (pbt) changed on the way; auto: asha or, of many
    trials, promote, unless the searcher needs another."""
    num_samples: Annotated[int, Field(ge=1, le=10_000_000), Flag("N")] = 16
    """Configurations to try; with grid: at most this many, and all if it is not given."""
    metric: Annotated[str, Flag("NAME")] = "val_loss"
    """What early stopping and the choice of the winner go by: a figure of each validation."""
    mode: Annotated[Mode, Flag("max|min")] = Field(default_factory=lambda: "min")
    """Whether more (max) or less (min) of the metric is better, where that is not known of it."""
    objectives: Objectives = Field(default=[])
    """Several aims, each as `figure: max` or `figure: min`: the metric first, then other figures of
    a validation, train_seconds, parameters or latency_ms; empty: the metric alone."""
    winner_by: Literal["best", "last"] = "best"
    """Whether a trial is judged by its best epoch or by its last."""
    grace_period: Auto | PositiveInt = "auto"
    """The first rung, in epochs; median: no trial is stopped before it; auto: the epochs divided
    by the square of reduction_factor, and later where the task's trials can't be compared yet."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One in so many trials passes a rung; rungs are so many times apart (not median, pbt)."""
    perturbation_interval: PositiveInt = 2
    """pbt: epochs between exchanges in the population."""
    start_from: Annotated[str | list[dict[str, Any]] | None, Absolute] = None
    """Known good points to try first: a list of `field: value`, or another search's folder, whose
    results a model-based searcher also learns from."""
    time_budget: Annotated[str | Positive | None, Flag("TIME")] = None
    """Stop after this much time, as 90s, 20m, 2h or seconds; the search stays resumable."""
    checkpoint_every_epochs: PositiveInt = 1
    """Epochs between a trial's checkpoints: what a crash can cost."""
    checkpoint_every_seconds: NotNegative = 0.0
    """Least time between a trial's checkpoints, but for those where it may be stopped and at its
    end; 0: none. For epochs of a second: what a crash can cost. Not with a time budget."""
    max_failures: Count = 1
    """How often a crashed trial is continued from its newest checkpoint."""
    fail_fast: Annotated[bool, Flag()] = False
    """Whether one failed trial ends the search, which stays resumable."""
    trial_timeout: Annotated[str | Positive | None, Flag("TIME")] = None
    """A trial that reports nothing for this long hangs and is ended: as 90s, 20m, 2h or seconds."""
    space: dict[str, Any] = Field(default={})
    """Searched fields, each with one of choice, grid, uniform, loguniform, int, logint, pow2."""

    @field_validator("time_budget", "trial_timeout")
    @classmethod
    def _check_time(cls, time: str | float | None) -> str | float | None:
        if time is not None:
            budget_seconds(time)
        return time

    @model_validator(mode="before")
    @classmethod
    def _settle_mode(cls, raw: Any) -> Any:
        """Without a mode, the metric's own; `modes` knows some."""
        if not isinstance(raw, dict):  # made already
            return raw
        raw = first_of(raw)
        metric = raw.get("metric", cls.model_fields["metric"].default)
        known = cls.modes.get(metric) if isinstance(metric, str) else None
        if raw.get("mode") is not None:
            return raw
        return {**raw, "mode": known or cls.mode_of_unknown(str(metric))}

    @model_validator(mode="after")
    def _settle_methods(self) -> Self:
        """What is `auto` gets its value, and keeps no mark that it was asked for."""
        given = {"searcher": self.searcher, "scheduler": self.scheduler}
        if "auto" not in given.values():  # as in each plan that was recorded
            return self
        settled = settled_methods(
            **given,
            num_samples=self.num_samples,
            space=self._space_if_whole(),
            several_goals=bool(self.objectives),
            promote_from=self.promote_from,
        )
        self.__dict__.update(settled)
        self.model_fields_set.difference_update(k for k, word in given.items() if word == "auto")
        return self

    def _space_if_whole(self) -> Space:
        """What is wrong with it is told when the plan's fields are known."""
        try:
            return self.parsed_space
        except SpaceError:
            return ()

    @field_validator("mode")
    @classmethod
    def _check_mode(cls, mode: Mode, info: ValidationInfo) -> Mode:
        known = cls.modes.get(info.data.get("metric", ""))
        if known not in (None, mode):
            raise ValueError(f"is {mode!r}, and of {info.data['metric']} {known} is better")
        return mode

    @field_validator("objectives")
    @classmethod
    def _check_objectives(cls, objectives: Any, info: ValidationInfo) -> Any:
        """The first is the metric; each is a figure that there can be, in its own direction."""
        if objectives and {"metric", "mode"} <= info.data.keys():  # else these are told
            check_first(objectives, info.data["metric"], info.data["mode"])
        for name, mode in (pair for one in objectives for pair in one.items()):
            if name not in COSTS:
                cls.check_figure(name)
            if cls.modes.get(name, mode) != mode:
                raise ValueError(f"has {name}: {mode}, and of {name} {cls.modes[name]} is better")
        return objectives

    @classmethod
    def check_figure(cls, name: str) -> None:
        """A ValueError if no validation can have a figure of that name."""

    @classmethod
    def mode_of_unknown(cls, metric: str) -> Mode:  # noqa: ARG003
        """Of a metric that is not among `modes`; a ValueError if it must be given."""
        return "min"

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The metric, then the other objectives."""
        return goals_of(self.metric, self.mode, self.objectives)

    @property
    def logged(self) -> list[str]:
        """The goals that validations log, the metric first."""
        others = (goal.metric for goal in self.goals[1:])
        return [self.metric, *(name for name in others if name not in COSTS)]

    @property
    def sign(self) -> Literal[1, -1]:
        """What the metric is multiplied by, so that more of it is better."""
        return Goal(self.metric, self.mode).sign

    @property
    def spares_epochs(self) -> bool:
        """Whether an epoch's checkpoint may wait, the best one's in memory.

        Not where any report may be a trial's last: at a time budget's end the leader's model is
        wanted, and the median rule may stop a trial in any epoch.
        """
        every_epoch = self.scheduler == "median" or self.time_budget is not None
        return self.checkpoint_every_seconds > 0 and not every_epoch

    @property
    def parsed_space(self) -> Space:
        """The checked dimensions of `space`."""
        return parse_space(self.space)


class TrackingConfig(Section):
    """Where results are shown besides the results folder. TensorBoard files are always written."""

    wandb: Annotated[Annotated[str, Field(min_length=1)] | None, Flag("PROJECT")] = None
    """Weights & Biases project; none: off. The key comes from the environment or wandb's login."""
    quiet: Annotated[bool, Flag()] = False
    """Whether only warnings and the outcome are printed, and no progress."""
    columns: dict[str, str] = Field(default={})
    """What a line of progress shows of a report, as `figure: its name there`; empty: the epoch and
    what the task is judged by."""
    watch: bool = False
    """Whether wandb records histograms of the gradients."""


class RunConfig(Section):
    """One training: what every task's has; a task's own class adds its sections."""

    task: str = "vision"
    """What is trained: a task of this package, or your own as `package.module:Task`."""
    seed: Annotated[Seed, Flag("N")] = 0
    """Seed of the search; trial i trains with seed + i."""
    train: TrainConfig = TrainConfig()

    @classmethod
    def run_class(cls) -> type[RunConfig]:
        """The class of one training of this task; of a plan's class, that of its trials."""
        return next(c for c in cls.__mro__ if issubclass(c, RunConfig) and not issubclass(c, Plan))

    @classmethod
    def sections(cls) -> list[str]:
        """Names of the sections of one training, the task's own first."""
        fields = cls.run_class().model_fields
        return [*(name for name in fields if name not in RunConfig.model_fields), "train"]

    def with_values(self, values: Mapping[str, Value], seed: int) -> Any:
        """The run of one trial: this one with searched values and its own seed."""
        base = {name: getattr(self, name).model_dump() for name in self.sections()}
        for field, value in values.items():
            put(base, field, value)
        return self.run_class().model_validate({"task": self.task, "seed": seed, **base})

    def as_values(self) -> dict[str, Any]:
        """One training as plain values; of a whole plan, the training in it."""
        sections = {name: getattr(self, name).model_dump(mode="json") for name in self.sections()}
        return {"seed": self.seed, **sections}


class Plan(RunConfig):
    """A whole search: what every task's has. A task's own class adds its sections."""

    name: Annotated[str | None, Flag("NAME")] = None
    """Folder of the results in `out`; none: the config's name and the next free number."""
    out: Annotated[str, Flag("DIR"), Field(validate_default=True)] = "results"
    """Folder that holds the results of searches."""
    search: SearchConfig = SearchConfig()
    finals: FinalsConfig = FinalsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("out")
    @classmethod
    def _check_out(cls, out: str) -> Any:
        if URI.match(out):
            raise ValueError(
                f"is {out!r}; give a path, and with --storage-path a URI for checkpoints"
            )
        return absolute_path(out)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        plain = name is None or (name.isprintable() and "/" not in name and name.strip(". "))
        if not plain or len((name or "").encode()) > 200:
            raise ValueError("must be a folder's name: at most 200 bytes, no slash, not only dots")
        return name

    @property
    def on_gpu(self) -> bool:
        """Whether trials train on a GPU; known once the plan is settled."""
        gpus = self.resources.gpus_per_trial
        return gpus != "auto" and gpus > 0

    @property
    def workers(self) -> int:
        """Processes of a trial; known once the plan is settled."""
        workers = self.resources.workers_per_trial
        return 1 if workers == "auto" else workers

    def run(self, values: Mapping[str, Value], index: int) -> Any:
        """The run of trial `index` (from 0)."""
        return self.with_values(values, seed=self.seed + index)
