"""Our search space in ConfigSpace's terms, which BOHB's model is built on, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cifar_tune.plan.space import FRACTIONS, LISTS, Dimension, Space, Value

Condition = tuple[str, tuple[Value, ...]]


class BohbSpace:
    """Translates configurations, which lie in the space.

    Listed values go as their places in the list, because ConfigSpace would turn `[1, "a", null]`
    into words; powers of two go as their exponents. A field with a single value is left out: BOHB's
    densities would divide by zero.
    """

    def __init__(self, space: Space) -> None:
        self.dimensions = space
        self._constants = {d.field: d.values[0] for d in space if len(d.values) == 1}
        self._varied = {d.field: d for d in space if d.field not in self._constants}

    def config_space(self, seed: int) -> Any:
        """The `ConfigSpace.ConfigurationSpace`; it holds no field if nothing varies."""
        import ConfigSpace

        space = ConfigSpace.ConfigurationSpace(seed=seed)
        parameters = {field: _parameter(d) for field, d in self._varied.items()}
        space.add(*parameters.values())
        for dimension in self._varied.values():
            conditions = [
                ConfigSpace.InCondition(
                    parameters[dimension.field],
                    parameters[name],
                    [_encode(self._varied[name], value) for value in allowed],
                )
                for name, allowed in self._conditions(dimension)
            ]
            if len(conditions) > 1:
                space.add(ConfigSpace.AndConjunction(*conditions))
            else:
                space.add(*conditions)
        return space

    def _conditions(self, dimension: Dimension) -> list[Condition]:
        """Those on varied fields: that on a constant holds wherever the constant applies."""
        space = {other.field: other for other in self.dimensions}
        conditions: list[Condition] = []
        for name, allowed in dimension.when:
            if name in self._varied:
                conditions.append((name, allowed))
            else:
                conditions += self._conditions(space[name])
        return list(dict.fromkeys(conditions))

    def decode(self, config: Mapping[str, Any]) -> dict[str, Value]:
        """Plain Python values of the fields that apply."""
        values: dict[str, Value] = {}
        for dimension in self.dimensions:
            field = dimension.field
            if dimension.active(values):
                constant = field in self._constants
                values[field] = (
                    self._constants[field] if constant else _decode(dimension, config[field])
                )
        return values

    def encode(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """The configuration, which lies in the space, as ConfigSpace has it."""
        return {
            dimension.field: _encode(dimension, values[dimension.field])
            for dimension in self._varied.values()
            if dimension.active(values)
        }


def _parameter(dimension: Dimension) -> Any:
    import ConfigSpace

    field, low, high = dimension.field, dimension.low, dimension.high
    if dimension.kind in LISTS:
        places = [str(place) for place in range(len(dimension.values))]
        return ConfigSpace.CategoricalHyperparameter(field, places)
    if dimension.kind == "pow2":  # hpbandster refuses ordinal parameters
        low, high = _exponent(int(low)), _exponent(int(high))
    elif dimension.kind in FRACTIONS:
        logarithmic = dimension.kind == "loguniform"
        return ConfigSpace.UniformFloatHyperparameter(field, low, high, log=logarithmic)
    logarithmic = dimension.kind == "logint"
    return ConfigSpace.UniformIntegerHyperparameter(field, int(low), int(high), log=logarithmic)


def _encode(dimension: Dimension, value: Any) -> Any:
    if dimension.kind == "pow2":
        return _exponent(value)
    if dimension.kind not in LISTS:
        return value
    places = enumerate(dimension.values)
    # Python holds True and 1 for equal.
    kind = isinstance(value, bool)
    return next(str(at) for at, one in places if one == value and isinstance(one, bool) == kind)


def _decode(dimension: Dimension, value: Any) -> Value:
    """numpy's types become Python's; what rounding put beyond a bound comes back to it."""
    if dimension.kind in LISTS:
        return dimension.values[int(value)]
    if dimension.kind == "pow2":
        return 1 << int(value)
    if dimension.kind in FRACTIONS:
        return min(max(float(value), float(dimension.low)), float(dimension.high))
    return int(value)


def _exponent(power: int) -> int:
    return power.bit_length() - 1
