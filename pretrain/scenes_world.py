"""CLEVR's scenes, for `worlds`: a third of them rooms, on a bounded floor.

Short questions, and those about two or more things, teach what there is to see. Of the benchmarks' forms it
learns CLEVR's official families and VSI-100k's questions; SAT's, CV-Bench's and VSR's are left to training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random

import numpy as np

from pretrain.build import IMAGE_SIZE, PATCH_SIZE
from pretrain.targets import GROUPS, PATCHES, SIDES, VALUES
from pretrain.worlds import Asked, Asker, Drawn, Facts, Plan, World
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.worlds.annotation import bearing
from spatialvlm.worlds.clevr import official_questions, questions, render, rooms, scenes
from spatialvlm.worlds.clevr.facts import (
    HEIGHT,
    WIDTH,
    Filter,
    distance,
    matches,
    refer,
)
from spatialvlm.worlds.clevr.facts import (
    VALUES as ATTRIBUTES,
)
from spatialvlm.worlds.clevr.questions import Question

ROOMS = 3  # one scene in so many is a room
COVERED = 0.08  # of a patch: from there on, what lies on it is a target
NEAREST_BY = 0.3  # scene units between the nearest and the next
CLEAR = 15.0  # degrees between a bearing and where the answer changes


def make(split: str, index: int) -> Facts:
    """A scene of CLEVR's, or a room."""
    return scenes.make(split, index) if index % ROOMS else rooms.make(split, index)


def draw(scene: Facts) -> Drawn:
    """The image, squeezed to a square as the processor does it, and its targets."""
    drawn = scenes.render_scene(scene, IMAGE_SIZE, IMAGE_SIZE)
    _, _, ids = render.visibility(scene, scenes.view(scene), IMAGE_SIZE, IMAGE_SIZE)

    def patches(of: np.ndarray) -> np.ndarray:
        return of.reshape(PATCHES, PATCH_SIZE, PATCHES, PATCH_SIZE).mean((1, 3)).ravel()

    things = scene["objects"]
    share = np.stack([patches(ids == number) for number in range(len(things))])
    owners = np.where(share.max(0) >= COVERED, share.argmax(0), -1)
    classes = np.full((len(things), len(GROUPS)), -1)
    for number, thing in enumerate(things):
        for k, (group, words) in enumerate(GROUPS.items()):
            classes[number, k] = words.index(thing[group]) if group in thing else -1
    pixels, places = (np.array([thing[key] for thing in things]) for key in ("pixel_coords", "3d_coords"))
    values = np.full((len(things), len(VALUES)), np.nan)
    values[:, : -len(SIDES)] = np.stack(
        [
            4 * (pixels[:, 0] / WIDTH - 0.5),
            4 * (pixels[:, 1] / HEIGHT - 0.5),
            (pixels[:, 2] - 11) / 2,
            places[:, 0] / 2,
            places[:, 1] / 2,
        ],
        -1,
    )
    floor = 2 * patches(ids == render.FLOOR) - 1
    return Drawn(np.asarray(drawn.image), owners.astype(np.int8), floor, classes, values)


# ---- questions about one thing, or about how many


def _told(scene: Facts, found: Question | None) -> Asked | None:
    """A question of `questions`, with what can be told of the things in it."""
    if found is None:
        return None
    things, told = tuple(found.meta.get("objects", ())), {}
    if "filter" in found.meta:
        things, told = (None,), {0: {"number": float(len(matches(scene, found.meta["filter"])))}}
    elif len(things) == 3:
        told = {slot: {"distance": distance(scene, things[0], things[slot])} for slot in (1, 2)}
    return Asked(found.prompt, found.answer, things, told)


def _free(kind: str) -> Asker:
    return lambda scene, rng: _told(scene, questions.free(scene, rng, kind))


def _floor(scene: Facts, rng: Random) -> Asked | None:
    """The area of a room's floor."""
    if "floor" not in scene:
        return None
    question = rng.choice(("How large is the floor?", "What area is the floor?"))
    return Asked(question, str(round(math.prod(scene["floor"]))))


# ---- questions about two things or more


def _names(scene: Facts, rng: Random, count: int) -> tuple[tuple[int, ...], tuple[str, ...]] | None:
    """Some things that can be named, and their names."""
    found = [(index, refer(scene, index, rng)) for index in range(len(scene["objects"]))]
    named = [(index, name) for index, name in found if name]
    if len(named) < count:
        return None
    things, names = zip(*rng.sample(named, count), strict=True)
    return things, names


def _apart(scene: Facts, rng: Random) -> Asked | None:
    if found := _names(scene, rng, 2):
        things, names = found
        apart = distance(scene, *things)
        question = f"How far is the {names[0]} from the {names[1]}?"
        return Asked(question, f"{apart:.1f}", things, {1: {"distance": apart}})
    return None


def _closest(scene: Facts, rng: Random) -> Asked | None:
    """Which of three or four things is closest to another, or farthest from it."""
    others = rng.choice((3, 4))
    if not (found := _names(scene, rng, others + 1)):
        return None
    things, names = found
    apart = [distance(scene, things[0], thing) for thing in things[1:]]
    far = rng.random() < 0.3
    ordered = sorted(apart, reverse=far)
    if abs(ordered[0] - ordered[1]) < NEAREST_BY:
        return None
    listed = ", ".join(f"the {name}" for name in names[1:-1])
    words = "farthest from" if far else rng.choice(("closest to", "nearest to"))
    question = f"Which is {words} the {names[0]}, {listed} or the {names[-1]}?"
    told = {slot: {"distance": away} for slot, away in enumerate(apart, 1)}
    return Asked(question, names[1 + apart.index(ordered[0])], things, told)


def _turned(scene: Facts, rng: Random) -> Asked | None:
    """On which side a thing is of one who stands by another and faces a third."""
    if not (found := _names(scene, rng, 3)):
        return None
    things, names = found
    angle = bearing(*(rooms.box(scene["objects"][thing]) for thing in things))  # to the left is positive
    words = rng.choice(("left or right", "in front or behind"))
    if words == "left or right":
        answer, unclear = "left" if angle > 0 else "right", min(abs(angle), 180 - abs(angle))
    else:
        answer, unclear = "front" if abs(angle) < 90 else "behind", abs(abs(angle) - 90)
    if unclear < CLEAR:
        return None
    question = f"Standing by the {names[0]} and facing the {names[1]}, is the {names[2]} {words}?"
    return Asked(question, answer, things, _told_of_bearing(scene, things, angle))


def _told_of_bearing(scene: Facts, things: Sequence[int], angle: float) -> dict[int, dict[str, float]]:
    """Told of the second and the third thing, seen from the first: how far on the ground, and the bearing."""
    here, ahead, there = (scene["objects"][thing]["3d_coords"][:2] for thing in things)
    way = {"sine": math.sin(math.radians(angle)), "cosine": math.cos(math.radians(angle))}
    return {1: {"distance": math.dist(here, ahead)}, 2: {"distance": math.dist(here, there)} | way}


# ---- the benchmarks' forms


def _clevr(family: str) -> Asker:
    return lambda scene, rng: _told(scene, official_questions.clevr(scene, rng, family))


# What may stand around VSI-100k's questions.
_STARTS = ("", "", "These are frames of a video.\n")
_ENDS = ("", f"\n{vsibench.SHORT}", f"\nPlease {vsibench.PHRASE}")


@lru_cache(maxsize=4)
def _candidates(name: str) -> dict[str, list[vsi_questions.Candidate]]:
    split, number = name.rsplit("_", 1)
    return vsi_questions.candidates(rooms.annotation(make(split, int(number))))


def _vsi(family: str, thoughts: bool) -> Asker:
    def ask(scene: Facts, rng: Random) -> Asked | None:
        if not (listed := _candidates(rooms.name(scene))[family]):
            return None
        candidate = rng.choice(listed)
        if thoughts:
            return _thought(scene, candidate, rng)
        prompt = rng.choice(_STARTS) + candidate.question + rng.choice(_ENDS)
        return Asked(prompt, candidate.answer, *_of_labels(scene, candidate, prompt))

    return ask


def _of_labels(scene: Facts, candidate: vsi_questions.Candidate, prompt: str):
    """The things that a question of VSI-100k names, and what there is to say of them (`Asked.told`)."""
    labels = sorted(candidate.labels, key=prompt.index)  # as they come
    things = tuple(_labelled(scene, label) for label in labels)
    if candidate.question_type == "object_counting":
        return things, {0: {"number": candidate.measures[0]}}
    if vsi_questions.family(candidate.question_type) == "object_rel_direction":
        return things, _told_of_bearing(scene, things, candidate.measures[0])
    first = _labelled(scene, candidate.labels[0]) if len(labels) > 1 else None
    told = {
        slot: {"distance": distance(scene, first, thing)}
        for slot, thing in enumerate(things)
        if first is not None and thing != first
    }
    return things, told


def _labelled(scene: Facts, label: str) -> int | None:
    """The one thing that a label such as `red cube` names; None of `red thing`, which may be many."""
    words = label.split()
    conditions: Filter = {name: word for word in words for name, known in ATTRIBUTES.items() if word in known}
    return None if words[-1] == "thing" else matches(scene, conditions)[0]


def _thought(scene: Facts, candidate: vsi_questions.Candidate, rng: Random) -> Asked:
    """Three in four in the form that is asked for, the others spoilt; the thought is idle, short or empty."""
    mode: vsibench.Mode = rng.choice(("think", "think", "observe"))
    place = "" if (found := _names(scene, rng, 1)) is None else f"there is a {found[1][0]}"
    said, answer = rng.choice((place, place, "")), candidate.answer
    whole = f"<{mode}> {said} </{mode}> <answer> {answer} </answer>"
    spoilt = (answer, f"<{mode}> {said} {answer}", f"<answer> {answer} </answer>")
    prompt = vsibench.training_prompt(candidate.question, mode)
    text = whole if rng.random() < 0.75 else rng.choice(spoilt)
    return Asked(prompt, text, *_of_labels(scene, candidate, prompt))


def _is_room(scene: Facts) -> bool:
    return "floor" in scene


_ONE: Mapping[str, float] = {"exist": 2, "attribute": 4, "count": 5}
_TWO: Mapping[str, float] = {"relation": 2, "depth": 2, "distance": 3}
PLANS = {
    "short": Plan(
        16, 16, 4, {kind: (_free(kind), share) for kind, share in _ONE.items()} | {"floor": (_floor, 1.5)}
    ),
    "pairs": Plan(
        10,
        36,
        4,
        {kind: (_free(kind), share) for kind, share in _TWO.items()}
        | {"apart": (_apart, 2), "closest": (_closest, 2), "turned": (_turned, 3)},
    ),
    "official": Plan(10, 36, 4, {family: (_clevr(family), 1) for family in official_questions.FAMILIES}),
    "rooms": Plan(4, 112, 6, {name: (_vsi(name, False), 1) for name in vsi_questions.FAMILIES}, _is_room),
    "thoughts": Plan(2, 150, 36, {name: (_vsi(name, True), 1) for name in vsi_questions.FAMILIES}, _is_room),
}
WORLD = World("scenes", make, draw, PLANS)
