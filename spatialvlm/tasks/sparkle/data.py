"""Sparkle's basic questions (arXiv 2410.16162): configurations of labelled nodes, drawn and asked about.

2,000 configurations give 34,000 questions: each of the 16 families once, and one of them, in turn, once more
(`sparkle_questions`). All questions of a configuration share its picture. Two forms of the same functions:
`paper`, and `embedded` with larger glyphs and fewer nodes in 112 pixels, for a tower of 14-pixel patches.

Every configuration follows from (form, split, seed, number) alone; splits share none, and which capabilities
are asked for changes none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.sparkle import files as sparkle_files
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES, FEWEST_NODES, HINTS, TRIES, Asked
from spatialvlm.worlds.plane.draw import PLANE, Point, Style, draw
from spatialvlm.worlds.plane.nodes import CELLS, QUADRANTS, SECTORS, Configuration

MADE = "made"  # in place of a path: questions rendered when they are looked at
CONFIGURATIONS = {"train": 2000, "validation": 50, "test": 200}  # of each split
SCATTERS = 100  # pictures tried for a configuration
DARTS = 200  # places tried for a node before all start anew
DENSEST = (
    0.5  # share of the plane that discs as wide as the gap may cover; placed at random they jam at 0.547
)


@dataclass(frozen=True)
class Form:
    """How configurations are made and drawn.

    Args:
        nodes: the fewest and the most nodes; every number between is equally likely.
        gap: units that any two nodes are apart at least.
        style: of the pictures.
        grids: nodes along a side of the grids that shortest paths are asked of.
        tours: the fewest and the most nodes of tours.
    """

    nodes: tuple[int, int] = (5, 8)
    gap: float = 1.2
    style: Style = field(default_factory=Style)
    grids: tuple[int, ...] = (4, 5)
    tours: tuple[int, int] = (4, 8)

    def __post_init__(self) -> None:
        fewest, most = self.nodes
        if not FEWEST_NODES <= fewest <= most:
            raise UserError(
                f"nodes from {fewest} to {most}: the basic questions need {FEWEST_NODES} at least, and no "
                "more as the fewest than as the most"
            )
        if not self.gap >= 2 * self.style.radius:
            raise UserError(
                f"gap {self.gap}: nodes of radius {self.style.radius} overlap; it must be "
                f"{2 * self.style.radius} at least"
            )


FORMS = {
    "paper": Form(),
    "embedded": Form((4, 5), 2.3, Style(width=112, radius=1.05, glyph=0.85, text="{}"), (3, 4), (4, 5)),
}


# ---- configurations


def place(number: int, gap: float, inset: float, rng: Random) -> list[Point]:
    """Random points that are `gap` apart and `inset` off the plane's borders, each equally likely anywhere.

    The gap is kept across opposite borders too, as on a torus: without, more nodes would lie near borders.
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

    for _ in range(TRIES):
        points: list[Point] = []
        for _ in range(DARTS * number):
            dart = round(rng.uniform(inset, PLANE - inset), 2), round(rng.uniform(inset, PLANE - inset), 2)
            if all(apart(dart, other) >= gap for other in points):
                points.append(dart)
            if len(points) == number:
                rng.shuffle(points)  # the first dart fell more freely than the last
                return points
    raise crowded


def scatter(name: str, form: Form, nodes: tuple[int, int]) -> Configuration:
    """The nodes that follow from a name, as many as drawn between the two numbers."""
    rng = Random(name)
    points = place(rng.randint(*nodes), form.gap, form.style.radius, rng)
    return Configuration(name, {f"N{number}": point for number, point in enumerate(points, start=1)})


def configuration(series: str, form: Form) -> Configuration:
    """The first of a series of which every family can ask something.

    Raises:
        UserError: more nodes than fit, or so many, or so evenly placed, that some family never can.
    """
    for attempt in range(SCATTERS):
        nodes = scatter(f"{series}-{attempt}", form, form.nodes)
        if all(_ask(nodes, family, 0) for family in FAMILIES):
            return nodes
    raise UserError(
        f"{SCATTERS} pictures of {form.nodes[0]} to {form.nodes[1]} nodes at least {form.gap} units apart "
        "hold none of which every family can ask a clear question; use fewer nodes or a smaller gap"
    )


def _ask(nodes: Configuration, family: str, turn: int) -> Asked | None:
    return FAMILIES[family].ask(nodes, Random(f"{nodes.name}-{family}-{turn}"))


# ---- questions


def chosen(capabilities: Sequence[str] = CAPABILITIES, numbers: bool = True) -> tuple[str, ...]:
    """The families of some capabilities, without those that are answered by a number where `numbers` is off.

    Raises:
        UserError: no capability, or one that is none.
    """
    if not capabilities or set(capabilities) - set(CAPABILITIES):
        raise UserError(f"--capabilities {' '.join(capabilities)}: must be some of {', '.join(CAPABILITIES)}")
    return tuple(
        name
        for name, family in FAMILIES.items()
        if family.capability in capabilities and (numbers or not family.numbers)
    )


@dataclass(frozen=True)
class Series:
    """Makes the questions of a split, from the number of a configuration, in this process or another."""

    form: str
    made: Form
    split: str
    seed: int
    families: tuple[str, ...]
    pairs: int

    def __call__(self, index: int) -> list[Example]:
        """All questions of a configuration, with one picture.

        Raises:
            UserError: it has not as many different questions, or its nodes do not fit.
        """
        series = f"sparkle-{self.form}-{self.split}-{self.seed}-{index}"
        nodes = configuration(series, self.made)
        picture = draw(nodes.points, self.made.style, Random(f"{series}-picture"))
        first = index % len(self.families)  # whose turn it is to be asked once more
        order = self.families[first:] + self.families[:first]
        asked: dict[str, tuple[str, Asked]] = {}
        for turn in range(TRIES * self.pairs):
            family = order[turn % len(order)]
            question = _ask(nodes, family, turn // len(order))
            if question and question.question not in asked:
                asked[question.question] = family, question
            if len(asked) == self.pairs:
                break
        else:
            raise UserError(
                f"{series} has only {len(asked)} different questions of {len(order)} families; lower --pairs"
            )
        return [
            _example(f"{series}-{number}", nodes, picture, *each)
            for number, each in enumerate(asked.values())
        ]


def series(
    name: str,
    split: str,
    capabilities: Sequence[str] = CAPABILITIES,
    numbers: bool = True,
    pairs: int | None = None,
    seed: int = 0,
    form: Form | None = None,
) -> Series:
    """What makes a split's questions; arguments as of `load`.

    Raises:
        UserError: no such split or capability, less than one question a picture.
    """
    families = chosen(capabilities, numbers)
    if split not in CONFIGURATIONS:
        raise UserError(f"Sparkle's questions have the splits {', '.join(CONFIGURATIONS)}, not {split!r}")
    if pairs is not None and pairs < 1:
        raise UserError(f"--pairs must be at least 1, not {pairs}")
    return Series(name, form or FORMS[name], split, seed, families, pairs or len(families) + 1)


def _example(id: str, nodes: Configuration, picture: Image.Image, family: str, asked: Asked) -> Example:
    kind = FAMILIES[family]
    return Example(
        id=id,
        images=(picture,),
        question=asked.question,
        answer=asked.answer,
        task=family,
        prompt=f"{asked.question} {HINTS[kind.answer_type]}",
        meta={
            "capability": kind.capability,
            "answer_type": kind.answer_type,
            "options": asked.options,
            "nodes": dict(nodes.points),
        },
    )


def load(
    path: str | Path = "paper",
    split: str = "test",
    limit: int | None = None,
    capabilities: Sequence[str] = CAPABILITIES,
    numbers: bool = True,
    configurations: int | None = None,
    pairs: int | None = None,
    seed: int = 0,
    form: Form | None = None,
) -> Sequence[Example]:
    """Basic questions, made now or read from files, with the family as task.

    Args:
        path: a name of `FORMS`, for questions made when they are looked at; or what `make_data/sparkle.py`
            wrote: its folder, a parquet file, or a hub id.
        split: train, validation or test.
        limit: at most this many, the first ones.
        capabilities: only these.
        numbers: with the families that are answered by a number; off is the paper's ablation.
        configurations: how many are made; `CONFIGURATIONS` by default.
        pairs: questions of each made one; by default each family once, and one more.
        form: other than the one that `path` names.

    Returns: Examples; `meta` has `capability`, `answer_type`, `options` (labels that the question lists) and
    `nodes` (places by label).

    Raises:
        UserError: nothing there, no such split or capability, a row that is not whole; the message names it.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    if str(path) not in FORMS:
        families = chosen(capabilities, numbers)
        return sparkle_files.read(path, split, _check, FAMILIES.__contains__, families.__contains__, limit)
    asked = series(str(path), split, capabilities, numbers, pairs, seed, form)
    made = lru_cache(maxsize=64)(asked)
    size = asked.pairs * (configurations or CONFIGURATIONS[split])
    indices = range(size if limit is None else min(limit, size))
    return LazyExamples(lambda index: made(index // asked.pairs)[index % asked.pairs], indices)


# ---- rows of files

_NUMBER = r"\d+(?:\.\d+)?"
ANSWERS = {  # what an answer of each type looks like, written out
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


def _check(example: Example) -> str | None:
    """What is wrong with a row's example; None where nothing is."""
    kind, answer, nodes = example.meta["answer_type"], example.answer, example.meta["nodes"]
    family = FAMILIES[example.task]
    if (kind, example.meta["capability"]) != (family.answer_type, family.capability):
        return f"'answer_type' and 'capability' are not those of {example.task}"
    if not re.fullmatch(ANSWERS[kind], answer):
        return f"'answer' {answer!r} is none of a question of {example.task}"
    named = re.findall(r"\bN\d+", f"{example.question} {answer} {' '.join(example.meta['options'])}")
    if unknown := [label for label in named if label not in nodes]:
        return f"'{unknown[0]}' is asked about and not among its nodes"
    if kind in ("label", "order") and (fault := _mislabelled(example)):
        return fault
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


def _mislabelled(example: Example) -> str | None:
    """What is wrong with the labels of an answer: they must be among those that the question lists, and an
    order of all of those."""
    answer, options = example.answer.split(", "), example.meta["options"]
    if example.meta["answer_type"] == "order" and sorted(answer) != sorted(options):
        return f"'answer' {example.answer!r} is no order of 'options' {', '.join(options)}"
    if options and not set(answer) <= set(options):
        return f"'answer' {example.answer!r} is none of 'options' {', '.join(options)}"
    return None
