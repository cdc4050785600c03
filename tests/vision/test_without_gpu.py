"""What a step does on a GPU, on one that torch only pretends to have: tensors without content.

Such a tensor has no values, so that whatever would wait for the GPU to read one is an error, and so
is what mixes it with one on the CPU. Backward passes and autocast ask the driver, so gradients are
made up and all is float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from toy_images import CLASSES, toy_run

from cifar_tune.vision.config import VisionRun
from cifar_tune.vision.data import datamodule
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import EvalLoader, TrainLoader
from cifar_tune.vision.metrics import Validation
from cifar_tune.vision.module import Classifier, _Sums
from cifar_tune.vision.optim import build_optimizer, build_schedule

GPU = torch.device("cuda")
OPERATIONS = {
    "net": {"sgd": 160, "adamw": 200, "muon": 550},
    "resnet9": {"sgd": 280, "adamw": 345, "muon": 880},
    "speednet": {"sgd": 210, "adamw": 255, "muon": 610},
}
"""Of a step without its backward pass, at most: each is a kernel to launch, or a view."""


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.append(str(function))
        if function is torch.ops.aten._fused_sgd_.default:  # torch can't pretend it
            return None
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is made is made on a GPU, of tensors without content."""
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)  # can't move such tensors
    with FakeTensorMode():
        yield


def on_gpu(run: VisionRun) -> tuple[Classifier, BatchMaker, torch.Tensor, torch.Tensor]:
    """A module, what makes its batches, and 64 images with their labels."""
    with GPU:
        module = Classifier(run, list(CLASSES), [0.5] * 3, [0.25] * 3)
        images = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
        labels = torch.zeros(64, dtype=torch.int64)
    return module, BatchMaker(run.data, [0.5] * 3, [0.25] * 3, GPU), images, labels


@pytest.mark.parametrize("model", OPERATIONS)
@pytest.mark.parametrize(
    "values",
    [
        {"optim__name": "sgd"},
        {"optim__name": "adamw", "data__cutout": 8},
        {"optim__name": "muon"},
        {
            "optim__name": "muon",
            "optim__muon_rest": "sgd",
            "optim__renormalise": True,
            "optim__loss_reduction": "sum",
        },
    ],
    ids=["sgd", "adamw", "muon", "muon with sgd"],
)
def test_a_step_reads_nothing_back_and_launches_few_kernels(
    model: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "_workers", 1)
    run = toy_run(2, model__name=model, data__flip="alternating", **values)
    module, maker, images, labels = on_gpu(run)
    optimizer = build_optimizer(module.model, run.optim, precision="bf16")
    schedule = build_schedule(optimizer, run.optim, 8)
    module._train, operations = _Sums(GPU), Operations()
    batches = iter(TrainLoader(images, labels, maker, run.data, 0, lambda: 0))
    next(batches)  # which brings the epoch's order to the GPU
    for _ in range(2):  # an optimizer makes its state in its first step
        with operations:
            operations.names.clear()
            loss = module.training_step(next(batches))
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        with operations:
            optimizer.step()
            schedule.step()
    assert loss.device.type == "cuda"
    assert not [name for name in operations.names if "local_scalar" in name]
    assert len(operations.names) <= OPERATIONS[model][run.optim.name]


def test_a_validation_reads_nothing_back_before_its_end() -> None:
    run = toy_run(2, model__name="resnet9")
    module, maker, images, labels = on_gpu(run)
    module._val, module._validation = _Sums(GPU), Validation(())
    module.eval()
    loader = EvalLoader(images, labels, maker, "auto")
    assert len(loader) == 1  # 5,000 fill a GPU
    with Operations() as operations, torch.no_grad():
        for batch in loader:
            module.validation_step(batch)
    assert module._val.correct.device.type == "cuda"
    assert not [name for name in operations.names if "local_scalar" in name]


def test_the_next_trial_of_a_process_finds_the_images_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datamodule, "_uploaded", {})
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**6, 10**6))
    first, other = (np.zeros((4, 32, 32, 3), dtype=np.uint8) for _ in range(2))

    def placed(images: np.ndarray, device: torch.device = GPU) -> torch.Tensor:
        with FakeTensorMode(allow_non_fake_inputs=True):
            tensor, rows = datamodule._placed("train", images, device)
        assert tensor.device.type == "cuda"
        assert rows is None
        return tensor

    uploaded = placed(first)
    assert placed(first[:]) is uploaded
    assert placed(first, torch.device("cuda", 1)) is not uploaded
    assert placed(other) is not uploaded
    assert len(datamodule._uploaded) == 2


def test_images_that_take_half_of_a_gpu_stay_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datamodule, "_uploaded", {})
    images = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (images.nbytes, 10**9))
    tensor, _ = datamodule._placed("val", images, GPU)
    assert tensor.device.type == "cpu"
