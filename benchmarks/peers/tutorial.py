"""The published tutorial as Ray ships it, on listed configurations and real images; a peer.

    python benchmarks/peers/tutorial.py JOB

`train_cifar` is the installed package's own; only where its images come from is replaced, and the
Tuner is built as its `main` builds it. Its own test of the winner is left out, ours is not.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def train_listed(config: dict[str, int], job: dict[str, Any]) -> None:
    """Runs in a worker, where the module is imported anew."""
    from PIL import Image
    from ray.tune.examples import cifar10_pytorch
    from torch.utils.data import Dataset
    from torchvision import transforms

    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(job["mean"], job["std"])]
    )

    class Images(Dataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            parts = [np.load(Path(job["arrays"]) / f"{x}_images.npy") for x in ("train", "val")]
            self.images = np.concatenate(parts)
            parts = [np.load(Path(job["arrays"]) / f"{x}_labels.npy") for x in ("train", "val")]
            self.labels = np.concatenate(parts)

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return transform(Image.fromarray(self.images[index])), int(self.labels[index])

    cifar10_pytorch.load_data = lambda _: (Images(), None)
    _write_first(job)
    point = {key.partition(".")[2]: value for key, value in job["points"][config["number"]].items()}
    cifar10_pytorch.train_cifar({**point, "smoke_test": False})


def _write_first(job: dict[str, Any]) -> None:
    folder = Path(job["first_steps"])
    folder.mkdir(exist_ok=True)
    (folder / str(time.time_ns())).write_text(str(time.time()))


def main() -> None:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    job = {
        **json.loads(Path(sys.argv[1]).read_text()),
        "first_steps": str(Path.cwd() / "first"),
    }
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
    results = tuner.fit()
    best = results.get_best_result("loss", "min")
    assert best.metrics is not None
    frames = [result.metrics_dataframe for result in results]
    outcome = {
        "best_accuracy": float(best.metrics["accuracy"]),
        "epochs": float(sum(len(frame) for frame in frames if frame is not None)),
    }
    Path("outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
