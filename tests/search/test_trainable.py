"""What a trial's process does before it trains: a GPU of which it may have its share, and no more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.search.trainable import _reset_process

CALLS = ("empty_cache", "reset_peak_memory_stats", "set_per_process_memory_fraction")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What is asked of a GPU of 10 GB, in order."""
    asked: list[tuple[str, ...]] = []
    for name in CALLS:
        monkeypatch.setattr(
            torch.cuda, name, lambda *given, name=name: asked.append((name, *given))
        )
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=10_000_000_000)
    )
    return asked


def plan(gpus: str) -> Plan:
    given: Plan = load_plan(None, [f"resources.gpus_per_trial={gpus}"])
    return given


@pytest.mark.parametrize(
    ("gpus", "alone", "share"),
    [
        ("0.5", False, 0.45),
        ("0.25", False, 0.2),
        ("0.5", True, 1.0),
        ("1", False, 1.0),
        ("2", False, 1.0),
    ],
)
def test_a_process_that_was_another_trials_gets_its_share_less_what_cuda_takes(
    gpus: str, alone: bool, share: float, calls: list[tuple[str, ...]]
) -> None:
    _reset_process(plan(gpus), alone=alone)
    assert [name for name, *_ in calls] == list(CALLS)
    assert calls[-1][1] == pytest.approx(share)


def test_without_a_gpu_nobody_asks_for_one(calls: list[tuple[str, ...]]) -> None:
    _reset_process(plan("0"), alone=False)
    assert calls == []
