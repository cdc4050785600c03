"""Our space in ConfigSpace's terms and back."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_tune.plan.points import draw_random, lies_in
from cifar_tune.plan.space import Value, parse_space
from cifar_tune.search.bohb_space import BohbSpace

pytest.importorskip("ConfigSpace", reason="bohb's packages are an extra: cifar-tune[bohb]")

EVERYTHING: dict[str, dict[str, Any]] = {
    "choice": {"choice": [1, "one", None, True, 1.5]},
    "grid": {"grid": [False, 0]},
    "single": {"choice": [7]},
    "uniform": {"uniform": [-1.0, 0.1]},
    "loguniform": {"loguniform": [1e-5, 0.3]},
    "int": {"int": [-2, 2]},
    "logint": {"logint": [1, 1000]},
    "pow2": {"pow2": [4, 256]},
    "when_listed": {"uniform": [0.0, 1.0], "when": {"choice": [None, "one"]}},
    "when_numbers": {"int": [1, 3], "when": {"pow2": [8, 16], "int": 2}},
    "when_single": {"int": [1, 3], "when": {"single": 7}},
    "single_when": {"choice": [9], "when": {"when_numbers": [1, 2]}},
    "when_single_when": {"choice": ["a", "b"], "when": {"single_when": 9}},
}
SPACE = parse_space(EVERYTHING)


def same(left: dict[str, Value], right: dict[str, Value]) -> bool:
    """Equal, and not by Python's `True == 1`."""
    kinds = [{name: type(value) for name, value in one.items()} for one in (left, right)]
    return left == right and kinds[0] == kinds[1]


def test_what_configspace_draws_becomes_plain_values_that_lie_in_the_space() -> None:
    translated = BohbSpace(SPACE)
    drawn = [
        translated.decode(dict(c)) for c in translated.config_space(3).sample_configuration(300)
    ]
    assert all(lies_in(SPACE, values) for values in drawn)
    assert {type(value) for values in drawn for value in values.values()} == {
        int, float, str, bool, type(None)
    }  # fmt: skip
    seen = {name for values in drawn for name in values}
    assert seen == set(EVERYTHING)


def test_what_we_draw_is_legal_there_and_comes_back_as_it_was() -> None:
    import ConfigSpace

    translated = BohbSpace(SPACE)
    theirs = translated.config_space(0)
    for index in range(300):
        values = draw_random(SPACE, 0, index)
        config = translated.encode(values)
        ConfigSpace.Configuration(theirs, config).check_valid_configuration()
        assert same(translated.decode(config), values)


def test_a_seed_gives_the_same_configurations() -> None:
    def draw(seed: int) -> list[dict[str, Value]]:
        translated = BohbSpace(SPACE)
        theirs = translated.config_space(seed)
        return [translated.decode(dict(c)) for c in theirs.sample_configuration(5)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_field_with_one_value_is_left_out_and_put_back() -> None:
    space = parse_space({"a": {"choice": ["x"]}, "b": {"choice": [2], "when": {"a": "x"}}})
    translated = BohbSpace(space)
    assert len(translated.config_space(0)) == 0
    assert translated.decode({}) == {"a": "x", "b": 2}


def test_a_value_that_rounding_put_beyond_a_bound_comes_back_to_it() -> None:
    translated = BohbSpace(parse_space({"a": {"loguniform": [0.01, 0.3]}}))
    assert translated.decode({"a": 0.30000000000001}) == {"a": 0.3}
    assert translated.decode({"a": 0.00999999999999}) == {"a": 0.01}
