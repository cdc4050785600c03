"""Which trial runs next: one that goes on, one that is tried again, or a new configuration."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

from ray.tune.search import Searcher

from cifar_tune.errors import CifarTuneError, PlanError
from cifar_tune.plan.compatibility import guarded_searcher
from cifar_tune.plan.guard import told
from cifar_tune.record.journal import Event, storage_error
from cifar_tune.record.recorder import PicklesAsNothing, Recorder
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial, id_of, runs_alone
from cifar_tune.search import promotion
from cifar_tune.search.checkpoints import drop_checkpoints, to_go_on_from
from cifar_tune.search.pbt import due_exchange, hold_exchange, waits
from cifar_tune.search.stop import StopRequest
from cifar_tune.search.suggester import NotNow, Suggester


class TrialQueue(PicklesAsNothing, Searcher):
    """Ray's source of trials: the journal's unfinished ones, then new ones, each journalled first.

    For Ray every hand-out is a trial of its own: one that crashed, or that stands at an exchange of
    its population, ends for Ray and is handed out again, exactly as after a restart. Ray's trial
    ids are of no use then, so ours travel in the configuration.
    """

    def __init__(
        self,
        recorder: Recorder,
        suggester: Suggester,
        stop: StopRequest,
        *,
        only: Collection[str] | None = None,
    ) -> None:
        """Begin where the journal ends, all of which the suggester has been told.

        With `only`, these trials are handed out, else all that are unfinished and new ones.
        """
        plan = recorder.results.plan
        super().__init__(metric=plan.search.metric, mode=plan.search.mode)
        self._recorder = recorder
        self._searcher_name = plan.search.searcher
        self._suggester = suggester
        self._stop = stop
        self._live: dict[str, str] = {}  # Ray's trial id: ours
        self._handed_out: dict[str, int] = {}  # how often in this start
        self._alone: deque[str] = deque()
        self._queue: deque[str] = deque()
        trials = recorder.results.trials
        self._only = set(trials) if only is None else set(only)
        self._next = len(trials)  # trials are created in the order of their index
        self._count = plan.search.num_samples if only is None else 0
        self._by_population = plan.search.scheduler == "pbt"
        self._promotes = plan.search.scheduler == "promote"
        for trial in self._unfinished():
            self.again(trial)

    def learn(self, event: Event, results: Results) -> None:
        """Tell the suggester of one event; if it can't take that in, the search ends."""
        if self._stop.error is not None:
            return
        try:
            with guarded_searcher(self._searcher_name, f"told of {event['event']} it"):
                self._suggester.observe(event, results)
        except CifarTuneError as error:
            self._stop.fail(error)
        except Exception as error:  # one of ours: that it did not learn must not go unnoticed
            fault = f"told of {event['event']} it {told(error)}"
            self._stop.fail(PlanError(f"search.searcher is {self._searcher_name!r}; {fault}"))

    def again(self, trial: Trial) -> None:
        """Hand a trial out once more, when its turn comes."""
        name = trial.trial_id
        if self._by_population and waits(self._recorder.results, trial):
            return  # the exchange brings it back
        if self._promotes and promotion.waits(trial):
            return
        if name in (*self._queue, *self._alone, *self._live.values()):
            return  # Ray may ask for the next trial before it tells of an end, which comes then
        (self._alone if runs_alone(trial.failures) else self._queue).append(name)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration, none for not now, or Ray's word for none left."""
        try:
            trial = self._next_trial()
            if trial is None:
                return str(Searcher.FINISHED)
            self._live[trial_id] = trial.trial_id
            return self._hand_out(trial)
        except NotNow:
            return None
        except CifarTuneError as error:
            self._stop.fail(error)  # Ray wraps what is raised here; run_search raises this one
            raise
        except OSError as error:
            self._stop.fail(failure := storage_error(self._recorder.journal.folder, error))
            raise failure from None

    def _next_trial(self) -> Trial | None:
        trials = self._recorder.results.trials
        if any(runs_alone(trials[name].failures) for name in self._live.values()):
            raise NotNow
        if self._by_population:
            self._exchange_if_due()
        if self._queue:
            return trials[self._queue.popleft()]
        going_on = self._promoted()
        if going_on is not None:
            return going_on
        if self._next < self._count:
            try:
                created = self._create(self._next)
            except NotNow:
                if self._live:
                    raise
                if not self._alone:
                    raise PlanError(
                        f"search.searcher is {self._searcher_name!r}, which has no configuration"
                        " now, and no trial runs that it could wait for; mend it"
                    ) from None
                return trials[self._alone.popleft()]
            if created is not None:
                return created
            self._count = self._next  # the space holds no more
        if self._live:  # one of them may fail and be tried again, or wait for an exchange
            raise NotNow
        if self._alone:
            return trials[self._alone.popleft()]
        return self._last_of_waiting()

    def _promoted(self) -> Trial | None:
        if not self._promotes:
            return None
        free = self._only.difference(self._live.values())
        return promotion.next_promoted(self._recorder.results, free)

    def _last_of_waiting(self) -> Trial | None:
        """One of those that wait at rungs, or none, and then they end: nobody else will come."""
        waiting = [t for t in self._unfinished() if self._promotes and promotion.waits(t)]
        last = promotion.last_promoted(self._recorder.results, waiting)
        for trial in waiting if last is None else ():
            reason = f"not promoted at epoch {trial.epochs}"
            told = {"status": "stopped", "reason": reason}
            self._recorder.write("trial_ended", trial_id=trial.trial_id, **told)
            drop_checkpoints(self._recorder, trial)
        return last

    def _exchange_if_due(self) -> None:
        results = self._recorder.results
        epoch = due_exchange(results)
        if epoch is not None:
            hold_exchange(self._recorder, epoch)
            for trial in self._unfinished():
                self.again(trial)

    def _unfinished(self) -> list[Trial]:
        unfinished = self._recorder.results.unfinished()
        return [trial for trial in unfinished if trial.trial_id in self._only]

    def _create(self, index: int) -> Trial | None:
        results, name = self._recorder.results, id_of(index)
        with guarded_searcher(self._searcher_name, f"asked for trial {index + 1} it", NotNow):
            values = self._suggester.suggest(index, results.known_point(index))
        if values is None:
            return None
        seed = results.plan.seed + index
        self._recorder.write("trial_created", trial_id=name, index=index, seed=seed, values=values)
        self._next = index + 1
        self._only.add(name)
        return results.trials[name]

    def _hand_out(self, trial: Trial) -> dict[str, Any]:
        name = trial.trial_id
        self._handed_out[name] = self._handed_out.get(name, 0) + 1
        return {
            "trial_id": name,
            "hand_out": self._handed_out[name],
            "index": trial.index,
            "values": trial.values,
            "checkpoints": to_go_on_from(self._recorder, trial),
            "alone": runs_alone(trial.failures),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended for Ray. What there is to learn from it is in the journal."""
        self._live.pop(trial_id, None)
