"""Plans of one's own modules: flags, files of LightningCLI, what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from lit.plans import HERE, make_plan

from cifar_tune import load_plan
from cifar_tune.errors import PlanError
from cifar_tune.lit.config import LitPlan
from cifar_tune.lit.notes import check_validations
from cifar_tune.plan.flags import plan_of
from cifar_tune.plan.rungs import first_rung
from cifar_tune.plan.section import dump_yaml
from cifar_tune.tune import _tune_parser

CLI_FILE = f"""
seed_everything: 7
trainer:
  max_epochs: 5
  gradient_clip_val: 0.5
  accelerator: auto
  devices: auto
  logger: null
model:
  class_path: {HERE}.Classifier
  init_args:
    lr: 0.05
    hidden: 8
data:
  class_path: {HERE}.Blobs
  init_args:
    batch_size: 16
optimizer:
  class_path: torch.optim.Adam
  init_args:
    lr: 0.01
ckpt_path: null
"""


@pytest.fixture
def cli_file(tmp_path: Path) -> Path:
    path = tmp_path / "cli.yaml"
    path.write_text(CLI_FILE)
    return path


def given(*words: str) -> LitPlan:
    plan = plan_of(_tune_parser().parse_args(words), print)
    assert isinstance(plan, LitPlan)
    return plan


def test_a_flag_of_this_task_asks_for_it() -> None:
    space = ("--set", "search.space.model.lr={uniform: [0.1, 0.2]}")
    plan = given("--module", f"{HERE}.Classifier", *space)
    assert (plan.task, plan.model.class_path) == ("lightning", f"{HERE}:Classifier")
    assert load_plan(None, ["search.num_samples=3"]).task == "vision"


def test_a_file_of_lightning_cli_is_read_as_it_is(cli_file: Path) -> None:
    space = ("--set", "search.space.model.hidden={choice: [4, 8]}")
    plan = given("--lightning-config", str(cli_file), "--set", "data.noise=0.25", *space)
    assert plan.model.model_dump() == {"class_path": f"{HERE}:Classifier", "lr": 0.05, "hidden": 8}
    assert plan.data.model_dump() == {
        "class_path": f"{HERE}:Blobs",
        "batch_size": 16,
        "noise": 0.25,
    }
    assert plan.trainer.model_dump() == {"gradient_clip_val": 0.5}
    assert plan.optimizer.model_dump() == {"class_path": "torch.optim.Adam", "lr": 0.01}
    assert (plan.train.max_epochs, plan.seed) == (5, 7)


def test_of_a_file_what_a_search_settles_is_left_out_and_numbers_are_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "cli.yaml"
    path.write_text(
        f"model: {{class_path: {HERE}.Hparams, init_args: {{hparams: {{optim: {{lr: 1e-3}}}}}}}}\n"
        f"data: {HERE}.Blobs\n"
        "trainer: {accelerator: gpu, devices: 1, enable_progress_bar: true, max_steps: 7}\n"
    )
    space = ("--set", "search.space.model.hparams.optim.lr={uniform: [0.1, 0.2]}")
    plan = given("--lightning-config", str(path), *space)
    assert plan.trainer.model_dump() == {"max_steps": 7}
    assert plan.model.model_dump()["hparams"] == {"optim": {"lr": 0.001}}
    assert plan.data.class_path == f"{HERE}:Blobs"


def test_what_the_command_says_wins_over_the_file(cli_file: Path) -> None:
    space = ("--set", "search.space.model.hidden={choice: [4, 8]}")
    more = ("--max-epochs", "2", "--seed", "1", "--set", "model.lr=0.2")
    plan = given("--lightning-config", str(cli_file), *more, *space)
    assert (plan.train.max_epochs, plan.seed) == (2, 1)
    assert plan.model.model_dump()["lr"] == 0.2


def test_a_plan_has_the_files_values_and_not_its_name(cli_file: Path, tmp_path: Path) -> None:
    space = ("--set", "search.space.model.hidden={choice: [4, 8]}")
    plan = given("--lightning-config", str(cli_file), *space)
    cli_file.unlink()
    (tmp_path / "plan.yaml").write_text(dump_yaml(plan))
    assert load_plan(tmp_path / "plan.yaml") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "which can't be read: No such file"),
        ("model: [", "which is no YAML"),
        ("model: [1]", r"where model is \[1\]; it must be a section, or a class"),
        ("trainer: {max_epochs: -1}", r"where trainer\.max_epochs is -1; give --max-epochs"),
        ("- 1", "which holds list, not sections"),
        ("fit:\n  network: {a: 1}", "whose section network is not known"),
    ],
)
def test_a_file_that_is_none_of_lightning_cli_is_refused(
    text: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "cli.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PlanError, match=rf"^--lightning-config is '{path}', .*{message}"):
        given("--lightning-config", str(path))


def test_any_argument_may_be_searched_and_nested_ones_too() -> None:
    plan = make_plan(
        "model.opts={a: {b: 1, c: 2}}", "search.space.model.opts.a.b={int: [1, 3]}",
        "search.space.trainer.gradient_clip_val={uniform: [0.1, 1.0]}",
    )  # fmt: skip
    run = plan.with_values({"model.opts.a.b": 3, "trainer.gradient_clip_val": 0.5}, seed=0)
    assert run.model.model_dump()["opts"] == {"a": {"b": 3, "c": 2}}
    assert run.trainer.model_dump() == {"gradient_clip_val": 0.5}
    assert plan.model.model_dump()["opts"] == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.space.model.class_path={choice: [a, b]}", r"class_path can't be searched"),
        ("search.space.mode.lr={uniform: [0, 1]}", r"mode\.lr is not a field of a run"),
        ("mode.lr=3", r"mode\.lr is not a field of the plan"),
        ("search.mode=null", r"has metric 'val_f1' and no mode; .* --mode max or --mode min"),
        ("search.mode=upwards", r"search\.mode is 'upwards'; it must be"),
    ],
)
def test_a_mistake_in_the_plan_is_told_with_its_rule(override: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(override)


def test_a_loss_needs_no_mode_and_the_known_direction_is_not_turned_round() -> None:
    assert make_plan("search.metric=val_loss", "search.mode=null").search.mode == "min"
    with pytest.raises(
        PlanError,
        match=r"^--set search\.mode=min: search\.mode is 'min', and of val_accuracy max is better",
    ):
        load_plan(None, ["search.mode=min"])


@pytest.mark.parametrize(("every", "first"), [(1, 3), (2, 4), (5, 5)])
def test_the_first_rung_is_at_a_validation(every: int, first: int) -> None:
    given = ("train.max_epochs=27", f"trainer.check_val_every_n_epoch={every}")
    for scheduler in ("asha", "halving", "promote"):
        plan = make_plan(*given, f"search.scheduler={scheduler}")
        assert first_rung(plan) == first
        check_validations(plan)
    wrong = make_plan(*given, "search.scheduler=promote", f"search.grace_period={every + 1}")
    if every > 1:
        with pytest.raises(PlanError, match=f"give a multiple of {every}"):
            check_validations(wrong)
