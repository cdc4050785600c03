"""The plan of the vision task: its sections but the images', and its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from cifar_tune.plan.config import Plan, RunConfig, SearchConfig
from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.plan.objectives import COSTS
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.points import possible_values
from cifar_tune.plan.section import (
    Count,
    Flag,
    Fraction,
    Mode,
    NotNegative,
    OpenSection,
    Positive,
    Section,
    absolute_path,
)
from cifar_tune.plan.space import Value
from cifar_tune.plan.training import TrainConfig
from cifar_tune.vision.data_config import DataConfig

Size = Annotated[int, Field(ge=1, le=1_000_000)]  # of a layer: beyond it torch itself overflows
# A metric's direction; how each but the first two is computed stands in metrics.py.
MODES: dict[str, Mode] = {
    "val_accuracy": "max",
    "val_loss": "min",
    "val_macro_f1": "max",
    "val_balanced_accuracy": "max",
    "val_top5_accuracy": "max",
    "val_calibration_error": "min",
}


def known_metric(name: str, known: Iterable[str]) -> str:
    """The name of a metric, if it is one.

    Raises:
        ValueError: it is none.
    """
    if name not in known:
        raise ValueError(f"is {name!r}; it must be one of {', '.join(known)}{nearest(name, known)}")
    return name


def is_weights_name(weights: str) -> bool:
    """Whether it is torchvision's name of weights, as IMAGENET1K_V1, and no path."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", weights) is not None


def _weights_place(weights: str | None) -> str | None:
    name = weights is not None and is_weights_name(weights)
    return weights if weights is None or name else str(absolute_path(weights))


class ModelArguments(OpenSection):
    """Keyword arguments of a network's constructor, by their names."""


class ModelConfig(Section):
    """The network."""

    name: str = "resnet9"
    """`net` (the lecture's), `resnet9`, `resnet18`, `speednet` (a few passes at large batches), a
    classifier of torchvision or timm as `torchvision/efficientnet_b0`, or your own as
    `package.module:build`."""
    width: Size = 12
    """Channels of the first stage of resnet9 and speednet; 12 suits two CPU cores, 64 a GPU."""
    l1: Size = 120
    """Units of the first hidden layer of net."""
    l2: Size = 84
    """Units of the second hidden layer of net."""
    weights: Annotated[str | None, AfterValidator(_weights_place)] = None
    """Weights to start from: a file (.pt, .pth, .safetensors), a results folder or its best/, or
    torchvision's name of weights, as DEFAULT; the last layer is new where the classes differ. None:
    random ones."""
    freeze: Count = 0
    """Stages, counted from the images, that stay as they are: no step changes their weights, and
    their BatchNorm keeps its figures; 0: none."""
    args: ModelArguments = ModelArguments()
    """Keyword arguments of a network of torchvision, timm or your own (there beside config and
    num_classes): each can be searched, as model.args.dropout."""


class OptimConfig(Section):
    """The optimizer, its schedule, and what belongs to the loss."""

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    """SGD with (Nesterov) momentum, AdamW, or Muon: orthogonalised momentum for the weights of
    hidden convolutions and linear layers, AdamW for the last layer and all else."""
    lr: Positive = 0.1
    """Learning rate: the schedule's highest."""
    adamw_lr: Positive = 0.01
    """Learning rate of what muon leaves to AdamW; it follows the same schedule."""
    backbone_lr_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What the rates of all but the last layer are multiplied by: fine-tuning moves less what was
    trained before."""
    momentum: Fraction = 0.9
    """Momentum of sgd and of muon's matrices; beta1 of adamw."""
    nesterov: bool = True
    """Nesterov's form of the momentum (sgd, muon)."""
    renormalise: bool = False
    """Whether muon brings each of its weights to the norm sqrt(rows) before each step, instead of
    decaying it."""
    muon_rest: Literal["adamw", "sgd"] = "adamw"
    """What muon leaves the last layer and all else to; sgd: with Nesterov momentum, `head_lr`,
    `bias_lr`, and weight decay for all, the peak rate times it being `weight_decay`."""
    head_lr: Positive = 1e-3
    """Learning rate of the last layer's weight, with muon_rest sgd."""
    bias_lr: Positive = 0.05
    """Learning rate of biases and normalisation, with muon_rest sgd."""
    rest_momentum: Fraction = 0.85
    """Momentum of what muon leaves to sgd."""
    whitening_bias_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of all steps, from the first, over which the rate of a whitening layer's bias falls to 0
    in a straight line, with muon_rest sgd; 1: it is a bias like the others."""
    loss_reduction: Literal["mean", "sum"] = "mean"
    """Whether gradients are those of the mean loss of a batch's images, or of its sum: rates of sgd
    then suit any batch size. It changes nothing for adamw and muon's matrices."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=20)] = 5
    """Iterations that orthogonalise a step of muon; fewer are faster and less exact."""
    weight_decay: NotNegative = 5e-4
    """Weight decay: L2 in sgd, decoupled (times the learning rate) in adamw and muon; not applied
    to biases and normalisation."""
    schedule: Literal["constant", "cosine", "one-cycle", "linear", "warmup-stable-decay"] = (
        "one-cycle"
    )
    """How the learning rate goes over `train.max_epochs`, step by step."""
    warmup_fraction: Fraction = 0.25
    """Part of all steps in which the learning rate rises (all but constant)."""
    label_smoothing: Fraction = 0.0
    """Probability mass spread over all classes."""
    gradient_clip: NotNegative = 0.0
    """Largest norm of the gradient; 0: off."""


class VisionTrain(TrainConfig):
    """One training of an image classifier: its length, its arithmetic, what it measures."""

    metrics: list[str] = Field(default=[])
    """Figures of each validation besides accuracy and loss: macro_f1, balanced_accuracy,
    top5_accuracy, calibration_error; that of search.metric comes by itself."""

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: list[str]) -> list[str]:
        known = [name.removeprefix("val_") for name in MODES]
        return [known_metric(name, known[2:]) for name in metrics]


class VisionRun(RunConfig):
    """One training of an image classifier."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    train: VisionTrain = VisionTrain()


class VisionSearch(SearchConfig):
    """A search among image classifiers."""

    modes: ClassVar[Mapping[str, Mode]] = MODES
    promote_from: ClassVar[int | None] = 32  # benchmarks/time_to_quality.py

    metric: Annotated[str, Flag("NAME")] = "val_accuracy"
    """What early stopping and the choice of the winner go by: accuracy, loss, or a figure that
    train.metrics may name, as val_macro_f1."""

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        return known_metric(metric, MODES)

    @classmethod
    def check_figure(cls, name: str) -> None:
        """A ValueError if no validation of images has a figure of that name."""
        known_metric(name, [*MODES, *COSTS])

    space: dict[str, Any] = Field(
        default={
            "optim.lr": {"loguniform": [0.01, 1.0]},
            "optim.weight_decay": {"loguniform": [1e-5, 1e-2]},
            "optim.label_smoothing": {"uniform": [0.0, 0.2]},
            "data.batch_size": {"choice": [64, 128, 256]},
        }
    )
    """Searched fields, each with one of choice, grid, uniform, loguniform, int, logint, pow2."""


class VisionFinals(FinalsConfig):
    """The finals of an image classifier."""

    flip_averaging: Annotated[bool, Flag()] = False
    """Whether the test score averages the logits of an image and its mirror image."""
    translate_averaging: Annotated[bool, Flag()] = False
    """Whether half of the test score's logits come from the image moved by a pixel, up and to the
    left, and down and to the right."""


class VisionPlan(Plan, VisionRun):
    """A search among image classifiers. Its defaults are the ASHA search of configs/asha.yaml."""

    train: VisionTrain = VisionTrain()
    search: VisionSearch = VisionSearch()
    finals: VisionFinals = VisionFinals()

    @property
    def measured(self) -> list[str]:
        """Names of the figures of each validation, accuracy and loss first."""
        asked = [f"val_{name}" for name in self.train.metrics]
        return list(dict.fromkeys(["val_accuracy", "val_loss", *asked, *self.search.logged]))

    def with_values(self, values: Mapping[str, Value], seed: int) -> VisionRun:
        """Also measuring what the search goes by."""
        run: VisionRun = super().with_values(values, seed)
        metrics = [name.removeprefix("val_") for name in self.measured[2:]]
        return run.model_copy(update={"train": run.train.model_copy(update={"metrics": metrics})})


def possible_models(plan: VisionPlan) -> list[ModelConfig]:
    """Each network that can be drawn, with the largest of its searched fields."""
    models = []
    for name in possible_values(plan, "model.name"):
        values: dict[str, Value] = {"model.name": name}
        for dimension in plan.search.parsed_space:
            of_others = any(n == "model.name" and name not in ok for n, ok in dimension.when)
            if not dimension.field.startswith("model.") or dimension.field in values or of_others:
                continue
            drawn = dimension.values or dimension.ends
            numbers = [value for value in drawn if isinstance(value, (int, float))]
            values[dimension.field] = max(numbers) if numbers else drawn[0]
        models.append(plan.with_values(values, seed=0).model)
    return models


def batch_sizes(plan: VisionPlan) -> list[int]:
    """The batch sizes that can be drawn, or the bounds of their range."""
    return [int(size) for size in possible_values(plan, "data.batch_size") if size is not None]
