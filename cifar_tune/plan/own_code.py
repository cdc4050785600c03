"""Code of the user's own, named as `package.module:attribute`: found, imported, its faults told."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cifar_tune.errors import PlanError


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """A function or class of the user's own, as a field of the plan names it.

    Attributes:
        kind: what it makes, in a word, for errors.
        field: the field of the plan.
        name: its value, `package.module:attribute`.
        function: the customary name of the attribute.
        parameters: what it is called with, by position.
    """

    kind: str
    field: str
    name: str
    function: str
    parameters: tuple[str, ...]

    def check_module(self) -> None:
        """Refuse a name whose module can't be found, without importing the module.

        This runs `package/__init__.py`, as Python must to look inside a package, and no more.

        Raises:
            PlanError: no such module.
        """
        module_name, _ = self._split()
        with current_directory_importable():
            try:
                found = importlib.util.find_spec(module_name) is not None
            except Exception as error:  # a parent package may fail in any way
                raise self._not_importable(module_name, error) from error
        if not found:
            raise self._not_importable(module_name, None)

    def load(self) -> Callable[..., Any]:
        """Import the module and take the attribute, which must be called with the parameters.

        Raises:
            PlanError: no such module or attribute, or nothing that is called like this.
        """
        attribute, call = self._attribute(), f"{self.function}({', '.join(self.parameters)})"
        if not callable(attribute):
            raise self.error(
                f", which is {type(attribute).__name__}; it must be a function or a class that is"
                f" called as {call}"
            )
        try:
            inspect.signature(attribute).bind(*self.parameters)
        except TypeError as error:
            raise self.error(
                f", which can't be called as {call}: {error}; give it these parameters"
            ) from None
        except ValueError:  # no signature to be had, as of some C functions: just call it
            pass
        return attribute  # type: ignore[no-any-return]

    def error(self, fault: str) -> PlanError:
        """An error that begins with the field and its value."""
        return PlanError(f"{self.field} is {self.name!r}{fault}")

    def _attribute(self) -> Any:
        module_name, name = self._split()
        try:
            with current_directory_importable():
                module = importlib.import_module(module_name)
        except Exception as error:  # the user's file may fail in any way
            raise self._not_importable(module_name, error) from error
        if not hasattr(module, name):
            public = [word for word in vars(module) if not word.startswith("_")]
            raise self.error(f"; {module_name} has no {name}{nearest(name, public)}")
        return getattr(module, name)

    def _split(self) -> tuple[str, str]:
        module_name, _, attribute = self.name.partition(":")
        dotted = all(part.isidentifier() for part in module_name.split("."))
        if not dotted or not attribute.isidentifier():
            raise self.error(
                f"; your own {self.kind} is named package.module:{self.function}, as in"
                f" my_{self.kind}s.small:{self.function}"
            )
        return module_name, attribute

    def _not_importable(self, module_name: str, error: Exception | None) -> PlanError:
        reason = f" ({told(error)})" if error else ""
        return self.error(
            f"; there is no module {module_name} that can be imported{reason}: start the command"
            f" where it lies (now {os.getcwd()}), or install it"
        )


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """`python -m` puts the current directory on the path, an installed command does not."""
    here = os.getcwd()
    missing = here not in sys.path and "" not in sys.path
    if missing:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if missing and here in sys.path:
            sys.path.remove(here)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like this one, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def told(error: Exception) -> str:
    """The error in one line, with the place in the user's file that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if "importlib" not in frame.filename]
    place = f" at {inner[-1].filename}:{inner[-1].lineno}" if inner[1:] else ""
    return f"{type(error).__name__}: {error}{place}"
