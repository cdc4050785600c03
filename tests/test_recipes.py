"""The recipes of CONTRIBUTING.md, each done from outside the package."""

from __future__ import annotations

import re
from pathlib import Path

import command_line
import pytest
from torchmetrics.functional.classification import multiclass_cohen_kappa
from toy_images import toy_data, toy_run

from cifar_tune import Results, load_plan
from cifar_tune.train.fit import fit
from cifar_tune.vision.config import MODES, VisionPlan
from cifar_tune.vision.metrics import METRICS

SEARCHER = '''
class Halves:
    """Halves the learning rate from trial to trial."""

    def suggest(self, index, fixed):
        return {"optim.lr": 0.5**index, **fixed} if index < 3 else None

    def observe(self, event, results):
        """Nothing is learnt."""

def factory(plan):
    return Halves()
'''
NETWORK = """
import torch

def build(config, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))
"""


def test_a_new_searcher_and_a_new_network(tmp_path: Path, small_plan: list[str]) -> None:
    (tmp_path / "recipe_searcher.py").write_text(SEARCHER)
    (tmp_path / "recipe_network.py").write_text(NETWORK)
    changes = [
        *small_plan, "search.searcher=recipe_searcher:factory", "model.name=recipe_network:build",
        "search.space={optim.lr: {loguniform: [0.1, 1.0]}}", "train.max_epochs=1", "finals.seeds=0",
        "search.num_samples=5", f"out={tmp_path}", "name=outside",
    ]  # fmt: skip
    sets = [word for change in changes for word in ("--set", change)]
    done = command_line.run("tune", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results.read(tmp_path / "outside")
    assert [trial.values for trial in results.trials.values()] == [
        {"optim.lr": 0.5**index} for index in range(3)
    ]
    assert results.winner() is not None


def test_a_new_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODES, "val_kappa", "max")
    monkeypatch.setitem(METRICS, "kappa", multiclass_cohen_kappa)
    plan = load_plan(None, ["search.metric=val_kappa"])
    assert isinstance(plan, VisionPlan)
    assert plan.measured == ["val_accuracy", "val_loss", "val_kappa"]
    figures = fit(toy_run(train__metrics=["kappa"]), toy_data()).metrics
    assert -1 <= figures["val_kappa"] <= 1


def test_every_file_that_the_guide_names_is_there() -> None:
    root = Path(__file__).parent.parent
    guide = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", guide)
    assert len(named) > 20
    missing = [
        n for n in named if not any((base / n).exists() for base in (root, root / "cifar_tune"))
    ]
    assert not missing


def test_the_reading_path_is_one_evening() -> None:
    root = Path(__file__).parent.parent
    guide = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    path = guide[guide.index("## Start here") : guide.index("## Recipes")]
    files = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", path)
    lines = sum(len((root / "cifar_tune" / file).read_text().splitlines()) for file in files)
    assert 2000 <= lines <= 3500, lines
