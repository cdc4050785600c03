"""Muon's steps are orthogonal, torch's own where torch has one, and AdamW's for the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cifar_tune.vision.muon import Muon, orthogonalised

SHAPES = [(3, 16, 40), (3, 40, 16), (1, 8, 8), (2, 1, 30)]


def muon(*parameters: nn.Parameter, dtype: torch.dtype = torch.float32, **values: object) -> Muon:
    given = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "newton_schulz_steps": 5, **values}
    return Muon([{"params": list(parameters), "orthogonal": True, **given}], dtype=dtype)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_singular_vectors_stay_and_singular_values_come_near_1(
    shape: tuple[int, int, int], dtype: torch.dtype, error: float
) -> None:
    matrices = 1e-3 * random(*shape)
    steps = orthogonalised(matrices, 5, dtype)
    assert steps.dtype == dtype
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ steps.float() @ vh.mT
    values = torch.diagonal(inside, dim1=1, dim2=2)
    assert values.min() > 0.3
    assert values.max() < 1.25
    assert (inside - torch.diag_embed(values)).abs().max() < error


def test_a_gradient_of_zeros_is_no_step() -> None:
    assert torch.equal(orthogonalised(torch.zeros(1, 3, 4), 5, torch.float32), torch.zeros(1, 3, 4))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_on_matrices_it_is_torchs_muon(shape: tuple[int, int], nesterov: bool) -> None:
    ours, theirs = (nn.Parameter(random(*shape)) for _ in range(2))
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2, "nesterov": nesterov}
    optimizers = [muon(ours, dtype=torch.bfloat16, **values), torch.optim.Muon([theirs], **values)]
    for step in range(4):
        ours.grad = theirs.grad = random(*shape, seed=step + 1)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)  # bfloat16 on both sides
    assert (ours - random(*shape)).abs().max() > 0.1


def test_a_convolution_is_the_matrix_of_its_filters_in_any_memory_layout() -> None:
    flat = nn.Parameter(random(8, 6 * 9))
    convs = [nn.Parameter(random(8, 6 * 9).view(8, 6, 3, 3)) for _ in range(2)]
    convs[1].data = convs[1].data.to(memory_format=torch.channels_last)
    optimizer = muon(flat, *convs)
    for step in range(3):
        gradient = random(8, 6 * 9, seed=step + 1)
        flat.grad = gradient
        for conv in convs:
            conv.grad = torch.empty_like(conv).copy_(gradient.view(8, 6, 3, 3))
        optimizer.step()
    for conv in convs:
        torch.testing.assert_close(conv.flatten(1), flat)
    assert convs[1].is_contiguous(memory_format=torch.channels_last)


def check_steps(kind: type[torch.optim.Optimizer], values: dict[str, Any], **group: Any) -> None:
    """A group of Muon's steps as one of torch's optimizers does."""
    ours, theirs = (nn.ParameterList([random(5), random(4, 3)]) for _ in range(2))
    groups = [{"params": list(ours), **group}]
    optimizers = [Muon(groups, dtype=torch.float32), kind(theirs, **values)]
    for step in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = other.grad = random(*mine.shape, seed=step)
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_what_is_not_orthogonal_is_adamws() -> None:
    values = {"lr": 0.1, "weight_decay": 0.3}
    check_steps(torch.optim.AdamW, {**values, "betas": (0.9, 0.95), "eps": 1e-10}, **values)


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    used, unused = nn.Parameter(random(3, 4)), nn.Parameter(random(3, 4))
    optimizer = muon(used, unused, weight_decay=0.5)
    used.grad = random(3, 4, seed=1)
    optimizer.step()
    assert torch.equal(unused, random(3, 4))
    assert not torch.equal(used, random(3, 4))


def test_a_closure_is_called_for_the_loss() -> None:
    weight = nn.Parameter(random(3, 4))

    def closure() -> Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    before = weight.square().sum().item()
    assert muon(weight).step(closure).item() == pytest.approx(before)
    assert weight.square().sum().item() < before


def test_the_rest_by_sgd_is_torchs() -> None:
    values = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.85, "nesterov": True}
    check_steps(torch.optim.SGD, values, sgd=True, **values)


def test_weights_of_equal_shapes_step_together_as_each_alone_and_are_brought_to_one_norm() -> None:
    shapes = [(6, 4, 3, 3), (6, 4, 3, 3), (5, 7), (6, 4, 3, 3), (5, 7)]
    together, alone = (
        [nn.Parameter(random(*x, seed=i)) for i, x in enumerate(shapes)] for _ in range(2)
    )
    values = {"renormalise": True, "newton_schulz_steps": 3, "lr": 0.24, "momentum": 0.6}
    optimizers = [muon(*together, **values), *(muon(one, **values) for one in alone)]
    for step in range(3):
        for i, shape in enumerate(shapes):
            together[i].grad = alone[i].grad = random(*shape, seed=99 * step + i)
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
    # A step of no length leaves the norm alone.
    optimizers[0].param_groups[0]["lr"] = 0.0
    optimizers[0].step()
    for one in together:
        assert one.norm().item() == pytest.approx(len(one) ** 0.5, rel=1e-5)
