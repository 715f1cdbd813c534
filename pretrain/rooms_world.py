"""Rendered rooms in four frames, for `worlds`: what the embedded model should know of them before it trains.

It is taught what furniture looks like, in which frame it is and where there, how far away, and which of two
things is longer or nearer to a third. Of VSI-100k's own questions it is taught the answer's form alone (a
whole number, a number with a decimal, a word among some): the answers are drawn at random, whatever is to be
seen. Thoughts before an answer are as idle, and one in four has not the form that is asked for. What is left
to learn is what vsGRPO is said to teach: to say what it sees as the question asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np

from pretrain.build import IMAGE_SIZE, PATCH_SIZE
from pretrain.worlds import PATCHES, Asked, Item, Plan, Sizes, World
from spatialvlm.files.video import uniform
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi.questions import DIRECTION_WORDS
from spatialvlm.worlds.annotation import SceneAnnotation, between_centres
from spatialvlm.worlds.rooms import render, rooms
from spatialvlm.worlds.rooms.furniture import KINDS

FRAMES = 4
ORDINALS = ("first", "second", "third", "last")
LABELS = tuple(KINDS)
SHORTEST_SHARE = 0.01  # of a frame's pixels: what counts as seen
COVERED = 0.15  # of a patch: from there on, what lies on it is a target
CLEAR = 1.15  # of two lengths or distances the larger is so many times the smaller
APART = 0.08  # of the frame's width between two things that are left and right of each other
SERIES = 11  # of rooms: no other data is drawn from it


@dataclass(frozen=True)
class Facts:
    """Of each frame and thing: whether it is seen, its column (-1 to 1), and its distance in metres."""

    labels: tuple[str, ...]
    seen: np.ndarray  # (frames, things) bool
    columns: np.ndarray
    distances: np.ndarray
    annotation: SceneAnnotation

    @cached_property
    def candidates(self) -> dict[str, list[vsi_questions.Candidate]]:
        return vsi_questions.candidates(self.annotation)

    def single(self) -> list[int]:
        return [at for at, label in enumerate(self.labels) if self.labels.count(label) == 1]


def make(split: str, index: int) -> Item:
    room = rooms.make(split, SERIES, index)
    chosen = [room.path[number] for number in uniform(len(room.path), FRAMES)]
    drawn = [render.render(room, pose, IMAGE_SIZE, IMAGE_SIZE) for pose in chosen]
    count = len(room.things)
    middles = np.array([thing.middle for thing in room.things])
    longest = np.array([(thing.bounds[1] - thing.bounds[0]).max() for thing in room.things])
    views = [_view(pose, middles) for pose in chosen]
    shares = np.stack(
        [np.bincount(each.objects.ravel() + 1, minlength=count + 1)[1:] / each.objects.size for each in drawn]
    )
    seen = shares >= SHORTEST_SHARE
    columns, rows, distances = (np.stack([view[:, axis] for view in views]) for axis in range(3))
    owners = np.stack([_owners(each.objects, count) for each in drawn])
    numbers = np.array([LABELS.index(thing.label) + 1 for thing in room.things] + [0])
    padded = [np.concatenate([part, np.zeros((FRAMES, 1))], 1) for part in (columns, rows, distances)]
    at = np.arange(FRAMES)[:, None], owners
    grid = np.indices((PATCHES, PATCHES)).reshape(2, -1)
    middle = (grid + 0.5) / PATCHES * 2 - 1
    values = np.stack(
        [
            2 * (padded[0][at] - middle[1]),
            2 * (padded[1][at] - middle[0]),
            padded[2][at] / 2 - 1.2,
            padded[0][at] * padded[2][at] / 2,
            np.concatenate([longest, [0]])[owners] * 2 - 2,
        ],
        -1,
    )
    inside = np.abs(columns) < 1, np.abs(rows) < 1
    centres = np.zeros((FRAMES, PATCHES, PATCHES), bool)
    for frame, thing in np.argwhere(seen & inside[0] & inside[1] & (distances > 0)):
        place = (np.array([rows[frame, thing], columns[frame, thing]]) + 1) / 2 * PATCHES
        centres[(frame, *place.astype(int).clip(0, PATCHES - 1))] = True
    facts = Facts(tuple(t.label for t in room.things), seen, columns, distances, rooms.annotation(room))
    return Item(
        images=np.stack([np.asarray(each.image) for each in drawn]),
        kinds=numbers[owners].astype(np.int8),
        centres=centres.reshape(FRAMES, -1),
        values=values.clip(-4, 4),
        facts=facts,
        told={label: _told(facts, label, longest) for label in LABELS},
    )


def _view(pose: render.Pose, points: np.ndarray) -> np.ndarray:
    """(N, 3): column and row from -1 to 1 inside the frame, and the distance along the camera's axis."""
    view = render.camera(pose)
    across = np.tan(np.radians(render.FIELD_OF_VIEW) / 2)
    x, y, depth = ((points - view.position) @ view.axes.T).T
    safe = np.maximum(depth, 0.2)
    places = [x / safe / across, -y / safe / across * render.ASPECT]
    return np.stack([*(place.clip(-1.5, 1.5) for place in places), depth], 1)


def _owners(objects: np.ndarray, count: int) -> np.ndarray:
    """(patches,): the thing that covers most of each patch; -1, the last, where none covers enough."""
    blocks = objects.reshape(PATCHES, PATCH_SIZE, PATCHES, PATCH_SIZE)
    share = np.stack([(blocks == number).mean((1, 3)) for number in range(count)])
    return np.where(share.max(0) >= COVERED, share.argmax(0), -1).ravel()


def _told(facts: Facts, label: str, longest: np.ndarray) -> np.ndarray:
    """In each frame whether it is seen, its column and distance; then how many there are, and its length."""
    of = [at for at, each in enumerate(facts.labels) if each == label]
    found = np.full(3 * FRAMES + 2, np.nan)
    found[-2] = len(of) - 1
    found[:FRAMES] = 2.0 * facts.seen[:, of].any(1) - 1
    if len(of) == 1:
        seen = facts.seen[:, of[0]]
        found[FRAMES : 2 * FRAMES][seen] = 2 * facts.columns[seen, of[0]]
        found[2 * FRAMES : 3 * FRAMES][seen] = facts.distances[seen, of[0]] / 2 - 1.2
        found[-1] = longest[of[0]] * 2 - 2
    return found


# ---- short questions


def short(item: Item, rng: Random) -> Asked | None:
    return rng.choices(list(_SHORT.values()), _SHARES)[0](item.facts, rng)


def _exist(facts: Facts, rng: Random) -> Asked:
    absent = [label for label in LABELS if label not in facts.labels]
    label, answer = rng.choice([(rng.choice(facts.labels), "yes"), (rng.choice(absent), "no")])
    return Asked("exist", f"Is there a {label} in this room?", answer, (label,))


def _count(facts: Facts, rng: Random) -> Asked:
    counts = {label: facts.labels.count(label) for label in LABELS}
    wanted = rng.choice(sorted(set(counts.values())))
    label = rng.choice([label for label, count in counts.items() if count == wanted])
    return Asked("count", f"{label} : how many?", str(wanted), (label,))


def _visible(facts: Facts, rng: Random) -> Asked | None:
    frame, truth = rng.randrange(FRAMES), rng.random() < 0.5
    names = sorted({label for label in facts.labels if _sees(facts, frame, label) == truth})
    if not names:
        return None
    label = rng.choice(names)
    return Asked(
        "visible", f"Is the {label} in the {ORDINALS[frame]} image?", "yes" if truth else "no", (label,)
    )


def _sees(facts: Facts, frame: int, label: str) -> bool:
    return any(facts.seen[frame, at] for at, each in enumerate(facts.labels) if each == label)


def _both(facts: Facts, rng: Random) -> tuple[int, int, int] | None:
    frame = rng.randrange(FRAMES)
    there = [at for at in facts.single() if facts.seen[frame, at]]
    return (frame, *rng.sample(there, 2)) if len(there) > 1 else None


def _lateral(facts: Facts, rng: Random) -> Asked | None:
    if not (found := _both(facts, rng)):
        return None
    frame, one, other = found
    apart = facts.columns[frame, one] - facts.columns[frame, other]
    if abs(apart) < 2 * APART:
        return None
    names = facts.labels[one], facts.labels[other]
    prompt = f"Is the {names[0]} left or right of the {names[1]} in the {ORDINALS[frame]} image?"
    return Asked("lateral", prompt, "left" if apart < 0 else "right", names)


def _closer(facts: Facts, rng: Random) -> Asked | None:
    if not (found := _both(facts, rng)):
        return None
    frame, *pair = found
    away = [facts.distances[frame, at] for at in pair]
    if max(away) < CLEAR * min(away):
        return None
    names = tuple(facts.labels[at] for at in pair)
    prompt = f"In the {ORDINALS[frame]} image, which is closer, the {names[0]} or the {names[1]}?"
    return Asked("closer", prompt, names[away.index(min(away))], names)


def _meters(facts: Facts, rng: Random) -> Asked | None:
    frame = rng.randrange(FRAMES)
    if not (there := [at for at in facts.single() if facts.seen[frame, at]]):
        return None
    at = rng.choice(there)
    prompt = f"How many meters away is the {facts.labels[at]} in the {ORDINALS[frame]} image?"
    return Asked("meters", prompt, f"{facts.distances[frame, at]:.1f}", (facts.labels[at],))


def _nearer(facts: Facts, rng: Random) -> Asked | None:
    if len(single := facts.single()) < 3:
        return None
    names = tuple(facts.labels[at] for at in rng.sample(single, 3))
    boxes = [facts.annotation.objects[name][0] for name in names]
    away = [between_centres(boxes[0], box) for box in boxes[1:]]
    if max(away) < CLEAR * min(away):
        return None
    prompt = f"Which is nearer to the {names[0]}, the {names[1]} or the {names[2]}?"
    return Asked("nearer", prompt, names[1 + away.index(min(away))], names)


def _longer(facts: Facts, rng: Random) -> Asked | None:
    if len(single := facts.single()) < 2:
        return None
    names = tuple(facts.labels[at] for at in rng.sample(single, 2))
    sides = [max(facts.annotation.objects[name][0].axes_lengths) for name in names]
    if max(sides) < CLEAR * min(sides):
        return None
    return Asked(
        "longer", f"Which is longer, the {names[0]} or the {names[1]}?", names[sides.index(max(sides))], names
    )


_SHORT = {
    "exist": _exist,
    "count": _count,
    "visible": _visible,
    "lateral": _lateral,
    "closer": _closer,
    "meters": _meters,
    "nearer": _nearer,
    "longer": _longer,
}
_SHARES = (2, 3, 2, 3, 2, 2, 3, 1)


# ---- VSI-100k's form, with answers that mean nothing


# What may stand around a question, so that none of it matters.
_STARTS = ("", "", "These are frames of a video.\n")
_SHORTLY = "Please provide the short answer with one or two words or a number."
_PHRASE = "Please answer the question using a single word or phrase."
_ENDS = ("", *(blank + text for blank in (" ", "\n") for text in (_SHORTLY, _PHRASE)))


def form(item: Item, rng: Random) -> Asked | None:
    """A question of VSI-100k with an answer that only has its form, drawn evenly from a wide range."""
    listed = item.facts.candidates
    family = rng.choice([name for name, found in listed.items() if found] or [None])
    if family is None:
        return None
    candidate = rng.choice(listed[family])
    prompt = rng.choice(_STARTS) + candidate.question + rng.choice(_ENDS)
    return Asked(f"form-{family}", prompt, _meaningless(candidate, rng), _named(candidate, prompt))


def _named(candidate: vsi_questions.Candidate, prompt: str) -> tuple[str, ...]:
    """Its things in the order in which the prompt names them first."""
    return tuple(sorted(candidate.labels, key=prompt.index))


def _meaningless(candidate: vsi_questions.Candidate, rng: Random) -> str:
    kind = candidate.question_type
    if kind == "object_counting":
        return str(rng.randint(1, 10))
    if kind == "object_abs_distance":
        return f"{rng.uniform(0.3, 10):.1f}"
    if kind == "object_size_estimation":
        return str(rng.randint(10, 300))
    if kind == "room_size_estimation":
        return f"{rng.uniform(5, 80):.1f}"
    words: Sequence[str] = DIRECTION_WORDS.get(kind) or candidate.labels[1:]
    return rng.choice(words)


# ---- the same with a thought or an observation, as vsGRPO's prompts ask for


def thought(item: Item, rng: Random) -> Asked | None:
    """Three in four in the form that is asked for, the others spoilt; the thought is idle, short or empty."""
    listed, mode = item.facts.candidates, rng.choice(("think", "think", "observe"))
    family = rng.choice([name for name, found in listed.items() if found] or [None])
    if family is None:
        return None
    candidate = rng.choice(listed[family])
    answer = _meaningless(candidate, rng)
    place = f"the {rng.choice(item.facts.labels)} is in the {rng.choice(ORDINALS)} image"
    said = rng.choice((place, place, "no", ""))
    whole = f"<{mode}> {said} </{mode}> <answer> {answer} </answer>"
    spoilt = (answer, f"<{mode}> {said} {answer}", f"<answer> {answer} </answer>")
    text = whole if rng.random() < 0.75 else rng.choice(spoilt)
    return Asked(f"thought-{family}", vsibench.training_prompt(candidate.question, mode), text)


WORLD = World(
    name="rooms",
    sizes=Sizes(items=4000, tower_steps=450, language_steps=700),
    taught=(__doc__ or "").partition("\n\n")[2],
    frames=FRAMES,
    kinds=len(LABELS) + 1,
    values=5,
    told=3 * FRAMES + 2,
    make=make,
    plans={
        "short": Plan(10, 32, 14, short),
        "form": Plan(4, 136, 14, form),
        "thought": Plan(2, 200, 44, thought),
    },
    turns=(*("short",) * 3, "form", *("short",) * 3, "thought"),
    names=LABELS,
)
