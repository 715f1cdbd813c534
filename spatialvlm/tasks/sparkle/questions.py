"""Sparkle's basic questions: 3 families of direction, 7 of distance and 6 of localization (`FAMILIES`).

Paper C names the numbers of families and not the families; these are ours. A family asks one question of a
configuration, or None where it can ask none without ambiguity: a direction within `SECTOR_MARGIN` of another
sector, a node within `CELL_MARGIN` of a border, two distances closer than `CLEARLY`. Where the answers are a
short list (sectors, cells, yes and no), the answer is drawn first, so that all are equally frequent and the
text gives none away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from spatialvlm.worlds.plane.draw import PLANE, Point
from spatialvlm.worlds.plane.nodes import (
    CELL_MARGIN,
    CELL_NAMES,
    CELLS,
    QUADRANTS,
    SECTOR_MARGIN,
    SECTORS,
    Configuration,
)

CLEARLY, CLEARLY_BY = 1.15, 0.3  # of two distances the longer is so many times, and so many units, longer
FEWEST_NODES = 4  # an order of three nodes by their distance from a fourth
TRIES = 40


class Asked(NamedTuple):
    """A question, its answer, and the labels that the answer may be, where the question lists them."""

    question: str
    answer: str
    options: tuple[str, ...] = ()


Ask = Callable[[Configuration, Random], Asked | None]


def _shuffled(items: Sequence, rng: Random) -> list:
    return rng.sample(list(items), len(items))


# ---- direction


def _pair(nodes: Configuration, rng: Random) -> tuple[str, tuple[str, str]] | None:
    """(a sector, a pair in it), every sector equally likely as far as the configuration has it."""
    for name in _shuffled(SECTORS, rng):
        if pairs := nodes.sectors[name]:
            return name, rng.choice(pairs)
    return None


def _direction(nodes: Configuration, rng: Random) -> Asked | None:
    if found := _pair(nodes, rng):
        name, (first, second) = found
        return Asked(f"What is the direction from {first} to {second}?", name)
    return None


def _direction_check(nodes: Configuration, rng: Random) -> Asked | None:
    if found := _pair(nodes, rng):
        name, (first, second) = found
        truth = rng.random() < 0.5
        said = name if truth else rng.choice([other for other in SECTORS if other != name])
        return Asked(f"Is the direction from {first} to {second} {said}?", "yes" if truth else "no")
    return None


def _direction_node(nodes: Configuration, rng: Random) -> Asked | None:
    for name in _shuffled(SECTORS, rng):
        for anchor in _shuffled(nodes.labels, rng):
            inside = [second for first, second in nodes.sectors[name] if first == anchor]
            if len(inside) == 1 and _others_clear(nodes, anchor, name):
                return Asked(f"Which node is in the direction {name} from {anchor}?", inside[0])
    return None


def _others_clear(nodes: Configuration, anchor: str, name: str) -> bool:
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


def _clearly(shorter: float, longer: float) -> bool:
    return longer >= CLEARLY * shorter and longer - shorter >= CLEARLY_BY


def _by_distance(nodes: Configuration, anchor: str, others: Sequence[str]) -> list[str] | None:
    """Others from the nearest to the farthest; None where two of them are about as far."""
    order = sorted(others, key=lambda label: nodes.distance(anchor, label))
    away = [nodes.distance(anchor, label) for label in order]
    return order if all(map(_clearly, away, away[1:])) else None


def _drawn_apart(nodes: Configuration, rng: Random, count: int) -> tuple[str, list[str]] | None:
    """(an anchor, `count` others from the nearest to the farthest)."""
    for _ in range(TRIES):
        anchor, *others = rng.sample(nodes.labels, count + 1)
        if order := _by_distance(nodes, anchor, others):
            return anchor, order
    return None


def _distance_exact(nodes: Configuration, rng: Random) -> Asked:
    first, second = rng.sample(nodes.labels, 2)
    return Asked(f"How far apart are {first} and {second}?", f"{nodes.distance(first, second):.1f}")


def _distance_farther(nodes: Configuration, rng: Random) -> Asked | None:
    if found := _drawn_apart(nodes, rng, 2):
        anchor, order = found
        said = _shuffled(order, rng)
        return Asked(f"Which node is farther from {anchor}, {said[0]} or {said[1]}?", order[1], tuple(said))
    return None


def _distance_nearest(nodes: Configuration, rng: Random) -> Asked | None:
    return _extreme_distance(nodes, rng, "nearest to", 0, 1)


def _distance_farthest(nodes: Configuration, rng: Random) -> Asked | None:
    return _extreme_distance(nodes, rng, "farthest from", -1, -2)


def _extreme_distance(nodes: Configuration, rng: Random, words: str, best: int, next_: int) -> Asked | None:
    for anchor in _shuffled(nodes.labels, rng):
        others = [label for label in nodes.labels if label != anchor]
        order = sorted(others, key=lambda label, anchor=anchor: nodes.distance(anchor, label))
        if _by_distance(nodes, anchor, [order[best], order[next_]]):
            return Asked(f"Which node is {words} {anchor}?", order[best])
    return None


def _distance_order(nodes: Configuration, rng: Random) -> Asked | None:
    if found := _drawn_apart(nodes, rng, 3):
        anchor, order = found
        said = _shuffled(order, rng)
        listed = f"{said[0]}, {said[1]} and {said[2]}"
        question = f"Order {listed} by their distance from {anchor}, nearest first."
        return Asked(question, ", ".join(order), tuple(said))
    return None


def _distance_ratio(nodes: Configuration, rng: Random) -> Asked | None:
    if found := _drawn_apart(nodes, rng, 2):
        anchor, (near, far) = found
        ratio = nodes.distance(anchor, far) / nodes.distance(anchor, near)
        return Asked(f"How many times as far from {anchor} is {far} as {near}?", f"{ratio:.1f}")
    return None


def _distance_route(nodes: Configuration, rng: Random) -> Asked:
    first, second, third = rng.sample(nodes.labels, 3)
    length = nodes.distance(first, second) + nodes.distance(second, third)
    question = f"How long is the route from {first} to {second} and on to {third}, in straight lines?"
    return Asked(question, f"{length:.1f}")


# ---- localization


def _location_cell(nodes: Configuration, rng: Random) -> Asked | None:
    for name in _shuffled(CELLS, rng):
        if labels := [label for label, found in nodes.cells.items() if found == name]:
            return Asked(f"In which cell of a 3 x 3 grid over the picture is {rng.choice(labels)}?", name)
    return None


def _location_quadrant(nodes: Configuration, rng: Random) -> Asked | None:
    for name in _shuffled(QUADRANTS, rng):
        upper, right = name.startswith("upper"), name.endswith("right")
        inside = [
            label
            for label, (x, y) in nodes.points.items()
            if min(abs(x - PLANE / 2), abs(y - PLANE / 2)) >= CELL_MARGIN
            and (x > PLANE / 2, y > PLANE / 2) == (right, upper)
        ]
        if inside:
            return Asked(f"In which quadrant of the picture is {rng.choice(inside)}?", name)
    return None


def _location_coordinates(nodes: Configuration, rng: Random) -> Asked:
    label = rng.choice(nodes.labels)
    x, y = nodes.points[label]
    return Asked(f"What are the coordinates of {label}?", f"({x:.1f}, {y:.1f})")


def _location_node(nodes: Configuration, rng: Random) -> Asked | None:
    """Only where every node is clear of all lines of the grid or plainly in another cell."""
    for name in _shuffled(CELLS, rng):
        inside = [label for label, point in nodes.points.items() if _may_be_in(point, name)]
        if len(inside) == 1 and nodes.cells.get(inside[0]) == name:
            return Asked(f"Which node is in the {name} cell of a 3 x 3 grid over the picture?", inside[0])
    return None


def _may_be_in(point: Point, name: str) -> bool:
    """Whether a point lies in a cell or within `CELL_MARGIN` of it."""
    row = next(number for number, names in enumerate(CELL_NAMES) if name in names)
    corner = CELL_NAMES[row].index(name) * PLANE / 3, (2 - row) * PLANE / 3
    return all(
        low - CELL_MARGIN < along < low + PLANE / 3 + CELL_MARGIN
        for along, low in zip(point, corner, strict=True)
    )


_SIDES = {  # (which coordinate, its sign)
    "farther left": (0, -1),
    "farther right": (0, 1),
    "higher up": (1, 1),
    "lower down": (1, -1),
}
_MOST = {
    "farther left": "farthest left",
    "farther right": "farthest right",
    "higher up": "highest up",
    "lower down": "lowest down",
}


def _location_extreme(nodes: Configuration, rng: Random) -> Asked | None:
    for side in _shuffled(_SIDES, rng):
        axis, sign = _SIDES[side]
        order = sorted(nodes.labels, key=lambda label, a=axis, s=sign: -s * nodes.points[label][a])
        first, second = (sign * nodes.points[label][axis] for label in order[:2])
        if first - second >= CELL_MARGIN:
            return Asked(f"Which node is {_MOST[side]} in the picture?", order[0])
    return None


def _location_count(nodes: Configuration, rng: Random) -> Asked | None:
    for label in _shuffled(nodes.labels, rng):
        for side in _shuffled(_SIDES, rng):
            axis, sign = _SIDES[side]
            here = nodes.points[label][axis]
            off = [sign * (nodes.points[other][axis] - here) for other in nodes.labels if other != label]
            if min(map(abs, off)) >= CELL_MARGIN:
                question = f"How many nodes are {side} in the picture than {label}?"
                return Asked(question, str(sum(each > 0 for each in off)))
    return None


# ---- the families


@dataclass(frozen=True)
class Family:
    """A kind of question.

    Args:
        capability: direction, distance or localization.
        answer_type: of `HINTS`, whose sentence follows the question in the prompt.
        numbers: whether the answer is a number: left out of training without numbers.
        asks: what it asks, in one line.
    """

    capability: str
    answer_type: str
    numbers: bool
    asks: str
    ask: Ask


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
FAMILIES = {
    "direction": Family(
        "direction", "direction", False, "the sector of 8 from one node to another", _direction
    ),
    "direction_check": Family(
        "direction", "yes_no", False, "whether that sector is the one named", _direction_check
    ),
    "direction_node": Family(
        "direction", "label", False, "the only node in a sector from another", _direction_node
    ),
    "distance_exact": Family("distance", "number", True, "the distance of two nodes", _distance_exact),
    "distance_farther": Family(
        "distance", "label", False, "which of two nodes is farther from a third", _distance_farther
    ),
    "distance_nearest": Family("distance", "label", False, "the node nearest to another", _distance_nearest),
    "distance_farthest": Family(
        "distance", "label", False, "the node farthest from another", _distance_farthest
    ),
    "distance_order": Family(
        "distance", "order", False, "three nodes by their distance from a fourth", _distance_order
    ),
    "distance_ratio": Family(
        "distance", "ratio", True, "how many times as far one node is as another", _distance_ratio
    ),
    "distance_route": Family(
        "distance", "number", True, "the length of a route of two legs", _distance_route
    ),
    "location_cell": Family(
        "localization", "cell", False, "the cell of a 3 x 3 grid that a node is in", _location_cell
    ),
    "location_quadrant": Family(
        "localization", "quadrant", False, "the quadrant that a node is in", _location_quadrant
    ),
    "location_coordinates": Family(
        "localization", "coordinates", True, "a node's coordinates", _location_coordinates
    ),
    "location_node": Family("localization", "label", False, "the only node in a cell", _location_node),
    "location_extreme": Family(
        "localization", "label", False, "the node farthest to one side of the picture", _location_extreme
    ),
    "location_count": Family(
        "localization", "count", True, "how many nodes are farther to one side than a node", _location_count
    ),
}
CAPABILITIES = ("direction", "distance", "localization")
