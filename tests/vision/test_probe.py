"""Networks that can't do what the plan asks are refused before the start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_tune import load_plan
from cifar_tune.errors import PlanError
from cifar_tune.vision.probe import try_networks
from cifar_tune.vision.task import VISION


def tried(*given: str, side: int = 32, train_size: int = 640) -> None:
    try_networks(load_plan(None, list(given)), 7, side, train_size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        (
            "torchvision/alexnet",
            32,
            r"can't take images of 32 x 32 pixels \(RuntimeError",
        ),
        ("torchvision/vit_h_14", 32, r"can't take images of 32 x 32 .*indivisible by patch size"),
        (
            "torchvision/maxvit_t",
            64,
            r"can't take images of 64 x 64 pixels \(ValueError: Input size",
        ),
        ("net", 12, r"image_size is 12, .* needs at least 16"),
        ("speednet", 8, r"can't take images of 8 x 8 "),
    ],
)
def test_a_network_that_can_not_take_the_images_is_refused(
    name: str, side: int, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        tried(f"model.name={name}", side=side)


def test_the_task_tries_networks_by_name_on_the_images_that_it_found(image_folder: Path) -> None:
    given = [f"data.path={image_folder}", "model.name=torchvision/alexnet"]
    with pytest.raises(PlanError, match="can't take images of 32 x 32 pixels"):
        VISION.find(load_plan(None, given))
    VISION.find(load_plan(None, [given[0], "model.name=torchvision/squeezenet1_1"]))


@pytest.mark.parametrize(
    "given",
    [
        ("data.batch_size=128", "data.drop_last=false"),
        ("data.batch_size=1",),
        ("data.batch_size=2", "resources.workers_per_trial=2"),
    ],
)
def test_a_batch_of_one_image_is_refused_where_the_network_can_not_take_it(
    given: tuple[str, ...],
) -> None:
    space = "search.space={optim.lr: {loguniform: [0.01, 1.0]}}"
    with pytest.raises(PlanError, match=r"data\.batch_size can be .* a batch of 1 image, and .*18"):
        tried("model.name=torchvision/resnet18", space, *given, train_size=641)
    tried("model.name=torchvision/squeezenet1_1", space, *given, train_size=641)
    tried("model.name=resnet9", space, *given, train_size=641)


@pytest.mark.parametrize(
    ("name", "stages", "listed"),
    [
        ("resnet9", 4, r"stem, stage1, stage2, stage3"),
        ("torchvision/resnet18", 5, r"conv1\+bn1, layer1, layer2, layer3, layer4"),
    ],
)
def test_freezing_more_stages_than_there_are_is_refused(
    name: str, stages: int, listed: str
) -> None:
    tried(f"model.name={name}", f"search.space.model.freeze={{int: [0, {stages}]}}")
    message = rf"model\.freeze is 9, and {name} has {stages} stages before its head \({listed}\)"
    with pytest.raises(PlanError, match=f"{message}; give at most {stages}"):
        tried(f"model.name={name}", "search.space.model.freeze={int: [0, 9]}")


VIEWING = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 10)

    def forward(self, x):
        x = self.conv(x)
        return self.head({})


def build(config, num_classes):
    return Net()
"""


@pytest.mark.parametrize(
    ("flattened", "layout"), [("x.view(len(x), -1)", False), ("x.flatten(1)", True)]
)
def test_a_network_that_wants_the_plain_layout_gets_it_and_that_is_said(
    flattened: str, layout: bool, own_code: Callable[[str], str], image_folder: Path
) -> None:
    name = own_code(VIEWING.replace("{}", flattened))
    given = [f"data.path={image_folder}", f"model.name={name}:build", "train.channels_last=true"]
    found = VISION.find(load_plan(None, given))
    assert found.plan.train.channels_last is layout
    said = [one for one in found.sentences if "can't take images in channels_last" in one]
    assert bool(said) is not layout
