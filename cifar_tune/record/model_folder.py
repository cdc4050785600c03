"""A folder with a model and what belongs to it: replaced as a whole, and asked what it holds."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_tune.files import BEST, MODEL, WINNER, write_atomically
from cifar_tune.plan.task import Say
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

FIGURES = "metrics.json"
FINAL = ("final", "ensemble")  # kinds of model that finals leave; else it is the search's winner


def figures_of(folder: Path) -> dict[str, Any]:
    """What `metrics.json` says of the model; empty where there is none."""
    try:
        figures = json.loads((folder / FIGURES).read_text())
    except (OSError, ValueError):
        return {}
    return figures if isinstance(figures, dict) else {}


def holds_final(folder: Path) -> bool:
    """Whether a final model is there, not the search's winner."""
    return figures_of(folder).get("model") in FINAL


def write_figures(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `metrics.json`."""
    write_atomically(folder / FIGURES, json.dumps(figures, indent=2) + "\n")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder, which takes the place of `folder` once it is filled without an error.

    POSIX can't replace a folder that is not empty in one step: `folder` is put aside first, and a
    crash between the two steps leaves it aside, whole, for `finish_swap`.
    """
    draft, aside = folder.with_name(f".{folder.name}.draft"), _aside(folder)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        if folder.exists():
            folder.rename(aside)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)


def finish_swap(folder: Path) -> None:
    """Mend what a crash left: the folder that was put aside comes back, or is not needed."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.aside")


def folder_of_winner(results: Results) -> Path:
    """Where the winner of a search goes: `best/`, or `search-winner/` beside a final model.

    What a crash left there is mended.
    """
    finish_swap(results.folder / BEST)
    folder = results.folder / (WINNER if holds_final(results.folder / BEST) else BEST)
    finish_swap(folder)
    return folder


def holds_winner(folder: Path, winner: Trial, epoch: int) -> bool:
    """Whether an earlier start left this very checkpoint, whose original was deleted since."""
    figures = figures_of(folder)
    same = figures.get("trial_id") == winner.trial_id and figures.get("epoch") == epoch
    return same and (folder / MODEL).is_file()


def is_copy(folder: Path, source: Path) -> bool:
    """Whether the model that is there is, to the byte, the checkpoint `source`."""
    return source.is_file() and filecmp.cmp(source, folder / MODEL, shallow=False)


def figures_of_winner(winner: Trial, epoch: int) -> dict[str, Any]:
    """What is told of a winner: which it is, and what it reported."""
    reported = winner.results[epoch].items()
    return {
        "model": "winner",
        "holds": f"the winner of the search, {winner.trial_id} after epoch {epoch}",
        "trial_id": winner.trial_id,
        "epoch": epoch,
        **{key: value for key, value in reported if not key.endswith("_at")},
    }


def hand_over(
    results: Results,
    model: Mapping[str, Any],
    figures: Mapping[str, Any],
    fill: Callable[[Path], None],
    on_note: Say,
    *,
    is_whole: Callable[[Path], bool] = lambda _: True,
) -> bool:
    """Fill `best/` with a final model, as `abilities.Exports` says; the winner goes aside first.

    Each folder is replaced as a whole, and what is there is not written again.

    Args:
        figures: what is told of the model.
        fill: writes what belongs to it into a folder that has its checkpoint.
        on_note: is told why nothing was written.
        is_whole: whether a folder with this model has all that belongs to it.

    Raises:
        OSError: the storage is full or gone; `best/` is as before.
    """
    best, winner = results.folder / BEST, results.folder / WINNER
    for folder in (best, winner):
        finish_swap(folder)
    if figures_of(best) == figures and (best / MODEL).is_file() and is_whole(best):
        return True
    source = results.folder / model["file"]
    content = source.read_bytes() if source.is_file() else b""
    if hashlib.sha256(content).hexdigest() != model["sha256"]:
        on_note(f"{source} is gone or was changed, so {best} stays as it is")
        return False
    if best.is_dir() and not holds_final(best):
        with replacing(winner) as draft:
            shutil.copytree(best, draft, dirs_exist_ok=True)
    with replacing(best) as draft:
        write_atomically(draft / MODEL, content)
        fill(draft)
    return True
