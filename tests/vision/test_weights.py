"""Trainings start from weights: of this project, of a file, of torchvision; wrong ones are told."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning.pytorch.callbacks import LambdaCallback
from toy_images import toy_data, toy_run

from cifar_tune import load_plan
from cifar_tune.errors import CifarTuneError, DataError, PlanError
from cifar_tune.train.fit import fit
from cifar_tune.vision import published as module
from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.models import build_model
from cifar_tune.vision.starting import check_recorded, read, read_all, try_weights
from cifar_tune.vision.task import VISION
from cifar_tune.vision.weights import Weights, key_of, start_from

TINY = ModelConfig(width=4)


def ignored(line: str) -> None:
    """What would be shown."""


def of_file(path: Path | str, **fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"width": 4, **fields, "weights": str(path)})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short training, whose images have statistics of their own."""
    path = tmp_path_factory.mktemp("trained") / "model.ckpt"
    save = LambdaCallback(on_validation_end=lambda trainer, _: trainer.save_checkpoint(path))
    fit(toy_run(max_epochs=1), toy_data(std=0.3), callbacks=[save])
    return path


def trained_from(path: Path, data: Any = None, **values: Any) -> Any:
    """A training that starts from a file, as a trial gets it."""
    run = toy_run(model__weights=str(path), **values)
    weights = {key_of(run.model): read(run.model, ignored)}
    given = replace(data or toy_data(), weights=weights)
    return run, given, fit(run, given)


def test_a_training_starts_from_a_checkpoint_and_its_normalisation(checkpoint: Path) -> None:
    run = toy_run(model__weights=str(checkpoint))
    data = replace(toy_data(), weights={str(checkpoint): read(run.model, ignored)})
    module, datamodule = VISION.build(run, data, fresh=True)  # type: ignore[arg-type]
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(x, saved[f"model.{k}"]) for k, x in module.model.state_dict().items())  # type: ignore[operator, union-attr]
    assert module.std == pytest.approx((0.3,) * 3), "predict and the exported forms use these"
    assert datamodule._data.std == pytest.approx((0.3,) * 3)  # type: ignore[attr-defined]


def test_a_head_of_other_classes_is_new_and_that_is_told(checkpoint: Path) -> None:
    network = build_model(TINY, num_classes=3)
    head = network.head.weight.clone()  # type: ignore[union-attr, operator]
    sentence = start_from(network, read(of_file(checkpoint), ignored), of_file(checkpoint))
    assert "its last layer is new, for the classes differ; images are normalised as" in sentence
    assert torch.equal(network.head.weight, head)  # type: ignore[union-attr, arg-type]
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]["model.stem.conv.weight"]
    assert torch.equal(network.stem.conv.weight, saved)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", ["plain.pt", "wrapped.pth", "parallel.pt", "plain.safetensors"])
def test_state_dicts_are_read_however_they_were_saved(tmp_path: Path, name: str) -> None:
    state = build_model(TINY, num_classes=10).state_dict()
    content: Any = {"state_dict": state, "epoch": 3} if "wrapped" in name else state
    if "parallel" in name:
        content = {f"module.{k}": x for k, x in state.items()}
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(content, path)
    network = build_model(TINY, num_classes=10)
    sentence = start_from(network, read(of_file(path), ignored), of_file(path))
    assert all(torch.equal(x, state[k]) for k, x in network.state_dict().items())
    assert "normalised by the data's own mean and deviation" in sentence


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "resnet18"},
            r"the file lacks conv1\.weight.*; it has besides .*; set model\.name=",
        ),
        ({"width": 8}, r"has in other shapes stem\.conv\.weight .*; set model\.width=4"),
    ],
)
def test_weights_of_another_network_are_refused_with_their_names(
    fields: dict[str, Any], message: str, checkpoint: Path
) -> None:
    model = of_file(checkpoint, **fields)
    with pytest.raises(PlanError, match=message):
        start_from(build_model(model, 10), read(model, ignored), model)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pt", None, "there is no such file; give a file of weights"),
        ("torn.pt", b"PK\x03\x04 torn", "can't be read as weights"),
        ("module.pt", torch.nn.Linear(2, 2), "can't be read as weights .*; save a state dict"),
        ("number.pt", 3, "it holds no state dict"),
        ("empty", "folder", "holds no model"),
        ("other.ckpt", {"state_dict": {}}, "is damaged, or not of cifar_tune"),
    ],
)
def test_what_holds_no_weights_is_refused(
    name: str, content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=message):
        read(of_file(path), ignored)


def published(weights: str, name: str = "torchvision/mobilenet_v3_small") -> ModelConfig:
    return ModelConfig(name=name, weights=weights)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            published("DEFAULT", "resnet9"),
            "a name of torchvision's weights, and model.name is 'resn",
        ),
        (
            published("IMAGENET1K_V9"),
            r"torchvision has for .* IMAGENET1K_V1, DEFAULT; did you mean",
        ),
        (
            published("DEFAULT"),
            r"can't be had .*download it elsewhere and give the file: --set mod",
        ),
    ],
)
def test_torchvisions_weights_that_can_not_be_had_are_told_in_one_line(
    model: ModelConfig, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(module, "open_in_time", no_network)
    with pytest.raises(CifarTuneError, match=message) as told:
        read(model, ignored)
    assert "\n" not in str(told.value)


def test_a_server_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("cifar_tune.vision.data.fetch.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights-0123abcd.pth"
        monkeypatch.setattr(module, "find_published", lambda _: SimpleNamespace(url=url))
        with pytest.raises(DataError, match=r"can't be had \(TimeoutError: (timed out|no answer)"):
            read(published("DEFAULT"), ignored)
    assert socket.getdefaulttimeout() is None


def no_network(*_: Any, **__: Any) -> None:
    raise OSError("Name or service not known")


def test_weights_in_torchs_cache_come_with_torchvisions_normalisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = published("IMAGENET1K_V1")
    plan = load_plan(None, [f"model.name={model.name}", "model.weights=IMAGENET1K_V1"])
    (sentence,) = try_weights(plan, 4, 64)  # type: ignore[arg-type]
    assert sentence.startswith("The weights IMAGENET1K_V1 are downloaded from https://")
    name = sentence.rpartition("/")[2].rstrip(".")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    file = tmp_path / "hub" / "checkpoints" / name
    torch.save(build_model(model, 1000).state_dict(), file)
    for given in (model, of_file(file, name=model.name)):  # also a file that was carried here
        assert read(given, ignored).mean == pytest.approx((0.485, 0.456, 0.406))
    (sentence,) = try_weights(plan, 4, 64)  # type: ignore[arg-type]
    assert "last layer is new" in sentence


def test_position_embeddings_and_old_names_are_fitted_to_the_network() -> None:
    small, large = (ModelConfig(name="torchvision/vit_b_32") for _ in range(2))
    state = {k: x.numpy() for k, x in build_model(large, 10, side=96).state_dict().items()}
    start_from(network := build_model(small, 5, side=64), Weights(state, "x"), small)
    assert network.encoder.pos_embedding.shape[1] == 5  # type: ignore[union-attr, index]
    dense = ModelConfig(name="torchvision/densenet121")
    state = {k: x.numpy() for k, x in build_model(dense, 10).state_dict().items()}
    old = {
        k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): x for k, x in state.items()
    }
    assert old.keys() != state.keys()
    start_from(build_model(dense, 10), Weights(old, "x"), dense)


def test_a_search_goes_on_with_the_weights_it_began_with_wherever_they_lie(tmp_path: Path) -> None:
    for name, seed in (("a.pt", 0), ("moved.pt", 0), ("other.pt", 1)):
        torch.manual_seed(seed)
        torch.save(build_model(TINY, 10).state_dict(), tmp_path / name)
    plan = load_plan(None, ["model.width=4", f"model.weights={tmp_path / 'a.pt'}"])
    first = read_all(plan, ignored)  # type: ignore[arg-type]
    recorded = {"weights": {key: one.digest for key, one in first.items()}}
    for name, fault in (("moved.pt", ""), ("other.pt", "the search began with .*a.pt")):
        plan = load_plan(None, ["model.width=4", f"model.weights={tmp_path / name}"])
        now = read_all(plan, ignored)  # type: ignore[arg-type]
        if fault:
            with pytest.raises(DataError, match=fault):
                check_recorded(now, recorded)
            with pytest.raises(DataError, match="the search began with none"):
                check_recorded(now, {})
        else:
            check_recorded(now, recorded)


def test_weights_are_searched_with_the_networks_that_they_are_of(checkpoint: Path) -> None:
    plan = load_plan(None, [
        "model.width=4",
        "search.space.model.name={choice: [resnet9, resnet18]}",
        f"search.space.model.weights={{choice: [null, '{checkpoint}'], when: {{model.name: resnet9}}}}",
    ])  # fmt: skip
    assert list(read_all(plan, ignored)) == [str(checkpoint)]  # type: ignore[arg-type]
    relative = load_plan(None, ["search.space.model.weights={choice: [null, here.pt]}"])
    with pytest.raises(PlanError, match=r"has 'here\.pt'; a file that is searched is given by its"):
        VISION.check(relative, workers=1)


def test_frozen_stages_do_not_move_by_a_bit_and_the_rest_does(checkpoint: Path) -> None:
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    _, _, result = trained_from(checkpoint, model__freeze=2, optim__backbone_lr_factor=0.5)
    frozen = ("stem.", "stage1.")
    for name, value in result.module.model.state_dict().items():
        moved = not torch.equal(value, before[f"model.{name}"])
        assert moved is not name.startswith(frozen), name
    result.module.train()
    assert not result.module.model.stem.norm.training
    assert result.module.model.stage2.norm.training


def test_a_frozen_training_that_is_resumed_gives_the_same_bits(
    checkpoint: Path, tmp_path: Path
) -> None:
    values = {"model__freeze": 1, "optim__backbone_lr_factor": 0.5}
    run, data, whole = trained_from(checkpoint, **values)
    half = tmp_path / "half.ckpt"

    def save(trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(half)

    fit(run, data, callbacks=[LambdaCallback(on_validation_end=save)])
    resumed = fit(run, data, resume_from=half)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
