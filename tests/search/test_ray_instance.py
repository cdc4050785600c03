"""On one machine nothing of a search can be reached from another, nor by another user of this."""

from __future__ import annotations

import ipaddress
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from command_line import command

LISTENING = "0A"  # TCP_LISTEN of the kernel's net/tcp_states.h, as /proc/net/tcp shows it
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _listening() -> dict[str, tuple[Address, int]]:
    """Address and port of every listening TCP socket of this machine, by its inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            local, state, inode = (line.split()[column] for column in (1, 3, 9))
            words, port = local.split(":")
            if state == LISTENING:  # four bytes at a time, in the order of this machine
                parts = [int(words[at : at + 8], 16) for at in range(0, len(words), 8)]
                packed = b"".join(struct.pack("=I", part) for part in parts)
                found[inode] = ipaddress.ip_address(packed), int(port, 16)
    return found


def _is_loopback(address: Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback


def _family(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(file.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(file.parent.name))
    family = [root]
    for process in family:  # it grows meanwhile
        family += children.get(process, [])
    return family


def _open_sockets(process: int) -> set[str]:
    """The inodes of a process's sockets."""
    inodes = set()
    try:
        for file in Path(f"/proc/{process}/fd").iterdir():
            link = os.readlink(file)
            if link.startswith("socket:["):
                inodes.add(link[len("socket:[") : -1])
    except OSError:
        pass  # the process ended meanwhile, or closed the file
    return inodes


def _name(process: int) -> str:
    return Path(title(process).split(" ")[0]).name


def _environment(process: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


Seen = tuple[set[tuple[str, Address, int]], dict[str, str | None]]


def _watch(process: subprocess.Popen[bytes]) -> Seen:
    """What its family listens on until it ends: name, address, port; and each name's auth mode."""
    seen: set[tuple[str, Address, int]] = set()
    modes: dict[str, str | None] = {}
    while process.poll() is None:
        sockets = _listening()
        for member in _family(process.pid):
            for inode in _open_sockets(member) & sockets.keys():
                seen.add((_name(member), *sockets[inode]))
                modes[_name(member)] = _environment(member).get("RAY_AUTH_MODE")
        time.sleep(0.1)
    return seen, modes


@pytest.mark.faults
def test_a_search_listens_on_loopback_only_and_asks_for_a_token_that_its_user_alone_can_read(
    image_folder: Path, small_plan: list[str], tmp_path: Path
) -> None:
    sets = ["search.num_samples=2", "search.scheduler=none", "train.max_epochs=2", *small_plan]
    words = [word for value in sets for word in ("--set", value)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            command("--out", str(tmp_path), "--name", "one", *words),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "HOME": str(tmp_path)},
        )
    try:
        seen, modes = _watch(process)
    finally:
        process.kill()  # Ray's processes end with it
        process.wait()
    assert process.returncode == 0, (tmp_path / "output").read_text()
    # Those that would listen everywhere by default: without them nothing was seen.
    assert {"gcs_server", "raylet"} <= {name for name, _, _ in seen}
    assert any(name.startswith("ray::") for name, _, _ in seen), "no trial's process was seen"
    assert sorted(one for one in seen if not _is_loopback(one[1])) == []
    assert modes["gcs_server"] == modes["raylet"] == "token"
    token = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False),
        ("::", False), ("::ffff:0.0.0.0", False), ("192.0.2.2", False),
    ],
)  # fmt: skip
def test_the_wildcard_is_not_taken_for_loopback(address: str, answer: bool) -> None:
    assert _is_loopback(ipaddress.ip_address(address)) is answer


AHEAD = """
import os, sys, time
from pathlib import Path
import ray.cloudpickle
from ray._private import state
from search import objectives
from search.searching import MACHINE, searching
from search.test_ray_instance import _family, title
from cifar_tune.plan.config import Plan
from cifar_tune.search.ahead import get_ready
from cifar_tune.search.ray_instance import ray_for

ray.cloudpickle.register_pickle_by_value(objectives)
os.environ["CIFAR_TUNE_TEST_NOTES"] = sys.argv[1]
with ray_for(Plan(), MACHINE, imports=["decimal", "torch.nowhere"]):
    get_ready(2, first=True)
    known = len(state.workers())  # without it none: they register later
    while len(ready := [one for one in _family(os.getpid()) if title(one) == "ray::IDLE"]) < 2:
        time.sleep(0.05)
    run = searching(Path(sys.argv[1]) / "search")
    run("search.num_samples=2", "search.scheduler=none", "train.max_epochs=1", "finals.seeds=0", objective=objectives.noted)
    print(*sorted(ready))
    assert known >= 2, known
"""


def title(process: int) -> str:
    """What a process calls itself; Ray's tell so whether they have a trial."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""


def test_trials_take_the_processes_that_were_started_ahead(tmp_path: Path) -> None:
    here = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", AHEAD, str(tmp_path)],
        check=False, capture_output=True, text=True, cwd=here, timeout=100,
        env={**os.environ, "PYTHONPATH": str(here)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    took = {file.name.partition("-")[2] for file in tmp_path.glob("*-*")}  # one may take both
    assert took
    assert took <= set(done.stdout.split())


NO_GPU_YET = """
import importlib, torch
from cifar_tune import load_plan
from cifar_tune.search.trainable import fit_objective, imports_of

asked = []
for name in ("is_available", "device_count", "init", "_lazy_init", "current_device"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name))
for name in imports_of(fit_objective, load_plan(None)):
    importlib.import_module(name)
print(asked)
"""


def test_imports_ahead_leave_the_gpus_alone_until_ray_says_which_are_the_trials() -> None:
    """CUDA reads which GPUs are visible once, when it is first asked."""
    done = subprocess.run(
        [sys.executable, "-c", NO_GPU_YET], check=False, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_data_that_is_damaged_leaves_nothing_of_a_ray_that_was_started_for_it(
    image_folder: Path, small_plan: list[str], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(image_folder, images)
    sorted(images.rglob("train/*/*.png"))[-1].write_bytes(b"")
    sets = [word for value in small_plan for word in ("--set", value)]
    with tempfile.TemporaryDirectory(prefix="ct", dir="/tmp") as short:  # sockets' paths are short
        words = command("--out", str(tmp_path), "--name", "one", *sets, "--data-dir", str(images))
        done = subprocess.run(
            words, env={**os.environ, "RAY_TMPDIR": short}, check=False,
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        assert "can't be read" in done.stderr
        assert [*Path(short).glob("ray/session_*[0-9]")] == []
