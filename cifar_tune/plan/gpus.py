"""What this machine has of GPUs, as torch sees them, and what a process takes of one for itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from cifar_tune.errors import ResourceError, counted, one_line

CUDA_BYTES = 500_000_000
"""What a process has of a GPU before it trains: CUDA's context, cuDNN and cuBLAS. About; torch's
limit on a process's memory does not count it."""


def gpus_here() -> dict[str, Any]:
    """What a `Machine` has of GPUs; nothing where there is none. Torch is imported if there is one.

    Raises:
        ResourceError: there are some, and CUDA can't start.
    """
    return _gpus() if _has_gpu_files() else {}


def gpus_apart() -> dict[str, Any]:
    """The same, looked at by a child: CUDA keeps half a gigabyte of a GPU in who asked it."""
    if not _has_gpu_files():
        return {}
    words = [sys.executable, "-m", "cifar_tune.plan.gpus"]
    child = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        raise ResourceError(
            f"a process that looked at the GPUs ended with {child.returncode}; see above, and"
            " hide the GPUs with CUDA_VISIBLE_DEVICES= to go on without"
        )
    found: dict[str, Any] = json.loads(child.stdout)
    if "error" in found:
        raise ResourceError(found["error"])
    return found


def allocator_share(gpus: float, gpu_bytes: int) -> float:
    """The part of a GPU's memory that torch may give out in a process with a share of the GPU."""
    if gpus >= 1 or not gpu_bytes:
        return min(1.0, gpus)
    return max(0.0, gpus - CUDA_BYTES / gpu_bytes)


def _gpus() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count()
    if not count:
        return {}
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ResourceError(
            f"this machine has {counted(count, 'GPU')}, and CUDA can't start: {one_line(error)};"
            f" torch {torch.__version__} is built for CUDA {torch.version.cuda}, and the driver is"
            f" {_driver()}: update the driver, install a torch for an older CUDA, or hide the GPUs"
            " with CUDA_VISIBLE_DEVICES="
        ) from None
    capability = torch.cuda.get_device_capability(0)
    return {
        "gpus": count,
        "gpu_name": torch.cuda.get_device_name(0),
        # Tensor cores compute float16 from 7.0 (V100) on, and bfloat16 from 8.0 (A100) on: before
        # that torch emulates it.
        "gpu_bf16": capability >= (8, 0),
        "gpu_fp16": capability >= (7, 0),
        "gpu_bytes": torch.cuda.get_device_properties(0).total_memory,
    }


def _has_gpu_files() -> bool:
    return any([*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")])


def _driver(told: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The NVIDIA driver's version."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", told.read_text())
    except OSError:
        found = None
    return "of an unknown version" if found is None else found[0]


def _main() -> None:
    try:
        found = _gpus()
    except ResourceError as error:
        found = {"error": str(error)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    _main()
