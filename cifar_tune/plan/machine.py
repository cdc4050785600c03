"""What this machine has, read once: CPUs, GPUs, memory, and the arithmetic that is fast on it."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from cifar_tune.errors import ResourceError, counted
from cifar_tune.plan.gpus import gpus_apart, gpus_here
from cifar_tune.plan.resources import ResourcesConfig
from cifar_tune.plan.training import TrainConfig

Train = TypeVar("Train", bound=TrainConfig)
FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86: AVX512 and AMX; Arm: bf16


@dataclass(frozen=True, kw_only=True)
class Machine:
    """CPUs and GPUs that this process may use, and whether they compute in half precision fast.

    `gpu_bytes` is the memory of one GPU.
    """

    cpus: int
    cpu_name: str
    cpu_bf16: bool
    gpus: int = 0
    gpu_name: str | None = None
    gpu_bf16: bool = False
    gpu_fp16: bool = False
    gpu_bytes: int = 0


def read_machine(*, trains: bool = False) -> Machine:
    """Read the machine; what `trains` looks at its GPUs itself, all else in a child."""
    name, flags = _cpu()
    bf16 = bool(flags & FAST_BF16_FLAGS)
    gpus = gpus_here() if trains else gpus_apart()
    return Machine(cpus=usable_cpus(), cpu_name=name, cpu_bf16=bf16, **gpus)


def settle(train: Train, machine: Machine, *, cpus: int, gpu: bool) -> Train:
    """Replace every `auto` by what the machine's flags say, so that a training can be repeated."""
    precision = train.precision
    if precision == "auto" and (machine.gpu_bf16 if gpu else machine.cpu_bf16):
        precision = "bf16"
    elif precision == "auto":
        precision = "16" if gpu and machine.gpu_fp16 else "32"
    # On a CPU without bfloat16 too: a step of resnet9 takes 0.7 of the time of the plain layout.
    fast = not gpu or precision != "32"
    channels_last = fast if train.channels_last == "auto" else train.channels_last
    return train.model_copy(
        update={
            "precision": precision,
            "channels_last": channels_last,
            "threads": cpus if train.threads == "auto" else train.threads,
            "deterministic": not gpu if train.deterministic == "auto" else train.deterministic,
        }
    )


def least(nodes: Sequence[Machine]) -> Machine:
    """What all of these machines have, so that a plan settled for it suits each."""
    return replace(
        nodes[0],
        cpu_bf16=all(node.cpu_bf16 for node in nodes),
        gpu_bf16=all(node.gpu_bf16 for node in nodes if node.gpus),
        gpu_fp16=all(node.gpu_fp16 for node in nodes if node.gpus),
        gpu_bytes=min((node.gpu_bytes for node in nodes if node.gpus), default=0),
    )


def usable_cpus() -> int:
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


@functools.cache
def _cpu() -> tuple[str, set[str]]:
    """Name and flags of the CPU, as Linux tells them of its last core."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    told = {key.strip(): value.strip() for key, _, value in pairs}
    name = told.get("model name") or platform.processor() or platform.machine()
    return name, set((told.get("flags") or told.get("Features", "")).split())


HERE, CLUSTER = "this machine", "the cluster"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one trial gets and how many such trials run at once.

    `cpus` and `gpus` are those of all its workers; `gpus` is a share of one, or one a worker.
    """

    cpus: int
    gpus: float
    slots: int
    workers: int = 1
    notes: tuple[str, ...] = ()


def share_on(config: ResourcesConfig, nodes: Sequence[Machine], where: str = HERE) -> Share:
    """Divide nodes, on which trials can run, among them; one trial never spans two.

    `where` is what the nodes are called in errors.

    Raises:
        ResourceError: a request that can never be met, with what there is and what to pass.
    """
    most_gpus = max(node.gpus for node in nodes)
    gpus = _gpus_per_trial(config, most_gpus, where)
    workers = _workers_per_trial(config, gpus)
    cpus = _cpus_per_trial(config, nodes, gpus, workers, where)
    share = Share(cpus=cpus, gpus=gpus, slots=0, workers=workers)
    slots = slots_on(config, nodes, share)
    if not slots:
        of = f" of {workers} workers" if workers > 1 else ""
        raise ResourceError(
            f"{where} has no node with {cpus} CPUs and {gpus:g} GPUs for a trial{of}; pass"
            " less with --cpus-per-trial, --gpus-per-trial or --workers-per-trial"
        )
    return replace(share, slots=slots, notes=tuple(_idle_gpus(config, nodes, share)))


def _idle_gpus(config: ResourcesConfig, nodes: Sequence[Machine], share: Share) -> Iterator[str]:
    """Notes on what trials of this share leave unused of the GPUs."""
    gpus = share.gpus
    idle = 1 - gpus * trials_per_gpu(gpus) if 0 < gpus < 1 else 0.0
    if idle > 0.02:  # 0.333 is meant as a third
        yield (
            f"--gpus-per-trial {gpus:g}: {trials_per_gpu(gpus)} trials share a GPU and {idle:.0%}"
            " of it stays idle; a share of 1/2, 1/3 or 1/4 leaves none"
        )
    if not gpus or config.max_concurrent != "auto":
        return
    room, slots = sum(_by_gpu(node, gpus) for node in nodes), slots_on(config, nodes, share)
    if slots < room:
        yield (
            f"the GPUs have room for {room} trials, and the CPUs for {slots} of {share.cpus} each:"
            " what is left of the GPUs stays idle; give trials a larger share of a GPU, or fewer"
            " CPUs with --cpus-per-trial"
        )


def slots_on(config: ResourcesConfig, nodes: Sequence[Machine], share: Share) -> int:
    """How many trials with this share run at once on these nodes; 0 if there is no room."""
    slots = sum(_slots_on(node, share.cpus, share.gpus) for node in nodes)
    return slots if config.max_concurrent == "auto" else min(slots, config.max_concurrent)


def _gpus_per_trial(config: ResourcesConfig, available: int, where: str) -> float:
    wanted = config.gpus_per_trial
    if wanted == "auto":
        workers = 1 if config.workers_per_trial == "auto" else config.workers_per_trial
        if not available or workers <= available:
            return float(workers if available else 0)
        raise ResourceError(
            f"--workers-per-trial is {workers}, each with a GPU of one node, and {where} has"
            f" {available}; pass --workers-per-trial {available} or less, or --gpus-per-trial 0"
        )
    if wanted > 1 and wanted != int(wanted):
        raise ResourceError(
            f"--gpus-per-trial is {wanted:g}; give a share below 1, such as 0.5, or a whole number"
        )
    if wanted > available:
        instead = "--gpus-per-trial 0" if not available else f"--gpus-per-trial {available} or less"
        raise ResourceError(
            f"--gpus-per-trial is {wanted:g}, and {where} has {counted(available, 'GPU')}; pass"
            f" {instead}"
        )
    return wanted


def _workers_per_trial(config: ResourcesConfig, gpus: float) -> int:
    """One worker for each whole GPU; without a GPU, as many as asked for."""
    wanted, needed = config.workers_per_trial, max(1, int(gpus))
    if wanted == "auto":
        return needed
    if gpus and wanted != needed:
        raise ResourceError(
            f"--workers-per-trial is {wanted} and --gpus-per-trial is {gpus:g}; a worker has one"
            f" whole GPU: pass --workers-per-trial {needed} or --gpus-per-trial {wanted}"
        )
    return wanted


def _cpus_per_trial(
    config: ResourcesConfig, nodes: Sequence[Machine], gpus: float, workers: int, where: str
) -> int:
    """CPUs of a trial; whole ones for each of its workers."""
    wanted, available = config.cpus_per_trial, max(node.cpus for node in nodes)
    if wanted == "auto" and not gpus:
        if workers > available:
            raise ResourceError(
                f"--workers-per-trial is {workers}, each with a CPU of one node, and {where} has"
                f" {counted(available, 'CPU')}; pass --workers-per-trial {available} or less"
            )
        return workers
    if wanted == "auto":
        # One process feeds each share of a GPU; more than 4 CPUs do not help the loader, which
        # works on the GPU.
        share = min(node.cpus // trials_per_gpu(gpus) // node.gpus for node in nodes if node.gpus)
        return workers * max(1, min(4, share))
    if wanted < workers:
        raise ResourceError(
            f"--cpus-per-trial is {wanted}, for {workers} workers; it must be at least one each:"
            f" pass --cpus-per-trial {workers} or more, or leave it out"
        )
    if wanted > available:
        raise ResourceError(
            f"--cpus-per-trial is {wanted}, and {where} has {counted(available, 'CPU')}; pass"
            f" --cpus-per-trial {available} or less"
        )
    return wanted


def _slots_on(node: Machine, cpus: int, gpus: float) -> int:
    by_cpu = node.cpus // cpus
    return min(by_cpu, _by_gpu(node, gpus)) if gpus else by_cpu


def _by_gpu(node: Machine, gpus: float) -> int:
    return int(node.gpus // gpus) if gpus > 1 else node.gpus * trials_per_gpu(gpus)


def trials_per_gpu(gpus: float) -> int:
    """Trials that share one GPU; exact, since 1 / 0.1 in floats may round down."""
    return max(1, int(1 / Fraction(str(gpus)))) if gpus <= 1 else 1
