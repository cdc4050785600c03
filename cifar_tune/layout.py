"""Names in a results folder that several rooms need, some of which can't wait for torch."""

from __future__ import annotations

from pathlib import Path

BEST = "best"  # the winner
RAY = "ray"  # a folder for each start: Ray's own, with the trials' checkpoints
FINALS = "finals"  # the final models, and the searches that the finals are
MODEL = "model.ckpt"  # Lightning's checkpoint of a model, wherever one lies
CARD = "model.json"  # what a model is, beside it
PREDICTIONS = "validation_predictions.npz"  # the winner's


def is_of_finals(folder: Path) -> bool:
    """Whether a search's folder is that of a stage of another search's finals."""
    return folder.parent.name == FINALS
