"""Configurations from a sampler of Optuna, which learns from the search's events."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from cifar_tune.plan.compatibility import reports_to_learn
from cifar_tune.plan.config import Plan
from cifar_tune.plan.methods import STARTUP_TRIALS
from cifar_tune.plan.space import Space, Value
from cifar_tune.record.journal import Event
from cifar_tune.record.optuna_trials import (
    earlier_trials,
    judged_as,
    learnt_goals,
    parameters_of,
)
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial
from cifar_tune.search.dashboard import StudyFile
from cifar_tune.search.promotion import waits
from cifar_tune.search.sampling import End, Sampling


class OptunaStudy:
    """Suggests by an Optuna sampler: a `Suggester`, and the study file beside it.

    What the sampler learns from is a study in memory, made of the events alone, so that it is the
    same after a restart. The study file is only written. They are two because a file's finished
    trial can't be reopened, and must not count twice; because Optuna's CMA-ES unpickles what its
    study holds; and because a fault of the file must not touch the search.
    """

    def __init__(self, plan: Plan, folder: Path, sampler: Callable[[int], BaseSampler]) -> None:
        """Begin with nothing told; the study file in `folder` is drawn anew.

        `sampler` gives one by seed; or always the same one, which then keeps its own state.
        """
        self._plan = plan
        self._told = Results(folder=folder, plan=plan)  # as far as events were told
        self._steps: list[tuple[str, End | None]] = []  # a trial was created, or it ended
        self._ends: dict[str, End] = {}
        self._make_sampler = sampler
        # Optuna's CMA-ES and GP leave pruned trials out.
        self._learns_from_pruned = not isinstance(sampler(0), (CmaEsSampler, GPSampler))
        self._learns_step_by_step = isinstance(sampler(0), CmaEsSampler)
        self._sampling: Sampling | None = None
        self._file = StudyFile(plan, folder)

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """The values of trial `index`, not those of another trial; none if the space has no more.

        A function of the events, the seed and the index alone, for a sampler that is made by seed.
        """
        return self._catch_up().suggest(index, fixed)

    def observe(self, event: Event, results: Results) -> None:
        """Note what is to be learnt; the sampler's study follows at the next suggestion."""
        self._told.apply(event)
        trials = self._told.trials
        if event["event"] == "trial_created":
            self._steps.append((event["trial_id"], None))
        if event["event"] == "extended":
            for trial in trials.values():
                self._follow(trial)
        elif "trial_id" in event:
            self._follow(trials[event["trial_id"]])
        self._file.observe(event, results)

    def _follow(self, trial: Trial) -> None:
        """Note a trial's end, or that it goes on or ended otherwise than noted before.

        A result may end a trial without `trial_ended`, if the driver died between the two.
        """
        known, now = self._ends.get(trial.trial_id), self._end_of(trial)
        if (known and replace(known, values=None)) == (now and replace(now, values=None)):
            return
        if known is not None:
            if self._learns_step_by_step and known.state is TrialState.COMPLETE:
                return  # its later generations are built on this value: it counts, and once
            self._steps.remove((trial.trial_id, known))
            del self._ends[trial.trial_id]
            self._sampling = None
        if now is not None:
            self._ends[trial.trial_id] = now
            self._steps.append((trial.trial_id, now))

    def _end_of(self, trial: Trial) -> End | None:
        if waits(trial):  # for all that is known it has ended; if it goes on, so does this
            return End("stopped", trial.epochs, TrialState.PRUNED, None)
        state, values = judged_as(trial, self._plan.search)
        if state is TrialState.RUNNING:
            return None
        if state is TrialState.PRUNED:
            values = None  # a study asks its trial for what it reported last
        if trial.status == "diverged" and not self._learns_from_pruned:
            values = self._worst()
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
        return End(trial.status, trial.epochs, state, None if values is None else tuple(values))

    def _worst(self) -> list[float] | None:
        """The worst of each objective that a trial had: any stand-in would ruin the scale."""
        search = self._plan.search
        earlier = earlier_trials(self._told.started_from, search.metric)
        completed = [t for t in earlier if t.status == "completed"]
        values = [judged_as(trial, search)[1] for trial in completed]
        known = [one for one in (*values, *(end.values for end in self._ends.values())) if one]
        if not known:
            return None
        by_goal = zip(learnt_goals(search), zip(*known, strict=True), strict=True)
        return [goal.sign * min(goal.sign * value for value in each) for goal, each in by_goal]

    def _catch_up(self) -> Sampling:
        """The study in memory, after all that was told."""
        if self._sampling is None:
            self._sampling = Sampling(self._plan, self._make_sampler)
            for trial in earlier_trials(self._told.started_from, self._plan.search.metric):
                self._sampling.know(trial, self._end_of(trial))
        for name, end in self._steps[self._sampling.steps :]:
            if end is None:
                self._sampling.create(self._told.trials[name])
            else:
                self._sampling.end(self._told.trials[name], end)
            self._sampling.steps += 1
        return self._sampling


def sampler_of(plan: Plan) -> Callable[[int], BaseSampler]:
    """The plan's tpe (also bohb's), gp or cmaes: a fresh one by seed.

    A fresh one for each suggestion, because a sampler's random state would depend on how often the
    program was started.
    """
    search, space = plan.search, plan.search.parsed_space
    # bohb shows nothing before there is enough to learn from.
    startup = reports_to_learn(search) if search.searcher == "bohb" else STARTUP_TRIALS

    def tpe(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            # `group` is experimental, and the only way to model what conditions leave out.
            warnings.simplefilter("ignore", ExperimentalWarning)
            group = any(dimension.when for dimension in space)
            # Optuna's default with one objective, and with several where there are conditions.
            return TPESampler(multivariate=True, group=group, seed=seed, n_startup_trials=startup)

    def gp(seed: int) -> BaseSampler:
        return _SingleThreadGP(
            seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
        )

    def cmaes(seed: int) -> BaseSampler:
        return _CmaEs(space, seed)

    return {"tpe": tpe, "bohb": tpe, "gp": gp, "cmaes": cmaes}[search.searcher]


class _SingleThreadGP(GPSampler):
    """The GP on one thread, for its matrices are small.

    Optuna sees to that in a part of the work only. On two cores that trials keep busy, a suggestion
    after 50 trials takes 0.13 s instead of 0.3 to 1.5.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the base class, which draws at random before it has so many trials."""
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(completed) < STARTUP_TRIALS:
            return {}
        import torch  # it takes seconds, which small searches need not wait for

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return super().sample_relative(study, trial, search_space)
        finally:
            torch.set_num_threads(threads)


class _CmaEs(CmaEsSampler):
    """CMA-ES over the numbers that every trial has; Optuna draws the others at random.

    Optuna takes what the trials so far have in common. With conditions that changes on the way,
    and from then on it draws everything at random, for its optimizer no longer fits.
    """

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)
        always = [one for one in parameters_of(space) if not one.dimension.when]
        self._always = {
            one.name: one.distribution
            for one in always
            if not isinstance(one.distribution, CategoricalDistribution)
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The numbers without a condition."""
        return dict(sorted(self._always.items()))
