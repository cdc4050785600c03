"""Fine-tuning against training from scratch: a network of ours, new classes, equal epochs.

A ResNet-9 is trained on half of the drawn set's classes and saved by this project. Then, seed by
seed, the other half is learnt from few images, from scratch and from those weights, with the rate
that is best for each side among three, chosen on images that are not scored:

    python benchmarks/fine_tuning.py [--seeds 5] [--epochs 4] [--images 500]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import quiet
from lightning.pytorch.callbacks import LambdaCallback

from cifar_tune.train.fit import fit
from cifar_tune.vision.config import ModelConfig, OptimConfig, VisionRun, VisionTrain
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data.dataset import Images
from cifar_tune.vision.data.drawn import draw
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.starting import read

RATES = (0.02, 0.1, 0.3)
BEFORE = 4000  # images of the first half of the classes
SCORED = 500  # and as many to choose the rate on
SIDES: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "fine-tuned": {},
    "fine-tuned, backbone at a tenth": {"optim.backbone_lr_factor": 0.1},
    "fine-tuned, two stages frozen": {"model.freeze": 2},
}


def main() -> None:
    arguments = parse_arguments()
    quiet.begin(arguments)
    size = 2 * (BEFORE + arguments.images + 2 * SCORED)
    drawn = draw(size, 10)  # whose classes take turns
    first, second = (of_classes(drawn.train, low, low + 5) for low in (0, 5))
    with tempfile.TemporaryDirectory() as folder:
        weights = pretrain(first, Path(folder) / "model.ckpt", arguments.before)
        accuracies: dict[str, list[float]] = {}
        for name, values in SIDES.items():
            start = {} if name == "from scratch" else {"model.weights": str(weights)}
            accuracies[name] = side(second, {**values, **start}, arguments)
            report(name, accuracies[name], accuracies["from scratch"])
    quiet.save(arguments, {"accuracies": accuracies})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each side")
    parser.add_argument("--epochs", type=int, default=4, help="of each training")
    parser.add_argument("--before", type=int, default=5, help="epochs of the first training")
    parser.add_argument("--images", type=int, default=500, help="that are learnt from")
    quiet.add_options(parser)
    return parser.parse_args()


def of_classes(images: Images, low: int, high: int) -> Images:
    chosen = (images.labels >= low) & (images.labels < high)
    return Images(images.images[chosen], images.labels[chosen] - low)


def data_of(images: Images, train: slice, val: slice) -> SearchData:
    pixels = images.images[train] / 255
    mean, std = pixels.mean(axis=(0, 1, 2)).tolist(), pixels.std(axis=(0, 1, 2)).tolist()
    return SearchData(
        train_images=images.images[train],
        train_labels=images.labels[train],
        val_images=images.images[val],
        val_labels=images.labels[val],
        classes=tuple("abcde"),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def run_of(epochs: int, seed: int, values: Mapping[str, Any]) -> VisionRun:
    run = VisionRun(
        data=DataConfig(batch_size=64),
        model=ModelConfig(width=8),
        optim=OptimConfig(),
        train=VisionTrain(max_epochs=epochs, threads=1),
    )
    changed: VisionRun = run.with_values(values, seed)
    return changed


def pretrain(images: Images, path: Path, epochs: int) -> Path:
    data = data_of(images, slice(0, BEFORE), slice(BEFORE, BEFORE + SCORED))
    save = LambdaCallback(on_validation_end=lambda trainer, _: trainer.save_checkpoint(path))
    accuracy = fit(run_of(epochs, 0, {}), data, callbacks=[save]).metrics["val_accuracy"]
    print(f"first training: {BEFORE} images, {epochs} epochs, accuracy {accuracy:.4f}", flush=True)
    return path


def side(images: Images, values: Mapping[str, Any], arguments: argparse.Namespace) -> list[float]:
    """Accuracy of each seed at the rate that was best on other images."""
    count = arguments.images
    choosing, scoring = (slice(count + start, count + start + SCORED) for start in (0, SCORED))

    def train(seed: int, rate: float, val: slice) -> float:
        run = run_of(arguments.epochs, seed, {**values, "optim.lr": rate})
        data = data_of(images, slice(0, count), val)
        if run.model.weights is not None:
            data = replace(data, weights={run.model.weights: read(run.model, print)})
        return fit(run, data).metrics["val_accuracy"]

    best = max(RATES, key=lambda rate: train(100, rate, choosing))
    print(f"rate {best}; ", end="")
    return [train(seed, best, scoring) for seed in range(arguments.seeds)]


def report(name: str, ours: list[float], scratch: list[float]) -> None:
    gains = [100 * (a - b) for a, b in zip(ours, scratch, strict=True)]
    print(
        f"{name}: {statistics.mean(ours):.4f} ({min(ours):.4f} to {max(ours):.4f}, n ="
        f" {len(ours)}),"
        f" {statistics.mean(gains):+.1f} points ({min(gains):+.1f} to {max(gains):+.1f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
