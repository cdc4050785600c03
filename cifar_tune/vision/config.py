"""The sections of a plan that the vision task reads: images, network, optimizer; its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from cifar_tune.plan.config import FinalsConfig, Plan, RunConfig, SearchConfig, TrainConfig
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.points import possible_values
from cifar_tune.plan.section import (
    Absolute,
    Auto,
    Count,
    Flag,
    Fraction,
    Mode,
    NotNegative,
    OpenSection,
    Positive,
    PositiveInt,
    Section,
    Seed,
    absolute_path,
)
from cifar_tune.plan.space import Value

Part = Annotated[float, Field(gt=0, lt=1)]  # of the training images
Size = Annotated[int, Field(ge=1, le=1_000_000)]  # of a layer: beyond it torch itself overflows
SIDE = 32  # of CIFAR's images, and of all images before there was a choice
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


class DataConfig(Section):
    """Which images, how they are split, and how a batch of them is made."""

    path: Annotated[str | None, Absolute, Flag("PATH", "--data-dir")] = None
    """Folder or archive with the dataset; none: the user's cache, then a download."""
    fallback: Literal["none", "drawn"] = "none"
    """What to use when the data can't be had: nothing (an error), or the built-in drawn set."""
    train_size: PositiveInt | None = None
    """Images trained on; none: all that validation and confirmation leave."""
    val_size: Auto | PositiveInt | Part = "auto"
    """Images that the search is decided on, cut from the training set: how many, or which part of
    it; auto: a tenth, at most 5,000, and a fifth of a set below 5,000, at most 500."""
    confirm_size: Auto | Count | Part = "auto"
    """Images that only the finals see, cut from the training set; given as `val_size`, and auto is
    as much as there."""
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
    random_resized_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Random crop of at least this part of the area, resized to the whole; 1: off."""
    color_jitter: Fraction = 0.0
    """How far brightness, contrast and saturation are changed at random, as a part; 0: off."""
    trivial_augment: bool = False
    """Whether TrivialAugment changes images by one of 14 operations, of random strength."""
    mixup: NotNegative = 0.0
    """Alpha of mixup, which blends two images and their labels; 0: off. With cutmix, one of both
    is drawn for each batch."""
    cutmix: NotNegative = 0.0
    """Alpha of cutmix, which pastes a part of one image into another; 0: off."""
    drop_last: bool = True
    """Whether an epoch leaves out the last batch if it is not full and not the only one."""

    @field_validator("val_size", "confirm_size", mode="before")
    @classmethod
    def _check_part(cls, size: object, info: ValidationInfo) -> object:
        least = 1 if info.field_name == "val_size" else 0
        whole = type(size) is int and size >= least
        if size != "auto" and not whole and not (type(size) is float and 0 < size < 1):
            raise ValueError(
                f"is {size!r}; it must be auto, a whole number of images from {least}, or a part of"
                " the training images between 0 and 1"
            )
        return size


def side_of(config: DataConfig) -> int:
    """Height and width of the images, in pixels."""
    return getattr(config, "side", SIDE)


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

    metric: Annotated[str, Flag("NAME")] = "val_accuracy"
    """What early stopping and the choice of the winner go by: accuracy, loss, or a figure that
    train.metrics may name, as val_macro_f1."""

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        return known_metric(metric, MODES)

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


class VisionPlan(Plan, VisionRun):
    """A search among image classifiers. Its defaults are the ASHA search of configs/asha.yaml."""

    train: VisionTrain = VisionTrain()
    search: VisionSearch = VisionSearch()
    finals: VisionFinals = VisionFinals()

    @property
    def measured(self) -> list[str]:
        """Names of the figures of each validation, accuracy and loss first."""
        asked = [f"val_{name}" for name in self.train.metrics]
        return list(dict.fromkeys(["val_accuracy", "val_loss", *asked, self.search.metric]))

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
