"""Search spaces: what an entry may say, and what it gives."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_tune.plan.space import Dimension, Prior, SpaceError, Value, parse_space

ALMOST_ONE = math.nextafter(1.0, 0.0)


LISTED = st.lists(st.sampled_from(["x", "y", None, True, 2, 3.5]), min_size=1, unique_by=repr)


def bounds(number: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)


ENTRIES = st.one_of(
    LISTED.map(lambda values: {"choice": values}),
    LISTED.map(lambda values: {"grid": values}),
    bounds(st.floats(-1e14, 1e14)).map(lambda ends: {"uniform": ends}),
    bounds(st.floats(1e-300, 1e14)).map(lambda ends: {"loguniform": ends}),
    bounds(st.integers(-(10**14), 10**14)).map(lambda ends: {"int": ends}),
    bounds(st.integers(1, 10**14)).map(lambda ends: {"logint": ends}),
    bounds(st.integers(0, 40)).map(lambda ends: {"pow2": [2 ** ends[0], 2 ** ends[1]]}),
)


PARTS = st.floats(0, ALMOST_ONE)


def dimension_of(entry: Mapping[str, Any]) -> Dimension:
    return parse_space({"a": entry})[0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, r"is 3; it must be one of .*; a value that is not searched is given with --set a=3"),
        ([0.1, 0.2], r"is \[0\.1, 0\.2\]; .*; did you mean \{choice: \[0\.1, 0\.2\]\}\?"),
        ("uniform", r"is 'uniform'; .*, such as \{loguniform: \[0\.01, 1\.0\]\}"),
        (None, r"is None; .*, such as"),
        ({}, r"has no kind; give exactly one of choice"),
        ({"choice": [1], "grid": [2]}, r"has \['choice', 'grid'\]; give exactly one"),
        ({"choise": [1]}, r"has \['choise'\]; .*; did you mean choice\?"),
        ({"log_uniform": [1, 2]}, r"has \['log_uniform'\]; .*; did you mean loguniform\?"),
        ({"choice": []}, r"has choice: \[\]; give a list of at least one value"),
        ({"choice": "abc"}, r"has choice: 'abc'; give a list"),
        ({"choice": [1, 1]}, r"stands there twice"),
        ({"choice": [1, 1.0]}, r"stands there twice"),
        ({"choice": [[1]]}, r"value \[1\]; give numbers, words or booleans"),
        ({"grid": []}, r"has grid: \[\]"),
        ({"uniform": [1]}, r"give two bounds"),
        ({"uniform": ["a", 2]}, r"bound 'a'; bounds must be finite numbers below"),
        ({"uniform": [0, float("inf")]}, r"bound inf; bounds must be finite numbers"),
        ({"uniform": [2, 1]}, r"low must be below high: swap them"),
        ({"uniform": [1, 1]}, r"low must be below high"),
        ({"loguniform": [0, 1]}, r"low 0; a logarithmic range must start above 0"),
        ({"loguniform": [-1, 1]}, r"must start above 0"),
        ({"int": [1.5, 3]}, r"bound 1.5; bounds must be whole numbers"),
        ({"int": [True, 3]}, r"bound True"),
        ({"logint": [0, 8]}, r"must start above 0"),
        ({"pow2": [3, 8]}, r"bound 3; it must be a power of two, as 4"),
        ({"choice": [1], "when": 3}, r"has when: 3; give"),
        ({"choice": [1], "when": {"b": 1}}, r"when: b, which is not searched"),
    ],
)
def test_a_wrong_entry_is_refused_with_value_and_rule(entry: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=r"^search\.space\.a .*" + message):
        parse_space({"a": entry})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prior": 2.0}, r"has prior: 2\.0, and gives uniform: \[0, 1\]; a prior lies in it"),
        ({"prior": None}, r"has prior: None"),
        (
            {"prior": 0.5, "confidence": "sure"},
            r"confidence: 'sure'; give one of low, medium, high",
        ),
        ({"prior": 0.5, "confidence": 0.9}, r"confidence: 0\.9; give one of"),
        ({"confidence": "high"}, r"has confidence: high and no prior; give prior: a value"),
    ],
)
def test_a_wrong_prior_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space({"a": {"uniform": [0, 1], **more}})


@given(ENTRIES, PARTS)
def test_a_position_leads_back_to_its_value(entry: dict[str, Any], part: float) -> None:
    dimension = dimension_of(entry)
    value = dimension.quantile(part)
    place = dimension.position(value)
    assert 0 <= place <= 1
    if dimension.values or (dimension.size or math.inf) < 1000:
        assert dimension.quantile(place) == value


def test_a_prior_of_a_grid_is_refused() -> None:
    with pytest.raises(
        SpaceError, match=r"has prior: 1 and grid, all of which is run; give choice"
    ):
        parse_space({"a": {"grid": [1, 2], "prior": 1}})


def test_a_whole_number_stands_for_a_fraction_of_the_list() -> None:
    (dimension,) = parse_space({"a": {"choice": [0.5, 1.0], "prior": 1}})
    assert dimension.prior is not None
    assert isinstance(dimension.prior.value, float)


@given(ENTRIES, PARTS, st.sampled_from(["low", "medium", "high"]), st.integers(0, 99))
def test_draws_near_a_prior_are_values_of_the_dimension(
    entry: dict[str, Any], part: float, confidence: str, seed: int
) -> None:
    value = dimension_of(entry).quantile(part)
    listed = {"choice": entry["grid"]} if "grid" in entry else entry
    dimension = dimension_of({**listed, "prior": value, "confidence": confidence})
    assert dimension.prior is not None
    drawn = dimension.draw_near(dimension.prior, random.Random(seed))
    assert dimension.holds(drawn)
    assert dimension.density_near(dimension.prior, drawn) > 0


@pytest.mark.parametrize(
    "entry",
    [{"uniform": [0, 1]}, {"loguniform": [0.01, 1]}, {"int": [1, 9]}, {"choice": [1, 2, 3]}],
)
def test_densities_near_a_prior_have_a_mean_of_one(entry: dict[str, Any]) -> None:
    dimension = dimension_of(entry)
    prior = Prior(dimension.quantile(0.2), 0.25)
    places = [dimension.quantile((part + 0.5) / 3000) for part in range(3000)]
    mean = sum(dimension.density_near(prior, value) for value in places) / 3000
    assert mean == pytest.approx(1, abs=0.02)


def test_a_condition_that_can_never_hold_is_refused() -> None:
    space = {"a": {"choice": [1, 2]}, "b": {"uniform": [0, 1], "when": {"a": 3}}}
    with pytest.raises(SpaceError, match=r"a is never that, only choice: \[1, 2\]"):
        parse_space(space)


def test_a_condition_on_a_huge_range_is_decided_without_walking_through_it() -> None:
    space = {"a": {"int": [1, 10**14]}, "b": {"choice": [1], "when": {"a": "never"}}}
    with pytest.raises(SpaceError, match=r"a is never that, only int: \[1, 100000000000000\]"):
        parse_space(space)


def test_conditions_in_a_circle_are_refused() -> None:
    space = {
        "a": {"choice": [1, 2], "when": {"b": 1}},
        "b": {"choice": [1, 2], "when": {"a": 1}},
    }
    with pytest.raises(SpaceError, match=r"in a circle with \['a', 'b'\]"):
        parse_space(space)


@given(entry=ENTRIES, part=st.one_of(PARTS, st.just(ALMOST_ONE)))
def test_every_quantile_is_a_value_that_the_dimension_holds(
    entry: dict[str, Any], part: float
) -> None:
    dimension = dimension_of(entry)
    assert dimension.holds(dimension.quantile(part))


@given(entry=ENTRIES, parts=st.lists(PARTS, min_size=2, max_size=2).map(sorted))
def test_quantiles_never_fall(entry: dict[str, Any], parts: list[float]) -> None:
    dimension = dimension_of(entry)
    low, high = (dimension.quantile(part) for part in parts)
    if dimension.kind in ("choice", "grid"):
        assert dimension.values.index(low) <= dimension.values.index(high)
    else:
        assert low <= high  # type: ignore[operator]


@given(entry=ENTRIES, seed=st.integers(0, 2**32))
def test_a_draw_is_the_quantile_of_a_random_part(entry: dict[str, Any], seed: int) -> None:
    dimension = dimension_of(entry)
    drawn = dimension.draw(random.Random(seed))
    assert drawn == dimension.quantile(random.Random(seed).random())
    assert type(drawn) is type(dimension.quantile(0.5)) or dimension.kind in ("choice", "grid")


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"uniform": [-1, 3]}, [-1, 0, 1, 2]),
        ({"loguniform": [1e-4, 1]}, [1e-4, 1e-3, 1e-2, 1e-1]),
        ({"int": [3, 6]}, [3, 4, 5, 6]),
        ({"pow2": [4, 32]}, [4, 8, 16, 32]),
        ({"choice": ["x", None, 3, 0.5]}, ["x", None, 3, 0.5]),
        # cells [0.5, 1.5) ... [15.5, 16.5) of the integers 1 to 16, equal on a logarithmic axis
        ({"logint": [1, 16]}, [1, 1, 3, 7]),
    ],
)
def test_quarters_of_a_dimension(entry: dict[str, Any], values: list[Value]) -> None:
    quarters = [dimension_of(entry).quantile(part) for part in (0, 0.25, 0.5, 0.75)]
    if "loguniform" in entry:
        assert quarters == pytest.approx(values)
    else:
        assert quarters == values


@pytest.mark.parametrize(
    ("entry", "held", "not_held"),
    [
        ({"uniform": [0, 2]}, [0, 1, 0.5, 2.0], [True, -1e-9, 2.1, "1", None, math.nan, [1]]),
        ({"loguniform": [0.1, 10]}, [0.1, 1, 10.0], [True, 0, 11, "sgd"]),
        ({"int": [0, 3]}, [0, 3], [True, False, 1.0, 4, -1, "1", None]),
        ({"logint": [1, 3]}, [1, 3], [0, True, 2.0]),
        ({"pow2": [2, 8]}, [2, 4, 8], [1, 3, 16, 4.0, True]),
        ({"choice": [1, "x", None]}, [1, "x", None], [True, 1.0, "1", "", 2, {}]),
        ({"grid": [True, False]}, [True, False], [1, 0, None]),
        ({"choice": [0.0, 0.1]}, [0, 0.0, 0.1], [False, 1, None]),
    ],
)
def test_a_dimension_holds_what_it_can_give(
    entry: dict[str, Any], held: list[Any], not_held: list[Any]
) -> None:
    dimension = dimension_of(entry)
    assert [value for value in held if not dimension.holds(value)] == []
    assert [value for value in not_held if dimension.holds(value)] == []
