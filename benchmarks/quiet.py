"""What every benchmark does first: refuse a loaded machine, and print machine and versions."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata

from cifar_tune.machine import read_machine

LOAD_PER_CPU = 1.2  # above it, times say more about the neighbours
PACKAGES = ("torch", "lightning", "ray", "torchvision", "numpy")


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument("--force", action="store_true", help="measure on a loaded machine too")


def begin(arguments: argparse.Namespace) -> None:
    """Print machine, versions and load; leave with exit code 2 if the machine is loaded."""
    machine, load = read_machine(), os.getloadavg()[0]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    gpu = f", {machine.gpus} x {machine.gpu_name}" if machine.gpus else ""
    print(f"{machine.cpu_name}, {machine.cpus} CPUs{gpu}, load {load:.2f}")
    print(f"Python {platform.python_version()}, {versions}")
    if load > LOAD_PER_CPU * machine.cpus and not arguments.force:
        print(f"load {load:.2f} is above {LOAD_PER_CPU} x {machine.cpus} CPUs; wait, or --force")
        raise SystemExit(2)
