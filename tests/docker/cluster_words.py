"""Reads the commands of a search out of the files that users copy for clusters."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parent.parent.parent / "docker"
SLURM_OPTIONS = ["--config", "asha", "--name", "mine", "--out", "/shared/results"]


def read(name: str) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    return list(yaml.safe_load_all((DOCKER / name).read_text()))


def kubernetes(name: str, kind: str) -> dict[str, Any]:
    """The one object of its kind in a file."""
    (found,) = [item for item in read(name) if item["kind"] == kind]
    return found


def command_lines() -> dict[str, list[str]]:
    """The options of the search in each file, by a name for the place."""
    (submitted,) = _after_the_module(kubernetes("rayjob.yaml", "ConfigMap")["data"]["search.sh"])
    executed, job = _after_the_module((DOCKER / "ray-up.yaml").read_text())
    (batch,) = _after_the_module((DOCKER / "slurm.sh").read_text())
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["search-cluster"]
    return {
        "RayJob": submitted,
        "ray exec": executed,
        "ray job submit": job,
        "Slurm": [word for word in batch if word != "$@"] + SLURM_OPTIONS,
        "Compose": service["command"],
    }


def _after_the_module(text: str) -> list[list[str]]:
    lines = re.findall(r"-m cifar_tune\.tune (--[^'&\n]*)", text)
    return [shlex.split(line) for line in lines]


def script(folder: Path, name: str) -> str:
    """A script of the Kubernetes ConfigMap as a file, with the folder in place of /tmp."""
    text = kubernetes("rayjob.yaml", "ConfigMap")["data"][name]
    path = folder / name
    path.write_text(text.replace("/tmp/", f"{folder}/"))
    return str(path)


def programs(folder: Path, bodies: dict[str, str]) -> str:
    """A PATH on which these names run the given lines of bash."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    for name, body in bodies.items():
        (place / name).write_text(f"#!/bin/bash\n{body}\n")
        (place / name).chmod(0o755)
    return f"{place}:{os.environ['PATH']}"
