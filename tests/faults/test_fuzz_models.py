"""Models from anywhere: `model.json`, safetensors and checkpoints give a model, or one line."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import NASTY, TREES, damaged_bytes, damaged_trees, fuzz, limited, on_cases
from hypothesis import strategies as st
from saved_models import save_model

from cifar_tune.errors import CifarTuneError
from cifar_tune.vision.export import write_portable
from cifar_tune.vision.portable import WEIGHTS
from cifar_tune.vision.predict import load_model

ONE = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny network in all its forms."""
    folder = tmp_path_factory.mktemp("best")
    save_model(folder / "model.ckpt", model__name="net", model__l1=2, model__l2=2)
    assert write_portable(folder) == ()
    return folder


@pytest.fixture
def use(tmp_path: Path) -> Callable[[], None]:
    """Loads what lies in the test's folder, and asks it about an image."""

    def load() -> None:
        model = load_model(tmp_path)
        assert model.probabilities(ONE).shape == (1, len(model.classes))

    return load


@on_cases
def test_the_description_of_a_model(
    cases: str, best: Path, tmp_path: Path, use: Callable[[], None]
) -> None:
    shutil.copy(best / WEIGHTS, tmp_path)
    text = (best / "model.json").read_bytes()
    trees = st.one_of(damaged_trees(json.loads(text)), TREES).map(
        lambda tree: json.dumps(tree).encode("utf-8", "surrogatepass")
    )

    def check(content: bytes) -> None:
        (tmp_path / "model.json").write_bytes(content)
        use()

    def sized(**sizes: int) -> bytes:
        card = json.loads(text)
        card["model"].update(sizes)
        return json.dumps(card).encode()

    known = sized(l1=10**18), sized(name="resnet9", width=10**18), sized(l1=2**40, l2=2**40)
    fuzz(cases, trees | damaged_bytes(text), check, *known, b"[" * 100_000)


@on_cases
def test_the_weights_of_a_model(
    cases: str, best: Path, tmp_path: Path, use: Callable[[], None]
) -> None:
    shutil.copy(best / "model.json", tmp_path)
    content = (best / WEIGHTS).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + size]), content[8 + size :]

    def packed(tree: Any) -> bytes:
        text = json.dumps(tree).encode("utf-8", "surrogatepass")
        return len(text).to_bytes(8, "little") + text + tensors

    def check(content: bytes) -> None:
        (tmp_path / WEIGHTS).write_bytes(content)
        use()

    fuzz(cases, damaged_trees(header).map(packed) | damaged_bytes(content), check)


@on_cases
def test_a_checkpoint(cases: str, best: Path, tmp_path: Path, use: Callable[[], None]) -> None:
    path = tmp_path / "model.ckpt"
    content = (best / "model.ckpt").read_bytes()
    whole = torch.load(best / "model.ckpt", weights_only=True)
    kept = {
        key: whole[key] for key in ("hyper_parameters", "state_dict", "pytorch-lightning_version")
    }
    names, numbers = list(kept["state_dict"]), dict(kept["hyper_parameters"])
    tensors = st.sampled_from(
        [torch.zeros(2), torch.zeros(3, 3).to_sparse(), torch.zeros(0), 1, "x"]
    )

    def saved(case: tuple[Any, str, Any]) -> bytes:
        parameters, name, tensor = case
        state = {**kept["state_dict"], **({name: tensor} if name else {})}
        buffer = io.BytesIO()
        torch.save({**kept, "hyper_parameters": parameters, "state_dict": state}, buffer)
        return buffer.getvalue()

    parameters = damaged_trees(numbers) | st.just(numbers)
    made = st.tuples(parameters, st.sampled_from(["", "", "model.x", *names]), tensors).map(saved)
    other = st.one_of(TREES, NASTY).map(lambda tree: pickle.dumps(tree, 2))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        use()

    fuzz(cases, made | damaged_bytes(content) | other, check)


def test_a_checkpoint_that_unpacks_to_much_more_is_refused(best: Path, tmp_path: Path) -> None:
    """Its weights are 256 MB of zeros, which a zip makes 0.3 MB of."""
    with (
        zipfile.ZipFile(best / "model.ckpt") as whole,
        zipfile.ZipFile(tmp_path / "model.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for info in whole.infolist():
            if not info.filename.endswith("data/0"):
                bomb.writestr(info.filename, whole.read(info))
                continue
            with bomb.open(info.filename, "w", force_zip64=True) as file:
                for _ in range(256):
                    file.write(bytes(1 << 20))
    with limited(), pytest.raises(CifarTuneError, match=r"torch's own files are not packed"):
        load_model(tmp_path)
