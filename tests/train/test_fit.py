"""A fit repeats itself bit for bit, also across a stop; it leaves no trace; it is a command."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from PIL import Image
from torch import nn
from torch._dynamo.utils import counters
from toy_images import toy_data, toy_run

from cifar_tune.errors import PlanError
from cifar_tune.train.__main__ import epoch_line, main
from cifar_tune.train.fit import FitResult, fit
from cifar_tune.vision.config import ModelConfig, VisionRun
from cifar_tune.vision.models import MODEL_NAMES
from cifar_tune.vision.module import init_from_images


def dropout_net(config: ModelConfig, num_classes: int) -> nn.Module:
    """A user's own net that draws from the global random state in every step."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 10)
    )


def saving(folder: Path) -> LambdaCallback:
    def save(trainer: Any, module: Any) -> None:
        trainer.save_checkpoint(folder / f"{module.epoch_metrics['epoch']:.0f}.ckpt")

    return LambdaCallback(on_validation_end=save)


def ending_after(epochs: int, error: type[BaseException]) -> LambdaCallback:
    """Ends a training as Ray does (SystemExit), or a user (KeyboardInterrupt)."""

    def end(trainer: Any, module: Any) -> None:
        if module.epoch_metrics["epoch"] == epochs:
            raise error

    return LambdaCallback(on_validation_end=end)


def outcome(result: FitResult) -> tuple[Any, ...]:
    """All that must repeat itself: every bit of the state, and the figures but the speed."""
    figures = {name: x for name, x in result.metrics.items() if name != "images_per_second"}
    figures.pop("gpu_peak_bytes", None)
    state = {name: x.numpy().tobytes() for name, x in result.module.state_dict().items()}
    return state, figures, result.module.best_epoch


RUNS = {
    "resnet9, sgd, one-cycle": toy_run(seed=5),
    "resnet9, bf16, channels_last": toy_run(train__precision="bf16", train__channels_last=True),
    "speednet, muon, bf16": toy_run(
        model__name="speednet",
        optim__name="muon",
        optim__gradient_clip=0.5,
        train__precision="bf16",
        train__channels_last=True,
    ),
    "dropout, adamw, cosine, clipped": toy_run(
        model__name="test_fit:dropout_net",
        optim__name="adamw",
        optim__lr=0.01,
        optim__schedule="cosine",
        optim__gradient_clip=0.5,
        data__cutout=8,
        data__flip="alternating",
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_training_repeats_itself_and_resumes_from_any_epoch_bit_for_bit(
    run: VisionRun, tmp_path: Path
) -> None:
    data = toy_data()
    unbroken = outcome(fit(run, data, callbacks=[saving(tmp_path)]))
    torch.rand(3)  # the caller's random state is nothing to a training
    assert outcome(fit(run, data)) == unbroken
    for epoch in (1, 2, 3):
        resumed = fit(run, data, resume_from=tmp_path / f"{epoch}.ckpt")
        assert outcome(resumed) == unbroken, f"resumed after epoch {epoch}"


def test_another_seed_gives_another_training() -> None:
    data = toy_data()
    first, second = (fit(toy_run(max_epochs=1, seed=seed), data) for seed in (1, 2))
    assert outcome(first) != outcome(second)


def test_optimizer_and_schedule_are_as_unbroken_after_a_stop_by_system_exit(
    tmp_path: Path,
) -> None:
    data, run = toy_data(), toy_run()
    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    fit(run, data, callbacks=[saving(tmp_path / "whole")])
    stopping = [saving(tmp_path / "stopped"), ending_after(2, SystemExit)]
    with pytest.raises(SystemExit, match=r"^$"):
        fit(run, data, callbacks=stopping)
    newest = tmp_path / "stopped" / "2.ckpt"
    fit(run, data, callbacks=[saving(tmp_path / "stopped")], resume_from=newest)
    whole, resumed = (
        torch.load(tmp_path / folder / "3.ckpt", weights_only=True)
        for folder in ("whole", "stopped")
    )
    assert str(whole["optimizer_states"]) == str(resumed["optimizer_states"])
    assert whole["lr_schedulers"] == resumed["lr_schedulers"]
    assert whole["epoch"] == resumed["epoch"]
    assert whole["global_step"] == resumed["global_step"]


def test_a_finished_training_can_be_extended_on_the_longer_schedule(tmp_path: Path) -> None:
    data = toy_data()
    fit(toy_run(max_epochs=2), data, callbacks=[saving(tmp_path)])
    run = toy_run(max_epochs=4, optim__schedule="linear", optim__warmup_fraction=0.0)
    rates: list[float] = []
    note = LambdaCallback(
        on_validation_end=lambda _, module: rates.append(module.epoch_metrics["lr"])
    )
    result = fit(run, data, resume_from=tmp_path / "2.ckpt", callbacks=[note])
    assert result.metrics["epoch"] == 4
    assert rates == pytest.approx([0.1 * (1 - 11 / 16), 0.1 * (1 - 15 / 16)])


def test_a_resumed_training_takes_a_new_learning_rate_at_once(tmp_path: Path) -> None:
    data = toy_data()
    fit(toy_run(optim__schedule="constant"), data, callbacks=[saving(tmp_path)])
    faster = toy_run(optim__schedule="constant", optim__lr=0.02)
    assert fit(faster, data, resume_from=tmp_path / "1.ckpt").metrics["lr"] == 0.02


def test_the_callers_random_states_threads_and_signals_are_as_before() -> None:
    data = toy_data()
    torch.set_num_threads(2)
    before = (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]
        torch.backends.cudnn.benchmark,
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )
    with pytest.raises(SystemExit, match=r"^$"):
        fit(toy_run(), data, callbacks=[ending_after(1, SystemExit)])
    after = (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]
        torch.backends.cudnn.benchmark,
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )
    assert before == after
    assert torch.get_num_threads() == 2


def test_ctrl_c_comes_out_as_such() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        fit(toy_run(), toy_data(), callbacks=[ending_after(1, KeyboardInterrupt)])
    assert signal.getsignal(signal.SIGINT) == before


def test_a_fit_says_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(toy_run(max_epochs=1), toy_data())
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_under_slurm_a_fit_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "4", "JOB_ID": "1", "PROCID": "2", "LOCALID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert fit(toy_run(max_epochs=1), toy_data()).metrics["epoch"] == 1


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_fast_dev_run_covers_every_model(name: str, precision: str) -> None:
    run = toy_run(model__name=name, model__width=8, train__precision=precision)
    result = fit(run, toy_data(), fast_dev_run=True)
    assert result.metrics["epoch"] == 1
    assert not result.diverged


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "linear"])
def test_fast_dev_run_covers_every_optimizer_and_schedule(optimizer: str, schedule: str) -> None:
    run = toy_run(optim__name=optimizer, optim__schedule=schedule, optim__gradient_clip=1.0)
    assert not fit(run, toy_data(), fast_dev_run=True).diverged


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_two_steps_of_every_optimizer_precision_and_clipping(
    optimizer: str, precision: str, clip: float
) -> None:
    run = toy_run(optim__name=optimizer, train__precision=precision, optim__gradient_clip=clip)
    assert not fit(run, toy_data(), overrides={"limit_train_batches": 2}).diverged


class Centred(nn.Module):
    """A user's own network that starts from the mean of training images."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 32, 32))
        self.layer = nn.Linear(3072, 10)
        self.seen = 0

    def init_from_images(self, images: torch.Tensor) -> None:
        self.seen = len(images)
        self.mean.copy_(images.mean(dim=0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer((images - self.mean).flatten(1))
        return logits


def centred(config: ModelConfig, num_classes: int) -> nn.Module:
    return Centred()


def test_a_network_may_start_from_training_images_and_does_so_once(tmp_path: Path) -> None:
    data = toy_data()
    run = toy_run(model__name="test_fit:centred")
    network = fit(run, data, callbacks=[saving(tmp_path)]).module.model
    images = torch.from_numpy(data.train_images).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(network.mean, ((images - 0.5) / 0.25).mean(dim=0))
    assert network.seen == 64
    resumed = fit(run, data, resume_from=tmp_path / "1.ckpt").module.model
    assert resumed.seen == 0
    assert torch.equal(resumed.mean, network.mean)


def test_images_to_start_from_are_spread_over_all_classes() -> None:
    data = toy_data(train=4500, val=10)
    data = replace(data, train_labels=np.sort(data.train_labels))
    network = Centred()
    init_from_images(network, data)
    assert network.seen == 1500


COMPILING = pytest.mark.skipif(
    shutil.which("g++") is None and "CXX" not in os.environ, reason="no C++ compiler"
)


@pytest.mark.faults
@COMPILING
def test_a_compiled_network_is_compiled_once_for_all_trainings_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    data = toy_data()
    values = {"model__name": "test_fit:dropout_net", "data__cutout": 8}
    plain = fit(toy_run(**values), data)
    graphs = counters["stats"]["unique_graphs"]
    first = fit(toy_run(train__compile=True, **values), data, callbacks=[saving(tmp_path)])
    assert counters["stats"]["unique_graphs"] == graphs + 2, "to train, and to validate"
    other = toy_run(train__compile=True, seed=1, optim__lr=0.02, optim__name="muon", **values)
    fit(other, data)
    assert counters["stats"]["unique_graphs"] == graphs + 2
    assert list(first.module.state_dict()) == list(plain.module.state_dict())
    assert "forward" not in vars(first.module.model)
    resumed = fit(toy_run(train__compile=True, **values), data, resume_from=tmp_path / "2.ckpt")
    assert outcome(resumed) == outcome(first)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, "no-such-compiler")
    with pytest.raises(PlanError, match=r"train\.compile is true, .* there is no no-such-compiler"):
        fit(toy_run(train__compile=True), toy_data())


@pytest.mark.faults
def test_a_fit_that_is_the_first_to_import_lightning_is_silent() -> None:
    code = (
        "from toy_images import toy_data, toy_run\n"
        "from cifar_tune.train.fit import fit\n"
        "fit(toy_run(max_epochs=1), toy_data())\n"
    )
    command, tests = [sys.executable, "-W", "ignore", "-c", code], Path(__file__).parents[1]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=tests, timeout=120
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_auto_is_settled_and_comes_back_in_the_result() -> None:
    run = toy_run(
        max_epochs=1, train__precision="auto", train__channels_last="auto", data__image_size=32
    )
    result = fit(run.with_values({"train.threads": "auto"}, 0), toy_data())
    assert "auto" not in result.run.train.model_dump().values()
    assert result.module.run == result.run


@pytest.mark.skipif(torch.cuda.is_available(), reason="precision 16 is refused without a GPU alone")
def test_precision_16_is_refused_without_a_gpu() -> None:
    with pytest.raises(PlanError, match=r"train\.precision is 16, which needs a GPU"):
        fit(toy_run(train__precision="16"), toy_data())


def test_a_batch_larger_than_the_data_is_one_step_an_epoch() -> None:
    result = fit(toy_run(data__batch_size=128), toy_data())
    assert 0 < result.metrics["train_loss"] < 100


@pytest.mark.parametrize("path", ["https://example.org/model.ckpt", "gone.ckpt"])
def test_a_checkpoint_that_is_no_local_file_is_refused(path: str) -> None:
    with pytest.raises(PlanError, match=r"the checkpoint .*ckpt is not a local file"):
        fit(toy_run(), toy_data(), resume_from=path)  # type: ignore[arg-type]


class Hostile:
    """Unpickling it would create the file `ran`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_nothing_in_a_checkpoint_is_ever_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "epoch": Hostile()}, "hostile.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        fit(toy_run(), toy_data(), resume_from=tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


def test_an_epoch_is_told_in_one_line() -> None:
    metrics = {"epoch": 3.0, "train_loss": 1.5, "val_loss": 1.25, "val_accuracy": 0.5}
    metrics |= {"lr": 0.01, "images_per_second": 1234.5, "best_val_accuracy": 0.5}
    line = epoch_line(metrics, seconds=7.0)
    assert "\n" not in line
    for part in (
        "epoch   3",
        "train_loss 1.5",
        "val_loss 1.25",
        "val_accuracy 0.5",
        "lr 0.01",
        "7.0 s",
    ):
        assert part in line


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes of twelve and four images."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "images"


SMALL = [f"data.{field}=4" for field in ("val_size", "confirm_size", "batch_size")]


def test_the_command_trains_and_prints_a_line_an_epoch(image_folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cifar_tune.train",
        "--fast-dev-run",
        "--set",
        "model.width=4",
    ]
    for entry in SMALL:
        command += ["--set", entry]
    command += ["--data-dir", str(image_folder), "--save", str(tmp_path / "best.ckpt")]
    environment = {**os.environ, "CIFAR_TUNE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    *_, epoch, last = done.stdout.splitlines()
    assert epoch.startswith("epoch   1  ")
    assert "  train_loss " in epoch
    assert last.startswith("best val_accuracy 0.")
    assert (tmp_path / "best.ckpt").is_file()


def test_a_bad_field_is_exit_code_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "optim.lrr=1"]) == 2
    assert "did you mean optim.lr?" in capsys.readouterr().err
