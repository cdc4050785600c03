"""Whether torch.compile can work here: a compiler, Python's headers, a place that runs its code."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from cifar_tune.errors import PlanError
from cifar_tune.plan.place import nearest_folder

CACHE = "TORCHINDUCTOR_CACHE_DIR"  # torch's; Triton's is TRITON_CACHE_DIR, and else below it


def check_compiler(*, gpu: bool) -> None:
    """A PlanError unless torch.compile finds what it calls, by its own rules."""
    # For a CPU torch calls a compiler for C++; for a GPU Triton compiles, and its launcher is in C.
    variable, names = ("CC", ("gcc", "clang")) if gpu else ("CXX", ("g++",))
    if not gpu and sys.platform == "darwin":
        names = ("clang++",)
    given = os.environ.get(variable)
    names = (given,) if given else names
    if not any(shutil.which(name) for name in names):
        raise PlanError(
            f"train.compile is true, which needs a compiler, and there is no {' or '.join(names)}"
            f" on the path; install one, name another in {variable}, or leave train.compile out"
        )
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if not headers.is_file():
        raise PlanError(
            f"train.compile is true, which needs Python's headers, and {headers} is not there;"
            " install them (python3-dev), or leave train.compile out"
        )
    place = cache_folder()
    if _runs_nothing(place):
        raise PlanError(
            f"train.compile is true, and compiled code would lie in {place}, which is mounted"
            f" noexec; name another folder in {CACHE}, or leave train.compile out"
        )


def cache_folder() -> Path:
    """Where torch keeps what it compiled."""
    given = os.environ.get(CACHE)
    return Path(given or Path(tempfile.gettempdir(), f"torchinductor_{_user()}"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number that no file knows
        return str(os.getuid())


def _runs_nothing(folder: Path) -> bool:
    flag = getattr(os, "ST_NOEXEC", 0)
    return bool(os.statvfs(nearest_folder(folder)).f_flag & flag)
