"""The model card of a folder with a model: what it is, how good, how to load it, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cifar_tune import __version__
from cifar_tune.files import CARD, MODEL
from cifar_tune.record.results import Results
from cifar_tune.vision.portable import Card, read_card

FILE_NAME = "README.md"
SHOWN_CLASSES = 20

BY_US = """\
From this folder:

```python
from cifar_tune import load_model, read_image

model = load_model(".")
chances = model.probabilities([read_image("photo.jpg")])[0]
print(model.classes[int(chances.argmax())], float(chances.max()))
```

On the command line: `cifar-tune predict --model . photo.jpg`"""
BY_TORCH = """\
With PyTorch alone (load a `.pt2` only if you trust where it comes from):

```python
import torch

program = torch.export.load("{program}").module()
logits = program(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))  # RGB pixels
```"""
BY_ONNX = """\
In an ONNX runtime:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{onnx}")
(logits,) = session.run(None, {{"pixels": np.zeros((1, 32, 32, 3), np.uint8)}})
```"""
LIMITS = """\
- It names one of its classes for every image, also for one that shows none of them.
- Images of any size are brought to 32 x 32 pixels: what is small in them is lost.
- The accuracy holds for images from the same source; for others it may be far off. An interval
  covers the chance of which images were drawn, not a change of source.
- The probabilities are not calibrated: 0.9 does not mean right in nine of ten cases."""


def model_card(results: Results, folder: Path, figures: Mapping[str, Any]) -> str:
    """The card in Markdown.

    Args:
        results: of the search.
        folder: holds `model.json`, as `write_portable` wrote it.
        figures: what `metrics.json` there has.
    """
    card = read_card(folder)
    assert card is not None, "write_portable wrote it"
    parts = [
        f"# {results.folder.name}: {figures['holds']}",
        _what(card),
        "## How good it is",
        "\n".join(f"- {line}" for line in _scores(results, figures)),
        "## Data",
        "\n".join(f"- {line}" for line in _data(results, figures)),
        "## Configuration",
        _configuration(results, figures),
        "## How to load it",
        *_loading(card),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _what(card: Card) -> str:
    names = [*card.classes[:SHOWN_CLASSES], *(["..."] if card.classes[SHOWN_CLASSES:] else [])]
    networks = (
        f"{card.members} networks, whose logits are averaged, each " if card.members > 1 else ""
    )
    return (
        f"An image classifier: {networks}`{card.model.name}` for RGB images of 32 x 32 pixels,"
        f" {len(card.classes)} classes ({', '.join(names)}). Made by cifar_tune {__version__};"
        f" `{CARD}` describes the files beside it."
    )


def _scores(results: Results, figures: Mapping[str, Any]) -> Iterator[str]:
    caveat = f" {results.caveat}" if results.caveat else ""
    if "test_accuracy" not in figures:
        yield (
            f"Validation accuracy {figures['val_accuracy']:.4f}{caveat}: the best of"
            f" {len(results.trials)} trials on the images that it was chosen by, so expect less on"
            " new images."
        )
        return
    line = (
        f"Test accuracy {figures['test_accuracy']:.4f}{caveat} on {figures['test_images']:,} images"
    )
    if figures["flip_averaging"]:
        line += ", each averaged with its mirror image (`--flip-averaging`)"
    yield line + _interval(figures["test_accuracy_ci95"], "this model on new images") + "."
    of_all = figures["final_models"]
    if len(of_all["seeds"]) > 1:
        deviation = "" if of_all["std"] is None else f", standard deviation {of_all['std']:.4f}"
        yield (
            f"Mean of the {len(of_all['seeds'])} final models {of_all['mean']:.4f}{deviation}"
            + _interval(of_all["ci95"], "a new training on new images")
            + "."
        )
    yield "The model was settled on before the test images were opened."


def _interval(ends: Any, of: str) -> str:
    return "" if ends is None else f"; 95 % interval for {of}: {ends[0]:.4f} to {ends[1]:.4f}"


def _data(results: Results, figures: Mapping[str, Any]) -> Iterator[str]:
    data = results.data
    yield f"`{data.get('kind', '')}`, fingerprint `{data.get('fingerprint', '')}`"
    names = ("train", "val", "confirm") if "test_accuracy" in figures else ("train",)
    yield f"Trained on {sum(data.get(name, 0) for name in names):,} images."
    yield from data.get("notes", ())


def _configuration(results: Results, figures: Mapping[str, Any]) -> str:
    values = results.trials[figures["trial_id"]].values_at(figures["epoch"])
    rows = [f"| `{field}` | {value} |" for field, value in values.items()]
    table = ["| searched field | value |", "|---|---|", *rows] if rows else []
    return "\n".join([*table, *([""] if rows else []), "All of it: `config.yaml`."])


def _loading(card: Card) -> Iterator[str]:
    yield BY_US
    if card.program is not None:
        yield BY_TORCH.format(program=card.program)
    if card.onnx is not None:
        yield BY_ONNX.format(onnx=card.onnx)
    forms = [f"`{MODEL}` (Lightning's checkpoint)"]
    forms += [f"`{card.weights}` (the network's weights)"] if card.weights else []
    yield f"Also: {', '.join(forms)}."
