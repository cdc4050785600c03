"""What the vision task answers: checks before the start, and what depends on the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan import preflight
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Machine
from cifar_tune.vision.opened import check_sizes
from cifar_tune.vision.task import VISION

MACHINE = Machine(cpus=2, gpus=0, gpu_name=None, cpu_name="x", cpu_bf16=True, gpu_bf16=False)


def test_a_mistake_in_a_model_of_ones_own_is_found_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(
        "import torch\n"
        "def build(config, num_classes):\n"
        "    [x.item() for x in torch.linspace(0, 1, 3)]\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))\n"
    )
    with pytest.raises(PlanError, match=r"own_net has no biuld; did you mean build"):
        VISION.find(load_plan(None, ["model.name=own_net:biuld"]))
    plan = load_plan(None, ["model.name=own_net:build"])
    VISION.find(plan)
    assert VISION.checkpoint_bytes(plan) == 4 * 2 * (3072 * 10 + 10)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    plan = load_plan(None, ["search.space.data.batch_size={int: [8, 200]}"])
    with pytest.raises(PlanError, match=r"can be 200, and there are 100 training images"):
        check_sizes(plan, 100)
    check_sizes(plan, 200)


def test_a_rung_within_the_warm_up_is_told() -> None:
    (note,) = [
        note for note in preflight.check(load_plan(), [MACHINE]).notes if "first rung" in note
    ]
    assert "rises until epoch 2.2 (optim.warmup_fraction)" in note
    assert "a search.grace_period of 3 is safer" in note
    for given in ("search.grace_period=3", "optim.schedule=constant", "search.scheduler=none"):
        assert not any(
            "first rung" in n for n in preflight.check(load_plan(None, [given]), [MACHINE]).notes
        )
