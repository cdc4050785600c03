"""The ways to search: one word of the plan gives a `Suggester`, told all that is recorded."""

from __future__ import annotations

from typing import Any

from cifar_tune.errors import PlanError
from cifar_tune.plan.compatibility import guarded_searcher, load_factory
from cifar_tune.plan.config import Plan
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Recorder
from cifar_tune.search.configurations import Configurations
from cifar_tune.search.suggester import Suggester


def build_suggester(recorder: Recorder) -> Suggester:
    """The suggester of the recorder's plan, at the point where its journal ends.

    Raises:
        PlanError: a searcher of the user's own can't be used, or bohb's packages are missing.
    """
    with guarded_searcher(recorder.results.plan.search.searcher, "making it"):
        suggester = _fresh(recorder)
        for event in read_journal(recorder.journal.folder).events:
            suggester.observe(event, recorder.results)
    return suggester


def _fresh(recorder: Recorder) -> Suggester:
    plan, folder = recorder.results.plan, recorder.journal.folder
    searcher = plan.search.searcher
    if searcher in ("grid", "random", "sobol"):
        return Configurations(plan)
    if searcher == "bohb":
        from cifar_tune.search.bohb import BohbSuggester

        return BohbSuggester(plan)
    # Optuna costs a second of imports, which the ways above can do without.
    from cifar_tune.search.study import OptunaStudy, sampler_of

    if ":" not in searcher:
        return OptunaStudy(plan, folder, sampler_of(plan))
    return _users_own(plan, load_factory(searcher)(plan), recorder)


def _users_own(plan: Plan, made: Any, recorder: Recorder) -> Suggester:
    """What a user's factory made: an Optuna sampler, a Ray searcher, or a suggester."""
    from optuna.samplers import BaseSampler
    from ray.tune.search import Searcher

    from cifar_tune.search.own_searcher import RaySearcherSuggester
    from cifar_tune.search.study import OptunaStudy

    if isinstance(made, BaseSampler):
        return OptunaStudy(plan, recorder.journal.folder, lambda _: made)
    if isinstance(made, Searcher):
        return RaySearcherSuggester(plan, made)
    if hasattr(made, "suggest") and hasattr(made, "observe"):
        return made  # type: ignore[no-any-return]
    raise PlanError(
        f"search.searcher is {plan.search.searcher!r}, which made {type(made).__name__}; it must"
        " return an optuna.samplers.BaseSampler, a ray.tune.search.Searcher, or an object with"
        " suggest(index, fixed) and observe(event, results)"
    )
