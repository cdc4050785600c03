"""Seeds, threads and a GPU's arithmetic of one training, which leaves the caller's as they were."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def numerics(run: Any, gpu: bool) -> Iterator[None]:
    """Random state, threads and a GPU's arithmetic as the run says, and afterwards as they were."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    threads, exact = torch.get_num_threads(), run.train.deterministic is True
    only_exact = torch.are_deterministic_algorithms_enabled()
    devices = [torch.cuda.current_device()] if gpu else []
    try:
        with torch.random.fork_rng(devices), gpu_arithmetic(exact=exact, tf32=run.train.tf32):
            if gpu and exact:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # NVIDIA's condition
                torch.use_deterministic_algorithms(True)
            torch.set_num_threads(int(run.train.threads))
            seed_all(run.seed)
            yield
    finally:
        torch.use_deterministic_algorithms(only_exact)
        torch.set_num_threads(threads)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def gpu_arithmetic(*, exact: bool, tf32: bool) -> Iterator[None]:
    """How a GPU convolves and multiplies meanwhile: the same way each time, or the fastest."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=not exact, deterministic=exact, allow_tf32=tf32
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def seed_all(seed: int) -> None:
    """Seed torch's, numpy's and Python's global state; not the environment, as Lightning's does."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Seed of the global random state in an epoch (from 0): unlike that of any other triple."""
    return random.Random(f"{seed}:{epoch}" + f":{rank}" * (rank > 0)).getrandbits(63)
