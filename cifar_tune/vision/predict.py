"""Uses a saved model: `cifar-tune predict` names the likeliest classes of image files."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from os.path import isdir, isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cifar_tune.errors import DataError, ResourceError, ResultsError, exit_code_of
from cifar_tune.files import BEST, CARD, FINALS, MODEL, as_path
from cifar_tune.plan.parser import Parser
from cifar_tune.process import check_shown, outlast_streams, say
from cifar_tune.vision.names import is_hidden, spelt

if TYPE_CHECKING:  # --help must not wait for numpy, Pillow and torch
    import numpy as np
    from numpy.typing import NDArray

    from cifar_tune.vision.portable import ImageClassifier

DEVICES = ("auto", "cpu", "cuda")

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What there is to say of one image file, named as it was given."""

    name: str
    likeliest: tuple[tuple[str, float], ...] = ()  # class and probability; empty on an error
    error: str = ""  # why it could not be read


def main(argv: Sequence[str] | None = None) -> int:
    """`cifar-tune predict`; the exit code: 0, 3 if some images could not be read, or an error's."""
    return exit_code_of(lambda: _predict(_parser().parse_args(argv)))


def _predict(arguments: argparse.Namespace) -> int:
    find_model(arguments.model)  # before torch is waited for
    files = find_images(arguments.image)
    model = load_model(arguments.model, device=arguments.device, own_code=arguments.own_code)
    answers = classify(
        model,
        files,
        arguments.top,
        flip_averaging=arguments.flip_averaging,
        translate_averaging=arguments.translate_averaging,
    )
    failed = [answer for answer in answers if answer.error]
    if len(failed) == len(answers):
        raise DataError("\n".join(spelt(answer.error) for answer in failed))
    say(_as_json(answers) if arguments.json else _as_table(answers))
    check_shown()
    for answer in failed:
        sys.stderr.write(f"error: {spelt(answer.error)}\n")
    return 3 if failed else 0


def find_model(path: Path) -> Path:
    """The folder of a model, or a checkpoint: of a whole results folder, its `best/`.

    Raises:
        ResultsError: no model is there.
    """
    path = as_path(path)
    if isfile(path) and path.suffix == ".ckpt":
        return path
    inside = path / BEST if isfile(path / "journal.jsonl") else path
    if any(isfile(inside / name) for name in (CARD, MODEL)):
        return inside
    if inside != path:
        raise ResultsError(
            f"{path} has no best/ yet; it is written when a search ends or its time is up"
        )
    raise ResultsError(
        f"--model {path} holds no model; give a results folder, its best/, a folder of the finals"
        " such as finals/seed-1, or a .ckpt file"
    )


def log_if_older(place: Path) -> None:
    """Say which model it is, where the score that the search tells is that of others."""
    from cifar_tune.record.model_folder import figures_of, holds_final

    folder = place.parent if place.is_file() else place
    final = folder.parent / FINALS / "seed-1"
    if folder.name == BEST and (final / MODEL).is_file() and not holds_final(folder):
        log.warning(
            "%s holds the winner of the search, %s, and not one of its final models, whose test"
            " score is told: give %s, or have it put there by cifar-tune confirm %s",
            folder, figures_of(folder).get("trial_id", "an unknown trial"), final,
            shlex.quote(str(folder.parent)),
        )  # fmt: skip


def find_images(given: Sequence[Path]) -> list[Path]:
    """The files to read: those given, and of each folder its image files, in order of name.

    As a dataset's they may lie deeper, and hidden files and folders are passed over.

    Raises:
        DataError: a folder has no image files.
    """
    from cifar_tune.vision.data.folders import files_below
    from cifar_tune.vision.data.layout import has_image_suffix
    from cifar_tune.vision.data.pictures import SUFFIXES

    files = []
    for path in given:
        if not isdir(path):
            files.append(path)
            continue
        images = (file for file in files_below(path) if has_image_suffix(file.name))
        inside = [file for file in images if not any(map(is_hidden, file.relative_to(path).parts))]
        if not inside:
            raise DataError(
                f"{path} has no image files ({', '.join(SUFFIXES)}); give the folder they lie in"
            )
        files += inside
    return files


def load_model(path: str | Path, *, device: str = "cpu", own_code: bool = False) -> ImageClassifier:
    """A saved model, ready to use; nothing in its files is run as code.

    Args:
        path: results folder, its `best/`, a folder of the finals, or a `.ckpt` file.
        device: `cpu`, `cuda`, or `auto`: a GPU if there is one.
        own_code: whether a network of your own, `package.module:build`, may be built: that imports
            and calls what the file names.

    Raises:
        ResultsError: no model is there, it is damaged, or it needs `own_code`.
        ResourceError: there is no such device.
    """
    import torch

    from cifar_tune.vision.portable import load_checkpoint, load_portable

    gpu = torch.cuda.is_available()
    if device not in DEVICES or (device == "cuda" and not gpu):
        raise ResourceError(f"--device is {device}, and there is no such here; give cpu or auto")
    place = find_model(Path(path))
    log_if_older(place)
    load = load_checkpoint if place.is_file() else load_portable
    return load(place, own_code=own_code).to("cuda" if gpu and device != "cpu" else "cpu")


def classify(
    model: ImageClassifier, files: Sequence[Path], top: int, **averaging: bool
) -> list[Answer]:
    """An answer for each file, in order; a file that can't be read costs only its own."""
    answers, images = [], []
    for path in files:
        try:
            images.append(read_image(path, model))
            answers.append(Answer(name=str(path)))
        except DataError as error:
            answers.append(Answer(name=str(path), error=str(error)))
    if not images:
        return answers
    chances = model.probabilities(images, **averaging)
    values, labels = (x.tolist() for x in chances.topk(min(top, len(model.classes)), dim=1))
    ranked = (
        tuple((model.classes[label], chance) for label, chance in zip(*pair, strict=True))
        for pair in zip(labels, values, strict=True)
    )
    return [one if one.error else one._replace(likeliest=next(ranked)) for one in answers]


def read_image(path: str | Path, model: ImageClassifier | None = None) -> NDArray[np.uint8]:
    """An image file as the model wants it: of any size, brought to it as the dataset's are.

    An orientation that a camera noted is applied, 16 bits become 8, transparent pixels show white,
    and of an animation the first frame counts.

    Args:
        path: PNG, JPEG, WebP, GIF, BMP, TIFF or PPM.
        model: the one that it is for, which knows its size; none: 32 x 32 pixels.

    Returns:
        RGB, uint8 [side, side, 3].

    Raises:
        DataError: it is no such file, it is damaged, or it has more pixels than the dataset's may.
    """
    from cifar_tune.vision.data.folders import UnreadableFileError, read_file
    from cifar_tune.vision.data.pictures import PictureError, read_picture

    path = as_path(path)
    try:
        shape = () if model is None else (model.card.image_size, model.card.resize)
        return read_picture(read_file(path), *shape).pixels
    except (PictureError, UnreadableFileError) as error:
        reason = error.reason if isinstance(error, UnreadableFileError) else error
        raise DataError(f"{path} can't be read: {reason}; give another file") from error


def _as_json(answers: Sequence[Answer]) -> str:
    """A list with an object an image, in the order given."""
    rows: list[dict[str, Any]] = []
    for name, likeliest, error in answers:
        classes = [{"class": label, "probability": chance} for label, chance in likeliest]
        rows.append({"image": name, **({"error": error} if error else {"classes": classes})})
    return json.dumps(rows, indent=2)


def _as_table(answers: Sequence[Answer]) -> str:
    """A line an image, its classes side by side."""
    rows = [
        [spelt(one.name), *(f"{spelt(c)} {p:.4f}" for c, p in one.likeliest)]
        for one in answers
        if one.likeliest
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    return "\n".join("  ".join(words).rstrip() for words in padded)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; it must be a whole number from 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cifar-tune predict",
        description="Name the likeliest classes of images, by a model that a search left.",
        epilog="Exit codes: 0 all answered; 2 nothing answered; 3 some images can't be read.",
    )
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="DIR",
        help="results folder, its best/, finals/seed-N, or a .ckpt file",
    )
    parser.add_argument(
        "image", type=Path, nargs="+", metavar="IMAGE", help="image file of any size, or a folder"
    )
    parser.add_argument(
        "--top", type=_at_least_one, default=3, metavar="N", help="classes named of each (3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="a GPU if there is one (auto)"
    )
    parser.add_argument(
        "--flip-averaging",
        action="store_true",
        help="average the logits of each image and its mirror image",
    )
    parser.add_argument(
        "--translate-averaging",
        action="store_true",
        help="average the logits of each image and of the image moved by a pixel",
    )
    parser.add_argument(
        "--own-code",
        action="store_true",
        help="build a network of your own, package.module:build: this runs what the file names",
    )
    return parser


if __name__ == "__main__":
    outlast_streams()
    sys.exit(main())
