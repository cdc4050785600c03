"""Code of the user's own, named as `package.module:attribute`: found, imported, its faults told."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from os.path import isfile, join
from typing import Any

from cifar_tune.errors import CifarTuneError, PlanError
from cifar_tune.plan.guard import LeavingError, guarded, told
from cifar_tune.process import current_directory


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
        """A PlanError if the module of this name can't be found; it is not imported.

        This runs `package/__init__.py`, as Python must to look inside a package, and no more.
        """
        module_name, _ = self._split()
        with self._importing(module_name):
            found = importlib.util.find_spec(module_name) is not None
        if not found:
            raise self._not_importable(module_name, "")

    def find(self) -> Any:
        """Import what the name says; a PlanError if it is not there."""
        module_name, name = self._split()
        with self._importing(module_name):
            module = importlib.import_module(module_name)
            attribute = getattr(module, name, self)  # a module's __getattr__ is the user's too
        if attribute is self:
            public = [word for word in vars(module) if not word.startswith("_")]
            raise self.error(f"; {module_name} has no {name}{nearest(name, public)}")
        return attribute

    def load(self) -> Callable[..., Any]:
        """Import what the name says; a PlanError if that is not called with the parameters."""
        attribute = self.find()
        call = f"{self.function}({', '.join(self.parameters)})"
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

    @contextmanager
    def guarded(self, doing: str, *passing: type[Exception]) -> Iterator[None]:
        """Run code of this name; what it raises, or how it tries to leave, is told as a PlanError.

        Our surroundings are as before afterwards; what it prints goes to standard error, for ours
        may be read by a program.

        Args:
            doing: what it does, as `building it`.
            passing: errors that are raised as they are; ours always are.
        """
        try:
            with redirect_stdout(sys.stderr), guarded(self.name.partition(":")[0]):
                yield
        except Exception as error:  # the user's code may raise anything
            ours = isinstance(error, (CifarTuneError, *passing))
            if ours and not isinstance(error, LeavingError):
                raise
            raise self.error(f"; {doing} {told(error)}") from error

    def error(self, fault: str) -> PlanError:
        return PlanError(f"{self.field} is {self.name!r}{fault}")

    @contextmanager
    def _importing(self, module_name: str) -> Iterator[None]:
        with current_directory_importable(), self.guarded("importing it"):
            try:
                yield
            except ModuleNotFoundError as error:
                if not f"{module_name}.".startswith(f"{error.name}."):
                    raise  # it is there, and what it imports itself is not
                raise self._not_importable(
                    module_name, f" ({type(error).__name__}: {error})"
                ) from error

    def _split(self) -> tuple[str, str]:
        module_name, _, attribute = self.name.partition(":")
        dotted = all(part.isidentifier() for part in module_name.split("."))
        if not dotted or not attribute.isidentifier():
            raise self.error(
                f"; your own {self.kind} is named package.module:{self.function}, as in"
                f" my_{self.kind}s.small:{self.function}{self.meant()}"
            )
        return module_name, attribute

    def meant(self) -> str:
        """A hint at the name that was meant, where it lacks its colon or is that of a file."""
        path, _, attribute = self.name.partition(":")
        dotted = path.removesuffix(".py").replace("/", ".").strip(".")
        if not all(part.isidentifier() for part in dotted.split(".")):
            return ""
        above, _, last = dotted.rpartition(".")
        lies_here = isfile(f"{dotted}.py") or isfile(join(dotted, "__init__.py"))
        if not attribute and not above and not lies_here:
            return ""  # a word that may mean anything
        if not attribute and above and not _is_module(dotted) and _is_module(above):
            dotted, attribute = above, last
        return f"; did you mean {dotted}:{attribute or self.function}?"

    def _not_importable(self, module_name: str, reason: str) -> PlanError:
        return self.error(
            f"; there is no module {module_name} that can be imported{reason}: start the command"
            f" where it lies (now {current_directory()}), or install it"
        )


def _is_module(name: str) -> bool:
    """Whether there is such a module here; to look inside a package runs its `__init__.py`."""
    try:
        with current_directory_importable(), redirect_stdout(sys.stderr), guarded(name):
            return importlib.util.find_spec(name) is not None
    except Exception:  # it is only a hint
        return False


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """`python -m` puts the current directory on the path, an installed command does not."""
    here = current_directory() or ""
    missing = here not in sys.path and "" not in sys.path
    if missing:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if missing and here in sys.path:
            sys.path.remove(here)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like this one, or nothing.

    For a dotted name that is like no other, one that differs only in its section.
    """
    names, last = list(known), word.rpartition(".")[2]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    near = near or [name for name in names if name.rpartition(".")[2] == last]
    return f"; did you mean {near[0]}?" if near else ""
