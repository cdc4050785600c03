"""The published tutorial as Ray ships it, on listed configurations and real images; a peer.

    python benchmarks/peers/tutorial.py JOB [--alone SEED]

`train_cifar` is the installed package's own; only where its images come from and how they are split
is replaced, and the Tuner is built as its `main` builds it. Its own test of the winner is left out,
ours is not. With `--alone` it trains the first configuration without a search.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def train_listed(config: dict[str, int], job: dict[str, Any]) -> None:
    """Runs in a worker, where the example is imported anew."""
    _example(job).train_cifar(_in_its_words(job["points"][config["number"]]))


def _in_its_words(point: dict[str, Any]) -> dict[str, Any]:
    return {**{key.partition(".")[2]: value for key, value in point.items()}, "smoke_test": False}


def _example(job: dict[str, Any]) -> Any:
    """The installed example, on the job's images and split."""
    from PIL import Image
    from ray.tune.examples import cifar10_pytorch
    from torch.utils.data import Dataset, Subset
    from torchvision import transforms

    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(job["mean"], job["std"])]
    )

    class Images(Dataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            parts = [np.load(Path(job["arrays"]) / f"{x}_images.npy") for x in ("train", "val")]
            self.images, self.held_out = np.concatenate(parts), len(parts[1])
            parts = [np.load(Path(job["arrays"]) / f"{x}_labels.npy") for x in ("train", "val")]
            self.labels = np.concatenate(parts)

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return transform(Image.fromarray(self.images[index])), int(self.labels[index])

    def split(images: Images, _lengths: object) -> tuple[Any, Any]:
        border = len(images) - images.held_out
        return Subset(images, range(border)), Subset(images, range(border, len(images)))

    cifar10_pytorch.load_data = lambda _: (Images(), None)
    cifar10_pytorch.random_split = split
    return cifar10_pytorch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--alone", type=int, metavar="SEED")
    arguments = parser.parse_args()
    job = json.loads(arguments.job.read_text())
    outcome = search(job) if arguments.alone is None else train_alone(job, arguments.alone)
    Path("outcome.json").write_text(json.dumps(outcome))


class _EpochsOverError(Exception):
    """The last epoch is over: the example trains ten, and a scheduler ends it."""


def train_alone(job: dict[str, Any], seed: int) -> dict[str, float]:
    """The first configuration, without Ray; its reports come to us."""
    import torch

    example, reports = _example(job), []

    def report(metrics: dict[str, float], **_: Any) -> None:
        reports.append(metrics["accuracy"])
        if len(reports) == job["plan"]["train"]["max_epochs"]:
            raise _EpochsOverError

    example.tune.report, example.tune.get_checkpoint = report, lambda: None
    torch.manual_seed(seed)
    with contextlib.suppress(_EpochsOverError):
        example.train_cifar(_in_its_words(job["points"][0]))
    return {"accuracy": reports[-1]}


def search(job: dict[str, Any]) -> dict[str, float]:
    """All configurations, in a Tuner as the example's `main` has it."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    epochs = job["plan"]["train"]["max_epochs"]
    scheduler = ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=2)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train_listed, job=job), resources={"cpu": 2, "gpu": 0}
        ),
        tune_config=tune.TuneConfig(metric="loss", mode="min", scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(Path.cwd() / "ray_results")),
        param_space={"number": tune.grid_search(list(range(len(job["points"]))))},
    )
    frames = [frame for result in tuner.fit() if (frame := result.metrics_dataframe) is not None]
    return {
        "best_accuracy": max(float(frame["accuracy"].max()) for frame in frames),
        "epochs": float(sum(len(frame) for frame in frames)),
    }


if __name__ == "__main__":
    main()
