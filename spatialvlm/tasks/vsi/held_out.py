"""The two kinds of question of VSI-Bench that VSI-100k holds out, asked of rendered rooms: in which order
things appear, and which turns a robot has to take.

Wording and options are VSI-Bench's. `obj_appearance_order` is asked of the frames that are shown, of four
categories that come into view in four different ones. A turn of `route_planning` is read off the floor plan
as an object's direction is (`vsi_questions`): back from 135 degrees on, else left or right, and nowhere
within 10 degrees of where that changes.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Sequence
from itertools import permutations, product
from random import Random

import numpy as np

from spatialvlm.errors import UserError
from spatialvlm.tasks.vsi.questions import ANGLE, FARTHEST, LEAST_APART, direction
from spatialvlm.worlds.rooms import geometry, render, rooms
from spatialvlm.worlds.rooms.annotation import Box, SceneAnnotation
from spatialvlm.worlds.rooms.render import Room

HELD_OUT = ("obj_appearance_order", "route_planning")
ORDERED = 4  # categories that a question of order names
GLIMPSE = 0.001  # of a frame's pixels: what is seen no more than so has not appeared yet
ORDERS, ORDER_TRIES = 8, 40  # questions of order that a room gives at most, and draws for them
ROUTE_TRIES = 120  # ways through a room that are looked at for routes
TURNS = ("Turn Left", "Turn Right", "Turn Back")
ROUTES = {count: tuple(", ".join(turns) for turns in product(TURNS, repeat=count)) for count in (1, 2)}
_APPEARANCE = "What will be the first-time appearance order of the following categories in the video: {}?"
_ROUTE = (
    "You are a robot beginning at the {0} and facing the {1}. You want to navigate to the {2}. You will "
    "perform the following actions (Note: for each [please fill in], choose either 'turn back,' 'turn left,' "
    "or 'turn right.'): {3} You have reached the final destination."
)

# (question, answer, labels in the question's order)
Asked = tuple[str, str, tuple[str, ...]]


# ---- the order in which things appear


def first_frames(room: Room, numbers: Sequence[int]) -> dict[str, int]:
    """The place among these frames of the path in which each category comes into view: there at least
    `rooms.SEEN` of the pixels show it, before that no more than `GLIMPSE` do. Others are left out.
    """
    first: dict[str, int] = {}
    spoilt = set()
    for place, number in enumerate(numbers):
        objects = render.seen(room, room.path[number], rooms.CHECK_WIDTH, rooms.CHECK_HEIGHT)
        counted = np.bincount(objects.ravel() + 1, minlength=len(room.things) + 1)[1:] / objects.size
        shares: dict[str, float] = {}
        for thing, share in zip(room.things, counted.tolist(), strict=True):
            shares[thing.label] = shares.get(thing.label, 0.0) + share
        for label, share in shares.items():
            if label in first or label in spoilt:
                continue
            if share >= rooms.SEEN:
                first[label] = place
            elif share > GLIMPSE:
                spoilt.add(label)
    return first


def orders(room: Room, numbers: Sequence[int], draw: Random) -> list[Asked]:
    """Questions about the order in which four categories appear in these frames of the path.

    Raises:
        UserError: fewer than four frames.
    """
    if len(numbers) < ORDERED:
        raise UserError(f"obj_appearance_order needs --num_frames {ORDERED} or more, not {len(numbers)}")
    groups: dict[int, list[str]] = {}
    for label, place in sorted(first_frames(room, numbers).items()):
        groups.setdefault(place, []).append(label)
    found: list[tuple[str, ...]] = []
    for _ in range(ORDER_TRIES if len(groups) >= ORDERED else 0):
        places = sorted(draw.sample(sorted(groups), ORDERED))
        found.append(tuple(draw.choice(groups[place]) for place in places))
    made = []
    for labels in [*dict.fromkeys(found)][:ORDERS]:
        named = tuple(draw.sample(labels, ORDERED))
        made.append((_APPEARANCE.format(", ".join(named)), ", ".join(labels), named))
    return made


# ---- routes


def routes(annotation: SceneAnnotation, draw: Random) -> list[Asked]:
    """Questions about routes with one turn and with two, at most one for each answer, between objects whose
    label occurs once and which lie 0.3 to 5 m from the one before.
    """
    single = {label: boxes[0] for label, boxes in sorted(annotation.objects.items()) if len(boxes) == 1}
    found: dict[str, Asked] = {}
    for _ in range(ROUTE_TRIES):
        turns, walked_first = draw.choice((1, 2)), draw.random() < 0.5
        # where it begins, what it faces, and one goal a turn
        if len(single) < 2 + turns:
            continue
        labels = tuple(draw.sample([*single], 2 + turns))
        boxes = [single[label] for label in labels]
        places = [boxes[0], *boxes[1 if walked_first else 2 :]]
        said = _turns([complex(*box.centroid[:2]) for box in boxes], walked_first)
        if said is None or said in found or not _near(places):
            continue
        fill, go = "[please fill in]", "Go forward until the {}."
        steps = [step for goal in labels[2:] for step in (fill, go.format(goal))]
        steps = [go.format(labels[1])] * walked_first + steps
        listed = " ".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
        found[said] = (_ROUTE.format(labels[0], labels[1], labels[-1], listed), said, labels)
    return [found[said] for said in sorted(found)]


def _near(places: Sequence[Box]) -> bool:
    return all(
        LEAST_APART <= geometry.gap(*pair) <= FARTHEST for pair in zip(places, places[1:], strict=False)
    )


def _turns(points: Sequence[complex], walked_first: bool) -> str | None:
    """The turns of a way that begins at the first point and faces the second, which it walks to first or not,
    and then goes to all others; None where one of them hangs on a hair.
    """
    heading, here = points[1] - points[0], points[1 if walked_first else 0]
    said = []
    for goal in points[2:]:
        angle = math.degrees(cmath.phase((goal - here) / heading))  # to the left is positive
        if abs(angle) < ANGLE or abs(abs(angle) - 135) < ANGLE:
            return None
        said.append(f"Turn {direction('object_rel_direction_medium', angle).capitalize()}")
        heading, here = goal - here, goal
    return ", ".join(said)


def vocabulary(question_type: str, answer: str, labels: Iterable[str]) -> tuple[str, ...]:
    """All answers in words that a question of these kinds can have: orders, or turns."""
    if question_type == "route_planning":
        return ROUTES[len(answer.split(", "))]
    return tuple(", ".join(order) for order in permutations(labels))
