"""Labelled nodes on a plane, for `worlds`: Sparkle's images, and what there is to know of them.

Short questions, in words other than Sparkle's, teach it. Of Sparkle's own families the answer's form is
learnt, and the right answer in part; of a path, some way along the lines, half of the time a shortest; of a
tour, all nodes in any order.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from random import Random

import networkx as nx
import numpy as np

from pretrain.build import LABELS
from pretrain.targets import GROUPS, MOST, PATCHES, SIDES, VALUES
from pretrain.worlds import Asked, Asker, Drawn, Facts, Plan, World
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.questions import FAMILIES, HINTS, by_distance, clearly, others_clear
from spatialvlm.worlds.plane.nodes import (
    CELL_MARGIN,
    CELL_NAMES,
    CELLS,
    PLANE,
    QUADRANTS,
    SECTORS,
    Configuration,
    render,
)

FORM = sparkle.FORMS["embedded"]
GRIDS = 0.45  # of the images are grids, the others scattered nodes
WAYS = {"right": (1, 0), "left": (-1, 0), "above": (0, 1), "below": (0, -1)}


def make(split: str, index: int) -> Facts:
    """Scattered nodes, or a grid with some or all of its lines, a start and an end."""
    name = f"labels-{split}-{index}"
    rng = Random(name)
    if rng.random() < GRIDS:
        task = rng.choice([task for task in sparkle_composite.tasks(FORM) if task.side])
        meta = task.make(name, FORM, index).meta
        return {"name": name, **{key: meta[key] for key in ("nodes", "edges", "start", "end")}}
    nodes = sparkle.scatter(name, FORM, (FORM.nodes[0], FORM.nodes[1] + 1))
    return {"name": name, "nodes": dict(nodes.points)}


def draw(facts: Facts) -> Drawn:
    """The image, as large as the model looks at it, and its targets."""
    labels, places = list(facts["nodes"]), np.array(list(facts["nodes"].values()))
    start, end = facts.get("start"), facts.get("end")
    colours = {start: sparkle_composite.GREEN, end: sparkle_composite.RED} if start else {}
    image = render(facts["nodes"], FORM.style, Random(facts["name"]), facts.get("edges", ()), colours)
    at = np.stack([places[:, 0], PLANE - places[:, 1]], 1) / PLANE  # column and row, 0 to 1
    middles = (np.indices((PATCHES, PATCHES)).reshape(2, -1)[::-1].T + 0.5) / PATCHES
    away = np.linalg.norm(middles[:, None] - at[None], axis=2)
    owners = np.where(away.min(1) <= FORM.style.radius / PLANE, away.argmin(1), -1)
    words = {"shape": "node", "color": "gray"}
    classes = np.full((len(labels), len(GROUPS)), -1)
    values = np.full((len(labels), len(VALUES)), np.nan)
    for number, label in enumerate(labels):
        colour = "green" if label == start else "red" if label == end else "gray"
        for k, (group, options) in enumerate(GROUPS.items()):
            word = (words | {"color": colour, "label": label}).get(group)
            classes[number, k] = options.index(word) if word else -1
        values[number, VALUES.index("x") : VALUES.index("y") + 1] = (places[number] - PLANE / 2) / 2.5
        if start:
            values[number, -len(SIDES) :] = [2.0 * (side in beside(facts, label)) - 1 for side in SIDES]
    values[:, :2] = 4 * (at - 0.5)
    floor = np.full(PATCHES**2, np.nan)
    return Drawn(np.asarray(image), owners.astype(np.int8), floor, classes, values)


def _nodes(facts: Facts) -> Configuration:
    return Configuration(facts["name"], facts["nodes"])


def _is_scattered(facts: Facts) -> bool:
    return "edges" not in facts


def beside(facts: Facts, label: str) -> dict[str, str]:
    """The nodes that a line joins to `label`, by side."""
    found = {}
    for edge in facts.get("edges", ()):
        if label in edge:
            other = next(each for each in edge if each != label)
            way = np.sign(np.round(np.subtract(facts["nodes"][other], facts["nodes"][label]), 6)).astype(int)
            found[next(side for side, each in WAYS.items() if each == tuple(way))] = other
    return found


# ---- short questions

COMPASS = ("east", "northeast", "north", "northwest", "west", "southwest", "south", "southeast")  # as SECTORS
APART = 0.5  # units between two nodes of which one is farther left or higher up
ROWS, COLUMNS = ("bottom", "middle", "top"), ("left", "center", "right")
SIDEWAYS = (("left", 0, -1), ("right", 0, 1), ("top", 1, 1), ("bottom", 1, -1))


def _asked(facts: Facts, prompt: str, answer: str, named: Sequence[str], goal: str | None = None) -> Asked:
    """Told of every label but the first: distance and direction from the first named; of the first, those of
    `goal`, the answer where only the first is named. `number`, at the last: the answer, where it is one.
    """
    nodes, labels, told = facts["nodes"], list(facts["nodes"]), {}
    for slot, label in enumerate(named):
        there = label if slot else goal
        if there is not None:
            (x, y), (u, v) = nodes[named[0]], nodes[there]
            away = math.hypot(u - x, v - y)
            told[slot] = {"distance": away, "sine": (v - y) / away, "cosine": (u - x) / away}
    if named and re.fullmatch(r"\d+(\.\d)?", answer):
        told.setdefault(len(named) - 1, {})["number"] = float(answer)
    return Asked(prompt, answer, tuple(labels.index(label) for label in named), told)


def _from_near_to_far(facts: Facts, rng: Random, count: int) -> tuple[str, list[str]] | None:
    """An anchor, and some others from the nearest to the farthest, clearly so."""
    anchor, *others = rng.sample(list(facts["nodes"]), count + 1)
    order = by_distance(_nodes(facts), anchor, others)
    return (anchor, order) if order else None


def _in_sector(facts: Facts, rng: Random) -> tuple[int, str, str] | None:
    """A sector, every one as often, and two nodes, the second clearly in it from the first."""
    number = rng.randrange(8)
    pairs = _nodes(facts).sectors[SECTORS[number]]
    return (number, *rng.choice(pairs)) if pairs else None


# everywhere: where one is from another


def _beside(facts: Facts, rng: Random) -> Asked | None:
    (one, a), (other, b) = rng.sample(sorted(facts["nodes"].items()), 2)
    axis = rng.randrange(2)
    if abs(a[axis] - b[axis]) < APART:
        return None
    words = (("left", "right"), ("below", "above"))[axis]
    prompt = (f"Is {one} left or right of {other}?", f"Is {one} above or below {other}?")[axis]
    return _asked(facts, prompt, words[a[axis] > b[axis]], (one, other))


def _compass(facts: Facts, rng: Random) -> Asked | None:
    if not (clear := _in_sector(facts, rng)):
        return None
    number, one, other = clear
    return _asked(facts, f"From {one}, where is {other}?", COMPASS[number], (one, other))


def _compass_node(facts: Facts, rng: Random) -> Asked | None:
    """The only node in a sector."""
    if not (clear := _in_sector(facts, rng)):
        return None
    number, anchor, answer = clear
    nodes, name = _nodes(facts), SECTORS[number]
    inside = [second for first, second in nodes.sectors[name] if first == anchor]
    if len(inside) > 1 or not others_clear(nodes, anchor, name):
        return None
    return _asked(facts, f"From {anchor}, which is {COMPASS[number]}?", answer, (anchor,), answer)


# everywhere: how far


def _apart(facts: Facts, rng: Random) -> Asked:
    one, other = rng.sample(list(facts["nodes"]), 2)
    return _asked(
        facts, f"From {one}, how far is {other}?", f"{_nodes(facts).distance(one, other):.1f}", (one, other)
    )


def _closer(facts: Facts, rng: Random) -> Asked | None:
    if not (clear := _from_near_to_far(facts, rng, 2)):
        return None
    anchor, order = clear
    word, answer = rng.choice((("closer", order[0]), ("further", order[1])))
    one, other = rng.sample(order, 2)
    return _asked(facts, f"From {anchor}, is {one} or {other} {word}?", answer, (anchor, one, other))


def _closest(facts: Facts, rng: Random) -> Asked | None:
    anchor, *others = rng.sample(list(facts["nodes"]), len(facts["nodes"]))
    order = sorted(others, key=lambda label: _nodes(facts).distance(anchor, label))
    away = [_nodes(facts).distance(anchor, label) for label in order]
    if rng.random() < 0.6:
        fine, answer, prompt = clearly(*away[:2]), order[0], f"Which is closest to {anchor}?"
    else:
        fine, answer, prompt = clearly(*away[-2:]), order[-1], f"Which is far away from {anchor}?"
    return _asked(facts, prompt, answer, (anchor,), answer) if fine else None


def _rank(facts: Facts, rng: Random) -> Asked | None:
    """One of an order of three."""
    if not (clear := _from_near_to_far(facts, rng, 3)):
        return None
    anchor, order = clear
    number = rng.randrange(3)
    one, two, three = rng.sample(order, 3)
    which = ("closest", "second", "third")[number]
    prompt = f"From {anchor}, which of {one}, {two} and {three} is {which}?"
    return _asked(facts, prompt, order[number], (anchor, one, two, three))


# everywhere: where on the image


def _third(facts: Facts, rng: Random) -> Asked | None:
    label, axis = rng.choice(list(facts["nodes"])), rng.randrange(2)
    along = facts["nodes"][label][axis]
    if min(abs(along - PLANE / 3), abs(along - 2 * PLANE / 3)) < CELL_MARGIN:
        return None
    number = int(along / PLANE * 3)
    what, words = (("column", COLUMNS), ("row", ROWS))[axis]
    return _asked(facts, f"Which {what} is {label} at?", words[number], (label,))


def _corner(facts: Facts, rng: Random) -> Asked | None:
    label = rng.choice(list(facts["nodes"]))
    x, y = facts["nodes"][label]
    if min(abs(x - PLANE / 2), abs(y - PLANE / 2)) < CELL_MARGIN:
        return None
    answer = f"{'top' if y > PLANE / 2 else 'bottom'} {'right' if x > PLANE / 2 else 'left'}"
    return _asked(facts, f"Which corner is {label} closest to?", answer, (label,))


def _coordinate(facts: Facts, rng: Random) -> Asked:
    label, axis = rng.choice(list(facts["nodes"])), rng.randrange(2)
    side = ("the left side", "the bottom")[axis]
    return _asked(facts, f"How far is {label} from {side}?", f"{facts['nodes'][label][axis]:.1f}", (label,))


def _in_third(facts: Facts, rng: Random) -> Asked | None:
    """The only node in or near a cell of 3 x 3."""
    row, column = rng.randrange(3), rng.randrange(3)
    low = column * PLANE / 3 - CELL_MARGIN, row * PLANE / 3 - CELL_MARGIN
    side = PLANE / 3 + 2 * CELL_MARGIN
    near = [
        label
        for label, point in facts["nodes"].items()
        if all(a < along < a + side for along, a in zip(point, low, strict=True))
    ]
    cells = _nodes(facts).cells
    if len(near) != 1 or cells.get(near[0]) != CELL_NAMES[2 - row][column]:
        return None
    return _asked(facts, f"Which is at the {ROWS[row]} {COLUMNS[column]}?", near[0], ())


def _outermost(facts: Facts, rng: Random) -> Asked | None:
    side, axis, sign = rng.choice(SIDEWAYS)
    order = sorted(facts["nodes"], key=lambda label: -sign * facts["nodes"][label][axis])
    first, second = (sign * facts["nodes"][label][axis] for label in order[:2])
    if first - second < CELL_MARGIN:
        return None
    return _asked(facts, f"Which is closest to the {side} side?", order[0], ())


def _how_many(facts: Facts, rng: Random) -> Asked | None:
    """Never in a grid, where others are level with it."""
    label, (side, axis, sign) = rng.choice(list(facts["nodes"])), rng.choice(SIDEWAYS)
    here = facts["nodes"][label][axis]
    off = [sign * (point[axis] - here) for other, point in facts["nodes"].items() if other != label]
    if min(map(abs, off)) < CELL_MARGIN:
        return None
    words = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}[side]
    return _asked(facts, f"How many are {words} {label}?", str(sum(each > 0 for each in off)), (label,))


# grids: what a path is made of


def _coloured(facts: Facts, rng: Random) -> Asked | None:
    if _is_scattered(facts):
        return None
    colour, answer = rng.choice((("green", facts["start"]), ("red", facts["end"])))
    return _asked(facts, f"Which is {colour}?", answer, ())


def _joined(facts: Facts, rng: Random) -> Asked | None:
    """Nodes next to each other, joined or not, and in a quarter any others."""
    if _is_scattered(facts):
        return None
    nodes, edges = _nodes(facts), {frozenset(edge) for edge in facts["edges"]}
    step = 1.1 * min(nodes.distance(*edge) for edge in edges)
    pairs = [pair for pair in itertools.permutations(nodes.labels, 2) if nodes.distance(*pair) < step]
    apart = [pair for pair in pairs if frozenset(pair) not in edges]
    if rng.random() < 0.5:
        one, other = rng.choice([pair for pair in pairs if frozenset(pair) in edges])
    elif apart and rng.random() < 0.75:
        one, other = rng.choice(apart)
    else:
        one, other = rng.sample(list(facts["nodes"]), 2)
    answer = "yes" if frozenset((one, other)) in edges else "no"
    return _asked(facts, f"Is {one} joined to {other}?", answer, (one, other))


def _next(facts: Facts, rng: Random) -> Asked | None:
    """Which node a line leads to, or none; three in four have one where there is one."""
    if _is_scattered(facts):
        return None
    label = rng.choice(list(facts["nodes"]))
    sides, found = list(WAYS), beside(facts, label)
    if found and rng.random() < 0.75:
        sides = list(found)
    side = rng.choice(sides)
    words = {"left": "left of", "right": "right of"}.get(side, side)
    return _asked(facts, f"Which is next {words} {label}?", found.get(side, "no"), (label,), found.get(side))


def _graph(facts: Facts) -> nx.Graph:
    graph = nx.Graph(facts["edges"])
    graph.add_nodes_from(facts["nodes"])
    return graph


def _steps(facts: Facts, rng: Random) -> Asked | None:
    """How many lines away."""
    if _is_scattered(facts):
        return None
    one, other = rng.sample(list(facts["nodes"]), 2)
    graph = _graph(facts)
    if not nx.has_path(graph, one, other):
        return None
    steps = nx.shortest_path_length(graph, one, other)
    return _asked(facts, f"From {one} to {other}, how many lines?", str(steps), (one, other))


def _first_step(facts: Facts, rng: Random) -> Asked | None:
    """The neighbour that every shortest way to a node (or to the red one) goes by."""
    if _is_scattered(facts):
        return None
    one, other = rng.sample(list(facts["nodes"]), 2)
    to = other
    if rng.random() < 0.5:
        other, to = facts["end"], "red"
    graph = _graph(facts)
    if one == other or not nx.has_path(graph, one, other):
        return None
    after = {way[1] for way in nx.all_shortest_paths(graph, one, other)}
    if len(after) != 1:
        return None
    named = (one,) if to == "red" else (one, other)
    return _asked(facts, f"From {one} toward {to}, which is next?", (answer := after.pop()), named, answer)


def _exist(facts: Facts, rng: Random) -> Asked:
    """Absent labels are those of as many nodes, at most three more."""
    there = list(facts["nodes"])
    absent = [label for label in LABELS[: min(MOST, len(there) + 3)] if label not in there]
    if absent and rng.random() < 0.5:
        return Asked(f"Is there {rng.choice(absent)}?", "no", (None,))
    return _asked(facts, f"Is there {(label := rng.choice(there))}?", "yes", (label,))


# ---- Sparkle's form

TRUE = 0.15  # of the answers in Sparkle's form are right, the others only have the form
_FORMS = {
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


def _sparkle(name: str) -> Asker:
    family = FAMILIES[name]

    def ask(facts: Facts, rng: Random) -> Asked | None:
        if not _is_scattered(facts) or not (asked := family.ask(_nodes(facts), rng)):
            return None
        labels = list(facts["nodes"])
        named = sorted((label for label in labels if label in asked.question), key=asked.question.index)
        answer = asked.answer
        if rng.random() >= TRUE:
            answer = _FORMS[family.answer_type](asked.options or labels, rng)
        prompt = f"{asked.question} {HINTS[family.answer_type]}"
        return Asked(prompt, answer, tuple(map(labels.index, named)))

    return ask


def _path(facts: Facts, rng: Random) -> Asked | None:
    if _is_scattered(facts):
        return None
    graph, ends = _graph(facts), (facts["start"], facts["end"])
    ways = sorted(nx.all_shortest_paths(graph, *ends))
    if rng.random() < 0.5:
        ways = sorted(nx.all_simple_paths(graph, *ends, len(ways[0]) + 1))
    prompt = f"{sparkle_composite.PATH_QUESTION} {sparkle_composite.HINT}"
    return Asked(prompt, sparkle_composite.JOIN.join(rng.choice(ways)))


def _tour(facts: Facts, rng: Random) -> Asked | None:
    if not _is_scattered(facts):
        return None
    start, *others = rng.sample(list(facts["nodes"]), len(facts["nodes"]))
    prompt = f"{sparkle_composite.TOUR_QUESTION.format(start=start)} {sparkle_composite.HINT}"
    return Asked(
        prompt, sparkle_composite.JOIN.join([start, *others, start]), (list(facts["nodes"]).index(start),)
    )


_SHORT: dict[str, tuple[Asker, float]] = {
    "exist": (_exist, 1),
    "beside": (_beside, 2),
    "compass": (_compass, 3),
    "compass-node": (_compass_node, 2),
    "apart": (_apart, 3),
    "closer": (_closer, 2),
    "closest": (_closest, 3),
    "rank": (_rank, 2),
    "third": (_third, 2),
    "corner": (_corner, 1),
    "coordinate": (_coordinate, 2),
    "in-third": (_in_third, 2),
    "outermost": (_outermost, 2),
    "how-many": (_how_many, 2),
    "coloured": (_coloured, 6),
    "joined": (_joined, 4),
    "next": (_next, 8),
    "steps": (_steps, 4),
    "first-step": (_first_step, 10),
}


PLANS = {
    "short": Plan(16, 16, 4, _SHORT),
    "forms": Plan(6, 60, 10, {name: (_sparkle(name), 1) for name in FAMILIES}, _is_scattered),
    "routes": Plan(2, 66, 26, {"path": (_path, 1), "tour": (_tour, 0.6)}),
}
WORLD = World("nodes", make, draw, PLANS)
