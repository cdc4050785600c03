"""The figures of an epoch are right, finite and kept; a checkpoint is plain and enough."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback
from toy_images import CLASSES, toy_data, toy_run

from cifar_tune.train.fit import fit
from cifar_tune.train.numerics import epoch_seed
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data.datamodule import CifarDataModule
from cifar_tune.vision.module import Classifier

NAMES = {"epoch", "val_loss", "val_accuracy", "train_loss", "best_val_accuracy"}
NAMES |= {"lr", "images_per_second"}
if torch.cuda.is_available():
    NAMES |= {"gpu_peak_bytes"}


def reporting(into: list[dict[str, float]]) -> LambdaCallback:
    """Collects what callbacks are given at the end of each validation."""

    def collect(trainer: Any, module: Classifier) -> None:
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        assert logged == module.epoch_metrics
        into.append(dict(module.epoch_metrics))

    return LambdaCallback(on_validation_end=collect)


def normalised(data: SearchData) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(data.val_images).permute(0, 3, 1, 2).float() / 255
    return (images - 0.5) / data.std[0], torch.from_numpy(data.val_labels)


def test_every_epoch_reports_exactly_the_promised_finite_floats() -> None:
    reports: list[dict[str, float]] = []
    fit(toy_run(max_epochs=3), toy_data(), callbacks=[reporting(reports)])
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    for report in reports:
        assert set(report) == NAMES
        assert all(type(x) is float and math.isfinite(x) for x in report.values())
        assert report["images_per_second"] > 0
    accuracies = [report["val_accuracy"] for report in reports]
    best = [max(accuracies[: n + 1]) for n in range(3)]
    assert [report["best_val_accuracy"] for report in reports] == best


def test_validation_figures_are_those_of_a_plain_loop_over_all_images() -> None:
    data = toy_data(val=35)  # the last batch is not full
    run = toy_run(max_epochs=2, data__crop_padding=0, optim__label_smoothing=0.2)
    result = fit(run, data)
    images, labels = normalised(data)
    with torch.inference_mode():
        logits = result.module.eval()(images)
    assert result.metrics["val_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), 1e-4)
    assert result.metrics["val_accuracy"] == (logits.argmax(1) == labels).sum().item() / 35


def test_train_loss_is_the_mean_over_the_epochs_images_as_optimised() -> None:
    run = toy_run(max_epochs=1, optim__lr=1e-12, optim__label_smoothing=0.3, model__name="net")
    data = toy_data()
    data = SearchData(*([data.train_images, data.train_labels] * 2), CLASSES, data.mean, data.std)
    run = run.with_values({"data.crop_padding": 0, "data.flip": "none"}, 0)
    result = fit(run, data)
    images, labels = normalised(data)
    logits = result.module(images)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.3).item()
    assert result.metrics["train_loss"] == pytest.approx(expected, 1e-5)


def test_lr_is_that_of_the_epochs_last_step() -> None:
    reports: list[dict[str, float]] = []
    run = toy_run(max_epochs=2, optim__schedule="linear", optim__warmup_fraction=0.0, optim__lr=0.8)
    fit(run, toy_data(), callbacks=[reporting(reports)])  # 4 steps an epoch
    assert [report["lr"] for report in reports] == pytest.approx([0.5, 0.1])


@pytest.mark.parametrize(
    ("run", "data"),
    [
        (toy_run(max_epochs=5, optim__lr=1e6, optim__schedule="constant"), toy_data()),
        (toy_run(max_epochs=5), toy_data(std=0.0)),  # every pixel is infinite or NaN
    ],
    ids=["a rate of a million", "broken data"],
)
def test_divergence_is_reported_once_in_finite_figures_and_ends_the_training(
    run: Any, data: SearchData
) -> None:
    reports: list[dict[str, float]] = []
    result = fit(run, data, callbacks=[reporting(reports)])
    assert result.diverged
    assert all(math.isfinite(x) for report in reports for x in report.values())
    assert len(reports) < 5
    assert not {"val_accuracy", "val_loss"} & set(reports[-1])
    assert all("val_loss" in report for report in reports[:-1])


def test_a_weight_that_is_not_finite_diverges_even_where_no_loss_shows_it() -> None:
    def poison(trainer: Any, module: Classifier) -> None:
        module.model.stem.norm.running_var[0] = math.inf  # normalises to a finite value

    result = fit(toy_run(), toy_data(), callbacks=[LambdaCallback(on_validation_start=poison)])
    assert result.diverged
    assert result.metrics["epoch"] == 1
    assert math.isfinite(result.metrics["train_loss"])
    assert result.module.best_epoch == 0


def test_a_checkpoint_is_enough_to_score_in_a_new_process(tmp_path: Path) -> None:
    data = toy_data()
    checkpoint = tmp_path / "model.ckpt"
    save = LambdaCallback(on_validation_end=lambda trainer, _: trainer.save_checkpoint(checkpoint))
    result = fit(toy_run(max_epochs=2, train__precision="32"), data, callbacks=[save])
    images, labels = normalised(data)
    np.savez(tmp_path / "val.npz", images=images.numpy(), labels=labels.numpy())
    code = (
        "import sys, numpy as np, torch\n"
        "from cifar_tune.vision.module import Classifier\n"
        "torch.set_num_threads(1)\n"
        "module = Classifier.load_from_checkpoint(sys.argv[1], weights_only=True).eval()\n"
        "val = np.load(sys.argv[2])\n"
        "logits = module(torch.from_numpy(val['images']))\n"
        "print((logits.argmax(1).numpy() == val['labels']).sum() / len(val['labels']))\n"
        "print(module.epoch_metrics['val_accuracy'], *module.classes, sep=', ')\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, checkpoint, tmp_path / "val.npz"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    accuracy = str(result.metrics["val_accuracy"])
    assert done.stdout.splitlines() == [accuracy, ", ".join([accuracy, *CLASSES])]


def test_channels_last_reaches_the_weights() -> None:
    run = toy_run(train__channels_last=True).as_values()
    module = Classifier(run, list(CLASSES), [0.5] * 3, [0.25] * 3)
    weight = module.model.stage1[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


# Lightning 2.6.6 on torch 2.14 and later; `fit` hides it, a Trainer of one's own does not.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_validating_alone_reports_the_validation_figures_alone() -> None:
    data = toy_data()
    run = toy_run(max_epochs=1)
    result = fit(run, data)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    datamodule = CifarDataModule(data, run.data, run.seed, channels_last=False)
    (figures,) = trainer.validate(result.module, datamodule=datamodule, verbose=False)
    assert figures == {name: result.metrics[name] for name in ("val_loss", "val_accuracy")}
    assert result.module.epoch_metrics == result.metrics


def test_epoch_seeds_differ_by_seed_and_epoch() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
