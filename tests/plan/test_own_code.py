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
    with pytest.raises(
        PlanError, match=r"importing it raised ZeroDivisionError: .* at .*own_broken\.py:3$"
    ):
        own("own_broken:factory").load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nraise SystemExit\n", r"importing it called sys\.exit\(\) at .*\.py:2; it must return"),
        ("\n\nimport os; os._exit(0)\n", r"importing it called os\._exit\(0\) at .*\.py:3; it"),
        (
            "raise KeyboardInterrupt('stop')\n",
            r"importing it raised KeyboardInterrupt: stop at .*:1$",
        ),
        (
            "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('config')\n"
            "parser.parse_args()\n",
            r"importing it called sys\.exit\(2\) at .*\.py:4, by argparse, which finds no arguments",
        ),
        (
            "import no_such_package\n",
            r"importing it raised ModuleNotFoundError: .*package' at .*:1$",
        ),
        ("def factory(: ...\n", r"importing it raised SyntaxError"),
        (
            "def __getattr__(name):\n    import sys\n    sys.exit(name)\n",
            r"importing it called sys\.exit\('factory'\) at .*\.py:3",
        ),
    ],
)
def test_a_module_that_ends_or_fails_is_told_with_its_line(
    text: str, message: str, own_code: Callable[[str], str]
) -> None:
    name = own_code(text)
    with pytest.raises(PlanError, match=rf"^search\.searcher is '{name}:factory'; {message}"):
        own(f"{name}:factory").load()


def test_a_package_that_ends_when_one_looks_inside_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "own_package" / "net.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match=r"called sys\.exit\(0\) at .*own_package/__init__\.py:2"):
        own("own_package.net:factory").check_module()


def test_what_a_module_changes_around_it_is_as_before(
    own_code: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = own_code(
        "import os, sys\nprint('loading', sys.argv)\nos.chdir('/')\nsys.argv.append('--more')\n"
        "sys.stdout = None\ndef factory(plan): return plan\n"
    )
    before = Path.cwd(), list(sys.argv), sys.stdout
    assert own(f"{name}:factory").load()(3) == 3
    assert (Path.cwd(), list(sys.argv), sys.stdout) == before
    shown = capsys.readouterr()
    assert shown.out == "", "standard output may be read by a program"
    assert shown.err == f"loading ['{name}']\n"


def test_a_script_that_reads_its_arguments_reads_none_of_ours(
    own_code: Callable[[str], str],
) -> None:
    name = own_code(
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--width', type=int, default=8)\nwidth = parser.parse_args().width\n"
        "def factory(plan): return width\n"
    )
    assert own(f"{name}:factory").load()("the plan") == 8


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shop.tools", "shop.tools:factory"),
        ("shop.tools.make", "shop.tools:make"),
        ("shop/tools.py", "shop.tools:factory"),
        ("./shop/tools.py:make", "shop.tools:make"),
        ("counter", "counter:factory"),
        ("counter.py", "counter:factory"),
        ("nowhere.tools", "nowhere.tools:factory"),
    ],
)
def test_a_name_without_its_colon_is_told_the_whole(
    name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("shop/__init__.py", "shop/tools.py", "counter.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match=rf"did you mean {meant}\?$"):
        own(name).load()


def test_a_word_that_may_mean_anything_gets_no_hint(tmp_path: Path) -> None:
    assert own("counter").meant() == ""
