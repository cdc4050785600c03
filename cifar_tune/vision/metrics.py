"""What a plan may ask of each validation besides accuracy and loss, computed by torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor
from torchmetrics.functional import classification
from torchmetrics.utilities.distributed import gather_all_tensors

Metric = Callable[[Tensor, Tensor, int], Tensor]

BINS = 15  # of the confidence, for the calibration error (Guo et al. 2017)


def _top5(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    top = min(5, classes)
    return classification.multiclass_accuracy(logits, labels, classes, average="micro", top_k=top)


METRICS: dict[str, Metric] = {
    "macro_f1": partial(classification.multiclass_f1_score, average="macro"),
    "balanced_accuracy": partial(classification.multiclass_recall, average="macro"),
    "top5_accuracy": _top5,
    "calibration_error": partial(classification.multiclass_calibration_error, n_bins=BINS),
}
"""Each from logits [n, classes], labels [n] and the number of classes; one that no image has counts
for nothing. Of two to five classes the best five are all of them."""


class Validation:
    """Collects the logits of one validation, and gives the figures that were asked for."""

    def __init__(self, names: Iterable[str]) -> None:
        """Collect for these metrics; for none nothing is kept."""
        self._names = tuple(names)
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """One batch: logits [batch, classes] float, labels [batch]; they stay on the device."""
        if self._names:
            self._logits.append(logits)
            self._labels.append(labels)

    def figures(self, *, workers: int) -> dict[str, float]:
        """Each metric over the images of all workers, as `val_` and its name."""
        if not self._names:
            return {}
        logits, labels = torch.cat(self._logits), torch.cat(self._labels)
        if workers > 1:
            logits, labels = (torch.cat(gather_all_tensors(x)) for x in (logits, labels))
        classes = logits.shape[1]
        found = {name: METRICS[name](logits, labels, classes) for name in self._names}
        return {f"val_{name}": float(value) for name, value in found.items()}
