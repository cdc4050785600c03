"""The commands of the cluster files run against a real Ray on this machine, and so do the programs around them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster_words import DOCKER, SLURM_OPTIONS, command_lines, programs, read
from ray_nodes import RayNodes, ray_nodes

ROOT = DOCKER.parent
pytestmark = pytest.mark.faults  # each starts Ray, which takes 10 to 20 s

# Runs the command where srun would; the second node waits for the first, as both are on this machine.
SRUN = """
while [ "${1#--}" != "$1" ]; do shift; done
if [ "$1" = rm ]; then exec "$@"; fi
exec "$@"
"""
# What the words after USER@HOST say, which ssh joins, is run here instead of on that machine.
# `ray stop` would end every Ray of this machine.
SSH = """
while [ "${1#*@}" = "$1" ]; do shift; done
shift
command=$*
case "$command" in *'ray stop'*) exit 0;; esac
exec bash -c "$command"
"""
RSYNC = """
from=${@: -2:1} to=${@: -1}
to=${to#*:}
mkdir -p "$(dirname "${to/#\\~/$HOME}")"
[ "$from" -ef "${to/#\\~/$HOME}" ] || cp -p "$from" "${to/#\\~/$HOME}"
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray's sockets lie below it, and their paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    """A head and a node with two CPUs, which `--address auto` finds by RAY_ADDRESS."""
    with (
        tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as folder,
        ray_nodes(Path(folder) / "ray", 2) as nodes,
    ):
        yield nodes


def small(image_folder: Path) -> list[str]:
    sizes = {"train_size": 200, "val_size": 100, "confirm_size": 50}
    words = [word for name, size in sizes.items() for word in ("--set", f"data.{name}={size}")]
    return ["--data-dir", str(image_folder), *words]


@pytest.mark.parametrize("name", command_lines())
def test_each_command_plans_a_search_on_the_cluster(
    name: str, cluster: RayNodes, image_folder: Path, tmp_path: Path
) -> None:
    words = [cluster.address if word == "$RAY_ADDRESS" else word for word in command_lines()[name]]
    if "--out" in words:
        words[words.index("--out") + 1] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "cifar_tune.tune", *words, *small(image_folder), "--dry-run"],
        cwd=tmp_path,
        env={**cluster.environment, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "at once     2 trials" in done.stdout


def test_the_slurm_script_runs_a_search_on_two_nodes_and_leaves_nothing(
    short_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    path = programs(tmp_path, {"srun": SRUN})
    home = short_folder / "home"
    home.mkdir()
    text = (DOCKER / "slurm.sh").read_text()
    ours = tmp_path / "slurm.sh"
    ours.write_text(text.replace("/tmp/cifar-tune-", f"{short_folder}/"))
    options = [
        str(tmp_path / "out") if word == "/shared/results" else word for word in SLURM_OPTIONS
    ]
    settings = {
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "18", "SLURM_CPUS_ON_NODE": "1",
        "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "PATH": path, "HOME": str(home),
    }  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    limits = ["--num-samples", "2", "--max-epochs", "2", "--final-seeds", "0"]
    limits += ["--set", "data.batch_size=32"]
    done = subprocess.run(
        ["bash", str(ours), *options, *small(image_folder), *limits, "--set", "model.width=2"],
        env={**kept, **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 slots" in done.stdout
    assert (tmp_path / "out" / "mine" / "summary.json").exists()
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert not (short_folder / "18").exists()


def test_ray_up_starts_a_head_that_asks_for_the_token(short_folder: Path, tmp_path: Path) -> None:
    ray = Path(sys.executable).with_name("ray")
    home = short_folder / "home"
    for name in (".ray/auth_token", ".ssh/id_ed25519"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("0123456789abcdef" * 4)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = programs(tmp_path, {"ssh": SSH, "rsync": RSYNC})
    environment = {**kept, "PATH": path, "HOME": str(home)}
    address = f"127.0.0.1:{free_port()}"
    file = tmp_path / "ray-up.yaml"
    file.write_text(on_this_machine(address, short_folder / "r"))
    try:
        subprocess.run(
            [ray, "up", "--yes", "--no-config-cache", file],
            env=environment, check=True, timeout=200,
        )  # fmt: skip
        assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
        status = [ray, "status", "--address", address]
        for mode, code in (("token", 0), ("disabled", 1)):
            answer = subprocess.run(
                status, env={**environment, "RAY_AUTH_MODE": mode}, check=False, timeout=100
            )
            assert (answer.returncode != 0) == (code != 0)
    finally:
        end_processes_below(short_folder)


def on_this_machine(address: str, temp_dir: Path) -> str:
    """The file with this machine as its head, this Python's Ray, and no workers."""
    (config,) = read("ray-up.yaml")
    host, _, port = address.partition(":")
    config["provider"] |= {"head_ip": host, "worker_ips": []}
    config |= {"min_workers": 0, "max_workers": 0}
    text = yaml.safe_dump(config, width=1000)
    for theirs, ours in (
        ("/shared/cifar_tune/.venv/bin", str(Path(sys.executable).parent)),
        # Without the dashboard, which is in an extra that developers do not have.
        ("--port=6379", f"--port={port} --temp-dir={temp_dir} --include-dashboard=false"),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])


def end_processes_below(folder: Path) -> None:
    """End what names the folder in its command: daemons that have no parent of ours any more."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/".encode() in command.read_bytes():
                os.kill(int(command.parent.name), signal.SIGKILL)
