"""Lets code that imports `pytorch_lightning` get Lightning's other name, `lightning.pytorch`.

Both packages hold the same code, and a Trainer of one refuses a module of the other. Most modules
that people have import the first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ALIASES = {"pytorch_lightning": "lightning.pytorch", "lightning_fabric": "lightning.fabric"}


class Aliases(MetaPathFinder, Loader):
    """Finds the modules of one package under the name of another."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for the names that are others', else none."""
        return ModuleSpec(fullname, self) if fullname.partition(".")[0] in ALIASES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, under its own name."""
        package, dot, rest = spec.name.partition(".")
        module = import_module(ALIASES[package] + dot + rest)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; the import system has put its spec of this name there."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """From now on in this process, unless the other package was imported before."""
    there = any(isinstance(finder, Aliases) for finder in sys.meta_path)
    if not there and "pytorch_lightning" not in sys.modules:
        sys.meta_path.insert(0, Aliases())
