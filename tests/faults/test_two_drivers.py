"""Two drivers that are given the same name, at once and one after the other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import command, run

from cifar_tune.record.journal import FILE_NAME, read_journal
from cifar_tune.record.results import Results


@pytest.mark.faults
def test_row_24_of_two_drivers_with_the_same_name_the_second_is_refused(
    small_plan: list[str], tmp_path: Path
) -> None:
    given = [*small_plan, "search.num_samples=2", "train.max_epochs=2", "search.scheduler=none"]
    sets = [word for value in given for word in ("--set", value)]
    arguments, folder = ["--out", str(tmp_path), "--name", "one", *sets], tmp_path / "one"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command(*arguments), text=True, **pipes) for _ in range(2)]
    told = [process.communicate(timeout=240) for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], told
    _, refusal = told[codes.index(2)]
    assert f"resume {folder}" in refusal
    assert len(read_journal(folder).of("search")) == 1
    assert Results.read(folder).counts()["completed"] == 2
    content = (folder / FILE_NAME).read_bytes()
    third = run(*arguments)
    assert third.returncode == 2
    assert f"cifar_tune.tune resume {folder}" in third.stderr
    assert (folder / FILE_NAME).read_bytes() == content
