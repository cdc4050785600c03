"""Reads the words of a command; a mistake is one line, with the flag that was probably meant."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from cifar_tune.errors import PlanError
from cifar_tune.plan.own_code import nearest


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose mistakes are `PlanError`s, without the usage of thirty flags."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As the base class, but no word is left over: a PlanError names what can't be read."""
        args = sys.argv[1:] if args is None else args
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in itertools.takewhile(lambda word: word != "--", args):
            flag = word.partition("=")[0]
            # Before it is said that another flag is missing.
            if flag.startswith("--") and not any(name.startswith(flag) for name in known):
                raise PlanError(f"{flag} is not a flag of {self.prog}{nearest(flag, known)}")
        read, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"{left[0]!r} is more than it takes")
        return read, left

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage."""
        raise PlanError(f"{message}; {self.prog} --help lists what there is")
