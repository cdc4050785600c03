"""Names of failures, by what Python, torch and Ray really say."""

from __future__ import annotations

import pytest

from cifar_tune.plan.config import SearchConfig
from cifar_tune.record.trials import KINDS, kind_of, may_retry, runs_alone


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("MemoryError", "out of memory"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB", "out of memory"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out of memory"),
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.", "out of memory"),
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", "out of memory"),
        ("cifar_tune.errors.DataError: image 7 is damaged", "data"),
        ("ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.", "lost process"),
        ("ray.exceptions.ActorDiedError: The actor died because its node has died. Node Id: 1f", "lost node"),
        ("ray.exceptions.ActorDiedError: The actor is dead because its owner has died. Owner's node has crashed.", "lost node"),
        ("OSError: [Errno 12] Cannot allocate memory", "out of memory"),
        ("RuntimeError: std::bad_alloc", "out of memory"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "out of memory"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "out of memory"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "out of memory"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", "out of memory"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(handle)`", "code"),
        ("RuntimeError: GET was unable to find an engine to execute this computation", "out of memory"),
        ("Traceback:\n    except MemoryError:\nValueError: x", "code"),
        ("RuntimeError: the third bolt is loose", "code"),
        ("", "code"),
    ],
)  # fmt: skip
def test_an_error_has_a_kind(error: str, kind: str) -> None:
    assert kind_of(error) == kind
    assert kind in KINDS


@pytest.mark.parametrize(
    ("failures", "max_failures", "again"),
    [
        (["code"], 1, True),
        (["code", "code"], 1, False),
        (["code", "lost process"], 1, False),
        (["code", "lost process"], 2, True),
        (["hung"], 1, True),
        (["code"], 0, False),
        (["data"], 5, False),
        (["out of memory"], 0, True),
        (["lost node"], 0, True),
        (["out of memory", "code"], 1, True),
        (["out of memory"], 1, True),
        (["out of memory", "out of memory"], 5, False),
        (["code", "out of memory"], 1, True),
        (["lost node"] * 3, 1, True),
        (["lost node"] * 4, 1, False),
        (["lost node", "lost node", "code"], 1, True),
        (["disk full"], 5, False),
        (["storage", "storage"], 0, True),
        (["storage"] * 3, 5, False),
        (["storage", "code"], 1, True),
    ],
)
def test_each_kind_is_tried_again_as_often_as_makes_sense(
    failures: list[str], max_failures: int, again: bool
) -> None:
    assert may_retry(failures, SearchConfig(max_failures=max_failures)) is again


def test_only_what_ran_out_of_memory_last_runs_alone() -> None:
    assert runs_alone(["code", "out of memory"])
    assert not runs_alone(["out of memory", "code"])
    assert not runs_alone([])
