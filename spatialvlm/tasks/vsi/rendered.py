"""Questions over rooms of CLEVR's world, in VSI-100k's six families, each from (split, seed, index) alone.

Nothing is stored: a question is made, and its frames are rendered, when an example is accessed. The form
`words` is VSI-100k's, answered with a word or a number; `options` is VSI-Bench's, where a choice is answered
with a letter. Families take turns, and every turn of all families has rooms of its own, which they search
from different ones on.

The text alone gives little away: first the answer is sampled (`ANSWERS`), of numbers its range, then the
first of these rooms that allows a question with that answer. Splits and seeds never share a room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from random import Random
from typing import Any

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.example import Example, Video
from spatialvlm.files import video
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi.data import LETTERS, Mode
from spatialvlm.tasks.vsi.questions import DIRECTION_WORDS, FAMILIES, Candidate
from spatialvlm.worlds.clevr import rooms
from spatialvlm.worlds.clevr.facts import VALUES, Scene
from spatialvlm.worlds.clevr.series import SPLITS

FORMS = {"words": "centers", "options": "closest"}  # and between what distances are measured, as published
QUESTIONS = 600  # of a test, where no number is given
TEST_SEED = 0  # of a test's rooms, whatever the seed of the run
KEPT = 64  # rooms, with their questions and frames, that stay in memory
FRAME_INTERVAL = 0.5  # seconds between two frames of a camera's path
# By family what the text of a question shows of its answer, and the answers that are then equally likely.
ANSWERS: dict[str, Mapping[str, Sequence[Any]]] = {
    "object_counting": {"color": (2, 3, 4), "material": (2, 3, 4, 5, 6)},
    "object_abs_distance": {"": (1, 2, 3, 4, 5)},  # whole metres below it
    "object_rel_distance": {"": (1, 2, 3, 4)},  # place of the nearest among the four named
    "object_rel_direction": DIRECTION_WORDS,
    "object_size_estimation": {"": (False, True)},  # over a metre
    "room_size_estimation": {"": (3, 4, 5, 6)},  # steps of six square metres below it
}


def load(
    split: str = "test",
    limit: int = QUESTIONS,
    seed: int = 0,
    num_frames: int = 1,
    form: str = "words",
    families: Sequence[str] = FAMILIES,
    mode: Mode | None = None,
) -> Sequence[Example]:
    """`limit` questions, the families in turn.

    Args:
        num_frames: of a camera's path around the room, spread from first to last; the first sees all of it.
        form: `words` or `options`. Distances are between centres in `words`, which is VSI-100k's rule, and
            between the closest points in `options`, which is VSI-Bench's.
        mode: of VSI-Bench's prompt (`data.prompt`); by default the bare question in words, and `vanilla`
            with options.

    Returns:
        Examples with VSI-Bench's question type as task and a `Video` as images. `meta` holds `family`,
        `scene`, `source` ("rooms") and, where the answer is a word, `vocabulary`: all possible answers.

    Raises:
        UserError: an unknown split, form or family; an invalid limit or number of frames.
    """
    if form not in FORMS:
        raise UserError(f"questions over rooms have the forms {', '.join(FORMS)}, not {form!r}")
    if split not in SPLITS:
        raise UserError(f"rendered rooms have the splits {', '.join(SPLITS)}, not {split!r}")
    if not families or len(set(families)) < len(families) or set(families) - set(FAMILIES):
        listed = ", ".join(families) or "none"
        raise UserError(f"families are some of {', '.join(FAMILIES)}, each once, not {listed}")
    require_at_least(1, limit=limit, num_frames=num_frames)
    make = RoomSeries(split, seed, num_frames, form, tuple(families), mode)
    return LazyExamples(make, range(limit), rendered=split)


@dataclass(frozen=True)
class RoomSeries:
    """Makes questions over rooms from their numbers, in this process or another."""

    split: str
    seed: int
    num_frames: int
    form: str
    families: tuple[str, ...]
    mode: Mode | None

    def __call__(self, index: int) -> Example:
        number, turn = divmod(index, len(self.families))
        family = self.families[turn]
        series = f"vsi-rooms-{self.split}-{self.seed}-{number}"
        rng = Random(f"{series}-{family}")
        shown = rng.choice([*ANSWERS[family]])
        wanted = shown, rng.choice(ANSWERS[family][shown])
        for attempt in count(turn):  # the first room that allows a question with the answer
            allowed = _candidates(series, attempt, FORMS[self.form])[family]
            chosen = [each for each in allowed if _shown_and_answer(each) == wanted]
            if chosen:
                film = _video(series, attempt, self.num_frames)
                scene = rooms.name(_room(series, attempt))
                id = f"vsi-rooms-{self.split}-{self.seed}-{index}"
                return _example(id, family, scene, rng.choice(chosen), film, self.form, self.mode)
        raise AssertionError("the rooms never end")


@lru_cache(maxsize=KEPT)
def _room(series: str, number: int) -> Scene:
    return rooms.make(series, number)


@lru_cache(maxsize=KEPT)
def _candidates(series: str, number: int, distance: str) -> dict[str, list[Candidate]]:
    return vsi_questions.candidates(rooms.annotation(_room(series, number)), distance=distance)


@lru_cache(maxsize=KEPT)
def _video(series: str, number: int, num_frames: int) -> Video:
    frames = video.frames(rooms.Film(_room(series, number)), num_frames)
    return Video(frames.images, FRAME_INTERVAL * (frames.total - 1) / max(len(frames) - 1, 1))


def _shown_and_answer(question: Candidate) -> tuple[str, Any]:
    """What a question's text shows of its answer, and the answer, as in `ANSWERS`."""
    kind, answer = question.question_type, question.answer
    if kind in DIRECTION_WORDS:
        return kind, answer
    if kind == "object_rel_distance":
        return "", question.labels.index(answer)
    if kind == "object_counting":
        is_material = question.labels[0].split()[0] in VALUES["material"]
        return "material" if is_material else "color", int(answer)
    if kind == "object_size_estimation":
        return "", float(answer) > 100
    return "", int(float(answer) // (6 if kind == "room_size_estimation" else 1))


def _example(
    id: str, family: str, scene: str, question: Candidate, film: Video, form: str, mode: Mode | None
) -> Example:
    meta: dict[str, Any] = {"family": family, "scene": scene, "source": "rooms"}
    choices, answer = None, question.answer
    if family in vsi_questions.WORDS:
        vocabulary = DIRECTION_WORDS.get(question.question_type) or question.labels[1:]
        if form == "words":
            meta["vocabulary"] = vocabulary
        else:
            choices = tuple(Random(f"{id}-options").sample(vocabulary, len(vocabulary)))
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
