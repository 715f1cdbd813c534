"""Questions over rendered rooms, in VSI-100k's form and VSI-Bench's, each from (split, seed, index) alone.

Nothing is stored: a question is made when it is looked at, and its frames are drawn. The form `words` is
VSI-100k's, answered in a word or a number, `options` VSI-Bench's, where a choice is answered with a letter.
Families take turns; those of VSI-100k are asked as `vsi_questions` asks them, the two that it holds out as
`vsi_held_out` does.

Eight rooms in a row are a block, which asks each family eight times, nothing twice. Questions are drawn so
that their text alone gives little away: first the answer, from those that the block's rooms allow, then a
question that has it; numbers follow the rooms. Where a block allows too few questions of a family, further
rooms join it. Splits and seeds never share a room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from random import Random
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.files import video
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import held_out as vsi_held_out
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi.held_out import HELD_OUT
from spatialvlm.tasks.vsi.prompts import Mode
from spatialvlm.tasks.vsi.vsi_100k import DIRECTIONS
from spatialvlm.worlds.clevr.questions import LETTERS
from spatialvlm.worlds.clevr.series import SPLITS, Series
from spatialvlm.worlds.rooms import rooms
from spatialvlm.worlds.rooms.render import Room

FAMILIES = (*vsi_questions.FAMILIES, *HELD_OUT)
_NUMBERS = tuple(name for name in vsi_questions.FAMILIES if name not in vsi_questions.WORDS)
FORMS = {"words": "centers", "options": "closest"}  # and between what distances are measured, as published
BLOCK = 8  # rooms, and questions of a family
QUESTIONS = 800  # of a test, where no number is given
TEST_SEED = 0  # of a test's rooms, whatever the seed of the run
FURTHER = 1_000_000  # rooms from this number on join blocks that allow too little
LOOKS = 4  # times that a room is searched for questions of direction
KEPT_ROOMS, KEPT_FRAMES = 64, 2**28  # rooms, and bytes of examples' frames, that stay in memory
FRAME_INTERVAL = 0.5  # seconds between two frames of a camera's path


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
    """`limit` questions, the families in turn, rendered on access.

    Args:
        num_frames: of a room's 8 to 32, spread from first to last; `obj_appearance_order` needs four, and is
            about those that are shown.
        form: `words` or `options`. Distances are between centres in `words`, which is VSI-100k's rule, and
            between the closest points in `options`, which is VSI-Bench's.
        families: of `FAMILIES`; where not given the six of VSI-100k in words, all eight with options.
        width, height: of a frame, which always is 4:3.
        mode: of the prompt, which is VSI-Bench's (`vsibench.prompt`); where it is not given, the bare
            question in words, and `vanilla` with options.

    Returns:
        Examples with VSI-Bench's question type as task and a `Video` as images. `meta` holds `family`,
        `scene`, `source` ("rooms") and, where a word is the answer, `vocabulary`: what it can be.

    Raises:
        UserError: a split, form or family that there is not; a limit or number of frames that makes no sense.
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
    if limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    least = vsi_held_out.ORDERED if "obj_appearance_order" in families else 1
    if num_frames < least:
        needed = "obj_appearance_order needs" if least > 1 else "a video needs"
        raise UserError(f"{needed} --num_frames {least} or more, not {num_frames}")
    if min(width, height) < 1:
        raise UserError(f"a frame of {width} x {height} pixels shows nothing")
    series = RoomSeries(form, (), split, seed, True, tuple(families), num_frames, (width, height), mode)
    kept = max(BLOCK, KEPT_FRAMES // (num_frames * width * height * 3))
    return LazyExamples(series, range(limit), kept, rendered=split)


@dataclass(frozen=True)
class Asked:
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
        distance, frames = FORMS[self.form], self.num_frames
        # VSI-100k's questions are the same however many frames are shown
        shown = frames if family == "obj_appearance_order" else None
        asked = _block(self.split, self.seed, block, family, distance, shown)[place]
        id = f"vsi-rooms-{self.split}-{self.seed}-{index}"
        film = _video(self.split, self.seed, asked.room, frames, self.size)
        return _example(id, self.form, family, asked, film, self.mode)


# ---- what is asked


@lru_cache(maxsize=KEPT_ROOMS)
def _room(split: str, seed: int, number: int) -> Room:
    return rooms.make(split, seed, number)


@lru_cache(maxsize=4 * len(FAMILIES))
def _block(
    split: str, seed: int, block: int, family: str, distance: str, num_frames: int | None
) -> list[Asked]:
    """The questions of a family that a block asks, in order."""
    pool: list[Asked] = []
    for looked, number in enumerate(_rooms_of(block)):
        if looked >= BLOCK and len(pool) >= BLOCK:
            break
        pool += _candidates(_room(split, seed, number), number, family, distance, num_frames)
    rng = Random(f"vsi-rooms-{split}-{seed}-{family}-{block}")
    chosen = []
    for _ in range(BLOCK):
        left = pool
        for level in _DRAWN_FIRST.get(family, (_room_of,)):
            value = rng.choice(sorted({level(asked) for asked in left}))
            left = [asked for asked in left if level(asked) == value]
        chosen.append(rng.choice(left))
        pool.remove(chosen[-1])
    return chosen


def _rooms_of(block: int) -> Iterator[int]:
    """A block's own rooms, then as many others as may be needed, which no other block has."""
    yield from range(BLOCK * block, BLOCK * (block + 1))
    yield from (FURTHER * turn + block for turn in count(1))


def _room_of(asked: Asked) -> int:
    return asked.room


def _kind_of(asked: Asked) -> str:
    return asked.question_type


def _answer_of(asked: Asked) -> str:
    return asked.answer


def _turns_of(asked: Asked) -> int:
    return len(asked.answer.split(", "))


_DRAWN_FIRST: dict[str, tuple[Callable[[Asked], Any], ...]] = {  # of the others the room
    "object_rel_distance": (_answer_of,),
    "object_rel_direction": (_kind_of, _answer_of),
    "route_planning": (_turns_of, _answer_of),
}


def _candidates(room: Room, number: int, family: str, distance: str, num_frames: int | None) -> list[Asked]:
    """All that a family may ask of a room, no question twice."""
    annotation, draw = rooms.annotation(room), Random(f"{room.name}-{family}")
    if family == "obj_appearance_order":
        found = vsi_held_out.orders(room, video.uniform(len(room.path), num_frames), draw)
        return [Asked(number, room.name, family, *each) for each in found]
    if family == "route_planning":
        return [Asked(number, room.name, family, *each) for each in vsi_held_out.routes(annotation, draw)]
    looks = LOOKS if family == "object_rel_direction" else 1
    listed = [
        each for look in range(looks) for each in vsi_questions.candidates(annotation, look, distance)[family]
    ]
    made = [
        Asked(number, room.name, each.question_type, each.question, each.answer, each.labels)
        for each in listed
    ]
    return [*dict.fromkeys(made)]


# ---- and how


@lru_cache(maxsize=16)
def _video(split: str, seed: int, number: int, num_frames: int, size: tuple[int, int]) -> Video:
    film = rooms.Film(_room(split, seed, number), *size)
    frames = video.frames(film, num_frames)
    return Video(frames.images, FRAME_INTERVAL * (len(film) - 1) / max(len(frames) - 1, 1))


def _example(id: str, form: str, family: str, asked: Asked, film: Video, mode: Mode | None) -> Example:
    meta, choices, answer = {"family": family, "scene": asked.scene, "source": "rooms"}, None, asked.answer
    if family not in _NUMBERS and form == "words":
        meta["vocabulary"] = _vocabulary(family, asked)
    elif family not in _NUMBERS:
        words = [answer, *_others(family, asked, Random(f"{id}-others"))]
        choices = tuple(Random(f"{id}-options").sample(words, len(words)))
        answer = LETTERS[choices.index(answer)]
    prompt = asked.question
    if mode or form == "options":
        prompt = vsibench.prompt(asked.question, choices, mode or "vanilla")
    return Example(
        id=id,
        images=film,
        question=asked.question,
        answer=answer,
        task=asked.question_type,
        choices=choices,
        prompt=prompt,
        meta=meta,
    )


def _vocabulary(family: str, asked: Asked) -> tuple[str, ...]:
    """All that could be the answer in words."""
    if family == "object_rel_distance":
        return asked.labels[1:]
    if family == "object_rel_direction":
        return DIRECTIONS[asked.question_type]
    return vsi_held_out.vocabulary(asked.question_type, asked.answer, asked.labels)


def _others(family: str, asked: Asked, draw: Random) -> list[str]:
    """The wrong options: all other words; of orders and pairs of turns, of which there are many, three."""
    words = [word for word in _vocabulary(family, asked) if word != asked.answer]
    return draw.sample(words, min(len(words), vsi_held_out.ORDERED - 1))
