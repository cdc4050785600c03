"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOM = Path(__file__).parent.parent / "cifar_tune"
# A module imports only from its own room and from those before it; nobody imports what stands
# beside the way: vision and lit are found by name, and report shows what is recorded.
ORDER = (
    "errors",
    "files",
    "process",
    "plan",
    "record",
    "train",
    "search",
    "finals",
    "session",
    "tune",
)
BESIDE = {
    "vision": ("errors", "files", "process", "plan", "record", "train"),
    "lit": ("errors", "files", "process", "plan", "record", "train"),
    "report": ("errors", "files", "process", "plan", "record"),
}
USERS = {"vision": set[str](), "lit": set[str](), "report": {"session", "tune"}}
ONE_PLACE = {"ray": ("search",), "wandb": ("train", "wandb_run.py"), "tensorboardX": ("report",)}


def modules() -> list[Path]:
    return sorted(path for path in ROOM.rglob("*.py") if path != ROOM / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(ROOM).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            if (node.module or "").startswith("cifar_tune"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed_for(room: str) -> set[str]:
    """The rooms that a room may import from."""
    below = BESIDE[room] if room in BESIDE else ORDER[: ORDER.index(room)]
    return {room, *below, *(name for name, users in USERS.items() if room in users)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOM)))
def test_imports_go_one_way(path: Path) -> None:
    allowed = allowed_for(room_of(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "cifar_tune" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, (
                f"{path} imports {name}, which stands above it or beside the way"
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOM)))
def test_foreign_packages_stay_in_their_place(path: Path) -> None:
    for name in imports(path):
        package = name.split(".")[0]
        assert package != "pytorch_lightning"
        place = ONE_PLACE.get(package, ())
        assert path.relative_to(ROOM).parts[: len(place)] == place


# What only a task may know. Other meanings of these words: Python's own classes, float32.
OF_A_TASK = re.compile(r"\bCIFAR|\bimages?\b|accurac|\bclasses\b", re.IGNORECASE)
OTHERWISE = re.compile(
    r"cifar_tune|cifar-tune|CifarTuneError|2\*\*32|class(es)? of (Lightning|Ray)"
)
LONGEST_FILE = 300
ENGINE = ("plan", "record", "search", "finals", "report", "session")


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if room_of(p) in ENGINE],
    ids=lambda path: str(path.relative_to(ROOM)),
)
def test_the_engine_knows_nothing_of_a_task(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    found = {n: line for n, line in lines if OF_A_TASK.search(OTHERWISE.sub("", line))}
    assert not found


def test_a_search_can_not_reach_the_test_split() -> None:
    """What is held out is opened by one file of the task, and nothing that `search` imports."""
    for way in ("cifar_tune.vision.data.held_out", "cifar_tune.vision.data.stored"):
        users = {room_of(path) for path in modules() if way in imports(path)}
        assert users <= {"vision", "finals"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOM)))
def test_a_file_says_its_job_in_its_first_sentence_and_is_not_long(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    assert path.stem not in ("utils", "common", "helpers")
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))


def graph() -> dict[str, set[str]]:
    """Which of our modules each of them imports, wherever in the file."""
    names = {module_name(path): path for path in [*modules(), ROOM / "__init__.py"]}
    return {
        name: {to for to in imports(path) if to in names and to != name and to != ROOM.name}
        for name, path in names.items()
    }


def module_name(path: Path) -> str:
    """The dotted name of a file of ours."""
    parts = path.relative_to(ROOM.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_in_a_circle() -> None:
    try:
        graphlib.TopologicalSorter(graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def test_the_house_has_nine_storeys_at_most() -> None:
    rooms: dict[str, set[str]] = {}
    for name, tos in graph().items():
        room = name.split(".")[1:2]
        for to in tos:
            if room and to.split(".")[1:2] != room:
                rooms.setdefault(room[0], set()).add(to.split(".")[1])

    def height(room: str) -> int:
        return 1 + max((height(below) for below in rooms.get(room, ())), default=0)

    assert max(map(height, rooms)) <= 9


def test_functions_over_forty_lines_are_one_in_a_hundred_at_most() -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
    ]
    assert sum(length > 40 for length in lengths) <= len(lengths) / 100


def test_the_house_has_few_doors() -> None:
    doors = {path.name for path in ROOM.iterdir() if path.name != "__pycache__"}
    assert len(doors) <= 16, sorted(doors)


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("plan.config", ("torch", "ray", "lightning", "numpy")),
        ("plan.load", ("torch", "ray", "lightning", "numpy")),
        ("tune", ("torch", "ray", "lightning", "pydantic")),
        ("plan.preflight", ("torch", "ray", "lightning")),
        ("session.start", ("torch", "lightning", "wandb")),
    ],
)
def test_a_module_starts_light(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, cifar_tune.{module}; print(*sorted(sys.modules))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not set(forbidden) & set(loaded)
