"""What an earlier search gives a new one: its best points, its trials, and when it gives nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.preflight import check_search
from cifar_tune.record.journal import FILE_NAME, Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.warm_start import StartFrom, read_start_from

SPACE = (
    "search.space={optim.name: {choice: [sgd, adamw]}, optim.lr: {loguniform: [0.01, 1.0]},"
    " optim.momentum: {uniform: [0.5, 0.95], when: {optim.name: sgd}}}"
)
EPOCHS = 3


class Source:
    """An earlier search, written event by event."""

    def __init__(self, journal: Journal, *overrides: str) -> None:
        self.recorder = Recorder(journal)
        plan = load_plan(None, [SPACE, f"train.max_epochs={EPOCHS}", *overrides])
        dumped, data = plan.model_dump(mode="json"), {"fingerprint": "f00d"}
        self.recorder.write("search", version=1, plan=dumped, data=data, environment={})

    def trial(self, course: list[float], status: str = "stopped", **values: Any) -> str:
        """A trial with these accuracies by epoch; `lr` and so on are fields of `optim`."""
        index = len(self.recorder.results.trials)
        name = f"t{index + 1:04}"
        values = {f"optim.{key}": value for key, value in values.items()}
        self.recorder.write("trial_created", trial_id=name, index=index, seed=index, values=values)
        for epoch, accuracy in enumerate(course, 1):
            self._report(name, epoch, accuracy, diverged=status == "diverged")
        if status != "running":
            self.recorder.write("trial_ended", trial_id=name, status=status, reason="")
        return name

    def _report(self, name: str, epoch: int, accuracy: float, *, diverged: bool) -> None:
        metrics = {
            "epoch": epoch, "val_accuracy": accuracy, "val_loss": 1 - accuracy,
            "first_step_at": 1.0, "reported_at": 1.0 + epoch,
        }  # fmt: skip
        self.recorder.write(
            "result", trial_id=name, metrics=metrics, checkpoint=None, done=False, diverged=diverged
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An earlier search of seven trials, five of which ended."""
    (tmp_path / "source").mkdir()
    with Journal(tmp_path / "source") as journal:
        source = Source(journal)
        source.trial([0.5, 0.8, 0.65], "completed", name="adamw", lr=0.1)
        source.trial([0.9], name="sgd", lr=0.2, momentum=0.9)
        source.trial([0.6], name="sgd", lr=0.3, momentum=0.8)
        source.trial([0.0], "diverged", name="adamw", lr=1.0)
        source.trial([], "failed", name="adamw", lr=0.4)
        source.trial([0.7], "running", name="adamw", lr=0.5)
        source.trial([0.1], "interrupted", name="adamw", lr=0.6)
    return tmp_path / "source"


def plan_of(folder: Path, *overrides: str) -> Plan:
    given = [SPACE, f"train.max_epochs={EPOCHS}", "search.searcher=tpe"]
    return load_plan(None, [*given, f"search.start_from={folder}", *overrides])


def read(plan: Plan) -> StartFrom:
    found = read_start_from(plan)
    assert found is not None
    return found


def test_without_it_there_is_nothing_to_start_from() -> None:
    assert read_start_from(load_plan()) is None


def test_points_of_the_plan_are_taken_as_they_are() -> None:
    plan = load_plan(None, ["search.start_from=[{optim.lr: 0.1}, {optim.lr: 0.2}]"])
    found = read(plan)
    assert found == StartFrom(source="the plan", points=({"optim.lr": 0.1}, {"optim.lr": 0.2}))
    assert found.describe() == ["start from  2 points of the plan, tried first"]


def test_of_a_search_the_three_best_points_are_tried_first_the_best_of_all_epochs_counts(
    folder: Path,
) -> None:
    assert read(plan_of(folder)).points == (
        {"optim.name": "sgd", "optim.lr": 0.2, "optim.momentum": 0.9},
        {"optim.name": "adamw", "optim.lr": 0.1},
        {"optim.name": "adamw", "optim.lr": 0.5},
    )
    last = read(plan_of(folder, "search.winner_by=last")).points
    assert [point["optim.lr"] for point in last] == [0.2, 0.5, 0.1]


def test_no_more_points_are_tried_than_there_are_trials(folder: Path) -> None:
    points = read(plan_of(folder, "search.num_samples=1")).points
    assert [point["optim.lr"] for point in points] == [0.2]


def test_the_trials_that_ended_come_with_their_whole_course(folder: Path) -> None:
    found = read(plan_of(folder))
    assert (found.source, found.fingerprint) == (str(folder), "f00d")
    assert [trial["status"] for trial in found.trials] == [
        "completed", "stopped", "stopped", "diverged", "failed",
    ]  # fmt: skip
    assert found.trials[0] == {
        "values": {"optim.name": "adamw", "optim.lr": 0.1},
        "status": "completed",
        "results": [[1, 0.5], [2, 0.8], [3, 0.65]],
    }
    assert found.trials[4]["results"] == []
    assert found.describe() == [
        f"start from  3 points of {folder}, tried first",
        f"note        7 of 7 trials of {folder} lie in this space",
    ]


def test_the_course_is_that_of_the_metric(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        Source(journal, "search.metric=val_loss").trial([0.25], name="adamw", lr=0.1)
    found = read(plan_of(tmp_path, "search.metric=val_loss"))
    assert found.trials[0]["results"] == [[1, 0.75]]


@pytest.mark.parametrize(
    ("space", "rates"),
    [
        ("search.space.optim.lr={uniform: [0.2, 0.4]}", {0.2, 0.3, 0.4}),
        ("search.space.optim.lr={choice: [0.2, 0.1]}", {0.2, 0.1}),
        (
            "search.space={optim.name: {choice: [adamw]}, optim.lr: {uniform: [0.01, 1.0]}}",
            {0.1, 1.0, 0.4},
        ),
        ("search.space.optim.momentum={uniform: [0.5, 0.85], when: {optim.name: sgd}}", {0.3, 0.1, 1.0, 0.4}),
        # every trial now needs a momentum, and only those with sgd have one
        ("search.space.optim.momentum={uniform: [0.5, 0.95]}", {0.2, 0.3}),
    ],
)  # fmt: skip
def test_trials_outside_this_space_are_left_out(
    folder: Path, space: str, rates: set[float]
) -> None:
    found = read(plan_of(folder, space))
    assert {trial["values"]["optim.lr"] for trial in found.trials} == rates
    assert {point["optim.lr"] for point in found.points} <= rates | {0.5, 0.6}
    assert f"trials of {folder} lie in this space" in found.notes[0]
    assert not found.notes[0].startswith("7 ")


def test_a_search_over_other_fields_is_refused(folder: Path) -> None:
    space = "search.space={optim.lr: {uniform: [0.01, 1]}, model.width: {pow2: [4, 8]}}"
    with pytest.raises(
        PlanError,
        match=r"none of 7 trials has results and values of this plan's space; it searched"
        r" optim\.name, optim\.lr, optim\.momentum, and this plan optim\.lr, model\.width",
    ):
        read(plan_of(folder, space))


def test_trials_that_fit_but_never_reported_are_not_enough(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        Source(journal).trial([], "failed", name="adamw", lr=0.1)
    with pytest.raises(PlanError, match=r"none of 1 trials has results"):
        read(plan_of(tmp_path))


def test_trials_that_all_diverged_teach_and_are_not_tried_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        Source(journal).trial([0.0], "diverged", name="adamw", lr=1.0)
    found = read(plan_of(tmp_path))
    assert found.points == ()
    assert len(found.trials) == 1


def test_a_search_by_another_metric_is_refused(folder: Path) -> None:
    with pytest.raises(
        PlanError, match=r"a search by val_accuracy, and search\.metric is val_loss.*give --set"
    ):
        read(plan_of(folder, "search.metric=val_loss"))


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"search\.start_from: .*holds no search"):
        read(plan_of(tmp_path / "nowhere"))
    with pytest.raises(PlanError, match=r"search\.start_from: .*holds no search"):
        read(plan_of(tmp_path))
    with Journal(tmp_path) as journal:
        Source(journal)
    with pytest.raises(PlanError, match=r"a search that has no trial yet"):
        read(plan_of(tmp_path))


def test_a_damaged_journal_is_refused(folder: Path) -> None:
    journal = folder / FILE_NAME
    journal.write_bytes(journal.read_bytes().replace(b'"index":1', b'"index":9'))
    with pytest.raises(PlanError, match=r"search\.start_from: .*this line is damaged"):
        read(plan_of(folder))


def test_a_point_is_tried_once(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        source = Source(journal)
        for accuracy, rate in ((0.5, 0.1), (0.6, 0.1), (0.4, 0.2)):
            source.trial([accuracy], name="adamw", lr=rate)
    found = read(plan_of(tmp_path))
    assert [point["optim.lr"] for point in found.points] == [0.1, 0.2]
    assert len(found.trials) == 3


def test_of_a_population_the_values_of_the_best_epoch_are_tried_and_changed_trials_teach_nothing(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path) as journal:
        source = Source(journal)
        source.trial([0.6], name="adamw", lr=0.4)
        name = source.trial([0.7], "running", name="adamw", lr=0.1)
        clone = {
            "trial_id": name, "source": "t0001", "checkpoint": "ray/1/x/model.ckpt",
            "values": {"optim.name": "adamw", "optim.lr": 0.3},
        }  # fmt: skip
        source.recorder.write("exchanged", epoch=1, clones=[clone])
        source._report(name, 2, 0.2, diverged=False)
        source.recorder.write("trial_ended", trial_id=name, status="completed", reason="")
    found = read(plan_of(tmp_path))
    assert [point["optim.lr"] for point in found.points] == [0.1, 0.4]
    assert [trial["values"]["optim.lr"] for trial in found.trials] == [0.4]
    assert "1 of them changed their values on the way: nothing is learnt there" in found.notes
    narrow = read(plan_of(tmp_path, "search.space.optim.lr={uniform: [0.2, 0.5]}"))
    assert [point["optim.lr"] for point in narrow.points] == [0.4], "0.1 lies outside"


@pytest.mark.parametrize("searcher", ["random", "sobol"])
def test_a_search_that_learns_nothing_says_so(folder: Path, searcher: str) -> None:
    found = read(plan_of(folder, f"search.searcher={searcher}"))
    assert found.notes[1] == f"{searcher} learns nothing from them: their best are tried first"


def test_what_was_fixed_otherwise_is_told_unless_it_can_not_matter(folder: Path) -> None:
    changed = ["model.width=24", "data.eval_batch_size=99", "data.path=/elsewhere"]
    found = read(plan_of(folder, *changed, "train.max_epochs=9"))
    assert found.notes[1:] == (
        f"{folder} trained under other fixed values: model.width was 12 and is 24;"
        " train.max_epochs was 3 and is 9",
    )


def test_more_points_than_trials_are_refused() -> None:
    given = "search.start_from=[{optim.lr: 0.1}, {optim.lr: 0.2}]"
    check_search(load_plan(None, [given, "search.num_samples=2"]))
    with pytest.raises(PlanError, match=r"has 2 points, and there will be 1 trials; raise --num"):
        check_search(load_plan(None, [given, "search.num_samples=1"]))
