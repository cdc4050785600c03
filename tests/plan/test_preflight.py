"""Checks before the start, and the forecast that a plan is shown with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cifar_tune.errors import CifarTuneError, PlanError, ResourceError
from cifar_tune.plan import preflight
from cifar_tune.plan.forecast import describe
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Machine

MACHINE = Machine(cpus=2, gpus=0, gpu_name=None, cpu_name="x", cpu_bf16=True, gpu_bf16=False)


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["search.grace_period=10"], PlanError, r"grace_period is 10, above train\.max_epochs.* 9"),
        (
            ["search.checkpoint_every_epochs=10"],
            PlanError,
            r"above train\.max_epochs.* 9; lower it",
        ),
        (
            ["search.scheduler=hyperband", "search.grace_period=10"],
            PlanError,
            r"grace_period is 10, above",
        ),
        (
            ["search.searcher=tpe", "search.scheduler=pbt"],
            PlanError,
            r"'tpe' .* 'pbt': pbt changes",
        ),
        (
            [
                "search.num_samples=2",
                "search.start_from=[{optim.lr: 1}, {optim.lr: 0.1}, {optim.lr: 0.2}]",
            ],
            PlanError,
            r"start_from has 3 points, and there will be 2 trials; raise --num-samples",
        ),
        (["search.searcher=grid"], PlanError, r"is loguniform, which a grid search can't list"),
        (["search.space={}"], PlanError, r"search\.space is empty; give at least one field"),
        (["model.name=resnet"], PlanError, r"model\.name is 'resnet'.*resnet9"),
        (["search.space.model.name={choice: [net, nett]}"], PlanError, r"'nett'"),
        (["train.precision=16"], PlanError, r"precision is 16, which needs a GPU"),
        (
            ["resources.address=ray://10.0.0.1:10001"],
            PlanError,
            r"give auto, or HOST:PORT of the cluster",
        ),
        (["resources.gpus_per_trial=1"], ResourceError, r"this machine has 0 GPUs"),
        (
            ["resources.workers_per_trial=2", "search.space.data.batch_size={int: [1, 64]}"],
            PlanError,
            r"batch_size can be 1, shared by 2 workers .* or pass 1 or fewer",
        ),
        (
            ["resources.workers_per_trial=2", "data.val_size=1"],
            PlanError,
            r"val_size can be 1, shared by 2 workers",
        ),
    ],
)
def test_a_plan_that_can_not_work_is_refused(
    overrides: list[str], kind: type[CifarTuneError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        preflight.check(load_plan(None, overrides), [MACHINE])


def test_auto_is_settled_and_written_into_the_plan() -> None:
    plan = preflight.check(load_plan(), [MACHINE]).plan
    assert (plan.train.precision, plan.train.channels_last, plan.train.threads) == ("bf16", True, 1)
    assert (plan.resources.cpus_per_trial, plan.resources.gpus_per_trial) == (1, 0)


@pytest.mark.parametrize(
    ("overrides", "count"),
    [([], 16), (["search.num_samples=3"], 3), (["search.num_samples=99"], 16)],
)
def test_a_grid_runs_all_its_points_or_as_many_as_asked(overrides: list[str], count: int) -> None:
    forecast = preflight.check(load_plan("grid", overrides), [MACHINE])
    assert forecast.plan.search.num_samples == count


FOUR_POINTS = "search.space={optim.nesterov: {choice: [true, false]}, model.width: {pow2: [4, 8]}}"


@pytest.mark.parametrize(("samples", "count"), [(16, 4), (3, 3)])
def test_a_model_based_search_has_no_more_trials_than_points(samples: int, count: int) -> None:
    overrides = [FOUR_POINTS, "search.searcher=tpe", f"search.num_samples={samples}"]
    forecast = preflight.check(load_plan(None, overrides), [MACHINE])
    assert forecast.plan.search.num_samples == count
    told = "search.space has 4 points and search.num_samples is 16: 4 trials, none of them twice"
    assert (told in forecast.notes) == (samples == 16)
    again = preflight.check(forecast.plan, [MACHINE])
    assert again.plan.search.num_samples == count, "a settled plan stays as it is"


@pytest.mark.parametrize("searcher", ["random", "sobol"])
def test_a_search_that_draws_may_draw_a_point_twice(searcher: str) -> None:
    overrides = [FOUR_POINTS, f"search.searcher={searcher}"]
    assert preflight.check(load_plan(None, overrides), [MACHINE]).plan.search.num_samples == 16


def test_hyperband_is_described_by_its_brackets(tmp_path: Path) -> None:
    given = ["search.scheduler=hyperband", "search.grace_period=1"]
    forecast = preflight.check(load_plan(None, given), [MACHINE])
    text = "\n".join(describe(forecast, ["the data", "Left out."], tmp_path / "a", disk=False))
    assert "bracket 1   about 11 of 16 trials: the best 1/3 go on after epoch 1, 3" in text
    assert "at most 144, about 57 if halving is ideal" in text


def test_a_search_without_a_rung_below_its_end_says_so() -> None:
    forecast = preflight.check(load_plan(None, ["train.max_epochs=2"]), [MACHINE])
    assert not any("no trial is stopped early" in note for note in forecast.notes)
    forecast = preflight.check(load_plan(None, ["search.grace_period=9"]), [MACHINE])
    assert "no trial is stopped early" in forecast.notes[0]


def test_the_plan_is_described_with_rungs_epochs_and_disk(tmp_path: Path) -> None:
    forecast = preflight.check(load_plan(None, ["search.grace_period=1"]), [MACHINE])
    text = "\n".join(describe(forecast, ["the data"], tmp_path / "a", disk=True))
    assert "16 trials of at most 9 epochs" in text
    assert "after epoch 1: about 16 trials are judged, the best 1/3 go on (about 5)" in text
    assert "after epoch 3" in text
    assert "at most 144, about 37" in text
    assert "23 checkpoints of 1.9 MB, 0.04 GB" in text
    assert "GB are free" in text


def test_waiting_for_resources_of_a_single_machine_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"leave it out on a single machine"):
        preflight.check_waiting(load_plan())


def test_the_workers_of_a_trial_share_its_cpus_and_are_told(tmp_path: Path) -> None:
    given = ["resources.workers_per_trial=2", "train.sync_batchnorm=true"]
    forecast = preflight.check(load_plan(None, given), [MACHINE])
    assert forecast.plan.workers == 2
    assert forecast.plan.train.threads == 1
    assert forecast.plan.resources.cpus_per_trial == 2
    assert preflight.check(forecast.plan, [MACHINE]).plan == forecast.plan
    lines = describe(forecast, ["some"], tmp_path, disk=False)
    assert any("1 trial, each 2 CPUs in 2 workers, precision" in line for line in lines)
    assert not any("sync_batchnorm" in note for note in forecast.notes)
    alone = preflight.check(load_plan(None, given[1:]), [MACHINE])
    assert any("sync_batchnorm changes nothing" in note for note in alone.notes)


def test_a_share_of_a_gpu_is_told_with_its_memory(tmp_path: Path) -> None:
    machine = replace(MACHINE, cpus=8, gpus=1, gpu_bytes=80 * 10**9)
    forecast = preflight.check(load_plan(None, ["resources.gpus_per_trial=0.25"]), [machine])
    lines = describe(forecast, ["some"], tmp_path, disk=False)
    (line,) = [line for line in lines if line.startswith("gpu")]
    assert "4 trials share one; each may take 25% of its memory, 20.0 GB, of which CUDA" in line
    whole = preflight.check(load_plan(), [machine])
    assert not any(line.startswith("gpu") for line in describe(whole, [], tmp_path, disk=False))


def test_a_plan_is_settled_for_what_all_nodes_have() -> None:
    slow = replace(MACHINE, cpus=4, cpu_bf16=False)
    plan = load_plan(None, ["resources.address=auto"])
    forecast = preflight.check(plan, [MACHINE, slow])
    assert forecast.share.slots == 6
    assert forecast.plan.train.precision == "32"
    assert preflight.check(plan, [MACHINE, MACHINE]).plan.train.precision == "bf16"
    with pytest.raises(ResourceError, match=r"is 5, and the cluster has 4 CPUs; pass .* 4 or less"):
        preflight.check(
            load_plan(None, ["resources.address=auto", "resources.cpus_per_trial=5"]),
            [MACHINE, slow],
        )


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://h:10001", "http://h:8265", "h:port", ""])
def test_an_address_is_that_of_a_head(address: str) -> None:
    with pytest.raises(PlanError, match=r"give auto, or HOST:PORT"):
        load_plan(None, [f"resources.address='{address}'"])


def test_local_is_this_machine_alone() -> None:
    assert load_plan(None, ["resources.address=local"]).resources.address is None
    assert load_plan(None, ["resources.address='[::1]:6379'"]).resources.address == "[::1]:6379"


def test_a_share_that_cuda_itself_would_take_is_refused() -> None:
    plan = load_plan(None, ["resources.gpus_per_trial=0.05", "resources.cpus_per_trial=1"])
    node = replace(MACHINE, cpus=40, gpus=1, gpu_bytes=8_000_000_000)
    told = (
        r"--gpus-per-trial 0\.05 of a GPU with 8\.0 GB is 0\.4 GB, and CUDA itself takes about 0\.5"
    )
    with pytest.raises(ResourceError, match=told):
        preflight.check(plan, [node])
