"""The command line: `python -m cifar_tune.tune`, and `cifar-tune` with its commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NoReturn

from cifar_tune import __version__
from cifar_tune.errors import PlanError, StorageError, exit_code_of
from cifar_tune.files import as_path
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.parser import Parser
from cifar_tune.process import (
    check_shown,
    current_directory,
    end_on_signals,
    outlast_streams,
    say,
)

if TYPE_CHECKING:
    from cifar_tune.plan.config import Plan
    from cifar_tune.plan.machine import Machine


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; `tune` if none is named. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code_of(lambda: _run(words))


def _run(words: list[str]) -> int:
    command = words.pop(0) if words and not words[0].startswith("-") else "tune"
    if command not in COMMANDS:
        hint = nearest(command, COMMANDS)
        raise PlanError(f"{command} is no command; they are {', '.join(COMMANDS)}{hint}")
    if command != "predict":  # which only shows, and shows any name
        check_given(words)
    run = COMMANDS[command]
    if isinstance(run, str):
        run = resolve_name(run)
    return run(words)


def check_given(words: Sequence[str]) -> None:
    """A PlanError if words are no text, or the directory is gone: neither can be recorded."""
    here = current_directory()
    if here is None:
        raise PlanError("the current directory was deleted; change to one that is there")
    for word in (*words, here):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise PlanError(
                f"{word.encode(errors='backslashreplace').decode()} is no text in"
                f" {sys.getfilesystemencoding()}, and could be neither recorded nor shown; give the"
                " file or folder another name"
            ) from None


def command_line(words: Sequence[str] = ()) -> NoReturn:
    """Run `main` with these words, else with those of this process, and end it with its exit code.

    `cifar-tune` alone shows its help.

    Where Ray ran, the process ends without tearing down the interpreter: while it does that, a
    thread that Ray leaves behind now and then ends it with 1, after a search that went well.
    """
    outlast_streams()
    end_on_signals()
    try:
        code = main(words or sys.argv[1:] or ["--help"])
    except SystemExit as end:  # --help, or a signal before the search has begun
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    if "ray" not in sys.modules:
        sys.exit(code)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def tune(words: Sequence[str]) -> int:
    """`cifar-tune tune`: a new search, or with `--resume auto` one that may be there already."""
    arguments = _tune_parser().parse_args(words)

    from cifar_tune.plan.flags import plan_of
    from cifar_tune.session.launch import launch

    plan = plan_of(arguments, say)
    _, code = launch(
        plan,
        say,
        config=arguments.config,
        resume=arguments.resume is not None,
        dry_run=arguments.dry_run,
        wait=arguments.wait_for_resources,
    )
    if arguments.dry_run:
        check_shown()
    return code


def resume(words: Sequence[str]) -> int:
    """`cifar-tune resume DIR`: go on with a search that was stopped or killed."""
    parser = _folder_parser("resume", "Go on with a search that was stopped or killed.")
    parser.add_argument("--dry-run", action="store_true", help="print what would go on, and stop")
    arguments = parser.parse_args(words)
    folder, machine, changes = _recorded(arguments)

    from cifar_tune.session.resume import judge_search, resume_search

    if arguments.dry_run:
        judge_search(folder, machine, say, changes=changes)
        return 0
    return resume_search(folder, machine, say, changes=changes)


def retry_failed(words: Sequence[str]) -> int:
    """`cifar-tune retry-failed DIR`: try the failed trials of a search again, and no others."""
    parser = _folder_parser("retry-failed", "Try the failed trials of a search again.")
    folder, machine, changes = _recorded(parser.parse_args(words))

    from cifar_tune.session.resume import retry_failed

    return retry_failed(folder, machine, say, changes=changes)


def confirm(words: Sequence[str]) -> int:
    """`cifar-tune confirm DIR`: the finals of a search."""
    parser = _folder_parser(
        "confirm",
        "Compare a search's best trials on fresh images, train the best for good, and open the"
        " test split once.",
        FINALS_FLAGS,
    )
    parser.add_argument(
        "--open-test-again",
        action="store_true",
        help="look at the test split once more, which is recorded",
    )
    arguments = parser.parse_args(words)
    if arguments.candidates is not None and arguments.trials is None:
        arguments.trials = ""  # the best, and no longer those that were named before
    folder, machine, changes = _recorded(arguments)

    from cifar_tune.session.resume import confirm_search

    again = arguments.open_test_again
    return confirm_search(folder, machine, say, changes=changes, again=again)


def extend(words: Sequence[str]) -> int:
    """`cifar-tune extend DIR`: more trials, or longer trainings, for a search."""
    from cifar_tune.plan.flags import add_set

    parser = _folder_parser(
        "extend",
        "Give a search more trials (--num-samples +20 or the new total) or longer trainings.",
        ("--num-samples", "--max-epochs"),
    )
    add_set(parser)
    folder, machine, wanted = _recorded(parser.parse_args(words))

    from cifar_tune.session.resume import extend_search

    return extend_search(folder, machine, say, wanted=wanted)


def _recorded(arguments: argparse.Namespace) -> tuple[Path, Machine, Plan]:
    """The folder that is named, this machine, the recorded plan with the flags of this start."""
    from cifar_tune.plan.flags import change_plan
    from cifar_tune.plan.machine import read_machine
    from cifar_tune.record.results import Results

    folder = as_path(arguments.folder).absolute()
    return folder, read_machine(), change_plan(Results.read(folder).plan, arguments)


def report(words: Sequence[str]) -> int:
    """`cifar-tune report DIR`: write the page of a search, running or not."""
    parser = Parser(
        prog="cifar-tune report", description="Write the page of a search: DIR/report.html."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="its results folder")
    parser.add_argument("--quiet", action="store_true", help="do not print where it lies")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="write all that comes from the journal anew, the tables too; not while it runs",
    )
    arguments = parser.parse_args(words)
    folder = as_path(arguments.folder).absolute()

    from cifar_tune.report.page import rebuild, write_report

    try:
        page = rebuild(folder) if arguments.rebuild else write_report(folder)
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder} can't be written: {error.strerror}; make room or take"
            " away what is in the way, or give a copy of the folder"
        ) from None
    if not arguments.quiet:
        say(str(page))
    return 0


FINALS_FLAGS = (
    "--candidates", "--trials", "--final-seeds", "--prefer", "--margin", "--ensemble",
    "--flip-averaging", "--translate-averaging",
)  # fmt: skip
# Those that stand elsewhere are found by name: each imports what no other command needs.
COMMANDS: dict[str, Callable[[Sequence[str]], int] | str] = {
    "tune": tune,
    "resume": resume,
    "extend": extend,
    "retry-failed": retry_failed,
    "confirm": confirm,
    "train": "cifar_tune.train.__main__:main",
    "report": report,
    "list": "cifar_tune.report.listing:main",
    "compare": "cifar_tune.report.comparison:main",
    "predict": "cifar_tune.vision.predict:main",
    "data": "cifar_tune.vision.data.command:main",
}


def _tune_parser() -> argparse.ArgumentParser:
    from cifar_tune.plan.flags import add_plan_flags

    parser = Parser(
        prog="cifar-tune tune",
        description="Search the hyperparameters of an image classifier (CIFAR-10, or a folder of"
        " your images), or of your own LightningModule: --module.",
        epilog=f"Other commands: cifar-tune {' | '.join(list(COMMANDS)[1:])}, each with --help.",
    )
    add_plan_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    parser.add_argument(
        "--resume", choices=["auto"], help="go on with --name if it is there, else start it"
    )
    parser.add_argument(
        "--wait-for-resources",
        action="store_true",
        help="wait until the cluster of --address has room",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _folder_parser(
    command: str, description: str, flags: Sequence[str] = ()
) -> argparse.ArgumentParser:
    from cifar_tune.plan.flags import add_flags, resume_flags

    parser = Parser(prog=f"cifar-tune {command}", description=description)
    parser.add_argument("folder", type=Path, metavar="DIR", help="its results folder")
    add_flags(parser, [*resume_flags(), *flags])
    return parser


if __name__ == "__main__":
    command_line(sys.argv[1:] or ["tune"])
