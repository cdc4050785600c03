"""The flags of a search: each one a name for a field of the plan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan, plan_from

# flag: (field, kind of value, help with the default, which is the field's)
FLAGS: dict[str, tuple[str, str | None, str]] = {
    "--num-samples": ("search.num_samples", "N", "configurations to try (16; grid: all)"),
    "--searcher": (
        "search.searcher",
        "NAME",
        "grid, random, sobol, tpe, gp, cmaes, bohb or your own package.module:factory (random)",
    ),
    "--scheduler": (
        "search.scheduler",
        "NAME",
        "asha, halving, hyperband, bohb, median, pbt or none (asha)",
    ),
    "--time-budget": ("search.time_budget", "TIME", "stop after 90s, 20m or 2h; resumable (none)"),
    "--trial-timeout": (
        "search.trial_timeout",
        "TIME",
        "end a trial that reports nothing for so long (none)",
    ),
    "--fail-fast": ("search.fail_fast", None, "end the search when a trial fails (off)"),
    "--max-epochs": ("train.max_epochs", "N", "epochs of a full training (9)"),
    "--candidates": (
        "finals.candidates",
        "K",
        "the best so many trials are compared in the finals (3)",
    ),
    "--final-seeds": ("finals.seeds", "N", "fresh seeds of the finals; 0: no finals (5)"),
    "--prefer": (
        "finals.prefer",
        "WHICH",
        "best: the highest mean; cheap: the cheapest that is shown to be as good (best)",
    ),
    "--margin": ("finals.margin", "X", "with cheap: how much worse it may be at most (0.005)"),
    "--flip-averaging": (
        "finals.flip_averaging",
        None,
        "score an image and its mirror image on the test split (off)",
    ),
    "--gpus-per-trial": (
        "resources.gpus_per_trial",
        "X",
        "0, a share such as 0.5, or a whole number (auto)",
    ),
    "--workers-per-trial": (
        "resources.workers_per_trial",
        "N",
        "processes that train one trial together (one for each whole GPU, else 1)",
    ),
    "--cpus-per-trial": (
        "resources.cpus_per_trial",
        "N",
        "CPUs of a trial (1 a worker without a GPU)",
    ),
    "--max-concurrent": (
        "resources.max_concurrent",
        "N",
        "trials at once (what there is room for)",
    ),
    "--address": (
        "resources.address",
        "ADDRESS",
        "Ray cluster to join: auto or HOST:PORT of its head (this machine alone)",
    ),
    "--storage-path": (
        "resources.storage_path",
        "PATH",
        "path or URI for checkpoints that all nodes reach (the results folder)",
    ),
    "--data-dir": ("data.path", "PATH", "folder or archive with the dataset (the user's cache)"),
    "--out": ("out", "DIR", "folder for results (results)"),
    "--name": ("name", "NAME", "name of this search's folder in it (<config>-<n>)"),
    "--seed": ("seed", "N", "seed of configurations and trainings (0)"),
    "--quiet": ("tracking.quiet", None, "show no progress, only warnings and the outcome (off)"),
    "--wandb": ("tracking.wandb", "PROJECT", "log to this Weights & Biases project (off)"),
}
WORDS = {
    "--time-budget",
    "--trial-timeout",
    "--address",
    "--storage-path",
    "--data-dir",
    "--out",
    "--name",
    "--wandb",
}
RESUME_FLAGS = (
    "--time-budget", "--trial-timeout", "--fail-fast", "--gpus-per-trial", "--cpus-per-trial",
    "--workers-per-trial", "--max-concurrent", "--address", "--storage-path", "--data-dir",
    "--quiet", "--wandb",
)  # fmt: skip


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and all flags that name fields."""
    parser.add_argument("--config", metavar="FILE", help="a plan, or the name of one that ships")
    add_set(parser)
    add_flags(parser, FLAGS)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change any field of the plan; repeatable; a flag of its own wins over it",
    )


def add_flags(parser: argparse.ArgumentParser, flags: Iterable[str]) -> None:
    """Add some of the flags that name fields."""
    for flag in flags:
        _, metavar, text = FLAGS[flag]
        if metavar is None:
            parser.add_argument(flag, action="store_const", const="true", help=text)
        else:
            parser.add_argument(flag, metavar=metavar, help=text)


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that parsed flags ask for.

    Raises:
        PlanError: as `load_plan`, naming the flag.
    """
    given = _given(arguments)
    return load_plan(arguments.config, [*arguments.set, *given], names=given)


def change_plan(plan: Plan, arguments: argparse.Namespace) -> Plan:
    """A recorded plan with flags of this start.

    A time budget, `--fail-fast` and `--quiet` count for one start only. `--num-samples +20` and
    `--final-seeds +5` mean so many more than recorded.

    Raises:
        PlanError: as `load_plan`, naming the flag.
    """
    raw = plan.model_dump(mode="json")
    raw["search"].update(time_budget=None, fail_fast=False)
    raw["tracking"].update(quiet=False)
    recorded = {"num_samples": plan.search.num_samples, "final_seeds": plan.finals.seeds}
    for name, number in recorded.items():
        more = getattr(arguments, name, None) or ""
        if more.startswith("+") and more[1:].isdecimal():
            setattr(arguments, name, str(number + int(more[1:])))
    given = _given(arguments)
    sets = getattr(arguments, "set", [])
    return plan_from(raw, "the recorded plan", [*sets, *given], names=given)


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    """Overrides of the flags that were given, each with the flag as its user wrote it."""
    given = {}
    for flag, (field, metavar, _) in FLAGS.items():
        text = getattr(arguments, flag.removeprefix("--").replace("-", "_"), None)
        if text is not None:
            # A path or a name is a word whatever it looks like: JSON quotes it for YAML.
            value = json.dumps(text, ensure_ascii=False) if flag in WORDS else text
            given[f"{field}={value}"] = flag if metavar is None else f"{flag} {text}"
    return given
