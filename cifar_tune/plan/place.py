"""Whether a results folder can lie at a path."""

from __future__ import annotations

import os
from pathlib import Path

from cifar_tune.errors import ResultsError

ROOM_BELOW = 256  # bytes of the longest path below a results folder, and some to spare


def check_depth(folder: str, setting: str) -> None:
    """A ResultsError if the paths of all that a search makes below a folder are too long."""
    most = os.pathconf(os.path.sep, "PC_PATH_MAX") - ROOM_BELOW
    size = len(os.fsencode(folder))
    if size > most:
        raise ResultsError(
            f"{folder[:100]}... lies too deep: its path has {size} bytes, and at most {most} leave"
            f" room for what a search makes below it; choose another {setting}"
        )


def nearest_folder(path: Path) -> Path:
    """The path itself or its nearest parent that exists and is a folder."""
    try:
        for candidate in (path, *path.parents):
            if candidate.is_dir():
                return candidate
            if candidate.exists():
                raise ResultsError(f"{candidate} is a file, not a folder; choose another --out")
    except OSError as error:  # a name that is too long
        raise ResultsError(
            f"{path} can't be a folder: {error.strerror}; choose another --out"
        ) from None
    return Path("/")
