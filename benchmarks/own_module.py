"""A LightningModule of one's own: a step and a whole search against Lightning and Ray by hand.

    python benchmarks/own_module.py --step     # Trainer.fit alone against fit(), 5 rounds
    python benchmarks/own_module.py --search   # Ray's documented trainable against cifar-tune tune

The step takes about 50 ms. The search is of the same 12 configurations for 4 epochs each, without
early stopping and without finals, 2 trials at once; Ray's side is its example for Lightning: a
function trainable with `TuneReportCheckpointCallback`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import quiet
import sides
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

SAMPLES, EPOCHS = 12, 4
SPACE = {"model.lr": {"loguniform": [1e-3, 1e-1]}}


class Pictures(L.LightningDataModule):
    """Noise with a mark in one of four corners."""

    def __init__(self, batch_size: int = 64, examples: int = 4000) -> None:
        super().__init__()
        self.batch_size, self.examples = batch_size, examples

    def setup(self, stage: str) -> None:
        """The same pictures each time."""
        random = torch.Generator().manual_seed(0)
        x = torch.randn(self.examples, 1, 16, 16, generator=random)
        y = torch.randint(0, 4, (self.examples,), generator=random)
        for corner in range(4):
            row, column = 8 * (corner // 2), 8 * (corner % 2)
            x[y == corner, :, row : row + 8, column : column + 8] += 0.3
        cut = self.examples * 4 // 5
        self.parts = TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts[1], self.batch_size)


class Net(L.LightningModule):
    """A small convolutional network; `work` makes a step longer."""

    def __init__(self, lr: float = 0.01, width: int = 16, work: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.work = work
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 4),
        )  # fmt: skip

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        x, y = batch
        square = torch.ones(512, 512)
        for _ in range(self.work):
            square = square @ square
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        logits = self.net(x)
        self.log("val_acc", (logits.argmax(1) == y).float().mean())
        self.log("val_loss", F.cross_entropy(logits, y))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.peer:
        return _by_hand(json.loads(arguments.peer.read_text()))
    quiet.begin(arguments)
    figures: dict[str, Any] = {}
    if arguments.step:
        figures["step"] = _steps(arguments.rounds, arguments.steps)
    if arguments.search:
        figures["search"] = _searches(arguments.rounds)
    quiet.save(arguments, figures)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--step", action="store_true", help="time a step")
    parser.add_argument("--search", action="store_true", help="time a whole search")
    parser.add_argument("--steps", type=int, default=40, help="of an epoch that is timed (40)")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    sides.add_options(parser, 5)
    return parser


def _steps(rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of an epoch and its validation, by each side in turn."""
    from cifar_tune import load_plan
    from cifar_tune.lit.task import Part
    from cifar_tune.train.fit import fit

    torch.set_num_threads(1)
    work = _work_of(0.05)
    given = {"batch_size": 32, "examples": 32 * steps * 5 // 4}
    plan = load_plan(None, [
        "task=lightning", "model.class_path=own_module:Net", "data.class_path=own_module:Pictures",
        f"model.work={work}", *(f"data.{name}={value}" for name, value in given.items()),
        "train.max_epochs=2", "train.threads=1", "search.space.model.lr={uniform: [0.1, 0.2]}",
    ])  # fmt: skip
    run = plan.with_values({"model.lr": 0.1}, seed=0)

    def by_trainer() -> float:
        clock = _Clock()
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            callbacks=[clock],
        )  # fmt: skip
        trainer.fit(Net(lr=0.1, work=work), Pictures(**given))
        return clock.seconds

    def by_fit() -> float:
        clock = _Clock()
        fit(run, Part(), callbacks=[clock])
        return clock.seconds

    times: dict[str, list[float]] = {"Trainer.fit": [], "fit": []}
    for number in range(rounds):
        both = [("Trainer.fit", by_trainer), ("fit", by_fit)]
        for name, side in reversed(both) if number % 2 else both:
            times[name].append(side())
    for name, seconds in times.items():
        print(f"{name:12} {1e3 * statistics.median(seconds) / steps:.2f} ms a step")
    ratios = [one / other for one, other in zip(times["fit"], times["Trainer.fit"], strict=True)]
    print(f"fit / Trainer.fit: {sides.spread(ratios)}")
    return times


class _Clock(L.Callback):
    """Times the second epoch, its validation included."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = time.perf_counter() - self._began


def _work_of(seconds: float) -> int:
    """How many products of matrices take so long here."""
    square, began = torch.ones(512, 512), time.perf_counter()
    for _ in range(20):
        square = square @ square
    return max(1, round(seconds / ((time.perf_counter() - began) / 20)))


def _searches(rounds: int) -> dict[str, list[sides.Outcome]]:
    from cifar_tune import load_plan
    from cifar_tune.search.configurations import Configurations

    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    sets = [
        "search.searcher=random", "search.scheduler=none",
        f"search.num_samples={SAMPLES}", f"train.max_epochs={EPOCHS}",
        "finals.seeds=0", "resources.max_concurrent=2", "tracking.quiet=true",
        f"search.space={json.dumps(SPACE)}", "search.metric=val_acc", "search.mode=max",
        "model.class_path=own_module:Net", "data.class_path=own_module:Pictures",
    ]  # fmt: skip
    plan = load_plan(None, ["task=lightning", *sets])
    points = [point["model.lr"] for point in Configurations(plan)]

    def ours(folder: Path) -> list[str]:
        words = [word for one in ["task=lightning", *sets] for word in ("--set", one)]
        tune = [sys.executable, "-m", "cifar_tune.tune", "--out", str(folder), "--name", "one"]
        return [*tune, *words]

    def by_ray(folder: Path) -> list[str]:
        (folder / "job.json").write_text(json.dumps({"folder": str(folder), "rates": points}))
        return sides.program("own_module.py", "--peer", folder / "job.json")

    table = sides.alternate({"ours": ours, "ray": by_ray}, rounds)
    sides.show(table, ["wall_seconds"])
    return table


def _by_hand(job: dict[str, Any]) -> int:
    """Ray's example for Lightning, with this module."""
    from ray import tune
    from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

    def train(config: dict[str, Any]) -> None:
        from own_module import Net, Pictures

        torch.set_num_threads(1)
        report = TuneReportCheckpointCallback({"acc": "val_acc"}, on="validation_end")
        trainer = L.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", callbacks=[report], enable_progress_bar=False,
            enable_model_summary=False, logger=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(Net(lr=config["lr"]), Pictures())

    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"lr": tune.grid_search(job["rates"])},
        tune_config=tune.TuneConfig(metric="acc", mode="max", max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=job["folder"], name="ray", verbose=0),
    )
    assert len(tuner.fit()) == SAMPLES
    return 0


if __name__ == "__main__":
    sys.exit(main())
