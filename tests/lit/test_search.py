"""Whole searches of one's own modules, by the commands and from Python, with real Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
from lit.plans import words

from cifar_tune import Results
from cifar_tune.record.journal import read_journal

TESTS = Path(__file__).parent.parent  # where `lit.own_modules` can be imported
SMALL = ("--num-samples", "6", "--final-seeds", "3", "--candidates", "2")


def search(out: Path, name: str, *more: str, data: str = "WithConfirm") -> list[str]:
    return [*words(data=data), *SMALL, "--out", str(out), "--name", name, *more]


CLI_FILE = """
seed_everything: 7
trainer: {max_epochs: 4, accelerator: auto, logger: null}
model: {class_path: lit.own_modules.Classifier, init_args: {hidden: 8}}
data: {class_path: lit.own_modules.WithConfirm, init_args: {batch_size: 16}}
optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1, momentum: 0.9}}
lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 4}}
ckpt_path: null
"""


@pytest.mark.faults
@pytest.mark.parametrize("by", ["flags", "a file of LightningCLI"])
def test_a_search_is_killed_resumed_extended_and_ends_with_its_page(
    by: str, tmp_path: Path
) -> None:
    folder, given = tmp_path / "one", search(tmp_path, "one")
    if by != "flags":
        (tmp_path / "cli.yaml").write_text(CLI_FILE)
        given = [
            "--lightning-config", str(tmp_path / "cli.yaml"), "--metric", "val_f1", "--mode", "max",
            "--set", "search.space.optimizer.lr={loguniform: [0.01, 0.3]}",
            *SMALL, "--out", str(tmp_path), "--name", "one",
        ]  # fmt: skip
    command = command_line.command("tune", *given, "--set", "search.reduction_factor=2")
    with subprocess.Popen(command, cwd=TESTS, text=True, start_new_session=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        command_line.wait_for_results(folder, 4, process)
        os.killpg(process.pid, signal.SIGKILL)
    before = read_journal(folder).of("result")
    done = command_line.run("resume", str(folder), cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results.read(folder)
    after = read_journal(folder).of("result")
    assert after[: len(before)] == before
    reports = [(event["trial_id"], event["metrics"]["epoch"]) for event in after]
    assert len(reports) == len(set(reports))
    assert results.finished
    done = command_line.run("extend", str(folder), "--num-samples", "+2", cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Results.read(folder).counts()["total"] == 8
    assert "validation f1" in done.stdout
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finals"]["test_f1"]
    assert "examples" in summary["finals"]["confirm"]["statement"]
    assert "test f1" in (folder / "report.html").read_text()
    loads = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from lit.own_modules import Classifier;"
        "print(Classifier.load_from_checkpoint(sys.argv[2], weights_only=True).hparams)"
    )
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", loads, str(TESTS), str(folder / "best" / "model.ckpt")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"lr"' in loaded.stdout
    told = command_line.run("predict", "--model", str(folder), "photo.jpg")
    assert told.returncode == 2
    assert "holds lit.own_modules:Classifier, a LightningModule of your own" in told.stderr
    assert f"cat {folder / 'best' / 'README.md'}" in (folder / "report.html").read_text()


@pytest.mark.faults
def test_own_early_stopping_completes_trials_and_data_is_prepared_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    given = words(f"data.told={told}", module="WithCallbacks", data="Jittered")
    more = ["--num-samples", "3", "--final-seeds", "0", "--out", str(tmp_path), "--name", "one"]
    done = command_line.run("tune", *given, *more, cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results.read(tmp_path / "one")
    assert results.counts()["completed"] == 3
    assert {trial.epochs for trial in results.trials.values()} == {2}
    assert {trial.reason for trial in results.trials.values()} == {
        "it ended by itself after epoch 2"
    }
    # By the two batches before the start, by all trials together, and by the score.
    assert told.read_text().count("prepared") == 3, done.stdout


@pytest.mark.faults
def test_a_metric_that_is_no_number_ends_its_trial_as_diverged(tmp_path: Path) -> None:
    given = words("search.space.model.lr={grid: [0.1, 0.9]}", module="Nan")
    more = ["--num-samples", "2", "--final-seeds", "0", "--out", str(tmp_path), "--name", "one"]
    done = command_line.run("tune", *given, *more, cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = [trial.status for trial in Results.read(tmp_path / "one").trials.values()]
    assert statuses == ["completed", "diverged"]


NOTEBOOK = """
import lightning as L
from lit.own_modules import Blobs, Classifier

class Mine(Classifier):
    def on_train_epoch_end(self):
        {extra}

import cifar_tune
try:
    results = cifar_tune.tune_module(
        Mine, Blobs, space={{"model.lr": {{"loguniform": [0.01, 0.3]}}}}, metric="val_f1", mode="max",
        num_samples=2, max_epochs=2, name="mine", resume=True,
        plan={{"model.hidden": 4, "finals.seeds": 0, "out": {out!r}}},
    )
    print(list(cifar_tune.frame(results)["model.lr"]))
except cifar_tune.errors.CifarTuneError as error:
    print(type(error).__name__, error)
"""


def notebook(out: Path, extra: str = "pass") -> str:
    """What a notebook's process prints: it has no file that another process could import."""
    script = out / "cell.py"
    script.write_text(NOTEBOOK.format(out=str(out), extra=extra))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(TESTS)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_classes_of_a_script_are_searched_and_a_change_is_refused_before_a_resume(
    tmp_path: Path,
) -> None:
    first = notebook(tmp_path)
    counts = Results.read(tmp_path / "mine").counts()
    assert counts["completed"] + counts["stopped"] == counts["total"] == 2
    assert notebook(tmp_path).splitlines()[-1] == first.splitlines()[-1]
    assert "DataError __main__:Mine is" in (told := notebook(tmp_path, "print('changed')"))
    assert "take the old source, or start a new search under another name" in told


def test_what_a_journal_can_not_keep_is_refused() -> None:
    import torch
    from lit.own_modules import Blobs, Classifier

    from cifar_tune import tune_module
    from cifar_tune.errors import PlanError

    given = {"space": {"model.lr": {"uniform": [0.1, 0.2]}}, "metric": "val_f1", "mode": "max"}
    with pytest.raises(
        PlanError, match=r"model\.act is ReLU\(\), of ReLU; a plan holds plain values"
    ):
        tune_module(Classifier, Blobs, plan={"model.act": torch.nn.ReLU()}, **given)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"is no class; pass the class itself"):
        tune_module(Classifier(), Blobs, **given)  # type: ignore[arg-type]

    class Inner(Classifier):
        pass

    with pytest.raises(PlanError, match=r"is not found by that name \(it is defined in a function"):
        tune_module(Inner, Blobs, **given)  # type: ignore[arg-type]
