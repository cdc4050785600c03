"""Writes a saved model for use elsewhere: safetensors, JSON, a program of torch.export, ONNX."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from cifar_tune.errors import ResultsError
from cifar_tune.files import CARD, MODEL, write_atomically
from cifar_tune.plan.guard import guarded
from cifar_tune.vision.portable import (
    WEIGHTS,
    Card,
    ImageClassifier,
    first_line,
    load_checkpoint,
    read_card,
    read_model,
)

PROGRAM, ONNX = "model.pt2", "model.onnx"
TOLERANCE = 1e-4  # how far a logit of an exported program may be off


def onnx_is_installed() -> bool:
    """Whether `model.onnx` can be written: the extra `cifar-tune[onnx]`."""
    return all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def has_all_forms(folder: Path, *, programs: bool = True) -> bool:
    """Whether all forms of a model are there that could be written here and now.

    Without `programs` those of torch.export and ONNX may be missing.
    """
    try:
        card = read_card(folder)
        read_model(folder)
    except ResultsError:  # it is damaged
        return False
    if card is None:
        return False
    named = {WEIGHTS: card.weights, PROGRAM: card.program, ONNX: card.onnx}
    there = all((folder / name).is_file() for name in named.values() if name)
    wanted = [PROGRAM] if programs else []
    if programs and card.program and onnx_is_installed():  # which is made of the program
        wanted.append(ONNX)
    return there and all(named[f] or any(n.startswith(f) for n in card.notes) for f in wanted)


def write_portable(
    folder: Path, *, fingerprint: str | None = None, holds: str = "", programs: bool = True
) -> tuple[str, ...]:
    """Write the model of `model.ckpt` beside it: `model.safetensors`, `model.pt2`, `model.json`.

    Also `model.onnx`, where the extra for it is installed. `model.json` goes first and comes last:
    while it is there, what it names is there and belongs to it. The network is built anew from the
    checkpoint, a user's own code included: only for checkpoints of one's own.

    Args:
        folder: holds `model.ckpt`, as `fit`'s callbacks saved it.
        fingerprint: of the dataset.
        holds: which model it is, in words.
        programs: whether those of torch.export and ONNX are written too, which takes seconds.

    Returns:
        What could not be written and why, a sentence each: a network of the user's own may hold
        what safetensors can't, or do what torch.export can't follow.

    Raises:
        ResultsError: the checkpoint is damaged.
        OSError: the folder can't be written.
    """
    for name in (CARD, WEIGHTS, PROGRAM, ONNX):
        (folder / name).unlink(missing_ok=True)
    classifier = load_checkpoint(folder / MODEL, own_code=True)
    written: dict[str, Any] = {"dataset_fingerprint": fingerprint, "holds": holds}
    notes = []
    try:
        write_atomically(folder / WEIGHTS, _as_safetensors(classifier.network))
        written["weights"] = WEIGHTS
    except ValueError as error:
        notes.append(f"{WEIGHTS} is left out: {error}")
    try:
        if programs:
            written |= _write_programs(folder, classifier, written, notes)
    except ValueError as error:
        notes.append(f"{PROGRAM} is left out: {error}")
    card = classifier.card.model_copy(update={**written, "notes": tuple(notes)})
    write_atomically(folder / CARD, card.model_dump_json(indent=2) + "\n")
    return card.notes


def _write_programs(
    folder: Path, classifier: ImageClassifier, written: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Write `model.pt2` and `model.onnx`; each carries the card, so that it can go alone."""
    program = _exported(classifier)
    programs: dict[str, Any] = {"program": PROGRAM}
    proto = None
    if onnx_is_installed():
        try:
            proto = _as_onnx(program, classifier)
            programs["onnx"] = ONNX
        except ValueError as error:
            notes.append(f"{ONNX} is left out: {error}")
    card = classifier.card.model_copy(update={**written, **programs, "notes": tuple(notes)})
    write_atomically(folder / PROGRAM, _saved(program, card))
    if proto is not None:
        proto.metadata_props.add(key=CARD, value=card.model_dump_json())
        write_atomically(folder / ONNX, proto.SerializeToString())
    return programs


def _as_safetensors(network: nn.Module) -> bytes:
    weights = {}
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise ValueError(f"the network keeps {name}, {type(value).__name__}; it takes tensors")
        # A copy each: shared memory and other layouts than the plain one are refused.
        weights[name] = value.detach().contiguous().clone()
    try:
        return safetensors.torch.save(weights)
    except Exception as error:  # sparse tensors, and types that it does not know
        raise ValueError(f"{type(error).__name__}: {first_line(error)}") from error


def _exported(classifier: ImageClassifier) -> torch.export.ExportedProgram:
    side = classifier.card.image_size
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("batch")},)
    with _following("torch.export"):
        with torch.no_grad(), guarded(classifier.card.model.name):
            program = torch.export.export(
                classifier, (example,), dynamic_shapes=shapes, strict=False
            )
        _check_program(program.module(), classifier)
    return program


def _saved(program: torch.export.ExportedProgram, card: Card) -> bytes:
    content = io.BytesIO()
    with _following("torch.export"):
        torch.export.save(program, content, extra_files={CARD: card.model_dump_json()})
    return content.getvalue()


def _as_onnx(program: torch.export.ExportedProgram, classifier: ImageClassifier) -> Any:
    """The program as ONNX's own message, tried in ONNX's runtime."""
    with _following("torch.onnx"):
        import onnxruntime

        exported = torch.onnx.export(
            program, input_names=["pixels"], output_names=["logits"], dynamo=True, verbose=False
        )
        assert exported is not None
        proto = exported.model_proto
        given = {"providers": ["CPUExecutionProvider"]}
        running = onnxruntime.InferenceSession(proto.SerializeToString(), **given)
        _check_program(
            lambda pixels: torch.from_numpy(running.run(None, {"pixels": pixels.numpy()})[0]),
            classifier,
        )
    return proto


@contextmanager
def _following(exporter: str) -> Iterator[None]:
    """The network may be the user's own, and the exporters raise what they like."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{exporter} can't follow the network ({reason})") from error


def _check_program(run: Callable[[Tensor], Any], classifier: ImageClassifier) -> None:
    """A choice that depends on the image or the batch is followed one way only, and silently."""
    generator, side = torch.Generator().manual_seed(0), classifier.card.image_size
    for batch in (1, 3):
        shape = (batch, side, side, 3)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            error = (run(pixels) - classifier(pixels)).abs().max().item()
        if not error <= TOLERANCE:
            raise ValueError(f"its logits are off by {error:.2g}, more than {TOLERANCE:g}")
