"""A search with real finals, killed while its final models train, by the command line."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import command, run, wait_for_results

from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import read_journal

pytestmark = pytest.mark.faults
SEEDS, EPOCHS = 3, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """SIGKILL after two epochs of the final trainings, then the same command again."""
    out = tmp_path_factory.mktemp("finals")
    given = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=4",
        "search.space.data.batch_size={choice: [16, 32]}", "search.num_samples=3",
        f"train.max_epochs={EPOCHS}", "search.scheduler=none", "finals.candidates=2",
        f"finals.seeds={SEEDS}",
    ]  # fmt: skip
    sets = [word for value in given for word in ("--set", value)]
    arguments = ["--out", str(out), "--name", "one", "--resume", "auto", *sets]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL)
    wait_for_results(out / "one" / "finals" / "final-1", 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "95 % interval for a new training on new data" in done.stdout
    return out / "one"


def test_the_test_split_is_opened_once_for_all_final_models(folder: Path) -> None:
    records = read_journal(folder)
    assert len(records.of("test_opened")) == len(records.of("test_scored")) == 1
    assert len(records.of("confirmed")) == 1
    finals = json.loads((folder / "summary.json").read_text())["finals"]
    assert len(finals["test_accuracy"]) == SEEDS
    assert finals["mean"] == pytest.approx(np.mean(finals["test_accuracy"]))


def test_no_epoch_of_the_final_trainings_is_repeated(folder: Path) -> None:
    results = read_journal(folder / "finals" / "final-1").of("result")
    reported = [(event["trial_id"], event["metrics"]["epoch"]) for event in results]
    assert len(reported) == len(set(reported)) == SEEDS * EPOCHS


def test_final_models_train_on_all_training_images_from_the_start(folder: Path) -> None:
    for number in (1, 2, 3):
        home = folder / "finals" / f"seed-{number}"
        figures = json.loads((home / "metrics.json").read_text())
        assert (figures["train"], figures["epochs"]) == (400, EPOCHS)
        checkpoint = torch.load(home / "model.ckpt", weights_only=True)
        assert checkpoint["hyper_parameters"]["run"]["seed"] == figures["seed"]
        steps = {"16": 25, "32": 12}[str(load_plan(home / "config.yaml").data.batch_size)]
        assert checkpoint["global_step"] == EPOCHS * steps
