"""Code of the user's own: found from the current directory, and every fault of it told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.own_code import OwnCode

MODULE = """
class Spiral:
    def __init__(self, plan): self.plan = plan

def factory(plan): return Spiral(plan)
def wants_more(plan, more): ...
number = 3
"""


def own(name: str) -> OwnCode:
    field, parameters = "search.searcher", ("plan",)
    return OwnCode(
        kind="searcher", field=field, name=name, function="factory", parameters=parameters
    )


@pytest.fixture
def module(own_code: Callable[[str], str]) -> str:
    """The name of a module in the current directory, which is not on the path."""
    return own_code(MODULE)


def test_a_function_or_class_in_the_current_directory_is_loaded(module: str) -> None:
    path = list(sys.path)
    own(f"{module}:factory").check_module()
    assert own(f"{module}:factory").load()("the plan").plan == "the plan"
    assert own(f"{module}:Spiral").load()("the plan").plan == "the plan"
    assert sys.path == path, "the path is as before"


def test_a_builtin_without_a_signature_is_let_through() -> None:
    assert own("builtins:dict").load() is dict


def test_the_module_is_found_without_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_trap.py").write_text("raise SystemExit('was run')\n")
    monkeypatch.chdir(tmp_path)
    own("own_trap:factory").check_module()
    assert "own_trap" not in sys.modules


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("factry", r"has no factry; did you mean factory\?$"),
        (
            "number",
            r"which is int; it must be a function or a class that is called as factory\(plan\)",
        ),
        ("wants_more", r"can't be called as factory\(plan\): missing a required argument: 'more'"),
    ],
)
def test_what_can_not_be_called_is_refused(module: str, attribute: str, message: str) -> None:
    with pytest.raises(PlanError, match=rf"search\.searcher is '{module}:{attribute}'.*" + message):
        own(f"{module}:{attribute}").load()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_module:factory",
            r"no module no_such_module that can be imported.*start the command",
        ),
        (
            "a..b:factory",
            r"your own searcher is named package\.module:factory, as in my_searchers\.small",
        ),
        ("module:", r"your own searcher is named package\.module:factory"),
        ("../escape:factory", r"your own searcher is named package\.module:factory"),
    ],
)
def test_a_name_that_names_nothing_is_refused(name: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        own(name).check_module()
    with pytest.raises(PlanError, match=message):
        own(name).load()


def test_an_error_in_the_users_file_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_broken.py").write_text("\n\n1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match=r"\(ZeroDivisionError: .* at .*own_broken\.py:3\)"):
        own("own_broken:factory").load()
