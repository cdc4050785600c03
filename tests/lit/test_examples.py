"""The examples run as their first lines say, at a smaller size."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import command_line
import pytest

from cifar_tune import Results

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--num-samples", "2", "--max-epochs", "1", "--final-seeds", "0", "--name", "one")


def told_command(name: str) -> list[str]:
    """The words that an example's docstring says to type."""
    text = importlib.import_module(f"examples.{name}").__doc__ or ""
    (command,) = re.findall(r"^    (cifar-tune tune .*?)\n\n", text, re.M | re.S)
    return shlex.split(command.replace("\\\n", " "))[1:]


@pytest.mark.faults
@pytest.mark.parametrize(("name", "metric"), [("tabular", "val_f1"), ("gan", "val_distance")])
def test_an_example_is_searched_by_its_command(
    name: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    done = command_line.run(*told_command(name), *SMALL, "--out", str(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    winner = Results.read(tmp_path / "one").winner()
    assert winner is not None
    assert winner[metric] is not None


@pytest.mark.faults
def test_the_example_in_python_prints_its_trials(tmp_path: Path) -> None:
    source = (ROOT / "examples" / "text.py").read_text()
    (tmp_path / "text.py").write_text(
        source.replace("num_samples=6, max_epochs=4", "num_samples=2, max_epochs=1")
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "text.py"], capture_output=True, text=True, cwd=tmp_path,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "val_acc" in done.stdout
    assert len(source.partition("from cifar_tune import")[2].splitlines()) <= 7
