"""Plans of small searches of the modules in `own_modules`."""

from __future__ import annotations

from typing import Any

from cifar_tune import load_plan
from cifar_tune.lit.config import LitPlan
from cifar_tune.lit.task import LIGHTNING, Part

HERE = "lit.own_modules"
SPACE = ("search.space.model.lr={loguniform: [0.01, 0.3]}",)


def make_plan(*sets: str, module: str = "Classifier", data: str = "Blobs") -> LitPlan:
    """A plan by val_f1, trained for four epochs."""
    plan = load_plan(None, [
        "task=lightning", f"model.class_path={HERE}:{module}", f"data.class_path={HERE}:{data}",
        "search.metric=val_f1", "search.mode=max", "train.max_epochs=4", *SPACE, *sets,
    ])  # fmt: skip
    assert isinstance(plan, LitPlan)
    return plan


def words(*sets: str, module: str = "Classifier", data: str = "Blobs") -> list[str]:
    """The same as words of a command line."""
    given = [
        "--module", f"{HERE}:{module}", "--datamodule", f"{HERE}:{data}", "--metric", "val_f1",
        "--mode", "max", "--max-epochs", "4",
    ]  # fmt: skip
    for one in (*SPACE, *sets):
        given += ["--set", one]
    return given


def check(plan: LitPlan) -> Any:
    """What the checks before a start say."""
    LIGHTNING.check(plan, workers=1)
    return LIGHTNING.find(plan)


NOTHING = Part()
