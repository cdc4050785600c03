"""The time of day, as one process sees it: it never goes back, whatever is done to the clock."""

from __future__ import annotations

import time

_BEGAN = time.time() - time.monotonic()


def now() -> float:
    """Unix seconds: the clock at this process's start, and what has passed since."""
    return _BEGAN + time.monotonic()
