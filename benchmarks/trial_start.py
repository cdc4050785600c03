"""How soon a trial begins to train, and how much memory the trials' data takes together.

    python benchmarks/trial_start.py [--trials N]

Start: a search of short trainings; from the journal's line that creates a trial to its first
training step. Memory: a search whose trials read every image; the processes' mappings of Ray's
object store are read from /proc meanwhile. Pss counts a page that k processes share as 1/k in each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import quiet

from cifar_tune.plan import preflight
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import Journal, read_journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.search.trainable import Objective, fit_objective
from cifar_tune.vision.data import SearchData, prepare_drawn, search_data
from cifar_tune.vision.data.dataset import in_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, metavar="N", help="trainings (6 for each slot)")
    quiet.add_options(parser)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    with tempfile.TemporaryDirectory() as folder:
        trials = arguments.trials or 6 * read_machine().cpus
        cold, warm = _start_of_trials(Path(folder) / "start", trials)
        memory = _memory_of_data(Path(folder) / "memory")
    quiet.save(arguments, {"cold_seconds": cold, "warm_seconds": warm, "memory_bytes": memory})


def _start_of_trials(folder: Path, trials: int) -> tuple[list[float], list[float]]:
    small = ["data.train_size=2000", "model.width=4", f"search.num_samples={trials}"]
    _search(folder, fit_objective, *small)
    records = read_journal(folder)
    created = {event["trial_id"]: event["time"] for event in records.of("trial_created")}
    first_step = {e["trial_id"]: e["metrics"]["first_step_at"] for e in records.of("result")}
    slots = records.of("start")[0]["slots"]
    seconds = [first_step[name] - created[name] for name in sorted(created)]
    cold, warm = seconds[:slots], seconds[slots:]
    if not warm:
        raise SystemExit(f"{trials} trials on {slots} slots: none begins in a used process")
    ready = min(created.values()) - records.of("search")[0]["time"]
    print(f"\nprogram's start of a search to the first trial created: {ready:.1f} s")
    print("created to first step    n   median     min      max   [s]")
    for name, values in (("first of each process", cold), ("later ones", warm)):
        row = statistics.median(values), min(values), max(values)
        print(f"{name:22} {len(values):3}  {row[0]:7.3f} {row[1]:7.3f}  {row[2]:7.3f}")
    return cold, warm


def _memory_of_data(folder: Path) -> dict[str, int]:
    peak: dict[str, int] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, stop))
    watcher.start()
    try:
        data = _search(folder, _read_every_image, "data.train_size=null", "search.num_samples=8")
    finally:
        stop.set()
        watcher.join()
    images = (in_memory(data.train_images), in_memory(data.val_images))
    arrays = (*images, data.train_labels, data.val_labels)
    size = sum(array.nbytes for array in arrays)
    print(f"\ndata {size / 1e6:.1f} MB; mapped by {peak['processes']} trial processes at once:")
    print(f"sum of Rss {peak['Rss'] / 1e6:.1f} MB, sum of Pss {peak['Pss'] / 1e6:.1f} MB")
    print(f"copies in memory (Pss / data): {peak['Pss'] / size:.2f}")
    return {**peak, "data": size}


def _search(folder: Path, objective: Objective, *overrides: str) -> SearchData:
    plan: Any = load_plan(None, ["search.scheduler=none", "train.max_epochs=1", *overrides])
    machine = read_machine()
    forecast = preflight.check(plan, [machine])
    data = search_data(prepare_drawn(lambda _: None), plan.data)
    folder.mkdir()
    with Journal(folder) as journal:
        recorder = Recorder(journal)
        values = forecast.plan.model_dump(mode="json")
        recorder.write("search", version=1, plan=values, data={}, environment={})
        with ExitStack() as ray:
            session = Session(
                recorder=recorder,
                data=None,
                machine=machine,
                share=forecast.share,
                objective=objective,
                ray=ray,
            )
            run_search(session, data)
    return data


def _read_every_image(run: Any, data: Any, reporter: Any, resume_from: Any) -> None:
    data.train_images.sum()
    data.val_images.sum()
    time.sleep(2)  # so that the others hold theirs at the same time
    reporter.report({"epoch": 1, "val_loss": 1.0, "val_accuracy": 0.5})


def _watch(peak: dict[str, int], stop: threading.Event) -> None:
    """Keep the largest sum over trial processes of what they hold of the object store."""
    while not stop.wait(0.2):
        sums = {"Rss": 0, "Pss": 0, "processes": 0}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"ImplicitFunc" not in (process / "cmdline").read_bytes():
                    continue
                held = _object_store_bytes((process / "smaps").read_text())
            except OSError:
                continue  # it ended meanwhile
            sums["processes"] += 1
            sums["Rss"] += held["Rss"]
            sums["Pss"] += held["Pss"]
        if sums["Rss"] > peak.get("Rss", -1):
            peak.update(sums)


def _object_store_bytes(smaps: str) -> dict[str, int]:
    held = {"Rss": 0, "Pss": 0}
    inside = False
    for line in smaps.splitlines():
        key, _, rest = line.partition(":")
        if "-" in key and " " in line and not line.startswith(("Rss", "Pss")):
            inside = "plasma" in line or "/dev/shm" in line
        elif inside and key in held:
            held[key] += 1024 * int(rest.split()[0])
    return held


if __name__ == "__main__":
    main()
