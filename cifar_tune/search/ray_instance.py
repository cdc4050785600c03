"""The Ray that a search runs in: one of its own on this machine, or a cluster that it joins.

Ray is imported inside the functions, so that a search on this machine is checked without it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from cifar_tune.errors import DataError, ResourceError
from cifar_tune.files import as_path
from cifar_tune.plan.config import Plan
from cifar_tune.plan.machine import Machine
from cifar_tune.plan.preflight import has_own_code
from cifar_tune.plan.task import Say
from cifar_tune.process import STOPPING, current_directory
from cifar_tune.search.ray_head import first_line, head_of, knock

WORKER_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # trials run where the command was given
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",  # an online tracker may take long to finish
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial of 0 GPUs sees none
}
DRIVER_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output can't be silenced
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # 2 ms a report, and five files a trial
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # or a trial without a report ends the search
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours saves and names the command to go on
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Ray's snapshots are never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the journal and our own line have the reason
    "TUNE_WARN_THRESHOLD_S": "10",
    **WORKER_SETTINGS,
}
LOCAL_SETTINGS = {
    # One process for each CPU; ours are as many as run trials, at the time when they are wanted.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}
PRELOADED = "RAY_preload_python_modules"  # what each process imports before it gets its trial
SOCKET = "/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store"
SOCKET_BYTES = 107 if sys.platform != "darwin" else 103  # the longest path of a Unix socket
SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 512_000_000  # three times what the first task's own data take


def check_place(say: Say) -> None:
    """Check where Ray keeps its sockets and shared data, and say so if shared memory is low.

    Raises:
        ResourceError: sockets can't be made there; Ray itself would say so in a traceback.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    place = os.environ.get(name) or "/tmp"
    longest = SOCKET_BYTES - len(SOCKET)
    if len(os.fsencode(place)) > longest or not place.isascii():
        raise ResourceError(
            f"{name} is {place}; Ray's sockets lie below it, so it may have {longest} bytes at"
            " most, all of them ASCII; set RAY_TMPDIR to a short path, such as /tmp"
        )
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < SHARED_BYTES:
        say(
            f"{SHARED_MEMORY} has {free / 1e6:.0f} MB free; below {SHARED_BYTES / 1e6:.0f} MB"
            f" trials may share their data in {place} instead, which is slower; with Docker, give"
            " --shm-size 2g"
        )


@contextmanager
def ray_for(plan: Plan, machine: Machine, *, imports: Sequence[str] = ()) -> Iterator[None]:
    """The Ray that a plan asks for; one that this process has already is used, and goes on.

    Each process of a Ray of our own imports the modules `imports` before it has a trial.

    Raises:
        ResourceError: there is no such cluster, it can't be joined, or this process is in another.
    """
    import ray

    _set(DRIVER_SETTINGS)
    if ray.is_initialized():
        _check_joined(plan.resources.address)
        yield
        return
    address = plan.resources.address
    with _own_ray(machine, plan, imports) if address is None else _joined(address, plan):
        yield


def _check_joined(address: str | None) -> None:
    if address in (None, "auto"):
        return
    import ray

    head, joined = head_of(address), ray.get_runtime_context().gcs_address
    knock(head)
    if head != joined:
        raise ResourceError(
            f"--address is {address}, and this process has a Ray at {joined} already; end that"
            " (ray.shutdown()), or leave --address out to search on it"
        )


@contextmanager
def _own_ray(machine: Machine, plan: Plan, imports: Sequence[str]) -> Iterator[None]:
    """One of this process alone; its logs go with it, unless an error makes them worth reading."""
    import ray

    with _place_for_token(), _environment_as_it_is():
        os.environ[PRELOADED], kept = ",".join(imports), True
        try:
            _start(machine, plan)
            session = ray._private.worker._global_node.get_session_dir_path()
            yield
            kept = False
        except DataError:  # in which Ray has no part
            kept = False
            raise
        finally:
            ray.shutdown()
            os.environ.pop(PRELOADED, None)
            if not kept:
                shutil.rmtree(session, ignore_errors=True)


def _environment_as_it_is() -> AbstractContextManager[None]:
    """Trials inherit it: Tune hands variables on once more, keys among them, into Ray's logs; and
    a process that was started ahead does not fit a trial that comes with variables of its own."""
    from ray.tune.execution import class_cache

    _set(class_cache.DEFAULT_ENV_VARS)
    return _with(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=set())


@contextmanager
def _with(module: Any, **values: Any) -> Iterator[None]:
    """A module of Ray's has these values meanwhile."""
    before = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(before)


@contextmanager
def _place_for_token() -> Iterator[None]:
    """Ray writes its token below the user's home; where there is none, into a folder of its own."""
    home = as_path("~")  # a user without a name has none
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    known = (home / ".ray" / "auth_token").is_file()
    if given or known or os.access(home, os.W_OK) or os.access(home / ".ray", os.W_OK):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cifar_tune_") as folder:
        path = Path(folder, "auth_token")
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
        try:
            yield
        finally:
            del os.environ["RAY_AUTH_TOKEN_PATH"]


def _start(machine: Machine, plan: Plan) -> None:
    """Start it; it joins no other."""
    import ray

    _set(LOCAL_SETTINGS)
    if has_own_code(plan):
        os.environ["PYTHONPATH"] = _own_path()
    umask = os.umask(0o077)  # Ray writes its token with the umask's permissions
    try:
        with _on_loopback(), _signals_for_us_alone(), _groups_of_their_own(), _sigterm_as_before():
            ray.init(
                address="local",
                num_cpus=machine.cpus,
                num_gpus=machine.gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    finally:
        os.umask(umask)


def _set(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _own_path() -> str:
    """A module of the user's own lies where the command was given."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([current_directory() or "", *([given] if given else [])])


@contextmanager
def _signals_for_us_alone() -> Iterator[None]:
    """Processes that begin meanwhile never see what a terminal or a batch system sends to all.

    Ray does so for SIGINT; of the others its processes would die before the search has ended.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(STOPPING) - {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _groups_of_their_own() -> AbstractContextManager[None]:
    """Each of Ray's processes that begins meanwhile is a process group.

    Else they would end at once at a SIGTERM for the whole job, as `kill %1` and `timeout` send it,
    and take this process with them before it has saved and said how to go on. Where the system
    does not end them with this process, Ray has a process for that, which goes by the group.
    """
    from ray._private import services
    from ray._private.utils import detect_fate_sharing_support

    if not detect_fate_sharing_support():
        return nullcontext()
    return _with(services, ConsolePopen=partial(services.ConsolePopen, process_group=0))


@contextmanager
def _sigterm_as_before() -> Iterator[None]:
    """Ray takes SIGTERM for itself, to print its stack."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)


def _on_loopback() -> AbstractContextManager[None]:
    """A Ray that starts meanwhile takes 127.0.0.1 for this machine's address, and listens there.

    Ray does so by itself on macOS and Windows, by this constant; elsewhere its processes listen on
    all interfaces. `_node_ip_address="127.0.0.1"` won't do: `ray.init` puts the machine's outer
    address in its place.
    """
    from ray._private import ray_constants

    return _with(ray_constants, ENABLE_RAY_CLUSTER=False)


@contextmanager
def _joined(address: str, plan: Plan) -> Iterator[None]:
    import ray

    head = head_of(address)
    knock(head)
    settings = dict(WORKER_SETTINGS)
    if has_own_code(plan):
        settings["PYTHONPATH"] = _own_path()
    try:
        with _sigterm_as_before():
            ray.init(
                address=head,
                runtime_env={"env_vars": settings},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        ray.shutdown()
        raise ResourceError(
            f"the Ray cluster at {head} can't be joined: {first_line(error)}; give the command on"
            " a machine of the cluster, with the same versions of Python and Ray, and with its"
            " token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
