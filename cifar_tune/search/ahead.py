"""Gets ready for what comes next: processes for its trials, imports for its models."""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from contextlib import closing

from cifar_tune.plan.forecast import compares
from cifar_tune.plan.objectives import LATENCY
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import Event
from cifar_tune.record.recorder import PicklesAsNothing
from cifar_tune.record.results import Results
from cifar_tune.search.ray_instance import PRELOADED

WAITING_SECONDS = 24 * 60 * 60  # a process started ahead waits so long for its trial
ANSWER_SECONDS = 10.0
LOOKS = 0.02  # seconds between them, while processes register

log = logging.getLogger(__name__)


def get_ready(processes: int, *, first: bool = False) -> None:
    """Start so many processes, with their imports, ahead of the trials that will take them.

    In a Ray that is not ours trials begin as they would without. The `first` ones are waited for
    until Ray knows them, 0.8 s, while their imports go on for seconds: for a trial that comes
    sooner Ray would start another process.
    """
    if not os.environ.get(PRELOADED):
        return
    import grpc
    import ray
    from ray._private import state
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import node_manager_pb2, node_manager_pb2_grpc

    (node,) = ray.nodes()
    place = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    request = node_manager_pb2.PrestartWorkersRequest(
        job_id=bytes.fromhex(ray.get_runtime_context().get_job_id()),
        num_workers=processes,
        keep_alive_duration_secs=WAITING_SECONDS,
    )
    with closing(init_grpc_channel(place)) as channel:
        raylet = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
        try:
            raylet.PrestartWorkers(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            log.warning("Ray starts no processes ahead, so trials begin later: %s", error)
            return
    until = time.monotonic() + (ANSWER_SECONDS if first else 0)
    while len(state.workers()) < processes and time.monotonic() < until:
        time.sleep(LOOKS)


class Ahead(PicklesAsNothing):
    """Gets ready for what comes after a search once a slot stays idle for want of trials."""

    def __init__(self, slots: int) -> None:
        """`slots` trials run at once."""
        self._slots = slots
        self._begun = False

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        finals, created = results.plan.finals, len(results.trials)
        ended = event["event"] == "trial_ended" and event["status"] != "interrupted"
        if self._begun or not ended or created < results.plan.search.num_samples:
            return
        if any(goal.metric == LATENCY for goal in results.plan.search.goals):
            return  # it is measured next, on a machine that does nothing else
        self._begun = True
        for name in task_of(results.plan).modules:  # of the models that are written and scored
            target = importlib.import_module
            threading.Thread(target=target, args=(name,), daemon=True).start()
        trainings = finals.seeds * (finals.compared if compares(results.plan) else 1)
        if trainings:
            get_ready(min(self._slots, trainings))
