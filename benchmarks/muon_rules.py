"""Accuracy of configs/speed94.yaml through `fit` against airbench94_muon's rules in a bare loop.

    python benchmarks/muon_rules.py --data-dir DIR --width 8 --images 4000 --seeds 5

Equal images, batches, steps and network; float32 on a CPU. Of speed94's networks it also tells what
averaging an image with its mirror image, and with itself moved by a pixel, brings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import airbench_rules
import torch
from lightning.pytorch.callbacks import LambdaCallback

from cifar_tune.plan.load import load_plan
from cifar_tune.plan.task import task_of
from cifar_tune.process import say
from cifar_tune.train.fit import fit
from cifar_tune.vision.config import VisionRun
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import EvalLoader, TrainLoader, as_tensor
from cifar_tune.vision.data.dataset import in_memory
from cifar_tune.vision.evaluate import loaded_logits
from cifar_tune.vision.models.speednet import SpeedNet
from cifar_tune.vision.module import init_from_images

AVERAGING: dict[str, dict[str, bool]] = {
    "no": {},
    "flip": {"flip_averaging": True},
    "full": {"flip_averaging": True, "translate_averaging": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-dir", required=True)
    told = parser.parse_args()
    plan = load_plan(
        "speed94",
        [
            f"data.path={told.data_dir}", f"data.train_size={told.images}",
            f"data.batch_size={told.batch_size}", "data.val_size=1000", "train.precision=32",
            f"train.max_epochs={told.epochs}", f"model.width={told.width}",
            f"optim.head_lr={airbench_rules.head_lr(told.width)}", "train.threads=1",
            f"optim.weight_decay={airbench_rules.DECAY * told.batch_size}",
        ],
    )  # fmt: skip
    torch.set_num_threads(1)
    data = task_of(plan).open(plan, say).part("search")
    file = Path(tempfile.mkdtemp(), "model.ckpt")
    keeps = LambdaCallback(on_fit_end=lambda trainer, _: trainer.save_checkpoint(file))
    pairs, averaged = [], []
    for seed in range(told.seeds):
        run, began = plan.with_values({}, seed), time.perf_counter()
        trained = fit(run, data, callbacks=[keeps])
        ours, between = trained.metrics["val_accuracy"], time.perf_counter()
        averaged.append([accuracy_of(file, data, how) for how in AVERAGING.values()])
        theirs = by_the_rules(run, data, told.epochs)
        pairs.append((ours, theirs))
        seconds = f"{between - began:.0f} and {time.perf_counter() - between:.0f} s"
        say(f"seed {seed}: speed94 {ours:.4f}, the rules {theirs:.4f}, {seconds}")
    shutil.rmtree(file.parent)
    differences = [ours - theirs for ours, theirs in pairs]
    spread = statistics.stdev(differences) / len(pairs) ** 0.5 if len(pairs) > 1 else 0.0
    say(json.dumps({
        "width": told.width, "images": told.images, "epochs": told.epochs, "n": len(pairs),
        "speed94": statistics.mean(ours for ours, _ in pairs),
        "rules": statistics.mean(theirs for _, theirs in pairs),
        "difference": statistics.mean(differences), "standard_error": spread,
        "averaging": {
            name: statistics.mean(column)
            for name, column in zip(AVERAGING, zip(*averaged, strict=True), strict=True)
        },
        "full_less_no": [row[-1] - row[0] for row in averaged],
    }))  # fmt: skip


def accuracy_of(file: Path, data: SearchData, averaging: dict[str, bool]) -> float:
    """Validation accuracy of a model as the finals score it."""
    logits = loaded_logits(file, in_memory(data.val_images), gpu=False, threads=1, **averaging)
    return float((logits.argmax(1) == as_tensor(data.val_labels)).double().mean())


def by_the_rules(run: VisionRun, data: SearchData, epochs: int) -> float:
    """Validation accuracy after a training by airbench94_muon's rules, on a run's own batches."""
    torch.manual_seed(run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = SpeedNet(run.model.width, len(data.classes))
    init_from_images(model, data)
    model = model.to(device).to(memory_format=torch.channels_last)
    maker = BatchMaker(run.data, data.mean, data.std, device)
    pixels, held = in_memory(data.train_images), in_memory(data.val_images)
    parts = (pixels, data.train_labels, held, data.val_labels)
    images, labels, val_images, val_labels = (as_tensor(one).to(device) for one in parts)
    epoch = [0]
    loader = TrainLoader(images, labels, maker, run.data, run.seed, lambda: epoch[0])
    airbench_rules.train(model, loader, epoch, epochs)
    return airbench_rules.accuracy(model, EvalLoader(val_images, val_labels, maker, "auto"))


if __name__ == "__main__":
    main()
