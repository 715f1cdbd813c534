"""Labelled nodes on the 10 x 10 plane of Sparkle (arXiv 2410.16162): where they lie, and how they look.

(0, 0) is the lower left corner of plane and image, (10, 10) the upper right one. Nodes are grey discs with
black labels; size, style, background and jitter can be changed, to see what a model's skill depends on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from itertools import permutations
from random import Random

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from spatialvlm.errors import UserError

PLANE = 10.0  # units along a side
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
SHAPES = ("disc", "square", "ring")
OVERSAMPLING = 4  # of a node's outline, which is then smooth
PLACEMENTS, DARTS = 40, 200  # placements tried, and places tried per node in each
DENSEST = 0.5  # fraction of the plane that discs as wide as the gap may cover; at random they jam at 0.547

Point = tuple[float, float]  # (x, y) in the plane's units, y upwards


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
        """Pairs (from, to) by the sector that they clearly lie in."""
        pairs: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTORS}
        for first, second in permutations(self.points, 2):
            name, inside = sector(self.points[first], self.points[second])
            if inside >= SECTOR_MARGIN:
                pairs[name].append((first, second))
        return pairs

    @cached_property
    def cells(self) -> dict[str, str]:
        """The cell of every node that is clear of its borders."""
        return {label: name for label, point in self.points.items() if (name := cell(point))}


def sector(origin: Point, target: Point) -> tuple[str, float]:
    """The sector of the direction from one point to another, and degrees to its nearer border."""
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


def place(number: int, gap: float, inset: float, rng: Random) -> list[Point]:
    """Random points at least `gap` apart and `inset` off the plane's borders, uniformly distributed.

    The gap is kept across opposite borders too, as on a torus; else more nodes would lie near borders.
    Coordinates are hundredths of a unit.

    Raises:
        UserError: more nodes than fit.
    """
    side = PLANE - 2 * inset
    crowded = UserError(
        f"{number} nodes at least {gap} units apart do not fit on the {PLANE:g} x {PLANE:g} plane; use fewer "
        "nodes or a smaller gap"
    )
    if side <= 0 or number * math.pi / 4 * gap**2 > DENSEST * side**2:
        raise crowded

    def apart(one: Point, other: Point) -> float:
        return math.hypot(*(min(abs(a - b), side - abs(a - b)) for a, b in zip(one, other, strict=True)))

    for _ in range(PLACEMENTS):
        points: list[Point] = []
        for _ in range(DARTS * number):
            dart = round(rng.uniform(inset, PLANE - inset), 2), round(rng.uniform(inset, PLANE - inset), 2)
            if all(apart(dart, other) >= gap for other in points):
                points.append(dart)
            if len(points) == number:
                rng.shuffle(points)  # the first dart fell more freely than the last
                return points
    raise crowded


@dataclass(frozen=True)
class Style:
    """How nodes look.

    Args:
        width: pixels along a side of the image.
        radius: of a node, in units of the plane.
        glyph: the diagonal of the longest label, as a fraction of a node's diameter.
        text: what is written on a node, around its number.
        shape: one of `SHAPES`.
        node, label, background: colours by any name that Pillow knows, or `#rrggbb`.
        edge: units: the width of lines that join nodes.
        lines: faint lines in the background, one unit apart.
        noise: standard deviation of noise added to every pixel, in grey levels of 256.
        jitter: 0 to 0.5: the fraction by which size and grey vary between nodes, and, in radii, how far
            labels are off the centre. Nodes stay where they are.

    Raises:
        UserError: an invalid value; the message names it.
    """

    width: int = 448
    radius: float = 0.45
    glyph: float = 0.9
    text: str = "N{}"
    shape: str = "disc"
    node: str = "#b4b4b4"
    label: str = "black"
    background: str = "white"
    edge: float = 0.12
    lines: bool = False
    noise: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        def need(name: str, holds: bool, what: str) -> None:
            if not holds:
                raise UserError(f"--style {name}={getattr(self, name)}: must be {what}")

        need("width", 28 <= self.width <= 4096, "28 to 4096 pixels")
        need("radius", 0 < self.radius <= 2, "above 0 and at most 2 units")
        need("glyph", 0 < self.glyph <= 1, "above 0 and at most 1")
        need("text", self.text.count("{}") == 1, "a text with one {} for the number")
        need("shape", self.shape in SHAPES, f"one of {', '.join(SHAPES)}")
        need("edge", 0 < self.edge <= 1, "above 0 and at most 1 unit")
        need("noise", 0 <= self.noise <= 64, "0 to 64 grey levels")
        need("jitter", 0 <= self.jitter <= 0.5, "0 to 0.5")
        for name in ("node", "label", "background"):
            try:
                ImageColor.getrgb(getattr(self, name))
            except ValueError:
                need(name, False, "a colour such as white or #f0e8d8")

    def changed(self, settings: Sequence[str]) -> Style:
        """This style with settings of a command line, like `background=beige`, `jitter=0.2`.

        Raises:
            UserError: no such setting, or a value of another kind.
        """
        kinds = {field.name: type(field.default) for field in fields(self)}
        values = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name not in kinds:
                raise UserError(f"--style {setting}: must be name=value with a name of {', '.join(kinds)}")
            try:
                is_flag = kinds[name] is bool
                values[name] = (
                    {"true": True, "false": False}[value.lower()] if is_flag else kinds[name](value)
                )
            except (ValueError, KeyError):
                raise UserError(f"--style {setting}: {value!r} is no {kinds[name].__name__}") from None
        return replace(self, **values)


def render(
    nodes: Mapping[str, Point],
    style: Style,
    rng: Random,
    edges: Sequence[tuple[str, str]] = (),
    colours: Mapping[str, str] | None = None,
) -> Image.Image:
    """Render nodes as an RGB image of `style.width` pixels per side.

    Args:
        nodes: places by label (`N3`); its number is what is written on a node.
        rng: of noise and jitter, where the style has them.
        edges: pairs of labels to join by a line.
        colours: of single nodes, by label; the style's where not given.
    """
    colours = colours or {}
    scale = style.width / PLANE
    image = Image.new("RGB", (style.width, style.width), style.background)
    pen = ImageDraw.Draw(image)
    if style.lines:
        for step in range(1, int(PLANE)):
            at = round(step * scale)
            pen.line([(at, 0), (at, style.width)], fill=_faint(style.background))
            pen.line([(0, at), (style.width, at)], fill=_faint(style.background))
    at = {label: (x * scale, (PLANE - y) * scale) for label, (x, y) in nodes.items()}
    for first, second in edges:
        pen.line([at[first], at[second]], fill="dimgray", width=max(1, round(style.edge * scale)))
    texts = {label: style.text.replace("{}", label.lstrip("N")) for label in nodes}
    longest = max(texts.values(), key=len)
    for label, (x, y) in at.items():
        wobble = [style.jitter * rng.uniform(-1, 1) if style.jitter else 0.0 for _ in range(4)]
        radius = style.radius * scale * (1 + wobble[0] / 2)
        mask = _outline(style.shape, max(1, round(2 * radius)))
        corner = round(x - mask.width / 2), round(y - mask.height / 2)
        colour = ImageColor.getrgb(colours.get(label, style.node))[:3]
        shade = tuple(min(255, round(part * (1 + wobble[1] / 2))) for part in colour)
        image.paste(shade, corner, mask)
        place = x + wobble[2] * radius / 2, y + wobble[3] * radius / 2
        font = _font(longest, round(2 * style.radius * scale * style.glyph))
        pen.text(place, texts[label], fill=style.label, font=font, anchor="mm")
    if style.noise:
        grain = np.random.default_rng(rng.getrandbits(62)).normal(
            0, style.noise, (style.width, style.width, 3)
        )
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    return image


def _faint(background: str) -> tuple[int, ...]:
    """A colour that stands off a background a little, to either side."""
    colour = ImageColor.getrgb(background)[:3]
    step = -28 if sum(colour) > 380 else 28
    return tuple(part + step if 0 <= part + step <= 255 else part for part in colour)


@lru_cache(maxsize=256)
def _outline(shape: str, pixels: int) -> Image.Image:
    """The mask of a node, with smooth edges."""
    big = Image.new("L", (pixels * OVERSAMPLING,) * 2, 0)
    pen, box = ImageDraw.Draw(big), [(0, 0), (big.width - 1, big.height - 1)]
    if shape == "square":
        pen.rectangle(box, fill=255)
    elif shape == "disc":
        pen.ellipse(box, fill=255)
    else:
        pen.ellipse(box, outline=255, width=max(OVERSAMPLING, big.width // 10))
    return big.reduce(OVERSAMPLING)


@lru_cache(maxsize=256)
def _font(text: str, diagonal: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, so large that a text's diagonal has as many pixels."""
    left, top, right, bottom = ImageFont.load_default(100).getbbox(text)
    return ImageFont.load_default(max(5, 100 * diagonal / math.hypot(right - left, bottom - top)))
