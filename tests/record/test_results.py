from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from cifar_tune.errors import ResultsError
from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import Journal
from cifar_tune.record.ranking import best_epoch, pick_best
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.record.tables import summarise, trials_csv, write_tables
from cifar_tune.record.trials import ENDED


def begin(folder: Path, *overrides: str) -> Recorder:
    recorder = Recorder(Journal(folder))
    plan = load_plan(None, ["train.max_epochs=3", *overrides]).model_dump(mode="json")
    recorder.write("search", version=1, plan=plan, data={"kind": "images"}, environment={})
    recorder.write("start", number=1, slots=2, process=1, plan=plan)
    return recorder


def create(recorder: Recorder, index: int) -> None:
    name = f"t{index + 1:04}"
    values = {"optim.lr": 0.1 * (index + 1), "data.batch_size": 64}
    recorder.write("trial_created", trial_id=name, index=index, seed=index, values=values)
    recorder.write("trial_started", trial_id=name, start=1)


def report(
    recorder: Recorder, index: int, epoch: int, accuracy: float, *, loss: float = 1.0, **more: Any
) -> None:
    metrics = {
        "epoch": epoch, "val_accuracy": accuracy, "val_loss": loss,
        "first_step_at": 100.0, "reported_at": 100.0 + epoch,
    }  # fmt: skip
    name = f"t{index + 1:04}"
    event = {"trial_id": name, "metrics": metrics, "checkpoint": f"ray/{name}/{epoch}/model.ckpt"}
    recorder.write("result", **{**event, "done": False, "diverged": False, **more})


def end(recorder: Recorder, index: int, status: str) -> None:
    recorder.write("trial_ended", trial_id=f"t{index + 1:04}", status=status, reason="r")


def test_the_best_epoch_is_the_earliest_of_the_best_or_the_last(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    create(recorder, 0)
    for epoch, accuracy in ((1, 0.5), (2, 0.7), (3, 0.7)):
        report(recorder, 0, epoch, accuracy, loss=3.0 - epoch)
    trial = recorder.results.trials["t0001"]
    search = recorder.results.plan.search
    assert best_epoch(trial, search) == 2
    assert best_epoch(trial, search.model_copy(update={"winner_by": "last"})) == 3
    assert best_epoch(trial, search.model_copy(update={"metric": "val_loss", "mode": "min"})) == 3


def test_what_a_trial_completed_counts_although_it_fails_in_an_extension(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    results = recorder.results
    epochs = results.plan.train.max_epochs
    for index, accuracy in enumerate((0.9, 0.5)):
        create(recorder, index)
        report(recorder, index, epochs, accuracy, done=True)
        end(recorder, index, "completed")
    plan = results.plan.model_dump(mode="json")
    plan["train"]["max_epochs"] = epochs + 5
    recorder.write("extended", plan=plan)
    assert {trial.status for trial in results.trials.values()} == {"pending"}
    report(recorder, 0, epochs + 1, 0.95)
    end(recorder, 0, "failed")
    best = results.best()
    assert best is not None
    assert (best.trial_id, best_epoch(best, results.plan.search)) == ("t0001", epochs)


def test_equals_are_told_apart_by_loss_then_by_age(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    for index, loss in enumerate((2.0, 1.0, 1.0)):
        create(recorder, index)
        report(recorder, index, 1, 0.5, loss=loss)
    best = recorder.results.best()
    assert best is not None
    assert best.trial_id == "t0002"


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_leader_that_fails_hands_over_to_the_next(tmp_path: Path, status: str) -> None:
    recorder = begin(tmp_path)
    for index, accuracy in enumerate((0.4, 0.9, 0.6)):
        create(recorder, index)
        report(recorder, index, 1, accuracy)
    end(recorder, 0, "stopped")
    end(recorder, 1, status)
    results = recorder.results
    best, ended = results.best(), results.best_ended()
    assert best is not None
    assert ended is not None
    assert (best.trial_id, ended.trial_id) == ("t0003", "t0001")
    assert best is pick_best(results.trials.values(), results.plan)


def test_with_winner_by_last_a_leader_that_gets_worse_hands_over(tmp_path: Path) -> None:
    recorder = begin(tmp_path, "search.winner_by=last")
    for index, accuracy in enumerate((0.9, 0.8)):
        create(recorder, index)
        report(recorder, index, 1, accuracy)
    report(recorder, 0, 2, 0.1)
    best = recorder.results.best()
    assert best is not None
    assert best.trial_id == "t0002"


@pytest.mark.parametrize("winner_by", ["best", "last"])
def test_the_leaders_are_those_that_a_look_at_all_trials_finds(
    winner_by: str, tmp_path: Path
) -> None:
    recorder, rng = begin(tmp_path, f"search.winner_by={winner_by}"), random.Random(0)
    results, trials = recorder.results, 12
    for index in range(trials):
        create(recorder, index)
    running = list(range(trials))
    for step in range(150):
        if not running:
            break
        index = rng.choice(running)
        if rng.random() < 0.1:
            running.remove(index)
            end(recorder, index, rng.choice(["completed", "stopped", "failed", "diverged"]))
        else:
            report(recorder, index, step + 1, rng.choice([0.1, 0.2, 0.3]), loss=rng.random())
        every = results.trials.values()
        assert results.best() is pick_best(every, results.plan)
        assert results.best_ended() is pick_best(
            (t for t in every if t.status in ENDED), results.plan
        )
    assert len(running) < trials / 2


def test_a_decision_in_the_result_line_counts_without_an_end_line(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    for index in range(3):
        create(recorder, index)
    report(recorder, 0, 1, 0.5, done=True)
    report(recorder, 1, 3, 0.5, done=True)
    report(recorder, 2, 1, 0.0, diverged=True)
    statuses = [trial.status for trial in Results.read(tmp_path).trials.values()]
    assert statuses == ["stopped", "completed", "diverged"]


def test_a_search_is_read_by_the_word_that_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(begin(tmp_path), 0)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    for folder in (tmp_path, str(tmp_path), f"~/{tmp_path.name}"):
        results = Results.read(folder)
        assert results.folder == tmp_path
        assert list(results.trials) == ["t0001"]
    with pytest.raises(ResultsError, match="~nobody-of-this-name/x holds no search"):
        Results.read("~nobody-of-this-name/x")


def test_fractions_in_the_table_are_for_people_and_those_in_the_summary_exact(
    tmp_path: Path,
) -> None:
    recorder = begin(tmp_path)
    create(recorder, 2)  # a learning rate of 0.1 * 3
    report(recorder, 2, 1, 1 / 3, loss=2 / 3)
    table = trials_csv(recorder.results)
    assert re.search(r"^t0003,running,1,1,0\.333333,0\.666667,2,[\d.]+,0\.3,", table, re.MULTILINE)
    exact = trials_csv(recorder.results, exact=True)
    assert f",{1 / 3},{2 / 3},2," in exact
    assert f",{0.1 * 3}," in exact
    best = summarise(recorder.results)["best"]
    assert (best["val_accuracy"], best["config"]["optim.lr"]) == (1 / 3, 0.1 * 3)


def test_tables_say_what_the_journal_says(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    for index in range(2):
        create(recorder, index)
    report(recorder, 0, 1, 0.5)
    report(recorder, 0, 2, 0.75, loss=0.5, done=True)
    end(recorder, 0, "stopped")
    write_tables(recorder.results)
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial_id"] for row in rows] == ["t0001", "t0002"]
    assert rows[0] | {"wall_seconds": ""} == {
        "trial_id": "t0001", "status": "stopped", "epochs": "2", "best_epoch": "2",
        "val_accuracy": "0.75", "val_loss": "0.5", "seed": "0", "wall_seconds": "",
        "optim.lr": "0.1", "optim.weight_decay": "", "optim.label_smoothing": "",
        "data.batch_size": "64",
    }  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["trials"] == {
        "total": 2, "pending": 0, "running": 1, "completed": 0, "stopped": 1, "diverged": 0,
        "failed": 0, "interrupted": 0,
    }  # fmt: skip
    assert summary["best"] == {
        "trial_id": "t0001", "epoch": 2, "val_accuracy": 0.75, "val_loss": 0.5,
        "config": {"optim.lr": 0.1, "data.batch_size": 64},
    }  # fmt: skip
    assert summary["cost"]["epochs_run"] == 2
    assert summary["cost"]["epochs_without_stopping"] == 6
    assert summary["cost"]["busy_seconds"] == 2.0
    assert summary["finals"] is None


def test_a_reader_sees_what_the_writer_sees(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    for index in range(3):
        create(recorder, index)
        report(recorder, index, 1, 0.1 * index)
    recorder.write("checkpoints_dropped", trial_id="t0001", epochs=[1])
    recorder.write("of a later version", anything=1)
    assert Results.read(tmp_path) == recorder.results
    assert recorder.results.trials["t0001"].checkpoints == {}


def test_a_test_score_is_not_shown_beside_another_winner(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    create(recorder, 0)
    report(recorder, 0, 1, 0.5)
    recorder.write(
        "test_scored", trial_id="t0001", epoch=1, number=0, seeds=[0], test_accuracy=[0.4],
        mean=0.4, std=None, ci95=None, test_images=100, flip_averaging=False,
    )  # fmt: skip
    finals = summarise(recorder.results)["finals"]
    shown = ("seeds", "test_accuracy", "mean", "std", "ci95")
    assert [finals[key] for key in shown] == [[0], [0.4], 0.4, None, None]
    create(recorder, 1)
    report(recorder, 1, 1, 0.9)
    assert summarise(recorder.results)["finals"] is None


def test_another_round_of_finals_that_is_interrupted_leaves_the_first_result(
    tmp_path: Path,
) -> None:
    recorder = begin(tmp_path)
    create(recorder, 0)
    report(recorder, 0, 1, 0.5)
    first = {"trial_id": "t0001", "epoch": 1, "val_accuracy": 0.5, "values": {}}
    asked = {"candidates": 1, "seeds": 1, "flip_averaging": False}
    told = {"number": 1, "trial_id": "t0001", "epoch": 1}
    recorder.write("finals_began", number=1, asked=asked, candidates=[first], seeds=1)
    recorder.write("test_opened", **told, models=[], lost={}, flip_averaging=False, again=False)
    assert recorder.results.test_pending
    recorder.write("test_scored", **told, seeds=[0], test_accuracy=[0.4], mean=0.4, lost={})
    assert not recorder.results.test_pending
    recorder.write(
        "finals_began", number=2, asked={**asked, "seeds": 3}, candidates=[first], seeds=3
    )
    assert summarise(recorder.results)["finals"]["mean"] == 0.4
    assert recorder.results.plan.finals.seeds == 3  # whoever goes on, goes on with these


def test_an_observer_that_fails_is_told_once_and_costs_nothing(tmp_path: Path, caplog: Any) -> None:
    recorder = begin(tmp_path)

    def broken(event: Any, results: Any) -> None:
        raise OSError("no space left")

    recorder.observers.append(broken)
    create(recorder, 0)
    assert recorder.observers == []
    assert caplog.text.count("no space left") == 1
    assert len(Results.read(tmp_path).trials) == 1


def test_utilisation_is_busy_over_wall_times_slots(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    create(recorder, 0)
    report(recorder, 0, 3, 0.5)
    start = recorder.results.starts[0]
    start.began, start.ended = 10.0, 20.0
    assert recorder.results.cost()["utilisation"] == pytest.approx(3 / (10 * 2))
