"""A saved model outside of its search: its card, its loading, and pixels in, logits out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from torch import Tensor, nn

from cifar_tune.errors import DataError, ResultsError
from cifar_tune.files import CARD, MODEL, STATE_KEY, is_packed
from cifar_tune.plan.guard import guarded
from cifar_tune.plan.section import Section
from cifar_tune.vision.config import ModelConfig, VisionRun, is_weights_name
from cifar_tune.vision.data_config import SIDE, Resize
from cifar_tune.vision.ensemble import build_members
from cifar_tune.vision.models import guarded_calls, weightless

WEIGHTS = "model.safetensors"
BATCH = 250  # images at once in `logits`

Pixels: TypeAlias = Tensor | NDArray[np.uint8] | Sequence[NDArray[np.uint8]]


class Card(Section):
    """What `model.json` says: all that is needed to use the weights beside it."""

    format_version: Literal[1] = 1
    """Raised when an older reader would go wrong."""
    holds: str = ""
    """Which of a search's models it is, in words."""
    model: ModelConfig
    """The plan's `model` section: the architecture and its arguments."""
    members: Annotated[int, Field(ge=1)] = 1
    """Networks of that architecture, whose logits are averaged."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names, in the order of the logits."""
    mean: tuple[float, float, float]
    """Of red, green and blue, in 0..1."""
    std: tuple[float, float, float]
    """The same."""
    image_size: Annotated[int, Field(ge=8, le=512)] = SIDE
    """Height and width in pixels; other sizes are resized to it by Lanczos."""
    resize: Resize = "squash"
    """How: whatever the proportions (squash), the middle square (crop), or all of it between black
    bars (letterbox)."""
    channels: Literal["RGB"] = "RGB"
    """Order of the channels."""
    weights: str | None = None
    """File of the network's weights."""
    weights_take: str = "float32 [batch, 3, image_size, image_size], (pixels / 255 - mean) / std"
    """What the network alone takes."""
    program: str | None = None
    """File of the exported program, of `torch.export`."""
    onnx: str | None = None
    """File of the same program for ONNX runtimes."""
    program_takes: str = "uint8 [batch, image_size, image_size, 3], pixels; it normalises them"
    """What a program takes, as `pixels` in ONNX; it gives `logits`, float32 [batch, classes]."""
    dataset_fingerprint: str | None = None
    """Of the images that it was trained on."""
    notes: tuple[str, ...] = ()
    """What could not be written, and why."""


class ImageClassifier(nn.Module):
    """A trained network with its normalisation: pixels in, logits out, ready to use.

    Attributes:
        card: what it is.
        classes: names, in the order of the logits.
        network: the network alone, from normalised images, float32 [batch, 3, side, side].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, card: Card, network: nn.Module) -> None:
        super().__init__()
        self.card, self.classes, self.network = card, card.classes, network
        mean, std = (
            torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (card.mean, card.std)
        )
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, float32 [batch, classes], of RGB images, uint8 [batch, side, side, 3]."""
        return self._logits(pixels, torch.contiguous_format)

    def _logits(self, pixels: Tensor, layout: torch.memory_format) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        logits: Tensor = self.network(images.contiguous(memory_format=layout))
        return logits.float()

    def logits(
        self, images: Pixels, *, flip_averaging: bool = False, translate_averaging: bool = False
    ) -> Tensor:
        """The network's answer in parts of `BATCH` images, float32 [n, classes], on the CPU.

        Args:
            images: RGB, uint8 [n, side, side, 3], or n of [side, side, 3]; `card.image_size` is
                the side, and `cifar_tune.read_image` makes one from a file.
            flip_averaging: whether to average the logits of each image and its mirror image.
            translate_averaging: whether half of the logits come from the image moved by a pixel,
                up and to the left, and down and to the right (airbench, Jordan 2024).

        Raises:
            DataError: the images have another shape or type.
        """
        # A CPU convolves so twice as fast; a network of the user's own may want the plain layout.
        ours = ":" not in self.card.model.name
        layout = torch.channels_last if ours else torch.contiguous_format
        parts = []
        with torch.inference_mode(), guarded_calls(self.card.model):
            for part in torch.split(_checked(images, self.card.image_size), BATCH):
                pixels = part.to(self.scale.device)
                logits = self._both_sides(pixels, layout, flip_averaging)
                if translate_averaging:
                    moved = (_moved(pixels, 1), _moved(pixels, -1))
                    first, other = (self._both_sides(x, layout, flip_averaging) for x in moved)
                    logits = (logits + (first + other) / 2) / 2
                parts.append(logits.cpu())
        return torch.cat(parts)

    def _both_sides(self, pixels: Tensor, layout: torch.memory_format, flip: bool) -> Tensor:
        logits = self._logits(pixels, layout)
        if not flip:
            return logits
        return (logits + self._logits(pixels.flip(2), layout)) / 2  # axis 2: from left to right

    def probabilities(self, images: Pixels, **averaging: bool) -> Tensor:
        """How likely each class is, float32 [n, classes], on the CPU; else as `logits`."""
        return self.logits(images, **averaging).softmax(dim=1)


def _moved(pixels: Tensor, by: int) -> Tensor:
    """Images that begin so many pixels further down and right; what is missing is reflected."""
    last = pixels.shape[1] - 1
    place = last - (last - (torch.arange(last + 1, device=pixels.device) + by).abs()).abs()
    return pixels[:, place][:, :, place]


def _checked(images: Pixels, size: int) -> Tensor:
    how = "cifar_tune.read_image" + ("" if size == SIDE else "(path, model)")
    pixels = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1:] != (size, size, 3):
        raise DataError(
            f"the images are {pixels.dtype} {list(pixels.shape)}; they must be RGB, uint8"
            f" [n, {size}, {size}, 3]: {how} makes one from a file"
        )
    return pixels


def load_portable(folder: Path, *, own_code: bool = False) -> ImageClassifier:
    """The model that `write_portable` wrote, on the CPU; nothing in the files is run as code.

    Without `model.json`, or where that names no weights, it comes from `model.ckpt`.

    Args:
        folder: `best/` of a results folder, or a folder of the finals.
        own_code: whether a network of the user's own, `package.module:build`, may be built: that
            imports and calls what the file names.

    Raises:
        ResultsError: no model is there, it is damaged, or it needs `own_code`.
    """
    return _build(*read_model(folder), own_code)


def load_checkpoint(path: Path, *, own_code: bool = False) -> ImageClassifier:
    """The model of a checkpoint of ours, on the CPU; else as `load_portable`.

    Lightning is not needed for it: importing that takes longer than all the rest.
    """
    return _build(*read_model(path), own_code)


def read_model(place: Path) -> tuple[Card, dict[str, Any], Path]:
    """Of a folder as `write_portable` filled it, or a checkpoint: card, weights, and their file.

    Raises:
        ResultsError: no model is there, or it is damaged.
    """
    if place.is_file() or place.suffix == ".ckpt":
        return _read_checkpoint(place)
    card = read_card(place)
    if card is None or card.weights is None:
        return _read_checkpoint(place / MODEL)
    try:
        # The file has a fixed name: one in model.json could lead anywhere.
        weights = safetensors.torch.load((place / WEIGHTS).read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(place / WEIGHTS, error) from error
    return card, weights, place / WEIGHTS


def _read_checkpoint(path: Path) -> tuple[Card, dict[str, Any], Path]:
    try:
        content = read_torch_file(path)
        _check_task(path, content)
        raw, state = content["hyper_parameters"], content["state_dict"]
        given = {key: raw[key] for key in ("classes", "mean", "std", "members") if key in raw}
        data = VisionRun.model_validate({"data": raw["run"].get("data", {})}).data
        given |= {"image_size": data.side, "resize": data.resize}
        model = _without_place(raw["run"]["model"])
        card = Card.model_validate_json(json.dumps({"model": model, **given}))
    except ResultsError:
        raise
    except Exception as error:  # a damaged file makes torch raise half a dozen kinds of error
        raise _damaged(path, error) from error
    prefix = "model."
    weights = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    return card, weights, path


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU; nothing in it is run as code."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if is_packed(archive):
                raise ValueError("it is packed, and torch's own files are not packed")
    return torch.load(path, map_location="cpu", weights_only=True)


def _without_place(model: Mapping[str, Any]) -> dict[str, Any]:
    """A network's section without the path of the weights it began with: a model goes about."""
    place = model.get("weights")
    return {**model, "weights": place if place and is_weights_name(place) else None}


def read_card(folder: Path) -> Card | None:
    """What `model.json` says; none where there is none.

    Raises:
        ResultsError: it is damaged.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _build(card: Card, weights: Mapping[str, Any], path: Path, own_code: bool) -> ImageClassifier:
    name = card.model.name
    if ":" in name and not own_code:
        raise ResultsError(
            f"{path} is of the network {name}, code of your own, and loading it would run that:"
            " pass --own-code (own_code=True in Python) if you trust the file"
        )
    with weightless(card.model):
        network = build_members(card.model, len(card.classes), card.members, card.image_size)
    plain = {k: v.contiguous() if isinstance(v, Tensor) else v for k, v in weights.items()}
    try:
        with guarded(card.model.name):
            network.load_state_dict(plain, assign=True)
    except Exception as error:  # RuntimeError, or what the user's own code raises
        raise _damaged(path, error) from error
    return ImageClassifier(card, network)


def _check_task(path: Path, content: Mapping[str, Any]) -> None:
    """A ResultsError for a model of another task."""
    run = content.get(STATE_KEY, {}).get("run", {})
    if run:
        raise ResultsError(
            f"{path} holds {run['model'].get('class_path')}, a LightningModule of your own, and no"
            " image classifier; README.md beside it says how to load it"
        )


def first_line(error: Exception) -> str:
    """What an error says, without its explanations."""
    return next(iter(str(error).strip().splitlines()), "")


def _damaged(path: Path, error: Exception) -> ResultsError:
    if isinstance(error, FileNotFoundError):
        return ResultsError(
            f"there is no {path}; give the folder best/ of a finished search, or a checkpoint"
        )
    reason = f"{type(error).__name__}: {first_line(error)}"
    return ResultsError(
        f"{path} can't be used ({reason}): it is damaged, or not of cifar_tune; bring a whole copy"
    )
