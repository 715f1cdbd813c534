"""Pictures of labelled nodes on the 10 x 10 plane, as Sparkle (arXiv 2410.16162) has them: grey discs, black
labels. Size, style, background and jitter can be changed, to see what a model's skill depends on.

The picture is the plane: (0, 0) is its lower left corner and (10, 10) its upper right one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from spatialvlm.errors import UserError

PLANE = 10.0  # units along a side
SHAPES = ("disc", "square", "ring")
OVERSAMPLING = 4  # of a node's outline, which is then smooth
LINE = 0.12  # units: how wide lines between nodes are

Point = tuple[float, float]  # (x, y) in the plane's units, y upwards


@dataclass(frozen=True)
class Style:
    """How nodes look.

    Args:
        width: pixels along a side of the picture.
        radius: of a node, in units of the plane.
        glyph: the diagonal of the longest label, as a share of a node's diameter.
        text: what is written on a node, around its number.
        shape: one of `SHAPES`.
        node, label, background: colours by any name that Pillow knows, or `#rrggbb`.
        lines: faint lines in the background, one unit apart.
        noise: standard deviation of what is added to every pixel, in grey levels of 256.
        jitter: 0 to 0.5: by what share the size and the grey of a node vary from one to the next, and how far
            its label is off its centre, as a share of the radius. Nodes stay where they are.

    Raises:
        UserError: a value that makes no sense; the message names it.
    """

    width: int = 448
    radius: float = 0.45
    glyph: float = 0.9
    text: str = "N{}"
    shape: str = "disc"
    node: str = "#b4b4b4"
    label: str = "black"
    background: str = "white"
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
        need("noise", 0 <= self.noise <= 64, "0 to 64 grey levels")
        need("jitter", 0 <= self.jitter <= 0.5, "0 to 0.5")
        for name in ("node", "label", "background"):
            try:
                ImageColor.getrgb(getattr(self, name))
            except ValueError:
                need(name, False, "a colour such as white or #f0e8d8")

    def changed(self, settings: Sequence[str]) -> Style:
        """This style with settings as a command line has them: `background=beige`, `jitter=0.2`.

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
                values[name] = {"true": True, "false": False}[value.lower()] if kinds[name] is bool else None
                if values[name] is None:
                    values[name] = kinds[name](value)
            except (ValueError, KeyError):
                raise UserError(f"--style {setting}: {value!r} is no {kinds[name].__name__}") from None
        return replace(self, **values)


def draw(
    nodes: Mapping[str, Point],
    style: Style,
    rng: Random,
    edges: Sequence[tuple[str, str]] = (),
    colours: Mapping[str, str] | None = None,
) -> Image.Image:
    """An RGB picture of `style.width` pixels a side.

    Args:
        nodes: places by label (`N3`); its number is what is written on a node.
        rng: of noise and jitter, where the style has them.
        edges: pairs of labels to join by a line.
        colours: of single nodes, by label; the style's where not given.
    """
    colours = colours or {}
    scale = style.width / PLANE
    picture = Image.new("RGB", (style.width, style.width), style.background)
    pen = ImageDraw.Draw(picture)
    if style.lines:
        for step in range(1, int(PLANE)):
            at = round(step * scale)
            pen.line([(at, 0), (at, style.width)], fill=_faint(style.background))
            pen.line([(0, at), (style.width, at)], fill=_faint(style.background))
    at = {label: (x * scale, (PLANE - y) * scale) for label, (x, y) in nodes.items()}
    for first, second in edges:
        pen.line([at[first], at[second]], fill="dimgray", width=max(1, round(LINE * scale)))
    texts = {label: style.text.replace("{}", label.lstrip("N")) for label in nodes}
    longest = max(texts.values(), key=len)
    for label, (x, y) in at.items():
        wobble = [style.jitter * rng.uniform(-1, 1) if style.jitter else 0.0 for _ in range(4)]
        radius = style.radius * scale * (1 + wobble[0] / 2)
        mask = _outline(style.shape, max(1, round(2 * radius)))
        corner = round(x - mask.width / 2), round(y - mask.height / 2)
        colour = ImageColor.getrgb(colours.get(label, style.node))[:3]
        shade = tuple(min(255, round(part * (1 + wobble[1] / 2))) for part in colour)
        picture.paste(shade, corner, mask)
        place = x + wobble[2] * radius / 2, y + wobble[3] * radius / 2
        font = _font(longest, round(2 * style.radius * scale * style.glyph))
        pen.text(place, texts[label], fill=style.label, font=font, anchor="mm")
    if style.noise:
        grain = np.random.default_rng(rng.getrandbits(62)).normal(
            0, style.noise, (style.width, style.width, 3)
        )
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    return picture


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
