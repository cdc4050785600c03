"""A Ray cluster on this machine: a head and nodes by `ray start`, each with its own processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0


class RayNodes:
    """A head without CPUs, and nodes that come and go.

    Attributes:
        address: HOST:PORT of the head.
        environment: for commands that join; it leads to the cluster's token.
    """

    def __init__(self, folder: Path, host: str, head_prefix: Sequence[str] = ()) -> None:
        """Start the head; `head_prefix` are words before its command, such as `ip netns exec`."""
        (folder / "home").mkdir(parents=True)
        # A socket's path has 107 bytes at most, and pytest's folders are long.
        self._session = tempfile.TemporaryDirectory(
            prefix="c", dir="/tmp", ignore_cleanup_errors=True
        )
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = ours | {"HOME": str(folder / "home"), "RAY_AUTH_MODE": "token"}
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []
        ray = Path(sys.executable).with_name("ray")
        self._ray = str(ray)
        subprocess.run(
            [self._ray, "get-auth-token", "--generate"],
            env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self._host, port = host, _free_port()
        self.address = f"{host}:{port}"
        self._start(
            "head", head_prefix, "--head", f"--port={port}", "--num-cpus=0",
            f"--node-ip-address={host}", "--include-dashboard=false",
            f"--temp-dir={self._session.name}",
        )  # fmt: skip
        self._wait_for("head")

    def add(
        self, cpus: int, host: str | None = None, prefix: Sequence[str] = (), gpus: int = 0
    ) -> int:
        """Start one more node; its number, for `kill`. Ray believes what is said of its GPUs.

        One after another: of two that start at once on a host, one may give up.
        """
        number = len(self._nodes)
        self._start(
            f"node{number}", prefix, f"--address={self.address}", f"--num-cpus={cpus}",
            f"--node-ip-address={host or self._host}", f"--num-gpus={gpus}",
        )  # fmt: skip
        self._wait_for(f"node{number}")
        return number

    def kill(self, number: int = 0) -> None:
        """SIGKILL all processes of a node, as if its machine was switched off; 0 is the head."""
        _kill_tree(self._nodes[number])

    def titles(self, number: int) -> list[str]:
        """What the processes of a node call themselves: Ray names a worker by what it does."""
        found = []
        for pid in _descendants(self._nodes[number].pid):
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0"))
        return found

    def stop(self) -> None:
        """End all that still runs."""
        for node in reversed(self._nodes):
            _kill_tree(node)
        self._session.cleanup()

    def _start(self, name: str, prefix: Sequence[str], *words: str) -> None:
        command = [*prefix, self._ray, "start", "--block", "--disable-usage-stats", *words]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._nodes.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd="/")
            )

    def _wait_for(self, name: str) -> None:
        log, until = self._folder / f"{name}.log", time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert time.monotonic() < until, log.read_text(errors="replace")
            assert self._nodes[-1].poll() is None, log.read_text(errors="replace")
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("", 0))
        port: int = taken.getsockname()[1]
        return port


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    for pid in [process.pid, *_descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    """Ids of all processes below one, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


@contextmanager
def ray_nodes(folder: Path, *cpus: int) -> Iterator[RayNodes]:
    """A head and a node for each number of CPUs; all end with it."""
    nodes = RayNodes(folder, _own_address())
    try:
        for count in cpus:
            nodes.add(count)
        yield nodes
    finally:
        nodes.stop()


def _own_address() -> str:
    """The address of this machine that Ray would take: that of the way out, if there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        try:
            way_out.connect(("198.51.100.1", 9))  # nothing is sent: a datagram socket
        except OSError:
            return "127.0.0.1"
        address: str = way_out.getsockname()[0]
        return address
