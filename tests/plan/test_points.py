"""The configurations of a space: draws, grids, counts, and which points lie in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_tune.plan.points import check_point, count_points, draw_random, grid_points, lies_in
from cifar_tune.plan.space import SpaceError, Value, parse_space


def test_draws_stay_within_bounds_and_reach_both_ends() -> None:
    space = parse_space(
        {
            "u": {"uniform": [-1.0, 1.0]},
            "l": {"loguniform": [1e-4, 1e-1]},
            "i": {"int": [1, 3]},
            "g": {"logint": [1, 4]},
            "p": {"pow2": [4, 256]},
            "c": {"choice": ["x", "y"]},
        }
    )
    drawn = [draw_random(space, 0, index) for index in range(2000)]
    assert all(-1 <= config["u"] <= 1 for config in drawn)  # type: ignore[operator]
    assert all(1e-4 <= config["l"] <= 1e-1 for config in drawn)  # type: ignore[operator]
    assert {config["i"] for config in drawn} == {1, 2, 3}
    assert {config["g"] for config in drawn} == {1, 2, 3, 4}
    assert {config["p"] for config in drawn} == {4, 8, 16, 32, 64, 128, 256}
    assert {config["c"] for config in drawn} == {"x", "y"}


def test_logarithmic_draws_give_each_decade_its_share() -> None:
    space = parse_space({"l": {"loguniform": [1e-4, 1e-1]}})
    values = [float(draw_random(space, 3, index)["l"]) for index in range(3000)]  # type: ignore[arg-type]
    decades = Counter(sum(value >= edge for edge in (1e-3, 1e-2)) for value in values)
    assert all(abs(decades[decade] / 3000 - 1 / 3) < 0.04 for decade in range(3))


def test_a_draw_depends_on_seed_and_index_alone() -> None:
    space = parse_space({"a": {"uniform": [0, 1]}, "b": {"uniform": [0, 1]}})
    assert draw_random(space, 1, 7) == draw_random(space, 1, 7)
    assert draw_random(space, 1, 7) != draw_random(space, 1, 8)
    assert draw_random(space, 1, 7) != draw_random(space, 2, 7)


def test_a_new_field_leaves_the_draws_of_the_others_as_they_were() -> None:
    one = parse_space({"a": {"uniform": [0, 1]}})
    two = parse_space({"b": {"uniform": [0, 1]}, "a": {"uniform": [0, 1]}})
    assert draw_random(one, 5, 2)["a"] == draw_random(two, 5, 2)["a"]


def test_a_conditional_field_is_drawn_only_when_its_condition_holds() -> None:
    space = parse_space(
        {
            "momentum": {"uniform": [0, 1], "when": {"name": ["sgd", "rms"]}},
            "name": {"choice": ["sgd", "adam"]},
        }
    )
    for index in range(50):
        config = draw_random(space, 0, index)
        assert ("momentum" in config) == (config["name"] == "sgd")


def test_a_grid_lists_every_combination_once_in_order() -> None:
    space = parse_space({"a": {"grid": [2, 1]}, "b": {"choice": ["x", "y"]}})
    assert grid_points(space) == [
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
    ]


def test_a_grid_lists_points_once_that_a_condition_makes_equal() -> None:
    space = parse_space({"a": {"grid": [1, 2]}, "b": {"grid": [3, 4], "when": {"a": 1}}})
    assert grid_points(space) == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2}]


def test_a_grid_of_a_range_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"is uniform, which a grid search can't list"):
        grid_points(parse_space({"a": {"uniform": [0, 1]}}))


def test_a_grid_too_large_to_list_is_refused() -> None:
    values = list(range(400))
    space = parse_space({name: {"grid": values} for name in "abc"})
    with pytest.raises(SpaceError, match=r"grid of 64,000,000 points"):
        grid_points(space)


def test_random_search_goes_round_the_grid_entries_evenly() -> None:
    space = parse_space({"a": {"grid": [1, 2]}, "b": {"grid": [3, 4]}, "c": {"uniform": [0, 1]}})
    cells = Counter(
        (config["a"], config["b"]) for config in (draw_random(space, 0, i) for i in range(8))
    )
    assert cells == {(1, 3): 2, (1, 4): 2, (2, 3): 2, (2, 4): 2}


CONDITIONAL = {
    "name": {"choice": ["sgd", "adam"]},
    "momentum": {"uniform": [0, 1], "when": {"name": "sgd"}},
    "nesterov": {"choice": [True, False], "when": {"name": "sgd"}},
    "lr": {"uniform": [0, 1]},
}


def test_a_fixed_value_is_kept_and_leaves_the_other_draws_as_they_were() -> None:
    space = parse_space(CONDITIONAL)
    free = draw_random(space, 0, 3)
    fixed = draw_random(space, 0, 3, {"lr": 0.25})
    assert fixed == {**free, "lr": 0.25}


@pytest.mark.parametrize("index", range(8))
def test_conditions_are_decided_with_the_fixed_values(index: int) -> None:
    space = parse_space(CONDITIONAL)
    assert set(draw_random(space, 0, index, {"name": "adam"})) == {"name", "lr"}
    with_sgd = draw_random(space, 0, index, {"name": "sgd", "momentum": 0.5})
    assert set(with_sgd) == set(CONDITIONAL)
    assert (with_sgd["name"], with_sgd["momentum"]) == ("sgd", 0.5)


def test_a_fixed_value_takes_the_place_of_its_cell_of_the_grid() -> None:
    space = parse_space({"a": {"grid": [1, 2]}, "b": {"grid": [3, 4]}})
    assert draw_random(space, 0, 0) == {"a": 1, "b": 3}
    assert draw_random(space, 0, 0, {"a": 2}) == {"a": 2, "b": 3}


@st.composite
def discrete_spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four fields, each with conditions on some of those before it."""
    space: dict[str, Any] = {}
    for field in "abcd"[: draw(st.integers(1, 4))]:
        entries: list[dict[str, Any]] = [{"choice": [0, 1, 2]}, {"grid": [0, 1]}, {"pow2": [1, 4]}]
        entry = dict(draw(st.sampled_from(entries)))
        for parent in draw(st.lists(st.sampled_from(sorted(space) or ["-"]), unique=True)):
            if parent in space:
                allowed = draw(st.lists(st.sampled_from([0, 1, 2, 9]), min_size=1))
                entry.setdefault("when", {})[parent] = [1, *allowed]  # 1 is always possible
        space[field] = entry
    return space


@given(discrete_spaces())
def test_points_are_counted_as_a_grid_lists_them(raw: dict[str, Any]) -> None:
    space = parse_space(raw)
    assert count_points(space) == len(grid_points(space))


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        ({"a": {"int": [1, 10**14]}, "b": {"logint": [1, 10**14]}}, 10**28),
        ({"a": {"uniform": [0, 1]}, "b": {"choice": [1, 2]}}, None),
        # 10^14 values of a, of which 7 and 9 come with three values of b
        (
            {"a": {"int": [1, 10**14]}, "b": {"choice": [1, 2, 3], "when": {"a": [7, 9, 9, 0]}}},
            10**14 + 4,
        ),
    ],
)
def test_huge_spaces_are_counted_too(raw: dict[str, Any], count: int | None) -> None:
    assert count_points(parse_space(raw)) == count


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            {"width": 3},
            r"width is not there, and the point has width: 3; leave it out, or search it",
        ),
        ({"lr": 2}, r"lr gives uniform: \[0, 1\], and the point has 2; change the point"),
        ({"lr": True}, r"lr gives uniform: \[0, 1\], and the point has True"),
        ({"name": "sgdd"}, r"name gives choice: \['sgd', 'adam'\], and the point has 'sgdd'"),
        (
            {"momentum": 0.5},
            r"momentum applies when name is sgd, and the point has no name; give it too: name: sgd$",
        ),
        (
            {"name": "adam", "momentum": 0.5},
            r"momentum applies when name is sgd, and the point has name: adam; leave momentum out",
        ),
    ],
)
def test_a_point_beside_the_space_is_refused(point: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        check_point(parse_space(CONDITIONAL), point)


@pytest.mark.parametrize(
    "point",
    [
        {"lr": 0},
        {"name": "adam"},
        {"momentum": 0.5, "name": "sgd"},
        {"nesterov": True, "name": "sgd", "lr": 1.0, "momentum": 0},
    ],
)
def test_a_point_or_a_part_of_one_is_kept_by_every_draw(point: dict[str, Any]) -> None:
    space = parse_space(CONDITIONAL)
    check_point(space, point)
    for index in range(5):
        drawn = draw_random(space, 1, index, point)
        assert point.items() <= drawn.items()
        assert lies_in(space, drawn)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "adam"},
        {"name": "adam", "lr": 0.5, "momentum": 0.5},
        {"name": "adam", "lr": 0.5, "width": 3},
        {"name": "sgd", "lr": 0.5, "momentum": 0.5},
        {"name": "adam", "lr": 2.0},
        {"lr": 0.5},
        {},
    ],
)
def test_a_configuration_with_a_field_too_many_or_too_few_lies_outside(
    config: dict[str, Value],
) -> None:
    assert not lies_in(parse_space(CONDITIONAL), config)
