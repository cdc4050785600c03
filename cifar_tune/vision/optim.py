"""Optimizers and learning rate schedules: config in, torch objects out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cifar_tune.errors import PlanError
from cifar_tune.vision.config import OptimConfig
from cifar_tune.vision.models.stages import LAYERS as MATRICES
from cifar_tune.vision.models.stages import NORMS, head_of
from cifar_tune.vision.muon import Muon
from cifar_tune.vision.muon_rest import falls_early, sgd_settings, split_for_sgd

# One-cycle starts at 1/25 of the peak and ends at 1/10,000 of the start: torch's defaults, after
# Smith and Topin, "Super-Convergence" (2018).
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4
DECAY = 0.2  # last part of the steps in which warmup-stable-decay falls (Hägele et al. 2024)


def build_optimizer(module: nn.Module, config: OptimConfig, *, precision: str = "32") -> Optimizer:
    """SGD, AdamW or Muon over a module's trainable parameters.

    The last two groups are always weights, which decay, then biases and parameters of
    normalisation layers, which do not (Goyal et al. 2017, "Accurate, Large Minibatch SGD",
    section 5.3). With Muon the weights of hidden convolutions and linear layers stand before them.
    With `backbone_lr_factor` below 1 these are the groups of the last layer, and as many of all
    before it follow.

    Raises:
        PlanError: the module has no trainable parameter.
    """
    parameters = _split_parameters(module, config)
    if config.name == "muon" and config.muon_rest == "sgd":
        parameters = split_for_sgd(module, parameters)
    parameters = _of_head_and_backbone(module, parameters, config)
    if not any(parameters):
        raise PlanError(
            f"the model ({type(module).__name__}) has no trainable parameter; give it one, or leave"
            " requires_grad on"
        )
    settings = _settings(config)
    groups = [{"params": p, **s} for p, s in zip(parameters, settings, strict=True)]
    if config.name == "muon":
        return Muon(groups, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    # Fused is the fastest everywhere. Step on a ResNet-9 of width 16, one core of an EPYC Zen 4:
    # SGD 0.7 ms, loop 1.1, foreach 1.0 to 1.3; AdamW 1.1 ms, loop 2.1 to 2.5, foreach 1.8 to 2.1.
    # Under autocast Lightning clips no gradients of a fused optimizer, which may unscale them.
    fused = None if precision != "32" and config.gradient_clip else True
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.SGD
    return kind(groups, fused=fused)


def _of_head_and_backbone(
    module: nn.Module, groups: list[list[nn.Parameter]], config: OptimConfig
) -> list[list[nn.Parameter]]:
    """The groups of the layer that makes the logits, then those of all else, if rates differ."""
    if config.backbone_lr_factor == 1:
        return groups
    head = head_of(module)
    ids = {id(parameter) for parameter in head[1].parameters()} if head else set()
    return [
        [p for p in group if (id(p) in ids) is wanted]
        for wanted in (True, False)
        for group in groups
    ]


def _settings(config: OptimConfig) -> list[dict[str, Any]]:
    """What a config says of each parameter group."""
    settings, factor = _settings_of_head(config), config.backbone_lr_factor
    lower = [{**values, "lr": values["lr"] * factor} for values in settings]
    return settings if factor == 1 else [*settings, *lower]


def _settings_of_head(config: OptimConfig) -> list[dict[str, Any]]:
    nesterov = config.nesterov and config.momentum > 0  # torch refuses it without momentum
    momentum = {"momentum": config.momentum, "nesterov": nesterov}
    decay = config.weight_decay
    if config.name == "muon":
        steps = {"newton_schulz_steps": config.newton_schulz_steps}
        ours = {"renormalise": config.renormalise, **momentum, **steps}
        kept = 0.0 if config.renormalise else decay
        matrices = {"orthogonal": True, "lr": config.lr, "weight_decay": kept, **ours}
        if config.muon_rest == "sgd":
            return [matrices, *sgd_settings(config)]
        return [matrices, *({"lr": config.adamw_lr, "weight_decay": x} for x in (decay, 0.0))]
    more = {"betas": (config.momentum, 0.999)} if config.name == "adamw" else momentum
    return [{"lr": config.lr, "weight_decay": x, **more} for x in (decay, 0.0)]


def _split_parameters(module: nn.Module, config: OptimConfig) -> list[list[nn.Parameter]]:
    """The parameters of each group, each once and in a fixed order."""
    hidden: list[nn.Parameter] = []
    decaying: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    seen: set[int] = set()  # a parameter may be shared by two layers
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if parameter.ndim < 2 or isinstance(layer, NORMS):
                exempt.append(parameter)
            elif config.name == "muon" and isinstance(layer, MATRICES):
                hidden.append(parameter)
            else:
                decaying.append(parameter)
    if config.name != "muon":
        return [decaying, exempt]
    return [hidden[:-1], decaying + hidden[-1:], exempt]  # the last makes the logits


def build_schedule(optimizer: Optimizer, config: OptimConfig, total_steps: int) -> LambdaLR:
    """The schedule, to be stepped after each of `total_steps` optimizer steps, at least 1.

    `linear` and `cosine` rise in a straight line to 1 over `warmup_fraction` of the steps, and
    would reach 0 one step after the last, so that no step is wasted on a rate of 0. `one-cycle`
    is torch's `OneCycleLR` (cosine both ways) without its cycling of the momentum, which may be
    searched. Plain functions: nothing of them goes into a checkpoint, so a resumed run may have a
    longer schedule or another rate.
    """
    warmup = config.warmup_fraction * total_steps
    if config.schedule == "constant":
        return LambdaLR(optimizer, lambda _: 1.0)
    if config.schedule == "one-cycle":
        return LambdaLR(optimizer, lambda step: _one_cycle(step, warmup - 1, total_steps - 1))
    rise = fall = round(warmup)
    if config.schedule == "warmup-stable-decay":
        fall = max(rise, round((1 - DECAY) * total_steps))

    def rise_and_fall(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        fallen = min(1.0, max(0, step - fall) / max(1, total_steps - fall))
        return _cosine_between(1.0, 0.0, fallen) if config.schedule == "cosine" else 1 - fallen

    groups = len(optimizer.param_groups)
    return LambdaLR(optimizer, falls_early([rise_and_fall] * groups, config, total_steps))


def _one_cycle(step: int, peak: float, last: int) -> float:
    if step < peak:
        return _cosine_between(ONE_CYCLE_START, 1.0, step / peak)
    fallen = (step - peak) / (last - peak) if last > peak else 0.0
    return _cosine_between(1.0, ONE_CYCLE_END, min(1.0, fallen))


def _cosine_between(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def apply_config(optimizer: Optimizer, schedule: LambdaLR, config: OptimConfig) -> None:
    """Put a config's values into an optimizer and schedule that were restored from a checkpoint.

    With the config of the checkpoint this changes no bit; with another one (population based
    training, an extended search) the new rate, decay and momentum hold from the next step on.
    """
    factors = [of_group(schedule.last_epoch) for of_group in schedule.lr_lambdas]
    settings = _settings(config)
    schedule.base_lrs = [values["lr"] for values in settings]
    schedule._last_lr = [rate * x for rate, x in zip(schedule.base_lrs, factors, strict=True)]
    for group, values, x in zip(optimizer.param_groups, settings, factors, strict=True):
        group.update(values, initial_lr=values["lr"], lr=values["lr"] * x)
