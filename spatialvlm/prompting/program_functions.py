"""The functions that a program over a scene graph may call, and the meter that all its work is paid from.

Every function takes the meter first, and arguments that have been looked through: what they hold is paid for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

BUDGET = 50_000  # steps, and items made or looked at
MAX_ITEMS, MAX_TEXT, MAX_INT = 2_000, 4_000, 2**63
MAX_LEVELS = 20  # of lists in lists


class Refused(Exception):
    """Something that is not allowed."""


class Stopped(Exception):
    """Too many steps, or something too large."""


class Meter:
    """Counts what a program does, and stops it where that is too much."""

    def __init__(self, budget: int):
        self.left = budget

    def pay(self, steps: int) -> None:
        """Raises Stopped where the budget is used up."""
        self.left -= steps
        if self.left < 0:
            raise Stopped(f"more than {BUDGET:,} steps")

    def fits(self, value: Any) -> Any:
        """The value, where it is of an allowed type and size, looked at from outside alone."""
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            if abs(value) > MAX_INT:
                raise Stopped("a number too large")
        elif isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise Stopped("a text too long")
        elif isinstance(value, list | dict):
            if len(value) > MAX_ITEMS:
                raise Stopped("a list too long")
        else:
            raise Refused(f"a value of type {type(value).__name__}")
        return value

    def look_through(self, value: Any, level: int = 0) -> None:
        """Pays for everything that a value holds, as often as it holds it."""
        self.pay(1)
        self.fits(value)
        if level > MAX_LEVELS:
            raise Stopped(f"lists nested more than {MAX_LEVELS} deep")
        if isinstance(value, str):
            self.pay(len(value) // 64)
        elif isinstance(value, dict):
            for key, held in value.items():
                self.look_through(key, level + 1)
                self.look_through(held, level + 1)
        elif isinstance(value, list):
            for held in value:
                self.look_through(held, level + 1)


# ---- numbers and lists


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError(f"a list is needed, not {type(values).__name__}")
    return values


def _several(values: tuple[Any, ...]) -> list[Any]:
    return _listed(values[0]) if len(values) == 1 else list(values)


def _number(value: Any) -> int | float:
    if not isinstance(value, int | float):
        raise TypeError(f"a number is needed, not {type(value).__name__}")
    return value


def _sum(values: Any) -> int | float:
    return sum(_number(value) for value in _listed(values))


def _round(value: Any, digits: Any = None) -> int | float:
    if digits is not None and not (isinstance(digits, int) and 0 <= digits <= 15):
        raise ValueError("digits must be 0 to 15")
    return round(_number(value), digits)


def _int(value: Any) -> int:
    if isinstance(value, str) and len(value) > 20:
        raise ValueError("too many digits")
    return int(value)


def _range(meter: Meter, *ends: Any) -> list[int]:
    numbers = range(*ends)
    if len(numbers) > MAX_ITEMS:
        raise Stopped("a range too long")
    meter.pay(len(numbers))
    return list(numbers)


def _unique(values: Any) -> list[Any]:
    return [value for at, value in enumerate(_listed(values)) if value not in values[:at]]


def _sorted(meter: Meter, values: Any, by: Any = None) -> list[Any]:
    """In rising order; dicts by the value of their key `by`."""
    meter.pay(20 * len(values))
    return sorted(_listed(values), key=None if by is None else lambda each: each[by])


def _text(value: Any) -> str:
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"{type(value).__name__} has no text")
    return str(value)


# ---- objects of a scene graph


def _objects(values: Any) -> list[dict[str, Any]]:
    if not all(isinstance(each, dict) for each in _listed(values)):
        raise TypeError("a list of objects is needed")
    return values


def _has(thing: dict[str, Any], name: str, wanted: str) -> bool:
    """Whether an attribute is the one asked for: a key of its own, a key of `attributes`, or a word in it.

    Args:
        wanted: in lower case, for case does not count.
    """
    attributes = thing.get("attributes")
    said = [thing.get(name)]
    said += [attributes.get(name)] if isinstance(attributes, dict) else []
    said += attributes if isinstance(attributes, list) else []
    return any(isinstance(each, str | int | float) and str(each).lower() == wanted for each in said)


def _filter(meter: Meter, things: Any, **attributes: Any) -> list[dict[str, Any]]:
    meter.pay(len(_objects(things)) * (1 + len(attributes)) * 8)
    wanted = {name: _wanted(value).lower() for name, value in attributes.items()}
    return [each for each in things if all(_has(each, name, value) for name, value in wanted.items())]


def _wanted(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError(f"a text or number is needed, not {type(value).__name__}")
    return str(value)


def _find(meter: Meter, things: Any, **attributes: Any) -> dict[str, Any]:
    found = _filter(meter, things, **attributes)
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects are so, not one")
    return found[0]


def _point(thing: Any) -> list[float]:
    """Coordinates of an object (its `center`), or a list of them."""
    place = thing.get("center") if isinstance(thing, dict) else thing
    if not isinstance(place, list) or len(place) < 2:
        raise TypeError("an object with a center is needed, or a list of coordinates")
    return [float(_number(coordinate)) for coordinate in place]


def _distance(one: Any, other: Any) -> float:
    return math.dist(_point(one), _point(other))


def _nearest(meter: Meter, thing: Any, things: Any) -> dict[str, Any]:
    """The one of some objects that is nearest to an object, itself apart."""
    meter.pay(8 * len(_objects(things)))
    others = [each for each in things if each is not thing]
    return min(others, key=lambda each: _distance(thing, each))


def _unmetered(function: Callable[..., Any]) -> Callable[..., Any]:
    """For what costs no more than looking at its arguments, which is paid for."""
    return lambda meter, *values: function(*values)


def _over(function: Callable[[Iterable[Any]], Any]) -> Callable[..., Any]:
    return lambda meter, *values: function(_several(values))


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed, not {type(value).__name__}")
    return value.lower()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _unmetered(lambda value: abs(_number(value))),
    "above": _unmetered(lambda one, other: _point(one)[1] < _point(other)[1]),
    "all": _unmetered(lambda values: all(_listed(values))),
    "any": _unmetered(lambda values: any(_listed(values))),
    "below": _unmetered(lambda one, other: _point(one)[1] > _point(other)[1]),
    "count": lambda meter, things, **attributes: len(_filter(meter, things, **attributes)),
    "distance": _unmetered(_distance),
    "filter": _filter,
    "find": _find,
    "float": _unmetered(lambda value: float(value)),
    "int": _unmetered(_int),
    "left_of": _unmetered(lambda one, other: _point(one)[0] < _point(other)[0]),
    "len": _unmetered(lambda values: len(values)),
    "lower": _unmetered(_words),
    "max": _over(max),
    "min": _over(min),
    "nearest": _nearest,
    "range": _range,
    "right_of": _unmetered(lambda one, other: _point(one)[0] > _point(other)[0]),
    "round": _unmetered(_round),
    "sorted": _sorted,
    "str": _unmetered(_text),
    "sum": _unmetered(_sum),
    "unique": lambda meter, values: (meter.pay(len(values) ** 2), _unique(values))[1],
}
