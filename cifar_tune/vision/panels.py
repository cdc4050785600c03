"""What the winner gets wrong: the confusion matrix, and its most confident mistakes as images."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image

from cifar_tune.errors import DataError
from cifar_tune.files import BEST as FOLDER
from cifar_tune.files import PREDICTIONS
from cifar_tune.plan.task import Panel
from cifar_tune.record.results import Results
from cifar_tune.vision.config import VisionPlan
from cifar_tune.vision.data import find_dataset, search_data

MOST_MISTAKES = 24
LONGEST_NAME = 18
MOST_CLASSES_IN_WORDS = 20  # more do not fit into cells that can be read


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The winner's on the validation images: `probabilities` [n, classes], `labels` [n]."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    trial_id: str

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class, [n]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def accuracy(self) -> float:
        """The part that is right."""
        return float((self.predicted == self.labels).mean())


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One image that the winner is sure of and wrong about; `png` is base64."""

    true: str
    predicted: str
    probability: float
    png: str

    @property
    def caption(self) -> str:
        """What it is, and what it was taken for."""
        return f"{self.true}, taken for {self.predicted} ({self.probability:.3f})"


def panels(results: Results) -> list[Panel]:
    """The confusion matrix and the most confident mistakes, or why there are none."""
    title, predictions = "Confusion matrix", read_predictions(results)
    if isinstance(predictions, str):
        return [Panel(name="confusion", title=title, caption=predictions)]
    table = counts_of(predictions)
    matrix = Panel(
        name="confusion",
        title=title,
        caption=_confusion_caption(predictions, table),
        figure=confusion(predictions.classes, table),
        height=500,
    )
    return [matrix, _gallery(confident_mistakes(predictions, results), predictions.trial_id)]


def _gallery(mistakes: list[Mistake] | str, trial_id: str) -> Panel:
    shown: list[Mistake] = [] if isinstance(mistakes, str) else mistakes
    return Panel(
        name="mistakes",
        title="Most confident mistakes",
        caption=mistakes
        if isinstance(mistakes, str)
        else f"The {len(shown)} validation images that {trial_id} is surest of and wrong about,"
        " each with the probability that it gave.",
        gallery=tuple((one.png, one.caption) for one in shown),
    )


def read_predictions(results: Results) -> Predictions | str:
    """Read `best/`'s validation predictions, or say why there are none."""
    path = results.folder / FOLDER / PREDICTIONS
    try:
        # From memory: of a damaged file numpy leaves the descriptor open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            logits, labels = stored["logits"].astype(np.float64), stored["labels"].astype(np.int64)
    except FileNotFoundError:
        return f"{FOLDER}/{PREDICTIONS} is not there yet: it is written when a search ends."
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        return f"{FOLDER}/{PREDICTIONS} can't be read: {error}"
    if logits.ndim != 2 or len(logits) != len(labels) or not len(labels):
        return f"{FOLDER}/{PREDICTIONS} has shapes {logits.shape} and {labels.shape}."
    logits = np.nan_to_num(logits, nan=-1e30)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    known = [str(name) for name in results.data.get("classes", ())]
    names = [*known, *(f"class {number}" for number in range(len(known), logits.shape[1]))]
    return Predictions(
        probabilities=shifted / shifted.sum(axis=1, keepdims=True),
        labels=labels,
        classes=tuple(names[: logits.shape[1]]),
        trial_id=_trial_of(results.folder / FOLDER),
    )


def _trial_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / "metrics.json").read_text())["trial_id"])
    except (OSError, ValueError, KeyError):
        return "an unknown trial"


def counts_of(predictions: Predictions) -> NDArray[np.int64]:
    """How many images of each class were taken for each: [true, predicted]."""
    count = len(predictions.classes)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (predictions.labels, predictions.predicted), 1)
    return table


def confusion(classes: Sequence[str], table: NDArray[np.int64]) -> go.Figure:
    """Images by true class (rows) and predicted class (columns), shaded by the part of the row."""
    parts = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    names = list(classes)
    figure = go.Figure()
    figure.add_heatmap(
        z=np.round(parts, 4).tolist(), x=names, y=names, customdata=table.tolist(), zmin=0, zmax=1,
        colorscale=[[0, "rgba(47, 134, 201, 0)"], [1, "rgba(47, 134, 201, 1)"]], xgap=1, ygap=1,
        showscale=False, name="images",
        hovertemplate="true %{y}, predicted %{x}: %{customdata} images, %{z:.3f} of the row"
        "<extra></extra>",
    )  # fmt: skip
    if len(names) <= MOST_CLASSES_IN_WORDS:
        figure.update_traces(text=_cells(table), texttemplate="%{text}", textfont={"size": 11})
    shown = [
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]}..." for name in names
    ]
    figure.update_xaxes(
        title_text="predicted", type="category", showgrid=False, tickangle=-40,
        tickvals=names, ticktext=shown,
    )  # fmt: skip
    figure.update_yaxes(
        title_text="true", type="category", showgrid=False, autorange="reversed",
        tickvals=names, ticktext=shown, automargin=True, title_standoff=10,
    )  # fmt: skip
    longest = max(map(len, shown))  # letters of about 7 pixels
    return figure.update_layout(margin={"l": 44 + 7 * longest, "b": 44 + 6 * longest, "t": 12})


def _cells(table: NDArray[np.int64]) -> list[list[str]]:
    return [[str(cell) if cell else "" for cell in row] for row in table.tolist()]


def _confusion_caption(predictions: Predictions, table: NDArray[np.int64]) -> str:
    right = int(np.trace(table))
    caption = (
        f"Validation images of {predictions.trial_id}: {right:,} of {len(predictions.labels):,}"
        f" are right ({predictions.accuracy:.3f})."
    )
    wrong = table - np.diag(np.diag(table))
    if not wrong.any():
        return f"{caption} There is no mistake."
    true, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return (
        f"{caption} The most frequent mistake: {predictions.classes[true]} taken for"
        f" {predictions.classes[taken]}, {int(wrong[true, taken])} times."
    )


def confident_mistakes(predictions: Predictions, results: Results) -> list[Mistake] | str:
    """The mistakes with the highest probability, with their images, or why there are none."""
    predicted, labels = predictions.predicted, predictions.labels
    wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        return "There is no mistake among the validation images."
    images = validation_images(results, labels)
    if isinstance(images, str):
        return images
    sure = predictions.probabilities[wrong, predicted[wrong]]
    return [
        Mistake(
            true=predictions.classes[labels[place]],
            predicted=predictions.classes[predicted[place]],
            probability=float(predictions.probabilities[place, predicted[place]]),
            png=_png(images[place]),
        )
        for place in wrong[np.argsort(-sure, kind="stable")[:MOST_MISTAKES]]
    ]


def validation_images(results: Results, labels: NDArray[Any]) -> NDArray[np.uint8] | str:
    """The validation images, [n, 32, 32, 3], if the cache still has them; nothing is decoded."""
    dataset = find_dataset(results.data.get("fingerprint", ""))
    if dataset is None:
        return "The cache does not hold this search's dataset any more, so images are left out."
    # Training images aren't shown; how many there are doesn't move the validation images.
    plan = results.plan
    assert isinstance(plan, VisionPlan)
    config = plan.data.model_copy(update={"train_size": len(dataset.classes)})
    try:
        data = search_data(dataset, config)
    except DataError as error:
        return f"The validation images can't be shown: {error}"
    if not np.array_equal(data.val_labels, labels):
        return "The predictions are not of this plan's validation images, so images are left out."
    return data.val_images


def _png(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
