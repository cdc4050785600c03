"""How soon a trial begins to train, and how much memory the trials' data takes together.

    python benchmarks/trial_start.py [--trials N]
    python benchmarks/trial_start.py --mapped IMAGES SIDE

Start: a search of short trainings; from the journal's line that creates a trial to its first
training step. Memory: a search whose trials read every image; the processes' mappings of Ray's
object store are read from /proc meanwhile. Pss counts a page that k processes share as 1/k in each.
With `--mapped`, only that of two trials which map one file of random images, as a search does whose
images take more than a quarter of the memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
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
from cifar_tune.vision.data.dataset import MappedImages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, metavar="N", help="trainings (6 for each slot)")
    parser.add_argument("--mapped", type=int, nargs=2, metavar=("IMAGES", "SIDE"))
    quiet.add_options(parser)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    if arguments.mapped:
        with tempfile.TemporaryDirectory() as folder:
            quiet.save(arguments, _memory_of_file(Path(folder), *arguments.mapped))
        return
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


def _memory_of_file(folder: Path, images: int, side: int) -> dict[str, int]:
    """Two trials that read every image of one mapped file."""
    file, generator = folder / "train_images.npy", np.random.default_rng(0)
    shape = (images, side, side, 3)
    np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    with file.open("r+b") as content:
        content.seek(-images * side * side * 3, os.SEEK_END)
        for _ in range(images):
            content.write(generator.bytes(side * side * 3))
    labels = np.arange(images, dtype=np.int64) % 10
    val = images // 10
    parts = (np.arange(val, images), labels[val:], np.arange(val), labels[:val])
    train, train_labels, held, val_labels = parts
    data = SearchData(
        MappedImages(file, train), train_labels, MappedImages(file, held), val_labels,
        tuple("abcdefghij"), (0.5,) * 3, (0.25,) * 3,
    )  # fmt: skip
    return _memory_of_data(folder / "search", data)


def _memory_of_data(folder: Path, data: SearchData | None = None) -> dict[str, int]:
    peak: dict[str, int] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, stop))
    watcher.start()
    try:
        trials = 8 if data is None else 2
        options = ("data.train_size=null", f"search.num_samples={trials}")
        data = _search(folder, _read_every_image, *options, data=data)
    finally:
        stop.set()
        watcher.join()
    size = sum(prod(images.shape) for images in (data.train_images, data.val_images))
    size += data.train_labels.nbytes + data.val_labels.nbytes
    print(f"\ndata {size / 1e6:.1f} MB; mapped by {peak['processes']} trial processes at once:")
    print(f"sum of Rss {peak['Rss'] / 1e6:.1f} MB, sum of Pss {peak['Pss'] / 1e6:.1f} MB")
    print(f"copies in memory (Pss / data): {peak['Pss'] / size:.2f}")
    print(f"what else the largest of them holds (Rss): {peak['other'] / 1e6:.1f} MB")
    return {**peak, "data": size}


def _search(
    folder: Path, objective: Objective, *overrides: str, data: SearchData | None = None
) -> SearchData:
    given = ["search.searcher=random", "search.scheduler=none", "train.max_epochs=1", *overrides]
    plan: Any = load_plan(None, given)
    machine = read_machine()
    forecast = preflight.check(plan, [machine])
    if data is None:
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
    for images in (data.train_images, data.val_images):
        if isinstance(images, MappedImages):
            for row in images.rows:  # one at a time, as batches are picked
                images.stored[row].sum()
        else:
            images.sum()
    time.sleep(2)  # so that the others hold theirs at the same time
    reporter.report({"epoch": 1, "val_loss": 1.0, "val_accuracy": 0.5})


def _watch(peak: dict[str, int], stop: threading.Event) -> None:
    """Keep the largest sum over trial processes of what they hold of store and mapped file."""
    while not stop.wait(0.2):
        sums = {"Rss": 0, "Pss": 0, "processes": 0, "other": 0}
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
            sums["other"] = max(sums["other"], held["other"])
        if sums["Rss"] > peak.get("Rss", -1):
            peak.update(sums)


def _object_store_bytes(smaps: str) -> dict[str, int]:
    held = {"Rss": 0, "Pss": 0, "other": 0}
    inside = False
    for line in smaps.splitlines():
        key, _, rest = line.partition(":")
        if "-" in key and " " in line and not line.startswith(("Rss", "Pss")):
            inside = any(name in line for name in ("plasma", "/dev/shm", "train_images.npy"))
        elif inside and key in ("Rss", "Pss"):
            held[key] += 1024 * int(rest.split()[0])
        elif key == "Rss":
            held["other"] += 1024 * int(rest.split()[0])
    return held


if __name__ == "__main__":
    main()
