"""Records the learning curves that `early_stopping.py` replays: every epoch of each configuration.

    python benchmarks/record_curves.py [--configurations 64] [--train-size 2000] [--width 6]
    python benchmarks/record_curves.py --model net --train-size 1500 --val-size 2000 --out FILE

The configurations are those of a random search with the default plan and seed 0. Each is trained to
its end, on one CPU thread, with a narrow network on a part of the real data. Writes
benchmarks/curves.json after each of them, and a second call goes on where the first one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import LambdaCallback

from cifar_tune.plan.machine import read_machine
from cifar_tune.search.configurations import Configurations
from cifar_tune.train.fit import fit
from cifar_tune.vision.config import (
    ModelConfig,
    OptimConfig,
    VisionPlan,
    VisionRun,
    VisionSearch,
    VisionTrain,
)
from cifar_tune.vision.data import SearchData, prepare, search_data
from cifar_tune.vision.data_config import DataConfig

CURVES = Path(__file__).parent / "curves.json"
EPOCHS = 27  # three halvings by 3: rungs after epochs 1, 3 and 9


def plan_to_record(arguments: argparse.Namespace) -> VisionPlan:
    """The default plan, but for its size."""
    return VisionPlan(
        data=DataConfig(train_size=arguments.train_size, val_size=arguments.val_size),
        model=ModelConfig(name=arguments.model, width=arguments.width),
        optim=OptimConfig(schedule=arguments.schedule, warmup_fraction=arguments.warmup_fraction),
        train=VisionTrain(max_epochs=EPOCHS, threads=1, precision="bf16", channels_last=True),
        search=VisionSearch(num_samples=arguments.configurations),
    )


def record(run: VisionRun, data: SearchData) -> dict[str, Any]:
    """Train one configuration; its figures of each epoch, and the seconds that the epoch took."""
    curve: dict[str, list[float]] = {"val_accuracy": [], "val_loss": [], "seconds": []}
    # CPU time: the neighbours on the machine are no part of a configuration.
    last = time.process_time()

    def on_validation_end(trainer: Any, module: Any) -> None:
        nonlocal last
        now = time.process_time()
        for name in ("val_accuracy", "val_loss"):
            curve[name].append(round(module.epoch_metrics[name], 4))
        curve["seconds"].append(round(now - last, 2))
        last = now

    result = fit(run, data, callbacks=[LambdaCallback(on_validation_end=on_validation_end)])
    return {"diverged": result.diverged, **curve}


def head(plan: VisionPlan, fingerprint: str) -> dict[str, Any]:
    """What made the curves."""
    packages = ("torch", "lightning", "numpy")
    return {
        "plan": plan.model_dump(mode="json", include={"seed", "data", "model", "optim", "train"}),
        "space": plan.search.space,
        "data_fingerprint": fingerprint,
        "machine": read_machine().cpu_name,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        "seconds": "CPU seconds of an epoch with its validation",
    }


def main() -> None:
    """Record what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=64)
    parser.add_argument("--train-size", type=int, default=2000)
    parser.add_argument("--val-size", type=int, default=3000)
    parser.add_argument("--model", default="resnet9")
    parser.add_argument("--width", type=int, default=6)
    parser.add_argument("--schedule", default="one-cycle")
    parser.add_argument("--warmup-fraction", type=float, default=0.25)
    parser.add_argument("--data", metavar="PATH", help="folder or archive; none: the cache")
    parser.add_argument("--out", type=Path, default=CURVES)
    arguments = parser.parse_args()
    plan = plan_to_record(arguments)
    dataset = prepare(plan.data.model_copy(update={"path": arguments.data}), on_note=print)
    data = search_data(dataset, plan.data)
    made_by = head(plan, dataset.fingerprint)
    recorded: list[dict[str, Any]] = []
    if arguments.out.exists():
        earlier = json.loads(arguments.out.read_text())
        recorded = earlier.pop("curves")
        if earlier != made_by:
            raise SystemExit(f"{arguments.out} was made by another plan or machine; give --out")
    for index, values in enumerate(Configurations(plan)):
        if index >= len(recorded):
            recorded.append({"values": values, **record(plan.run(values, index), data)})
            write(arguments.out, made_by, recorded)
            print(index, values, recorded[-1]["val_accuracy"][-1], flush=True)


def write(path: Path, made_by: dict[str, Any], curves: list[dict[str, Any]]) -> None:
    """One line a curve, so that a difference can be read."""
    lines = ",\n".join(json.dumps(curve) for curve in curves)
    text = json.dumps(made_by, indent=1)[:-2] + f',\n "curves": [\n{lines}\n]\n}}\n'
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)


if __name__ == "__main__":
    main()
