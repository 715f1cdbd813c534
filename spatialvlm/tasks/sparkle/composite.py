"""Sparkle's composite tests (arXiv 2410.16162), never trained on: shortest paths and travelling salesman.

A shortest path leads through a grid of nodes, from the green one to the red one, along lines of length one;
in half of the tasks some are missing. A tour visits all nodes of a configuration and returns, in straight
lines. Labels are assigned to places at random, so that the text alone gives nothing away. An item has one
reference answer and may have other correct ones: `judge` accepts every path or tour that is as short.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations, count, pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import networkx as nx

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.sparkle.data import FORMS, Form, read, scatter
from spatialvlm.tasks.sparkle.questions import TRIES
from spatialvlm.worlds.plane.nodes import PLANE, Point, render

ITEMS = 200  # per task, as published
REMOVED = 0.25  # fraction of a grid's lines, in the tasks that leave some out
TOUR_MARGIN = 1.02  # of the second shortest tour to the shortest, so that one can tell them apart
LONGEST_TOUR = 12  # nodes in a file; exact answers take ten times as long for every 3 more
SAME = 1e-6  # relative difference below which two lengths are the same
SPLIT = "composite"
GREEN, RED = "#50d050", "#ff5050"  # light enough for black labels
JOIN = " -> "
PATH_QUESTION = "What is the shortest path from the green node to the red node along the lines?"
TOUR_QUESTION = (
    "What is the shortest tour that starts at {start}, visits every other node once and returns to {start}, "
    "in straight lines?"
)
HINT = "Answer with the labels of its nodes in order, such as N1 -> N2 -> N3."


class Verdict(NamedTuple):
    """A route's length as a multiple of the shortest, or what is wrong with it."""

    ratio: float | None
    fault: str = ""

    @property
    def optimal(self) -> bool:
        return self.ratio is not None and self.ratio <= 1 + SAME


# ---- exact answers


def shortest_paths(
    nodes: Sequence[str], edges: Sequence[tuple[str, str]], start: str, end: str
) -> list[list[str]]:
    """All shortest paths from start to end.

    Raises:
        UserError: there is none, or a label that is no node's.
    """
    graph = nx.Graph(edges)
    graph.add_nodes_from(nodes)
    if unknown := [label for label in (start, end) if label not in nodes]:
        raise UserError(f"{unknown[0]} is none of the grid's nodes")
    if not nx.has_path(graph, start, end):
        raise UserError(f"the grid has no path from {start} to {end}; keep more of its lines")
    return [list(path) for path in nx.all_shortest_paths(graph, start, end)]


def shortest_tours(points: Mapping[str, Point], best: int = 1) -> list[tuple[float, tuple[str, ...]]]:
    """The shortest tours through all points as (length, labels in order), each in one direction.

    Exact, by the dynamic programme of Held and Karp (1962), which here keeps the `2 * best` shortest paths to
    every state: time grows as 2^n n^2, some milliseconds for 8 nodes.

    Raises:
        UserError: fewer than 3 points.
    """
    first, *others = points
    if len(points) < 3:
        raise UserError(f"a tour needs 3 nodes at least, not {len(points)}")
    away = {(a, b): math.dist(points[a], points[b]) for a in points for b in points}
    paths = {(frozenset([label]), label): [(away[first, label], (first, label))] for label in others}
    for size in range(2, len(others) + 1):
        for visited in map(frozenset, combinations(others, size)):
            for last in visited:
                before = visited - {last}
                longer = (
                    (length + away[previous, last], (*path, last))
                    for previous in before
                    for length, path in paths[before, previous]
                )
                paths[visited, last] = nsmallest(2 * best, longer)
    everything, order = frozenset(others), list(points)
    closed = (
        (length + away[last, first], path)
        for last in others
        for length, path in paths[everything, last]
        if order.index(path[1]) < order.index(path[-1])  # one of the two directions
    )
    return nsmallest(best, closed)


def judge(route: Sequence[str], meta: Mapping[str, Any]) -> Verdict:
    """Compare a route with an item's shortest.

    A tour may name its first node again at the end or not, run in either direction, and begin anywhere.

    Args:
        route: labels in order.
        meta: the item's: `nodes`, `optimum` and, of a path, `edges`, `start` and `end`.
    """
    is_path, nodes = "edges" in meta, meta["nodes"]
    if not is_path and len(route) > 2 and route[0] == route[-1]:
        route = route[:-1]
    if unknown := [label for label in route if label not in nodes]:
        return Verdict(None, f"{unknown[0]} is no node")
    if repeated := [label for at, label in enumerate(route) if label in route[:at]]:
        return Verdict(None, f"{repeated[0]} is repeated")
    if is_path:
        if (ends := (route[0], route[-1])) != (meta["start"], meta["end"]):
            return Verdict(None, f"it leads from {ends[0]} to {ends[1]}")
        lines = {frozenset(edge) for edge in meta["edges"]}
        if gaps := [leg for leg in pairwise(route) if frozenset(leg) not in lines]:
            return Verdict(None, f"no line joins {gaps[0][0]} and {gaps[0][1]}")
        length: float = len(route) - 1
    else:
        if missing := [label for label in nodes if label not in route]:
            return Verdict(None, f"{missing[0]} is left out")
        length = sum(math.dist(nodes[a], nodes[b]) for a, b in pairwise([*route, route[0]]))
    return Verdict(length / meta["optimum"])


# ---- items


@dataclass(frozen=True)
class Task:
    """A composite task: a grid with `side` nodes along a side, or a tour where it is None."""

    name: str
    side: int | None = None
    removed: float = 0.0

    @property
    def asks(self) -> str:
        """Its question in one line."""
        if self.side is None:
            return "the shortest tour through all nodes"
        missing = f", {self.removed:.0%} of its lines missing" if self.removed else ""
        return f"the shortest path through a grid of {self.side} x {self.side}{missing}"

    def make(self, id: str, form: Form, index: int) -> Example:
        if self.side is None:
            return _tour(id, self.name, form, index)
        return _path(id, self.name, form, self.side, self.removed)


def tasks(form: Form, removed: float = REMOVED) -> list[Task]:
    """The composite tasks of a form.

    Raises:
        UserError: `removed` is no fraction, or a grid's nodes do not fit.
    """
    if not 0 < removed < 1:
        raise UserError(f"--removed {removed}: must be a fraction of the lines, between 0 and 1")
    for side in form.grids:
        if side < 2 or _step(form, side) <= 2 * form.style.radius:
            raise UserError(
                f"a grid of {side} x {side} nodes of radius {form.style.radius} does not fit on the plane"
            )
        if not round(removed * 2 * side * (side - 1)):
            raise UserError(f"--removed {removed} leaves every line of a {side} x {side} grid; remove more")
    if not 4 <= form.tours[0] <= form.tours[1] <= 9:
        raise UserError(f"tours of {form.tours[0]} to {form.tours[1]} nodes: must be 4 to 9")
    full = [Task(f"path_{side}x{side}", side) for side in form.grids]
    cut = [Task(f"path_{side}x{side}_removed", side, removed) for side in form.grids]
    return [*full, *cut, Task("tour")]


def _inset(form: Form) -> float:
    return form.style.radius if form.inset is None else form.inset


def _step(form: Form, side: int) -> float:
    """Units between two neighbours of a grid."""
    return (PLANE - 2 * _inset(form)) / (side - 1)


def _path(id: str, name: str, form: Form, side: int, removed: float) -> Example:
    """A path through a grid, with at least as many legs as the grid has along a side."""
    inset, step = _inset(form), _step(form, side)
    for attempt in range(TRIES):
        rng = Random(f"{id}-{attempt}")
        labels = [f"N{number}" for number in rng.sample(range(1, side * side + 1), side * side)]
        at = {(row, column): labels[row * side + column] for row in range(side) for column in range(side)}
        nodes = {
            label: (round(inset + column * step, 2), round(PLANE - inset - row * step, 2))
            for (row, column), label in at.items()
        }
        edges = [
            (label, at[other])
            for (row, column), label in at.items()
            for other in ((row, column + 1), (row + 1, column))
            if other in at
        ]
        edges = sorted(rng.sample(edges, len(edges) - round(removed * len(edges))), key=edges.index)
        far = [
            (one, two) for one in at for two in at if abs(one[0] - two[0]) + abs(one[1] - two[1]) >= side - 1
        ]
        start, end = (at[place] for place in rng.choice(far))
        graph = nx.Graph(edges)
        if start in graph and end in graph and nx.has_path(graph, start, end):
            break
    else:
        raise UserError(f"--removed {removed} leaves no path through grids of {side} x {side}; remove less")
    shortest = shortest_paths(labels, edges, start, end)
    reference = min(shortest, key=lambda path: [labels.index(label) for label in path])  # along the top first
    image = render(nodes, form.style, Random(f"{id}-picture"), edges, {start: GREEN, end: RED})
    meta = {"nodes": nodes, "edges": edges, "start": start, "end": end, "optimum": float(len(reference) - 1)}
    return Example(
        id=id,
        images=(image,),
        question=PATH_QUESTION,
        answer=JOIN.join(reference),
        task=name,
        prompt=f"{PATH_QUESTION} {HINT}",
        meta={"capability": SPLIT, "answer_type": "path", "options": (), **meta},
    )


def _tour(id: str, name: str, form: Form, index: int) -> Example:
    """A tour; numbers of nodes take turns."""
    fewest, most = form.tours
    number = fewest + index % (most - fewest + 1)
    for attempt in count():
        nodes = scatter(f"{id}-{attempt}", form, (number, number)).points
        (length, tour), (next_length, _) = shortest_tours(nodes, best=2)
        if next_length >= TOUR_MARGIN * length:
            break
    question = TOUR_QUESTION.format(start=tour[0])
    return Example(
        id=id,
        images=(render(nodes, form.style, Random(f"{id}-picture")),),
        question=question,
        answer=JOIN.join([*tour, tour[0]]),
        task=name,
        prompt=f"{question} {HINT}",
        meta={"capability": SPLIT, "answer_type": "tour", "options": (), "nodes": nodes, "optimum": length},
    )


@dataclass(frozen=True)
class Series:
    """Makes the composite items, tasks in turn, from their numbers, in this process or another."""

    form_name: str
    form: Form
    seed: int
    tasks: tuple[Task, ...]

    def __call__(self, index: int) -> list[Example]:
        """The one item of an image."""
        turn, which = divmod(index, len(self.tasks))
        task = self.tasks[which]
        id = f"sparkle-{self.form_name}-{SPLIT}-{self.seed}-{task.name}-{turn}"
        return [task.make(id, self.form, turn)]


def series(name: str, removed: float = REMOVED, seed: int = 0, form: Form | None = None) -> Series:
    """The series of the items; arguments as of `load`."""
    form = form or FORMS[name]
    return Series(name, form, seed, tuple(tasks(form, removed)))


def load(
    path: str | Path = "paper",
    limit: int | None = None,
    items: int = ITEMS,
    removed: float = REMOVED,
    seed: int = 0,
    form: Form | None = None,
) -> Sequence[Example]:
    """Shortest paths and tours; the tasks are `path_4x4`, `path_4x4_removed`, ..., and `tour`.

    Args:
        path: a name of `FORMS`, or files with a split `composite`, as `data.load` takes them.
        limit: maximum number of items; tasks take turns.
        items: number of rendered ones per task.
        removed: fraction of the lines that the `_removed` tasks leave out.
        form: in place of the one that `path` names.

    Returns:
        Examples whose `meta` has `nodes`, `optimum` and, of paths, `edges`, `start` and `end`.

    Raises:
        UserError: as `data.load`; a reference answer that is not valid and shortest.
    """
    require_at_least(1, limit=limit)
    if str(path) not in FORMS:
        return read(path, SPLIT, _check, lambda task: bool(_TASK.fullmatch(task)), limit=limit)
    made = series(str(path), removed, seed, form)
    size = items * len(made.tasks)
    indices = range(size if limit is None else min(limit, size))
    return LazyExamples(lambda index: made(index)[0], indices, kept=64)


# ---- rows of files

_TASK = re.compile(r"path_\d+x\d+(?:_removed)?|tour")


def _check(example: Example) -> str | None:
    """What is wrong with a row's example; None where nothing is."""
    meta = example.meta
    if "optimum" not in meta or ("edges" in meta) != (example.task != "tour"):
        return f"{example.task} needs 'optimum', and 'edges' where it is a path"
    if example.task == "tour" and len(meta["nodes"]) > LONGEST_TOUR:
        return f"a tour of {len(meta['nodes'])} nodes takes too long to check; {LONGEST_TOUR} at most"
    try:
        optimum = _shortest(meta)
    except UserError as error:
        return str(error)
    if abs(meta["optimum"] / optimum - 1) > SAME:
        return f"'optimum' is {meta['optimum']:g}, and the shortest is {optimum:g} long"
    verdict = judge(example.answer.split(JOIN), meta)
    if not verdict.optimal or abs(verdict.ratio - 1) > SAME:
        worth = verdict.fault or f"{verdict.ratio:.4f} times as long as 'optimum'"
        return f"'answer' {example.answer!r} is not the shortest: {worth}"
    return None


def _shortest(meta: Mapping[str, Any]) -> float:
    """The length of the shortest path or tour of an item."""
    if "edges" not in meta:
        return shortest_tours(meta["nodes"])[0][0]
    return len(shortest_paths([*meta["nodes"]], meta["edges"], meta["start"], meta["end"])[0]) - 1
