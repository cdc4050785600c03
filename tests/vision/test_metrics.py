"""Figures of a validation besides accuracy and loss, against their definitions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_images import toy_data, toy_run

from cifar_tune import load_plan, run_search
from cifar_tune.errors import PlanError
from cifar_tune.train.fit import fit
from cifar_tune.vision.config import MODES
from cifar_tune.vision.metrics import METRICS, Validation

NAMES = ("macro_f1", "balanced_accuracy", "top5_accuracy", "calibration_error")


def by_hand(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The same from the definitions, in numpy."""
    sure, taken, true = (
        logits.softmax(1).max(1).values.numpy(),
        logits.argmax(1).numpy(),
        labels.numpy(),
    )
    recalls, f1s = [], []
    for one in range(logits.shape[1]):
        hit, said, is_one = (
            ((taken == one) & (true == one)).sum(),
            (taken == one).sum(),
            (true == one).sum(),
        )
        recalls.append(hit / is_one)
        f1s.append(2 * hit / (said + is_one))
    top = np.mean(
        [
            label in row
            for label, row in zip(true, np.argsort(-logits.numpy(), 1)[:, :5], strict=True)
        ]
    )
    bins = np.minimum((sure * 15).astype(int), 14)
    gaps = [
        abs((taken == true)[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    ]
    return {
        "val_macro_f1": float(np.mean(f1s)), "val_balanced_accuracy": float(np.mean(recalls)),
        "val_top5_accuracy": float(top), "val_calibration_error": float(sum(gaps)),
    }  # fmt: skip


def test_each_figure_is_what_its_definition_says() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(700) % 7
    logits = 2 * torch.randn(700, 7, generator=generator)
    logits[torch.arange(0, 700, 3), labels[::3]] += 3
    collected = Validation(NAMES)
    for part in range(0, 700, 100):
        collected.add(logits[part : part + 100], labels[part : part + 100])
    assert collected.figures(workers=1) == pytest.approx(by_hand(logits, labels), abs=1e-6)
    assert {f"val_{name}" for name in METRICS} | {"val_accuracy", "val_loss"} == set(MODES)


def test_nothing_is_kept_where_nothing_is_asked() -> None:
    collected = Validation(())
    collected.add(torch.zeros(2, 3), torch.zeros(2))
    assert collected.figures(workers=1) == {}


def test_a_training_reports_what_it_is_asked_for() -> None:
    figures = fit(toy_run(train__metrics=list(NAMES)), toy_data()).metrics
    assert {f"val_{name}" for name in NAMES} <= set(figures)
    assert set(figures) - {f"val_{name}" for name in NAMES} == set(
        fit(toy_run(), toy_data()).metrics
    )


def test_a_search_can_go_by_any_of_them_and_its_tables_show_it(
    tmp_path: Path, image_folder: Path, small_plan: list[str], ray_session: None
) -> None:
    plan = load_plan(None, [
        *small_plan, "search.metric=val_macro_f1", "train.metrics=[calibration_error]", "finals.seeds=0",
        "search.num_samples=2", "train.max_epochs=1", f"out={tmp_path}", f"data.path={image_folder}",
    ])  # fmt: skip
    results = run_search(plan, quiet=True)
    winner = results.winner()
    assert winner is not None
    assert winner["val_macro_f1"] == max(
        t.results[1]["val_macro_f1"] for t in results.trials.values()
    )
    with (results.folder / "trials.csv").open() as file:
        row = next(csv.DictReader(file))
    assert 0 <= float(row["val_calibration_error"]) <= 1
    exact = results.trials["t0001"].results[1]["val_macro_f1"]
    assert float(row["val_macro_f1"]) == pytest.approx(exact, rel=1e-5)


def test_a_metric_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"search\.metric is 'val_f1'; .*did you mean val_macro_f1"):
        load_plan(None, ["search.metric=val_f1"])
    with pytest.raises(PlanError, match=r"train\.metrics is 'f1'; it must be one of macro_f1"):
        load_plan(None, ["train.metrics=[f1]"])
