"""The command `python -m cifar_tune.train`: one training without Ray, new or as a search had it."""

from __future__ import annotations

import argparse
import errno
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import PlanError, exit_code_of
from cifar_tune.files import as_path
from cifar_tune.plan.config import Plan
from cifar_tune.plan.flags import add_flags, add_set, overrides_of, plan_of
from cifar_tune.plan.guard import guarded
from cifar_tune.plan.parser import Parser
from cifar_tune.plan.task import task_of
from cifar_tune.process import end_on_signals, outlast_streams, say
from cifar_tune.train.figures import asked_figures
from cifar_tune.train.fit import fit
from cifar_tune.train.reproduce import read_trial

if TYPE_CHECKING:  # torch and Lightning cost seconds, which --help must not
    from lightning.pytorch import Callback, Trainer


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m cifar_tune.train`: train the plan's own values, without a search."""
    return exit_code_of(lambda: _train(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cifar-tune train", description="Train one configuration; the plan's search is unused."
    )
    parser.add_argument("--config", metavar="FILE", help="a plan, or the name of one that ships")
    add_set(parser)
    add_flags(parser, ("--seed", "--max-epochs", "--data-dir"))
    parser.add_argument(
        "--like",
        nargs=2,
        metavar=("DIR", "TRIAL"),
        help="repeat trial TRIAL (t0007) of the search in DIR, and compare",
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the best epoch there")
    parser.add_argument("--fast-dev-run", action="store_true", help="one step, to try things")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    if arguments.like:
        return _train_like(arguments)
    plan = plan_of(arguments, say)
    _check_save(arguments.save)
    end_on_signals()
    part = task_of(plan).open(plan, say).part("search")
    watch = Watch(plan, arguments.save)
    run = plan.with_values({}, seed=plan.seed)
    with guarded(plan.task):
        result = fit(run, part, callbacks=[watch.callback()], fast_dev_run=arguments.fast_dev_run)
    if result.diverged:
        say(f"diverged in epoch {result.metrics['epoch']:.0f}; give a lower learning rate")
        return 4
    say(f"best {plan.search.metric} {watch.best:.4f} in epoch {watch.best_epoch}")
    return 0


def _check_save(path: Path | None) -> None:
    """Refuse a place for the best epoch that can't be written, before an epoch is trained."""
    if path is None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise PlanError(
            f"--save {path}: can't be written: {error.strerror}; give a file in a folder that is"
            " there and can be written"
        ) from None


def _train_like(arguments: argparse.Namespace) -> int:
    """Repeat one trial of a search alone, and compare its figures with the recorded ones."""
    other = [arguments.config, *arguments.set, arguments.seed, arguments.max_epochs]
    if any(other) or arguments.fast_dev_run:
        raise PlanError(
            "--like repeats a trial as it was; leave out all but --data-dir and --save, or train"
            " another configuration without --like"
        )
    folder, trial_id = arguments.like
    path = as_path(folder).absolute()
    _check_save(arguments.save)
    recorded = read_trial(path, trial_id, overrides_of(arguments))
    plan = recorded.plan
    end_on_signals()
    data = task_of(plan).open(plan, say, recorded=recorded.facts)
    recorded.check_data(data.fingerprint)
    say(*recorded.introduce())
    watch = Watch(plan, arguments.save, recorded.last_epoch)
    with guarded(plan.task):
        fit(recorded.run, data.part("search"), callbacks=[watch.callback()])
    say(*recorded.compare(watch.figures))
    return 0


class Watch:
    """Prints each epoch of a training, keeps its figures, saves its best, and ends it in time.

    Attributes:
        figures: of each epoch.
        best, best_epoch: the plan's metric at its best, and in which epoch (from 1) that was.
    """

    def __init__(self, plan: Plan, save_to: Path | None, last_epoch: int | None = None) -> None:
        """`save_to` gets the best epoch; where there is no `last_epoch`, the plan says the end."""
        self.figures: list[dict[str, float]] = []
        self.best, self.best_epoch = math.nan, 0
        self._plan = plan
        self._save_to = save_to
        self._last_epoch = last_epoch
        self._began = time.perf_counter()

    def callback(self) -> Callback:
        """Lightning's callback that watches."""
        from lightning.pytorch.callbacks import LambdaCallback

        return LambdaCallback(on_validation_end=self._on_validation_end)

    def _on_validation_end(self, trainer: Trainer, module: Any) -> None:
        metrics = asked_figures(trainer, module, self._plan.search)
        self.figures.append(metrics)
        say(epoch_line(metrics, time.perf_counter() - self._began))
        search, epoch = self._plan.search, int(metrics["epoch"])
        value = metrics.get(search.metric, math.nan)
        if not self.best_epoch or search.sign * value > search.sign * self.best:
            self.best, self.best_epoch = value, epoch
            if self._save_to is not None:
                trainer.save_checkpoint(self._save_to)
        if self._last_epoch is not None and epoch >= self._last_epoch:
            trainer.should_stop = True


def epoch_line(metrics: Mapping[str, float], seconds: float) -> str:
    """One epoch's figures in one line; `seconds` since the start."""
    shown = [f"{name} {value:.4g}" for name, value in metrics.items() if name != "epoch"]
    return "  ".join([f"epoch {metrics['epoch']:3.0f}", *shown, f"{seconds:6.1f} s"])


if __name__ == "__main__":
    outlast_streams()
    sys.exit(main())
