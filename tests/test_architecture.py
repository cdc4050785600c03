"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOM = Path(__file__).parent.parent / "cifar_tune"
# A module imports only from modules before its own.
ORDER = (
    "clock", "errors", "layout", "checkpoint_files", "own_code", "spaces", "points", "strict_yaml", "config", "load", "flags", "machine", "resources",
    "journal",
    "data", "models", "muon", "optim", "parallel", "module", "failures", "trials", "events", "results", "tables", "repeat",
    "uncertainty", "tracking", "train", "workers", "evaluate", "portable", "best",
    "rungs", "pairs", "start_from", "preflight", "forecast", "search", "standing", "report", "finals", "outcome", "session", "resume", "predict", "api",
    "tune",
)  # fmt: skip
ONE_PLACE = {"ray": "search", "wandb": "tracking", "tensorboardX": "tracking"}


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


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOM)))
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(path)
    allowed = ORDER[: ORDER.index(room) + 1]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "cifar_tune" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{room} imports {name}, which stands above it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOM)))
def test_foreign_packages_stay_in_their_room(path: Path) -> None:
    for name in imports(path):
        package = name.split(".")[0]
        assert package != "pytorch_lightning"
        assert ONE_PLACE.get(package, room_of(path)) == room_of(path)


def test_the_search_cannot_reach_the_test_split() -> None:
    """Only `finals` opens what is held out; nothing that `search` imports can."""
    for way in ("cifar_tune.data.held_out", "cifar_tune.data.stored"):
        users = {room_of(path) for path in modules() if way in imports(path)}
        assert users <= {"data", "finals"}
    assert "finals" not in ORDER[: ORDER.index("search") + 1]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOM)))
def test_a_file_says_its_job_in_its_first_sentence_and_is_not_long(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= 420
    assert path.stem not in ("utils", "common", "helpers")
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("config", ("torch", "ray", "lightning", "numpy")),
        ("load", ("torch", "ray", "lightning", "numpy")),
        ("tune", ("torch", "ray", "lightning", "pydantic")),
        ("preflight", ("torch", "ray", "lightning")),
        ("session", ("torch", "lightning", "wandb")),
    ],
)
def test_a_module_starts_light(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, cifar_tune.{module}; print(*sorted(sys.modules))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not set(forbidden) & set(loaded)
