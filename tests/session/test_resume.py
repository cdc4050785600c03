"""A search that fails in parts, is mended, extended, and looked into: real processes throughout."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import run

from cifar_tune.errors import PlanError
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import FILE_NAME, Event, Journal, read_journal
from cifar_tune.record.results import Results
from cifar_tune.session.resume import judge_search

OWN_MODEL = """
from pathlib import Path
from torch import nn

def build(config, num_classes):
    if config.width == 2 and not (Path(__file__).parent / "mended").exists():
        raise RuntimeError("the third bolt is loose")
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, config.width), nn.Linear(config.width, num_classes))
"""


@dataclass
class Story:
    """A results folder beside a model of the user's own, and what each command did."""

    folder: Path
    images: Path
    first: subprocess.CompletedProcess[str]
    retried: subprocess.CompletedProcess[str]
    extended: subprocess.CompletedProcess[str]
    events: list[int]
    """Events in the journal after each command."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(*words, cwd=self.folder.parent.parent)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Story:
    """Half of the trials fail; they are mended and tried again; then the search is extended."""
    here = tmp_path_factory.mktemp("own")
    (here / "my_net.py").write_text(OWN_MODEL)
    given = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50",
        "model.name=my_net:build", "search.space={model.width: {grid: [3, 2]}, optim.lr: {grid: [0.01, 0.02]}}",
        "search.searcher=random", "search.num_samples=4", "search.scheduler=none",
        "search.max_failures=0", "train.max_epochs=2", "resources.max_concurrent=1", "finals.seeds=0",
    ]  # fmt: skip
    sets = [word for value in given for word in ("--set", value)]
    folder, counts, done = here / "results" / "one", [], []
    for words in (
        ["--name", "one", *sets],
        ["retry-failed", str(folder)],
        ["extend", str(folder), "--num-samples", "+2", "--max-epochs", "4"],
    ):
        if words[0] == "retry-failed":
            (here / "mended").touch()
        done.append(run(*words, cwd=here))
        counts.append(len(read_journal(folder).events))
    return Story(folder, image_folder, *done, events=counts)


def of_start(story: Story, number: int, name: str) -> list[Event]:
    first = story.events[number - 1] if number else 0
    events = read_journal(story.folder).events[first : story.events[number]]
    return [event for event in events if event["event"] == name]


def test_failed_trials_are_listed_by_kind_and_end_with_exit_code_3(story: Story) -> None:
    assert story.first.returncode == 3, story.first.stderr
    table = [line.split(maxsplit=4) for line in story.first.stdout.splitlines()]
    failures = [row for row in table if row[:1] in (["t0003"], ["t0004"]) and row[1:2] == ["code"]]
    assert [row[2:4] for row in failures] == [["1", "0"], ["1", "0"]]
    assert all("the third bolt is loose" in row[4] for row in failures)


def test_retry_failed_runs_only_those_and_says_why_each_had_failed(story: Story) -> None:
    assert story.retried.returncode == 0, story.retried.stderr
    assert "t0003 is tried again; it had failed (code)" in story.retried.stdout
    assert "the third bolt is loose" in story.retried.stdout
    started = [event["trial_id"] for event in of_start(story, 1, "trial_started")]
    assert sorted(started) == ["t0003", "t0004"]


def test_extending_adds_trials_and_trains_completed_ones_on_from_their_checkpoints(
    story: Story,
) -> None:
    assert story.extended.returncode == 0, story.extended.stderr
    reports = [(e["trial_id"], e["metrics"]["epoch"]) for e in of_start(story, 2, "result")]
    old = [(f"t{n:04}", epoch) for n in range(1, 5) for epoch in (3, 4)]
    new = [(f"t{n:04}", epoch) for n in (5, 6) for epoch in (1, 2, 3, 4)]
    assert sorted(reports) == old + new
    assert Results.read(story.folder).counts()["completed"] == 6


def test_extending_says_that_the_schedule_is_computed_anew_and_it_is(story: Story) -> None:
    assert "train to epoch 4 instead of 2" in story.extended.stdout
    assert "schedule is computed anew" in story.extended.stdout
    trial = Results.read(story.folder).trials["t0001"]
    rates = [trial.results[epoch]["lr"] for epoch in (1, 2, 3, 4)]
    assert rates[1] < rates[2], "after two epochs the short schedule had ended, the long one not"
    assert rates[3] < rates[2]


def test_the_test_split_is_not_opened_for_another_winner_after_an_extension(story: Story) -> None:
    records = read_journal(story.folder)
    opened = records.of("test_opened")
    assert len(opened) == 1
    assert opened[0]["seq"] < story.events[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-samples", "+2", "--set", "search.metric=val_loss"], "search.metric was 'val_accuracy' and is now 'val_loss'"),
        (["--num-samples", "+2", "--set", "optim.lr=0.5"], "search.space was"),
        (["--num-samples", "3"], "search.num_samples is 3, below the search's 6"),
        (["--max-epochs", "2"], "train.max_epochs is 2, below the search's 4"),
        ([], "nothing would grow"),
    ],
)  # fmt: skip
def test_an_extension_that_would_compare_apples_with_pears_is_refused(
    story: Story, words: Sequence[str], message: str
) -> None:
    before = (story.folder / FILE_NAME).read_bytes()
    refused = story.run("extend", str(story.folder), *words)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert (story.folder / FILE_NAME).read_bytes() == before


def test_other_data_is_refused(story: Story, tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for name in ("a", "b"):
            for number in range(200):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (number, 0, 99)).save(path)
    words = ["--num-samples", "+2", "--data-dir", str(tmp_path)]
    refused = story.run("extend", str(story.folder), *words)
    assert refused.returncode == 2
    assert "and the search began on data with" in refused.stderr


def test_nothing_failed_is_said(story: Story) -> None:
    refused = story.run("retry-failed", str(story.folder))
    assert refused.returncode == 2
    assert "has no failed trial to try again" in refused.stderr


@pytest.mark.faults  # the test after it compares as well
def test_a_trial_repeated_alone_gives_its_recorded_figures_bit_for_bit(story: Story) -> None:
    repeated = story.run("train", "--like", str(story.folder), "t0005")
    assert repeated.returncode == 0, repeated.stderr
    assert "t0005: completed, 4 epochs recorded" in repeated.stdout
    assert "equal in all of 4 epochs" in repeated.stdout


def test_a_trial_of_an_extended_search_is_repeated_up_to_the_extension(story: Story) -> None:
    repeated = story.run("train", "--like", str(story.folder), "t0001")
    assert "compared up to epoch 2: then the search was extended" in repeated.stdout
    assert "equal in all of 2 epochs" in repeated.stdout
    unknown = story.run("train", "--like", str(story.folder), "t0055")
    assert unknown.returncode == 2
    assert "has no trial 't0055', but 6 from t0001 on; did you mean t0005?" in unknown.stderr


def test_the_summary_has_no_failures_left(story: Story) -> None:
    summary = json.loads((story.folder / "summary.json").read_text())
    assert summary["failures"] == []
    assert summary["trials"]["completed"] == 6


def test_a_search_by_the_bohb_of_earlier_versions_is_read_and_not_gone_on_with(
    tmp_path: Path,
) -> None:
    plan = load_plan(None, ["search.searcher=bohb", "search.scheduler=bohb"])
    with Journal(tmp_path) as journal:
        values = plan.model_dump(mode="json")
        journal.append("search", version=1, plan=values, data={}, environment={})
    assert Results.read(tmp_path).plan == plan
    with pytest.raises(PlanError, match=r"scheduler is 'bohb', which is gone .* --scheduler hyper"):
        judge_search(tmp_path, read_machine(), print)
