"""Scores a saved checkpoint on given images, as its validation did or as its users will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from cifar_tune.train.apart import apart
from cifar_tune.train.numerics import gpu_arithmetic
from cifar_tune.vision.data import Images
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import EvalLoader, as_tensor
from cifar_tune.vision.data.dataset import Uint8Array
from cifar_tune.vision.models import guarded_calls
from cifar_tune.vision.module import Classifier
from cifar_tune.vision.portable import load_checkpoint

GPU = torch.device("cuda")
AUTOCAST = {"bf16": torch.bfloat16, "16": torch.float16}


def load_classifier(checkpoint: Path, device: torch.device) -> Classifier:
    """The network of a checkpoint, ready to score; nothing in the file is ever run as code."""
    module: Classifier = Classifier.load_from_checkpoint(
        checkpoint, map_location=device, weights_only=True
    )
    return module.eval()


def loaded_logits(
    checkpoint: Path, images: Uint8Array, *, gpu: bool, threads: int, **averaging: bool
) -> Tensor:
    """Logits of images [n, side, side, 3] by the model that `load_model` gives of a checkpoint.

    Where there is a `gpu`, in a process of its own, which leaves nothing on it for trials to miss.
    In float32 whatever the training used, so that its figures are those of the exported forms; a
    network of the user's own is built. Where there is no `gpu`, such as on a cluster's head, the
    CPU does it, on so many `threads`. `averaging` is as in `ImageClassifier.logits`.

    Returns:
        float32 [n, classes], on the CPU.

    Raises:
        ResultsError: the checkpoint is damaged.
    """
    if gpu and torch.cuda.is_available():
        logits: Tensor = apart(_loaded_logits, checkpoint, images, averaging, threads)
        return logits
    return _loaded_logits(checkpoint, images, averaging, threads, torch.device("cpu"))


def _loaded_logits(
    checkpoint: Path,
    images: Uint8Array,
    averaging: Mapping[str, bool],
    threads: int,
    device: torch.device = GPU,
) -> Tensor:
    model = load_checkpoint(checkpoint, own_code=True).to(device)
    with _threads(threads), gpu_arithmetic(exact=True, tf32=False):
        return model.logits(images, **averaging)


def predict_logits(checkpoint: Path, images: Images, *, gpu: bool) -> Tensor:
    """Logits of all images as in the validation of a training.

    With the precision, layout, threads and batch size of the run in the checkpoint, on the same
    kind of machine, they are those of its validation bit for bit: float32 [n, classes], on the CPU.
    """
    if gpu and torch.cuda.is_available():
        logits: Tensor = apart(_predict_logits, checkpoint, images)
        return logits
    return _predict_logits(checkpoint, images, torch.device("cpu"))


def _predict_logits(checkpoint: Path, images: Images, device: torch.device = GPU) -> Tensor:
    module = load_classifier(checkpoint, device)
    run = module.run
    maker = BatchMaker(run.data, module.hparams["mean"], module.hparams["std"], device)
    pixels, labels = (as_tensor(x).to(device) for x in (images.images, images.labels))
    loader = EvalLoader(pixels, labels, maker, run.data.eval_batch_size)
    threads = None if run.train.threads == "auto" else run.train.threads
    half = AUTOCAST.get(run.train.precision)
    autocast = torch.autocast(device.type, dtype=half, enabled=half is not None)
    arithmetic = gpu_arithmetic(exact=run.train.deterministic is not False, tf32=run.train.tf32)
    with _threads(threads), arithmetic, torch.inference_mode(), autocast, guarded_calls(run.model):
        return torch.cat([module(batch).float().cpu() for batch, _ in loader])


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads of the CPU, and afterwards as before; none: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def accuracy(logits: Tensor, images: Images) -> float:
    """Fraction of images whose largest logit is their label's."""
    correct = (logits.argmax(dim=1) == as_tensor(images.labels)).sum().item()
    return correct / len(images)
