"""Networks of torchvision and timm by their names: what they take, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from cifar_tune import load_plan
from cifar_tune.errors import PlanError
from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.models import build_model, check_model_name, weightless


def built(name: str, side: int = 32, **arguments: object) -> torch.nn.Module:
    config = ModelConfig.model_validate({"name": name, "args": arguments})
    with weightless(config):
        return build_model(config, num_classes=7, side=side)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("resnet18", 32),
        ("mobilenet_v3_small", 64),
        ("efficientnet_b0", 96),
        ("vit_b_32", 64),
        ("googlenet", 32),
        ("inception_v3", 96),
        ("regnet_y_400mf", 32),
        ("swin_t", 64),
    ],
)
def test_a_classifier_of_torchvision_gives_one_logit_a_class_at_the_size_of_the_images(
    name: str, side: int
) -> None:
    check_model_name(f"torchvision/{name}")
    network = built(f"torchvision/{name}", side)
    assert network.training
    with torch.device(next(network.parameters()).device):
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "torchvision/resnet81",
            r"no classifier of that name; did you mean torchvision/resnet18\?",
        ),
        ("torchvision/fasterrcnn_resnet50_fpn", "no network that classifies images"),
        ("torchvision/", "no classifier of that name"),
        (
            "timm/resnet18",
            r"timm is not installed; install it with pip install 'cifar-tune\[timm\]'",
        ),
        ("keras/resnet18", "must be one of net, .*, torchvision/NAME, timm/NAME, or your own"),
    ],
)
def test_a_name_that_no_family_has_is_refused(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_tune.vision.models.named.find_spec", lambda _: None)
    with pytest.raises(PlanError, match=message):
        check_model_name(name)


def test_arguments_of_a_constructor_are_passed_on_and_can_be_searched() -> None:
    plan = load_plan(None, [
        "search.space.model.name={choice: [resnet9, torchvision/mobilenet_v3_small]}",
        "search.space.model.args.dropout={uniform: [0.0, 0.5], when: {model.name: torchvision/mobilenet_v3_small}}",
    ])  # fmt: skip
    values = {"model.name": "torchvision/mobilenet_v3_small", "model.args.dropout": 0.25}
    run = plan.with_values(values, seed=0)  # type: ignore[arg-type]
    assert build_model(run.model, 10).classifier[2].p == 0.25  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"droput": 0.1},
            r"model\.args\.droput is 0\.1, .* has no such argument; it has .*dropout",
        ),
        ({"num_classes": 3}, "model.args.num_classes is 3, .* has no such argument"),
        ({"dropout": 5.0}, r"can't be built with dropout=5\.0 \(ValueError: dropout probability"),
    ],
)
def test_arguments_that_a_constructor_does_not_take_are_refused(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        built("torchvision/mobilenet_v3_small", **arguments)


STAND_IN = """
from types import SimpleNamespace
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes=1000, img_size=224, units=8):
        side = img_size // 8
        super().__init__(
            nn.Conv2d(3, units, 8, stride=8), nn.Flatten(), nn.Linear(units * side * side, num_classes)
        )

def is_model(name): return name in list_models()
def list_models(): return ["tiny_vit", "other"]
def get_pretrained_cfg(name): return SimpleNamespace(fixed_input_size=name == "tiny_vit")
def create_model(name, pretrained, **arguments): return Net(**arguments)
"""


def test_timms_networks_are_built_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    check_model_name("timm/tiny_vit")
    network = built("timm/tiny_vit", 64, units=4)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(PlanError, match=r"timm has no network of that name; did you mean timm/ti"):
        check_model_name("timm/tiny_vat")
    with pytest.raises(PlanError, match=r"model\.args\.unit is 4, .* did you mean units"):
        built("timm/tiny_vit", 64, unit=4)
    monkeypatch.delitem(sys.modules, "timm")


@pytest.mark.parametrize("side", [8, 33, 64, 128])
@pytest.mark.parametrize("name", ["resnet9", "resnet18"])
def test_our_resnets_take_images_of_any_side_from_8(name: str, side: int) -> None:
    network = build_model(ModelConfig(name=name, width=4), num_classes=7, side=side)
    assert network(torch.rand(2, 3, side, side)).shape == (2, 7)
