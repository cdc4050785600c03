"""A folder of pictures, searched as `examples/photographs.py` says, to a model that knows others."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch

from cifar_tune import Results
from examples import photographs


@pytest.mark.faults
def test_a_folder_becomes_a_model_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing is downloaded
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    photographs.main(str(tmp_path / "my_images"), "40")
    small = ["--set", "data.image_size=64", "--num-samples", "4", "--max-epochs", "12"]
    small += ["--final-seeds", "1", "--name", "one"]
    done = command_line.run("tune", "--data-dir", "my_images", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "config      folder-scratch" in done.stdout
    assert "There is no test part" in done.stdout
    folder = tmp_path / "results" / "one"
    assert Results.read(folder).finished
    (accuracy,) = json.loads((folder / "summary.json").read_text())["finals"]["test_accuracy"]
    assert accuracy > 0.6  # of three classes
    generator = np.random.default_rng(7)
    names = [f"{weave}-{number}.png" for weave in photographs.WEAVES for number in range(4)]
    for name in names:
        photographs.draw(name.partition("-")[0], generator).save(tmp_path / name)
    told = command_line.run("predict", "--model", str(folder), "--json", *names, cwd=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(json.loads(told.stdout)) == len(names)


@pytest.mark.faults
def test_a_fine_tuned_population_ends_in_the_mean_of_its_final_models(tmp_path: Path) -> None:
    """A network of torchvision that starts from a file of weights, which is gone at the end."""
    from torchvision.models import mobilenet_v3_small

    photographs.main(str(tmp_path / "my_images"), "20")
    weights = tmp_path / "weights.pth"
    torch.save(mobilenet_v3_small(num_classes=5).state_dict(), weights)
    given = [
        "data.image_size=32", "data.batch_size=8", f"model.weights={weights}",
        "search.perturbation_interval=1",
        "search.space={optim.lr: {loguniform: [1e-3, 1e-2]}, model.freeze: {choice: [0, 4]}}",
    ]  # fmt: skip
    words = ["--config", "folder", "--scheduler", "pbt", "--num-samples", "4", "--max-epochs", "3"]
    words += ["--candidates", "2", "--final-seeds", "2", "--ensemble", "--name", "one"]
    words += [word for one in given for word in ("--set", one)]
    done = command_line.run("tune", "--data-dir", "my_images", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results" / "one"
    results = Results.read(folder)
    assert results.exchanges
    weights.unlink()
    figures = json.loads((folder / "best" / "metrics.json").read_text())
    assert figures["model"] == "ensemble"
    photographs.draw(next(iter(photographs.WEAVES)), np.random.default_rng(7)).save(
        tmp_path / "one.png"
    )
    told = command_line.run("predict", "--model", str(folder), "--json", "one.png", cwd=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    (answer,) = json.loads(told.stdout)
    assert answer["classes"][0]["class"] in photographs.WEAVES
