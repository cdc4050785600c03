"""What runs in a process of its own comes back as if it had run here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_tune.plan.load import load_plan
from cifar_tune.record.trials import Trial
from cifar_tune.train.apart import ApartError, apart
from cifar_tune.train.reproduce import RecordedTrial
from cifar_tune.vision import evaluate


def test_a_function_runs_in_another_process_and_its_error_is_raised_here() -> None:
    assert apart(os.getppid) == os.getpid()
    with pytest.raises(ValueError, match="invalid literal for int"):
        apart(int, "x")


def test_the_death_of_the_process_is_told() -> None:
    with pytest.raises(ApartError, match=r"the process that ran _exit died with exit code 3"):
        apart(os._exit, 3)


def test_where_there_is_a_gpu_models_are_scored_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(evaluate, "apart", lambda *_: asked.append("apart"))
    monkeypatch.setattr(evaluate, "_loaded_logits", lambda *_: asked.append("here"))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    for gpu in (True, False):
        evaluate.loaded_logits(Path("x"), images, gpu=gpu, flip_averaging=False, threads=1)
    assert asked == ["apart", "here"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["resources.gpus_per_trial=1"], True),
        (["resources.gpus_per_trial=1", "train.deterministic=true"], False),
        (["resources.gpus_per_trial=0"], False),
    ],
)
def test_a_repetition_on_a_gpu_may_differ_in_its_last_digits_and_says_so(
    given: list[str], told: bool
) -> None:
    plan = load_plan(None, given)
    trial = Trial(trial_id="t0001", index=0, seed=0, values={}, created=0.0)
    recorded = RecordedTrial(
        trial=trial, plan=plan, run=plan.run({}, 0), epochs={}, facts={}, note=""
    )
    assert any("may differ in their last digits" in line for line in recorded.introduce()) == told
