"""The models of a search of the user's own: scored, and put into `best/` with how to load them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_tune.errors import ResultsError
from cifar_tune.files import MODEL, STATE_KEY, at_hand, is_whole, locate, write_atomically
from cifar_tune.lit.classes import own_code
from cifar_tune.lit.config import LitRun, arguments_of
from cifar_tune.plan.section import dump_yaml
from cifar_tune.plan.task import Say
from cifar_tune.record import model_folder
from cifar_tune.record.model_folder import (
    figures_of_winner,
    folder_of_winner,
    holds_winner,
    replacing,
    write_figures,
)
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.tables import model_in_words
from cifar_tune.train.apart import apart
from cifar_tune.train.validate import validate

CLOSE = 1e-6  # between a logged figure and the mean over the examples: float32's rounding


def score(
    checkpoint: Path, loader: str, part: Any, metric: str, *, gpu: bool
) -> NDArray[np.generic]:
    """The metric over a loader, [1]; of an accuracy, where `predict_step` gives logits and a batch
    has labels, which examples are right: [examples] bool.

    Where there is a `gpu`, in a process of its own, which leaves nothing on it for trials to miss;
    a class that only this process can import stays here.

    Raises:
        ResultsError: the checkpoint is damaged, or its module does not log the metric there.
    """
    if gpu and torch.cuda.is_available() and not part.classes:
        scored: NDArray[np.generic] = apart(_score, checkpoint, loader, part, metric)
        return scored
    return _score(checkpoint, loader, part, metric)


def _score(checkpoint: Path, loader: str, part: Any, metric: str) -> NDArray[np.generic]:
    run, also = _run_of(checkpoint), _right if "acc" in metric else lambda *_: None
    with own_code("model", str(run.model.class_path)).guarded("validating it"):
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
    folder, epoch = folder_of_winner(results), best_epoch(winner, results.plan.search)
    if epoch not in winner.checkpoints:
        return folder / MODEL if holds_winner(folder, winner, epoch) else None
    location = locate(results.folder, winner.checkpoints[epoch])
    with at_hand(location) as source:
        run = _run_of(source)  # one that is damaged is told by its own name
        with replacing(folder) as draft:
            shutil.copyfile(source, draft / MODEL)
            _fill(draft, run, figures_of_winner(winner, epoch))
    return folder / MODEL


def hand_over(results: Results, model: Mapping[str, Any], say: Say) -> bool:
    """Fill `best/` with a final model; else as `model_folder.hand_over`."""
    scored = results.test_scored
    assert scored is not None
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
    source = results.folder / model["file"]

    def fill(draft: Path) -> None:
        _fill(draft, _run_of(source), figures)

    return model_folder.hand_over(results, model, figures, fill, say)


def _fill(draft: Path, run: LitRun, figures: Mapping[str, Any]) -> None:
    """Write what belongs to a checkpoint: its arguments, its figures, and how to load it."""
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
