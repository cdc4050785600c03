"""What Ray or YAML take in silence: exit code 2, with place, value, rule and remedy, and no process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = "search:\n  space:\n    optim.lr: "
# As flags: words, and what is said. As lines of a file: text, the line, and what is said.
FLAGS = {
    "no samples": ("--num-samples 0", "--num-samples 0: search.num_samples is 0; it must be greater than or equal to 1"),
    "fewer than none": ("--num-samples=-3", "--num-samples -3: search.num_samples is -3; it must be greater"),
    "grace above the end": ("--set search.grace_period=20", "search.grace_period is 20, above train.max_epochs, which is 9; lower it"),
    "halving into one": ("--set search.reduction_factor=1", "search.reduction_factor is 1; it must be greater than or equal to 2"),
    "endless retries": ("--set search.max_failures=-5", "search.max_failures is -5; it must be greater than or equal to 0"),
    "a metric never logged": ("--set search.metric=val_f1", "search.metric is 'val_f1'; it must be one of val_accuracy, val_loss, val_macro_f1,"),
    "a misspelt resource": ("--set resources.gpu_per_trial=1", "is not a field of the plan; did you mean resources.gpus_per_trial?"),
    "one and a half GPUs": ("--gpus-per-trial 1.5", "--gpus-per-trial is 1.5; give a share below 1, such as 0.5, or a whole number"),
    "reversed bounds": ("--set search.space.optim.lr={uniform: [1, 0.1]}", "search.space.optim.lr has uniform: [1, 0.1]; low must be below high: swap them"),
    "bounds of words": ("--set search.space.optim.lr={loguniform: ['1e-4', '1e-1']}", "has loguniform bound '1e-4'; bounds must be finite numbers"),
    "a word's letters": ("--set search.space.optim.name={choice: sgd}", "has choice: 'sgd'; give a list of at least one value"),
    "an empty choice": ("--set search.space.optim.lr={choice: []}", "has choice: []; give a list of at least one value"),
    "an empty grid": ("--set search.space.optim.lr={grid: []}", "has grid: []; give a list of at least one value"),
    "steps of zero": ("--set search.space.model.width={qrandint: [1, 8, 0]}", "has ['qrandint']; give exactly one of choice, grid"),
    "no as false": ("--set data.drop_last=no", "data.drop_last is 'no'; it must be a valid boolean"),
}  # fmt: skip
FILES = {
    "no samples": ("search:\n  num_samples: 0\n", 2, "search.num_samples is 0; it must be greater"),
    "endless retries": ("search:\n  max_failures: -5\n", 2, "search.max_failures is -5; it must be"),
    "halving into one": ("search:\n  reduction_factor: 1\n", 2, "search.reduction_factor is 1; it must be"),
    "a metric never logged": ("search:\n  metric: accuracy\n", 2, "search.metric is 'accuracy'; it must be"),
    "a misspelt resource": ("resources:\n  gpu_per_trial: 1\n", 2, "did you mean resources.gpus_per_trial?"),
    "reversed bounds": (SPACE + "{uniform: [1, 0]}\n", 3, "has uniform: [1, 0]; low must be below high"),
    "bounds of words": (SPACE + '{loguniform: ["1e-4", 1]}\n', 3, "has loguniform bound '1e-4'; bounds must be"),
    "a word's letters": (SPACE + "{choice: abc}\n", 3, "has choice: 'abc'; give a list"),
    "an empty choice": (SPACE + "{choice: []}\n", 3, "has choice: []; give a list"),
    "an empty grid": (SPACE + "{grid: []}\n", 3, "has grid: []; give a list"),
    "steps of zero": (SPACE + "{qrandint: [1, 8, 0]}\n", 3, "has ['qrandint']; give exactly one of"),
    "a number in quotes": ('optim:\n  lr: "1e-3"\n', 2, "optim.lr is '1e-3'; it must be a valid number"),
    "no as false": ("data:\n  drop_last: no\n", 2, "data.drop_last is 'no'; it must be a valid boolean"),
    "a key twice": ("optim:\n  lr: 0.1\n  lr: 0.2\n", 3, "key 'lr' stands here twice; keep one"),
}  # fmt: skip
PROGRAM = """
import contextlib, io, json, sys
from pathlib import Path
from cifar_tune.tune import main

def run(words):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        return main(words), told.getvalue()

answers = {name: run(words) for name, words in json.load(sys.stdin).items()}
children = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
print(json.dumps({"answers": answers, "children": "".join(children)}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, tuple[int, str]]:
    """Exit code and errors of each command, all given in one process that has no child after."""
    commands = {f"flag, {name}": _words(given) for name, (given, _) in FLAGS.items()}
    for number, (name, (text, _, _)) in enumerate(FILES.items()):
        (folder / f"{number}.yaml").write_text(text)
        commands[f"file, {name}"] = ["--config", str(folder / f"{number}.yaml")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands), capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["children"].split() == []
    return {name: tuple(answer) for name, answer in said["answers"].items()}


def _words(given: str) -> list[str]:
    flag, _, value = given.partition(" ")
    return [flag, value] if value else [flag]


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_refused_with_value_and_rule(
    name: str, told: dict[str, tuple[int, str]], folder: Path
) -> None:
    code, error = told[f"flag, {name}"]
    assert code == 2
    assert error.startswith("error: ")
    assert FLAGS[name][1] in error
    assert error.count("\n") == 1
    assert not (folder / "results").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_line_of_a_file_is_refused_with_value_and_rule(
    name: str, told: dict[str, tuple[int, str]], folder: Path
) -> None:
    _, line, message = FILES[name]
    code, error = told[f"file, {name}"]
    assert code == 2
    assert error.startswith(f"error: {folder / str(list(FILES).index(name))}.yaml:{line}: ")
    assert message in error
    assert error.count("\n") == 1
