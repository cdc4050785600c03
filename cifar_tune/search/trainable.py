"""What runs in a trial's process: an objective, by default one `fit()`, that reports its epochs.

The driver imports this file, so torch and Lightning are imported inside the functions: that costs
10 CPU-seconds, which on two cores would delay the workers' own imports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ray import tune

from cifar_tune.errors import PlanError
from cifar_tune.files import TRIALS, at_hand, is_whole
from cifar_tune.plan.config import Plan
from cifar_tune.plan.gpus import allocator_share
from cifar_tune.plan.guard import guarded, working_in
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import now

FITTING = ("torch", "lightning.pytorch", "cifar_tune.search.epoch_report", "cifar_tune.train.fit")
METRICS = "metrics"  # where a report to Ray has all of a trial's figures
BESIDE = "best_epoch_beside"  # and the epoch of a second checkpoint in its folder
WORST = 1e9  # what Ray alone is told of a trial that diverged: its schedulers compare numbers


class Reporter:
    """Tells the driver of a trial's epochs; also what the trial is.

    Attributes:
        plan: the settled plan of the search.
        folder: its results folder, for trackers.
        trial_id: t0001 and so on.
        values: the searched fields of this trial.
        first_step_at: Unix seconds when training began; the first report's time if nobody set it.
        ended: whether the driver wants no more, which `report` says by a SystemExit.
    """

    def __init__(
        self, plan: Plan, folder: Path, trial_id: str, values: Mapping[str, Value]
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.trial_id = trial_id
        self.values = dict(values)
        self.first_step_at: float | None = None
        self.ended = False

    def begin(self) -> None:
        """Note when training begins, unless it has."""
        if self.first_step_at is None:
            self.first_step_at = now()

    def report(
        self,
        metrics: Mapping[str, float],
        *,
        diverged: bool = False,
        checkpoint: tune.Checkpoint | None = None,
        best_epoch: int | None = None,
    ) -> None:
        """Report one epoch; returns when the driver has it on disk and wants another.

        Args:
            metrics: at least `epoch` and the plan's metric, scalars.
            diverged: whether this is the last; what is not finite is left out then.
            checkpoint: what the trial can go on from.
            best_epoch: the earlier epoch whose checkpoint lies beside it, as BEST_SO_FAR.
        """
        self.begin()
        values = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        clock = {"first_step_at": self.first_step_at, "reported_at": now()}
        search = self.plan.search
        told = {
            "epoch": int(metrics["epoch"]),
            search.metric: -search.sign * WORST if diverged else self._judged_by(values, metrics),
            "diverged": diverged,
            METRICS: {**values, **clock},
            BESIDE: best_epoch,
        }
        try:
            tune.report(told, checkpoint=checkpoint)
        except SystemExit:
            self.ended = True
            raise

    def _judged_by(self, values: Mapping[str, float], logged: Mapping[str, float]) -> float:
        """The metric; `logged` also has what is not finite, which only the metric may not be."""
        metric = self.plan.search.metric
        for name in self.plan.search.logged:
            if name not in (values if name == metric else logged):
                known = ", ".join(name for name in values if name != "epoch")
                asked = "search.metric is" if name == metric else "search.objectives has"
                raise PlanError(
                    f"{asked} {name!r}, which no validation of this training logged; it must be"
                    f" one of {known or 'what it logs, and it logs nothing'}"
                )
        return values[metric]


Objective = Callable[[Any, Any, Reporter, Path | None], None]
"""Trains one configuration, reports its epochs, and goes on from a checkpoint if it gets one. The
search's own is `fit_objective`; a test or a benchmark may put a sleeping or analytic one there."""


def imports_of(objective: Objective, plan: Plan) -> list[str]:
    """The modules that a trial's process may import before it has its trial, and its GPUs."""
    if objective is not fit_objective:
        return []
    ours = ":" not in plan.task  # a module of the user's own may ask CUDA, which looks once
    return [*FITTING, *(task_of(plan).modules if ours else ())]


def fit_objective(run: Any, part: Any, reporter: Reporter, resume_from: Path | None) -> None:
    """One training by Lightning: the seam between `fit()` and Ray."""
    from cifar_tune.search.epoch_report import EpochReport
    from cifar_tune.train.wandb_run import trial_trackers
    from cifar_tune.train.workers import fit_with_workers

    plan = reporter.plan
    report = EpochReport(plan, reporter.begin, reporter.report)
    trackers = trial_trackers(plan, reporter.folder, reporter.trial_id, reporter.values, run)
    fit_with_workers(
        run,
        part,
        workers=plan.workers,
        callbacks=[*trackers, report],  # the report last: Ray ends a trial inside
        resume_from=resume_from,
        folder=reporter.folder / TRIALS / reporter.trial_id,
    )


def train_trial(
    config: dict[str, Any], *, objective: Objective, plan: Plan, folder: Path, part: Any, place: str
) -> None:
    """Ray's function trainable.

    Args:
        config: `trial_id`, `index`, `values` (searched fields), `checkpoints` (paths or URIs to go
            on from, the newest first), `alone` (whether nothing else runs meanwhile).
        plan, folder: settled, and where the results lie, for trackers.
        part: what the task gives trainings of the data, shared by all trials of a node.
        place: where the command was given, and trials run: code of the user's own that reads a
            file there is to find it.
    """
    _reset_process(plan, alone=config["alone"])
    run = plan.run(config["values"], config["index"])
    reporter = Reporter(plan, folder, config["trial_id"], config["values"])
    with (
        _newest_checkpoint(config["checkpoints"]) as checkpoint,
        working_in(place),
        guarded(plan.task, ours=lambda: reporter.ended),
    ):
        objective(run, part, reporter, checkpoint)


def _reset_process(plan: Plan, *, alone: bool) -> None:
    """What an earlier trial in this process may have left behind; `fit` sets seeds and threads."""
    if not plan.on_gpu:
        return
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    # Ray's share of a GPU is bookkeeping; this makes it a limit.
    total = torch.cuda.get_device_properties(0).total_memory
    share = 1.0 if alone else allocator_share(float(plan.resources.gpus_per_trial), total)
    torch.cuda.set_per_process_memory_fraction(share)


@contextmanager
def _newest_checkpoint(recorded: list[str]) -> Iterator[Path | None]:
    """The newest that loads."""
    with ExitStack() as copies:
        chosen = None
        for location in recorded:
            # Storage that does not answer fails the trial, which is tried again: without its
            # checkpoint it would begin anew.
            with suppress(FileNotFoundError):
                copy = copies.enter_context(at_hand(location))
                if is_whole(str(copy)):
                    chosen = copy
                    break
        yield chosen
