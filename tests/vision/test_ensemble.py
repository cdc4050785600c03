"""A mean of several models is a model like any other: it loads, predicts and is exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from saved_models import save_model

from cifar_tune.vision.ensemble import combine
from cifar_tune.vision.evaluate import load_classifier
from cifar_tune.vision.export import write_portable
from cifar_tune.vision.portable import load_checkpoint, load_portable

PIXELS = torch.randint(256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator())


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [
        save_model(folder / f"{lr}.ckpt", model__name="net", model__l1=8, optim__lr=lr)
        for lr in (0.001, 0.1, 0.01)
    ]


def test_its_logits_are_the_mean_of_those_of_its_members_in_all_forms(
    members: list[Path], tmp_path: Path
) -> None:
    combine(members, tmp_path / "model.ckpt")
    expected = torch.stack([load_checkpoint(one)(PIXELS) for one in members]).mean(dim=0)
    assert write_portable(tmp_path) == ()
    card = load_portable(tmp_path).card
    assert (card.members, card.model.name) == (3, "net")
    forms = {
        "safetensors": load_portable(tmp_path),
        "checkpoint": load_checkpoint(tmp_path / "model.ckpt"),
        "program": torch.export.load(tmp_path / "model.pt2").module(),
    }
    for name, form in forms.items():
        torch.testing.assert_close(form(PIXELS), expected, atol=1e-5, rtol=0, msg=name)


def test_lightning_loads_it_and_nothing_of_its_training_is_left(
    members: list[Path], tmp_path: Path
) -> None:
    combine(members, tmp_path / "model.ckpt")
    module = load_classifier(tmp_path / "model.ckpt", torch.device("cpu"))
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert content["optimizer_states"] == content["lr_schedulers"] == []


def test_a_checkpoint_of_a_training_says_nothing_of_members(members: list[Path]) -> None:
    content = torch.load(members[0], weights_only=True)
    assert "members" not in content["hyper_parameters"]
