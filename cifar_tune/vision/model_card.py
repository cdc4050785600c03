"""The model card of a folder with a model: what it is, how good, how to load it, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from cifar_tune import __version__
from cifar_tune.files import CARD
from cifar_tune.record.results import Results
from cifar_tune.vision.portable import Card, read_card

FILE_NAME = "README.md"
HOW = {"squash": "", "crop": ", the middle square of each", "letterbox": ", between black bars"}
SHOWN_CLASSES = 20


def model_card(results: Results, folder: Path, figures: Mapping[str, Any]) -> str:
    """The card in Markdown of a folder that `write_portable` filled, and the `figures` there."""
    card = read_card(folder)
    assert card is not None, "write_portable wrote it"
    environment = Environment(
        loader=PackageLoader("cifar_tune.vision", "."),
        autoescape=False,  # it is Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    parts = ("train", "val", "confirm") if "test_accuracy" in figures else ("train",)
    return environment.get_template("model_card.md.jinja").render(
        name=results.folder.name,
        figures=figures,
        what=_what(card),
        scores=_scores(results, figures),
        data=results.data,
        trained_on=sum(results.data.get(part, 0) for part in parts),
        values=results.trials[figures["trial_id"]].values_at(figures["epoch"]),
        card=card,
        how=HOW[card.resize],
    )


def _what(card: Card) -> str:
    names = [*card.classes[:SHOWN_CLASSES], *(["..."] if card.classes[SHOWN_CLASSES:] else [])]
    networks = (
        f"{card.members} networks, whose logits are averaged, each " if card.members > 1 else ""
    )
    return (
        f"An image classifier: {networks}`{card.model.name}` for RGB images of"
        f" {card.image_size} x {card.image_size} pixels,"
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
    beside = [
        f"{what} (`{flag}`)"
        for name, what, flag in (
            ("flip_averaging", "its mirror image", "--flip-averaging"),
            ("translate_averaging", "itself moved by a pixel", "--translate-averaging"),
        )
        if figures.get(name)
    ]
    if beside:
        line += f", each averaged with {' and '.join(beside)}"
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
