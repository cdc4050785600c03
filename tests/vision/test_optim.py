"""Optimizers spare biases and norms from decay; schedules start, peak and end where they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cifar_tune.errors import PlanError
from cifar_tune.vision.config import OptimConfig
from cifar_tune.vision.models.speednet import SpeedNet
from cifar_tune.vision.optim import apply_config, build_optimizer, build_schedule


class Small(nn.Module):
    """One of each kind of parameter, a frozen one, and a shared one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.batch_norm = nn.BatchNorm2d(4)
        self.layer_norm = nn.LayerNorm((4, 8, 8))
        self.linear = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.linear.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def learning_rates(steps: int, **values: Any) -> list[float]:
    """The rate of each step of a training of `steps`, as an optimizer sees it."""
    config = OptimConfig(lr=0.5, **values)
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_schedule(optimizer, config, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_do_not_decay_and_every_parameter_is_there_once(name: str) -> None:
    small = Small()
    optimizer = build_optimizer(small, OptimConfig(name=name, weight_decay=0.3))
    decaying, exempt = optimizer.param_groups
    assert decaying["weight_decay"] == 0.3
    assert {id(p) for p in decaying["params"]} == {id(small.conv.weight), id(small.linear.weight)}
    assert len(decaying["params"]) == 2
    assert exempt["weight_decay"] == 0
    expected = [small.conv, small.linear]
    wanted = {id(layer.bias) for layer in expected} | {
        id(p) for norm in (small.batch_norm, small.layer_norm) for p in norm.parameters()
    }
    assert {id(p) for p in exempt["params"]} == wanted


def test_momentum_is_adamws_first_beta() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(name="adamw", momentum=0.8))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.999)


def test_sgd_without_momentum_is_plain_whatever_nesterov_says() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(momentum=0.0, nesterov=True))
    assert optimizer.param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_gradients_that_are_clipped_under_autocast_are_not_left_to_a_fused_step(name: str) -> None:
    config = OptimConfig(name=name, gradient_clip=1.0)
    for precision, fused in (("32", True), ("bf16", None), ("16", None)):
        optimizer = build_optimizer(nn.Linear(2, 2), config, precision=precision)
        assert optimizer.param_groups[0]["fused"] is fused


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(PlanError, match=r"\(Flatten\) has no trainable parameter"):
        build_optimizer(nn.Flatten(), OptimConfig())


def test_constant_stays() -> None:
    assert learning_rates(5, schedule="constant") == [0.5] * 5


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_warm_up_rises_to_the_peak_and_the_fall_ends_just_above_zero(schedule: str) -> None:
    rates = learning_rates(100, schedule=schedule, warmup_fraction=0.2)
    assert rates[0] == pytest.approx(0.5 / 21)
    assert rates[20] == max(rates) == 0.5
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_linear_and_cosine_are_at_half_in_the_middle_of_their_fall() -> None:
    for schedule in ("linear", "cosine"):
        assert learning_rates(100, schedule=schedule, warmup_fraction=0.2)[60] == pytest.approx(
            0.25
        )


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    for schedule in ("linear", "cosine", "one-cycle"):
        rates = learning_rates(50, schedule=schedule, warmup_fraction=0.0)
        assert rates[0] == pytest.approx(0.5, rel=2e-2), schedule
        assert rates == sorted(rates, reverse=True), schedule


@pytest.mark.parametrize("steps", [40, 97])
def test_one_cycle_is_torchs(steps: int) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.5, total_steps=steps, pct_start=0.25, cycle_momentum=False
    )
    expected = []
    for _ in range(steps):
        expected.append(torchs.get_last_lr()[0])
        optimizer.step()
        torchs.step()
    assert learning_rates(steps, schedule="one-cycle") == pytest.approx(expected, rel=1e-9)


def test_warmup_stable_decay_stays_at_the_peak_until_the_last_fifth() -> None:
    rates = learning_rates(100, schedule="warmup-stable-decay", warmup_fraction=0.1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:81] == [0.5] * 71
    assert rates[90] == pytest.approx(0.25)
    assert 0 < rates[99] < 0.03
    long = learning_rates(100, schedule="warmup-stable-decay", warmup_fraction=0.95)
    assert long[95] == 0.5, "a warm-up that is longer than that leaves the rest to the decay"


@pytest.mark.parametrize(
    "schedule", ["constant", "cosine", "linear", "one-cycle", "warmup-stable-decay"]
)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_of_very_few_steps_has_finite_positive_rates(schedule: str, steps: int) -> None:
    for warmup_fraction in (0.0, 0.25, 0.99):
        rates = learning_rates(steps, schedule=schedule, warmup_fraction=warmup_fraction)
        assert all(0 < rate <= 0.5 for rate in rates), rates


def test_muon_takes_hidden_convolutions_and_linear_weights_and_adamw_the_rest() -> None:
    small = Small()
    embedding = nn.Embedding(3, 2)
    model = nn.Sequential(embedding, small, nn.Linear(4, 2))
    optimizer = build_optimizer(model, OptimConfig(name="muon", weight_decay=0.3, adamw_lr=0.02))
    hidden, decaying, exempt = optimizer.param_groups
    assert [id(p) for p in hidden["params"]] == [id(small.conv.weight), id(small.linear.weight)]
    assert [id(p) for p in decaying["params"]] == [id(embedding.weight), id(model[2].weight)]
    assert len(exempt["params"]) == 3 + 4, "biases, and scale and bias of two norms"
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02, 0.02]
    assert [group["orthogonal"] for group in optimizer.param_groups] == [True, False, False]


def test_both_rates_of_muon_follow_the_schedule() -> None:
    config = OptimConfig(name="muon", lr=0.2, adamw_lr=0.01, schedule="linear", warmup_fraction=0.0)
    _, schedule = stepped(config, 5)
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.005, 0.005])


def stepped(config: OptimConfig, steps: int) -> tuple[Any, Any]:
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_schedule(optimizer, config, 10)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    return optimizer, schedule


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_applying_the_config_that_is_there_changes_nothing(name: str) -> None:
    optimizer, schedule = stepped(OptimConfig(name=name), 4)
    before = optimizer.state_dict()["param_groups"], schedule.state_dict()
    apply_config(optimizer, schedule, OptimConfig(name=name))
    assert (optimizer.state_dict()["param_groups"], schedule.state_dict()) == before


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_applying_another_config_holds_for_all_later_steps(name: str) -> None:
    optimizer, schedule = stepped(OptimConfig(name=name, lr=0.1), 4)
    more = {"adamw_lr": 0.02, "newton_schulz_steps": 3} if name == "muon" else {}
    new = OptimConfig(name=name, lr=0.3, momentum=0.5, weight_decay=0.01, **more)
    apply_config(optimizer, schedule, new)
    expected, their_schedule = stepped(new, 4)
    assert optimizer.state_dict()["param_groups"] == expected.state_dict()["param_groups"]
    schedule.step()
    their_schedule.step()
    assert schedule.get_last_lr() == their_schedule.get_last_lr()


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_all_but_the_last_layer_can_have_a_lower_rate_through_the_whole_schedule(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    config = OptimConfig(name=name, lr=0.5, adamw_lr=0.05, backbone_lr_factor=0.1)
    optimizer = build_optimizer(network, config)
    schedule = build_schedule(optimizer, config, 10)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    last = 0.05 if name == "muon" else 0.5
    start = schedule.lr_lambdas[0](0)
    assert [rates[id(p)] / start for p in network[2].parameters()] == pytest.approx([last] * 2)
    hidden = 0.5  # also of Muon's matrices
    expected = [hidden * 0.1, *[last * 0.1] * 3]
    found = [rates[id(p)] / start for layer in network[:2] for p in layer.parameters()]
    assert found == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * start), "the rate that is told"


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_lower_rate_of_the_backbone_survives_a_restart_and_another_config(name: str) -> None:
    old = OptimConfig(name=name, backbone_lr_factor=0.1)
    optimizer, schedule = stepped(old, 4)
    before = optimizer.state_dict()["param_groups"], schedule.state_dict()
    apply_config(optimizer, schedule, old)
    assert (optimizer.state_dict()["param_groups"], schedule.state_dict()) == before
    new = OptimConfig(name=name, lr=0.3, backbone_lr_factor=0.5)
    apply_config(optimizer, schedule, new)
    expected, _ = stepped(new, 4)
    assert optimizer.state_dict()["param_groups"] == expected.state_dict()["param_groups"]


def test_without_a_lower_rate_the_groups_are_those_of_ever() -> None:
    assert len(build_optimizer(nn.Linear(2, 2), OptimConfig()).param_groups) == 2


def test_airbenchs_rules_are_fields() -> None:
    config = OptimConfig(
        name="muon", muon_rest="sgd", renormalise=True, schedule="linear", warmup_fraction=0.0,
        weight_decay=4e-3, head_lr=0.5, bias_lr=0.05, whitening_bias_fraction=0.375,
    )  # fmt: skip
    model = SpeedNet(8, 10)
    optimizer = build_optimizer(model, config)
    matrices, head, biases, whitening = optimizer.param_groups
    assert len(matrices["params"]) == 6
    assert head["params"] == [model.head.weight]
    assert len(biases["params"]) == 6
    assert [id(one) for one in whitening["params"]] == [id(model.whitening.bias)]
    assert [group["weight_decay"] for group in (matrices, head, biases)] == pytest.approx(
        [0, 4e-3 / 0.5, 4e-3 / 0.05]
    )
    schedule = build_schedule(optimizer, config, 80)
    rates = []
    for _ in range(80):
        rates.append(schedule.get_last_lr())
        apply_config(optimizer, schedule, config)  # as after a checkpoint: changes nothing
        assert schedule.get_last_lr() == rates[-1]
        optimizer.step()
        schedule.step()
    assert [rate[2] for rate in rates] == pytest.approx([0.05 * (1 - i / 80) for i in range(80)])
    early = [0.05 * max(0.0, 1 - i / 30) for i in range(80)]
    assert [rate[3] for rate in rates] == pytest.approx(early)
