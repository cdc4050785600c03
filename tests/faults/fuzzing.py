"""Fuzzing in one place: how many cases a property is tried on, how long and how large one may get."""

from __future__ import annotations

import json
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cifar_tune.errors import CifarTuneError

QUICK, LONG = 200, 10_000
SECONDS = 5  # of the processor, for one case; most take some milliseconds
WAITING_SECONDS = 60  # by the clock, on a busy machine
GROWTH_BYTES = 1 << 30  # of address space, above what a test began with

# The same cases in each `make test`; new ones in each `make faults`.
settings.register_profile(
    "quick", max_examples=QUICK, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
settings.register_profile(
    "long", settings.get_profile("quick"), max_examples=LONG, derandomize=False, print_blob=True
)

on_cases = pytest.mark.parametrize(
    "cases", ["quick", pytest.param("long", marks=pytest.mark.faults)]
)


class TooSlowError(BaseException):
    """A case took too long; no `except Exception` of the program takes it."""


def fuzz(
    cases: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], *known: Any
) -> None:
    """Try `check` on so many cases, and before them on those that once failed.

    A case may end well or in a `CifarTuneError`, within its seconds and bytes, and in nothing else.
    """

    def one(case: Any) -> None:
        with limited():
            try:
                check(case)
            except CifarTuneError as error:
                assert str(error).strip()

    test = given(case=strategy)(one)
    for case in known:
        test = example(case=case)(test)
    with warnings.catch_warnings():  # of hypothesis, about a case that is long to print
        warnings.filterwarnings("ignore", message="Generating overly large repr")
        settings(settings.get_profile(cases))(test)()


@contextmanager
def limited() -> Iterator[None]:
    """An alarm after `SECONDS` of work or `WAITING_SECONDS`, a MemoryError beyond `GROWTH_BYTES`."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"{signal.Signals(number).name}: {SECONDS} s of work, or a wait")

    before = {number: signal.signal(number, ring) for number in (signal.SIGPROF, signal.SIGALRM)}
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + GROWTH_BYTES
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        for number, handler in before.items():
            signal.signal(number, handler)


# What programs trip over: ends of ranges, words for numbers, what is almost something else.
NASTY: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            None, True, False, 0, 1, -1, 2, 31, 32, 2**31, 2**32, 2**63, 10**18, 10**400, -(10**400),
            0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, float("inf"), float("nan"), -float("inf"), "", " ",
            "auto", "none", "no", "1", "1e-3", "../..", "/", "/dev/zero", "a:b", "os:system", "~", "\0",
            "\ud800", "é" * 300, "x" * 70_000, "%s{}$HOME", "\x1b[31m", "s3://x", [], {}, [[]],
            [0, 1], [1, 0], [None], {"": 0}, {"choice": []}, {"grid": [1]}, {"int": [1, 10**14]},
            {"uniform": [0, 1], "when": {"": 1}},
        ]
    ),
    st.integers(-3, 40), st.floats(), st.text(max_size=6),
)  # fmt: skip
TREES = st.recursive(
    NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in nested dicts and lists but the whole."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*path, key))
    return found


@st.composite
def damaged_trees(draw: st.DrawFn, whole: Any) -> Any:
    """A valid tree with one to three values replaced, taken out, or put under another name."""
    tree = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        if not (found := places(tree)):
            break
        *path, last = draw(st.sampled_from(found))
        parent = tree
        for key in path:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename"]))
        if kind == "replace":
            parent[last] = deepcopy(draw(TREES))  # one `[]` may be drawn twice
        else:
            value = parent.pop(last)
            if kind == "rename" and isinstance(parent, dict):
                parent[draw(st.text(max_size=4))] = value
    return tree


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes, most: int = 4) -> bytes:
    """Valid bytes after one to `most` of: a bit flipped, bytes put in, taken out, repeated, cut."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["flip", "flip", "set", "insert", "delete", "repeat", "cut"]))
        if kind == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            content[place : place + length] = draw(
                st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"])
            ) * min(length, 8)
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "delete":
            del content[place : place + length]
        elif kind == "repeat":
            content[place:place] = content[place : place + length]
        else:
            del content[place:]
    return bytes(content)


@st.composite
def damaged_text(draw: st.DrawFn, whole: str, words: list[str]) -> str:
    """Valid text after one to four of: a line dropped, doubled, moved; a word replaced, put in."""
    lines = whole.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(lines) - 1)))
        kind = draw(st.sampled_from(["drop", "double", "indent", "replace", "replace", "insert"]))
        if not lines:
            break
        if kind == "drop":
            del lines[place]
        elif kind == "double":
            lines.insert(place, lines[place])
        elif kind == "indent":
            lines[place] = draw(st.sampled_from([" ", "  ", "- ", "\t"])) + lines[place]
        elif kind == "replace" and ":" in lines[place]:
            lines[place] = lines[place].split(":")[0] + ": " + draw(st.sampled_from(words))
        else:
            column = draw(st.integers(0, len(lines[place])))
            word = draw(st.sampled_from(words))
            lines[place] = lines[place][:column] + word + lines[place][column:]
    return "\n".join(lines) + "\n"
