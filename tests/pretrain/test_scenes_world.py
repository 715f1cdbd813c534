"""CLEVR's world for pretraining: targets are true to the scene, answers to its facts, reckoned again here."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import partial

import asking
import numpy as np
import pytest
from shapely.geometry import Polygon, box

from pretrain import scenes_world
from pretrain.targets import GROUPS, PATCHES, VALUES
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.worlds.clevr import official_answers, render, rooms, scenes

WORLD = scenes_world.WORLD
asked = partial(asking.asked, WORLD, each=6)


@pytest.fixture(scope="module")
def made():
    return [WORLD.make("scenes", number) for number in range(30)]


def fitting(scene, phrase: str) -> list[int]:
    wanted = {word.removesuffix("s") for word in phrase.split()} - {"thing"}
    return [
        number
        for number, thing in enumerate(scene["objects"])
        if wanted <= {thing["size"], thing["color"], thing["material"], thing["shape"]}
    ]


def the(scene, phrase: str) -> int:
    (number,) = fitting(scene, phrase)
    return number


# ---- targets


def test_a_third_are_rooms(made):
    assert [("floor" in scene) for scene in made] == [number % 3 == 0 for number in range(30)]
    assert len({str(scene["objects"]) for scene in made}) == 30


def test_dense_targets_say_what_lies_on_the_patch(made):
    """Against the boxes of what is visible, and the floor's outline as the camera sees it."""
    across, down = scenes.WIDTH / PATCHES, scenes.HEIGHT / PATCHES
    seen, floors = Counter(), Counter()
    for scene in made:
        drawn = WORLD.draw(scene)
        boxes = [box(*thing["bbox"]).buffer(2) for thing in scene["objects"]]
        outline = Polygon()
        if "floor" in scene:
            x, y = (side / 2 for side in scene["floor"])
            corners = np.array([[x, y, 0], [-x, y, 0], [-x, -y, 0], [x, -y, 0]])
            outline = Polygon(render.project(scenes.view(scene), corners)[:, :2])
        for number, (owner, floor) in enumerate(zip(drawn.owners, drawn.floor, strict=True)):
            row, column = divmod(number, PATCHES)
            patch = box(column * across, row * down, (column + 1) * across, (row + 1) * down)
            over = [each for each in range(len(boxes)) if boxes[each].intersects(patch)]
            assert owner in over if owner >= 0 else all(not boxes[each].within(patch) for each in over)
            bare = not over and (patch.within(outline.buffer(-3)) or not patch.intersects(outline.buffer(3)))
            if bare:
                assert floor == (1 if patch.within(outline) else -1)
                floors[floor] += 1
            assert "floor" in scene or floor == -1
        seen.update(set(range(len(boxes))) - set(drawn.owners.tolist()))
        for thing, classes, values in zip(scene["objects"], drawn.classes, drawn.values, strict=True):
            words = {group: options[k] for k, (group, options) in zip(classes, GROUPS.items(), strict=True)}
            assert classes[-1] == -1 and {**thing, **words, "label": None} == {**thing, "label": None}
            told = dict(zip(VALUES, values, strict=True))
            assert [(told["column"] / 4 + 0.5) * 480, (told["row"] / 4 + 0.5) * 320] == pytest.approx(
                thing["pixel_coords"][:2]
            )
            away = np.array(scene["camera"]) - thing["3d_coords"]
            depth = away @ np.array(scene["camera"]) / np.linalg.norm(scene["camera"])
            assert told["distance"] == pytest.approx((depth - 11) / 2, abs=1e-3)
            assert [told["x"] * 2, told["y"] * 2] == pytest.approx(thing["3d_coords"][:2])
            assert np.isnan(values[5:]).all()
    assert sum(seen.values()) < 0.05 * sum(len(scene["objects"]) for scene in made)  # hidden, or small
    assert floors[1] >= 10 and floors[-1] > 500


# ---- answers


def _sides(scene) -> dict[str, np.ndarray]:
    """Directions along the ground, from where the camera stands."""
    ahead = -np.array([*scene["camera"][:2], 0.0])
    ahead /= np.linalg.norm(ahead)
    right = np.array([ahead[1], -ahead[0], 0.0])
    return {"left": -right, "right": right, "front": -ahead, "behind": ahead}


def _relation(scene, first: str, words: str, second: str) -> str:
    one, other = (scene["objects"][the(scene, name)] for name in (first, second))
    if words == "above or below":
        return "above" if one["pixel_coords"][1] < other["pixel_coords"][1] else "below"
    options = ("left", "right") if "left" in words else ("front", "behind")
    away = np.subtract(one["3d_coords"], other["3d_coords"])
    return max(options, key=lambda side: away @ _sides(scene)[side])


def _nearest(scene, words: str, reference: str, listed: str) -> str:
    """Of two or more, from a thing or the camera; clearly so."""
    names = re.split(r", the | or the ", listed)
    if reference == "camera":
        ahead = -np.array(scene["camera"]) / np.linalg.norm(scene["camera"])
        away = {
            name: (np.array(scene["objects"][the(scene, name)]["3d_coords"]) - scene["camera"]) @ ahead
            for name in names
        }
    else:
        here = scene["objects"][the(scene, reference)]["3d_coords"]
        away = {name: math.dist(here, scene["objects"][the(scene, name)]["3d_coords"]) for name in names}
    order = sorted(names, key=away.get, reverse="far" in words)
    assert abs(away[order[0]] - away[order[1]]) > 0.29
    return order[0]


def _turned(scene, by: str, facing: str, name: str, words: str) -> str:
    here, ahead, there = (
        np.array(scene["objects"][the(scene, each)]["3d_coords"][:2]) for each in (by, facing, name)
    )
    ahead, there = ahead - here, there - here
    forward, left = ahead @ there, ahead[0] * there[1] - ahead[1] * there[0]
    angle = math.degrees(math.atan2(left, forward))
    if words == "left or right":
        assert 14.9 < abs(angle) < 165.1
        return "left" if left > 0 else "right"
    assert abs(abs(angle) - 90) > 14.9
    return "front" if forward > 0 else "behind"


def _apart(scene, one: str, other: str) -> str:
    places = (scene["objects"][the(scene, name)]["3d_coords"] for name in (one, other))
    return f"{math.dist(*places):.1f}"


FORMS = {  # what a question of a kind is like, and its true answer
    "exist": (r"Is there an? (.+)\?", lambda scene, name: "yes" if fitting(scene, name) else "no"),
    "count": (r"How many (.+) are there\?", lambda scene, name: str(len(fitting(scene, name)))),
    "attribute": (
        r"What (\w+) is the (.+)\?",
        lambda scene, what, name: scene["objects"][the(scene, name)][what],
    ),
    "floor": (
        r"(How large is|What area is) the floor\?",
        lambda scene, _: f"{scene['floor'][0] * scene['floor'][1]:.0f}",
    ),
    "relation": (r"Is the (.+) (left or right|in front of or behind|above or below)(?: of)? the (.+?)"
                 r"(?: in the image)?\?", _relation),
    "depth": (r"Which is (\D+?) the (camera), the (.+)\?", _nearest),
    "distance": (r"Which is (\D+?) the ([^,]+), the (.+)\?", _nearest),
    "closest": (r"Which is (\D+?) the ([^,]+), the (.+)\?", _nearest),
    "apart": (r"How far is the (.+) from the (.+)\?", _apart),
    "turned": (
        r"Standing by the (.+) and facing the (.+), is the (.+) (left or right|in front or behind)\?",
        _turned,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_short_answers_are_true(made, kind):
    form, truth = FORMS[kind]
    plan = next(plan for plan in ("short", "pairs") if kind in WORLD.plans[plan].askers)
    answers = Counter()
    for scene, question in asked(made, plan, kind):
        assert question.answer == truth(scene, *re.fullmatch(form, question.prompt).groups()), question
        answers[question.answer] += 1
    assert sum(answers.values()) >= 60 and len(answers) > 1, answers


def test_every_short_kind_is_reckoned():
    assert set(FORMS) == {kind for plan in ("short", "pairs") for kind in WORLD.plans[plan].askers}


@pytest.mark.parametrize("kind", WORLD.plans["official"].askers)
def test_official_answers_are_true(made, kind):
    found = [*asked(made, "official", kind, each=2)]
    assert len(found) >= 50
    for scene, question in found:
        assert official_answers.answer_clevr(question.prompt, scene) == question.answer


HALVES = {  # answers that are as frequent, by plan and kind
    "short": {"exist": ("yes", "no")},
    "pairs": {"relation": ("left", "right"), "turned": ("left", "right")},
    "official": dict.fromkeys(("exist", "compare_integer", "compare_attribute"), ("yes", "no")),
}


@pytest.mark.parametrize("plan, kind", [(plan, kind) for plan, kinds in HALVES.items() for kind in kinds])
def test_answers_are_balanced(made, plan, kind):
    counts = Counter(question.answer for _, question in asked(made, plan, kind, each=10))
    one, other = (counts[answer] for answer in HALVES[plan][kind])
    assert one + other >= 50 and 0.37 < one / (one + other) < 0.63, counts


@pytest.mark.parametrize(
    "plan, kind, fraction",
    [("pairs", "depth", 0.5), ("pairs", "distance", 0.5), ("pairs", "closest", 0.3)],
)
def test_both_polarities_are_asked(made, plan, kind, fraction):
    far = [bool(re.search(r"\bfar", question.prompt)) for _, question in asked(made, plan, kind)]
    assert len(far) > 100 and abs(np.mean(far) - fraction) < 0.12


# ---- rooms


def test_only_rooms_are_asked_about_rooms(made):
    for plan, wanted in WORLD.plans.items():
        about = [scene for scene in made if wanted.only(scene)]
        assert len(about) == (10 if plan in ("rooms", "thoughts") else 30)
        assert all("floor" in scene for scene in about) or plan not in ("rooms", "thoughts")
    assert all("floor" in scene for scene, _ in asked(made, "short", "floor"))


def test_questions_about_rooms_are_true(made):
    centre = {}
    for scene, question in asked(made, "rooms", "object_counting"):
        label = re.search(r"How many (.+)\(s\)", question.prompt)[1]
        assert question.answer == str(len(fitting(scene, label)))
    for scene, question in asked(made, "rooms", "object_abs_distance"):
        names = re.search(r"between the (.+) and the (.+) \(in", question.prompt).groups()
        assert question.answer == _apart(scene, *names)
    for scene, question in asked(made, "rooms", "object_rel_distance"):
        listed, name = re.search(r"\((.+)\) is the closest to the (.+)\?", question.prompt).groups()
        here = scene["objects"][the(scene, name)]["3d_coords"]
        away = {
            each: math.dist(here, scene["objects"][the(scene, each)]["3d_coords"])
            for each in listed.split(", ")
        }
        assert question.answer == min(away, key=away.get)
    for scene, question in asked(made, "rooms", "room_size_estimation"):
        assert question.answer == f"{scene['floor'][0] * scene['floor'][1]:.1f}"
        centre[question.prompt] = True
    assert {prompt.split("\n")[0] == vsibench.FRAMES for prompt in centre} == {True, False}
    assert {prompt.split("\n")[-1] for prompt in centre} >= {vsibench.SHORT, f"Please {vsibench.PHRASE}"}


@pytest.mark.parametrize("kind", WORLD.plans["thoughts"].askers)
def test_thoughts_have_the_form_in_three_of_four(made, kind):
    whole, count = 0, 0
    for scene, question in asked(made, "thoughts", kind, each=12):
        mode = "think" if question.prompt.endswith(vsibench.TRAINING["think"]) else "observe"
        allowed = vsi_questions.candidates(rooms.annotation(scene))[kind]
        truth = {vsibench.training_prompt(each.question, mode): each.answer for each in allowed}
        answer = truth[question.prompt]
        assert answer in question.answer
        form = rf"<{mode}> (?:there is a (.+))? </{mode}> <answer> {answer} </answer>"
        if thought := re.fullmatch(form, question.answer):
            whole += 1
            assert thought[1] is None or the(scene, thought[1]) is not None
        count += 1
    assert count >= 60 and 0.6 < whole / count < 0.9
