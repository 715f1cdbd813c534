"""What can be asked of a scene without ambiguity: names of things, sides, distances, counts.

A scene is a dict in CLEVR's form, rendered or real. Everything here is pure: chance comes in as a
`random.Random`, and None comes out where the scene holds nothing of the kind asked for. Three rules hold
throughout:

- A thing is named by the fewest attributes that single it out, and two things are compared only where they
  differ by more than a margin.
- The words give nothing away. Size shifts an object's centre, and so its distance and its place in the
  image: it is not mentioned where it differs between two things compared. Counts are drawn so that, given
  the words and the numbers to choose from, every number is equally often right (`balanced_count`).
- Left, right, front and behind are the scene's own `directions`, never the x and y axes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import combinations, product
from random import Random

from spatialvlm.worlds.clevr.render import Scene

VALUES = {
    "size": ("small", "large"),
    "color": ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    "material": ("rubber", "metal"),
    "shape": ("cube", "sphere", "cylinder"),
}
ATTRIBUTES = tuple(VALUES)
SUBSETS = tuple(subset for size in range(5) for subset in combinations(ATTRIBUTES, size))

DIRECTION_MARGIN = 0.4  # in scene units, along the direction asked about
DEPTH_MARGIN = 0.4  # in scene units, camera distance
DISTANCE_MARGIN = 0.5  # in scene units, between the two distances compared ...
DISTANCE_RATIO = 1.25  # ... and one at least this many times the other
PIXEL_MARGIN = 30  # in pixels of the 480 x 320 image
MAX_OBJECTS = 10

Filter = dict[str, str]

# ---- naming things


def matches(scene: Scene, conditions: Filter) -> list[int]:
    """Indices of the objects that have every attribute in `conditions` ({"color": "red", ...})."""
    return [
        index
        for index, thing in enumerate(scene["objects"])
        if all(thing[name] == value for name, value in conditions.items())
    ]


def describe(conditions: Filter, plural: bool = False) -> str:
    """The words of a filter, without article: `small red metal cube`, `red thing`, plural `red things`."""
    words = [conditions[name] for name in ("size", "color", "material") if name in conditions]
    words.append(conditions.get("shape", "thing") + ("s" if plural else ""))
    return " ".join(words)


def single_out(
    scene: Scene, index: int, rng: Random, without: Sequence[str] = (), among: Collection[int] | None = None
) -> Filter | None:
    """The smallest filter that fits only this object, drawn among equally small ones; None where none does.

    Args:
        without: attributes that may not be used (because they are asked about, or would give the answer
            away).
        among: the objects it is to be told from; all of the scene where None.
    """
    thing = scene["objects"][index]
    others = set(range(len(scene["objects"]))) if among is None else set(among)
    for length in range(len(ATTRIBUTES) + 1):
        unique = []
        for subset in SUBSETS:
            if len(subset) == length and not set(subset) & set(without):
                conditions = {name: thing[name] for name in subset}
                if others.intersection(matches(scene, conditions)) == {index}:
                    unique.append(conditions)
        if unique:
            return rng.choice(unique)
    return None


def refer(scene: Scene, index: int, rng: Random, without: Sequence[str] = ()) -> str | None:
    """The words of `single_out` in the whole scene: `red cube`."""
    conditions = single_out(scene, index, rng, without)
    return None if conditions is None else describe(conditions)


def _refer_pair(scene: Scene, first: int, second: int, rng: Random) -> tuple[str, str] | None:
    things = scene["objects"]
    without = () if things[first]["size"] == things[second]["size"] else ("size",)
    names = refer(scene, first, rng, without), refer(scene, second, rng, without)
    return names if None not in names else None


# ---- geometry


def along(scene: Scene, first: int, second: int, direction: str) -> float:
    """How far `first` lies from `second` in a direction (left, right, front, behind), in scene units."""
    here, there = (scene["objects"][index]["3d_coords"] for index in (first, second))
    return sum((a - b) * d for a, b, d in zip(here, there, scene["directions"][direction], strict=True))


def depth(scene: Scene, index: int) -> float:
    """Distance of an object's centre from the camera along its line of view, in scene units."""
    return scene["objects"][index]["pixel_coords"][2]


def distance(scene: Scene, first: int, second: int) -> float:
    """Distance between two objects' centres, in scene units."""
    return math.dist(*(scene["objects"][index]["3d_coords"] for index in (first, second)))


def _side(value: float, margin: float, words: tuple[str, str]) -> str | None:
    """The first word where value > margin, the second where value < -margin, else None: too close to call."""
    return words[0] if value > margin else words[1] if value < -margin else None


def _sides(scene: Scene, first: int, second: int, axis: str) -> str | None:
    """Where `first` is as seen from `second` on an axis, one of `AXES[axis]`; None within the margin."""
    if axis == "sagittal":
        return _side(along(scene, first, second, "front"), DIRECTION_MARGIN, AXES[axis])
    if axis == "lateral":
        return _side(along(scene, first, second, "left"), DIRECTION_MARGIN, AXES[axis])
    here, there = (scene["objects"][index]["pixel_coords"] for index in (first, second))
    coordinate = 0 if axis == "image x" else 1
    return _side(there[coordinate] - here[coordinate], PIXEL_MARGIN, AXES[axis])


AXES = {
    "lateral": ("left", "right"),
    "sagittal": ("front", "behind"),
    "image x": ("left", "right"),
    "image y": ("above", "below"),
}


# ---- drawing what to ask about


def _pairs(scene: Scene, rng: Random) -> list[tuple[int, int]]:
    indices = range(len(scene["objects"]))
    pairs = [(first, second) for first in indices for second in indices if first != second]
    rng.shuffle(pairs)
    return pairs


def relation(scene: Scene, rng: Random, axis: str) -> tuple[tuple[int, int], tuple[str, str], str] | None:
    """((first, second), (their names), the side of the first as seen from the second)."""
    for pair in _pairs(scene, rng):
        side = _sides(scene, *pair, axis)
        if side and (names := _refer_pair(scene, *pair, rng)):
            return pair, names, side
    return None


def nearer_to_camera(scene: Scene, rng: Random) -> tuple[tuple[int, int], tuple[str, str], int] | None:
    """((first, second), (their names), which of the two is closer to the camera)."""
    for pair in _pairs(scene, rng):
        gap = depth(scene, pair[1]) - depth(scene, pair[0])
        if abs(gap) > DEPTH_MARGIN and (names := _refer_pair(scene, *pair, rng)):
            return pair, names, int(gap < 0)
    return None


def nearer_to_anchor(
    scene: Scene, rng: Random
) -> tuple[int, str, tuple[int, int], tuple[str, str], int] | None:
    """(anchor, its name, (first, second), (their names), which of the two is closer to the anchor)."""
    anchors = list(range(len(scene["objects"])))
    rng.shuffle(anchors)
    for anchor in anchors:
        anchor_name = refer(scene, anchor, rng)
        if anchor_name is None:
            continue
        for pair in _pairs(scene, rng):
            if anchor in pair:
                continue
            near, far = sorted(distance(scene, anchor, index) for index in pair)
            clear = far - near >= DISTANCE_MARGIN and far >= DISTANCE_RATIO * near
            if clear and (names := _refer_pair(scene, *pair, rng)):
                closer = int(distance(scene, anchor, pair[1]) < distance(scene, anchor, pair[0]))
                return anchor, anchor_name, pair, names, closer
    return None


# ---- counts that the text does not give away


def counts(scene: Scene, attributes: Sequence[str]) -> dict[int, list[Filter]]:
    """Every filter over these attributes, grouped by how many objects of the scene it fits."""
    present = Counter(tuple(thing[name] for name in attributes) for thing in scene["objects"])
    grouped: dict[int, list[Filter]] = {}
    for values in product(*(VALUES[name] for name in attributes)):
        grouped.setdefault(present[values], []).append(dict(zip(attributes, values, strict=True)))
    return grouped


@lru_cache
def _count_shares(kinds: int, draws: int = 4000) -> tuple[float, ...]:
    """How often each count 0..10 comes up when one of a scene's distinct counts is drawn.

    Estimated on scenes with CLEVR's statistics: 3 to 10 objects, each of one of `kinds` kinds, all equally
    likely.
    """
    rng = Random(f"count shares {kinds}")
    shares = [0.0] * (MAX_OBJECTS + 1)
    for _ in range(draws):
        present = Counter(rng.choices(range(kinds), k=rng.randint(3, MAX_OBJECTS)))
        reached = set(present.values()) | ({0} if len(present) < kinds else set())
        for count in reached:
            shares[count] += 1 / len(reached) / draws
    return tuple(shares)


COUNTED = tuple(subset for subset in SUBSETS if len(subset) <= 2)


@lru_cache
def _windows(kinds: int, size: int) -> dict[int, float]:
    """{start of a window: how likely a draw is to end in each one of its members}.

    So every window's members are equally likely to be right, and a count that is drawn more often than its
    windows use up is rejected in part. All windows' likelihoods grow together until one of their counts is
    used up.
    """
    left = list(_count_shares(kinds))
    growing = [start for start in range(len(left) - size + 1) if min(left[start : start + size]) > 0]
    shares = dict.fromkeys(growing, 0.0)
    while growing:
        users = Counter(count for start in growing for count in range(start, start + size))
        step = min(left[count] / number for count, number in users.items())
        for start in growing:
            shares[start] += step
        for count, number in users.items():
            left[count] -= step * number
        growing = [start for start in growing if min(left[start : start + size]) > 1e-9]
    return shares


def balanced_count(scene: Scene, rng: Random, size: int) -> tuple[Filter, int, list[int]] | None:
    """(filter, its count, `size` consecutive numbers around it), or None where the draw is rejected.

    Given the kind of filter and the window, every number is equally likely: knowing that there are seldom
    three red things helps nobody who does not look. Trying again in the same scene would favour some counts
    again (by up to 2 points of 25), so the caller goes on to its next scene instead.
    """
    by_count = counts(scene, rng.choice(COUNTED))
    kinds = sum(map(len, by_count.values()))
    count = rng.choice(sorted(by_count))
    draw = rng.random() * _count_shares(kinds)[count]
    for start, share in _windows(kinds, size).items():
        if start <= count < start + size:
            draw -= share
            if draw < 0:
                return rng.choice(by_count[count]), count, list(range(start, start + size))
    return None
