"""What the vision task answers: checks before the start, and what depends on the images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan import preflight
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Machine
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


def test_too_few_steps_to_learn_much_are_a_note_and_parts_of_the_images_become_numbers(
    image_folder: Path,
) -> None:
    given = [f"data.path={image_folder}", "search.space.data.batch_size={int: [8, 200]}"]
    found = VISION.find(load_plan(None, [*given, "data.val_size=0.1"]))
    assert (found.plan.data.val_size, found.plan.data.confirm_size) == (40, 80)
    assert found.sentences[-1].startswith("a training with data.batch_size 200 has 9 steps")
    longer = VISION.find(load_plan(None, [*given, "train.max_epochs=100"]))
    assert not any("steps" in sentence for sentence in longer.sentences)


def test_validation_images_that_do_not_reach_for_all_workers_are_refused(
    image_folder: Path,
) -> None:
    given = [f"data.path={image_folder}", "resources.workers_per_trial=12", "data.val_size=0.025"]
    with pytest.raises(PlanError, match=r"data\.val_size can be 10, shared by 12 workers"):
        VISION.find(load_plan(None, given))


def test_a_model_of_ones_own_is_built_for_the_classes_of_the_data(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three_net.py").write_text(
        "import torch\n"
        "def build(config, num_classes):\n"
        "    assert num_classes == 3, num_classes\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))\n"
    )
    for split in ("train", "test"):
        for name in sorted(path.name for path in (image_folder / split).iterdir())[:3]:
            shutil.copytree(image_folder / split / name, tmp_path / "three" / split / name)
    own = "model.name=three_net:build"
    VISION.find(load_plan(None, [own, f"data.path={tmp_path / 'three'}"]))
    with pytest.raises(PlanError, match=r"three_net:build.*AssertionError: 10"):
        VISION.find(load_plan(None, [own, f"data.path={image_folder}"]))


def test_a_rung_within_the_warm_up_is_told() -> None:
    def notes(*given: str) -> list[str]:
        told = preflight.check(load_plan(None, given), [MACHINE]).notes
        return [note for note in told if "first rung" in note]

    early = "search.grace_period=1"
    (note,) = notes(early)
    assert "rises until epoch 2.2 (optim.warmup_fraction)" in note
    assert "search.grace_period: auto is safer" in note
    for given in ("search.grace_period=3", "optim.schedule=constant", "search.scheduler=none"):
        assert not notes(early, given)
    assert not notes()


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ([], 3),  # the learning rate rises until 2.25
        (["train.max_epochs=27"], 7),
        (["train.max_epochs=27", "optim.schedule=constant"], 3),
        (["train.max_epochs=27", "search.reduction_factor=2", "optim.warmup_fraction=0"], 7),
        (["search.space.optim.warmup_fraction={uniform: [0.1, 0.5]}"], 5),
        (["search.space.optim.schedule={choice: [constant, linear]}"], 3),
        (["optim.warmup_fraction=0.99"], 9),
        (["train.max_epochs=1"], 1),
        (["search.grace_period=2"], 2),
    ],
)
def test_the_first_rung_comes_after_the_warm_up_of_every_trial(
    given: list[str], first: int
) -> None:
    assert preflight.check(load_plan(None, given), [MACHINE]).plan.search.grace_period == first
