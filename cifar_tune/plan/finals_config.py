"""The section of a plan that says what comes after the search."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cifar_tune.plan.section import Count, Flag, Fraction, PositiveInt, Section, split_words


class FinalsConfig(Section):
    """What comes after the search: the best are confirmed, the chosen one is trained for good."""

    candidates: Annotated[PositiveInt, Flag("K")] = 3
    """How many of the best trials are trained anew and compared on data that no trial saw."""
    trials: Annotated[list[str], BeforeValidator(split_words), Flag("T,T")] = Field(default=[])
    """Which trials these are, as t0007,t0012, instead of the best."""
    seeds: Annotated[Count, Flag("N", "--final-seeds")] = 5
    """Fresh seeds of each of them, and of the final trainings; 0: no finals, the winner alone is
    scored on the test split."""
    prefer: Annotated[Literal["best", "cheap"], Flag("WHICH")] = "best"
    """Which candidate is taken: best, the one with the highest mean, or cheap, the one with the
    fewest multiply-adds of those that are shown to be as good within the margin."""
    margin: Annotated[Fraction, Flag("X")] = 0.005
    """With prefer cheap: how much worse than the best a cheaper one may be at most, in score."""
    ensemble: Annotated[bool, Flag()] = False
    """Whether the mean of all final models is handed over and scored, instead of the first."""

    @model_validator(mode="after")
    def _check_trials(self) -> Self:
        if self.trials and not self.seeds:
            raise ValueError(
                f"has trials {', '.join(self.trials)} and seeds 0, and a trial that is named is"
                " trained anew: give --final-seeds 5, or leave trials out"
            )
        if len(set(self.trials)) < len(self.trials):
            raise ValueError(f"has trials {', '.join(self.trials)}; name each once")
        return self

    @property
    def compared(self) -> int:
        """How many trials are trained anew."""
        return len(self.trials) or self.candidates
