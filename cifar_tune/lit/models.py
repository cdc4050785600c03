"""The models of a search of the user's own: scored, and put into `best/` with how to load them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_tune.errors import ResultsError
from cifar_tune.files import (
    BEST,
    MODEL,
    STATE_KEY,
    WINNER,
    at_hand,
    is_whole,
    locate,
    write_atomically,
)
from cifar_tune.lit.config import LitRun, arguments_of
from cifar_tune.plan.section import dump_yaml
from cifar_tune.plan.task import Say
from cifar_tune.record.model_folder import (
    figures_of,
    finish_swap,
    holds_final,
    replacing,
    write_figures,
)
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.tables import model_in_words
from cifar_tune.train.validate import validate

CLOSE = 1e-6  # between a logged figure and the mean over the examples: float32's rounding


def score(checkpoint: Path, loader: str, part: Any, metric: str) -> NDArray[np.generic]:
    """The metric over a loader, [1]; of an accuracy, where `predict_step` gives logits and a batch
    has labels, which examples are right: [examples] bool.

    Raises:
        ResultsError: the checkpoint is damaged, or its module does not log the metric there.
    """
    run, also = _run_of(checkpoint), _right if "acc" in metric else lambda *_: None
    figures, right = validate(run, part, checkpoint, loader, also)
    if metric not in figures:
        raise ResultsError(
            f"{checkpoint}: its validation over {loader} logged {', '.join(figures) or 'nothing'},"
            f" and not {metric}; log it there too, then hold the finals: cifar-tune confirm"
        )
    if right is not None and abs(float(right.mean()) - figures[metric]) < CLOSE:
        return right  # type: ignore[no-any-return]
    return np.array([figures[metric]])


def _run_of(checkpoint: Path) -> LitRun:
    if not is_whole(str(checkpoint)):
        raise ResultsError(f"{checkpoint} is damaged or gone; put it back, and go on")
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return LitRun.model_validate(content[STATE_KEY]["run"])


def _right(trainer: Any, module: Any, loaders: Any) -> NDArray[np.bool_] | None:
    """Which examples a classifier gets right, [examples]; none if that can't be told."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch.utilities.model_helpers import is_overridden

    if not is_overridden("predict_step", module, parent=LightningModule):
        return None
    try:
        batches = trainer.predict(module, dataloaders=loaders)
        labels = torch.cat([batch[1] for batch in loaders])
        logits = torch.cat(list(batches)).float().cpu()
    except Exception:  # what it gives are no logits, or its batches are no pairs
        return None
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        return None
    right: NDArray[np.bool_] = (logits.argmax(dim=1) == labels.cpu()).numpy()
    return right


def write_winner(results: Results) -> Path | None:
    """Fill `best/` with the winner of a search, or `search-winner/` once a final model is there.

    Returns:
        The checkpoint's path, or none where the winner has no checkpoint.

    Raises:
        ResultsError: the winner's checkpoint is damaged; the folder is as before.
    """
    winner = results.best()
    if winner is None:
        return None
    finish_swap(results.folder / BEST)
    folder = results.folder / (WINNER if holds_final(results.folder / BEST) else BEST)
    finish_swap(folder)
    epoch = best_epoch(winner, results.plan.search)
    if epoch not in winner.checkpoints:
        told = figures_of(folder)
        same = (told.get("trial_id"), told.get("epoch")) == (winner.trial_id, epoch)
        return folder / MODEL if same and (folder / MODEL).is_file() else None
    with at_hand(locate(results.folder, winner.checkpoints[epoch])) as source:
        _fill(folder, source, {
            "model": "winner",
            "holds": f"the winner of the search, {winner.trial_id} after epoch {epoch}",
            "trial_id": winner.trial_id,
            "epoch": epoch,
            **{k: v for k, v in winner.results[epoch].items() if not k.endswith("_at")},
        })  # fmt: skip
    return folder / MODEL


def hand_over(results: Results, model: Mapping[str, Any], say: Say) -> bool:
    """Fill `best/` with a final model, as `plan.task.Exports` says; the winner goes aside first."""
    best, winner, scored = results.folder / BEST, results.folder / WINNER, results.test_scored
    assert scored is not None
    for folder in (best, winner):
        finish_swap(folder)
    figures = {
        "model": model["kind"],
        "holds": model_in_words(model, scored),
        "trial_id": scored["trial_id"],
        "epoch": scored["epoch"],
        "seed": model["seed"],
        "sha256": model["sha256"],
        "score": model["score"],
        "final_models": {name: scored.get(name) for name in ("seeds", "mean", "std", "ci95")},
    }
    if figures_of(best) == figures and (best / MODEL).is_file():
        return True
    source = results.folder / model["file"]
    content = source.read_bytes() if source.is_file() else b""
    if hashlib.sha256(content).hexdigest() != model["sha256"]:
        say(f"{source} is gone or was changed, so {best} stays as it is")
        return False
    if best.is_dir() and not holds_final(best):
        with replacing(winner) as draft:
            shutil.copytree(best, draft, dirs_exist_ok=True)
    _fill(best, source, figures)
    return True


def _fill(folder: Path, source: Path, figures: Mapping[str, Any]) -> None:
    """Replace a folder by a checkpoint, its arguments, its figures, and how to load it."""
    run = _run_of(source)
    with replacing(folder) as draft:
        shutil.copyfile(source, draft / MODEL)
        write_atomically(draft / "config.yaml", dump_yaml(run))
        write_figures(draft, figures)
        write_atomically(draft / "README.md", _card(run, figures))


def _card(run: LitRun, figures: Mapping[str, Any]) -> str:
    module, _, name = str(run.model.class_path).partition(":")
    given = arguments_of(run.model)
    plain = {key: value for key, value in given.items() if not isinstance(value, dict)}
    arguments = "".join(f", {key}={value!r}" for key, value in plain.items())
    rest = [key for key in given if key not in plain]
    more = f"\nMake {', '.join(rest)} as `config.yaml` says, and pass it too.\n" if rest else ""
    told = "\n".join(
        f"| {key} | {value} |" for key, value in figures.items() if not isinstance(value, dict)
    )
    return f"""# {name}: {figures["holds"]}

`{MODEL}` is a checkpoint of Lightning's, with plain values only. To load it:

```python
from {module} import {name}

model = {name}.load_from_checkpoint("{MODEL}", weights_only=True{arguments})
model.eval()
```
{more}
| figure | value |
| --- | --- |
{told}

`config.yaml` has all arguments of the module, the data module and the trainer.
"""
