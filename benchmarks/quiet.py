"""What every benchmark does first: refuse a loaded machine, and print machine and versions."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cifar_tune.plan.machine import read_machine

LOAD_PER_CPU = 0.5  # above it, times say more about the neighbours
PATIENCE_SECONDS = 180  # for the load of what ran before, a mean over a minute, to go down
PACKAGES = ("torch", "lightning", "ray", "torchvision", "numpy", "optuna")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--json` and `--force`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--force", action="store_true", help="measure on a loaded machine too")


def begin(arguments: argparse.Namespace) -> None:
    """Print machine, versions and load; leave with exit code 2 if the machine stays loaded."""
    machine = read_machine()
    limit, until = LOAD_PER_CPU * machine.cpus, time.monotonic() + PATIENCE_SECONDS
    while (load := os.getloadavg()[0]) > limit and not arguments.force:
        if time.monotonic() > until:
            print(f"load {load:.2f} is above {LOAD_PER_CPU} x {machine.cpus} CPUs; or --force")
            raise SystemExit(2)
        time.sleep(5)
    arguments.load = load
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    gpu = f", {machine.gpus} x {machine.gpu_name}" if machine.gpus else ""
    print(f"{machine.cpu_name}, {machine.cpus} CPUs{gpu}, load {load:.2f}")
    print(f"Python {platform.python_version()}, {versions}")


def save(arguments: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Write figures, command, machine, versions and the load before it to the file of `--json`."""
    if arguments.json is None:
        return
    machine = read_machine()
    about = {
        "command": sys.argv,
        "cpu": machine.cpu_name,
        "cpus": machine.cpus,
        "gpus": machine.gpus,
        "load": arguments.load,
        "python": platform.python_version(),
        "versions": _versions(),
    }
    arguments.json.write_text(json.dumps({**about, **figures}, indent=2) + "\n")


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}
