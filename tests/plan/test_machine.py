from __future__ import annotations

import os
from pathlib import Path

import pytest

from cifar_tune.errors import ResourceError
from cifar_tune.plan import machine as machines
from cifar_tune.plan.config import TrainConfig
from cifar_tune.plan.machine import Machine, _cgroup_quota, _driver, read_machine, settle

PLAIN = Machine(cpus=4, gpus=0, gpu_name=None, cpu_name="x", cpu_bf16=False, gpu_bf16=True)
FAST = Machine(cpus=4, gpus=1, gpu_name="g", cpu_name="x", cpu_bf16=True, gpu_bf16=False)


def test_this_machine_has_the_cpus_that_this_process_may_use() -> None:
    assert 1 <= read_machine().cpus <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("machine", "gpu", "precision", "channels_last"),
    [(PLAIN, False, "32", False), (FAST, False, "bf16", True), (FAST, True, "32", False)],
)
def test_auto_follows_the_flags_of_what_is_trained_on(
    machine: Machine, gpu: bool, precision: str, channels_last: bool
) -> None:
    settled = settle(TrainConfig(), machine, cpus=2, gpu=gpu)
    assert (settled.precision, settled.channels_last) == (precision, channels_last)
    assert settled.threads == 2


def test_what_the_plan_says_is_kept() -> None:
    given = TrainConfig(precision="32", channels_last=True, threads=7)
    assert settle(given, FAST, cpus=2, gpu=False) == given


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read(
    tmp_path: Path, files: dict[str, str], cpus: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert _cgroup_quota(tmp_path) == cpus


def test_cuda_that_can_not_start_is_told_with_driver_and_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(machines, "_has_gpu_files", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    told = (
        r"this machine has 1 GPU, and CUDA can't start: The NVIDIA driver .* too old .*; torch .* is built for"
        r" CUDA .*, and the driver is .*: update the driver, .* CUDA_VISIBLE_DEVICES="
    )
    with pytest.raises(ResourceError, match=told):
        read_machine()


def test_the_drivers_version_is_read(tmp_path: Path) -> None:
    told = tmp_path / "version"
    assert _driver(told) == "of an unknown version"
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\n"
    )
    assert _driver(told) == "535.104.05"
