"""Reads the pickles of the official CIFAR-10 distribution without running anything else."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from cifar_tune.errors import DataError

# All that a pickled dict of arrays and lists needs; the official files were written by Python 2
# and an old numpy. None of these names does anything but build a value.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that resolves the names in ALLOWED and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if name == "_reconstruct":
            # The public door to the same function: where it lies changes with numpy's version.
            return np.zeros(0).__reduce__()[0]
        return super().find_class(module, name)


def load_arrays(content: bytes, name: str) -> dict[bytes, Any]:
    """Unpickles a dict of arrays, lists and strings from bytes that are already in memory.

    `name` is what the error calls the file. Raises DataError where the pickle is damaged, is no
    dict, or names anything but numpy's array constructors; nothing of it has run then.
    """
    try:
        value = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a hostile pickle may raise whatever it likes; all mean "refused"
        raise DataError(f"{name} is no pickle of plain arrays ({error}); it is refused.") from error
    if not isinstance(value, dict):
        raise DataError(f"{name} holds a {type(value).__name__}; CIFAR-10's batches are dicts.")
    return value
