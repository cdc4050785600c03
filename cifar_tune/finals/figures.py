"""What the candidates' trainings came to, example by example, kept so that more can be added."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cifar_tune.files import FINALS, write_atomically
from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.confirmation import Confirmed
from cifar_tune.plan.task import columns_of
from cifar_tune.record.results import Results

FILE_NAME = "figures.npz"  # by trial: [trainings, examples]
KEPT = ("seeds", "train_seconds", "cost", "diverged", "failed")  # of a candidate, in the journal


def write_figures(results: Results, number: int, confirmed: Sequence[Confirmed]) -> None:
    """Keep the figures of a round; the journal has all else.

    Raises:
        OSError: the folder can't be written.
    """
    content = io.BytesIO()
    arrays: dict[str, Any] = {one.name: one.figures for one in confirmed}
    np.savez_compressed(content, **arrays)
    path = _path(results, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def read_figures(results: Results, number: int) -> dict[str, Confirmed]:
    """What a round compared, by trial; empty if it did not, or its figures are gone or damaged."""
    compared = (results.confirmed.get(number) or {}).get("confirm")
    path, metric = _path(results, number), columns_of(results.plan)[0]
    if not compared or not path.is_file():
        return {}
    began = results.finals[number]["candidates"]
    candidates = {one["trial_id"]: Candidate.from_event(one, metric) for one in began}
    told = {one["trial_id"]: one for one in compared["candidates"]}
    try:
        # From memory: of a damaged file numpy leaves the descriptor open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            kept = {
                name: Confirmed(
                    candidate=candidates[name], figures=stored[name], **{k: one[k] for k in KEPT}
                )
                for name, one in told.items()
            }
    except (OSError, ValueError, LookupError, BadZipFile):
        return {}
    shapes = {one.figures.shape[1:] for one in kept.values()}
    whole = all(len(one.figures) == len(one.seeds) for one in kept.values())
    return kept if whole and len(shapes) == 1 and len(next(iter(shapes))) == 1 else {}


def _path(results: Results, number: int) -> Path:
    return results.folder / FINALS / f"confirm-{number}" / FILE_NAME
