"""A model gives the same logits in all its forms, and damaged or foreign files run nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from saved_models import save_model
from torch import Tensor, nn

from cifar_tune.errors import DataError, ResultsError
from cifar_tune.vision import export
from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.evaluate import load_classifier
from cifar_tune.vision.export import has_all_forms, write_portable
from cifar_tune.vision.portable import load_checkpoint, load_portable

PIXELS = torch.randint(256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator())


class Tied(nn.Module):
    """Two layers that share their weights, and a view that only plain memory allows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv(images).view(images.shape[0], -1).relu()
        return self.head(self.second(self.first(hidden).relu()).relu())  # type: ignore[no-any-return]


class Branching(Tied):
    """Does one thing with bright images and another with dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.mean().item() > 0 else -images)


class Counting(Tied):
    """Goes by the number of images, which torch.export takes for always the same."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / len(images)


class Remembering(Tied):
    """Keeps a word in its state, which is no tensor."""

    def get_extra_state(self) -> Tensor | dict[str, str]:
        return self.__dict__.get("kept", torch.zeros(1))  # type: ignore[no-any-return]

    def set_extra_state(self, state: dict[str, str]) -> None:
        self.__dict__["kept"] = state


def tied(config: ModelConfig, num_classes: int) -> nn.Module:
    return Tied()


def branching(config: ModelConfig, num_classes: int) -> nn.Module:
    return Branching()


def counting(config: ModelConfig, num_classes: int) -> nn.Module:
    return Counting()


def remembering(config: ModelConfig, num_classes: int) -> nn.Module:
    return Remembering()


MODELS = {
    "net": {"model__name": "net", "model__l1": 16},
    "resnet9, bf16, channels_last": {
        "model__width": 2, "train__precision": "bf16", "train__channels_last": True,
    },
    "resnet18": {"model__name": "resnet18"},
    "own, tied weights": {"model__name": "test_export:tied"},
}  # fmt: skip


def lightning_logits(checkpoint: Path) -> Tensor:
    """What the LightningModule says of `PIXELS`, normalised as for its validation."""
    module = load_classifier(checkpoint, torch.device("cpu"))
    stats = module.hparams["mean"], module.hparams["std"]
    with torch.no_grad():
        return module(BatchMaker(DataConfig(), *stats, torch.device("cpu")).plain(PIXELS))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ResNet-9 in all its forms."""
    folder = tmp_path_factory.mktemp("best")
    save_model(folder / "model.ckpt", model__width=2)
    assert write_portable(folder, fingerprint="of the toys") == ()
    return folder


@pytest.mark.parametrize("values", MODELS.values(), ids=MODELS)
def test_all_forms_of_a_model_give_the_logits_of_the_lightning_module(
    values: dict[str, object], tmp_path: Path
) -> None:
    checkpoint = save_model(tmp_path / "model.ckpt", **values)
    assert write_portable(tmp_path) == ()
    expected = lightning_logits(checkpoint)
    forms = {
        "safetensors": load_portable(tmp_path, own_code=True),
        "checkpoint": load_checkpoint(checkpoint, own_code=True),
        "program": torch.export.load(tmp_path / "model.pt2").module(),
    }
    for name, form in forms.items():
        for count in (1, 5):
            logits = form(PIXELS[:count])
            torch.testing.assert_close(logits, expected[:count], atol=1e-4, rtol=0, msg=name)
    network = load_file(tmp_path / "model.safetensors")
    assert all(weight.is_contiguous() for weight in network.values())


def test_the_program_of_onnx_gives_the_same_logits(tmp_path: Path) -> None:
    import onnxruntime

    checkpoint = save_model(tmp_path / "model.ckpt", model__width=2)
    assert write_portable(tmp_path) == ()
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 5):
        (logits,) = session.run(["logits"], {"pixels": PIXELS[:count].numpy()})
        expected = lightning_logits(checkpoint)[:count]
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)
    inside = session.get_modelmeta().custom_metadata_map["model.json"]
    assert json.loads(inside) == json.loads((tmp_path / "model.json").read_text())


def test_without_the_extra_there_is_no_onnx_and_later_it_is_missed(
    best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "onnx_is_installed", lambda: False)
    card = best / "model.json"
    before = card.read_text()
    card.write_text(json.dumps({**json.loads(before), "onnx": None}))
    assert has_all_forms(best)
    monkeypatch.setattr(export, "onnx_is_installed", lambda: True)
    assert not has_all_forms(best)
    card.write_text(before)


def test_the_weights_with_what_model_json_says_are_enough_without_our_code(best: Path) -> None:
    card = json.loads((best / "model.json").read_text())
    assert card["model"]["name"] == "resnet9"
    assert card["model"]["width"] == 2
    assert card["classes"] == [f"class {index}" for index in range(10)]
    assert (card["image_size"], card["channels"]) == (32, "RGB")
    assert card["dataset_fingerprint"] == "of the toys"
    assert (card["weights"], card["program"]) == ("model.safetensors", "model.pt2")
    mean, std = (torch.tensor(card[key])[:, None, None] for key in ("mean", "std"))
    network = load_portable(best).network
    normalised = (PIXELS.permute(0, 3, 1, 2) / 255 - mean) / std
    expected = lightning_logits(best / "model.ckpt")
    torch.testing.assert_close(network(normalised), expected, atol=1e-4, rtol=0)


def test_the_program_carries_its_description(best: Path) -> None:
    inside = {"model.json": ""}
    torch.export.load(best / "model.pt2", extra_files=inside)
    assert json.loads(inside["model.json"]) == json.loads((best / "model.json").read_text())


@pytest.mark.parametrize(
    ("name", "missing", "note"),
    [
        ("branching", "program", "model.pt2 is left out: torch.export can't follow the network"),
        ("counting", "program", "model.pt2 is left out: torch.export can't follow the network"),
        ("remembering", "weights", "model.safetensors is left out: the network keeps _extra_state"),
    ],
)
def test_what_a_network_of_ones_own_does_not_allow_is_left_out_and_said(
    name: str, missing: str, note: str, tmp_path: Path
) -> None:
    checkpoint = save_model(tmp_path / "model.ckpt", model__name=f"test_export:{name}")
    if name == "remembering":
        content = torch.load(checkpoint, weights_only=True)
        content["state_dict"]["model._extra_state"] = {"word": "kept"}
        torch.save(content, checkpoint)
    notes = write_portable(tmp_path)
    assert notes[0].startswith(note)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card[missing] is None
    assert card["notes"] == list(notes)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.ckpt", "model.json", *filter(None, (card["weights"], card["program"], card["onnx"])),
    }  # fmt: skip
    expected = lightning_logits(tmp_path / "model.ckpt")
    logits = load_portable(tmp_path, own_code=True)(PIXELS)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_code_that_a_file_names_is_only_run_if_that_is_asked_for(tmp_path: Path) -> None:
    save_model(tmp_path / "model.ckpt", model__name="test_export:tied")
    write_portable(tmp_path)
    for load, path in ((load_portable, tmp_path), (load_checkpoint, tmp_path / "model.ckpt")):
        with pytest.raises(ResultsError, match=r"test_export:tied, code of your own.*--own-code"):
            load(path)


def test_probabilities_are_those_of_the_logits_also_in_parts_and_mirrored(best: Path) -> None:
    model = load_portable(best)
    many = PIXELS.repeat(60, 1, 1, 1)  # more than a chunk
    expected = model(PIXELS).softmax(dim=1)
    torch.testing.assert_close(model.probabilities(many), expected.repeat(60, 1))
    listed = [np.asarray(image) for image in PIXELS]
    torch.testing.assert_close(model.probabilities(listed), expected)
    both = (model(PIXELS) + model(torch.flip(PIXELS, [2]))) / 2
    averaged = model.probabilities(PIXELS, flip_averaging=True)
    torch.testing.assert_close(averaged, both.softmax(dim=1))
    assert not torch.equal(averaged, expected)


@pytest.mark.parametrize("images", [PIXELS.float(), PIXELS[0], PIXELS.permute(0, 3, 1, 2)])
def test_images_of_another_kind_are_refused(images: Tensor, best: Path) -> None:
    with pytest.raises(DataError, match=r"must be RGB, uint8 \[n, 32, 32, 3\]"):
        load_portable(best).probabilities(images)


def test_loading_leaves_the_random_state_alone(best: Path) -> None:
    before = torch.get_rng_state()
    load_portable(best)
    load_checkpoint(best / "model.ckpt")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", b"{}"),
        ("model.json", b"\xff"),
        ("model.json", b'{"format_version": 2}'),
        ("model.safetensors", b"torn"),
        ("model.safetensors", None),
    ],
)
def test_a_damaged_file_is_named(
    name: str, content: bytes | None, best: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(best, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ResultsError, match=f"{name}"):
        load_portable(folder)


def test_weights_of_another_network_are_refused(best: Path, tmp_path: Path) -> None:
    card = json.loads((best / "model.json").read_text())
    card["model"]["width"] = 3
    (tmp_path / "model.json").write_text(json.dumps(card))
    shutil.copy(best / "model.safetensors", tmp_path)
    with pytest.raises(ResultsError, match=r"model\.safetensors can't be used \(RuntimeError"):
        load_portable(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, witness = tmp_path / "model.ckpt", tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (witness,)

    torch.save({"hyper_parameters": Hostile(), "state_dict": {}}, path)
    with pytest.raises(ResultsError, match=r"model\.ckpt can't be used"):
        load_checkpoint(path)
    assert not witness.exists()
