"""Journals of small searches, written by a real recorder as a search writes them."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results

CLASSES = ("cat", "dog", "frog")
DATA = {
    "kind": "images", "source": "/somewhere", "fingerprint": "0" * 64, "train": 100, "val": 60,
    "confirm": 0, "test": 60, "classes": list(CLASSES), "notes": [],
}  # fmt: skip
SECONDS = 2.0  # an epoch


class WrittenSearch:
    """A search whose trials run one after another on two slots, three epochs each."""

    def __init__(self, folder: Path, *overrides: str, **data: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(folder)
        self.recorder = Recorder(self.journal)
        self.plan = load_plan(None, ["train.max_epochs=3", *overrides])
        dumped = self.plan.model_dump(mode="json")
        environment = {"versions": {"torch": "2.15"}, "command": ["cifar-tune", "tune"]}
        self.write("search", version=1, plan=dumped, data={**DATA, **data}, environment=environment)
        self.start()

    def start(self) -> None:
        """Begin one more start of the driver."""
        number, dumped = len(self.results.starts) + 1, self.plan.model_dump(mode="json")
        self.write("start", number=number, slots=2, process=1, plan=dumped)

    @property
    def results(self) -> Results:
        """The search as the driver has it."""
        return self.recorder.results

    def write(self, event: str, **values: Any) -> None:
        """Record one event."""
        self.recorder.write(event, **values)

    def create(self, **values: Value) -> str:
        """A trial with these values, or with some of the default space; its id."""
        index = len(self.results.trials)
        given: dict[str, Value] = {
            "optim.lr": 0.02 * (index + 1), "optim.weight_decay": 1e-4 * (index % 3 + 1),
            "optim.label_smoothing": 0.01 * (7 * index % 11), "data.batch_size": 64 * 2 ** (index % 3),
        }  # fmt: skip
        name = f"t{index + 1:04}"
        self.write("trial_created", trial_id=name, index=index, seed=index, values=values or given)
        self.write("trial_started", trial_id=name, start=1)
        return name

    def report(
        self, name: str, epoch: int, accuracy: float | None, *, diverged: bool = False
    ) -> None:
        """One epoch of a trial; none: it diverged, and has no figures."""
        first = 1e9 + int(name[1:]) * 3 * SECONDS
        figures = {} if accuracy is None else {"val_accuracy": accuracy, "val_loss": 2.0 - accuracy}
        times = {"first_step_at": first, "reported_at": first + epoch * SECONDS}
        metrics = {"epoch": epoch, **figures, **times}
        more = {"checkpoint": None, "done": diverged, "diverged": diverged}
        self.write("result", trial_id=name, metrics=metrics, **more)

    def end(self, name: str, status: str, reason: str = "", **more: Any) -> None:
        """End a trial."""
        self.write("trial_ended", trial_id=name, status=status, reason=reason, **more)

    def run(self, accuracies: Sequence[float], status: str = "completed", **values: Value) -> str:
        """A whole trial; its id."""
        name = self.create(**values)
        for epoch, accuracy in enumerate(accuracies, 1):
            self.report(name, epoch, accuracy)
        if status == "diverged":
            self.report(name, len(accuracies) + 1, None, diverged=True)
        self.end(name, status, "" if status == "completed" else f"it was {status}")
        return name

    def finish(self) -> None:
        """Write that the search is over, and let go of the folder."""
        self.write("finished")
        self.leave()

    def leave(self) -> None:
        """Let go of the folder, as a process does that ends or is killed."""
        self.journal.__exit__()


def usual(folder: Path, *overrides: str, **data: Any) -> WrittenSearch:
    """Eight trials: completed, stopped, failed and diverged ones."""
    search = WrittenSearch(folder, *overrides, **data)
    for number in range(4):
        search.run([0.3 + 0.02 * number, 0.5, 0.6 + 0.05 * number])
    for number in range(2):
        search.run([0.1 + 0.05 * number], "stopped")
    search.run([0.2], "failed")
    search.run([0.2], "diverged")
    return search


MIXED = (
    "train.max_epochs=9",
    "search.num_samples=40",
    "search.space={optim.lr: {loguniform: [0.001, 1.0]}, optim.name: {choice: [sgd, adamw]},"
    " data.batch_size: {choice: [256, 64, 128]}, model.width: {pow2: [4, 32]},"
    " optim.momentum: {uniform: [0.5, 0.95], when: {optim.name: sgd}},"
    " optim.weight_decay: {loguniform: [1.0e-5, 1.0e-2]}}",
)


def mixed(folder: Path, *overrides: str, trials: int = 40, **data: Any) -> WrittenSearch:
    """Trials of many lengths with fields of each kind, of which no order is that of another."""
    search, rng = WrittenSearch(folder, *MIXED, *overrides, **data), random.Random(3)
    for number in range(trials):
        values: dict[str, Value] = {
            "optim.lr": 10 ** rng.uniform(-3, 0), "optim.name": rng.choice(["sgd", "adamw"]),
            "data.batch_size": rng.choice([256, 64, 128]), "model.width": 2 ** rng.randint(2, 5),
            "optim.weight_decay": 10 ** rng.uniform(-5, -2),
        }  # fmt: skip
        if values["optim.name"] == "sgd":
            values["optim.momentum"] = rng.uniform(0.5, 0.95)
        good = 0.85 - 0.12 * abs(math.log10(float(values["optim.lr"])) + 1) + rng.uniform(0, 0.06)  # type: ignore[arg-type]
        length = 9 if good > 0.8 else 3 if good > 0.7 else 1
        status = "completed" if length == 9 else "stopped"
        if number % 15 == 7:
            length, status = 1, "diverged"
        curve = [good * (1 - 0.6 * math.exp(-epoch / 3)) for epoch in range(1, length + 1)]
        search.run(curve, status, **values)
    return search


def write_predictions(folder: Path, labels: np.ndarray[Any, Any], wrong: Sequence[int]) -> None:
    """Predictions that are right but for these positions, each surer than the next."""
    classes = int(labels.max()) + 1
    logits = np.zeros((len(labels), classes), np.float32)
    logits[np.arange(len(labels)), labels] = 3.0
    for order, place in enumerate(wrong):
        logits[place] = 0.0
        logits[place, (labels[place] + 1) % classes] = 9.0 - 0.1 * order
    content = io.BytesIO()
    np.savez_compressed(content, logits=logits, labels=labels)
    (folder / "best").mkdir(exist_ok=True)
    (folder / "best" / "validation_predictions.npz").write_bytes(content.getvalue())
    (folder / "best" / "metrics.json").write_text('{"trial_id": "t0004"}')
    (folder / "best" / "model.ckpt").write_bytes(b"")
