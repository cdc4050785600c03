"""Times the models of a search whose objectives ask for it, when no training runs any more."""

from __future__ import annotations

import math

from cifar_tune.errors import counted
from cifar_tune.plan.abilities import Times
from cifar_tune.plan.objectives import LATENCY
from cifar_tune.plan.task import task_of
from cifar_tune.record.ranking import best_epoch
from cifar_tune.search.session import Session
from cifar_tune.search.stop import StopRequest


def measure_latencies(session: Session, stop: StopRequest) -> None:
    """Record the latency of each trial that ran to its end.

    Where one is missing all are measured again: those of an earlier start may be of another
    machine. A signal ends it, and what is recorded stays.
    """
    results, plan, task = session.results, session.plan, task_of(session.plan)
    if LATENCY not in [goal.metric for goal in plan.search.goals] or not isinstance(task, Times):
        return
    ended = [trial for trial in results.trials.values() if trial.status == "completed"]
    if all(LATENCY in trial.measured for trial in ended):
        return
    session.say(f"The latency of {counted(len(ended), 'model')} is measured, one after the other.")
    runs = [plan.run(one.values_at(best_epoch(one, plan.search)), one.index) for one in ended]
    latencies = iter(task.latencies(runs, session.data))
    for done, trial in enumerate(ended):
        if stop.signal is not None:
            return
        try:
            figure = float(next(latencies))
            if not math.isfinite(figure):
                raise ValueError(f"it is {figure}")
        except Exception as error:  # code of the user's own raises what it likes
            fault = f"{type(error).__name__}: {error}".rstrip(": ")
            left = counted(len(ended) - done, "model")
            session.say(f"{left}, from {trial.trial_id} on, can't be timed: {fault}")
            return
        session.recorder.write("measured", trial_id=trial.trial_id, figures={LATENCY: figure})
