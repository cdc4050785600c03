"""Runs a function in a process of its own: what it takes of a GPU is free when it returns."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cifar_tune.errors import CifarTuneError

CHILD = "import sys; from cifar_tune.train.apart import answer; answer(sys.argv[1])"


class ApartError(CifarTuneError):
    """The process ended without an answer."""

    exit_code = 1


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """What a module's function returns; its errors are raised here.

    Not by multiprocessing, which would run the user's own script anew in the child.
    """
    with tempfile.TemporaryDirectory(prefix="cifar_tune_") as place:
        asked = Path(place, "call")
        asked.write_bytes(pickle.dumps((sys.path, pickle.dumps((function, given)))))
        # A group of its own: what a terminal sends to all is for the caller, who heeds it after.
        words = [sys.executable, "-c", CHILD, place]
        code = subprocess.run(words, check=False, process_group=0).returncode
        answered = Path(place, "answer")
        if not answered.is_file():
            raise ApartError(f"the process that ran {function.__name__} died with exit code {code}")
        came, value = pickle.loads(answered.read_bytes())
    if not came:
        raise value
    return value


def answer(place: str) -> None:
    """Do what was asked in a folder, and leave the answer there; runs in the child."""
    sys.path, call = pickle.loads(Path(place, "call").read_bytes())
    function, given = pickle.loads(call)
    try:
        told = pickle.dumps((True, function(*given)))
    except Exception as error:  # the caller's to judge
        told = pickle.dumps((False, error))
    Path(place, "answer").write_bytes(told)
