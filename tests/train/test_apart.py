"""What runs in a process of its own comes back as if it had run here."""

from __future__ import annotations

import os

import pytest

from cifar_tune.train.apart import ApartError, apart


def test_a_function_runs_in_another_process_and_its_error_is_raised_here() -> None:
    assert apart(os.getppid) == os.getpid()
    with pytest.raises(ValueError, match="invalid literal for int"):
        apart(int, "x")


def test_the_death_of_the_process_is_told() -> None:
    with pytest.raises(ApartError, match=r"the process that ran _exit died with exit code 3"):
        apart(os._exit, 3)
