"""What a checkpoint an epoch costs a training of short epochs, against one at its end alone.

    python benchmarks/checkpoints.py [--width 64] [--rounds 6]

Eight epochs of one step, so that nearly all but the checkpoints is left out; copied to their place
as Ray does it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import quiet

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.process import say
from cifar_tune.search.epoch_report import EpochReport
from cifar_tune.train.fit import fit
from cifar_tune.vision.data import SearchData

SIDES = {"every epoch": 0, "at the end": 999}  # search.checkpoint_every_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=64, help="of resnet9")
    parser.add_argument("--rounds", type=int, default=6)
    quiet.add_options(parser)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 32, dtype=np.int64)
    classes, half = tuple(str(digit) for digit in range(10)), (0.5,) * 3
    data = SearchData(images[:16], labels[:16], images[16:], labels[16:], classes, half, half)
    table: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for turn in range(arguments.rounds + 1):  # the first warms up
        for name in sorted(SIDES, reverse=bool(turn % 2)):
            given = f"search.checkpoint_every_seconds={SIDES[name]}"
            size = [f"model.width={arguments.width}", "data.batch_size=16", "train.threads=1"]
            plan = load_plan(None, ["train.max_epochs=8", "search.scheduler=none", given, *size])
            table[name].append(_train(plan, data))
    for name, times in table.items():
        wall, cpu = zip(*times[1:], strict=True)
        for of, seconds in (("wall", wall), ("CPU", cpu)):
            spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
            say(f"{name}: {of} {np.median(seconds):.2f} s {spread}")
    quiet.save(arguments, table)


def _train(plan: Plan, data: SearchData) -> tuple[float, float]:
    """Seconds on the clock, and of this process on its CPUs."""
    local = pyarrow.fs.LocalFileSystem()
    with tempfile.TemporaryDirectory() as storage:

        def keep(metrics: dict[str, float], *, checkpoint: Any = None, **_: Any) -> None:
            if checkpoint is not None:
                target = Path(storage, str(int(metrics["epoch"])))
                target.mkdir()
                pyarrow.fs.copy_files(checkpoint.path, str(target), local, local, use_threads=False)
                shutil.rmtree(Path(storage, str(int(metrics["epoch"]) - 1)), ignore_errors=True)

        report = EpochReport(plan, lambda: None, keep)
        began, cpu = time.perf_counter(), time.process_time()
        fit(plan.with_values({}, 0), data, callbacks=[report])
        return time.perf_counter() - began, time.process_time() - cpu


if __name__ == "__main__":
    main()
