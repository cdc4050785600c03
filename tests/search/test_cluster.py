"""A real cluster of a head and two nodes: what is refused, and a search that runs on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from command_line import command
from ray_nodes import RayNodes, ray_nodes

from cifar_tune.errors import CifarTuneError, ResourceError
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results
from cifar_tune.search import ray_head
from cifar_tune.search.cluster import nodes_for
from cifar_tune.search.ray_instance import ray_for


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """One CPU on each of two nodes."""
    with ray_nodes(tmp_path_factory.mktemp("n") / "c", 1, 1) as nodes:
        yield nodes


def run(
    nodes: RayNodes, *words: str, address: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--address", address or nodes.address, *words),
        env={**os.environ, **nodes.environment, **more},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, small_plan: list[str]) -> list[str]:
    sets = [word for value in small_plan for word in ("--set", value)]
    return ["--out", str(tmp_path / "out"), "--name", "one", *sets]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cpus-per-trial", "2"], "--cpus-per-trial is 2, and the cluster has 1 CPU"),
        (["--gpus-per-trial", "1"], "--gpus-per-trial is 1, and the cluster has 0 GPUs"),
        (["--storage-path", "/proc/nowhere"], "/proc/nowhere can't be written"),
    ],
)
def test_what_the_cluster_can_not_do_is_refused(
    cluster: RayNodes, place: list[str], words: list[str], message: str
) -> None:
    done = run(cluster, *place, *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_forecast_counts_the_trials_of_all_nodes_and_finds_the_cluster_by_ray_address(
    cluster: RayNodes, place: list[str], tmp_path: Path
) -> None:
    words = ("--set", "resources.max_concurrent=auto", "--dry-run")
    done = run(cluster, *place, *words, address="auto", RAY_ADDRESS=cluster.address)
    assert done.returncode == 0, done.stderr
    assert "at once     2 trials, each 1 CPU" in done.stdout
    assert not list((tmp_path / "out").iterdir()), "the probe of the storage is gone"


@pytest.mark.faults
def test_a_stale_ray_address_does_not_matter_without_address_and_is_named_with_it(
    place: list[str], tmp_path: Path
) -> None:
    stale = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    words = [*place, "--num-samples", "1", "--max-epochs", "1"]
    done = subprocess.run(command(*words), env=stale, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = command("--address", "auto", *place)
    done = subprocess.run(words, env=stale, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no Ray cluster answers at" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("search.grace_period=10", "grace_period is 10, above"),
        ("resources.gpus_per_trial=1.5", "give a share below 1"),
        ("resources.workers_per_trial=2", None),
    ],
)
def test_what_no_cluster_can_mend_is_refused_before_one_is_asked(
    given: str, message: str | None
) -> None:
    plan = load_plan(None, ["resources.address=127.0.0.1:1", given])
    with (
        pytest.raises(CifarTuneError, match=message or "no Ray cluster answers"),
        nodes_for(plan, read_machine(), print, wait=True),
    ):
        pass


def _greet_as_grpc_does(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # an empty frame of settings
        connection.recv(100)


def test_another_address_than_that_of_this_processs_ray_is_refused(ray_session: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_greet_as_grpc_does, args=(other,), daemon=True).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        plan = load_plan(None, [f"resources.address={address}"])
        refusal = f"--address is {address}, and this process has a Ray at"
        with pytest.raises(ResourceError, match=refusal), ray_for(plan, read_machine()):
            pass


@pytest.mark.faults
def test_without_the_token_the_cluster_can_not_be_joined(
    cluster: RayNodes, place: list[str]
) -> None:
    done = run(cluster, *place, RAY_AUTH_TOKEN="0" * 32)
    assert done.returncode == 2
    assert "with its token" in done.stderr


@pytest.mark.faults
def test_a_search_on_two_nodes_keeps_its_checkpoints_at_a_uri(
    cluster: RayNodes, place: list[str], tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    words = [
        *place, "--storage-path", f"fsspec+local://{storage}", "--num-samples", "4",
        "--set", "search.scheduler=pbt", "--max-epochs", "4", "--final-seeds", "2",
        "--set", "resources.max_concurrent=auto",
    ]  # fmt: skip
    done = run(cluster, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "out" / "one"
    records = read_journal(folder)
    assert records.of("exchanged"), "clones got their checkpoints from there"
    (start,) = Results.read(folder).starts
    assert start.slots == 2
    assert start.storage.startswith(f"fsspec+local://{storage}/one-")
    kept = [path for path in storage.rglob("*") if path.is_file()]
    assert {path.name for path in kept} == {"model.ckpt"}, "what nobody needs is deleted"
    assert not list((folder / "ray").rglob("*")), "none lies in the results folder"
    assert (folder / "best" / "model.ckpt").is_file()
    assert Results.read(folder).test_scored


@pytest.mark.faults
def test_it_waits_for_room_if_it_is_told_to(
    cluster: RayNodes, place: list[str], tmp_path: Path
) -> None:
    words = [*place, "--dry-run", "--cpus-per-trial", "3", "--wait-for-resources"]
    process = subprocess.Popen(
        command("--address", cluster.address, *words),
        env={**os.environ, **cluster.environment}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stdout is not None
    with process.stdout as lines:
        assert "waiting for room: --cpus-per-trial is 3" in lines.readline()
        number = cluster.add(3)
        assert "at once     1 trial, each 3 CPUs" in lines.read()
    watchdog.cancel()
    assert process.wait() == 0
    cluster.kill(number)


@pytest.mark.faults
def test_sigterm_ends_the_waiting(cluster: RayNodes, place: list[str]) -> None:
    words = [*place, "--cpus-per-trial", "5", "--wait-for-resources"]  # no node ever had as many
    process = subprocess.Popen(
        command("--address", cluster.address, *words),
        env={**os.environ, **cluster.environment}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    # Ray may have a line of its own first, of a node that an earlier test has killed.
    assert any("waiting for room" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in errors


@pytest.mark.parametrize("kind", ["silent", "http"])
def test_a_server_that_is_no_ray_is_told_from_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_head, "KNOCK_SECONDS", 0.5)
    message = r"answers at .* timed out" if kind == "silent" else "is no Ray head; give the port"
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # listens at once
    if kind == "http":
        threading.Thread(target=server.handle_request, daemon=True).start()
    with server, pytest.raises(ResourceError, match=message):
        ray_head.knock(f"127.0.0.1:{server.server_port}")


@pytest.mark.faults
def test_a_node_without_the_shared_path_is_named(
    place: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The node has a mount namespace of its own, in which another folder hides the shared one."""
    if os.geteuid():
        pytest.skip("mount namespaces need root")
    folder = tmp_path_factory.mktemp("n")
    shared = folder / "shared"
    shared.mkdir()
    hide = f'mount -t tmpfs tmpfs {shared} && exec "$@"'
    with ray_nodes(folder / "c", 1) as nodes:
        nodes.add(1, prefix=["unshare", "--mount", "sh", "-c", hide, "node"])
        done = run(nodes, *place, "--out", str(shared))
        assert done.returncode == 2
        assert "which the driver wrote, is not there" in done.stderr
        assert "give it with --storage-path" in done.stderr
        assert not list(shared.iterdir())


def test_a_node_that_offers_gpus_which_torch_does_not_see_is_named(
    tmp_path: Path, place: list[str]
) -> None:
    with ray_nodes(tmp_path / "c", 1) as nodes:
        nodes.add(1, gpus=1)
        done = run(nodes, *place)
    assert done.returncode == 2
    assert "offers 1 GPU to Ray, and torch sees 0 there; start its Ray where" in done.stderr
