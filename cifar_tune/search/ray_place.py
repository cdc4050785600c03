"""Where a Ray of this machine keeps sockets and shared data, looked at before the start."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from cifar_tune.errors import ResourceError
from cifar_tune.plan.task import Say

SOCKET = "/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store"
SOCKET_BYTES = 107 if sys.platform != "darwin" else 103  # the longest path of a Unix socket
SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 512_000_000  # CIFAR-10 takes 154 MB


def check_place(say: Say) -> None:
    """Check Ray's temporary folder, and say so if shared memory is low.

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
