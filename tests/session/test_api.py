"""A search from Python is the command's search, and the package itself stays light."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from told import story

import cifar_tune
from cifar_tune import Results, frame, load_plan, run_search
from cifar_tune.errors import CifarTuneError, PlanError, ResultsError
from cifar_tune.plan.config import Plan
from cifar_tune.record.journal import read_journal
from cifar_tune.record.tables import trials_csv


def searched(small_plan: list[str], out: Path, *more: str) -> Plan:
    return load_plan("asha", [*small_plan, f"out={out}", *more])


def interrupt_once_begun(folder: Path) -> None:
    """SIGINT to this process as soon as the search has handed out a trial."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not created(folder):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


def created(folder: Path) -> int:
    try:
        return len(read_journal(folder).of("trial_created"))
    except CifarTuneError:
        return 0  # not begun yet


@pytest.mark.parametrize("quiet", [False, True])
def test_an_interrupt_ends_the_caller_too_after_all_was_saved(
    quiet: bool,
    small_plan: list[str],
    tmp_path: Path,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = searched(small_plan, tmp_path, "search.num_samples=2")
    folder = tmp_path / "search-1"
    threading.Thread(target=interrupt_once_begun, args=(folder,), daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match=r"everything reported is saved.*/search-1"):
        run_search(plan, quiet=quiet)
    results = Results.read(folder)
    assert results.counts()["interrupted"]
    assert not results.finished
    said = capsys.readouterr().out
    assert ("search      random with asha, 2 trials" in said) is not quiet
    assert bool(said) is not quiet
    with pytest.raises(ResultsError, match="holds a search already"):
        run_search(plan.model_copy(update={"name": "search-1"}))


def test_what_the_command_refuses_is_raised(small_plan: list[str], tmp_path: Path) -> None:
    plan = searched(small_plan, tmp_path, "search.searcher=gp", "search.scheduler=asha")
    with pytest.raises(PlanError, match="gp"):
        run_search(plan)
    assert list(tmp_path.iterdir()) == []


def test_a_frame_has_the_rows_and_columns_of_the_table(tmp_path: Path) -> None:
    space = [
        "search.space={optim.lr: {loguniform: [0.01, 1]}, model.name: {choice: [net, resnet9]},"
        " model.width: {int: [2, 8], when: {model.name: resnet9}},"
        " train.precision: {choice: ['32', bf16]}, data.flip: {choice: [none, random]}}",
    ]
    values = [
        {"optim.lr": 0.1 + 0.2, "model.name": "net", "train.precision": "32", "data.flip": "none"},
        {"optim.lr": 0.02, "model.name": "resnet9", "model.width": 5}
        | {"train.precision": "bf16", "data.flip": "random"},
    ]
    with story(tmp_path) as told:
        told.begin(*space)
        for one in values:
            told.create(one)
        told.report("t0001", 1, 1 / 3, done=True)
        results = told.recorder.results
    table = frame(results)
    header = next(csv.reader(io.StringIO(trials_csv(results))))
    assert list(table.columns) == header
    first, second = (table.iloc[row].to_dict() for row in (0, 1))
    assert {name: first[name] for name in values[0]} == values[0]
    assert {name: second[name] for name in values[1]} == values[1]
    assert table["model.width"].isna().tolist() == [True, False]
    assert (first["best_epoch"], first["val_accuracy"]) == (1, 1 / 3)
    assert table["best_epoch"].isna().tolist() == [False, True]


def test_the_package_imports_nothing_until_a_name_is_asked_for() -> None:
    code = (
        "import sys; before = set(sys.modules); import cifar_tune;"
        "print(sorted(set(sys.modules) - before)); cifar_tune.load_plan;"
        "print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["['cifar_tune']", "False False"]


def test_the_package_has_the_names_that_it_lists() -> None:
    assert set(cifar_tune.__all__) <= set(dir(cifar_tune))
    for name in cifar_tune.__all__:
        assert getattr(cifar_tune, name).__name__ == name
    with pytest.raises(AttributeError, match="'cifar_tune' has no attribute 'run_serach'"):
        cifar_tune.run_serach  # noqa: B018
