"""Questions over rendered rooms, in VSI-100k's form and VSI-Bench's, each from (split, seed, index) alone.

Nothing is stored: a question is made, and its frames are rendered, when an example is accessed. The form
`words` is VSI-100k's, answered with a word or a number; `options` is VSI-Bench's, where a choice is answered
with a letter. Families take turns: the six of VSI-100k (`questions`), and the two of VSI-Bench that it holds
out, in VSI-Bench's wording. `obj_appearance_order` is about the frames that are shown, and four categories
that come into view in four different ones; `route_planning` takes its turns from the floor plan.

Eight rooms in a row are a block, which holds eight questions of each family, none twice. Questions are
sampled so that their text alone gives little away: first the answer, among those that the block's rooms
allow, then a question that has it; numbers follow the rooms. Where a block allows too few questions of a
family, further rooms join it. Splits and seeds never share a room.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, permutations, product
from random import Random
from typing import Any

import numpy as np

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.example import Example, Video
from spatialvlm.files import video
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi.data import LETTERS, Mode
from spatialvlm.tasks.vsi.questions import ANGLE, DIRECTION_WORDS, FARTHEST, LEAST_APART, WORDS, direction
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box, SceneAnnotation
from spatialvlm.worlds.clevr.series import SPLITS, Series
from spatialvlm.worlds.rooms import render, rooms
from spatialvlm.worlds.rooms.render import Room

HELD_OUT = ("obj_appearance_order", "route_planning")
FAMILIES = (*vsi_questions.FAMILIES, *HELD_OUT)
FORMS = {"words": "centers", "options": "closest"}  # and between what distances are measured, as published
BLOCK = 8  # rooms, and questions per family
QUESTIONS = 800  # of a test, where no number is given
TEST_SEED = 0  # of a test's rooms, whatever the seed of the run
FURTHER = 1_000_000  # rooms from this number on join blocks that allow too little
DIRECTION_PASSES = 4  # searches of a room for questions of direction
KEPT_ROOMS, KEPT_FRAMES = 64, 2**28  # rooms, and bytes of examples' frames, that stay in memory
FRAME_INTERVAL = 0.5  # seconds between two frames of a camera's path

ORDERED = 4  # categories in a question of order
GLIMPSE = 0.001  # fraction of a frame's pixels; a category with no more has not appeared yet
ORDERS, ORDER_TRIES = 8, 40  # questions of order per room at most, and samples for them
ROUTE_TRIES = 120  # routes sampled per room
TURNS = ("Turn Left", "Turn Right", "Turn Back")
ROUTES = {turns: tuple(", ".join(route) for route in product(TURNS, repeat=turns)) for turns in (1, 2)}
_APPEARANCE = "What will be the first-time appearance order of the following categories in the video: {}?"
_ROUTE = (
    "You are a robot beginning at the {0} and facing the {1}. You want to navigate to the {2}. You will "
    "perform the following actions (Note: for each [please fill in], choose either 'turn back,' 'turn left,' "
    "or 'turn right.'): {3} You have reached the final destination."
)


def load(
    split: str = "test",
    limit: int = QUESTIONS,
    seed: int = 0,
    num_frames: int = 4,
    form: str = "words",
    families: Sequence[str] | None = None,
    width: int = rooms.WIDTH,
    height: int = rooms.HEIGHT,
    mode: Mode | None = None,
) -> Sequence[Example]:
    """`limit` questions, the families in turn.

    Args:
        num_frames: of a room's 8 to 32, spread from first to last; `obj_appearance_order` needs four.
        form: `words` or `options`. Distances are between centres in `words`, which is VSI-100k's rule, and
            between the closest points in `options`, which is VSI-Bench's.
        families: of `FAMILIES`; by default the six of VSI-100k in words, all eight with options.
        width, height: of a frame, which always is 4:3.
        mode: of VSI-Bench's prompt (`data.prompt`); by default the bare question in words, and `vanilla`
            with options.

    Returns:
        Examples with VSI-Bench's question type as task and a `Video` as images. `meta` holds `family`,
        `scene`, `source` ("rooms") and, where the answer is a word, `vocabulary`: all possible answers.

    Raises:
        UserError: an unknown split, form or family; an invalid limit, frame size or number of frames.
    """
    if form not in FORMS:
        raise UserError(f"questions over rooms have the forms {', '.join(FORMS)}, not {form!r}")
    if split not in SPLITS:
        raise UserError(f"rendered rooms have the splits {', '.join(SPLITS)}, not {split!r}")
    if families is None:
        families = FAMILIES if form == "options" else vsi_questions.FAMILIES
    if unknown := [name for name in families if name not in FAMILIES]:
        raise UserError(f"questions over rooms are of {', '.join(FAMILIES)}, not {', '.join(unknown)}")
    if not families or len(set(families)) < len(families):
        raise UserError(
            f"families of questions must be named, each once, not {', '.join(families) or 'none'}"
        )
    require_at_least(1, limit=limit)
    least = ORDERED if "obj_appearance_order" in families else 1
    if num_frames < least:
        needed = "obj_appearance_order needs" if least > 1 else "a video needs"
        raise UserError(f"{needed} --num_frames {least} or more, not {num_frames}")
    if min(width, height) < 1:
        raise UserError(f"a frame of {width} x {height} pixels shows nothing")
    series = RoomSeries(form, (), split, seed, True, tuple(families), num_frames, (width, height), mode)
    kept = max(BLOCK, KEPT_FRAMES // (num_frames * width * height * 3))
    return LazyExamples(series, range(limit), kept, rendered=split)


@dataclass(frozen=True)
class RoomSeries(Series):
    """Makes questions over rooms from their numbers, in this process or another."""

    families: tuple[str, ...]
    num_frames: int
    size: tuple[int, int]
    mode: Mode | None

    def __call__(self, index: int) -> Example:
        number, turn = divmod(index, len(self.families))
        block, place = divmod(number, BLOCK)
        family = self.families[turn]
        # VSI-100k's questions are the same however many frames are shown
        shown = self.num_frames if family == "obj_appearance_order" else None
        question = _block(self.split, self.seed, block, family, FORMS[self.form], shown)[place]
        id = f"vsi-rooms-{self.split}-{self.seed}-{index}"
        film = _video(self.split, self.seed, question.room, self.num_frames, self.size)
        return _example(id, self.form, family, question, film, self.mode)


@lru_cache(maxsize=KEPT_ROOMS)
def _room(split: str, seed: int, number: int) -> Room:
    return rooms.make(split, seed, number)


@lru_cache(maxsize=16)
def _video(split: str, seed: int, number: int, num_frames: int, size: tuple[int, int]) -> Video:
    width, height = size
    film = rooms.Film(_room(split, seed, number), width, height)
    frames = video.frames(film, num_frames)
    return Video(frames.images, FRAME_INTERVAL * (len(film) - 1) / max(len(frames) - 1, 1))


# ---- the questions of a block


@dataclass(frozen=True)
class Question:
    """A question before it has a form.

    Args:
        room, scene: the number of its room, and its name.
        question_type: VSI-Bench's.
        answer: a number as VSI-Bench writes it, or words.
        labels: of the objects in the question, in its order.
    """

    room: int
    scene: str
    question_type: str
    question: str
    answer: str
    labels: tuple[str, ...]


@lru_cache(maxsize=4 * len(FAMILIES))
def _block(
    split: str, seed: int, block: int, family: str, distance: str, num_frames: int | None
) -> list[Question]:
    """The questions of a family in a block, in order."""
    pool: list[Question] = []
    for searched, number in enumerate(_rooms_of(block)):
        if searched >= BLOCK and len(pool) >= BLOCK:
            break
        pool += _candidates(_room(split, seed, number), number, family, distance, num_frames)
    rng = Random(f"vsi-rooms-{split}-{seed}-{family}-{block}")
    chosen = []
    for _ in range(BLOCK):
        left = pool
        for level in _SAMPLED_FIRST.get(family, (lambda question: question.room,)):
            value = rng.choice(sorted({level(question) for question in left}))
            left = [question for question in left if level(question) == value]
        chosen.append(rng.choice(left))
        pool.remove(chosen[-1])
    return chosen


def _rooms_of(block: int) -> Iterator[int]:
    """A block's own rooms, then as many others as may be needed, which no other block has."""
    yield from range(BLOCK * block, BLOCK * (block + 1))
    yield from (FURTHER * turn + block for turn in count(1))


def _answer_of(question: Question) -> str:
    return question.answer


_SAMPLED_FIRST: dict[str, tuple[Callable[[Question], Any], ...]] = {  # of other families the room
    "object_rel_distance": (_answer_of,),
    "object_rel_direction": (lambda question: question.question_type, _answer_of),
    "route_planning": (lambda question: question.answer.count(", "), _answer_of),
}


def _candidates(
    room: Room, number: int, family: str, distance: str, num_frames: int | None
) -> list[Question]:
    """All questions of a family that a room allows, none twice."""
    scene, rng = rooms.annotation(room), Random(f"{room.name}-{family}")
    if family in HELD_OUT:
        is_route = family == "route_planning"
        frames = [] if is_route else video.uniform(len(room.path), num_frames)
        worded = routes(scene, rng) if is_route else orders(room, frames, rng)
        return [
            Question(number, room.name, family, question, answer, labels)
            for question, answer, labels in worded
        ]
    passes = DIRECTION_PASSES if family == "object_rel_direction" else 1
    made = [
        Question(number, room.name, each.question_type, each.question, each.answer, each.labels)
        for seed in range(passes)
        for each in vsi_questions.candidates(scene, seed, distance)[family]
    ]
    return [*dict.fromkeys(made)]


# ---- the order of appearance

Worded = tuple[str, str, tuple[str, ...]]  # question, answer, labels in the question's order


def first_frames(room: Room, numbers: Sequence[int]) -> dict[str, int]:
    """The place among these frames of the path in which each category comes into view.

    There at least the fraction `rooms.SEEN` of the pixels shows it, before that no more than `GLIMPSE`. Other
    categories are left out.
    """
    first: dict[str, int] = {}
    spoilt = set()
    for place, number in enumerate(numbers):
        objects = render.seen(room, room.path[number], rooms.CHECK_WIDTH, rooms.CHECK_HEIGHT)
        counted = np.bincount(objects.ravel() + 1, minlength=len(room.things) + 1)[1:] / objects.size
        fractions: dict[str, float] = {}
        for thing, fraction in zip(room.things, counted.tolist(), strict=True):
            fractions[thing.label] = fractions.get(thing.label, 0.0) + fraction
        for label, fraction in fractions.items():
            if label in first or label in spoilt:
                continue
            if fraction >= rooms.SEEN:
                first[label] = place
            elif fraction > GLIMPSE:
                spoilt.add(label)
    return first


def orders(room: Room, numbers: Sequence[int], rng: Random) -> list[Worded]:
    """Questions about the order in which four categories appear in these frames of the path."""
    groups: dict[int, list[str]] = {}
    for label, place in sorted(first_frames(room, numbers).items()):
        groups.setdefault(place, []).append(label)
    sampled: list[tuple[str, ...]] = []
    for _ in range(ORDER_TRIES if len(groups) >= ORDERED else 0):
        places = sorted(rng.sample(sorted(groups), ORDERED))
        sampled.append(tuple(rng.choice(groups[place]) for place in places))
    made = []
    for labels in [*dict.fromkeys(sampled)][:ORDERS]:
        named = tuple(rng.sample(labels, ORDERED))
        made.append((_APPEARANCE.format(", ".join(named)), ", ".join(labels), named))
    return made


# ---- routes


def routes(scene: SceneAnnotation, rng: Random) -> list[Worded]:
    """Questions about routes with one turn and with two, at most one per answer.

    Routes lead between objects whose label occurs once, each 0.3 to 5 m from the one before.
    """
    single = {label: boxes[0] for label, boxes in sorted(scene.objects.items()) if len(boxes) == 1}
    by_answer: dict[str, Worded] = {}
    for _ in range(ROUTE_TRIES):
        turns, walks_first = rng.choice((1, 2)), rng.random() < 0.5
        # where it begins, what it faces, and one goal per turn
        if len(single) < 2 + turns:
            continue
        labels = tuple(rng.sample([*single], 2 + turns))
        boxes = [single[label] for label in labels]
        stops = [boxes[0], *boxes[1 if walks_first else 2 :]]
        answer = _turns([complex(*box.centroid[:2]) for box in boxes], walks_first)
        if answer is None or answer in by_answer or not _near(stops):
            continue
        fill, go = "[please fill in]", "Go forward until the {}."
        steps = [step for goal in labels[2:] for step in (fill, go.format(goal))]
        steps = [go.format(labels[1])] * walks_first + steps
        listed = " ".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
        by_answer[answer] = (_ROUTE.format(labels[0], labels[1], labels[-1], listed), answer, labels)
    return [by_answer[answer] for answer in sorted(by_answer)]


def _near(stops: Sequence[Box]) -> bool:
    gaps = (annotation.gap(one, other) for one, other in zip(stops, stops[1:], strict=False))
    return all(LEAST_APART <= gap <= FARTHEST for gap in gaps)


def _turns(points: Sequence[complex], walks_first: bool) -> str | None:
    """The turns of a route; None where one of them is nearly another.

    The route begins at the first point and faces the second, walks there first or not, and then visits all
    others.
    """
    heading, here = points[1] - points[0], points[1 if walks_first else 0]
    turns = []
    for goal in points[2:]:
        angle = math.degrees(cmath.phase((goal - here) / heading))  # to the left is positive
        if abs(angle) < ANGLE or abs(abs(angle) - 135) < ANGLE:
            return None
        turns.append(f"Turn {direction('object_rel_direction_medium', angle).capitalize()}")
        heading, here = goal - here, goal
    return ", ".join(turns)


# ---- examples


def _example(id: str, form: str, family: str, question: Question, film: Video, mode: Mode | None) -> Example:
    meta = {"family": family, "scene": question.scene, "source": "rooms"}
    choices, answer = None, question.answer
    if family in WORDS + HELD_OUT:
        vocabulary = _vocabulary(family, question)
        if form == "words":
            meta["vocabulary"] = vocabulary
        else:
            # the wrong options: all other words; of orders and pairs of turns, of which there are many, three
            others = [word for word in vocabulary if word != answer]
            others = Random(f"{id}-others").sample(others, min(len(others), ORDERED - 1))
            choices = tuple(Random(f"{id}-options").sample([answer, *others], len(others) + 1))
            answer = LETTERS[choices.index(answer)]
    prompt = question.question
    if mode or form == "options":
        prompt = vsibench.prompt(question.question, choices, mode or "vanilla")
    return Example(
        id=id,
        images=film,
        question=question.question,
        answer=answer,
        task=question.question_type,
        choices=choices,
        prompt=prompt,
        meta=meta,
    )


def _vocabulary(family: str, question: Question) -> tuple[str, ...]:
    """All possible answers in words."""
    if family == "object_rel_distance":
        return question.labels[1:]
    if family == "object_rel_direction":
        return DIRECTION_WORDS[question.question_type]
    if family == "route_planning":
        return ROUTES[question.answer.count(", ") + 1]
    return tuple(", ".join(order) for order in permutations(question.labels))
