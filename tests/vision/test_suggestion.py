"""Which config one's own images get by themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_tune.plan.flags import plan_of
from cifar_tune.plan.load import suggested
from cifar_tune.tune import _tune_parser
from cifar_tune.vision import suggestion

NETWORK = "torchvision/mobilenet_v3_small"


@pytest.fixture(autouse=True)
def without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there, and torch's cache is empty."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def folder(path: Path, side: int, each: int = 20) -> str:
    """Two classes of noise."""
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (path / name).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number}.png")
    return f"data.path={path}"


def test_larger_images_are_trained_from_scratch_where_no_weights_can_be_had(tmp_path: Path) -> None:
    said: list[str] = []
    config, values = suggested([folder(tmp_path / "images", 96)], said.append)
    assert (config, values) == (
        "folder-scratch",
        [
            "train.max_epochs=30",
            "data.batch_size=4",
            "data.image_size=64",
        ],
    )
    assert "can't be had" in said[1]
    assert "give the file: --set model.weights=PATH/" in said[1]
    assert said[2] == (
        "config      folder-scratch with train.max_epochs=30, data.batch_size=4,"
        " data.image_size=64,"
        " for 20 training images of 96 x 96; --config takes another"
    )


def test_larger_images_are_fine_tuned_where_the_weights_are(tmp_path: Path) -> None:
    from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

    file = Path(
        torch.hub.get_dir(),
        "checkpoints",
        MobileNet_V3_Small_Weights.DEFAULT.url.rpartition("/")[2],
    )
    file.parent.mkdir(parents=True)
    torch.save(mobilenet_v3_small().state_dict(), file)
    said: list[str] = []
    assert suggested([folder(tmp_path / "images", 96)], said.append)[0] == "folder"
    assert len(said) == 1


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ("model.weights=mine.pth", "folder"),
        ("model.weights=null", "folder-scratch"),
        ("model.name=resnet18", "folder-scratch"),
        ("data.image_size=32", None),
        ("data.image_size=1000", None),  # which the plan then refuses
        ("task=lightning", None),
    ],
)
def test_what_is_given_decides(given: str, config: str | None, tmp_path: Path) -> None:
    path = folder(tmp_path / "images", 96, each=8)
    assert suggested([path, given], lambda _: None)[0] == config


@pytest.mark.parametrize("path", ["nowhere", "7", "null", "[1"])
def test_what_is_no_data_is_left_to_those_who_say_why(path: str) -> None:
    assert suggested([f"data.path={path}"], lambda _: None) == (None, [])


@pytest.mark.parametrize(
    ("images", "validation", "values"),
    [
        (28, 3, {"train.max_epochs": 30, "data.batch_size": 4}),
        (100, 12, {"train.max_epochs": 30, "data.batch_size": 8}),
        (999, 120, {"train.max_epochs": 30, "data.batch_size": 16}),
        (3000, 375, {"train.max_epochs": 13}),
        (28_800, 3600, {"train.max_epochs": 3, "finals.candidates": 1}),
        (28_800, 60, {"train.max_epochs": 3}),  # too few to trust the search
    ],
)
def test_what_a_training_costs_grows_less_than_the_set(
    images: int, validation: int, values: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(train_size=images, config=SimpleNamespace(side=64, val_size=validation))
    monkeypatch.setattr(suggestion, "_found", lambda data: found)
    given = suggestion.suggest({"data.path": "photos", "model.weights": None}, print)
    assert given is not None
    assert given.values == values


def test_a_command_gets_it_and_its_own_flags_win(tmp_path: Path) -> None:
    _, path = folder(tmp_path / "images", 64).split("=")
    words = ["--data-dir", path, "--max-epochs", "3", "--set", "model.weights=null"]
    said: list[str] = []
    plan = plan_of(arguments := _tune_parser().parse_args(words), said.append)
    assert said[0].startswith("config      folder-scratch with data.batch_size=4, for 20 training")
    assert arguments.config == "folder-scratch"
    assert (plan.train.max_epochs, plan.data.batch_size) == (3, 4)  # type: ignore[attr-defined]
    named = _tune_parser().parse_args([*words[:2], "--config", "asha"])
    assert plan_of(named, lambda _: None).data.batch_size == 128  # type: ignore[attr-defined]


def test_images_as_large_as_cifars_have_the_plans_defaults(image_folder: Path) -> None:
    assert suggested([f"data.path={image_folder}"], lambda _: None) == (None, [])
