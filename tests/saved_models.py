"""Networks that were trained for a moment and saved, and one search that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import LambdaCallback
from toy_images import toy_data, toy_run

from cifar_tune.plan.config import Plan
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.train.fit import fit


def save_model(path: Path, side: int = 32, **values: Any) -> Path:
    """Train one epoch on noise and save it; `values` as `model__name="net"`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save = LambdaCallback(on_validation_end=lambda trainer, module: trainer.save_checkpoint(path))
    fit(toy_run(max_epochs=1, **values), toy_data(16, 16, side=side), callbacks=[save])
    return path


def begin_search(journal: Journal, plan: Plan) -> Recorder:
    """A search whose images are those of `toy_data`."""
    recorder = Recorder(journal)
    recorder.write(
        "search",
        version=1,
        plan=plan.model_dump(mode="json"),
        data={"fingerprint": "of the toys"},
        environment={},
    )
    return recorder


def report_trial(recorder: Recorder, index: int, accuracy: float, checkpoint: str | None) -> None:
    """A trial of one epoch, whose checkpoint lies at this path in the results folder."""
    name = f"t{index + 1:04}"
    recorder.write("trial_created", trial_id=name, index=index, seed=index, values={})
    metrics = {"epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0}
    clock = {"first_step_at": 1.0, "reported_at": 2.0}
    recorder.write(
        "result",
        trial_id=name,
        metrics={**metrics, **clock},
        checkpoint=checkpoint,
        done=True,
        diverged=False,
    )
