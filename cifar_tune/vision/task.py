"""The vision task: what the engine asks of a task, answered for image classifiers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from cifar_tune.plan.objectives import Goal
from cifar_tune.plan.points import possible_values
from cifar_tune.plan.task import Found
from cifar_tune.vision.checks import check_inside, check_share, early_rung, slow, warm_up
from cifar_tune.vision.config import VisionPlan, VisionRun, batch_sizes

if TYPE_CHECKING:  # torch, Lightning and plotly cost seconds
    import numpy as np
    from lightning.pytorch import LightningDataModule, LightningModule
    from numpy.typing import NDArray

    from cifar_tune.plan.abilities import Panel, Suggestion
    from cifar_tune.plan.task import Facts, Say
    from cifar_tune.vision.data import Images, SearchData
    from cifar_tune.vision.opened import VisionData


class Vision:
    """Image classifiers on CIFAR-10 or on folders of images."""

    name = "vision"
    Plan = VisionPlan
    # The images that trials are judged on, and what changes no figure.
    fixed = frozenset({
        "data.path", "data.fallback", "data.train_size", "data.val_size", "data.confirm_size",
        "data.split_seed", "data.image_size", "data.resize", "data.eval_batch_size",
        "train.metrics",
    })  # fmt: skip
    free = frozenset({"data.path", "data.fallback", "data.eval_batch_size", "model.weights"})
    private = frozenset({"data.path", "model.weights"})
    mutable = (
        "optim.lr", "optim.adamw_lr", "optim.momentum", "optim.weight_decay",
        "optim.label_smoothing", "optim.gradient_clip", "data.crop_padding", "data.flip",
        "data.cutout", "data.random_resized_crop", "data.color_jitter", "data.trivial_augment",
        "data.mixup", "data.cutmix",
    )  # fmt: skip
    main_loss = "val_loss"
    modules = ("cifar_tune.vision.data.datamodule", "cifar_tune.vision.module")
    # BatchNorm's running figures are averaged before validation (`average_buffers`), which is less
    # to send than worker 0's before every step, and closer to those of the whole batch.
    ddp: Mapping[str, Any] = MappingProxyType(
        {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    )
    keeps_best = False

    def suggest(self, given: Mapping[str, Any], say: Say) -> Suggestion | None:
        """Configs for images larger than CIFAR's."""
        from cifar_tune.vision.suggestion import suggest

        return suggest(given, say)

    def check(self, plan: VisionPlan, *, workers: int) -> Sequence[str]:
        """Names of models, batches that workers share, and rungs within the warm-up."""
        from cifar_tune.vision.models import check_model_name
        from cifar_tune.vision.probe import check_searched_weights

        for name in possible_values(plan, "model.name"):
            check_model_name(str(name))
        check_searched_weights(plan)
        check_share("batch_size", min(batch_sizes(plan)), workers)
        check_share("val_size", plan.data.val_size, workers)
        return early_rung(plan)

    def find(self, plan: VisionPlan, *, recorded: Facts | None = None) -> Found:
        """What the images are; networks are tried on their size and classes."""
        from cifar_tune.vision.data import describe, few_steps
        from cifar_tune.vision.probe import plain_layout, starting_weights, try_networks

        if (recorded or {}).get("kind") == "drawn":
            return Found(["the built-in drawn set, which is drawn anew"], plan)
        found = describe(plan.data, recorded=recorded)
        check_inside(plan, found.config.side)
        check_share("val_size", found.config.val_size, plan.workers)
        batch, epochs = max(batch_sizes(plan)), plan.train.max_epochs
        few = few_steps(found.train_size, batch, epochs, drop_last=plan.data.drop_last)
        # A mistake in one shows here, not in each trial.
        side, classes = found.config.side, len(found.classes)
        try_networks(plan, classes, side, found.train_size)
        sentences = [*found.sentences, *few, *slow(plan, side)]
        sentences += starting_weights(plan, classes, side)
        plain = plain_layout(plan, classes, side)
        train = plan.train.model_copy(update={"channels_last": False} if plain else {})
        plan = plan.model_copy(update={"data": found.config, "train": train})
        return Found([*sentences, *plain], plan)

    def comparable(self, plan: VisionPlan, epoch: int) -> int:
        """After the warm-up."""
        return max(epoch, math.ceil(warm_up(plan)))

    def holds_out(self, plan: VisionPlan) -> bool:
        """Whether there are confirmation images."""
        return plan.data.confirm_size != 0

    def open(self, plan: VisionPlan, say: Say, *, recorded: Facts | None = None) -> VisionData:
        """Decode the images into the cache, or find them there."""
        from cifar_tune.vision.data import prepare, prepare_drawn, settle
        from cifar_tune.vision.opened import VisionData, sharing_file
        from cifar_tune.vision.probe import starts_from_weights

        # A search that began on the drawn set goes on with nothing else.
        drawn = (recorded or {}).get("kind") == "drawn"
        dataset = prepare_drawn(say, side=plan.data.side) if drawn else prepare(plan.data, say)
        weights = {}
        if starts_from_weights(plan) or (recorded or {}).get("weights"):
            from cifar_tune.vision.starting import check_recorded, read_all

            weights = read_all(plan, say)
            if recorded is not None:
                check_recorded(weights, recorded)
        config = plan.data.model_copy(update={"image_size": dataset.image_size})
        config = settle(config, dataset.train_size, len(dataset.classes), dataset.val_given)
        return VisionData(dataset, config, sharing_file(dataset, plan, say), weights)

    def columns(self, plan: VisionPlan) -> Sequence[str]:
        """Accuracy and loss, then what else was asked for."""
        return plan.measured

    def caveat(self, facts: Facts) -> str:
        """Of the built-in set, that it is not CIFAR-10."""
        return "on the DRAWN set, not CIFAR-10" if facts.get("kind") == "drawn" else ""

    def tags(self, run: VisionRun) -> list[str]:
        """The kind of network."""
        return [run.model.name]

    def trainer_options(self, run: VisionRun, folder: Path) -> dict[str, Any]:
        """Gradient clipping."""
        return {"gradient_clip_val": run.optim.gradient_clip or None}

    def build(
        self, run: VisionRun, part: SearchData, *, fresh: bool
    ) -> tuple[LightningModule, LightningDataModule]:
        """The network and the batches of one training."""
        from cifar_tune.vision.data.datamodule import CifarDataModule, as_tensor
        from cifar_tune.vision.module import Classifier, init_from_images
        from cifar_tune.vision.weights import key_of, start_from

        channels_last = run.train.channels_last is True
        # As the images are, for the checkpoint and whoever uses the model.
        data = run.data.model_copy(update={"image_size": part.side})
        run = run.model_copy(update={"data": data})
        weights = None if run.model.weights is None else part.weights[str(key_of(run.model))]
        if weights is not None and weights.mean is not None:  # as the network knows images
            part = replace(part, mean=weights.mean, std=weights.std)
        module = Classifier(
            run=run,
            classes=[str(name) for name in part.classes],
            mean=[float(x) for x in part.mean],
            std=[float(x) for x in part.std],
        )
        if run.data.balance == "loss":
            module.balance_loss(as_tensor(part.train_labels))
        if fresh and weights is not None:
            start_from(module.model, weights, run.model)
        elif fresh:
            init_from_images(module.model, part)
        return module, CifarDataModule(part, run.data, run.seed, channels_last=channels_last)

    def checkpoint_bytes(self, plan: VisionPlan) -> int:
        """Weights and the optimizer's state of the largest network that can be drawn."""
        from cifar_tune.vision.cost import checkpoint_bytes
        from cifar_tune.vision.data import describe

        found = describe(plan.data)
        return checkpoint_bytes(plan, len(found.classes), found.config.side)

    def use(self, folder: Path) -> str:
        """Reads images."""
        return f"cifar-tune predict --model {shlex.quote(str(folder))} FILE..."

    def write_winner(self, results: Any, data: VisionData, say: Say, *, whole: bool) -> Path | None:
        """The winner's model, if it is `whole` in all its forms."""
        from cifar_tune.vision.best import write_winner

        return write_winner(results, data.search, say, whole=whole)

    def hand_over(
        self,
        results: Any,
        data: VisionData,
        model: Mapping[str, Any],
        judged: Path | None,
        say: Say,
    ) -> bool:
        """A final model in all its forms."""
        from cifar_tune.vision.best import hand_over

        return hand_over(results, data, model, judged, say)

    def combine(self, checkpoints: Sequence[Path], target: Path) -> None:
        """Networks whose logits are averaged."""
        from cifar_tune.vision.ensemble import combine

        combine(checkpoints, target)

    def cost(self, run: VisionRun, data: VisionData) -> dict[str, int]:
        """Multiply-adds of an image, and parameters."""
        from cifar_tune.vision.cost import cost_of

        return cost_of(run.model, len(data.dataset.classes), data.config.side)

    def latencies(self, runs: Sequence[VisionRun], data: VisionData) -> Iterable[float]:
        """Milliseconds of one image through each run's network."""
        from cifar_tune.vision.cost import latencies

        return latencies([run.model for run in runs], len(data.dataset.classes), data.config.side)

    def goal(self, plan: VisionPlan) -> Goal:
        """Accuracy."""
        return Goal("accuracy", "max")

    def held_out(
        self, data: VisionData, split: Literal["confirm", "test"], plan: VisionPlan
    ) -> Images:
        """Images that no search sees."""
        from cifar_tune.vision.data.held_out import open_confirm_split, open_test_split

        if split == "test":
            return open_test_split(data.dataset)
        return open_confirm_split(data.dataset, data.config)

    def score(self, checkpoint: Path, examples: Images, plan: VisionPlan) -> NDArray[np.bool_]:
        """Which images a model gets right: [images]; with the arithmetic of `load_model`.

        On all CPUs, since no trial runs meanwhile.
        """
        from cifar_tune.plan.machine import usable_cpus
        from cifar_tune.vision.evaluate import loaded_logits

        logits = loaded_logits(
            checkpoint,
            examples.images,
            gpu=plan.on_gpu,
            threads=usable_cpus(),
            flip_averaging=plan.finals.flip_averaging,
            translate_averaging=plan.finals.translate_averaging,
        )
        right: NDArray[np.bool_] = logits.argmax(dim=1).numpy() == examples.labels
        return right

    def panels(self, results: Any) -> list[Panel]:
        """The confusion matrix, and the most confident mistakes."""
        from cifar_tune.vision.panels import panels

        return panels(results)


VISION = Vision()
