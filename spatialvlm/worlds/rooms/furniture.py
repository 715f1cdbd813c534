"""Furniture for rendered rooms, made of boxes and upright cylinders; the labels are VSI-Bench's.

A piece stands on the floor around its own origin, its back towards +y. Every kind has its own shape and
colour, so that a model that sees a few thousand pixels can tell them apart; sizes vary, so that the label
alone does not give them away. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np

Color = tuple[int, int, int]
Size = tuple[float, float, float]

BLACK, WHITE, STEEL, WOOD = (22, 22, 26), (235, 235, 230), (168, 174, 182), (120, 72, 34)
RED, BLUE, PURPLE, CYAN, PINK = (196, 40, 34), (40, 78, 205), (120, 40, 170), (30, 195, 205), (235, 105, 175)
ORANGE, YELLOW, GREEN, TEAL, CLAY = (235, 125, 25), (255, 225, 60), (40, 130, 35), (20, 92, 96), (176, 84, 48)
SCREEN = (170, 240, 200)


@dataclass(frozen=True)
class Part:
    """A box, or a cylinder around the upright axis.

    Args:
        centre: in the axes of its piece of furniture.
        half: half of its sides; a cylinder's first two are its radius.
        color: RGB, 0 to 255.
        round: whether it is a cylinder.
    """

    centre: Size
    half: Size
    color: Color
    round: bool = False


@dataclass(frozen=True)
class Thing:
    """A piece of furniture where it stands.

    Args:
        label: its kind, a key of `KINDS`.
        position: of its origin on the floor (x, y).
        yaw: rotation about the upright axis, counter-clockwise, in radians.
        parts: in its own axes.
    """

    label: str
    position: tuple[float, float]
    yaw: float
    parts: tuple[Part, ...]

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner (3,) of all parts in the thing's own axes."""
        centre = np.array([part.centre for part in self.parts])
        half = np.array([part.half for part in self.parts])
        return (centre - half).min(0), (centre + half).max(0)

    @property
    def middle(self) -> np.ndarray:
        """(3,): the middle of its box, in the room."""
        low, high = self.bounds
        return self.to_room((low + high)[None] / 2)[0]

    @property
    def height(self) -> float:
        return float(self.bounds[1][2])

    @cached_property
    def axes(self) -> np.ndarray:
        """(3, 3): rows are the directions of the thing's own axes in the room."""
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])

    def to_room(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in the thing's own axes, in the room's."""
        return np.asarray(points) @ self.axes + [*self.position, 0.0]

    def footprint(self, margin: float = 0.0) -> np.ndarray:
        """(4, 2): the corners of the rectangle that it stands on, widened by a margin on all sides."""
        (left, front, _), (right, back, _) = self.bounds
        corners = [(left, front), (right, front), (right, back), (left, back)]
        grown = np.array(corners) + margin * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        return self.to_room(np.column_stack([grown, np.zeros(4)]))[:, :2]


def _box(low: Size, high: Size, color: Color) -> Part:
    corners = np.array([low, high])
    return Part(tuple(corners.mean(0).tolist()), tuple(((corners[1] - corners[0]) / 2).tolist()), color)


def _post(x: float, y: float, radius: float, low: float, high: float, color: Color) -> Part:
    return Part((x, y, (low + high) / 2), (radius, radius, (high - low) / 2), color, round=True)


def _legs(w: float, d: float, top: float, thick: float, color: Color) -> list[Part]:
    corners = [(sx * (w - thick) / 2, sy * (d - thick) / 2) for sx in (-1, 1) for sy in (-1, 1)]
    half = thick / 2
    return [_box((x - half, y - half, 0), (x + half, y + half, top), color) for x, y in corners]


def _chair(w: float, d: float, h: float) -> list[Part]:
    back = _box((-w / 2, d / 2 - 0.06, 0.48 * h), (w / 2, d / 2, h), RED)
    return [
        _box((-w / 2, -d / 2, 0.43 * h), (w / 2, d / 2, 0.5 * h), RED),
        back,
        *_legs(w, d, 0.43 * h, 0.06, RED),
    ]


def _table(w: float, d: float, h: float) -> list[Part]:
    return [_box((-w / 2, -d / 2, h - 0.07), (w / 2, d / 2, h), WOOD), *_legs(w, d, h - 0.07, 0.09, WOOD)]


def _sofa(w: float, d: float, h: float) -> list[Part]:
    seat = 0.5 * h
    return [
        _box((-w / 2, d / 2 - 0.25, 0), (w / 2, d / 2, h), PURPLE),
        _box((-w / 2 + 0.2, -d / 2, 0), (w / 2 - 0.2, d / 2 - 0.25, seat), PURPLE),
        _box((-w / 2, -d / 2, 0), (-w / 2 + 0.2, d / 2 - 0.25, 0.72 * h), PURPLE),
        _box((w / 2 - 0.2, -d / 2, 0), (w / 2, d / 2 - 0.25, 0.72 * h), PURPLE),
    ]


def _bed(w: float, d: float, h: float) -> list[Part]:
    top, half = 0.5, w / 2 - 0.06
    return [
        _box((-w / 2, d / 2 - 0.08, 0), (w / 2, d / 2, h), WOOD),
        _box((-w / 2, -d / 2, 0), (w / 2, d / 2 - 0.08, 0.28), WOOD),
        _box((-half, -d / 2 + 0.03, 0.28), (half, d / 2 - 0.65, top), BLUE),
        _box((-half, d / 2 - 0.65, 0.28), (half, d / 2 - 0.08, top - 0.03), WHITE),
        _box((-0.8 * half, d / 2 - 0.52, top - 0.03), (0.8 * half, d / 2 - 0.12, top + 0.1), WHITE),
    ]


def _lamp(w: float, d: float, h: float) -> list[Part]:
    return [
        _post(0, 0, 0.36 * w, 0, 0.04, BLACK),
        _post(0, 0, 0.025, 0.04, h - 0.4, BLACK),
        _post(0, 0, w / 2, h - 0.4, h, YELLOW),
    ]


def _cabinet(w: float, d: float, h: float) -> list[Part]:
    knobs = [
        _box((x - 0.02, -d / 2, 0.4 * h), (x + 0.02, -d / 2 + 0.03, 0.55 * h), WHITE) for x in (-0.08, 0.08)
    ]
    gap = _box((-0.012, -d / 2 + 0.02, 0.06), (0.012, -d / 2 + 0.03, h - 0.04), BLACK)
    return [_box((-w / 2, -d / 2 + 0.03, 0), (w / 2, d / 2, h), TEAL), gap, *knobs]


def _bookshelf(w: float, d: float, h: float) -> list[Part]:
    side = 0.05
    boards = [
        _box((-w / 2, d / 2 - 0.03, 0), (w / 2, d / 2, h), ORANGE),
        _box((-w / 2, -d / 2, 0), (-w / 2 + side, d / 2 - 0.03, h), ORANGE),
        _box((w / 2 - side, -d / 2, 0), (w / 2, d / 2 - 0.03, h), ORANGE),
    ]
    for level in range(5):
        z = level * (h - 0.04) / 4
        boards.append(_box((-w / 2 + side, -d / 2, z), (w / 2 - side, d / 2 - 0.03, z + 0.04), ORANGE))
    for level, (color, fraction) in enumerate(zip((BLUE, GREEN, RED), (0.75, 0.5, 0.9), strict=True)):
        z, tall = level * (h - 0.04) / 4 + 0.04, 0.7 * (h - 0.04) / 4
        end = -w / 2 + side + fraction * (w - 2 * side)
        boards.append(_box((-w / 2 + side, -d / 2 + 0.06, z), (end, d / 2 - 0.03, z + tall), color))
    return boards


def _tv(w: float, d: float, h: float) -> list[Part]:
    low = h - 0.58 * w  # the screen is 16:9, and its frame
    return [
        _box((-0.3 * w, -d / 2, 0), (0.3 * w, d / 2, 0.05), BLACK),
        _box((-0.06, -0.04, 0.05), (0.06, 0.04, low), BLACK),
        _box((-w / 2, -0.03, low), (w / 2, 0.04, h), BLACK),
        _box((-w / 2 + 0.05, -0.04, low + 0.05), (w / 2 - 0.05, -0.03, h - 0.05), SCREEN),
    ]


def _refrigerator(w: float, d: float, h: float) -> list[Part]:
    face, split = -d / 2 + 0.05, 0.62 * h
    return [
        _box((-w / 2, face, 0), (w / 2, d / 2, h), STEEL),
        _box((-w / 2, face - 0.01, split - 0.015), (w / 2, face, split + 0.015), BLACK),
        _box((-0.4 * w, -d / 2, split - 0.5), (-0.4 * w + 0.05, face, split - 0.08), BLACK),
        _box((-0.4 * w, -d / 2, split + 0.08), (-0.4 * w + 0.05, face, split + 0.4), BLACK),
    ]


def _trash_bin(w: float, d: float, h: float) -> list[Part]:
    return [_post(0, 0, w / 2, 0, h - 0.03, CYAN), _post(0, 0, 0.42 * w, h - 0.03, h, BLACK)]


def _stool(w: float, d: float, h: float) -> list[Part]:
    return [
        _post(0, 0, 0.4 * w, 0, 0.04, STEEL),
        _post(0, 0, 0.04, 0.04, h - 0.1, STEEL),
        _post(0, 0, w / 2, h - 0.1, h, PINK),
    ]


def _plant(w: float, d: float, h: float) -> list[Part]:
    pot = 0.3 * h
    return [
        _post(0, 0, 0.3 * w, 0, pot, CLAY),
        _post(0, 0, 0.3 * w, pot, 0.45 * h, GREEN),
        _post(0, 0, 0.5 * w, 0.45 * h, 0.7 * h, GREEN),
        _post(0, 0, 0.38 * w, 0.7 * h, 0.88 * h, GREEN),
        _post(0, 0, 0.2 * w, 0.88 * h, h, GREEN),
    ]


@dataclass(frozen=True)
class Kind:
    """A kind of furniture.

    Args:
        build: its parts for a width, a depth and a height, which they fill exactly.
        low, high: between these its width, depth and height are random; a round thing is as deep as wide.
        at_wall: whether it stands with its back to a wall.
        most: maximum number in a room.
    """

    build: Callable[[float, float, float], list[Part]]
    low: Size
    high: Size
    at_wall: bool = False
    most: int = 1


KINDS = {
    "chair": Kind(_chair, (0.42, 0.42, 0.8), (0.55, 0.55, 1.0), most=4),
    "table": Kind(_table, (0.9, 0.65, 0.68), (1.8, 0.95, 0.8), most=2),
    "sofa": Kind(_sofa, (1.5, 0.8, 0.7), (2.3, 0.95, 0.9), at_wall=True, most=2),
    "bed": Kind(_bed, (1.1, 1.9, 0.8), (1.8, 2.2, 1.1), at_wall=True, most=2),
    "lamp": Kind(_lamp, (0.4, 0.4, 1.3), (0.55, 0.55, 1.75), most=3),
    "cabinet": Kind(_cabinet, (0.7, 0.4, 1.3), (1.2, 0.6, 2.0), at_wall=True, most=3),
    "bookshelf": Kind(_bookshelf, (0.7, 0.3, 1.4), (1.2, 0.4, 2.0), at_wall=True, most=2),
    "tv": Kind(_tv, (0.9, 0.3, 1.0), (1.4, 0.4, 1.5), at_wall=True),
    "refrigerator": Kind(_refrigerator, (0.6, 0.6, 1.5), (0.85, 0.75, 1.95), at_wall=True),
    "trash bin": Kind(_trash_bin, (0.28, 0.28, 0.35), (0.45, 0.45, 0.7), most=4),
    "stool": Kind(_stool, (0.34, 0.34, 0.45), (0.48, 0.48, 0.75), most=4),
    "plant": Kind(_plant, (0.45, 0.45, 0.7), (0.7, 0.7, 1.3), most=3),
}


def build(label: str, rng: Random) -> tuple[Part, ...]:
    """The parts of a piece of that kind, its size random."""
    kind = KINDS[label]
    width, depth, height = (rng.uniform(low, high) for low, high in zip(kind.low, kind.high, strict=True))
    return tuple(kind.build(width, depth, height))
