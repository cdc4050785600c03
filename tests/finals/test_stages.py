"""Finals of a search in a real Ray: interrupted, gone on with, and the test split opened once.

The models were trained before; tests/faults/test_finals.py has finals that train.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.callbacks import LambdaCallback
from search import objectives
from search.searching import stop_after

from cifar_tune.errors import ResultsError
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
        stopper = threading.Thread(target=stop_after, args=(folder / "finals" / "confirm-1", 3))
        stopper.start()
        given = preflight.check(plan, [MACHINE]), folder, MACHINE
        story.note(start_search, *given, objective=objective)
        stopper.join()
        with pytest.MonkeyPatch.context() as stopping:
            stopping.setattr(Vision, "score", signalling)
            story.note(resume_search, folder, MACHINE, objective=objective)
        story.note(resume_search, folder, MACHINE, objective=objective)
        story.note(resume_search, folder, MACHINE, objective=objective)
    return story


def train_two(plan: Plan, folder: Path) -> None:
    """Two real models of a moment's training."""
    data = search_data(prepare(plan.data, print), plan.data)
    for seed in (0, 1):
        path = folder / f"{seed}.ckpt"
        save = LambdaCallback(
            on_validation_end=lambda trainer, _, to=path: trainer.save_checkpoint(to)
        )
        fit(plan.run({"train.max_epochs": 1}, seed), data, callbacks=[save])


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
        "train": 3,
    }  # to compare, twice, and to train for good
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
    assert finals["test_images"] == 100
    assert finals["trial_id"] == finals["confirm"]["chosen"]
    first = {one["trial_id"]: one for one in finals["confirm"]["candidates"]}[
        summary["best"]["trial_id"]
    ]
    assert finals["optimism"] == pytest.approx(summary["best"]["val_accuracy"] - first["mean"])


def test_the_answer_is_printed_with_its_interval(story: Story) -> None:
    text = "\n".join(story.lines[0] + story.lines[2])
    assert "Finals, 1 of 2: the best 2 are trained with 3 fresh seeds each" in text
    assert "95 % interval for a new training on new images" in text
    assert "optimism of the search" in text


def test_final_models_are_kept_and_score_what_was_recorded(story: Story) -> None:
    from cifar_tune.vision.data.held_out import open_test_split
    from cifar_tune.vision.evaluate import accuracy, predict_logits

    results = Results.read(story.folder)
    test = open_test_split(prepare(results.plan.data, print))
    homes = sorted((story.folder / "finals").glob("seed-*"))
    assert [home.name for home in homes] == ["seed-1", "seed-2", "seed-3"]
    scores = [accuracy(predict_logits(h / "model.ckpt", test, gpu=False), test) for h in homes]
    assert results.test_scored is not None
    assert scores == results.test_scored["test_accuracy"]
    figures = json.loads((homes[0] / "metrics.json").read_text())
    assert figures["train"] == 400
    assert not list((story.folder / "finals").glob("*/ray"))


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


def test_figures_that_are_gone_are_trained_for_again_and_it_is_said(story: Story) -> None:
    (story.folder / "finals" / "confirm-3" / "figures.npz").write_bytes(b"torn")
    lines = confirm_with(story, f"finals.seeds={SEEDS + 2}", again=True)
    results = Results.read(story.folder)
    assert any("all candidates are trained anew" in line for line in lines)
    assert results.finals[4]["continues"] == 0
    added = Results.read(story.folder / "finals" / "confirm-4")
    assert added.counts()["completed"] == CANDIDATES * (SEEDS + 2)
