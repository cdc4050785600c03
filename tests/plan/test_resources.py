from __future__ import annotations

from typing import Any

import pytest

from cifar_tune.errors import ResourceError
from cifar_tune.plan.machine import Machine, Share, share_on
from cifar_tune.plan.resources import ResourcesConfig


def machine(cpus: int, gpus: int = 0) -> Machine:
    return Machine(
        cpus=cpus, gpus=gpus, gpu_name=None, cpu_name="x", cpu_bf16=False, gpu_bf16=False
    )


def share(node: Machine, **fields: Any) -> Share:
    return share_on(ResourcesConfig(**fields), [node])


def test_without_a_gpu_a_trial_gets_one_cpu_and_all_cpus_are_used() -> None:
    assert share(machine(4)) == Share(cpus=1, gpus=0, slots=4)


def test_with_gpus_a_trial_gets_one() -> None:
    assert share(machine(16, 2)) == Share(cpus=4, gpus=1, slots=2)


@pytest.mark.parametrize(
    ("fraction", "slots"), [(0.5, 2), (0.25, 4), (0.1, 10), (0.2, 5), (0.34, 2)]
)
def test_a_share_of_a_gpu_is_counted_exactly(fraction: float, slots: int) -> None:
    assert share(machine(64, 1), gpus_per_trial=fraction, cpus_per_trial=1).slots == slots


def test_cpus_limit_the_trials_that_share_a_gpu() -> None:
    assert share(machine(4, 1), gpus_per_trial=0.1, cpus_per_trial=2).slots == 2


def test_a_share_that_leaves_some_of_the_gpu_idle_is_told() -> None:
    assert "1/3" in share(machine(8, 1), gpus_per_trial=0.4).notes[0]
    assert share(machine(8, 1), gpus_per_trial=0.333).notes == ()


def test_on_mixed_nodes_a_trial_gets_the_cpus_that_the_smallest_has_for_it() -> None:
    nodes = [machine(32, 4), machine(4, 2), machine(64)]
    assert share_on(ResourcesConfig(gpus_per_trial=1.0), nodes).cpus == 2
    assert share_on(ResourcesConfig(gpus_per_trial=1.0), nodes).notes == ()


def test_gpus_that_idle_for_want_of_cpus_are_told() -> None:
    given = share(machine(2, 1), gpus_per_trial=0.25)
    assert (given.cpus, given.slots) == (1, 2)
    assert "room for 4 trials, and the CPUs for 2 of 1 each" in given.notes[0]
    assert share(machine(2, 1), gpus_per_trial=0.25, max_concurrent=2).notes == ()


@pytest.mark.parametrize(
    ("node", "fields", "given"),
    [
        (machine(4), {"workers_per_trial": 2}, Share(cpus=2, gpus=0, slots=2, workers=2)),
        (
            machine(8),
            {"workers_per_trial": 2, "cpus_per_trial": 4},
            Share(cpus=4, gpus=0, slots=2, workers=2),
        ),
        (machine(16, 4), {"gpus_per_trial": 2.0}, Share(cpus=8, gpus=2, slots=2, workers=2)),
        (machine(16, 5), {"workers_per_trial": 2}, Share(cpus=6, gpus=2, slots=2, workers=2)),
        (
            machine(16, 4),
            {"workers_per_trial": 2, "gpus_per_trial": 0},
            Share(cpus=2, gpus=0, slots=8, workers=2),
        ),
    ],
)
def test_a_worker_has_one_cpu_at_least_and_one_gpu_at_most(
    node: Machine, fields: dict[str, Any], given: Share
) -> None:
    assert share(node, **fields) == given


def test_max_concurrent_lowers_the_slots() -> None:
    assert share(machine(8), max_concurrent=3).slots == 3
    assert share(machine(2), max_concurrent=8).slots == 2


@pytest.mark.parametrize(
    ("node", "fields", "message"),
    [
        (machine(2), {"gpus_per_trial": 0.5}, r"is 0\.5, and this machine has 0 GPUs; .* 0$"),
        (machine(2), {"gpus_per_trial": 1.0}, r"is 1, and this machine has 0 GPUs"),
        (machine(2, 1), {"gpus_per_trial": 2.0}, r"is 2, and this machine has 1 GPU; pass .* 1 or"),
        (machine(2, 4), {"gpus_per_trial": 1.5}, r"is 1\.5; give a share below 1"),
        (
            machine(8, 4),
            {"gpus_per_trial": 2.0, "workers_per_trial": 3},
            r"workers-per-trial is 3 and --gpus-per-trial is 2; .* --workers-per-trial 2 or --gpus-per-trial 3",
        ),
        (
            machine(8, 4),
            {"gpus_per_trial": 0.5, "workers_per_trial": 2},
            r"workers-per-trial is 2 and --gpus-per-trial is 0\.5; a worker has one whole GPU: .*-trial 1 or",
        ),
        (
            machine(8, 2),
            {"workers_per_trial": 3},
            r"workers-per-trial is 3, .* has 2; pass --workers-per-trial 2 or less",
        ),
        (
            machine(2),
            {"workers_per_trial": 3},
            r"workers-per-trial is 3, .* has 2 CPUs; pass --workers-per-trial 2",
        ),
        (
            machine(4),
            {"workers_per_trial": 3, "cpus_per_trial": 2},
            r"cpus-per-trial is 2, for 3 workers; .* pass --cpus-per-trial 3 or more",
        ),
        (
            machine(2),
            {"cpus_per_trial": 3},
            r"is 3, and this machine has 2 CPUs; pass .* 2 or less",
        ),
    ],
)
def test_what_the_machine_can_never_give_is_refused(
    node: Machine, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        share(node, **fields)
