"""Ray's Lightning example, ported to CIFAR-10 in the usual way; a peer, no model to copy.

    python benchmarks/peers/ported_example.py JOB [--stopping]

torchvision's transforms an image at a time in a DataLoader with 2 workers, `self.log` in every
step, a checkpoint every epoch, Ray's defaults. The network is ours, so that both sides train the
same one. `optuna_side.py` drives the same training by Optuna.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

sys.path.append(str(Path(__file__).parents[1]))
import sides

from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.models import build_model


class Images(Dataset):  # type: ignore[type-arg]
    """As torchvision's CIFAR10: arrays in memory, a PIL image for each item, then transforms."""

    def __init__(self, job: dict[str, Any], part: str, transform: Any) -> None:
        self.images = np.load(Path(job["arrays"]) / f"{part}_images.npy")
        self.labels = np.load(Path(job["arrays"]) / f"{part}_labels.npy")
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class CifarData(pl.LightningDataModule):
    def __init__(self, job: dict[str, Any], batch_size: int) -> None:
        super().__init__()
        self.job, self.batch_size = job, batch_size

    def setup(self, stage: str | None = None) -> None:
        ending = [transforms.ToTensor(), transforms.Normalize(self.job["mean"], self.job["std"])]
        crop = transforms.RandomCrop(32, padding=4, padding_mode="reflect")
        augmented = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *ending])
        self.train_set = Images(self.job, "train", augmented)
        self.val_set = Images(self.job, "val", transforms.Compose(ending))

    def train_dataloader(self) -> Any:
        return DataLoader(
            self.train_set, self.batch_size, shuffle=True, drop_last=True, num_workers=2
        )

    def val_dataloader(self) -> Any:
        return DataLoader(self.val_set, self.batch_size, num_workers=2)


class Classifier(pl.LightningModule):
    def __init__(self, point: dict[str, Any], plan: dict[str, Any]) -> None:
        super().__init__()
        self.net = build_model(ModelConfig(**plan["model"]), 10)
        self.optim = {
            **plan["optim"],
            **{key[6:]: value for key, value in point.items() if key.startswith("optim.")},
        }
        self.train_accuracy, self.val_accuracy = MulticlassAccuracy(10), MulticlassAccuracy(10)

    def training_step(self, batch: Any, _index: int) -> Any:
        images, labels = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.optim["label_smoothing"])
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss)
        self.log("train_accuracy", self.train_accuracy)
        return loss

    def validation_step(self, batch: Any, _index: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.net.parameters(),
            lr=self.optim["lr"],
            momentum=self.optim["momentum"],
            nesterov=self.optim["nesterov"],
            weight_decay=self.optim["weight_decay"],
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.optim["lr"],
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=self.optim["warmup_fraction"],
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Marks(Callback):
    """Writes down when a training's first step began and when its epochs ended, before they are
    reported, as our side's clock does; the benchmark's own."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.begun = False

    def on_train_batch_start(self, *_: Any) -> None:
        if not self.begun:
            self.begun = True
            self.mark("first")

    def on_validation_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.mark("last")

    def mark(self, kind: str) -> None:
        (self.folder / kind).mkdir(parents=True, exist_ok=True)
        (self.folder / kind / str(time.time_ns())).touch()


def marked(folder: Path, kind: str) -> list[float]:
    """Unix seconds of all marks of a kind, the earliest first."""
    return sorted(int(mark.name) / 1e9 for mark in (folder / kind).iterdir())


def train(
    point: dict[str, Any], job: dict[str, Any], callbacks: list[Any], **trainer: Any
) -> dict[str, float]:
    plan = job["plan"]
    pl.seed_everything(job.get("seed", plan["seed"]))
    runner = pl.Trainer(
        max_epochs=plan["train"]["max_epochs"],
        accelerator="auto",
        enable_progress_bar=False,
        callbacks=[Marks(job["marks"]), *callbacks],
        **trainer,
    )
    data = CifarData(job, point.get("data.batch_size", plan["data"]["batch_size"]))
    runner.fit(Classifier(point, plan), data)
    return {key: float(value) for key, value in runner.callback_metrics.items()}


def train_for_ray(point: dict[str, Any], job: dict[str, Any]) -> None:
    from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

    metrics = {"loss": "val_loss", "accuracy": "val_accuracy"}
    train(point, job, [TuneReportCheckpointCallback(metrics, on="validation_end")])


def search_with_ray(job: dict[str, Any], *, stopping: bool) -> dict[str, float]:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    search, at_once = job["plan"]["search"], job["plan"]["resources"]["max_concurrent"]
    scheduler = ASHAScheduler(
        max_t=job["plan"]["train"]["max_epochs"],
        grace_period=search["grace_period"],
        reduction_factor=search["reduction_factor"],
    )
    # Slashes apart: a nested dictionary is what a grid over listed points needs in Ray.
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_by_number, job=job), resources={"cpu": 1, "gpu": 0}
        ),
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            scheduler=scheduler if stopping else None,
            max_concurrent_trials=None if at_once == "auto" else at_once,
        ),
        run_config=tune.RunConfig(name="ported", storage_path=str(Path.cwd() / "ray_results")),
        param_space={"number": tune.grid_search(list(range(len(job["points"]))))},
    )
    frames = [result.metrics_dataframe for result in tuner.fit()]
    return {
        "best_accuracy": max(float(frame["accuracy"].max()) for frame in frames),
        "epochs": float(sum(len(frame) for frame in frames)),
    }


def _by_number(config: dict[str, int], job: dict[str, Any]) -> None:
    train_for_ray(job["points"][config["number"]], job)


def work_for_optuna(job: dict[str, Any], study: Any) -> None:
    """Train what waits in an Optuna study, as one of its processes."""
    import optuna

    torch.set_num_threads(1)

    class Pruning(Callback):
        def __init__(self, trial: optuna.Trial) -> None:
            self.trial = trial

        def on_validation_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
            if trainer.sanity_checking:
                return
            self.trial.report(
                float(trainer.callback_metrics["val_accuracy"]), trainer.current_epoch + 1
            )
            if self.trial.should_prune():
                raise optuna.TrialPruned

    def objective(trial: optuna.Trial) -> float:
        number = trial.suggest_int("number", 0, len(job["points"]) - 1)
        return train(job["points"][number], job, [Pruning(trial)])["val_accuracy"]

    waiting = (optuna.trial.TrialState.WAITING,)
    while study.get_trials(deepcopy=False, states=waiting):
        study.optimize(objective, n_trials=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--stopping", action="store_true")
    parser.add_argument(
        "--alone", type=int, metavar="SEED", help="train the first point, no search"
    )
    arguments = parser.parse_args()
    job = {**json.loads(arguments.job.read_text()), "marks": str(Path.cwd() / "marks")}
    if arguments.alone is not None:
        trained = train(job["points"][0], {**job, "seed": arguments.alone}, [])
        outcome = {"accuracy": trained["val_accuracy"]}
    else:
        outcome = search_with_ray(job, stopping=arguments.stopping)
    first, last = (marked(Path("marks"), kind) for kind in ("first", "last"))
    times = {"first_step_at": first[0]}
    if job["plan"]["resources"]["max_concurrent"] == 1:
        times["between_seconds"] = sides.between(first, last)
    Path("outcome.json").write_text(json.dumps({**outcome, **times}))


if __name__ == "__main__":
    main()
