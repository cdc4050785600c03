"""Every shipped config loads, fits on a screen, and runs a step."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import LambdaCallback

from cifar_tune.plan import preflight
from cifar_tune.plan.load import config_folder, load_plan
from cifar_tune.plan.machine import Machine
from cifar_tune.search.configurations import Configurations
from cifar_tune.vision.data import prepare, prepare_drawn, search_data

CONFIGS = sorted(config_folder().glob("*.yaml"))
MACHINE = Machine(cpus=2, gpus=0, gpu_name=None, cpu_name="x", cpu_bf16=True, gpu_bf16=False)


def test_the_configs_are_those_that_the_readme_names() -> None:
    names = {path.stem for path in CONFIGS}
    assert names == {
        "asha", "folder", "folder-scratch", "grid", "lecture", "quickstart", "random", "speed94",
    }  # fmt: skip


def test_the_defaults_are_asha_yaml() -> None:
    assert load_plan("asha") == load_plan()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_fits_on_a_screen_and_passes_preflight(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 50
    assert max(len(line) for line in text.splitlines()) <= 100
    assert preflight.check(load_plan(path), [MACHINE]).plan.search.num_samples >= 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains_a_step(path: Path, image_folder: Path) -> None:
    from cifar_tune.train.fit import fit

    sizes = ["data.train_size=null", "data.val_size=100", "data.confirm_size=50"]
    nothing_to_download = ["model.weights=null"] if path.stem == "folder" else []
    plan = load_plan(path, [*sizes, f"data.path={image_folder}", *nothing_to_download])
    plan = preflight.check(plan, [MACHINE]).plan
    values = {**Configurations(plan)[0], "data.batch_size": 16, "model.width": 2}
    data = search_data(prepare(plan.data, lambda note: None), plan.data)
    result = fit(plan.run(values, 0), data, fast_dev_run=True)
    assert result.metrics["epoch"] == 1


@pytest.mark.faults
def test_the_gpu_recipe_learns_when_it_is_narrow() -> None:
    from cifar_tune.train.fit import fit

    sizes = ["data.val_size=300", "data.confirm_size=0", "data.batch_size=100"]
    narrow = ["model.width=4", "optim.head_lr=0.17"]  # of the summed loss; it goes by the width
    plan = load_plan("speed94", [*sizes, *narrow, "train.max_epochs=4"])
    data = search_data(prepare_drawn(lambda note: None, 3300, 100), plan.data)
    losses: list[float] = []
    watching = LambdaCallback(
        on_validation_end=lambda _, module: losses.append(module.epoch_metrics["val_loss"])
    )
    result = fit(plan.run({}, 0), data, callbacks=[watching])
    assert losses[-1] < losses[0] - 0.2
    assert result.metrics["best_val_accuracy"] > 0.25  # of ten classes


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_has_nothing_to_note_of_its_own_first_rung(path: Path) -> None:
    assert not any("rung" in note for note in preflight.check(load_plan(path), [MACHINE]).notes)


def test_the_lecture_is_to_the_letter() -> None:
    plan = load_plan("lecture")
    assert plan.search.space == {
        "model.l1": {"pow2": [4, 256]},
        "model.l2": {"pow2": [4, 256]},
        "optim.lr": {"loguniform": [1e-4, 1e-1]},
        "data.batch_size": {"choice": [2, 4, 8, 16]},
    }
    assert (plan.search.metric, plan.search.mode, plan.search.winner_by) == (
        "val_loss",
        "min",
        "last",
    )
    assert (plan.search.grace_period, plan.search.reduction_factor) == (1, 2)
    assert plan.resources.cpus_per_trial == 2
