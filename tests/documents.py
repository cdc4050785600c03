"""Holds documents against the program: command lines, plans, links, and names in inline code."""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import re
import runpy
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pydantic import BaseModel

from cifar_tune import load_plan
from cifar_tune.errors import CifarTuneError
from cifar_tune.plan.compatibility import check_pair
from cifar_tune.plan.flags import change_plan, plan_of
from cifar_tune.tune import COMMANDS, main

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"(?:<!-- not run: (.+?) -->\n)?^```([^\n]*)\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.M)
FLAG = re.compile(r"--[a-z][a-z-]*")
IN_REPOSITORY = re.compile(
    r"(?:\.ci|benchmarks|configs|docker|docs|tests)/[\w./*-]+|requirements[\w.]*"
)
FILE_OPTIONS = ("-f", "--file", "-r", "--requirement")
NO_FIELDS = (".json", ".ckpt", ".safetensors", ".pt2", ".onnx")  # `model.json` is a file
FOREIGN = {
    "buildah", "cd", "docker", "git", "kubectl", "optuna-dashboard", "pip", "python", "ray", "sbatch",
    "source", "tensorboard",
}  # fmt: skip
OTHERS_FLAGS = {  # in inline code: whose they are
    "--build-arg": "docker build",
    "--gpus": "docker run",
    "--secret": "docker build",
    "--shm-size": "docker run",
    "--stop-timeout": "docker run",
}


@dataclass(frozen=True)
class Block:
    """A fenced block; `spared` is the reason why it is not run."""

    language: str
    text: str
    line: int
    spared: str | None


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a document."""
    return [
        Block(found[2].strip(), found[3], text.count("\n", 0, found.start(2)) + 1, found[1])
        for found in FENCE.finditer(text)
    ]


def problems_of(path: Path) -> list[str]:
    """Everything in a document that the program or the files don't bear out."""
    text = path.read_text(encoding="utf-8")
    return [*problems_of_blocks(text), *problems_of_inline_code(text), *dead_links(path)]


# Blocks


def problems_of_blocks(text: str) -> list[str]:
    """What is wrong with the fenced blocks of a text, but for Python's, which are run."""
    found = blocks(text)
    hidden = text.count("```") - 2 * len(found)
    return [f"{hidden} fences are indented or not closed"] * bool(hidden) + [
        f"line {block.line}: {problem}"
        for block in found
        if block.spared is None
        for problem in _problems_of_block(block)
    ]


def _problems_of_block(block: Block) -> list[str]:
    if block.language == "bash":
        return [told for words in commands_in(block.text) for told in problems_of_command(words)]
    if block.language == "console":
        return problems_of_transcript(block.text)
    if block.language == "yaml":
        return _plan_problems(lambda: _load(block.text))
    if block.language == "text":
        shown = [line for line in block.text.splitlines() if line.startswith(("$ ", "cifar-tune "))]
        return [f"{line}: a command belongs into a bash or console block" for line in shown]
    known = block.language == "python"
    return [] if known else [f"a block of {block.language or 'no language'}, which nothing checks"]


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell script, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in ("&&", "|", ";"):
                command.append(word)
            elif command:
                yield command
                command = []


def problems_of_transcript(text: str) -> list[str]:
    """Commands that end with an error, and what they print: both are run and compared."""
    problems = []
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        line, _, shown = part.partition("\n")
        tool, *words = shlex.split(line)
        if tool != "cifar-tune" or not shown.startswith("error: "):
            problems.append(f"{line}: a transcript is of cifar-tune and of an error")
            continue
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            main(words)
        if said.getvalue() != shown:
            problems.append(f"{line}: prints {said.getvalue().strip()!r}")
    return problems


# Commands


def problems_of_command(words: list[str]) -> list[str]:
    """What is wrong with a command line: flags, values, targets, files."""
    words = [words[0].removeprefix(".venv/bin/"), *words[1:]]
    match words:
        case ["cifar-tune", *rest] | ["python", "-m", "cifar_tune.tune", *rest]:
            problems = _problems_of_ours(rest)
        case ["python", "-m", "cifar_tune.train", *rest]:
            problems = _problems_of_ours(["train", *rest])
        case ["python", program, *rest] if program.endswith(".py"):
            problems = _problems_of_program(program, rest)
        case ["make", *targets]:
            known = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
            problems = [f"no target {target}" for target in targets if target not in known]
        case ["docker", "run", *rest] if "cifar-tune" in rest:
            problems = _problems_of_ours(rest[rest.index("cifar-tune") + 1 :])
        case ["sbatch", script, *rest]:
            problems = [*_missing_files([script]), *_problems_of_ours(rest)]
        case [tool, *rest] if tool in FOREIGN:
            problems = [*_missing_files(rest), *_missing_extras(rest)]
        case _:
            problems = ["nothing checks this command"]
    return [f"{shlex.join(words)}: {problem}" for problem in problems]


def _problems_of_ours(words: list[str]) -> list[str]:
    command = words[0] if words and words[0] in COMMANDS else "tune"
    parser = parser_of(command)
    arguments = _parsed(parser, words[words[:1] == [command] :])
    if isinstance(arguments, list):
        return arguments
    if command == "tune":
        return _plan_problems(lambda: check_pair(plan_of(arguments, print)))
    if command == "train":
        return _plan_problems(lambda: plan_of(arguments, print))
    if hasattr(arguments, "time_budget"):  # goes on with a recorded plan
        return _plan_problems(lambda: change_plan(load_plan(), arguments))
    return []


def _problems_of_program(program: str, words: list[str]) -> list[str]:
    if missing := _missing_files([program]):
        return missing
    arguments = _parsed(parser_of_program(program), words)
    return arguments if isinstance(arguments, list) else []


def _parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace | list[str]:
    """The namespace, or what is wrong."""
    known = parser._option_string_actions
    short = [word for word in words if FLAG.match(word) and word.partition("=")[0] not in known]
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            arguments = parser.parse_args(words)
    except CifarTuneError as error:
        return [str(error)]
    except SystemExit as end:
        return [said.getvalue().strip().rpartition("error: ")[2]] if end.code else []
    return [f"no flag {word}" for word in short] or arguments  # argparse takes a part of a name


@functools.cache
def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command of ours really uses."""
    return _first_parser(lambda: main([command]))


@functools.cache
def parser_of_program(program: str) -> argparse.ArgumentParser:
    """The parser of a program in a folder of the repository."""
    path = ROOT / program
    with mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
        return _first_parser(lambda: runpy.run_path(str(path), run_name="__main__"))


class _Reached(BaseException):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _first_parser(run: Callable[[], object]) -> argparse.ArgumentParser:
    with _stopping_at_a_parser():
        try:
            run()
        except _Reached as reached:
            return reached.parser
    raise AssertionError("it parses no arguments")


@contextmanager
def _stopping_at_a_parser() -> Iterator[None]:
    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Reached(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        yield


def _missing_files(words: list[str]) -> list[str]:
    named = [found[0] for word in words for found in [IN_REPOSITORY.search(word)] if found]
    named += [file for option, file in itertools.pairwise(words) if option in FILE_OPTIONS]
    return [f"no file {name}" for name in dict.fromkeys(named) if not list(ROOT.glob(name))]


def _missing_extras(words: list[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        found[1] for word in words for found in [re.match(r"cifar-tune\[(.+)\]", word)] if found
    ]
    return [f"no extra {name}" for name in asked if name not in project["optional-dependencies"]]


def _plan_problems(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except CifarTuneError as error:
        return [str(error)]
    return []


def _load(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        load_plan(file.name)


# Inline code


def problems_of_inline_code(text: str) -> list[str]:
    """Flags, commands, fields and files in inline code that are none."""
    prose = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    own = "task: lightning" in text  # whose sections take any field
    return [
        f"line {prose.count(chr(10), 0, found.start()) + 1}: {problem}"
        for found in INLINE.finditer(prose)
        for problem in _problems_of_code(" ".join(found[1].split()), own)
    ]


def _problems_of_code(code: str, own: bool) -> list[str]:
    tool, *words = code.split()
    if tool == "cifar-tune" and words in [[command] for command in COMMANDS]:  # it is only named
        return []
    if tool in FOREIGN | {"make", "cifar-tune"} and words:
        return problems_of_command(shlex.split(code))
    flags = [flag for flag in FLAG.findall(code) if flag not in {*known_flags(), *OTHERS_FLAGS}]
    files = _missing_files([code]) if "://" not in code else []
    if re.fullmatch(r"test_[\w*]+\.py", code) and not list(ROOT.glob(f"tests/**/{code}")):
        files = [f"no file {code}"]
    return [
        f"{code}: {problem}"
        for problem in (
            *(f"no flag {flag}" for flag in flags),
            *files,
            *([] if own else _field_problems(code)),
        )
    ]


def _field_problems(code: str) -> list[str]:
    """`section.field`, with `=value` or `: value` or without: whether the plan has and takes it."""
    sections = {name: value for name, value in load_plan() if isinstance(value, BaseModel)}
    found = re.fullmatch(
        rf"(?:--set )?((?:{'|'.join(sections)})\.[a-z0-9_.]+)(?:(=|: )(.+))?", code
    )
    if found is None or code.endswith(NO_FIELDS):
        return []
    field, sign, value = found.groups()
    if sign is None:
        section, _, name = field.partition(".")
        return [] if name in type(sections[section]).model_fields else [f"no field {field}"]
    space = "search.space." if sign == ": " and value.startswith("{") else ""
    return _plan_problems(lambda: load_plan(None, [f"{space}{field}={value}"]))


@functools.cache
def known_flags() -> frozenset[str]:
    """All flags of our commands."""
    return frozenset(
        flag for command in COMMANDS for flag in parser_of(command)._option_string_actions
    )


# Links


def dead_links(path: Path) -> list[str]:
    """Relative links whose file or heading is not there."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return [
        f"{target}: {problem}"
        for target in LINK.findall(text)
        if not re.match(r"[a-z]+:", target)
        for problem in _problems_of_link(path, target)
    ]


def _problems_of_link(path: Path, target: str) -> list[str]:
    name, _, anchor = target.partition("#")
    file = path.parent / name if name else path
    if not file.exists():
        return ["no such file"]
    if anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
        return ["no such heading"]
    return []


def anchors(text: str) -> set[str]:
    """The anchors that a page shows for its headings, by GitHub's rule."""
    seen: dict[str, int] = {}
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{number}" if number else slug)
    return found
