"""What is true of a scene without ambiguity: names of objects, sides, distances, counts.

A scene is a dict in CLEVR's form, rendered or real. Everything here is pure: randomness comes in as a
`random.Random`, and None comes out where the scene holds nothing of that kind. Three rules hold throughout:

- An object is named by the fewest attributes that single it out, and two objects are compared only where
  they differ by more than a margin.
- The words give nothing away. Size shifts an object's centre, and so its distance and its place in the
  image: it is not mentioned where it differs between two objects compared. Counts are sampled so that, given
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
from typing import Any, NamedTuple

import numpy as np

Scene = dict[str, Any]
Filter = dict[str, str]  # {"color": "red", ...}

WIDTH, HEIGHT = 480, 320  # of CLEVR's images, in whose pixels `pixel_coords` and boxes are
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
RELATION_EPSILON = 0.2  # in scene units, of CLEVR's own `relationships`
MAX_OBJECTS = 10
AXES = {
    "lateral": ("left", "right"),
    "sagittal": ("front", "behind"),
    "image x": ("left", "right"),
    "image y": ("above", "below"),
}

# ---- naming things


def matches(scene: Scene, conditions: Filter) -> list[int]:
    """Indices of the objects that have every attribute in `conditions`."""
    return [
        index
        for index, thing in enumerate(scene["objects"])
        if all(thing[name] == value for name, value in conditions.items())
    ]


def describe(conditions: Filter, plural: bool = False) -> str:
    """A filter in words, without article: `small red metal cube`, `red thing`, plural `red things`."""
    words = [conditions[name] for name in ("size", "color", "material") if name in conditions]
    words.append(conditions.get("shape", "thing") + ("s" if plural else ""))
    return " ".join(words)


def single_out(
    scene: Scene, index: int, rng: Random, without: Sequence[str] = (), among: Collection[int] | None = None
) -> Filter | None:
    """The smallest filter that fits only this object, sampled among equally small ones; None if none does.

    Args:
        without: attributes not to use, since they are asked about or would give the answer away.
        among: the objects to single it out from; all of the scene where None.
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


def side(scene: Scene, first: int, second: int, axis: str) -> str | None:
    """Where `first` is as seen from `second` on an axis, one of `AXES[axis]`; None within the margin."""
    if axis in ("lateral", "sagittal"):
        offset, margin = along(scene, first, second, AXES[axis][0]), DIRECTION_MARGIN
    else:
        here, there = (scene["objects"][index]["pixel_coords"] for index in (first, second))
        coordinate = 0 if axis == "image x" else 1
        offset, margin = there[coordinate] - here[coordinate], PIXEL_MARGIN
    return AXES[axis][0] if offset > margin else AXES[axis][1] if offset < -margin else None


def relationships(scene: Scene) -> dict[str, list[list[int]]]:
    """CLEVR's rule: relationships[side][i] lists the j with dot(p_j - p_i, directions[side]) > 0.2."""
    points = np.array([o["3d_coords"] for o in scene["objects"]])
    found = {}
    for side in ("right", "behind", "front", "left"):
        along = points @ np.array(scene["directions"][side])
        ahead = along[None, :] - along[:, None] > RELATION_EPSILON
        found[side] = [np.flatnonzero(row).tolist() for row in ahead]
    return found


# ---- sampling what to ask about


def _pairs(scene: Scene, rng: Random) -> list[tuple[int, int]]:
    indices = range(len(scene["objects"]))
    pairs = [(first, second) for first in indices for second in indices if first != second]
    rng.shuffle(pairs)
    return pairs


def relation(scene: Scene, rng: Random, axis: str) -> tuple[tuple[int, int], tuple[str, str], str] | None:
    """((first, second), (their names), the side of the first as seen from the second)."""
    for pair in _pairs(scene, rng):
        if (word := side(scene, *pair, axis)) and (names := _refer_pair(scene, *pair, rng)):
            return pair, names, word
    return None


class Comparison(NamedTuple):
    """Two objects, one of them closer to a reference.

    Args:
        reference: `the camera`, or a third object by its name.
        names: of the two.
        closer: which of the two is closer, 0 or 1.
        objects: indices of the third object, if there is one, and of the two.
    """

    reference: str
    names: tuple[str, str]
    closer: int
    objects: list[int]

    def answer(self, polarity: str) -> str:
        """The name of the object that is `closer to` the reference, or `farther from` it."""
        return self.names[self.closer if polarity == "closer to" else 1 - self.closer]


def nearer_to_camera(scene: Scene, rng: Random) -> Comparison | None:
    for pair in _pairs(scene, rng):
        gap = depth(scene, pair[1]) - depth(scene, pair[0])
        if abs(gap) > DEPTH_MARGIN and (names := _refer_pair(scene, *pair, rng)):
            return Comparison("the camera", names, int(gap < 0), [*pair])
    return None


def nearer_to_object(scene: Scene, rng: Random) -> Comparison | None:
    anchors = list(range(len(scene["objects"])))
    rng.shuffle(anchors)
    for anchor in anchors:
        anchor_name = refer(scene, anchor, rng)
        if anchor_name is None:
            continue
        for pair in _pairs(scene, rng):
            if anchor in pair:
                continue
            first, second = (distance(scene, anchor, index) for index in pair)
            near, far = sorted((first, second))
            clear = far - near >= DISTANCE_MARGIN and far >= DISTANCE_RATIO * near
            if clear and (names := _refer_pair(scene, *pair, rng)):
                return Comparison(f"the {anchor_name}", names, int(second < first), [anchor, *pair])
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
def _count_frequencies(kinds: int, draws: int = 4000) -> tuple[float, ...]:
    """How often each count 0..10 comes up when one of a scene's distinct counts is sampled.

    Estimated on scenes with CLEVR's statistics: 3 to 10 objects, each of one of `kinds` equally likely kinds.
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
    """{start of a window: the probability of each of its members}.

    Every window's members are equally likely to be right, and a count that is sampled more often than its
    windows use up is rejected in part. All windows' probabilities grow together until one of their counts is
    used up.
    """
    left = list(_count_frequencies(kinds))
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
    """(filter, its count, `size` consecutive numbers around it), or None where the sample is rejected.

    Given the kind of filter and the window, every number is equally likely: that there are seldom three red
    things is of no help without the image. Trying again in the same scene would favour some counts again (by
    up to 2 points of 25), so the caller moves to its next scene instead.
    """
    by_count = counts(scene, rng.choice(COUNTED))
    kinds = sum(map(len, by_count.values()))
    count = rng.choice(sorted(by_count))
    draw = rng.random() * _count_frequencies(kinds)[count]
    for start, share in _windows(kinds, size).items():
        if start <= count < start + size:
            draw -= share
            if draw < 0:
                return rng.choice(by_count[count]), count, list(range(start, start + size))
    return None
