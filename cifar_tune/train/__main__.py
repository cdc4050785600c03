"""The command `python -m cifar_tune.train`: one training without Ray, new or as a search had it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import PlanError, exit_code_of
from cifar_tune.files import as_path
from cifar_tune.plan.flags import add_flags, add_set, plan_of
from cifar_tune.plan.guard import guarded
from cifar_tune.plan.parser import Parser
from cifar_tune.process import end_on_signals, outlast_streams, say
from cifar_tune.train.fit import FitResult, fit
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
    plan = plan_of(arguments)
    run = plan.with_values({}, seed=plan.seed)
    end_on_signals()

    from cifar_tune.vision.data import prepare, search_data

    data = search_data(prepare(run.data, on_note=say), run.data)
    callbacks = _printing_and_saving(arguments.save)
    with guarded(run.model.name):
        result = fit(run, data, callbacks=callbacks, fast_dev_run=arguments.fast_dev_run)
    return _show(result)


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
    data_path = plan_of(arguments).data.path  # absolute
    recorded = read_trial(path, trial_id, data_path)
    end_on_signals()

    from cifar_tune.vision.data import prepare, prepare_drawn, search_data

    run = recorded.run
    dataset = prepare_drawn(say) if recorded.drawn else prepare(run.data, on_note=say)
    recorded.check_data(dataset.fingerprint)
    say(*recorded.introduce())
    figures: list[dict[str, float]] = []
    callbacks = _printing_and_saving(arguments.save)
    callbacks.append(_collecting(figures, recorded.last_epoch))
    with guarded(run.model.name):
        fit(run, search_data(dataset, run.data), callbacks=callbacks)
    say(*recorded.compare(figures))
    return 0


def _show(result: FitResult) -> int:
    """Tell what a training came to; its exit code."""
    if result.diverged:
        say(f"diverged in epoch {result.metrics['epoch']:.0f}; give a lower optim.lr")
        return 4
    best = result.metrics.get("best_val_accuracy", 0.0)
    say(f"best val_accuracy {best:.4f} in epoch {result.best_epoch}")
    return 0


def _collecting(figures: list[dict[str, float]], last_epoch: int) -> Callback:
    """Keeps each epoch's figures, and ends the training after `last_epoch`."""
    from lightning.pytorch.callbacks import LambdaCallback

    def on_validation_end(trainer: Trainer, module: Any) -> None:
        figures.append(dict(module.epoch_metrics))
        if module.epoch_metrics["epoch"] >= last_epoch:
            trainer.should_stop = True

    return LambdaCallback(on_validation_end=on_validation_end)


def _printing_and_saving(save_to: Path | None) -> list[Callback]:
    from lightning.pytorch.callbacks import LambdaCallback

    started = time.perf_counter()

    def on_validation_end(trainer: Trainer, module: Any) -> None:
        say(epoch_line(module.epoch_metrics, time.perf_counter() - started))
        if save_to is not None and module.best_epoch == module.epoch_metrics["epoch"]:
            trainer.save_checkpoint(save_to)

    return [LambdaCallback(on_validation_end=on_validation_end)]


def epoch_line(metrics: dict[str, float], seconds: float) -> str:
    """One epoch's figures in one line; `seconds` since the start."""
    return (
        f"epoch {metrics['epoch']:3.0f}  train_loss {metrics['train_loss']:.4f}"
        f"  val_loss {metrics['val_loss']:.4f}  val_accuracy {metrics['val_accuracy']:.4f}"
        f"  lr {metrics['lr']:.2e}  images/s {metrics['images_per_second']:6.0f}"
        f"  {seconds:6.1f} s"
    )


if __name__ == "__main__":
    outlast_streams()
    sys.exit(main())
