"""Plans, `--set` words, flags and search spaces from anywhere: a plan that works, or one line."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import NASTY, TREES, damaged_text, damaged_trees, fuzz, limited, on_cases
from hypothesis import strategies as st

from cifar_tune.errors import CifarTuneError, PlanError
from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.flags import field_flags, plan_of
from cifar_tune.plan.forecast import describe
from cifar_tune.plan.load import FIXED, config_folder, load_plan
from cifar_tune.plan.machine import Machine
from cifar_tune.plan.points import check_point, count_points, draw_random, lies_in
from cifar_tune.plan.section import dump_yaml, known_fields
from cifar_tune.plan.space import KINDS, SpaceError, parse_space
from cifar_tune.plan.strict_yaml import parse_yaml
from cifar_tune.session import folder as folders
from cifar_tune.tune import _tune_parser
from cifar_tune.vision.config import VisionPlan
from cifar_tune.vision.task import VISION

MACHINE = Machine(cpus=2, gpus=0, gpu_name=None, cpu_name="x", cpu_bf16=True, gpu_bf16=False)
WORDS = [
    "", "~", "-1", "0", "1e-3", "1e999", ".nan", ".inf", "no", "true", "[", "]", "{", "}", "&a", "*a",
    "<<", "!!python/object:os.system", "!x", "|", ">", "'", '"', "#", "---", "...", "? ", ": ", "- ",
    "\0", "\ufeff", "\x85", "\u2028", "9" * 5000, "1:30", "0x1f", "0o7", "2020-01-01", "auto",
    "{choice: [1, 2]}", "{grid: [a]}", "[" * 30, "{a: " * 30, "%YAML 9.9", "a" * 2000,
]  # fmt: skip
CONFIGS = [path.read_text() for path in sorted(config_folder().glob("*.yaml"))]
DEFAULTS = VisionPlan().model_dump(mode="json")
SEARCHED = [
    name for name in known_fields(VisionPlan) if "." in name and name not in FIXED | VISION.fixed
]

YAML_TEXT = st.one_of(
    *(damaged_text(text, WORDS) for text in CONFIGS),
    st.text(alphabet="ab:- \n[]{}&*!'\"#|>%@`,?~0123456789.e\t", max_size=80),
    st.text(max_size=40),
)
PLAN_TREES = st.one_of(
    damaged_trees(DEFAULTS),
    *(damaged_trees(yaml.safe_load(text)) for text in CONFIGS),
)


def entries() -> st.SearchStrategy[Any]:
    """Entries of a space: most are well formed, some sensible, some nothing at all."""
    numbers = st.one_of(st.integers(-4, 600), st.floats(allow_nan=True), NASTY)
    values = st.one_of(
        st.lists(st.integers(1, 300), min_size=1, max_size=6), st.lists(numbers, max_size=3), TREES
    )
    conditions = st.dictionaries(st.sampled_from(SEARCHED[:8]), values | NASTY, max_size=2)
    entry = st.dictionaries(st.sampled_from([*KINDS, "chioce"]), values, min_size=1, max_size=1)
    return st.one_of(
        entry, entry, st.tuples(entry, conditions).map(lambda p: {**p[0], "when": p[1]}), TREES
    )


SPACES = st.dictionaries(
    st.sampled_from(SEARCHED[:8]) | st.sampled_from(list(known_fields(VisionPlan))),
    entries(),
    max_size=5,
)


def check_plan(plan: Plan, folder: Path) -> None:
    """What `tune --dry-run` does with a plan; it is written and read back as it was."""
    path = folder / "again.yaml"
    path.write_text(dump_yaml(plan), encoding="utf-8")
    assert load_plan(path) == plan
    forecast = preflight.check(plan, [MACHINE])
    folders.check_folder(folders.results_folder(plan, None))
    assert describe(forecast, VISION.find(plan), folder / "results", disk=False)


@on_cases
def test_the_text_of_a_plan(cases: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"

    def check(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            plan = load_plan(path)
        except PlanError as error:
            assert str(error).startswith(str(path))
            raise
        check_plan(plan, tmp_path)

    fuzz(cases, YAML_TEXT, check)


@on_cases
def test_the_values_of_a_plan(cases: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    def check(tree: Any) -> None:
        text = yaml.safe_dump(tree, allow_unicode=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        check_plan(load_plan(path), tmp_path)

    fuzz(cases, PLAN_TREES, check)


@on_cases
def test_the_words_of_set_and_of_the_flags(cases: str, tmp_path: Path) -> None:
    keys = st.sampled_from(
        [*known_fields(VisionPlan), "search.space.optim.lr", "search.space.", "optim", "x", ""]
    )
    values = st.one_of(
        st.sampled_from(WORDS),
        st.text(alphabet="ab:- []{}!'\"0123456789.e,", max_size=30),
        TREES.map(lambda tree: yaml.safe_dump(tree, default_flow_style=True, width=10**6)),
    )
    sets = st.tuples(keys, values).map(lambda pair: ["--set", f"{pair[0]}={pair[1]}"])
    valued = [name for name, flag in field_flags(VisionPlan).items() if flag.metavar]
    flags = st.tuples(st.sampled_from(valued), values).map(lambda pair: [f"{pair[0]}={pair[1]}"])

    def check(given: list[list[str]]) -> None:
        words = [word for pair in given for word in pair]
        try:
            plan = plan_of(_tune_parser().parse_args(words), print)
        except PlanError as error:
            assert "--" in str(error)
            raise
        check_plan(plan, tmp_path)

    too_long = [["--out=" + "long" * 100], ["--data-dir=" + "long" * 100]]
    known = [*([one] for one in too_long), [["--name=\\x00"]], [["--data-dir=/dev/stdin"]]]
    known.append([["--time-budget=1e-3"]])  # a text that is a number in YAML 1.2 alone
    fuzz(cases, st.lists(sets | flags, min_size=1, max_size=3), check, *known)


@on_cases
def test_search_spaces(cases: str) -> None:
    def check(raw: dict[str, Any]) -> None:
        try:
            space = parse_space(raw)
        except SpaceError as error:
            assert str(error).startswith("search.space")
            return
        count = count_points(space)
        assert count is None or count >= 0
        for index in range(3):
            drawn = draw_random(space, 7, index)
            assert lies_in(space, drawn)
            if drawn:
                check_point(space, drawn)
            for dimension in space:
                value = dimension.quantile(random.Random(index).random())
                assert not isinstance(value, float) or math.isfinite(value)

    fuzz(cases, SPACES, check)


@on_cases
def test_known_good_points(cases: str) -> None:
    points = st.lists(st.dictionaries(st.sampled_from(SEARCHED), TREES, max_size=3), max_size=3)

    def check(case: tuple[dict[str, Any], Any]) -> None:
        search = {"space": case[0], "start_from": case[1]}
        text = yaml.safe_dump(search, default_flow_style=True, width=10**6)
        value, _ = parse_yaml(text, "here")
        load_plan(None, [f"search.{key}={yaml.safe_dump(x, default_flow_style=True, width=10**6)}" for key, x in value.items()])  # fmt: skip

    good = st.just(DEFAULTS["search"]["space"])
    fuzz(cases, st.tuples(good | SPACES, points | TREES), check)


def test_fields_that_all_hang_on_one_another_are_counted_at_once() -> None:
    """A chain of ten fields with fifty values each, every one of which a condition names."""
    names, values = SEARCHED[:10], list(range(1, 51))
    space: dict[str, Any] = {}
    for before, name in zip([None, *names], names, strict=False):
        when = {"when": {before: values}} if before else {}
        space[name] = {"choice": values, **when}
    with limited():
        assert count_points(parse_space(space)) == 50**10


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [" + "x, " * 9 + "x]\n" + "".join(f"b{i}: &b{i} [{f'*b{i - 1}, ' * 9}*a]\n" for i in range(1, 9)),
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: " + "9" * 900_000,
        "&a " * 100_000,
        "!" * 900_000,
        "'" + "x" * 900_000,
        "a: [" + "1, " * 300_000 + "]",
    ],
    ids=["aliases", "lists", "maps", "dashes", "keys", "digits", "anchors", "tags", "quote", "long list"],
)  # fmt: skip
def test_a_yaml_bomb_is_refused_within_its_seconds_and_bytes(text: str) -> None:
    with limited(), pytest.raises(CifarTuneError):
        parse_yaml(text, "here")


def test_a_layer_larger_than_torch_can_count_is_refused() -> None:
    with pytest.raises(PlanError, match=r"model\.width is 10{18}; it must be less than or equal"):
        load_plan(None, [f"model.width={10**18}"])
