from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cifar_tune.spaces import SpaceError, draw_random, grid_points, parse_space


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, r"is 3; it must be one of"),
        ({}, r"has no kind; give exactly one of choice"),
        ({"choice": [1], "grid": [2]}, r"has \['choice', 'grid'\]; give exactly one"),
        ({"choise": [1]}, r"has \['choise'\]"),
        ({"choice": []}, r"has choice: \[\]; give a list of at least one value"),
        ({"choice": "abc"}, r"has choice: 'abc'; give a list"),
        ({"choice": [1, 1]}, r"stands there twice"),
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


def test_a_condition_that_can_never_hold_is_refused() -> None:
    space = {"a": {"choice": [1, 2]}, "b": {"uniform": [0, 1], "when": {"a": 3}}}
    with pytest.raises(SpaceError, match=r"a is never that, only \(1, 2\)"):
        parse_space(space)


def test_conditions_in_a_circle_are_refused() -> None:
    space = {
        "a": {"choice": [1, 2], "when": {"b": 1}},
        "b": {"choice": [1, 2], "when": {"a": 1}},
    }
    with pytest.raises(SpaceError, match=r"in a circle with \['a', 'b'\]"):
        parse_space(space)


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
