"""BOHB's scheduler: Ray's Hyperband with pauses, whose brackets fill up and come to an end."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import HyperBandForBOHB, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket as RayBracket

from cifar_tune.plan.config import Plan


class BohbBrackets(HyperBandForBOHB):
    """Ray's Hyperband for BOHB: the trials of a bracket pause at its rungs until all are there.

    Falkner et al. 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale".
    """

    def __init__(self, plan: Plan) -> None:
        """Brackets that fit into the plan's epochs."""
        super().__init__(
            time_attr="epoch",
            max_t=plan.train.max_epochs,
            reduction_factor=plan.search.reduction_factor,
            metric=plan.search.metric,
            mode=plan.search.mode,
        )

    def _create_bracket(self, s: int) -> _Bracket:
        return _Bracket(
            time_attr=self._time_attr,
            max_trials=self._get_n0(s),
            init_t_attr=self._get_r0(s),
            max_t_attr=self._max_t_attr,
            eta=self._eta,
            s=s,
            # Else a bracket's winners end at its last rung: with 10 epochs and factor 3 at 9.
            stop_last_trials=False,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's decision on one report; a trial that diverged or has all its epochs ends."""
        if result["diverged"] or result["epoch"] >= self._max_t_attr:
            return str(TrialScheduler.STOP)
        decision = super().on_trial_result(tune_controller, trial, result)
        bracket, _ = self._trial_info[trial]
        if decision == TrialScheduler.PAUSE and bracket.filled() and bracket.cur_iter_done():
            # Ray waits for trials that are being saved, and nothing comes when they are.
            decision = self._process_bracket(tune_controller, bracket)
            if decision == TrialScheduler.CONTINUE:
                self._unpause_trial(tune_controller, trial)
        return str(decision)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial ended or failed: if it was the last one that the bracket waited for, halve it.

        Ray would also halve a bracket that is not full yet, and one only once.
        """
        bracket, _ = self._trial_info[trial]
        bracket.cleanup_trial(trial)
        if bracket.filled() and not bracket.is_being_processed:
            self._process_bracket(tune_controller, bracket)

    def _process_bracket(self, tune_controller: Any, bracket: _Bracket) -> str:
        action = super()._process_bracket(tune_controller, bracket)
        bracket.is_being_processed = False  # Ray leaves it on
        return str(action)


class _Bracket(RayBracket):
    """A bracket that is full for ever once all its trials have been added.

    Ray's counts the trials that are left, so a bracket that one has left takes in new ones, without
    end if it is the last one of a band.
    """

    def filled(self) -> bool:
        return bool(len(self._all_trials) >= self._n0)
