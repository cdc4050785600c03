"""GPUs that are none: torch.cuda answers as if they were there, in the driver and in trials.

Importing it puts the answers in their places, where `FAKED_GPUS` says how many there are; a trial's
process does so before it knows its GPUs.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from search import objectives

BYTES = 10_000_000_000
COUNT, SLOTS, NOTES = "FAKED_GPUS", "FAKED_GPUS_SLOTS", "FAKED_GPUS_NOTES"
WAIT = 60.0  # seconds for the others' processes
taken = {"limit": 0.0}  # the part of a GPU's memory that torch may give out in this process


def visible() -> list[str]:
    """Those that Ray lets this process see; the driver sees all."""
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = [str(number) for number in range(int(os.environ[COUNT]))]
    return every if mask is None else [one for one in mask.split(",") if one]


def noted(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Trains for no time on its GPUs, and notes which; seed 1 needs more than its share of one.

    The first trainings wait for one another, so that as many run at once as may.
    """
    notes, begun = Path(os.environ[NOTES]), time.time()
    notes.joinpath(f"{run.seed}-{begun}.begun").touch()
    while len(list(notes.glob("*.begun"))) < int(os.environ[SLOTS]) and time.time() < begun + WAIT:
        time.sleep(0.05)
    told = {"seed": run.seed, "gpus": visible(), **taken, "begun": begun, "ended": time.time()}
    notes.joinpath(f"{run.seed}-{begun}.json").write_text(json.dumps(told))
    if run.seed == 1 and taken["limit"] < 1 / 2:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 6.00 GiB")
    objectives.analytic(run, data, reporter, resume_from)


def _limit(fraction: float) -> None:
    taken["limit"] = fraction


def _nothing(*_: Any) -> None:
    return None


ANSWERS = {
    "is_available": lambda: bool(visible()),
    "device_count": lambda: len(visible()),
    "get_device_capability": lambda _: (9, 0),
    "get_device_name": lambda _: "a faked GPU",
    "get_device_properties": lambda _: SimpleNamespace(total_memory=BYTES),
    "set_per_process_memory_fraction": _limit,
    "init": _nothing,
    "empty_cache": _nothing,
    "reset_peak_memory_stats": _nothing,
}
if COUNT in os.environ:
    for name, answer in ANSWERS.items():
        setattr(torch.cuda, name, answer)
