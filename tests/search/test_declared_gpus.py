"""Whole searches on GPUs that Ray has by name alone: masks, shares, slots, and a trial alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from search.faked_gpus import BYTES, COUNT, NOTES, SLOTS

from cifar_tune.plan.gpus import allocator_share
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results

TRIALS = 6

SEARCH = """
import sys
from dataclasses import replace
from functools import partial

from search import faked_gpus

from cifar_tune.plan import gpus
from cifar_tune.plan.machine import read_machine
from cifar_tune.session import launch, start
from cifar_tune.tune import main

machine = replace(read_machine(), cpus=8, **gpus._gpus())
launch.read_machine = lambda: machine
start.imports_of = lambda objective, plan: ["search.faked_gpus"]
start.start_search = partial(start.start_search, objective=faked_gpus.noted)
sys.exit(main(sys.argv[1:]))
"""


def search(
    folder: Path, small_plan: list[str], gpus: int, slots: int, *words: str
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """A search of the whole program, and what each of its trainings noted, in order of time."""
    sets = [
        *small_plan, f"search.num_samples={TRIALS}", "search.scheduler=none",
        "train.max_epochs=2", "resources.max_concurrent=auto",
    ]  # fmt: skip
    notes = folder / "notes"
    notes.mkdir()
    tests = str(Path(__file__).parent.parent)
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, *words, "--out", str(folder), "--name", "one",
         *chain.from_iterable(("--set", value) for value in sets)],
        check=False, capture_output=True, text=True, cwd=folder, timeout=200,
        env={**environment, "PYTHONPATH": tests, COUNT: str(gpus), SLOTS: str(slots), NOTES: str(notes)},
    )  # fmt: skip
    told = [json.loads(path.read_text()) for path in notes.glob("*.json")]
    return done, sorted(told, key=lambda note: note["begun"])


def beside(note: dict[str, Any], notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ran at the moment when a training began, itself included."""
    return [one for one in notes if one["begun"] <= note["begun"] < one["ended"]]


def test_two_trials_share_a_gpu_and_one_that_needs_more_has_it_alone_the_second_time(
    tmp_path: Path, small_plan: list[str]
) -> None:
    done, notes = search(tmp_path, small_plan, 1, 2, "--gpus-per-trial", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "at once     2 trials, each 4 CPUs and 0.5 GPU, precision bf16" in done.stdout
    assert "gpu         2 trials share one; each may take 50% of its memory, 5.0 GB" in done.stdout
    assert len(notes) == TRIALS + 1
    assert all(note["gpus"] == ["0"] for note in notes)
    assert max(len(beside(note, notes)) for note in notes) == 2
    share = allocator_share(0.5, BYTES)
    *_, again = [note for note in notes if note["seed"] == 1]
    assert beside(again, notes) == [again]
    assert again["limit"] == 1.0
    assert {note["limit"] for note in notes if note is not again} == {share}
    results = Results.read(tmp_path / "one")
    (retried,) = read_journal(results.folder).of("trial_retried")
    assert (retried["trial_id"], retried["kind"]) == ("t0002", "out of memory")
    assert results.environment["machine"]["gpu_name"] == "a faked GPU"
    summary = json.loads((results.folder / "summary.json").read_text())
    assert summary["resources"]["gpus_per_trial"] == 0.5
    assert "GPU seconds" in (results.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.faults  # each of the four takes a whole search
@pytest.mark.parametrize(
    ("gpus", "asked", "slots", "each"),
    [(2, "0.5", 4, 1), (1, "0.3", 3, 1), (2, "1", 2, 1), (2, "2", 1, 2)],
)
def test_each_trial_sees_its_own_gpus_and_no_more_trials_than_fit_one(
    gpus: int, asked: str, slots: int, each: int, tmp_path: Path, small_plan: list[str]
) -> None:
    done, notes = search(tmp_path, small_plan, gpus, slots, "--gpus-per-trial", asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_journal(tmp_path / "one").of("start")[0]["slots"] == slots
    assert all(len(note["gpus"]) == each for note in notes)
    assert {one for note in notes for one in note["gpus"]} == {str(n) for n in range(gpus)}
    most = slots * each // gpus
    for note in notes:
        used = Counter(one for running in beside(note, notes) for one in running["gpus"])
        assert max(used.values()) <= most
    assert max(len(beside(note, notes)) for note in notes) == slots
