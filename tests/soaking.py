"""A search of many short trials with faults in them, in a driver of its own that notes its memory.

    python tests/soaking.py FOLDER TRIALS

`FOLDER/driver.jsonl` gets a line each time a trial ends, `FOLDER/worker-PID.jsonl` one a trial.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
import zipfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

EPOCHS = 2


class Troubled:
    """An objective of a tenth of a second; seeds say what goes wrong in it, at the first try."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def __call__(self, run: Any, data: Any, reporter: Any, resume_from: Any) -> None:
        note(self._notes / f"worker-{os.getpid()}.jsonl", {"at": time.time()})
        fault = FAULTS.get(run.seed % 60) if self._first_try(run.seed) else None
        for epoch in range(1, run.train.max_epochs + 1):
            time.sleep(0.05)
            if epoch == 2 and fault is not None:
                fault(reporter)
                return
            with tempfile.TemporaryDirectory() as folder:
                self._report(run, reporter, epoch, Path(folder), slow=run.seed % 30 == 17)

    def _report(self, run: Any, reporter: Any, epoch: int, folder: Path, *, slow: bool) -> None:
        from ray import tune

        with zipfile.ZipFile(folder / "model.ckpt", "w") as archive:
            archive.writestr("weights", os.urandom(200_000))
        if slow:
            write_slowly(folder / "more", 200)
        reporter.report(figures(epoch, run.optim.lr), checkpoint=tune.Checkpoint(str(folder)))

    def _first_try(self, seed: int) -> bool:
        mark = self._notes / f"tried-{seed}"
        tried = mark.exists()
        mark.touch()
        return not tried


def figures(epoch: int, lr: float) -> dict[str, float]:
    return {
        "epoch": epoch, "val_accuracy": 1 / (1 + lr), "val_loss": lr, "train_loss": lr,
        "best_val_accuracy": 0.5, "lr": lr, "images_per_second": 1.0,
    }  # fmt: skip


def be_killed(reporter: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory(reporter: Any) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
    bytearray(2**33)


def fail(reporter: Any) -> None:
    raise RuntimeError("the third bolt is loose")


def diverge(reporter: Any) -> None:
    """As `fit` reports a loss that is not finite, and ends."""
    reporter.report({"epoch": 2.0}, diverged=True)


FAULTS = {7: be_killed, 22: run_out_of_memory, 37: fail, 11: diverge, 31: diverge, 51: diverge}


def write_slowly(path: Path, parts: int) -> None:
    """Each part waits for the disk."""
    with path.open("wb") as file:
        for _ in range(parts):
            file.write(bytes(1000))
            file.flush()
            os.fsync(file.fileno())


def note(file: Path, values: dict[str, Any]) -> None:
    """Append a line: these values, and this process's memory and file handles."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    values["bytes"] = pages * resource.getpagesize()
    values["handles"] = len(os.listdir("/proc/self/fd"))
    with file.open("a") as lines:
        lines.write(json.dumps(values) + "\n")


class Noted:
    """Notes the driver each time a trial ends for good."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ended = 0

    def __call__(self, event: dict[str, Any], results: Any) -> None:
        if event["event"] == "trial_ended":
            self._ended += 1
            note(self._file, {"ended": self._ended})


def main(folder: Path, trials: int) -> None:
    import numpy as np
    import ray.cloudpickle

    from cifar_tune.plan import preflight
    from cifar_tune.plan.load import load_plan
    from cifar_tune.plan.machine import read_machine
    from cifar_tune.record.journal import Journal
    from cifar_tune.record.recorder import Recorder
    from cifar_tune.record.tables import TableWriter
    from cifar_tune.report.lines import ProgressLines
    from cifar_tune.report.tensorboard import TensorBoardFiles
    from cifar_tune.report.writer import ReportWriter
    from cifar_tune.search.run import run_search
    from cifar_tune.search.session import Session
    from cifar_tune.vision.data import SearchData

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    machine = replace(read_machine(), cpus=2, gpus=0)
    sets = ["search.searcher=random", "search.scheduler=none"]
    sets += [f"search.num_samples={trials}", f"train.max_epochs={EPOCHS}"]
    forecast = preflight.check(load_plan(None, sets), [machine])
    images, labels = np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64)
    data = SearchData(images, labels, images, labels, ("a", "b"), (0.5,) * 3, (0.5,) * 3)
    with Journal(folder / "search") as journal, (folder / "lines").open("w") as lines:
        recorder = Recorder(journal)
        values = forecast.plan.model_dump(mode="json")
        recorder.write("search", version=1, plan=values, data={}, environment={})
        page, noted = ReportWriter(), Noted(folder / "driver.jsonl")
        say = ProgressLines(lambda line: print(line, file=lines, flush=True))
        board = TensorBoardFiles(folder / "search" / "tensorboard")
        recorder.observers += [say, board, TableWriter(), page, noted]
        with ExitStack() as ray:
            session = Session(
                recorder=recorder,
                data=None,
                machine=machine,
                share=forecast.share,
                objective=Troubled(folder),
                ray=ray,
            )
            run_search(session, data)
        page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
