"""The plan of a search and the config of one run: typed, checked, the only home of defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cifar_tune.plan.space import Space, Value, parse_space
from cifar_tune.plan.strict_yaml import dump

Auto = Literal["auto"]
OwnCode = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
PositiveInt = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]  # of a layer: beyond it torch itself overflows
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
URI = re.compile(r"[\w+.-]{2,}:/")  # or what is meant for one; a path has no colon there
PLACE = re.compile(r"[\w+.-]+://[^#?]*[^#?/][^#]*")  # a URI that names a place, in the whole of it
HEAD = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")  # HOST:PORT, or [IPv6]:PORT


class Section(BaseModel):
    """Base of all sections: frozen, keyword-only, unknown keys rejected, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class DataConfig(Section):
    """Which images, how they are split, and how a batch of them is made."""

    path: str | None = None
    """Folder or archive with the dataset; none: the user's cache, then a download."""
    fallback: Literal["none", "drawn"] = "none"
    """What to use when the data can't be had: nothing (an error), or the built-in drawn set."""
    train_size: PositiveInt | None = None
    """Images trained on; none: all that validation and confirmation leave."""
    val_size: PositiveInt = 5000
    """Images that the search is decided on, cut from the training set."""
    confirm_size: Count = 5000
    """Images that only the finals see, cut from the training set."""
    split_seed: Seed = 0
    """Seed of the stratified split."""
    batch_size: PositiveInt = 128
    """Images in a training step."""
    eval_batch_size: PositiveInt = 250
    """Images in a validation step; it changes speed and memory only."""
    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    """Random crop after reflecting this many pixels at each side; 0: off."""
    flip: Literal["none", "random", "alternating"] = "random"
    """Horizontal flip: never, with probability one half, or every second epoch."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 0
    """Side of the square that is blanked at a random place, in pixels; 0: off."""
    drop_last: bool = True
    """Whether an epoch leaves out the last batch if it is not full."""


class ModelConfig(Section):
    """The network."""

    name: str = "resnet9"
    """`net` (the lecture's), `resnet9`, `resnet18`, `speednet` (a few passes at large batches), or
    your own as `package.module:build`."""
    width: Size = 12
    """Channels of the first stage of resnet9 and speednet; 12 suits two CPU cores, 64 a GPU."""
    l1: Size = 120
    """Units of the first hidden layer of net."""
    l2: Size = 84
    """Units of the second hidden layer of net."""


class OptimConfig(Section):
    """The optimizer, its schedule, and what belongs to the loss."""

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    """SGD with (Nesterov) momentum, AdamW, or Muon: orthogonalised momentum for the weights of
    hidden convolutions and linear layers, AdamW for the last layer and all else."""
    lr: Positive = 0.1
    """Learning rate: the schedule's highest."""
    adamw_lr: Positive = 0.01
    """Learning rate of what muon leaves to AdamW; it follows the same schedule."""
    momentum: Fraction = 0.9
    """Momentum of sgd and of muon's matrices; beta1 of adamw."""
    nesterov: bool = True
    """Nesterov's form of the momentum (sgd, muon)."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=20)] = 5
    """Iterations that orthogonalise a step of muon; fewer are faster and less exact."""
    weight_decay: NotNegative = 5e-4
    """Weight decay: L2 in sgd, decoupled (times the learning rate) in adamw and muon; not applied
    to biases and normalisation."""
    schedule: Literal["constant", "cosine", "one-cycle", "linear"] = "one-cycle"
    """How the learning rate goes over `train.max_epochs`, step by step."""
    warmup_fraction: Fraction = 0.25
    """Part of all steps in which the learning rate rises (cosine, one-cycle, linear)."""
    label_smoothing: Fraction = 0.0
    """Probability mass spread over all classes."""
    gradient_clip: NotNegative = 0.0
    """Largest norm of the gradient; 0: off."""


class TrainConfig(Section):
    """One training: its length and its arithmetic."""

    max_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 9
    """Passes over the training images."""
    precision: Auto | Literal["32", "bf16", "16"] = "auto"
    """Arithmetic: float32, or autocast to bfloat16 or (GPU) float16; auto: the machine's flags."""
    channels_last: Auto | bool = "auto"
    """Memory layout of images and weights; auto: with bf16 and 16."""
    threads: Auto | PositiveInt = "auto"
    """CPU threads of a training; auto: the CPUs of a trial."""
    compile: bool = False
    """Whether torch.compile makes faster code of the network; a process compiles each architecture
    and batch size once, for all its trials. It needs a C++ compiler."""
    sync_batchnorm: bool = False
    """Whether BatchNorm normalises over the batch of all workers of a trial, not each its part."""

    @field_validator("precision", mode="before")
    @classmethod
    def _accept_numbers(cls, precision: object) -> object:
        return str(precision) if precision in (16, 32) else precision


class SearchConfig(Section):
    """How configurations are suggested, stopped early and judged."""

    searcher: Literal["grid", "random", "sobol", "tpe", "gp", "cmaes", "bohb"] | OwnCode = "random"
    """Where configurations come from; your own as `package.module:factory`."""
    scheduler: Literal["asha", "halving", "hyperband", "bohb", "median", "pbt", "none"] = "asha"
    """Which trials are stopped early, or (pbt) changed on the way."""
    num_samples: Annotated[int, Field(ge=1, le=10_000_000)] = 16
    """Configurations to try; with grid: at most this many, and all if it is not given."""
    metric: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    """What early stopping and the choice of the winner go by."""
    winner_by: Literal["best", "last"] = "best"
    """Whether a trial is judged by its best epoch or by its last."""
    grace_period: PositiveInt = 1
    """The first rung, in epochs; median: no trial is stopped before it."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One in so many trials passes a rung; rungs are so many times apart (not median, pbt)."""
    perturbation_interval: PositiveInt = 2
    """pbt: epochs between exchanges in the population."""
    start_from: str | list[dict[str, Any]] | None = None
    """Known good points to try first: a list of `field: value`, or another search's folder, whose
    results a model-based searcher also learns from."""
    time_budget: str | Positive | None = None
    """Stop after this much time, as 90s, 20m, 2h or seconds; the search stays resumable."""
    checkpoint_every_epochs: PositiveInt = 1
    """Epochs between a trial's checkpoints: what a crash can cost."""
    max_failures: Count = 1
    """How often a crashed trial is continued from its newest checkpoint."""
    fail_fast: bool = False
    """Whether one failed trial ends the search, which stays resumable."""
    trial_timeout: str | Positive | None = None
    """A trial that reports nothing for this long hangs and is ended: as 90s, 20m, 2h or seconds."""
    space: dict[str, Any] = {
        "optim.lr": {"loguniform": [0.01, 1.0]},
        "optim.weight_decay": {"loguniform": [1e-5, 1e-2]},
        "optim.label_smoothing": {"uniform": [0.0, 0.2]},
        "data.batch_size": {"choice": [64, 128, 256]},
    }
    """Searched fields, each with one of choice, grid, uniform, loguniform, int, logint, pow2."""

    @field_validator("time_budget", "trial_timeout")
    @classmethod
    def _check_time(cls, time: str | float | None) -> str | float | None:
        if time is not None:
            budget_seconds(time)
        return time

    @property
    def mode(self) -> Literal["max", "min"]:
        """Whether more or less of the metric is better."""
        return "max" if self.metric == "val_accuracy" else "min"

    @property
    def parsed_space(self) -> Space:
        """The checked dimensions of `space`."""
        return parse_space(self.space)


class FinalsConfig(Section):
    """What comes after the search: the best are confirmed, the chosen one is trained for good."""

    candidates: PositiveInt = 3
    """How many of the best trials are trained anew and compared on the confirmation images."""
    seeds: Count = 5
    """Fresh seeds of each of them, and of the final trainings; 0: no finals, the winner alone is
    scored on the test split."""
    flip_averaging: bool = False
    """Whether the test score averages the logits of an image and its mirror image."""


class ResourcesConfig(Section):
    """What each trial gets, and how many run at once."""

    gpus_per_trial: Auto | NotNegative = "auto"
    """GPUs of a trial: 0, a share below 1, or a whole number, one for each worker; auto: 1 if the
    machine has a GPU, else 0."""
    workers_per_trial: Auto | PositiveInt = "auto"
    """Processes that train one trial together and share its batches; auto: one for each whole GPU,
    else 1."""
    cpus_per_trial: Auto | PositiveInt = "auto"
    """CPUs of a trial, all its workers together; auto: 1 a worker without a GPU, else the CPUs
    divided among the trials."""
    max_concurrent: Auto | PositiveInt = "auto"
    """Trials at once; auto: what the machine or cluster holds."""
    address: str | None = None
    """Ray cluster to join: `auto` or HOST:PORT of its head; none or `local`: this machine alone."""
    storage_path: Annotated[str, Field(min_length=1)] | None = None
    """Where the trials' checkpoints lie: a path that all nodes share, or a URI such as s3://; none:
    the results folder, which must then be such a path."""

    @field_validator("storage_path")
    @classmethod
    def _check_storage_path(cls, path: str | None) -> str | None:
        # What follows a # is no part of a place: all folders below it would be one and the same.
        if path is not None and URI.match(path) and not PLACE.fullmatch(path):
            raise ValueError(f"is {path!r}; a URI is SCHEME://PLACE, such as s3://bucket/folder")
        return path

    @field_validator("address")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address in (None, "local"):
            return None
        if address != "auto" and not HEAD.fullmatch(address):
            raise ValueError(
                f"is {address!r}; give auto, or HOST:PORT of the cluster's head (6379 unless it was"
                " started with another --port), and give the command on a machine of the cluster"
            )
        return address


class TrackingConfig(Section):
    """Where results are shown besides the results folder. TensorBoard files are always written."""

    wandb: Annotated[str, Field(min_length=1)] | None = None
    """Weights & Biases project; none: off. The key comes from the environment or wandb's login."""
    quiet: bool = False
    """Whether only warnings and the outcome are printed, and no progress."""
    watch: bool = False
    """Whether wandb records histograms of the gradients."""


class RunConfig(Section):
    """One training: everything that `fit()` needs to know, and what `best/config.yaml` holds."""

    seed: Seed = 0
    """Seed of the search; trial i trains with seed + i."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    def with_values(self, values: Mapping[str, Value], seed: int) -> RunConfig:
        """The run of one trial: this one with searched values and its own seed."""
        base = {name: getattr(self, name).model_dump() for name in RUN_SECTIONS}
        for field, value in values.items():
            section, _, key = field.partition(".")
            base[section][key] = value
        return RunConfig.model_validate({"seed": seed, **base})


RUN_SECTIONS = ("data", "model", "optim", "train")


class Plan(RunConfig):
    """A whole search. Its defaults are the ASHA search of configs/asha.yaml."""

    name: str | None = None
    """Folder of the results in `out`; none: the config's name and the next free number."""
    out: str = "results"
    """Folder that holds the results of searches."""
    search: SearchConfig = SearchConfig()
    finals: FinalsConfig = FinalsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("out")
    @classmethod
    def _check_out(cls, out: str) -> str:
        if URI.match(out):
            raise ValueError(
                f"is {out!r}; give a path, and with --storage-path a URI for checkpoints"
            )
        return out

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

    def run(self, values: Mapping[str, Value], index: int) -> RunConfig:
        """The run of trial `index` (from 0)."""
        return self.with_values(values, seed=self.seed + index)


def budget_seconds(time: str | float) -> float:
    """Seconds in `90s`, `20m`, `2h`, or a plain number of seconds.

    Raises:
        ValueError: anything else, or not above 0.
    """
    text, units = str(time), {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise ValueError(f"is {time!r}; give a time above 0 as 90s, 20m or 2h")
    return seconds


def dump_yaml(section: Section) -> str:
    """All fields of a plan or run as YAML that `load.load_plan` reads back to an equal one."""
    return dump(section.model_dump(mode="json"))


def known_fields(section: type[Section] = Plan, prefix: str = "") -> list[str]:
    """Dotted names of all fields that hold a value, in the order of the classes."""
    names: list[str] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            names += known_fields(inner, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names
