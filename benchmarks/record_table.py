"""Records the table that `time_to_quality.py` judges on: real trainings, all of them at once.

    python benchmarks/record_table.py [--data DIR] [--configurations 256]

So that thousands of trainings fit into minutes of two cores, the configurations are trained side by
side as one batched network: 192 inputs (the images shrunk to 8 x 8), 64 hidden units, 10 classes,
SGD with Nesterov momentum, batches of 128 out of 4,000 images, random flips. They share the order
of the batches, and no initial weight. Each is a draw of the random search with seed 0; the
schedules are those of `cifar_tune.vision.optim`. Writes the validation accuracy on 4,000 images
after every epoch, in hundredths of a percent; 0 from the epoch on in which a training diverged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cifar_tune.plan.load import load_plan
from cifar_tune.search.configurations import Configurations
from cifar_tune.vision.config import OptimConfig
from cifar_tune.vision.data import prepare, search_data
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.optim import build_schedule

TABLE = Path(__file__).parent / "table_mlp.json"
EPOCHS, BATCH, IMAGES, SIDE, HIDDEN = 27, 128, 4000, 8, 64
SPACE = {
    "optim.lr": {"loguniform": [0.003, 3.0]},
    "optim.momentum": {"uniform": [0.5, 0.99]},
    "optim.weight_decay": {"loguniform": [1e-6, 0.1]},
    "optim.label_smoothing": {"uniform": [0.0, 0.3]},
}
SCHEDULES = {"one-cycle": 0.25, "constant": 0.0, "warmup-stable-decay": 0.1}  # and their warm-up


def images(path: str | None) -> tuple[torch.Tensor, ...]:
    """Training and validation images as [n, 3, 8, 8] float32, and labels [n]."""
    config = DataConfig(path=path, train_size=IMAGES, val_size=IMAGES)
    data = search_data(prepare(config, print), config)
    small = []
    for stored in (data.train_images, data.val_images):
        pixels = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255
        small.append(functional.avg_pool2d((pixels - 0.47) / 0.25, 32 // SIDE))
    labels = [torch.from_numpy(stored) for stored in (data.train_labels, data.val_labels)]
    return small[0], labels[0], small[1], labels[1]


class Networks:
    """One network a configuration, as tensors whose first dimension is the configuration."""

    def __init__(self, points: list[dict[str, Any]]) -> None:
        generator = torch.Generator().manual_seed(0)
        sizes = [(3 * SIDE * SIDE, HIDDEN), (HIDDEN, 10)]
        self.weights = []
        for inputs, outputs in sizes:
            shape, bound = (len(points), inputs, outputs), inputs**-0.5
            for part in (shape, (shape[0], 1, outputs)):
                drawn = torch.rand(part, generator=generator) * 2 - 1
                self.weights.append((drawn * bound).requires_grad_())
        self.momenta = [torch.zeros_like(weight) for weight in self.weights]
        fields = ("lr", "momentum", "weight_decay", "label_smoothing")
        values = [[point[f"optim.{field}"] for field in fields] for point in points]
        columns = torch.tensor(values).T[:, :, None, None]
        self.rate, self.momentum, self.decay, self.smoothing = columns

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """[n, 3, 8, 8] to [configurations, n, 10]."""
        first, first_bias, second, second_bias = self.weights
        inputs = batch.flatten(1).expand(len(first), -1, -1)
        logits: torch.Tensor = torch.relu(inputs @ first + first_bias) @ second + second_bias
        return logits

    def step(self, batch: torch.Tensor, labels: torch.Tensor, factor: float) -> None:
        """One step of SGD, at so much of each learning rate."""
        logs = self.logits(batch).log_softmax(-1)
        target = functional.one_hot(labels, 10).float()
        target = target * (1 - self.smoothing) + self.smoothing / 10
        gradients = torch.autograd.grad(-(target * logs).sum() / len(labels), self.weights)
        with torch.no_grad():
            for weight, momentum, gradient in zip(
                self.weights, self.momenta, gradients, strict=True
            ):
                decayed = gradient + self.decay * weight if weight.shape[1] > 1 else gradient
                momentum.mul_(self.momentum).add_(decayed)
                weight.sub_(factor * self.rate * (decayed + self.momentum * momentum))


def factors(schedule: str, steps: int) -> list[float]:
    """The part of the learning rate in each step."""
    config = OptimConfig.model_validate(
        {"schedule": schedule, "warmup_fraction": SCHEDULES[schedule]}
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    (factor,) = build_schedule(optimizer, config, steps).lr_lambdas
    return [float(factor(step)) for step in range(steps)]


def record(points: list[dict[str, Any]], data: tuple[torch.Tensor, ...], schedule: str) -> Any:
    """Train them all; accuracies as [configurations][epochs] whole numbers."""
    train, labels, val, val_labels = data
    networks, steps = Networks(points), IMAGES // BATCH
    course, generator = factors(schedule, EPOCHS * steps), np.random.default_rng(1)
    accuracies, alive = [], torch.ones(len(points), dtype=torch.bool)
    for epoch in range(EPOCHS):
        order = torch.from_numpy(generator.permutation(IMAGES))
        flips = torch.from_numpy(generator.random(IMAGES) < 0.5)[:, None, None, None]
        seen = torch.where(flips, train.flip(3), train)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            networks.step(seen[chosen], labels[chosen], course[epoch * steps + step])
        with torch.no_grad():
            alive &= torch.stack([w.isfinite().flatten(1).all(1) for w in networks.weights]).all(0)
            right = [
                (networks.logits(part).argmax(-1) == wanted).sum(1)
                for part, wanted in zip(val.chunk(8), val_labels.chunk(8), strict=True)
            ]
        accuracy = torch.stack(right).sum(0) * alive * (10_000 / IMAGES)
        accuracies.append(accuracy.round().int().tolist())
        print(schedule, epoch + 1, max(accuracies[-1]), flush=True)
    return np.array(accuracies).T.tolist()


def main() -> None:
    """Record every schedule, and write one line a configuration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--configurations", type=int, default=256)
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=list(SCHEDULES))
    parser.add_argument("--data", metavar="PATH", help="folder or archive; none: the cache")
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    count = arguments.configurations
    space = json.dumps(SPACE)
    plan = load_plan(None, [f"search.space={space}", f"search.num_samples={count}"])
    points, data = list(Configurations(plan)), images(arguments.data)
    curves = {schedule: record(points, data, schedule) for schedule in arguments.schedules}
    about = {"what": (__doc__ or "").partition("\n")[0], "space": SPACE, "epochs": EPOCHS}
    rounded = [{field: float(f"{value:.6g}") for field, value in p.items()} for p in points]
    lines = [
        json.dumps({"values": point, **{name: curves[name][index] for name in curves}})
        for index, point in enumerate(rounded)
    ]
    text = json.dumps(about)[:-1] + ', "configurations": [\n' + ",\n".join(lines) + "\n]}\n"
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
