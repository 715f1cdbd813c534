"""Questions from a room's annotation: the six families of VSI-100k (vsGRPO, arXiv 2504.00883).

They are VSI-Bench's, word for word, but without options: a choice is answered with a word (`left`, `sink`).
Route planning and appearance order are held out on purpose. Questions are about objects whose label occurs
once, and only those with a clear answer are kept:

    object_counting          labels that occur twice or more, as in VSI-Bench
    object_abs_distance      objects that are at least 0.3 m apart
    object_rel_distance      the nearest of four, at least 0.15 m away; all four distances differ by
                             more than 0.15 m
    object_rel_direction     of three objects, 0.3 to 5 m apart, the bearing at least 10 degrees from where
                             the answer changes, and no more than two corners of the object beyond it
    object_size_estimation   all
    room_size_estimation     all

Distances are those between centres (the paper's rule, which the words "closest point" belie) or between the
closest points of the boxes (VSI-Bench's own). The margins are those of VSI-Bench's pipeline, as public copies
of it have them; in its hard questions it keeps the 10 degrees on one side of a boundary, we on both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from random import Random

import numpy as np

from spatialvlm.errors import UserError
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box, SceneAnnotation

PAPER_SCENES = 1500
PAPER = {  # questions over 1,500 scenes
    "object_counting": 6400,
    "object_abs_distance": 75000,
    "object_rel_distance": 13000,
    "object_rel_direction": 8000,
    "object_size_estimation": 13000,
    "room_size_estimation": 1500,
}
FAMILIES = tuple(PAPER)
WORDS = ("object_rel_distance", "object_rel_direction")  # answered in words, the others in numbers
_CLOSEST = "Measuring from the closest point of each object, "
_STANDING = "If I am standing by the {0} and facing the {1}, is the {2} to "
TEMPLATES = {  # VSI-Bench's, word for word, with the blank before the line break in the last
    "object_counting": "How many {0}(s) are in this room?",
    "object_abs_distance": _CLOSEST + "what is the distance between the {0} and the {1} (in meters)?",
    "object_rel_distance": _CLOSEST
    + "which of these objects ({1}, {2}, {3}, {4}) is the closest to the {0}?",
    "object_rel_direction_easy": _STANDING + "the left or the right of the {1}?",
    "object_rel_direction_medium": _STANDING + "my left, right, or back?\n"
    "An object is to my back if I would have to turn at least 135 degrees in order to face it.",
    "object_rel_direction_hard": _STANDING + "my front-left, front-right, back-left, or back-right?\n"
    "The directions refer to the quadrants of a Cartesian plane (if I am "
    "standing at the origin and facing along the positive y-axis).",
    "object_size_estimation": "What is the length of the longest dimension (length, width, or height) of the "
    "{0}, measured in centimeters?",
    "room_size_estimation": "What is the size of this room (in square meters)? \n"
    "If multiple rooms are shown, estimate the size of the combined space.",
}
# The bearing, in degrees to either side, from which on an object lies behind one. What does is neither left
# nor right of what one faces, so easy questions leave it out.
BEHIND = {
    "object_rel_direction_easy": 135.0,
    "object_rel_direction_medium": 135.0,
    "object_rel_direction_hard": 90.0,
}
DIRECTION_WORDS = {
    "object_rel_direction_easy": ("left", "right"),
    "object_rel_direction_medium": ("left", "right", "back"),
    "object_rel_direction_hard": ("front-left", "front-right", "back-left", "back-right"),
}
Measure = Callable[[str, str], float]  # metres between the objects of two labels
DISTANCES = {"centers": annotation.between_centres, "closest": annotation.gap}
LEAST_APART, NEAREST, TOO_CLOSE = 0.3, 0.15, 0.15  # metres; the last between two candidates' distances
FARTHEST, ANGLE, STRAY_CORNERS = 5.0, 10.0, 2  # metres, degrees, corners in another sector
DIRECTIONS_PER_ROOM, TRIES = 12, 60  # questions of direction at most, and triples sampled for them
SETS_PER_TARGET, SET_TRIES = 2, 12  # questions per target at most, and sets of four sampled for them


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question that a room allows.

    Args:
        question_type: as VSI-Bench has it.
        labels: of the objects, in the order of the template.
        answer: as VSI-Bench writes it; of a choice the word.
        measures: what the answer follows from, unrounded: the count, metres, the four distances in metres,
            the bearing in degrees, centimetres, or square metres.
    """

    question_type: str
    labels: tuple[str, ...]
    answer: str
    measures: tuple[float, ...]

    @property
    def question(self) -> str:
        return TEMPLATES[self.question_type].format(*self.labels)


def family(question_type: str) -> str:
    """`object_rel_direction` of its three types; any other is its own."""
    return "object_rel_direction" if question_type in BEHIND else question_type


def direction(question_type: str, angle: float) -> str:
    """The answer at a bearing in degrees, left being positive; `back` is no answer of easy questions."""
    side, behind = "left" if angle > 0 else "right", abs(angle) >= BEHIND[question_type]
    if question_type == "object_rel_direction_hard":
        return f"{'back' if behind else 'front'}-{side}"
    return "back" if behind else side


def candidates(
    scene: SceneAnnotation, seed: int = 0, distance: str = "centers"
) -> dict[str, list[Candidate]]:
    """All questions that a room allows, by family; of directions and relative distances a sample.

    The order in a family follows from seed and scene alone.

    Args:
        distance: `centers` or `closest`.

    Raises:
        UserError: a room without any object.
    """
    if not scene.objects:
        raise UserError(f"scene {scene.scene!r} has no objects to ask about; remove it")
    single, several = _unambiguous(scene)
    measure = lru_cache(maxsize=None)(lambda one, other: DISTANCES[distance](single[one], single[other]))
    longest = {label: 100 * max(box.axes_lengths) for label, box in single.items()}
    area = [] if scene.room_size is None else [scene.room_size]
    rngs = {name: Random(f"vsi-{seed}-{scene.scene}-{name}") for name in FAMILIES}
    by_family = {
        "object_counting": [
            Candidate("object_counting", (label,), str(count), (count,)) for label, count in several.items()
        ],
        "object_abs_distance": _abs_distances(single, measure, rngs["object_abs_distance"]),
        "object_rel_distance": _rel_distances(single, measure, rngs["object_rel_distance"]),
        "object_rel_direction": _directions(single, rngs["object_rel_direction"]),
        "object_size_estimation": [
            Candidate("object_size_estimation", (label,), str(round(size)), (size,))
            for label, size in longest.items()
        ],
        "room_size_estimation": [
            Candidate("room_size_estimation", (), f"{size:.1f}", (size,)) for size in area
        ],
    }
    for name, listed in by_family.items():
        rngs[name].shuffle(listed)
        if name not in WORDS:  # relative to an answer of 0 no error can be measured
            by_family[name] = [each for each in listed if float(each.answer)]
    return by_family


def _unambiguous(scene: SceneAnnotation) -> tuple[dict[str, Box], dict[str, int]]:
    """Boxes of labels that occur once, and counts of those that occur more often.

    A label that ends another one is neither, since a coffee table is a table too; nor is one of which there
    are more boxes than counted, or fewer.
    """
    objects, counts = scene.objects, scene.object_counts
    tails = {" ".join(label.split()[start:]) for label in counts for start in range(1, len(label.split()))}
    clear = [
        label for label in sorted(objects) if label not in tails and counts[label] == len(objects[label])
    ]
    single = {label: objects[label][0] for label in clear if counts[label] == 1}
    return single, {label: counts[label] for label in clear if counts[label] > 1}


def _abs_distances(single: Mapping[str, Box], measure: Measure, rng: Random) -> list[Candidate]:
    made = []
    for one, other in combinations(single, 2):
        apart = measure(one, other)
        labels = tuple(rng.sample((one, other), 2))
        if apart >= LEAST_APART:
            made.append(Candidate("object_abs_distance", labels, f"{apart:.1f}", (apart,)))
    return made


def _rel_distances(single: Mapping[str, Box], measure: Measure, rng: Random) -> list[Candidate]:
    made = []
    for target in single:
        others = [label for label in single if label != target]
        fours = {tuple(sorted(rng.sample(others, 4))) for _ in range(SET_TRIES) if len(others) >= 4}
        clear = [four for four in sorted(fours) if _differ([measure(target, label) for label in four])]
        for four in clear[:SETS_PER_TARGET]:
            four = rng.sample(four, 4)
            apart = tuple(measure(target, label) for label in four)
            nearest = four[apart.index(min(apart))]
            made.append(Candidate("object_rel_distance", (target, *four), nearest, apart))
    return made


def _differ(distances: Iterable[float]) -> bool:
    ordered = sorted(distances)
    return ordered[0] >= NEAREST and min(np.diff(ordered)) > TOO_CLOSE


def _directions(single: Mapping[str, Box], rng: Random) -> list[Candidate]:
    near = lru_cache(maxsize=None)(
        lambda one, other: LEAST_APART <= annotation.gap(single[one], single[other]) <= FARTHEST
    )
    by_labels: dict[tuple[str, ...], Candidate] = {}
    for _ in range(TRIES if len(single) >= 3 else 0):
        labels = tuple(rng.sample([*single], 3))
        kind = rng.choice([*BEHIND])
        standing, facing, target = (single[label] for label in labels)
        answer = _clear_direction(kind, standing, facing, target)
        if labels in by_labels or answer is None:
            continue
        if all(near(one, other) for one, other in combinations(sorted(labels), 2)):
            angle = annotation.bearing(standing, facing, target)
            by_labels[labels] = Candidate(kind, labels, answer, (angle,))
        if len(by_labels) == DIRECTIONS_PER_ROOM:
            break
    return [*by_labels.values()]


def _clear_direction(question_type: str, standing: Box, facing: Box, target: Box) -> str | None:
    """The answer; None where it is nearly another one."""
    angle = annotation.bearing(standing, facing, target)
    answer = direction(question_type, angle)
    changes = [0.0, BEHIND[question_type]] + ([180.0] if question_type == "object_rel_direction_hard" else [])
    if min(abs(abs(angle) - change) for change in changes) < ANGLE:
        return None
    if question_type == "object_rel_direction_easy" and answer == "back":
        return None
    around = annotation.bearings(standing, facing, annotation.corners(target))
    stray = sum(direction(question_type, corner) != answer for corner in around)
    return answer if stray <= STRAY_CORNERS else None


# ---- numbers of questions, and splits


def targets(scenes: int, available: Mapping[str, int], proportions: str = "paper") -> dict[str, int]:
    """Number of questions to take per family: the paper's, for as many scenes.

    Args:
        available: number of questions that the scenes allow.
        proportions: `paper` lowers all families alike until every one can be filled; `available` takes
            everything available of each family, up to the paper's number.

    Raises:
        UserError: `paper` where the scenes allow no question of some family.
    """
    wanted = {name: PAPER[name] * scenes / PAPER_SCENES for name in FAMILIES}
    if proportions == "available":
        return {name: min(available[name], round(wanted[name])) for name in FAMILIES}
    if none := [name for name in FAMILIES if not available[name]]:
        raise UserError(
            f"these {scenes} scenes allow no question of {', '.join(none)}, so the paper's proportions "
            "cannot be kept; give more scenes, or --proportions available"
        )
    fraction = min(1.0, *(available[name] / wanted[name] for name in FAMILIES))
    return {name: min(available[name], round(fraction * wanted[name])) for name in FAMILIES}


def evenly(counts: Mapping[str, int], target: int, seed: int = 0) -> dict[str, int]:
    """Number of a family's questions to take from each scene, as equal as the scenes allow.

    Args:
        counts: questions of each scene, together at least `target`.
    """
    taken = dict.fromkeys(counts, 0)
    open_scenes = sorted(counts, key=lambda scene: rank(f"{seed}-{scene}"))
    while target:
        open_scenes = [scene for scene in open_scenes if taken[scene] < counts[scene]]
        left = (counts[scene] - taken[scene] for scene in open_scenes)
        turn = max(1, min(target // len(open_scenes), *left))
        for scene in open_scenes[:target]:
            taken[scene] += turn
        target -= turn * len(open_scenes[:target])
    return taken


def rank(name: str) -> str:
    """A sort key for an order that is random, and the same in every run."""
    return hashlib.sha256(name.encode()).hexdigest()


def room_of(scene: str) -> str:
    """The room of a scene: ScanNet's `scene0251_00` and `scene0251_01` are two scans of one."""
    match = re.fullmatch(r"(scene\d{4})_\d{2}", scene)
    return match[1] if match else scene


def validation_rooms(scenes: Iterable[str], fraction: float, seed: int = 0) -> set[str]:
    """The rooms of the validation split: about this fraction, at least one where it is not 0, never all."""
    rooms = sorted({room_of(scene) for scene in scenes}, key=lambda name: rank(f"split-{seed}-{name}"))
    size = max(1, round(fraction * len(rooms))) if fraction else 0
    return set(rooms[: min(size, len(rooms) - 1)])
