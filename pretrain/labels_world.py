"""Labelled nodes on a plane, for `worlds`: what the embedded model should know of them before Sparkle's data.

It is taught to read labels, which of two nodes is farther left or higher up, what is green or red, which
nodes a line joins, and which node is next on a side. Of Sparkle's own questions it is taught the answer's
form alone: sectors, cells, labels and numbers are drawn at random, whatever is seen; a tour is all nodes in
any order, and a path is some way along the lines that passes no node twice, seldom the shortest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import networkx as nx
import numpy as np
from PIL import Image

from pretrain.build import IMAGE_SIZE
from pretrain.worlds import PATCHES, Asked, Item, Plan, Sizes, World
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.questions import FAMILIES, HINTS
from spatialvlm.worlds.plane.nodes import CELLS, PLANE, QUADRANTS, SECTORS, Configuration, render

FORM = sparkle.FORMS["embedded"]
GRIDS = 0.4  # of the images are grids, the others scattered nodes
MOST_LABELS = max(side * side for side in FORM.grids)
LONGEST_PATH = 7  # nodes
APART = 0.5  # units between two nodes of which one is farther left or higher up
SIDES = {"right": (1, 0), "left": (-1, 0), "above": (0, 1), "below": (0, -1)}
TOLD = 3 + len(SIDES)  # of a node: its place, its colour, on which sides there are lines


@dataclass(frozen=True)
class Facts:
    nodes: Configuration
    edges: frozenset[frozenset[str]]
    start: str | None = None
    end: str | None = None

    def beside(self, label: str) -> dict[str, str]:
        """The nodes that a line joins to `label`, by side."""
        here = np.array(self.nodes.points[label])
        ways = {
            other: np.sign(np.round(np.array(self.nodes.points[other]) - here, 6)).astype(int)
            for edge in self.edges
            if label in edge
            for other in edge - {label}
        }
        return {side: o for side, way in SIDES.items() for o, found in ways.items() if tuple(found) == way}


def make(split: str, index: int) -> Item:
    name = f"labels-{split}-{index}"
    rng = Random(name)
    if rng.random() < GRIDS:
        task = rng.choice([task for task in sparkle_composite.tasks(FORM) if task.side])
        example = task.make(name, FORM, index)
        picture, meta = example.images[0], example.meta
        nodes = Configuration(name, meta["nodes"])
        edges = frozenset(map(frozenset, meta["edges"]))
        facts = Facts(nodes, edges, meta["start"], meta["end"])
    else:
        nodes = sparkle.scatter(name, FORM, (FORM.nodes[0], FORM.nodes[1] + 1))
        facts = Facts(nodes, frozenset())
        picture = render(nodes.points, FORM.style, rng)
    image = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)  # as the processor does
    labels, places = list(nodes.points), np.array(list(nodes.points.values()))
    numbers = np.array([int(label[1:]) for label in labels] + [0])
    at = np.stack([places[:, 0], PLANE - places[:, 1]], 1) / PLANE * PATCHES  # column and row, in patches
    middles = np.indices((PATCHES, PATCHES)).reshape(2, -1)[::-1].T + 0.5
    away = np.linalg.norm(middles[:, None] - at[None], axis=2)
    radius = FORM.style.radius / PLANE * PATCHES
    owners = np.where(away.min(1) <= radius, away.argmin(1), -1)
    colours = np.array([(label == facts.start) - (label == facts.end) for label in labels] + [0.0])
    padded = np.concatenate([at, np.zeros((1, 2))])
    lines = np.array([[2.0 * (side in beside) - 1 for side in SIDES] for beside in map(facts.beside, labels)])
    lines = np.concatenate([lines if facts.edges else 0 * lines, np.zeros((1, len(SIDES)))])
    values = np.concatenate(
        [
            padded[owners] / PATCHES * 4 - 2,
            2 * colours[owners, None],
            padded[owners] - middles,
            lines[owners],
        ],
        1,
    )
    centres = np.zeros((PATCHES, PATCHES), bool)
    centres[tuple(at[:, ::-1].astype(int).clip(0, PATCHES - 1).T)] = True
    told = {label: np.array([*(place / PLANE * 4 - 2), 2 * colour, *line])
            for label, place, colour, line in zip(labels, places, colours, lines, strict=False)}  # fmt: skip
    return Item(
        images=np.asarray(image)[None],
        kinds=numbers[owners][None].astype(np.int8),
        centres=centres.reshape(1, -1),
        values=values[None],
        facts=facts,
        told=told
        | {f"N{number}": np.full(TOLD, np.nan) for number in range(1, 40) if f"N{number}" not in told},
    )


# ---- short questions


def short(item: Item, rng: Random) -> Asked | None:
    return rng.choice(_SHORT)(item.facts, rng)


def _exist(facts: Facts, rng: Random) -> Asked:
    absent = [f"N{number}" for number in range(1, MOST_LABELS + 1) if f"N{number}" not in facts.nodes.points]
    label, answer = rng.choice(facts.nodes.labels), "yes"
    if absent and rng.random() < 0.5:
        label, answer = rng.choice(absent), "no"
    return Asked("exist", f"Is there a node {label}?", answer, (label,))


def _lateral(facts: Facts, rng: Random) -> Asked | None:
    one, other = rng.sample(facts.nodes.labels, 2)
    apart = facts.nodes.points[one][0] - facts.nodes.points[other][0]
    if abs(apart) < APART:
        return None
    return Asked(
        "lateral", f"Is {one} left or right of {other}?", "left" if apart < 0 else "right", (one, other)
    )


def _vertical(facts: Facts, rng: Random) -> Asked | None:
    one, other = rng.sample(facts.nodes.labels, 2)
    apart = facts.nodes.points[one][1] - facts.nodes.points[other][1]
    if abs(apart) < APART:
        return None
    return Asked(
        "vertical", f"Is {one} above or below {other}?", "above" if apart > 0 else "below", (one, other)
    )


def _coloured(facts: Facts, rng: Random) -> Asked | None:
    if facts.start is None:
        return None
    colour, answer = rng.choice([("green", facts.start), ("red", facts.end)])
    return Asked("coloured", f"Which node is {colour}?", answer)


def _joined(facts: Facts, rng: Random) -> Asked | None:
    """As often yes as no; nodes that are not joined are neighbours in the grid where some are."""
    if not facts.edges:
        return None
    if rng.random() < 0.5:
        pair = rng.sample(sorted(rng.choice(sorted(map(sorted, facts.edges)))), 2)
    else:
        pair = rng.sample(facts.nodes.labels, 2)
        if frozenset(pair) in facts.edges:
            return None
    answer = "yes" if frozenset(pair) in facts.edges else "no"
    return Asked("joined", f"Is {pair[0]} joined to {pair[1]}?", answer, tuple(pair))


def _next(facts: Facts, rng: Random) -> Asked | None:
    """Which node a line leads to; nodes without a line on any side are not asked about."""
    if not facts.edges:
        return None
    label = rng.choice(facts.nodes.labels)
    if not (beside := facts.beside(label)):
        return None
    side, answer = rng.choice(list(beside.items()))
    said = {"right": "to the right of", "left": "to the left of"}.get(side, side)
    return Asked("next", f"Which node is next {said} {label}?", answer, (label,))


_SHORT = (_exist, _lateral, _vertical, _coloured, _joined, _next)


# ---- Sparkle's form, with answers that mean nothing


def form(item: Item, rng: Random) -> Asked | None:
    facts = item.facts
    if facts.start is not None:
        return _path(facts, rng)
    name = rng.choice([*FAMILIES, "tour", "tour"])
    if name == "tour":
        return _tour(facts, rng)
    family = FAMILIES[name]
    asked = family.ask(facts.nodes, rng)
    if asked is None:
        return None
    prompt = f"{asked.question} {HINTS[family.answer_type]}" if rng.random() < 0.7 else asked.question
    named = tuple(
        sorted({label for label in facts.nodes.labels if label in asked.question}, key=prompt.index)
    )
    answer = _MEANINGLESS[family.answer_type](asked.options or tuple(facts.nodes.labels), rng)
    return Asked(f"form-{name}", prompt, answer, named)


_MEANINGLESS: dict[str, Callable[[tuple[str, ...], Random], str]] = {
    "direction": lambda _, rng: rng.choice(SECTORS),
    "yes_no": lambda _, rng: rng.choice(("yes", "no")),
    "label": lambda labels, rng: rng.choice(labels),
    "order": lambda labels, rng: ", ".join(rng.sample(labels, 3)),
    "number": lambda _, rng: f"{rng.uniform(0.5, 15):.1f}",
    "ratio": lambda _, rng: f"{rng.uniform(1, 5):.1f}",
    "count": lambda _, rng: str(rng.randint(0, 5)),
    "cell": lambda _, rng: rng.choice(CELLS),
    "quadrant": lambda _, rng: rng.choice(QUADRANTS),
    "coordinates": lambda _, rng: f"({rng.uniform(0, 10):.1f}, {rng.uniform(0, 10):.1f})",
}


def route(item: Item, rng: Random) -> Asked:
    """The composite tests' form: a path where there are lines, a tour elsewhere."""
    return (_tour if item.facts.start is None else _path)(item.facts, rng)


def _path(facts: Facts, rng: Random) -> Asked:
    graph = nx.Graph([tuple(edge) for edge in facts.edges])
    shortest = nx.shortest_path_length(graph, facts.start, facts.end) + 1
    ways = nx.all_simple_paths(graph, facts.start, facts.end, max(shortest, LONGEST_PATH) - 1)
    way = rng.choice(sorted(ways))
    prompt = f"{sparkle_composite.PATH_QUESTION} {sparkle_composite.HINT}"
    return Asked("form-path", prompt, sparkle_composite.JOIN.join(way))


def _tour(facts: Facts, rng: Random) -> Asked:
    start, *others = facts.nodes.labels
    tour = [start, *rng.sample(others, len(others)), start]
    prompt = f"{sparkle_composite.TOUR_QUESTION.format(start=start)} {sparkle_composite.HINT}"
    return Asked("form-tour", prompt, sparkle_composite.JOIN.join(tour))


WORLD = World(
    name="labels",
    sizes=Sizes(items=12000, tower_steps=500, language_steps=1100),
    taught=(__doc__ or "").partition("\n\n")[2],
    frames=1,
    kinds=MOST_LABELS + 1,
    values=5 + len(SIDES),
    told=TOLD,
    make=make,
    plans={"short": Plan(12, 24, 4, short), "form": Plan(5, 116, 56, form), "route": Plan(3, 116, 56, route)},
    turns=("short", "short", "route", "short", "form", "route"),
    names=tuple(f"N{number}" for number in range(1, MOST_LABELS + 1)),
)
