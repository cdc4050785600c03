"""BatchNorm over all workers on a CPU, in a process group of this process alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cifar_tune.train.parallel import Member, SyncBatchNormOnCpu, add_up, average_buffers, joined


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    member = Member(rank=0, workers=1, meeting=str(tmp_path / "meeting"))
    with joined(member, gpu=False):
        yield
    assert not torch.distributed.is_initialized()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    flat = [nn.Flatten(), nn.BatchNorm1d(4 * 6 * 6, affine=False, momentum=None)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *flat).double()


def outcome(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs of two steps and of an evaluation, gradients, running figures."""
    outputs = [model(images), model(images + 1)]
    (outputs[0] ** 3 + outputs[1]).sum().backward()
    outputs.append(model.eval()(images))
    return [*outputs, *[p.grad for p in model.parameters() if p.grad is not None], *model.buffers()]


@pytest.mark.usefixtures("group")
def test_synced_batchnorm_computes_what_batchnorm_does_and_is_undone() -> None:
    images, own, synced = torch.rand(8, 3, 8, 8).double(), net(), net()
    names = list(synced.state_dict())
    layers = SyncBatchNormOnCpu()
    assert layers.apply(synced) is synced
    for ours, theirs in zip(outcome(synced, images), outcome(own, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert list(synced.state_dict()) == names
    layers.revert(synced)
    assert all("forward" not in vars(module) for module in synced.modules())


@pytest.mark.usefixtures("group")
def test_sums_and_means_of_a_group_of_one_are_its_own() -> None:
    model = net()
    before = [buffer.clone() for buffer in model.buffers()]
    average_buffers(model)
    average_buffers(nn.Linear(2, 2))
    assert all(map(torch.equal, before, model.buffers()))
    assert add_up(torch.tensor(0.5), torch.tensor(3)) == [0.5, 3.0]
