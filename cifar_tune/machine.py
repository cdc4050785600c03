"""What this machine has, read once: CPUs, GPUs, memory, and the arithmetic that is fast on it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_tune.config import TrainConfig
from cifar_tune.errors import PlanError

FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86: AVX512 and AMX; Arm: bf16


@dataclass(frozen=True, kw_only=True)
class Machine:
    """CPUs and GPUs that this process may use, and whether they compute bfloat16 fast.

    `gpu_bytes` is the memory of one GPU.
    """

    cpus: int
    gpus: int
    gpu_name: str | None
    cpu_name: str
    cpu_bf16: bool
    gpu_bf16: bool
    gpu_bytes: int = 0


def read_machine() -> Machine:
    """Read the machine. Torch is imported only where a GPU's device file exists."""
    gpus, gpu_name, gpu_bf16, gpu_bytes = _gpus()
    flags, cpu_name = _cpu_flags()
    return Machine(
        cpus=_usable_cpus(),
        gpus=gpus,
        gpu_name=gpu_name,
        cpu_name=cpu_name,
        cpu_bf16=bool(flags & FAST_BF16_FLAGS),
        gpu_bf16=gpu_bf16,
        gpu_bytes=gpu_bytes,
    )


def settle(train: TrainConfig, machine: Machine, *, cpus: int, gpu: bool) -> TrainConfig:
    """Replace every `auto` by what this machine's flags say, so that a run can be repeated.

    Args:
        train: the section to settle.
        machine: where it will run.
        cpus: CPUs of one training.
        gpu: whether it trains on a GPU.
    """
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if (machine.gpu_bf16 if gpu else machine.cpu_bf16) else "32"
    channels_last = precision != "32" if train.channels_last == "auto" else train.channels_last
    threads = cpus if train.threads == "auto" else train.threads
    return train.model_copy(
        update={"precision": precision, "channels_last": channels_last, "threads": threads}
    )


def least(nodes: Sequence[Machine]) -> Machine:
    """What all of these machines have, so that a plan settled for it suits each."""
    return replace(
        nodes[0],
        cpu_bf16=all(node.cpu_bf16 for node in nodes),
        gpu_bf16=all(node.gpu_bf16 for node in nodes if node.gpus),
        gpu_bytes=min((node.gpu_bytes for node in nodes if node.gpus), default=0),
    )


def check_compiler(*, gpu: bool) -> None:
    """Check that torch.compile finds the compiler that it calls, by its own rules.

    Raises:
        PlanError: it is not there.
    """
    # For a CPU torch calls one for C++; for a GPU Triton compiles, and its launcher is in C.
    variable, names = ("CC", ("gcc", "clang")) if gpu else ("CXX", ("g++",))
    if not gpu and sys.platform == "darwin":
        names = ("clang++",)
    given = os.environ.get(variable)
    names = (given,) if given else names
    if not any(shutil.which(name) for name in names):
        raise PlanError(
            f"train.compile is true, which needs a compiler, and there is no {' or '.join(names)}"
            f" on the path; install one, name another in {variable}, or leave train.compile out"
        )


def _usable_cpus() -> int:
    """CPUs by affinity and by the container's quota, whichever is less, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(affinity or 1, _cgroup_quota() or affinity or 1))


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole CPUs that a container may use (cgroup v2, then v1); none without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdigit() or not int(period):  # "max" or -1: no limit
        return None
    return max(1, int(quota) // int(period))


def _cpu_flags() -> tuple[set[str], str]:
    flags: set[str] = set()
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return flags, name
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
        if key.strip() == "model name":
            name = value.strip()
    return flags, name


def _gpus() -> tuple[int, str | None, bool, int]:
    devices = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]
    if not devices:
        return 0, None, False, 0
    import torch

    count = torch.cuda.device_count()
    if not count:
        return 0, None, False, 0
    # Compute capability 8.0 (A100) is the first with bfloat16 in its tensor cores.
    capability = torch.cuda.get_device_capability(0)
    memory = torch.cuda.get_device_properties(0).total_memory
    return count, torch.cuda.get_device_name(0), capability >= (8, 0), memory
