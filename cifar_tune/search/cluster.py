"""Where trials can run: this machine, or a cluster's nodes, looked at before and during a search.

Ray is imported inside the functions, so that a search on this machine is checked without it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any
from uuid import uuid4

from cifar_tune import __version__
from cifar_tune.errors import ResourceError, ResultsError, counted
from cifar_tune.files import (
    FAULTS,
    LONGEST_NAME,
    check_uri,
    delete_folder,
    inside,
    is_uri,
    read_probe,
    write_probe,
)
from cifar_tune.plan.config import Plan
from cifar_tune.plan.machine import CLUSTER, Machine, read_machine, share_on
from cifar_tune.plan.place import check_depth
from cifar_tune.plan.preflight import check_search
from cifar_tune.plan.task import Say
from cifar_tune.search.ray_head import last_line
from cifar_tune.search.ray_instance import check_place, ray_for

ANSWER_SECONDS = 60.0  # for every node to start a process and answer; it imports no torch
WAIT_SECONDS = 2.0  # between looks at a cluster that has no room yet
KNOCK_SECONDS = 2.0  # for a node to answer at all
SHARED_SECONDS = 5.0  # for a file to be seen on another node


@contextmanager
def nodes_for(
    plan: Plan, machine: Machine, say: Say, *, wait: bool = False
) -> Iterator[Sequence[Machine]]:
    """The machines on which a plan's trials can run; a cluster is joined as long as this lasts.

    With `wait`, it waits until the cluster has a node that can hold a trial.

    Raises:
        PlanError: as `preflight.check_search`.
        ResourceError: the request contradicts itself, the cluster can't be joined, or a node of it
            can't be used.
    """
    if plan.resources.address is None:
        check_place(say)
        yield [machine]
        return
    check_search(plan)  # what no cluster can mend comes first; one may be waited for
    share_on(plan.resources, [unseen(PLENTY)], CLUSTER)
    with ray_for(plan, machine):
        if wait:
            _wait_for_room(plan, say)
        # A head often has no CPUs of its own, so that nothing but the driver runs there.
        nodes = [node for node in live_nodes() if node.cpus]
        if not nodes:
            raise ResourceError("the cluster has no CPUs; start nodes, or --wait-for-resources")
        share_on(plan.resources, [unseen(node) for node in nodes], CLUSTER)  # refused at once
        yield _survey(nodes)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the cluster that is alive: Ray's id of it, and what it offers Ray's users."""

    node_id: str
    name: str
    cpus: int
    gpus: int


PLENTY = Node(node_id="", name="", cpus=10**12, gpus=10**12)


def live_nodes() -> list[Node]:
    """The nodes of the cluster that has been joined."""
    import ray

    return [
        Node(
            node_id=node["NodeID"],
            name=f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})",
            cpus=int(node["Resources"].get("CPU", 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def is_gone(address: str | None) -> bool:
    """Whether a node with this address, which Ray takes to be alive, does not answer any more.

    Args:
        address: of the node that a process ran on; none: not known, and any node may be it.
    """
    import ray

    for node in ray.nodes():
        host, port = node["NodeManagerAddress"], node["NodeManagerPort"]
        if node["Alive"] and address in (None, host):
            try:
                socket.create_connection((host, port), KNOCK_SECONDS).close()
            except OSError:
                return True
    return False


def _wait_for_room(plan: Plan, say: Say) -> None:
    said = ""
    while True:
        nodes = [unseen(node) for node in live_nodes() if node.cpus]
        try:
            if nodes:
                share_on(plan.resources, nodes, CLUSTER)
                return
            lacking = "the cluster has no CPUs yet"
        except ResourceError as error:
            lacking = str(error)
        if lacking != said:
            say(f"waiting for room: {lacking}")
            said = lacking
        time.sleep(WAIT_SECONDS)


def unseen(node: Node) -> Machine:
    """A node as far as Ray knows it: enough to count trials."""
    return Machine(
        cpus=node.cpus, gpus=node.gpus, gpu_name=None, cpu_name="", cpu_bf16=False, gpu_bf16=False
    )


def _survey(nodes: Sequence[Node]) -> list[Machine]:
    """What each node is, by its own look at itself."""
    machines = []
    for node, (machine, version) in zip(nodes, _on_each(nodes, look_around), strict=True):
        if version != __version__:
            raise ResourceError(
                f"{node.name} has cifar_tune {version}, and this machine {__version__}; install the"
                " same on all nodes"
            )
        if machine.gpus < node.gpus:
            raise ResourceError(
                f"{node.name} offers {counted(node.gpus, 'GPU')} to Ray, and torch sees"
                f" {machine.gpus} there; start its Ray where they are seen (driver, container,"
                " CUDA_VISIBLE_DEVICES), or with as many as there are: ray start --num-gpus"
                f" {machine.gpus}"
            )
        machines.append(replace(machine, cpus=node.cpus, gpus=node.gpus))
    return machines


def look_around() -> tuple[Machine, str]:
    """This machine and its version of cifar_tune; runs on a node, in a task without CPUs."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides the GPUs from a task that has none
    return read_machine(), metadata.version("cifar_tune")


def _on_each(nodes: Sequence[Node], function: Callable[..., Any], *arguments: object) -> list[Any]:
    """What a function returns on each node, all at once; busy ones included, since it takes no CPU.

    Raises:
        ResourceError: a node that does not answer, or what a node raises, by its name.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(function)
    answers = [
        task.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        ).remote(*arguments)
        for node in nodes
    ]
    ray.wait(answers, num_returns=len(answers), timeout=ANSWER_SECONDS)
    found = []
    for node, answer in zip(nodes, answers, strict=True):
        try:
            found.append(ray.get(answer, timeout=0))
        except ray.exceptions.GetTimeoutError:
            raise ResourceError(
                f"{node.name} did not answer within {ANSWER_SECONDS:.0f} s; look at that node, or"
                " take it out of the cluster"
            ) from None
        except ray.exceptions.RayError as error:
            # On a node without cifar_tune, the last line says that it can't be imported.
            cause = last_line(str(error)) or type(error).__name__
            raise ResourceError(f"{node.name} can't be used: {cause}") from None
    return found


def check_storage(plan: Plan) -> None:
    """Check that checkpoints can be written and read where the plan puts them, from every node.

    Raises:
        PlanError: `resources.storage_path` is a URI that can't be opened.
        ResultsError: a node or this machine can't write there, or does not see the same files.
    """
    resources = plan.resources
    base = resources.storage_path or plan.out
    if resources.storage_path is None and resources.address is None:
        return  # the check of the results folder has tried it
    if is_uri(base):
        check_uri(base, "--storage-path")
    else:
        check_depth(inside(base, "n" * LONGEST_NAME), "--storage-path")
    folder, content = inside(base, f".probe-{uuid4().hex}"), uuid4().hex.encode()
    try:
        _probe(folder, content, joined=resources.address is not None)
    except FAULTS as error:
        raise ResultsError(
            f"{base} can't be written: {error}; give a path or URI that can, with --storage-path"
        ) from None
    finally:
        delete_folder(folder)


def _probe(folder: str, content: bytes, *, joined: bool) -> None:
    write_probe(inside(folder, "driver"), content)
    if not joined:
        read_probe(inside(folder, "driver"))
        return
    nodes = [node for node in live_nodes() if node.cpus]
    try:
        _on_each(nodes, leave_probe, folder, content)
    except ResourceError as error:
        raise ResultsError(
            f"{error}; checkpoints need a path that all nodes share, or a URI: give it with"
            " --storage-path"
        ) from None
    for node in nodes:
        read_probe(inside(folder, node.node_id))


def leave_probe(folder: str, content: bytes) -> None:
    """Find the driver's file and write one beside it; runs on a node.

    Raises:
        OSError: the file is not there, or nothing can be written.
    """
    import ray

    until = time.monotonic() + SHARED_SECONDS
    while True:
        try:
            if read_probe(inside(folder, "driver")) == content:
                break
        except OSError:
            pass
        if time.monotonic() > until:
            raise OSError(f"{folder}, which the driver wrote, is not there")
        time.sleep(0.2)
    write_probe(inside(folder, ray.get_runtime_context().get_node_id()), content)
