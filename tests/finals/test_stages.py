"""Finals of a search in a real Ray: interrupted, gone on with, and the test split opened once.

The models were trained before; tests/faults/test_finals.py has finals that train.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from search import objectives
from search.searching import stopped_after

from cifar_tune.errors import PlanError, ResultsError
from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.flags import change_plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results
from cifar_tune.session.resume import confirm_search, resume_search
from cifar_tune.session.start import start_search
from cifar_tune.train.fit import fit
from cifar_tune.vision.data import prepare, search_data
from cifar_tune.vision.data.held_out import open_test_split
from cifar_tune.vision.export import onnx_is_installed
from cifar_tune.vision.predict import load_model
from cifar_tune.vision.predict import main as predict
from cifar_tune.vision.task import Vision

MACHINE = replace(read_machine(), cpus=2, gpus=0)
SEEDS, CANDIDATES = 3, 2


@dataclass
class Story:
    """What happened: exit codes, lines, and how often each split's arrays were read."""

    folder: Path
    objective: Any = None
    codes: list[int] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    def note(self, run: Any, *args: Any, **kwargs: Any) -> None:
        self.lines.append([])
        self.codes.append(run(*args, say=self.lines[-1].append, **kwargs))
        self.events.append(len(read_journal(self.folder).events))


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    ray_session: None,
    image_folder: Path,
    small_plan: list[str],
) -> Story:
    """SIGTERM while the candidates train and, once resumed, while they are compared; `resume` twice."""
    from cifar_tune.vision.data import held_out

    folder = tmp_path_factory.mktemp("finals") / "one"
    plan = load_plan(None, [
        *small_plan, "search.num_samples=3", "search.scheduler=none", "train.max_epochs=2",
        f"finals.seeds={SEEDS}", f"finals.candidates={CANDIDATES}",
        f"out={folder.parent}", "name=one", f"data.path={image_folder}",
    ])  # fmt: skip
    story = Story(folder)
    models = tmp_path_factory.mktemp("models")
    train_two(plan, models)
    story.objective = objective = partial(objectives.saved, models=models)
    opening = held_out.open_images

    def counting(dataset: Any, split: str) -> Any:
        story.reads.append(split)
        return opening(dataset, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "open_images", counting)
        given = preflight.check(plan, [MACHINE]), folder, MACHINE
        with stopped_after(folder / "finals" / "confirm-1", 3):
            story.note(start_search, *given, objective=objective)
        with pytest.MonkeyPatch.context() as stopping:
            stopping.setattr(Vision, "score", signalling)
            story.note(resume_search, folder, MACHINE, objective=objective)
        story.note(resume_search, folder, MACHINE, objective=objective)
        story.note(resume_search, folder, MACHINE, objective=objective)
    return story


def train_two(plan: Plan, folder: Path) -> None:
    """Two real models, the second of which is better: so the finals choose another than the search.

    Trials and trainings with even seeds leave the first, those with odd seeds the second.
    """
    data = search_data(prepare(plan.data, print), plan.data)
    for seed, epochs in ((0, 1), (1, 50)):
        path = folder / f"{seed}.ckpt"
        save = LambdaCallback(
            on_validation_end=lambda trainer, _, to=path: trainer.save_checkpoint(to)
        )
        fit(plan.run({"train.max_epochs": epochs}, seed), data, callbacks=[save])


SCORE = Vision.score


def signalling(*args: Any, **kwargs: Any) -> Any:
    """Compares as ever, after SIGTERM has come."""
    os.kill(os.getpid(), signal.SIGTERM)
    Vision.score = SCORE  # type: ignore[method-assign] # a second signal leaves at once
    return SCORE(*args, **kwargs)


def test_finals_that_are_interrupted_save_and_name_the_command_to_go_on(story: Story) -> None:
    assert story.codes == [143, 143, 0, 0], story.lines
    assert "Stopped by SIGTERM; everything reported is saved. Go on with:" in story.lines[0]
    assert story.lines[0][-1] == f"python -m cifar_tune.tune resume {story.folder}"


def test_a_signal_between_two_stages_starts_no_further_one(story: Story) -> None:
    events = read_journal(story.folder).events[: story.events[1]]
    assert {"confirmed", "test_opened"}.isdisjoint(event["event"] for event in events)
    assert not any("Finals, 2 of 2" in line for line in story.lines[1])
    assert story.lines[1][-1] == f"python -m cifar_tune.tune resume {story.folder}"


def test_each_candidate_and_the_chosen_one_get_fresh_seeds(story: Story) -> None:
    plan = Results.read(story.folder).plan
    used = {plan.seed + index for index in range(plan.search.num_samples)}
    for stage, count in (("confirm-1", CANDIDATES * SEEDS), ("final-1", SEEDS)):
        trainings = Results.read(story.folder / "finals" / stage)
        seeds = {trial.seed for trial in trainings.trials.values()}
        assert trainings.counts()["completed"] == len(seeds) == count
        assert not used & seeds
        used |= seeds


def test_trainings_are_called_by_the_trials_of_the_search(story: Story) -> None:
    results = Results.read(story.folder)
    lines = [line for told in story.lines for line in told]
    for stage, ids in (
        ("confirm-1", {one["trial_id"] for one in results.finals[1]["candidates"]}),
        ("final-1", {results.confirmed[1]["trial_id"]}),
    ):
        told = [line for line in lines if line.startswith(f"{stage}  ")]
        names = {re.search(r"(t\d{4}) seed (\d+)  ", line).groups() for line in told}  # type: ignore[union-attr]
        assert names == {(one, str(seed)) for one in ids for seed in range(1, SEEDS + 1)}


def test_no_training_of_the_finals_runs_twice(story: Story) -> None:
    events = read_journal(story.folder / "finals" / "confirm-1").of("result")
    reported = Counter((event["trial_id"], event["metrics"]["epoch"]) for event in events)
    assert set(reported.values()) == {1}
    assert len(reported) == CANDIDATES * SEEDS * 2


def test_the_test_split_is_read_once_and_the_confirmation_images_by_the_finals_alone(
    story: Story,
) -> None:
    assert Counter(story.reads) == {
        "test": 1,
        "train": 4,
    }  # to compare, twice, to train for good, and to show mistakes
    names = [event["event"] for event in read_journal(story.folder).events]
    assert Counter(names)["test_opened"] == Counter(names)["test_scored"] == 1
    assert names.index("confirmed") < names.index("test_opened")


def test_a_finished_search_goes_through_nothing_again(story: Story) -> None:
    assert story.events[3] - story.events[2] == 1  # `finished`, once more
    assert any(line.startswith("test accuracy") for line in story.lines[3])


def test_the_summary_holds_the_answer_with_its_interval(story: Story) -> None:
    summary = json.loads((story.folder / "summary.json").read_text())
    finals = summary["finals"]
    assert len(finals["seeds"]) == len(finals["test_accuracy"]) == SEEDS
    assert finals["mean"] == pytest.approx(np.mean(finals["test_accuracy"]))
    assert finals["std"] == pytest.approx(np.std(finals["test_accuracy"], ddof=1))
    low, high = finals["ci95"]
    assert low < finals["mean"] < high
    assert finals["trial_id"] == finals["confirm"]["chosen"]
    first = {one["trial_id"]: one for one in finals["confirm"]["candidates"]}[
        summary["best"]["trial_id"]
    ]
    assert finals["optimism"] == pytest.approx(summary["best"]["val_accuracy"] - first["mean"])


def test_the_answer_is_printed_with_its_interval(story: Story) -> None:
    text = "\n".join(story.lines[0] + story.lines[2])
    assert "Finals, 1 of 2: the best 2 are trained with 3 fresh seeds each" in text
    assert "95 % interval for a new training on new data" in text
    assert "the best of many looks better than it is" in text
    assert "best/ holds the first of 3 final models of t000" in text


def accuracy_of(logits: Any, labels: np.ndarray) -> str:
    return f"{(np.asarray(logits).argmax(axis=1) == labels).mean():.4f}"


def test_final_models_are_kept_and_score_what_was_recorded(story: Story) -> None:
    results = Results.read(story.folder)
    homes = sorted((story.folder / "finals").glob("seed-*"))
    assert [home.name for home in homes] == ["seed-1", "seed-2", "seed-3"]
    test = open_test_split(prepare(results.plan.data, print))
    scores = [accuracy_of(load_model(home).logits(test.images), test.labels) for home in homes]
    assert results.test_scored is not None
    assert scores == [f"{score:.4f}" for score in results.test_scored["test_accuracy"]]
    figures = json.loads((homes[0] / "metrics.json").read_text())
    assert figures["train"] == 400
    assert not list((story.folder / "finals").glob("*/ray"))


def test_headline_predict_and_all_forms_of_the_model_agree_to_the_last_digit(
    story: Story, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((story.folder / "summary.json").read_text())
    assert summary["finals"]["trial_id"] != summary["best"]["trial_id"]
    headline = next(line for line in story.lines[2] if line.startswith("test accuracy"))
    assert " by the model in best/, the first of 3 final models of t000" in headline
    shown = headline.split()[2]
    assert shown == f"{summary['finals']['model']['score']:.4f}"
    assert shown != f"{summary['finals']['mean']:.4f}"  # which is that of several models
    best = story.folder / "best"
    figures = json.loads((best / "metrics.json").read_text())
    assert shown == f"{figures['test_accuracy']:.4f}"
    assert f"Test accuracy {shown} on 100 images" in (best / "README.md").read_text()

    files = sorted((image_folder / "test").rglob("*.png"))
    for place in (story.folder, best):
        code = predict(["--model", str(place), "--top", "1", "--json", *map(str, files)])
        answers = json.loads(capsys.readouterr().out)
        named = [answer["classes"][0]["class"] for answer in answers]
        right = [name == file.parent.name for name, file in zip(named, files, strict=True)]
        assert (code, f"{np.mean(right):.4f}") == (0, shown)

    test = open_test_split(prepare(Results.read(story.folder).plan.data, print))
    for name, logits in forms_of(best, np.array(test.images)).items():
        assert accuracy_of(logits, test.labels) == shown, name


def forms_of(folder: Path, pixels: np.ndarray) -> dict[str, Any]:
    """The logits of a model in each form that lies there."""
    batch = torch.from_numpy(pixels)
    forms = {
        "safetensors": load_model(folder).logits(pixels),
        "checkpoint": load_model(folder / "model.ckpt").logits(pixels),
        "program": torch.export.load(folder / "model.pt2").module()(batch).detach(),
    }
    if onnx_is_installed():
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        forms["onnx"] = session.run(None, {"pixels": pixels})[0]
    return forms


def test_the_winner_of_the_search_lies_beside_it(story: Story) -> None:
    summary = json.loads((story.folder / "summary.json").read_text())
    winner = story.folder / "search-winner"
    figures = json.loads((winner / "metrics.json").read_text())
    assert figures["trial_id"] == summary["best"]["trial_id"]
    assert figures["val_accuracy"] == summary["best"]["val_accuracy"]
    files = {path.name for path in winner.iterdir()}
    assert files >= {"model.safetensors", "README.md"}
    assert "model.pt2" not in files, "it would take seconds, and nobody asked for it"


def test_mistakes_are_those_of_the_chosen_configuration(story: Story) -> None:
    chosen = json.loads((story.folder / "summary.json").read_text())["finals"]["trial_id"]
    with np.load(story.folder / "best" / "confirmation_predictions.npz") as stored:
        assert str(stored["of"]).startswith(f"a confirmation training of {chosen}'s configuration")
        accuracy = (stored["logits"].argmax(axis=1) == stored["labels"]).mean()
    told = Results.read(story.folder).confirmed[1]["confirm"]["candidates"]
    (scores,) = [one["scores"] for one in told if one["trial_id"] == chosen]
    assert accuracy == pytest.approx(scores[0])
    assert f"a confirmation training of {chosen}" in (story.folder / "report.html").read_text()


def test_a_start_that_was_killed_before_the_model_was_handed_over_does_it(story: Story) -> None:
    """As the journal was after the scores, and the folders before them."""
    path = story.folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "handed_over")
    path.write_bytes(b"".join(lines[:cut]))
    shutil.rmtree(story.folder / "best")
    (story.folder / "search-winner").rename(story.folder / "best")
    lines_said: list[str] = []
    assert resume_search(story.folder, MACHINE, lines_said.append) == 0
    assert json.loads((story.folder / "best" / "metrics.json").read_text())["model"] == "final"
    assert (story.folder / "search-winner" / "model.ckpt").is_file()
    assert len(read_journal(story.folder).of("handed_over")) == 1


def test_confirming_again_shows_what_is_known(story: Story) -> None:
    lines: list[str] = []
    events = len(read_journal(story.folder).events)
    assert confirm_search(story.folder, MACHINE, lines.append) == 0
    assert any(line.startswith("test accuracy") for line in lines)
    assert not any("know nothing" in line for line in lines)
    assert len(read_journal(story.folder).of("test_opened")) == 1
    assert len(read_journal(story.folder).events) - events == 1


def test_finals_of_another_size_are_refused_once_the_test_split_was_opened(story: Story) -> None:
    wanted = changed(story, "finals.candidates=3")
    before = (story.folder / "journal.jsonl").read_bytes()
    with pytest.raises(ResultsError, match=r"was opened for t000\d on .*--open-test-again"):
        confirm_search(story.folder, MACHINE, [].append, changes=wanted)
    assert (story.folder / "journal.jsonl").read_bytes() == before


def changed(story: Story, override: str) -> Plan:
    import argparse

    return change_plan(Results.read(story.folder).plan, argparse.Namespace(set=[override]))


def test_another_look_scores_the_same_models_and_is_recorded(story: Story) -> None:
    lines: list[str] = []
    old = Results.read(story.folder).test_scored
    assert confirm_search(story.folder, MACHINE, lines.append, again=True) == 0
    opened = read_journal(story.folder).of("test_opened")
    assert [event["again"] for event in opened] == [False, True]
    new = Results.read(story.folder).test_scored
    assert old is not None
    assert new is not None
    assert new["test_accuracy"] == old["test_accuracy"]
    assert any("the test split was opened 2 times" in line for line in lines)


def test_more_seeds_are_added_to_the_trainings_that_are_done(story: Story) -> None:
    before = Results.read(story.folder).confirmed[1]["confirm"]["candidates"]
    looks = len(read_journal(story.folder).of("test_opened"))
    lines = confirm_with(story, f"finals.seeds={SEEDS + 1}")
    results = Results.read(story.folder)
    added = Results.read(story.folder / "finals" / "confirm-2")
    old = Results.read(story.folder / "finals" / "confirm-1")
    assert added.counts()["completed"] == CANDIDATES
    assert {t.seed for t in old.trials.values()}.isdisjoint(t.seed for t in added.trials.values())
    assert results.finals[2]["continues"] == 1
    for then, now in zip(before, results.confirmed[2]["confirm"]["candidates"], strict=True):
        assert now["scores"][:SEEDS] == then["scores"]
        assert len(now["scores"]) == len(now["seeds"]) == SEEDS + 1
    assert len(read_journal(story.folder).of("test_opened")) == looks
    assert any("stays the one that is taken, and its test score stands" in line for line in lines)
    assert not list((story.folder / "finals").glob("*/ray"))


def confirm_with(story: Story, override: str, *, again: bool = False) -> list[str]:
    lines: list[str] = []
    given = {"changes": changed(story, override), "again": again, "objective": story.objective}
    assert confirm_search(story.folder, MACHINE, lines.append, **given) == 0
    return lines


def test_another_choice_among_the_same_trainings_trains_nothing(story: Story) -> None:
    confirm_with(story, "finals.prefer=cheap")
    results = Results.read(story.folder)
    assert results.finals[3]["continues"] == 2
    assert results.finals[3]["asked"]["prefer"] == "cheap"
    assert (
        results.confirmed[3]["confirm"]["candidates"]
        == (results.confirmed[2]["confirm"]["candidates"])
    )
    assert not (story.folder / "finals" / "confirm-3" / "journal.jsonl").exists()


def test_with_another_look_the_final_models_of_before_count_as_well(story: Story) -> None:
    old = Results.read(story.folder).test_scored
    assert old is not None
    confirm_with(story, "finals.prefer=cheap", again=True)
    new = Results.read(story.folder).test_scored
    assert new is not None
    assert new["number"] == 3
    assert new["test_accuracy"][:SEEDS] == old["test_accuracy"]
    assert len(set(new["seeds"])) == SEEDS + 1
    added = Results.read(story.folder / "finals" / "final-3")
    assert [t.seed for t in added.trials.values()] == new["seeds"][SEEDS:]
    assert (story.folder / "finals" / f"seed-{SEEDS + 1}" / "model.ckpt").is_file()


def test_the_mean_of_all_final_models_is_handed_over_if_that_is_asked_for(story: Story) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar_tune.session.outcome.write_in_process", lambda folder: None)
        lines = confirm_with(story, "finals.ensemble=true", again=True)
    headline = next(line for line in lines if line.startswith("test accuracy"))
    assert f"by the model in best/, the mean of {SEEDS + 1} final models" in headline
    test = open_test_split(prepare(Results.read(story.folder).plan.data, print))
    for name, logits in forms_of(story.folder / "best", np.array(test.images)).items():
        assert accuracy_of(logits, test.labels) == headline.split()[2], name
    members = sorted((story.folder / "finals").glob("seed-*"))
    each = [load_model(home).logits(test.images) for home in members]
    assert accuracy_of(sum(each), test.labels) == headline.split()[2]
    card = (story.folder / "best" / "README.md").read_text()
    assert f"{SEEDS + 1} networks, whose logits are averaged" in card


def test_without_asking_the_mean_is_not_scored_and_it_is_said(story: Story) -> None:
    lines = confirm_with(story, "finals.ensemble=false")
    assert any("was opened for t000" in line and "stays closed" in line for line in lines)
    figures = json.loads((story.folder / "best" / "metrics.json").read_text())
    assert figures["model"] == "ensemble"


def test_figures_that_are_gone_are_trained_for_again_and_it_is_said(story: Story) -> None:
    (story.folder / "finals" / "confirm-5" / "figures.npz").write_bytes(b"torn")
    lines = confirm_with(story, f"finals.seeds={SEEDS + 2}", again=True)
    results = Results.read(story.folder)
    assert any("all candidates are trained anew" in line for line in lines)
    assert results.finals[6]["continues"] == 0
    added = Results.read(story.folder / "finals" / "confirm-6")
    assert added.counts()["completed"] == CANDIDATES * (SEEDS + 2)


def test_finals_of_a_trial_that_is_named_hand_over_a_model_of_it(story: Story) -> None:
    lines = confirm_with(story, "finals.trials=[t0003]", again=True)
    results = Results.read(story.folder)
    assert results.test_scored is not None
    assert results.test_scored["trial_id"] == "t0003"
    assert [one["trial_id"] for one in results.finals[7]["candidates"]] == ["t0003"]
    card = (story.folder / "best" / "README.md").read_text()
    assert "t0003" in card
    headline = next(line for line in lines if line.startswith("test accuracy"))
    assert "final models of t0003's configuration" in headline
    assert not any("is better than the next" in line or "Taken:" in line for line in lines)
    assert not any("since then" in line for line in lines), "an older comparison is no news"


def test_a_name_that_no_trial_has_is_refused_before_anything_is_trained(story: Story) -> None:
    with pytest.raises(PlanError, match=r"finals.trials has 't0009', and the search has 3 trials"):
        confirm_with(story, "finals.trials=[t0009]", again=True)
    assert 8 not in Results.read(story.folder).finals
