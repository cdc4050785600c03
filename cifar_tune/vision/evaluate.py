"""Scores a saved checkpoint on given images, with the arithmetic that its validation used."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from cifar_tune.vision.data import Images
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import EvalLoader, as_tensor
from cifar_tune.vision.models import guarded_calls
from cifar_tune.vision.module import Classifier

AUTOCAST = {"bf16": torch.bfloat16, "16": torch.float16}


def load_classifier(checkpoint: Path, device: torch.device) -> Classifier:
    """The network of a checkpoint, ready to score; nothing in the file is ever run as code."""
    module: Classifier = Classifier.load_from_checkpoint(
        checkpoint, map_location=device, weights_only=True
    )
    return module.eval()


def predict_logits(
    checkpoint: Path,
    images: Images,
    *,
    gpu: bool,
    flip_averaging: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Logits of all images; with `flip_averaging` their mean over an image and its mirror image.

    With the precision, layout, threads and batch size of the run in the checkpoint, on the same
    kind of machine, they are those of its validation bit for bit.

    Args:
        checkpoint: a file that `fit`'s callbacks saved.
        images: `images` [n, 32, 32, 3] uint8 and `labels` [n].
        gpu: whether to compute on a GPU, as the training did or did not; on a machine without
            one, such as a cluster's head, the CPU does it.
        flip_averaging: whether the mirror images count as well.
        threads: of the CPU; none: as many as the run had.

    Returns:
        float32 [n, classes], on the CPU.
    """
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    module = load_classifier(checkpoint, device)
    run, before = module.run, torch.get_num_threads()
    maker = BatchMaker(run.data, module.hparams["mean"], module.hparams["std"], device)
    loader = EvalLoader(
        as_tensor(images.images).to(device),
        as_tensor(images.labels).to(device),
        maker,
        run.data.eval_batch_size,
    )
    own = before if run.train.threads == "auto" else run.train.threads
    torch.set_num_threads(own if threads is None else threads)
    calls = guarded_calls(run.model)
    try:
        with torch.inference_mode(), _autocast(run.train.precision, device), calls:
            return torch.cat([_logits(module, batch, flip_averaging) for batch, _ in loader])
    finally:
        torch.set_num_threads(before)


def _logits(module: Classifier, batch: Tensor, flip_averaging: bool) -> Tensor:
    logits: Tensor = module(batch).float()
    if flip_averaging:
        logits = (logits + module(batch.flip(3)).float()) / 2  # [batch, 3, height, width]
    return logits.cpu()


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    if precision not in AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])


def accuracy(logits: Tensor, images: Images) -> float:
    """Fraction of images whose largest logit is their label's."""
    correct = (logits.argmax(dim=1) == as_tensor(images.labels)).sum().item()
    return correct / len(images)
