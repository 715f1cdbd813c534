"""Labelled nodes on the plane, and where they clearly lie: in which of 8 sectors, in which of 3 x 3 cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

from spatialvlm.worlds.plane.draw import PLANE, Point

SECTORS = ("right", "upper right", "above", "upper left", "left", "lower left", "below", "lower right")
CELL_NAMES = (  # from the top, from the left
    ("upper left", "upper middle", "upper right"),
    ("middle left", "center", "middle right"),
    ("lower left", "lower middle", "lower right"),
)
CELLS = tuple(name for row in CELL_NAMES for name in row)
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
SECTOR_MARGIN = 6.0  # degrees
CELL_MARGIN = 0.4  # units, of cells, quadrants and coordinates that are compared


@dataclass(frozen=True)
class Configuration:
    """Labelled nodes: `points` by label, N1, N2, ..., in units of the plane."""

    name: str
    points: dict[str, Point]

    @property
    def labels(self) -> list[str]:
        return list(self.points)

    def distance(self, first: str, second: str) -> float:
        return math.dist(self.points[first], self.points[second])

    @cached_property
    def sectors(self) -> dict[str, list[tuple[str, str]]]:
        """(from, to) pairs by the sector they clearly lie in."""
        found: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTORS}
        for first, second in permutations(self.points, 2):
            name, inside = sector(self.points[first], self.points[second])
            if inside >= SECTOR_MARGIN:
                found[name].append((first, second))
        return found

    @cached_property
    def cells(self) -> dict[str, str]:
        """The cell of every node that is clear of its borders."""
        return {label: name for label, point in self.points.items() if (name := cell(point))}


def sector(origin: Point, target: Point) -> tuple[str, float]:
    """(the sector that the way from one point to another lies in, degrees to its nearer border)."""
    angle = math.degrees(math.atan2(target[1] - origin[1], target[0] - origin[0])) % 360
    number = round(angle / 45)
    return SECTORS[number % 8], 22.5 - abs(angle - 45 * number)


def cell(point: Point) -> str | None:
    """The cell of a 3 x 3 grid over the plane; None within `CELL_MARGIN` of a line of the grid."""
    lines = (PLANE / 3, 2 * PLANE / 3)
    if any(abs(along - line) < CELL_MARGIN for along in point for line in lines):
        return None
    column, row_from_below = (sum(along > line for line in lines) for along in point)
    return CELL_NAMES[2 - row_from_below][column]
