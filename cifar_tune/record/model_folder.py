"""A folder with a model and what belongs to it: replaced as a whole, and asked what it holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_tune.files import write_atomically

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
