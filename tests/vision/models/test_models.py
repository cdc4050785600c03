"""Networks by name: ours, the user's own, and every way in which a name can be wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_tune import load_plan
from cifar_tune.errors import PlanError
from cifar_tune.vision.config import ModelConfig, possible_models
from cifar_tune.vision.models import MODEL_NAMES, build_model, check_model_name

OWN = """
import torch
from torch import nn
import random

def build(config, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(config.l1), nn.Linear(config.l1, num_classes))

def wrong_signature(num_classes): ...
def wrong_type(config, num_classes): return "a net"
def wrong_outputs(config, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes + 1))
def wrong_inputs(config, num_classes): return nn.Linear(7, num_classes)
def broken(config, num_classes): raise ValueError("no such width")
not_callable = 3

def leaves(config, num_classes):
    raise SystemExit("no weights here")

class LeavesLater(nn.Linear):
    def forward(self, x):
        raise KeyboardInterrupt

def leaves_later(config, num_classes): return LeavesLater(1, num_classes)

def wanders(config, num_classes):
    import os
    os.chdir("/")
    return build(config, num_classes)
"""


@pytest.fixture
def own_module(own_code: Callable[[str], str]) -> str:
    """The name of a module in the current directory, which is not on the path."""
    return own_code(OWN)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_gives_one_logit_a_class(name: str) -> None:
    check_model_name(name)
    model = build_model(ModelConfig(name=name, width=4, l1=8, l2=4), num_classes=7)
    logits = model(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32


def test_torchvision_is_imported_for_resnet18_alone() -> None:
    code = (
        "import sys\n"
        "from cifar_tune.vision.config import ModelConfig\n"
        "from cifar_tune.vision.models import build_model, check_model_name\n"
        "check_model_name('resnet18')\n"
        "assert 'torch' not in sys.modules\n"
        "build_model(ModelConfig(), 10)\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_users_own_model_is_found_in_the_current_directory(own_module: str) -> None:
    name = f"{own_module}:build"
    path = list(sys.path)
    check_model_name(name)
    model = build_model(ModelConfig(name=name, l1=6), num_classes=5)
    assert isinstance(model, nn.Sequential)
    assert model.training
    assert model[1].weight.shape == (6, 3072), "lazy layers are filled"
    assert sys.path == path, "the path is as before"


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("bild", "has no bild; did you mean build?"),
        ("not_callable", "is int; it must be a function"),
        ("wrong_signature", r"can't be called as build\(config, num_classes\)"),
        ("wrong_type", "returned str; it must return a torch.nn.Module"),
        ("wrong_outputs", r"made \[2, 5\] of images .* logits \[batch, 4\]"),
        ("wrong_inputs", r"calling it on images \[2, 3, 32, 32\] raised RuntimeError"),
        ("broken", r"building it raised ValueError: no such width at .*\.py:14"),
        ("leaves", r"building it called sys\.exit\('no weights here'\) at .*\.py:18; it must"),
        ("leaves_later", r"calling it on images .* raised KeyboardInterrupt at .*\.py:22"),
    ],
)
def test_what_is_wrong_with_the_users_model_is_told(
    own_module: str, attribute: str, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        build_model(ModelConfig(name=f"{own_module}:{attribute}"), num_classes=4)


def test_building_it_leaves_the_directory_as_it_was(own_module: str) -> None:
    before = Path.cwd()
    build_model(ModelConfig(name=f"{own_module}:wanders"), num_classes=5)
    assert Path.cwd() == before


@pytest.mark.parametrize(
    "act", [check_model_name, lambda name: build_model(ModelConfig(name=name), 4)]
)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nets.small", r"must be one of .* did you mean nets\.small:build\?"),
        ("resnet99", "must be one of net, resnet9, resnet18, .* did you mean resnet9?"),
        ("no_such_module:build", "no module no_such_module that can be imported"),
        ("no_such.module:build", "no module no_such.module that can be imported .ModuleNotFound"),
        ("a module:build", "your own model is named package.module:build"),
        ("module:", "your own model is named package.module:build"),
        (":build", "your own model is named package.module:build"),
        ("../escape:build", "your own model is named package.module:build"),
    ],
)
def test_a_name_that_names_nothing_is_refused(act, name: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        act(name)


def test_an_error_in_the_users_file_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written.py").write_text("import torch\n\nimport no_such_dependency\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PlanError, match=r"No module named 'no_such_dependency' at .*half_written\.py:3"
    ):
        build_model(ModelConfig(name="half_written:build"), 4)


WITH_ARGUMENTS = """
from torch import nn

def build(config, num_classes, *, dropout=0.0, units=8):
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(3072, units), nn.Linear(units, num_classes)
    )
"""


def test_a_network_of_ones_own_has_arguments_of_its_own_each_of_which_can_be_searched(
    own_code: Callable[[str], str],
) -> None:
    name = f"{own_code(WITH_ARGUMENTS)}:build"
    plan = load_plan(None, [
        f"model.name={name}", "model.args.units=5", "search.space.model.args.dropout={uniform: [0.0, 0.5]}",
    ])  # fmt: skip
    run = plan.with_values({"model.args.dropout": 0.25}, seed=0)
    network = build_model(run.model, 10)
    assert (network[1].p, network[2].out_features) == (0.25, 5)
    assert run.as_values()["model"]["args"] == {"units": 5, "dropout": 0.25}


def test_arguments_may_depend_on_which_network_is_drawn(own_code: Callable[[str], str]) -> None:
    name = f"{own_code(WITH_ARGUMENTS)}:build"
    plan = load_plan(None, [
        f"search.space.model.name={{choice: [resnet9, '{name}']}}",
        f"search.space.model.args.units={{int: [4, 6], when: {{model.name: '{name}'}}}}",
    ])  # fmt: skip
    models = possible_models(plan)  # type: ignore[arg-type]
    assert [(one.name, one.args.model_extra) for one in models] == [
        ("resnet9", {}),
        (name, {"units": 6}),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "build",
            r"model\.args\.droput is 0\.1, and .*:build has no such argument; it has dropout, units; did you mean dropout",
        ),
        (
            "resnet9",
            r"model\.args has droput, and resnet9 takes no arguments; leave it out, or name a network that does",
        ),
    ],
)
def test_an_argument_that_a_network_has_not_is_refused(
    name: str, message: str, own_code: Callable[[str], str]
) -> None:
    if name == "build":
        name = f"{own_code(WITH_ARGUMENTS)}:build"
    plan = load_plan(None, [f"model.name={name}", "model.args.droput=0.1"])
    with pytest.raises(PlanError, match=message):
        build_model(plan.model, 10)  # type: ignore[attr-defined]
