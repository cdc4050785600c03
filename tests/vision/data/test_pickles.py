"""Tests of the restricted unpickler: numpy arrays come through, nothing else ever runs."""

from __future__ import annotations

import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cifar_tune.errors import DataError
from cifar_tune.vision.data.pickles import load_arrays

# The array [1, 2] of uint8 in a dict as Python 2 with numpy 1.6 pickled it, like the real files
OLD_PICKLE = (
    b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
    b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x02tbs."
)


@pytest.mark.parametrize("protocol", range(2, 5))
def test_dicts_of_arrays_come_through(protocol: int) -> None:
    data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    loaded = load_arrays(pickle.dumps({b"data": data, b"labels": [1, 2]}, protocol), "file")
    assert np.array_equal(loaded[b"data"], data)
    assert loaded[b"labels"] == [1, 2]


def test_a_pickle_of_python_2_comes_through() -> None:
    assert load_arrays(OLD_PICKLE, "file")[b"data"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "function",
    [os.system, subprocess.Popen, eval, exec, getattr, open, __import__, np.load, np.frombuffer],
)
def test_anything_that_calls_a_function_is_refused(function: object, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (function, (f"touch {canary}",))

    content = pickle.dumps({b"data": Hostile()}, 2)
    with pytest.raises(DataError, match=r"batch is no pickle of plain arrays \(it asks for"):
        load_arrays(content, "batch")
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["numpy.core.multiarray scalar", "numpy ndarray.__reduce__", "builtins getattr"]
)
def test_names_near_the_allowed_ones_are_refused(name: str) -> None:
    module, attribute = name.split()
    content = b"\x80\x04" + b"\x8c" + bytes([len(module)]) + module.encode()
    content += b"\x8c" + bytes([len(attribute)]) + attribute.encode() + b"\x93."
    with pytest.raises(DataError, match="it asks for"):
        load_arrays(content, "batch")


@pytest.mark.parametrize("content", [b"", b"hello", OLD_PICKLE[:-20], b"\x80\x04N."])
def test_what_is_no_dict_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"no pickle of plain arrays|holds a NoneType"):
        load_arrays(content, "batch")
