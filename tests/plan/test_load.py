"""Reading a plan: every mistake is one line that helps, with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import find_config, load_plan, plan_from
from cifar_tune.plan.section import budget_seconds, dump_yaml, known_fields
from cifar_tune.vision.config import VisionPlan


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=3", r"optim\.lrr is not a field of the plan; did you mean optim\.lr\?"),
        ("lr=3", r"lr is not a field of the plan; did you mean optim\.lr\?"),
        ("optim=3", r"optim is not a field"),
        ("optim.lr", r"give key=value"),
        ("optim.lr=abc", r"optim\.lr is 'abc'; it must be a valid number"),
        ("optim.lr=0", r"optim\.lr is 0; it must be greater than 0"),
        ("optim.lr=.inf", r"optim\.lr is inf; "),
        ("optim.lr=true", r"optim\.lr is True; it must be a valid number"),
        ("optim.name=sgdd", r"it must be 'sgd', 'adamw' or 'muon'; did you mean sgd\?"),
        ("train.max_epochs=1.5", r"train\.max_epochs is 1\.5; it must be a valid integer"),
        (
            "search.num_samples=0",
            r"search\.num_samples is 0; it must be greater than or equal to 1",
        ),
        (
            "search.reduction_factor=1",
            r"reduction_factor is 1; it must be greater than or equal to 2",
        ),
        ("search.max_failures=-5", r"max_failures is -5; it must be greater than or equal to 0"),
        (
            "search.time_budget=soon",
            r"time_budget is 'soon'; give a time above 0 as 90s, 20m or 2h",
        ),
        ("resources.gpus_per_trial=-1", r"gpus_per_trial is -1; it must be 'auto' or greater than"),
        ("resources.gpus_per_trial=.nan", r"gpus_per_trial is nan; "),
        ("train.precision=bf17", r"'auto' or '32', 'bf16' or '16'; did you mean bf16\?"),
        ("data.drop_last=no", r"data\.drop_last is 'no'; it must be a valid boolean"),
        ("name=a/b", r"name is 'a/b'; must be a folder's name"),
        ("name=..", r"must be a folder's name"),
        (f"name={'x' * 201}", r"at most 200 bytes"),
        ("seed=99999999999999999999999", r"seed is 9+; it must be less than"),
        (f"train.max_epochs={'9' * 400}", r"less than or equal to 1000000"),
        (f"search.space.model.width={{int: [1, {'9' * 400}]}}", r"whole numbers below"),
        ("out=s3://bucket/x", r"out is 's3://bucket/x'; give a path, .* --storage-path a URI"),
        ("resources.storage_path=s3:/b/x", r"storage_path is 's3:/b/x'; a URI is SCHEME://PLACE"),
        ("resources.storage_path='s3://b/run#1'", r"is 's3://b/run#1'; a URI is"),
        ("resources.storage_path='file:///?a=b'", r"is 'file:///\?a=b'; a URI is"),
        ("tracking.wandb=''", r"at least 1 character"),
        (
            "search.searcher=tpee",
            r"'tpee'; it must be 'auto', 'grid', .* or 'bohb' or your own as package\.module:name; did you mean tpe",
        ),
        ("search.start_from=3", r"start_from is 3; it must be a valid string or a valid list"),
        ("search.start_from=[3]", r"start_from\.0 is 3; it must be a valid dictionary"),
        ("search.start_from=[]", r"start_from is \[\]; give at least one point, or leave it out"),
        ("search.start_from=[{}]", r"point 1 of 1, is {}; give at least one `field: value`"),
        (
            "search.start_from=[{optim.lr: 0.1}, {optim.lr: 7}]",
            r"start_from, point 2 of 2: search\.space\.optim\.lr gives loguniform: \[0\.01, 1\.0\], .* has 7; change",
        ),
        (
            "search.start_from=[{optim.momentum: 0.5}]",
            r"search\.space\.optim\.momentum is not there, .*; leave it out, or search it",
        ),
        (
            "search.space.optim.lrr={choice: [1]}",
            r"optim\.lrr is not a field.*did you mean optim\.lr",
        ),
        ("search.space.train.max_epochs={choice: [1]}", r"train\.max_epochs can't be searched"),
        ("search.space.optim.lr={loguniform: [0, 1]}", r"must start above 0"),
        ("search.space.optim.lr=3", r"search\.space\.optim\.lr is 3; "),
        ("search.space.optim.momentum={uniform: [0.5, 1.5]}", r"can give 1\.5; .*less than 1"),
        ("search.space.optim.name={choice: [sgd, sdg]}", r"optim\.name can give 'sdg'"),
    ],
)
def test_a_mistake_is_one_line_with_flag_value_rule_and_remedy(override: str, message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        load_plan(None, [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "optim:\n  lr: 0.1\n  momentun: 0.9\nsearch:\n  space:\n    optim.lr: {uni: [0, 1]}\n"
    )
    with pytest.raises(PlanError, match=r"mine\.yaml:3: optim\.momentun .* optim\.momentum\?"):
        load_plan(path)


def test_a_mistake_in_the_space_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("search:\n  space:\n    optim.lr: {uniform: [1, 0]}\n")
    with pytest.raises(PlanError, match=r"mine\.yaml:3: search\.space\.optim\.lr has uniform"):
        load_plan(path)


def test_a_mistake_in_a_known_point_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "search:\n  start_from:\n    - {optim.lr: 0.1}\n    - optim.lr: 0.2\n      data.batch_size: 99\n"
    )
    with pytest.raises(
        PlanError, match=r"mine\.yaml:4: search\.start_from, point 2 of 2: .*has 99"
    ):
        load_plan(path)


def test_a_known_point_that_fits_is_kept_as_it_was_written() -> None:
    points = [{"optim.lr": 1, "data.batch_size": 64}, {"optim.weight_decay": 1e-4}]
    plan = load_plan(None, [f"search.start_from={json.dumps(points)}"])
    assert plan.search.start_from == points


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: -1\noptim:\n  lr: fast\n")
    with pytest.raises(PlanError, match=r"mine\.yaml:1: seed is -1.*\n.*mine\.yaml:3: optim\.lr"):
        load_plan(path)


@pytest.mark.parametrize("text", ["- 1\n", "word\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=r"a plan is `key: value` lines"):
        load_plan(path)


def test_an_empty_file_is_the_default_plan(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# nothing\n")
    assert load_plan(path) == load_plan()


def test_a_missing_config_names_those_that_ship() -> None:
    with pytest.raises(PlanError, match=r"no such file; did you mean lecture\?; .*quickstart"):
        find_config("lectur")


def test_a_bare_name_finds_a_config_that_ships() -> None:
    assert load_plan("lecture").model.name == "net"


def test_a_space_entry_replaces_the_whole_entry_and_leaves_the_others() -> None:
    plan = load_plan(None, ["search.space.optim.lr={choice: [0.1, 0.2]}"])
    assert plan.search.space["optim.lr"] == {"choice": [0.1, 0.2]}
    assert "data.batch_size" in plan.search.space


def test_a_field_that_is_given_a_value_is_not_searched() -> None:
    plan = load_plan(None, ["optim.lr=0.05"])
    assert plan.optim.lr == 0.05
    assert list(plan.search.space) == [
        "optim.weight_decay", "optim.label_smoothing", "data.batch_size",
    ]  # fmt: skip


def test_a_space_entry_of_null_is_taken_out_and_one_given_too_stays() -> None:
    assert "optim.lr" not in load_plan(None, ["search.space.optim.lr=null"]).search.space
    given = ["search.space.optim.lr={choice: [0.1]}", "optim.lr=0.05"]
    assert "optim.lr" in load_plan(None, given).search.space


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = load_plan(None, ["data.path=../x", "out=~/r", "search.start_from=results/asha-1"])
    assert plan.search.start_from == str(tmp_path / "results/asha-1")
    assert plan.data.path == str(tmp_path.parent / "x")
    assert plan.out == os.path.expanduser("~/r")


@pytest.mark.parametrize("name", ["ä b", "1e5", "08", "no", "1:30"])
def test_a_dumped_plan_reads_back_equal_and_states_every_field(name: str, tmp_path: Path) -> None:
    plan = load_plan("random", ["optim.lr=1e-5", f"name='{name}'", "search.time_budget='1e3'"])
    path = tmp_path / "plan.yaml"
    path.write_text(dump_yaml(plan))
    assert load_plan(path) == plan
    assert all(field.rpartition(".")[2] in path.read_text() for field in known_fields(VisionPlan))


def test_a_plan_from_plain_values_is_the_same_plan() -> None:
    plan = load_plan("lecture")
    assert plan_from(plan.model_dump(mode="json"), "there") == plan


def test_every_field_has_a_description() -> None:
    for section in (Plan, *(info.annotation for info in Plan.model_fields.values())):
        for name, info in getattr(section, "model_fields", {}).items():
            nested = hasattr(info.annotation, "model_fields")
            assert nested or info.description, f"{section}.{name}"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("5", 5)])
def test_time_budgets(text: str, seconds: float) -> None:
    assert budget_seconds(text) == seconds
