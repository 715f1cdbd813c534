"""Questions over rendered rooms: every answer found again in another way, balance, and items made alone."""

from __future__ import annotations

import cmath
import math
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
import shapely

from spatialvlm.errors import UserError
from spatialvlm.example import Video
from spatialvlm.files.lazy import prefetch
from spatialvlm.files.video import uniform
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsi.rendered import FAMILIES, LETTERS
from spatialvlm.worlds.rooms import render, rooms

ITEMS = 8 * 2 * len(FAMILIES)  # two blocks
SMALL = {"width": 32, "height": 24}


named = cache(rooms.named)


@cache
def made(form: str, limit: int = ITEMS) -> list:
    return [*vsi_rooms.load("test", limit, form=form, families=FAMILIES, **SMALL)]


def said(item) -> str:
    """The right answer in words."""
    return item.choices[LETTERS.index(item.answer)] if item.choices else item.answer


# ---- answers


def middles(room) -> dict[str, complex]:
    """Where each thing stands on the floor plan; of labels that come more than once, the last."""
    return {thing.label: complex(*thing.middle[:2]) for thing in room.things}


def apart(room, one: str, other: str, closest: bool) -> float:
    """Metres between two things that both stand on the floor."""
    found = {thing.label: thing for thing in room.things}
    if closest:
        return shapely.Polygon(found[one].footprint()).distance(shapely.Polygon(found[other].footprint()))
    return math.dist(found[one].middle, found[other].middle)


def side(angle: float, kind: str) -> str:
    """Where an object at this bearing lies; left is positive."""
    left = "left" if angle > 0 else "right"
    if kind.endswith("hard"):
        return f"{'front' if abs(angle) < 90 else 'back'}-{left}"
    return "back" if abs(angle) >= 135 else left


def route(room, question: str) -> str:
    """What a robot on the floor plan has to turn to reach each of its goals."""
    at = middles(room)
    here, facing = (
        at[label] for label in re.search(r"at the (.*?) and facing the (.*?)\.", question).groups()
    )
    heading, turns, turning = facing - here, [], False
    for step in re.findall(r"\d\. (\[please fill in\]|Go forward until the .*?\.)", question):
        if step.startswith("["):
            turning = True
            continue
        goal = at[step.removeprefix("Go forward until the ")[:-1]]
        angle = math.degrees(cmath.phase((goal - here) / heading))
        if turning:
            assert abs(angle) >= 10 and abs(abs(angle) - 135) >= 10
            turns.append(f"Turn {side(angle, 'medium').title()}")
        else:
            assert abs(angle) < 1e-6  # it goes the way that it faces
        heading, here, turning = goal - here, goal, False
    assert f"navigate to the {step.removeprefix('Go forward until the ')}" in question
    return ", ".join(turns)


def answered(item, room) -> str:
    text, kind, closest = item.question, item.task, item.choices is not None
    if kind == "object_counting":
        label = re.match(r"How many (.*)\(s\)", text)[1]
        return str(sum(thing.label == label for thing in room.things))
    if kind == "room_size_estimation":
        return f"{room.width * room.depth:.1f}"
    if kind == "object_size_estimation":
        label = re.search(r"height\) of the (.*), measured", text)[1]
        (thing,) = (thing for thing in room.things if thing.label == label)
        return f"{100 * max(np.subtract(*thing.bounds[::-1])):.0f}"
    if kind == "object_rel_distance":
        named, target = re.search(r"objects \((.*)\) is the closest to the (.*)\?", text).groups()
        return min(named.split(", "), key=lambda label: apart(room, target, label, closest))
    if kind == "route_planning":
        return route(room, text)
    standing, facing, asked = re.search(r"by the (.*) and facing the (.*), is the (.*) to ", text).groups()
    at = middles(room)
    angle = math.degrees(cmath.phase((at[asked] - at[standing]) / (at[facing] - at[standing])))
    assert abs(angle) >= 10 and not (kind.endswith("easy") and abs(angle) >= 135)
    return side(angle, kind)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["words", "options"])
def test_every_answer_is_found_again_on_the_floor_plan(form):
    met = Counter()
    for item in made(form):
        room = named(item.meta["scene"])
        if item.task == "obj_appearance_order":
            continue
        if item.task == "object_abs_distance":
            labels = re.search(r"between the (.*) and the (.*) \(in meters", item.question).groups()
            exact = apart(room, *labels, closest=form == "options")
            assert abs(float(item.answer) - exact) < 0.0501 and exact >= 0.3
        else:
            assert said(item) == answered(item, room), item.question
        met[item.meta["family"]] += 1
    assert set(met.values()) == {16} and len(met) == len(FAMILIES) - 1


def test_things_appear_in_the_order_that_is_the_answer():
    asked = [item for item in made("options") if item.task == "obj_appearance_order"]
    assert len(asked) == 16
    for item in asked:
        room, order = named(item.meta["scene"]), said(item).split(", ")
        listed = re.search(r"video: (.*)\?", item.question)[1].split(", ")
        assert sorted(listed) == sorted(order) and len(set(order)) == 4
        shown = [room.path[number] for number in uniform(len(room.path), 4)]
        frames = [render.render(room, pose, 96, 72).objects for pose in shown]
        for place, label in enumerate(order):  # of four frames, each shows one of them for the first time
            shares = [
                np.isin(seen, [n for n, thing in enumerate(room.things) if thing.label == label]).mean()
                for seen in frames
            ]
            assert max([0, *shares[:place]]) <= 0.003 and shares[place] >= 0.007, (item.id, label, shares)


# ---- form


def test_the_forms_of_the_benchmarks():
    for item in made("options"):
        lines = item.prompt.split("\n")
        assert lines[0] == "These are frames of a video." and item.question in item.prompt
        if item.meta["family"] in vsi_rooms.FAMILIES[:2] + vsi_rooms.FAMILIES[4:6]:
            assert item.choices is None and float(item.answer) > 0 and "single word" in lines[-1]
            continue
        options = [f"{letter}. {text}" for letter, text in zip(LETTERS, item.choices, strict=False)]
        assert (
            lines[-1].startswith("Answer with the option's letter")
            and lines[-1 - len(options) : -1] == options
        )
        assert len(set(item.choices)) == len(item.choices) and item.answer in LETTERS[: len(item.choices)]
    for item in made("words"):
        assert item.choices is None and item.prompt == item.question
        assert item.meta["source"] == "rooms" and item.meta["scene"].startswith("room-test-0-")
        if "vocabulary" in item.meta:
            assert item.answer in item.meta["vocabulary"]
            assert answers.one_of(item.answer, item.meta["vocabulary"]) == item.answer
        else:
            assert float(item.answer) > 0
    assert {item.task for item in made("words")} == {item.task for item in made("options")}
    assert {item.meta["family"] for item in vsi_rooms.load("test", 12)} == {*FAMILIES[:6]}


def test_routes_and_orders_are_worded_as_in_the_benchmark(real_data):
    real = (real_data / "vsi/vsi_bench_scannet.jsonl").read_text().lower()
    for item in made("options"):
        if item.task in vsi_rooms.HELD_OUT:
            skeleton = re.split(r"beginning at the .*? facing the .*?\. |video: .*", item.question)[0]
            assert skeleton.strip().lower() in real
            assert {option.lower() for option in item.choices if ", " not in option} <= {
                "turn left", "turn right", "turn back"
            }  # fmt: skip
    note = "(Note: for each [please fill in], choose either 'turn back,' 'turn left,' or 'turn right.'): 1. "
    assert note.lower() in real and all(
        note in item.question for item in made("options") if item.task == "route_planning"
    )


def test_the_frames_are_the_rooms_in_order_and_time():
    item = vsi_rooms.load("validation", 1, num_frames=3)[0]
    room = named(item.meta["scene"])
    film, numbers = rooms.Film(room), uniform(len(room.path), 3)
    assert isinstance(item.images, Video) and len(item.images) == 3
    assert item.images.interval == pytest.approx(0.5 * (len(film) - 1) / 2)
    for image, number in zip(item.images, numbers, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(film[number]))
    many = vsi_rooms.load("validation", 1, num_frames=40, **SMALL)[0]  # more than a path has
    assert 8 <= len(many.images) <= 32 and many.images.interval == 0.5


# ---- what the text alone gives away


@pytest.mark.slow
def test_a_guess_by_the_text_stays_near_chance():
    """Of 64 of a kind, the right letter lies anywhere, and the most frequent word is not often right."""
    items = [*vsi_rooms.load("train", 64 * 2, form="options", families=FAMILIES[2:4], **SMALL)]
    for count in (2, 3, 4):
        letters = Counter(item.answer for item in items if len(item.choices) == count)
        total = sum(letters.values())
        assert total >= 15 and max(letters.values()) / total <= 1 / count + 2.6 * math.sqrt(1 / count / total)
    words = Counter((item.task, said(item)) for item in items)
    for kind, count in (("easy", 2), ("medium", 3), ("hard", 4)):
        found = [n for (task, _), n in words.items() if task.endswith(kind)]
        assert len(found) == count and max(found) / sum(found) <= 1 / count + 0.3
    nearest = [n for (task, _), n in words.items() if task == "object_rel_distance"]
    assert max(nearest) / sum(nearest) <= 0.25  # of twelve labels


def test_nothing_is_asked_twice():
    for form in ("words", "options"):
        asked = Counter((item.meta["scene"], item.question) for item in made(form))
        assert len(asked) == ITEMS
        assert len({item.id for item in made(form)}) == ITEMS


# ---- items


def test_an_item_is_the_same_however_it_is_reached():
    for index in (0, 77):
        (alone,) = vsi_rooms.load("test", ITEMS, form="options", families=FAMILIES, **SMALL)[
            index : index + 1
        ]
        before = made("options")[index]
        assert (alone.id, alone.prompt, alone.answer, alone.meta) == (
            before.id, before.prompt, before.answer, before.meta
        )  # fmt: skip
        pairs = zip(alone.images, before.images, strict=True)
        assert all(one.tobytes() == other.tobytes() for one, other in pairs)


def test_rendered_ahead_by_several_processes_is_the_same():
    ahead = vsi_rooms.load("test", 48, form="options", **SMALL)
    prefetch(ahead)
    assert len({id(item) for item in [*ahead, *ahead]}) == 48
    for one, other in zip(ahead, made("options"), strict=False):
        assert (one.id, one.prompt, one.answer) == (other.id, other.prompt, other.answer)
        assert one.images.interval == other.images.interval
        assert [frame.tobytes() for frame in one.images] == [frame.tobytes() for frame in other.images]


@pytest.mark.slow
def test_splits_and_seeds_share_no_room():
    scenes = [
        item.meta["scene"]
        for split in ("train", "validation", "test")
        for seed in (0, 1)
        for item in vsi_rooms.load(split, 4, seed, families=["room_size_estimation"], **SMALL)
    ]
    assert len(set(scenes)) == len(scenes) == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, "train, validation, test, not 'val'"),
        ({"form": "letters"}, "words, options, not 'letters'"),
        ({"families": ["object_counting", "colour"]}, "not colour"),
        ({"families": ["object_counting"] * 2}, "each once, not object_counting, object_counting"),
        ({"families": []}, "not none"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"num_frames": 0}, "--num_frames 1 or more, not 0"),
        ({"num_frames": 3, "form": "options"}, "obj_appearance_order needs --num_frames 4 or more, not 3"),
        ({"width": 0}, "0 x 126"),
    ],
)
def test_what_makes_no_sense_is_named(change, message):
    with pytest.raises(UserError, match=message):
        vsi_rooms.load(**({"split": "test", "limit": 4} | change))
