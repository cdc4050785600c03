"""Muon: steps along orthogonalised momentum for matrices, and AdamW or SGD for the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

# Keller Jordan's quintic: steep at 0, so that few iterations bring all singular values near 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
SMALLEST_NORM = 1e-7  # a gradient of zeros stays zeros
ADAMW_BETAS, ADAMW_EPS = (0.9, 0.95), 1e-10  # as in his "MuonWithAuxAdam"


class Muon(Optimizer):
    """Muon for the weights of hidden convolutions and linear layers, AdamW or SGD for the rest.

    Muon (Keller Jordan et al. 2024, kellerjordan.github.io/posts/muon, github.com/KellerJordan/
    Muon) sums gradients up as SGD with (Nesterov) momentum does, makes all singular values of the
    sum about 1, and takes that as the step. A convolution's weight counts as the matrix
    [channels out, channels in x height x width]. A step is scaled by sqrt(rows / columns) of a
    tall matrix, and weight decay is decoupled, as there. `torch.optim.Muon` takes 2-D
    parameters only, one after the other, and computes in bfloat16 also where that is slow.

    Args:
        groups: parameter groups. Those with `orthogonal` true take `lr`, `weight_decay`,
            `momentum`, `nesterov`, `newton_schulz_steps` and `renormalise` (to the norm sqrt(rows)
            before each step, as in airbench94_muon), and their parameters have at least 2
            dimensions; the others take `lr` and `weight_decay`, and with `sgd` true `momentum` and
            `nesterov`.
        dtype: what matrices are orthogonalised in; bfloat16 is enough.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, dtype: torch.dtype) -> None:
        # `fused` also tells `load_state_dict` that AdamW's count of steps lies on the device.
        defaults = {"lr": 0.0, "weight_decay": 0.0, "orthogonal": False, "fused": True}
        defaults |= {"sgd": False, "renormalise": False}
        super().__init__(groups, defaults)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters and group["orthogonal"]:
                self._step_matrices(parameters, group)
            elif parameters and group["sgd"]:
                self._step_sgd(parameters, group)
            elif parameters:
                self._step_rest(parameters, group)
        return loss

    def _step_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        momentum, rate = group["momentum"], group["lr"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = [self._moment(p, "momentum_buffer") for p in parameters]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        sums = buffers
        if group["nesterov"]:
            sums = list(torch._foreach_add(gradients, buffers, alpha=momentum))
        if group["renormalise"]:
            sizes = torch._foreach_norm(parameters)
            roots = [math.sqrt(len(p)) for p in parameters]
            torch._foreach_mul_(parameters, [r / x for r, x in zip(roots, sizes, strict=True)])
        elif group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        equal: dict[torch.Size, list[int]] = {}  # a batch of matrices costs little more than one
        for place, gradient in enumerate(sums):
            equal.setdefault(gradient.shape, []).append(place)
        for alike in equal.values():
            matrices = torch.stack([sums[i].flatten(1) for i in alike])  # [n, rows, columns]
            steps = orthogonalised(matrices, group["newton_schulz_steps"], self._dtype)
            _, rows, columns = steps.shape
            scale = math.sqrt(max(1, rows / columns))
            for i, step in zip(alike, steps, strict=True):
                parameters[i].add_(step.view(parameters[i].shape), alpha=-rate * scale)

    def _step_sgd(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        sgd(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self._moment(p, "momentum_buffer") for p in parameters],
            fused=True,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
        )

    def _step_rest(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros((), device=parameter.device)
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self._moment(p, "exp_avg") for p in parameters],
            [self._moment(p, "exp_avg_sq") for p in parameters],
            [],
            [self.state[p]["step"] for p in parameters],
            fused=True,
            amsgrad=False,
            beta1=ADAMW_BETAS[0],
            beta2=ADAMW_BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=ADAMW_EPS,
            maximize=False,
        )

    def _moment(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        moment: Tensor = state[name]
        return moment


def orthogonalised(matrices: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1 (0.7 to 1.2).

    Newton-Schulz iteration with a quintic polynomial, which needs products of matrices alone; 5
    `steps` bring singular values from a hundredth of the norm there. From [n, rows, columns], of
    any scale, to the same of `dtype`.
    """
    a, b, c = QUINTIC
    norms = torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=SMALLEST_NORM)
    x = (matrices / norms).to(dtype)  # no singular value is above 1
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x  # the smaller of the two squares
    for _ in range(steps):
        square = x @ x.mT  # [n, side, side]
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    turned: Tensor = x.mT if tall else x
    return turned
