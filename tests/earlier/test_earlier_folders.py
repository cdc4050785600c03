"""Folders of an earlier version open, tell what they told, go on and predict; README.md has theirs."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run
from scipy.optimize import linear_sum_assignment

from cifar_tune import Results, load_model, load_plan, read_image

HERE = Path(__file__).parent
FOLDERS, IMAGES = HERE / "folders", HERE / "images"
KILLED = ("killed", "tpe_killed", "pbt_killed")
SEARCHES = ("finished", *KILLED)
PLANS = sorted((FOLDERS / "plans").glob("*.yaml"))
FINALS = [("finished/finals/confirm-1", 4), ("finished/finals/final-1", 2)]
CLOSE = 1e-4  # between a probability of then and now: another machine rounds otherwise

on_searches = pytest.mark.parametrize("name", SEARCHES)


def summary_of(name: str) -> dict[str, Any]:
    """What the version that wrote a search made of it."""
    return json.loads((FOLDERS / name / "summary.json").read_text())


def reports(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """The metrics of each epoch of each trial, read without the program; none comes twice."""
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "result"]
    keys = Counter((event["trial_id"], event["metrics"]["epoch"]) for event in told)
    assert set(keys.values()) == {1}, f"reported twice: {keys.most_common(3)}"
    return dict(zip(keys, (event["metrics"] for event in told), strict=True))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The table of trials, its fractions of the six digits that it has today."""
    with (folder / "trials.csv").open() as file:
        return [
            {key: f"{float(cell):.6g}" if "." in cell else cell for key, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def assert_kept(now: Any, then: Any, where: str = "") -> None:
    """All that was said then is said now; there may be new fields."""
    if not isinstance(then, dict):
        assert now == then, where
        return
    for key, value in then.items():
        assert key in now, f"{where}.{key}"
        assert_kept(now[key], value, f"{where}.{key}")


@on_searches
def test_a_search_tells_the_trials_the_winner_and_the_cost_that_were_recorded(name: str) -> None:
    results, summary = Results.read(FOLDERS / name), summary_of(name)
    assert results.finished is (name == "finished")
    assert results.counts() == summary["trials"]
    assert results.winner() == summary["best"]
    assert results.cost() == summary["cost"]
    assert results.data == summary["dataset"]
    with (FOLDERS / name / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial_id"] for row in rows] == list(results.trials)
    for row, trial in zip(rows, results.trials.values(), strict=True):
        assert (trial.status, str(trial.epochs)) == (row["status"], row["epochs"])
    told = {(t.trial_id, e): m for t in results.trials.values() for e, m in t.results.items()}
    assert told == reports(FOLDERS / name)


def test_the_finals_are_those_that_were_held() -> None:
    results, finals = Results.read(FOLDERS / "finished"), summary_of("finished")["finals"]
    assert results.test_openings == finals["openings"] == 1
    assert not results.test_pending
    assert results.test_scored is not None
    for key in ("trial_id", "seeds", "test_accuracy", "mean", "test_images"):
        assert results.test_scored[key] == finals[key]
    (confirmed,) = results.confirmed.values()
    assert confirmed["optimism"] == finals["optimism"]
    assert confirmed["confirm"] == finals["confirm"]


@pytest.mark.parametrize(("name", "trials"), FINALS)
def test_the_trainings_of_the_finals_are_searches_that_open(name: str, trials: int) -> None:
    results = Results.read(FOLDERS / name)
    assert results.finished
    assert results.counts()["completed"] == results.counts()["total"] == trials


def test_members_of_a_population_have_the_values_of_each_stretch() -> None:
    results = Results.read(FOLDERS / "pbt_killed")
    assert results.exchanges == [2]
    changed = [trial for trial in results.trials.values() if trial.inherited is not None]
    assert [trial.trial_id for trial in changed] == ["t0004"]
    before, after = changed[0].values_at(2), changed[0].values_at(3)
    assert before["optim.lr"] == pytest.approx(0.00823, rel=0.01)
    assert after["optim.lr"] == pytest.approx(0.00281, rel=0.01)
    assert set(before) == set(after)


@on_searches
def test_tables_written_anew_are_those_that_were_written_then(name: str, tmp_path: Path) -> None:
    then, now = FOLDERS / name, tmp_path / name
    shutil.copytree(then, now)
    tables = ("trials.csv", "summary.json", "plan.yaml", "environment.json")
    for table in tables:
        (now / table).unlink()
    done = run("report", str(now), "--rebuild")
    assert done.returncode == 0, done.stderr
    assert (now / "report.html").is_file()
    assert rows_of(now) == rows_of(then)
    assert_kept(json.loads((now / "summary.json").read_text()), summary_of(name))
    for table in ("plan.yaml", "environment.json"):  # JSON is YAML
        assert_kept(*(yaml.safe_load((folder / table).read_text()) for folder in (now, then)))
    journals = [(folder / "journal.jsonl").read_bytes() for folder in (now, then)]
    assert journals[0] == journals[1]


@on_searches
def test_the_plan_beside_a_search_is_the_plan_in_its_journal(name: str) -> None:
    assert load_plan(FOLDERS / name / "plan.yaml") == Results.read(FOLDERS / name).plan


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_loads_and_says_the_same(path: Path) -> None:
    said = load_plan(path).model_dump(mode="json")
    assert_kept(said, yaml.safe_load(path.read_text()))


def test_the_plans_are_all_there_and_one_that_is_changed_is_still_judged() -> None:
    assert len(PLANS) == 8
    with pytest.raises(Exception, match=r"optim\.momentun is not a field of the plan"):
        load_plan(FOLDERS / "plans" / "asha.yaml", ["optim.momentun=0.9"])


@pytest.mark.parametrize("place", ["", "best", "best/model.ckpt"])
def test_the_winner_predicts_what_it_predicted(place: str) -> None:
    model = load_model(FOLDERS / "finished" / place)
    assert model.classes == ("blue", "green", "red", "yellow")
    answers = json.loads((FOLDERS / "predictions.json").read_text())
    assert len(answers) == 24
    images = [read_image(IMAGES / answer["image"].removeprefix("data/")) for answer in answers]
    for answer, chances in zip(answers, model.probabilities(images), strict=True):
        then = {one["class"]: one["probability"] for one in answer["classes"]}
        assert dict(zip(model.classes, chances.tolist(), strict=True)) == pytest.approx(
            then, abs=CLOSE
        )


def test_the_validation_images_get_the_predictions_that_were_recorded() -> None:
    model = load_model(FOLDERS / "finished")
    recorded = np.load(FOLDERS / "finished" / "best" / "validation_predictions.npz")
    then = torch.from_numpy(recorded["logits"]).softmax(dim=1)
    assert then.shape == (24, 4)
    assert len(then.round(decimals=3).unique(dim=0)) > 10  # most images have one of their own
    # Which of the training images they were is not recorded, only in which class each is.
    for label, name in enumerate(model.classes):
        files = sorted((IMAGES / "train" / name).iterdir())
        now = model.probabilities([read_image(file) for file in files])
        of_class = then[torch.from_numpy(recorded["labels"] == label)]
        assert len(of_class) == 6
        distances = (of_class[:, None] - now).abs().amax(dim=2)
        assert distances[linear_sum_assignment(distances)].max() < CLOSE  # an image each
    figures = json.loads((FOLDERS / "finished" / "best" / "metrics.json").read_text())
    right = then.argmax(dim=1).numpy() == recorded["labels"]
    assert right.mean() == figures["val_accuracy"] == summary_of("finished")["best"]["val_accuracy"]


def test_the_final_models_score_on_the_test_images_what_they_scored() -> None:
    finals = summary_of("finished")["finals"]
    for number, accuracy in enumerate(finals["test_accuracy"], 1):
        model = load_model(FOLDERS / "finished" / "finals" / f"seed-{number}")
        files = sorted((IMAGES / "test").rglob("*.png"))
        likeliest = model.probabilities([read_image(file) for file in files]).argmax(dim=1)
        right = [
            file.parent.name == model.classes[i] for file, i in zip(files, likeliest, strict=True)
        ]
        assert len(right) == finals["test_images"] == 24
        assert sum(right) / len(right) == pytest.approx(accuracy)


def test_the_exported_program_needs_nothing_of_ours_and_says_what_the_model_says() -> None:
    pixels = torch.from_numpy(np.stack([read_image(f) for f in (IMAGES / "test").rglob("*.png")]))
    program = torch.export.load(FOLDERS / "finished" / "best" / "model.pt2").module()
    model = load_model(FOLDERS / "finished")
    with torch.no_grad():
        assert (program(pixels) - model(pixels)).abs().max() < CLOSE


def test_confirming_hands_over_a_final_model_of_an_earlier_search(tmp_path: Path) -> None:
    then, now = FOLDERS / "finished", tmp_path / "finished"
    shutil.copytree(then, now)
    done = run("confirm", str(now), "--data-dir", str(IMAGES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best/ holds the first of 2 final models of t000" in done.stdout
    winner = (now / "search-winner" / "model.ckpt").read_bytes()
    assert winner == (then / "best" / "model.ckpt").read_bytes()
    final = (now / "best" / "model.ckpt").read_bytes()
    assert final == (then / "finals" / "seed-1" / "model.ckpt").read_bytes()
    finals = json.loads((now / "summary.json").read_text())["finals"]
    assert finals["model"]["score"] == summary_of("finished")["finals"]["test_accuracy"][0]
    assert f"test accuracy {finals['model']['score']:.4f} by the model in best/" in done.stdout
    assert (now / "journal.jsonl").read_bytes().startswith((then / "journal.jsonl").read_bytes())


@pytest.mark.parametrize(
    "name",
    [KILLED[0], *(pytest.param(name, marks=pytest.mark.faults) for name in KILLED[1:])],
)
def test_a_killed_search_goes_on_to_its_end_and_loses_nothing(name: str, tmp_path: Path) -> None:
    then, now = FOLDERS / name, tmp_path / name
    shutil.copytree(then, now)
    done = run("resume", str(now), "--data-dir", str(IMAGES))
    assert done.returncode == 0, done.stdout + done.stderr
    recorded = (then / "journal.jsonl").read_bytes()
    assert recorded.endswith(b"\n")
    assert (now / "journal.jsonl").read_bytes().startswith(recorded)

    before, after = reports(then), reports(now)  # which refuses an epoch that comes twice
    assert after.items() >= before.items()
    assert len(after) > len(before)
    results, earlier = Results.read(now), Results.read(then)
    assert results.finished
    assert len(results.trials) == earlier.plan.search.num_samples > 0
    assert len(results.starts) == 2
    for trial in results.trials.values():
        assert trial.status in ("completed", "stopped")
        # What goes on does so after the last epoch that it had, without a gap.
        assert sorted(trial.results) == list(range(1, trial.epochs + 1))
    for trial_id, trial in earlier.trials.items():
        assert results.trials[trial_id].seed == trial.seed
        if name != "pbt_killed":  # there values may change at an exchange
            assert results.trials[trial_id].values == trial.values
        if trial.status in ("completed", "stopped"):
            assert results.trials[trial_id].epochs == trial.epochs
    assert results.test_openings == 1
    assert load_model(now).classes == ("blue", "green", "red", "yellow")
    if name == "killed":
        drawn = json.loads((FOLDERS / "configurations.json").read_text())
        assert [trial.values for trial in results.trials.values()] == [
            pytest.approx(values) for values in drawn
        ]
