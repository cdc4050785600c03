from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar_tune.errors import PlanError, ResourceError
from cifar_tune.plan import compiler, gpus
from cifar_tune.plan.gpus import _driver
from cifar_tune.plan.machine import Machine, _cgroup_quota, read_machine, settle
from cifar_tune.plan.training import TrainConfig

PLAIN = Machine(cpus=4, gpus=0, gpu_name=None, cpu_name="x", cpu_bf16=False, gpu_bf16=True)
FAST = Machine(cpus=4, gpus=1, gpu_name="g", cpu_name="x", cpu_bf16=True, gpu_bf16=False)


def test_this_machine_has_the_cpus_that_this_process_may_use() -> None:
    assert 1 <= read_machine().cpus <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("machine", "gpu", "precision", "channels_last"),
    [(PLAIN, False, "32", True), (FAST, False, "bf16", True), (FAST, True, "32", False)],
)
def test_auto_follows_the_flags_of_what_is_trained_on(
    machine: Machine, gpu: bool, precision: str, channels_last: bool
) -> None:
    settled = settle(TrainConfig(), machine, cpus=2, gpu=gpu)
    assert (settled.precision, settled.channels_last) == (precision, channels_last)
    assert settled.threads == 2


def test_what_the_plan_says_is_kept() -> None:
    given = TrainConfig(precision="32", channels_last=True, threads=7, deterministic=False)
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

    monkeypatch.setattr(gpus, "_has_gpu_files", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    told = (
        r"this machine has 1 GPU, and CUDA can't start: The NVIDIA driver .* too old .*; torch .* is built for"
        r" CUDA .*, and the driver is .*: update the driver, .* CUDA_VISIBLE_DEVICES="
    )
    with pytest.raises(ResourceError, match=told):
        read_machine(trains=True)
    message = "this machine has 1 GPU, and CUDA can't start: too old"
    child = subprocess.CompletedProcess("", 0, json.dumps({"error": message}))
    monkeypatch.setattr(gpus.subprocess, "run", lambda *_, **__: child)
    with pytest.raises(ResourceError, match=r"^this machine has 1 GPU, and CUDA can't start"):
        read_machine()


LOOKS = """
import sys
from cifar_tune.plan import gpus
from cifar_tune.plan.machine import read_machine
gpus._has_gpu_files = lambda: True
print(read_machine().gpus, "torch" in sys.modules)
"""


def test_who_only_asks_for_gpus_never_has_a_context_of_cuda_on_one() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKS], check=True, capture_output=True, text=True)
    assert done.stdout.split()[1] == "False"


@pytest.mark.parametrize(
    ("gpu", "capability", "precision"),
    [("V100", (7, 0), "16"), ("T4", (7, 5), "16"), ("A100", (8, 0), "bf16"), ("P4", (6, 1), "32")],
)
def test_half_precision_is_what_the_gpu_has_instructions_for(
    gpu: str, capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    cuda, properties = torch.cuda, SimpleNamespace(total_memory=16_000_000_000)
    monkeypatch.setattr(gpus, "_has_gpu_files", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "init", lambda: None)
    monkeypatch.setattr(cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(cuda, "get_device_name", lambda _: gpu)
    monkeypatch.setattr(cuda, "get_device_properties", lambda _: properties)
    machine = read_machine(trains=True)
    settled = settle(TrainConfig(), machine, cpus=1, gpu=True)
    assert (settled.precision, settled.deterministic) == (precision, False)
    assert settle(TrainConfig(), machine, cpus=1, gpu=False).deterministic is True


def test_what_compiling_lacks_is_told_before_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    compiler.check_compiler(gpu=False)
    monkeypatch.setattr(compiler.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(PlanError, match=r"Python's headers, and .*Python\.h is not there; install"):
        compiler.check_compiler(gpu=False)
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/compiled")
    noexec = SimpleNamespace(f_flag=os.ST_NOEXEC)  # as compose mounts /tmp
    monkeypatch.setattr(compiler.os, "statvfs", lambda _: noexec)
    with pytest.raises(PlanError, match=r"in /tmp/compiled, which is mounted noexec; name another"):
        compiler.check_compiler(gpu=False)


def test_the_drivers_version_is_read(tmp_path: Path) -> None:
    told = tmp_path / "version"
    assert _driver(told) == "of an unknown version"
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\n"
    )
    assert _driver(told) == "535.104.05"
