"""Sparkle's basic questions: 3 families of direction, 7 of distance and 6 of localization (`FAMILIES`).

The paper gives the numbers of families and not the families; these are ours. A family asks one question of a
configuration, or None where each would be ambiguous: a direction within `SECTOR_MARGIN` of another sector, a
node within `CELL_MARGIN` of a border, two distances closer than `CLEARLY`. Where the answers are a short list
(sectors, cells, yes and no), the answer is sampled first, so that all are equally frequent and the text gives
none away.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import NamedTuple

from spatialvlm.example import Example
from spatialvlm.worlds.plane.nodes import (
    CELL_MARGIN,
    CELL_NAMES,
    CELLS,
    PLANE,
    QUADRANTS,
    SECTOR_MARGIN,
    SECTORS,
    Configuration,
    Point,
)

CLEARLY, CLEARLY_BY = 1.15, 0.3  # how many times, and by how many units, a distance is clearly the longer
FEWEST_NODES = 4  # for an order of three nodes by their distance from a fourth
TRIES = 40


class Question(NamedTuple):
    """A question, its answer, and the possible labels where the question lists them."""

    question: str
    answer: str
    options: tuple[str, ...] = ()


Ask = Callable[[Configuration, Random], Question | None]


def _shuffled(items: Sequence, rng: Random) -> list:
    return rng.sample(list(items), len(items))


# ---- direction


def _pair(nodes: Configuration, rng: Random) -> tuple[str, tuple[str, str]] | None:
    """A sector and a pair in it, every sector equally likely as far as the configuration has it."""
    for name in _shuffled(SECTORS, rng):
        if pairs := nodes.sectors[name]:
            return name, rng.choice(pairs)
    return None


def _direction(nodes: Configuration, rng: Random) -> Question | None:
    if clear := _pair(nodes, rng):
        name, (first, second) = clear
        return Question(f"What is the direction from {first} to {second}?", name)
    return None


def _direction_check(nodes: Configuration, rng: Random) -> Question | None:
    if clear := _pair(nodes, rng):
        name, (first, second) = clear
        truth = rng.random() < 0.5
        named = name if truth else rng.choice([other for other in SECTORS if other != name])
        return Question(f"Is the direction from {first} to {second} {named}?", "yes" if truth else "no")
    return None


def _direction_node(nodes: Configuration, rng: Random) -> Question | None:
    for name in _shuffled(SECTORS, rng):
        for anchor in _shuffled(nodes.labels, rng):
            inside = [second for first, second in nodes.sectors[name] if first == anchor]
            if len(inside) == 1 and others_clear(nodes, anchor, name):
                return Question(f"Which node is in the direction {name} from {anchor}?", inside[0])
    return None


def others_clear(nodes: Configuration, anchor: str, name: str) -> bool:
    """Whether no node lies so near the border of a sector that it could be taken for inside."""
    x, y = nodes.points[anchor]
    for label, point in nodes.points.items():
        if label != anchor:
            angle = math.degrees(math.atan2(point[1] - y, point[0] - x))
            off = abs((angle - 45 * SECTORS.index(name) + 180) % 360 - 180)
            if abs(off - 22.5) < SECTOR_MARGIN:
                return False
    return True


# ---- distance


def clearly(shorter: float, longer: float) -> bool:
    """Whether one distance is the longer by `CLEARLY` times and `CLEARLY_BY` units."""
    return longer >= CLEARLY * shorter and longer - shorter >= CLEARLY_BY


def by_distance(nodes: Configuration, anchor: str, others: Sequence[str]) -> list[str] | None:
    """Others from the nearest to the farthest; None where two of them are about as far."""
    order = sorted(others, key=lambda label: nodes.distance(anchor, label))
    away = [nodes.distance(anchor, label) for label in order]
    return order if all(map(clearly, away, away[1:])) else None


def _sample_apart(nodes: Configuration, rng: Random, count: int) -> tuple[str, list[str]] | None:
    """An anchor, and `count` others from the nearest to the farthest."""
    for _ in range(TRIES):
        anchor, *others = rng.sample(nodes.labels, count + 1)
        if order := by_distance(nodes, anchor, others):
            return anchor, order
    return None


def _distance_exact(nodes: Configuration, rng: Random) -> Question:
    first, second = rng.sample(nodes.labels, 2)
    return Question(f"How far apart are {first} and {second}?", f"{nodes.distance(first, second):.1f}")


def _distance_farther(nodes: Configuration, rng: Random) -> Question | None:
    if clear := _sample_apart(nodes, rng, 2):
        anchor, order = clear
        one, other = _shuffled(order, rng)
        return Question(f"Which node is farther from {anchor}, {one} or {other}?", order[1], (one, other))
    return None


def _distance_extreme(
    nodes: Configuration, rng: Random, words: str, best: int, next_: int
) -> Question | None:
    for anchor in _shuffled(nodes.labels, rng):
        others = [label for label in nodes.labels if label != anchor]
        order = sorted(others, key=lambda label, anchor=anchor: nodes.distance(anchor, label))
        if by_distance(nodes, anchor, [order[best], order[next_]]):
            return Question(f"Which node is {words} {anchor}?", order[best])
    return None


def _distance_order(nodes: Configuration, rng: Random) -> Question | None:
    if clear := _sample_apart(nodes, rng, 3):
        anchor, order = clear
        one, two, three = _shuffled(order, rng)
        question = f"Order {one}, {two} and {three} by their distance from {anchor}, nearest first."
        return Question(question, ", ".join(order), (one, two, three))
    return None


def _distance_ratio(nodes: Configuration, rng: Random) -> Question | None:
    if clear := _sample_apart(nodes, rng, 2):
        anchor, (near, far) = clear
        ratio = nodes.distance(anchor, far) / nodes.distance(anchor, near)
        return Question(f"How many times as far from {anchor} is {far} as {near}?", f"{ratio:.1f}")
    return None


def _distance_route(nodes: Configuration, rng: Random) -> Question:
    first, second, third = rng.sample(nodes.labels, 3)
    length = nodes.distance(first, second) + nodes.distance(second, third)
    question = f"How long is the route from {first} to {second} and on to {third}, in straight lines?"
    return Question(question, f"{length:.1f}")


# ---- localization


def _location_cell(nodes: Configuration, rng: Random) -> Question | None:
    for name in _shuffled(CELLS, rng):
        if labels := [label for label, cell in nodes.cells.items() if cell == name]:
            return Question(f"In which cell of a 3 x 3 grid over the picture is {rng.choice(labels)}?", name)
    return None


def _location_quadrant(nodes: Configuration, rng: Random) -> Question | None:
    for name in _shuffled(QUADRANTS, rng):
        upper, right = name.startswith("upper"), name.endswith("right")
        inside = [
            label
            for label, (x, y) in nodes.points.items()
            if min(abs(x - PLANE / 2), abs(y - PLANE / 2)) >= CELL_MARGIN
            and (x > PLANE / 2, y > PLANE / 2) == (right, upper)
        ]
        if inside:
            return Question(f"In which quadrant of the picture is {rng.choice(inside)}?", name)
    return None


def _location_coordinates(nodes: Configuration, rng: Random) -> Question:
    label = rng.choice(nodes.labels)
    x, y = nodes.points[label]
    return Question(f"What are the coordinates of {label}?", f"({x:.1f}, {y:.1f})")


def _location_node(nodes: Configuration, rng: Random) -> Question | None:
    """Only where every node is clear of all lines of the grid or plainly in another cell."""
    for name in _shuffled(CELLS, rng):
        inside = [label for label, point in nodes.points.items() if _may_be_in(point, name)]
        if len(inside) == 1 and nodes.cells.get(inside[0]) == name:
            return Question(f"Which node is in the {name} cell of a 3 x 3 grid over the picture?", inside[0])
    return None


def _may_be_in(point: Point, name: str) -> bool:
    """Whether a point lies in a cell or within `CELL_MARGIN` of it."""
    row = next(number for number, names in enumerate(CELL_NAMES) if name in names)
    corner = CELL_NAMES[row].index(name) * PLANE / 3, (2 - row) * PLANE / 3
    return all(
        low - CELL_MARGIN < along < low + PLANE / 3 + CELL_MARGIN
        for along, low in zip(point, corner, strict=True)
    )


_SIDES = {  # (its superlative, which coordinate, its sign)
    "farther left": ("farthest left", 0, -1),
    "farther right": ("farthest right", 0, 1),
    "higher up": ("highest up", 1, 1),
    "lower down": ("lowest down", 1, -1),
}


def _location_extreme(nodes: Configuration, rng: Random) -> Question | None:
    for side in _shuffled(_SIDES, rng):
        most, axis, sign = _SIDES[side]
        order = sorted(nodes.labels, key=lambda label, a=axis, s=sign: -s * nodes.points[label][a])
        first, second = (sign * nodes.points[label][axis] for label in order[:2])
        if first - second >= CELL_MARGIN:
            return Question(f"Which node is {most} in the picture?", order[0])
    return None


def _location_count(nodes: Configuration, rng: Random) -> Question | None:
    for label in _shuffled(nodes.labels, rng):
        for side in _shuffled(_SIDES, rng):
            _, axis, sign = _SIDES[side]
            here = nodes.points[label][axis]
            off = [sign * (nodes.points[other][axis] - here) for other in nodes.labels if other != label]
            if min(map(abs, off)) >= CELL_MARGIN:
                question = f"How many nodes are {side} in the picture than {label}?"
                return Question(question, str(sum(each > 0 for each in off)))
    return None


# ---- the families


@dataclass(frozen=True)
class Family:
    """A kind of question.

    Args:
        capability: direction, distance or localization.
        answer_type: of `HINTS`, whose sentence follows the question in the prompt.
        asks: its question in one line.
    """

    capability: str
    answer_type: str
    asks: str
    ask: Ask

    @property
    def numbers(self) -> bool:
        """Whether the answer is a number: left out of training without numbers."""
        return self.answer_type in ("number", "ratio", "count", "coordinates")


HINTS = {
    "direction": f"Answer with one of: {', '.join(SECTORS)}.",
    "yes_no": "Answer yes or no.",
    "label": "Answer with the label of the node.",
    "order": "Answer with the labels in order.",
    "number": "The picture is 10 units wide and 10 units high. Answer with a number to one decimal place.",
    "ratio": "Answer with a number to one decimal place.",
    "count": "Answer with a whole number.",
    "cell": f"Answer with one of: {', '.join(CELLS)}.",
    "quadrant": f"Answer with one of: {', '.join(QUADRANTS)}.",
    "coordinates": "The picture's lower left corner is (0, 0) and its upper right corner is (10, 10). "
    "Answer as (x, y), to one decimal place.",
}
_nearest = partial(_distance_extreme, words="nearest to", best=0, next_=1)
_farthest = partial(_distance_extreme, words="farthest from", best=-1, next_=-2)
FAMILIES = {
    "direction": Family("direction", "direction", "the sector of 8 from one node to another", _direction),
    "direction_check": Family(
        "direction", "yes_no", "whether that sector is the one named", _direction_check
    ),
    "direction_node": Family("direction", "label", "the only node in a sector from another", _direction_node),
    "distance_exact": Family("distance", "number", "the distance of two nodes", _distance_exact),
    "distance_farther": Family(
        "distance", "label", "which of two nodes is farther from a third", _distance_farther
    ),
    "distance_nearest": Family("distance", "label", "the node nearest to another", _nearest),
    "distance_farthest": Family("distance", "label", "the node farthest from another", _farthest),
    "distance_order": Family(
        "distance", "order", "three nodes by their distance from a fourth", _distance_order
    ),
    "distance_ratio": Family(
        "distance", "ratio", "how many times as far one node is as another", _distance_ratio
    ),
    "distance_route": Family("distance", "number", "the length of a route of two legs", _distance_route),
    "location_cell": Family(
        "localization", "cell", "the cell of a 3 x 3 grid that a node is in", _location_cell
    ),
    "location_quadrant": Family(
        "localization", "quadrant", "the quadrant that a node is in", _location_quadrant
    ),
    "location_coordinates": Family(
        "localization", "coordinates", "a node's coordinates", _location_coordinates
    ),
    "location_node": Family("localization", "label", "the only node in a cell", _location_node),
    "location_extreme": Family(
        "localization", "label", "the node farthest to one side of the image", _location_extreme
    ),
    "location_count": Family(
        "localization", "count", "how many nodes are farther to one side than a node", _location_count
    ),
}
CAPABILITIES = ("direction", "distance", "localization")


# ---- answers

_NUMBER = r"\d+(?:\.\d+)?"
ANSWERS = {  # patterns of each type's answers, written out
    "direction": "|".join(SECTORS),
    "yes_no": "yes|no",
    "label": r"N\d+",
    "order": r"N\d+(?:, N\d+)+",
    "number": _NUMBER,
    "ratio": _NUMBER,
    "count": r"\d+",
    "cell": "|".join(CELLS),
    "quadrant": "|".join(QUADRANTS),
    "coordinates": rf"\({_NUMBER}, {_NUMBER}\)",
}


def check(example: Example) -> str | None:
    """What is wrong with a row's example; None where nothing is."""
    kind, answer, nodes = example.meta["answer_type"], example.answer, example.meta["nodes"]
    options, labels = example.meta["options"], answer.split(", ")
    family = FAMILIES[example.task]
    if (kind, example.meta["capability"]) != (family.answer_type, family.capability):
        return f"'answer_type' and 'capability' are not those of {example.task}"
    if not re.fullmatch(ANSWERS[kind], answer):
        return f"'answer' {answer!r} is none of a question of {example.task}"
    named = re.findall(r"\bN\d+", f"{example.question} {answer} {' '.join(options)}")
    if unknown := [label for label in named if label not in nodes]:
        return f"'{unknown[0]}' is asked about and not among its nodes"
    if kind == "order" and sorted(labels) != sorted(options):
        return f"'answer' {answer!r} is no order of 'options' {', '.join(options)}"
    if kind == "label" and options and not set(labels) <= set(options):
        return f"'answer' {answer!r} is none of 'options' {', '.join(options)}"
    values = [float(value) for value in re.findall(_NUMBER, answer)]
    if kind in ("number", "ratio") and not values[0]:
        return f"'answer' {answer!r} is no length or ratio"
    if kind == "coordinates" and max(values) > PLANE:
        return f"'answer' {answer!r} lies off the plane"
    if kind == "number" and values[0] > 2 * math.sqrt(2) * PLANE:
        return f"'answer' {answer!r} is longer than any route of two legs"
    if kind == "count" and values[0] >= len(nodes):
        return f"'answer' {answer!r} counts more than its other nodes"
    return None
