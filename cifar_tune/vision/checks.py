"""What a plan of the vision task is checked for, and the notes on it, by the size of its images."""

from __future__ import annotations

from cifar_tune.errors import PlanError
from cifar_tune.plan.points import possible_values
from cifar_tune.plan.rungs import rung_epochs, rungs_below
from cifar_tune.vision.config import VisionPlan
from cifar_tune.vision.data_config import SIDE

SLOW_SIDE = 128  # pixels: what a CPU's trainings feel


def check_share(name: str, size: int | float | str, workers: int) -> None:
    """Every worker of a trial needs images of every batch, and of the validation."""
    if isinstance(size, int) and size < workers:
        raise PlanError(
            f"data.{name} can be {size}, shared by {workers} workers (--workers-per-trial); it"
            f" must be at least one image each: raise it, or pass {size} or fewer"
        )


def check_inside(plan: VisionPlan, side: int) -> None:
    """What is cut out of an image, or mirrored beside it, is smaller than it."""
    for name, most in (("cutout", side), ("crop_padding", side - 1)):
        largest = max(int(value or 0) for value in possible_values(plan, f"data.{name}"))
        if largest > most:
            raise PlanError(
                f"data.{name} can be {largest}, and the images have {side} x {side} pixels"
                f" (data.image_size); it must be at most {most}"
            )


def warm_up(plan: VisionPlan) -> float:
    """The epochs in which the learning rate of a trial can rise."""
    if set(possible_values(plan, "optim.schedule")) == {"constant"}:
        return 0.0
    fractions = [float(str(part)) for part in possible_values(plan, "optim.warmup_fraction")]
    return max(fractions) * plan.train.max_epochs


def slow(plan: VisionPlan, side: int) -> list[str]:
    """A note where `auto` takes a size whose trainings a CPU feels."""
    if plan.data.image_size != "auto" or side < SLOW_SIDE or plan.on_gpu:
        return []
    return [
        f"without a GPU, images of {side} x {side} pixels take about {(side / SIDE) ** 2:.0f} times"
        f" as long as those of {SIDE} x {SIDE}; if a smaller data.image_size, such as 64, shows"
        " enough of them, a search gets much further in the same time"
    ]


def early_rung(plan: VisionPlan) -> list[str]:
    """A note where trials are judged before they have learnt much: on recorded curves, a first rung
    in epoch 1 cost 3 points with asha and 12 with halving (benchmarks/early_stopping.py)."""
    epochs, rungs, warm = plan.train.max_epochs, rung_epochs(plan), warm_up(plan)
    if not rungs_below(rungs, epochs) or rungs[0] >= warm:
        return []
    return [
        f"the first rung is epoch {rungs[0]}, and the learning rate rises until epoch {warm:.1f}"
        " (optim.warmup_fraction): what is stopped there has hardly learnt; search.grace_period:"
        " auto is safer and takes more epochs"
    ]
