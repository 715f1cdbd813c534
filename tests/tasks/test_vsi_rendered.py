"""Questions over rendered rooms: every answer found again in another way, balance, and items made alone."""

from __future__ import annotations

import cmath
import math
import re
from collections import Counter
from functools import cache

import pytest
import shapely

from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.files.lazy import prefetch
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsi.questions import DIRECTION_WORDS, FAMILIES, WORDS
from spatialvlm.tasks.vsi.rendered import LETTERS, RoomSeries
from spatialvlm.worlds.clevr import render, rooms, scenes
from spatialvlm.worlds.clevr.facts import Scene

ITEMS = 8 * len(FAMILIES)


@cache
def made(form: str, limit: int = ITEMS) -> list[Example]:
    return [*vsi_rooms.load("test", limit, form=form)]


def room(item: Example) -> Scene:
    series, _, number = item.meta["scene"].rpartition("_")
    return rooms.make(series, int(number))


def right(item: Example) -> str:
    """The right answer in words."""
    return item.choices[LETTERS.index(item.answer)] if item.choices else item.answer


# ---- answers


def named(scene: Scene, label: str) -> list[dict]:
    """The objects that are all that a label says."""
    words = set(label.split()) - {"thing"}
    return [t for t in scene["objects"] if words <= {t["color"], t["material"], t["shape"]}]


def the(scene: Scene, label: str) -> dict:
    (thing,) = named(scene, label)
    return thing


def floor_plan(thing: dict) -> shapely.Polygon:
    """The upright box of an object as seen from above."""
    radius = render.RADIUS[thing["size"]]
    x, y, _ = thing["3d_coords"]
    half = radius * 0.94 if thing["shape"] == "cube" else radius
    square = shapely.box(x - half, y - half, x + half, y + half)
    turn = thing["rotation"] if thing["shape"] == "cube" else 0
    return shapely.affinity.rotate(square, turn, use_radians=True)


def apart(scene: Scene, one: str, other: str, closest: bool) -> float:
    """Metres between two things that both stand on the floor."""
    first, second = the(scene, one), the(scene, other)
    if closest:
        return floor_plan(first).distance(floor_plan(second))
    return math.dist(first["3d_coords"], second["3d_coords"])


def answered(item: Example) -> str:
    scene, text, kind, closest = room(item), item.question, item.task, item.choices is not None
    if kind == "object_counting":
        return str(len(named(scene, re.match(r"How many (.*)\(s\)", text)[1])))
    if kind == "room_size_estimation":
        return f"{scene['floor'][0] * scene['floor'][1]:.1f}"
    if kind == "object_size_estimation":
        thing = the(scene, re.search(r"height\) of the (.*), measured", text)[1])
        return f"{200 * render.RADIUS[thing['size']] * (0.98 if thing['shape'] == 'cube' else 1):.0f}"
    if kind == "object_rel_distance":
        listed, target = re.search(r"objects \((.*)\) is the closest to the (.*)\?", text).groups()
        return min(listed.split(", "), key=lambda label: apart(scene, target, label, closest))
    labels = re.search(r"by the (.*) and facing the (.*), is the (.*) to ", text).groups()
    here, ahead, there = (complex(*the(scene, label)["3d_coords"][:2]) for label in labels)
    angle = math.degrees(cmath.phase((there - here) / (ahead - here)))
    side = "left" if angle > 0 else "right"
    if kind.endswith("hard"):
        return f"{'front' if abs(angle) < 90 else 'back'}-{side}"
    assert not (kind.endswith("easy") and abs(angle) >= 135)
    return "back" if abs(angle) >= 135 else side


@pytest.mark.parametrize("form", ["words", "options"])
def test_every_answer_is_found_again_in_the_scene(form):
    met = Counter()
    for item in made(form):
        if item.task == "object_abs_distance":
            labels = re.search(r"between the (.*) and the (.*) \(in meters", item.question).groups()
            exact = apart(room(item), *labels, closest=form == "options")
            assert abs(float(item.answer) - exact) < 0.0501 and exact >= 0.3
        else:
            assert right(item) == answered(item), item.question
        met[item.meta["family"]] += 1
    assert met == dict.fromkeys(FAMILIES, 8)


# ---- form


def test_the_forms_of_the_benchmarks():
    for item in made("options"):
        lines = item.prompt.split("\n")
        assert lines[0] == "These are frames of a video." and item.question in item.prompt
        if item.meta["family"] not in WORDS:
            assert item.choices is None and float(item.answer) > 0 and "single word" in lines[-1]
            continue
        options = [f"{letter}. {text}" for letter, text in zip(LETTERS, item.choices, strict=False)]
        assert lines[-1].startswith("Answer with the option's letter")
        assert lines[-1 - len(options) : -1] == options
        assert len(set(item.choices)) == len(item.choices) and item.answer in LETTERS[: len(item.choices)]
    for item in made("words"):
        assert item.choices is None and item.prompt == item.question
        assert item.meta["source"] == "rooms" and item.meta["scene"].startswith("vsi-rooms-test-0-")
        if "vocabulary" in item.meta:
            assert answers.one_of(item.answer, item.meta["vocabulary"]) == item.answer
        else:
            assert float(item.answer) > 0
    assert vsi_rooms.load("test", 1, mode="think")[0].prompt.startswith("These are frames")


def test_the_frames_are_the_rooms_in_order_and_time():
    one, three, many = (vsi_rooms.load("validation", 1, num_frames=n)[0] for n in (1, 3, 40))
    film = rooms.Film(room(one))
    assert [*one.images] == [scenes.render_scene(room(one), rooms.WIDTH, rooms.HEIGHT).image]
    assert [*three.images] == [film[0], film[3], film[7]] and [*many.images] == [*film]
    assert all(isinstance(item.images, Video) for item in (one, three, many))
    assert (three.images.interval, many.images.interval) == (1.75, 0.5)


# ---- what the text alone gives away


@pytest.mark.slow
def test_a_guess_by_the_text_stays_near_chance(monkeypatch):
    """Of every wording each answer is as frequent as the others, but for what chance may do."""
    monkeypatch.setattr(vsi_rooms, "_video", lambda *_: Video(["unseen.png"]))  # rendering takes longest
    make = RoomSeries("train", 0, 1, "words", FAMILIES, None)
    items = [make(index) for index in range(120 * len(FAMILIES))]
    seen: dict[str, Counter] = {}
    for item in items:
        key, answer = item.task, right(item)
        if item.task == "object_counting":
            key = "material" if re.search("How many (metal|rubber)", item.question) else "color"
        elif item.task == "object_rel_distance":
            answer = str(item.meta["vocabulary"].index(answer))
        elif item.task not in DIRECTION_WORDS:
            sizes = {"object_size_estimation": 100, "room_size_estimation": 6}
            answer = str(float(answer) // sizes.get(item.task, 1))
        seen.setdefault(key, Counter())[answer] += 1
    expected = {"color": 3, "material": 5, "object_abs_distance": 5, "object_rel_distance": 4}
    expected |= {"object_size_estimation": 2, "room_size_estimation": 4}
    expected |= {kind: len(words) for kind, words in DIRECTION_WORDS.items()}
    assert {key: len(counts) for key, counts in seen.items()} == expected
    for key, counts in seen.items():
        chance, total = 1 / len(counts), counts.total()
        assert total >= 25
        assert max(counts.values()) / total <= chance + 3.3 * math.sqrt(chance * (1 - chance) / total), key


def test_nothing_is_asked_twice():
    for form in ("words", "options"):
        assert len({(item.meta["scene"], item.question) for item in made(form)}) == ITEMS
        assert len({item.id for item in made(form)}) == ITEMS


# ---- items


def test_an_item_is_the_same_however_it_is_reached():
    ahead = vsi_rooms.load("test", ITEMS, form="options")
    prefetch(ahead)  # several processes
    for index in (0, 17, 41):
        (alone,) = vsi_rooms.load("test", ITEMS, form="options")[index : index + 1]
        assert alone == made("options")[index] == ahead[index]


def test_splits_and_seeds_share_no_room():
    rooms_of = [
        {item.meta["scene"] for item in vsi_rooms.load(split, 4, seed, families=["room_size_estimation"])}
        for split in ("train", "validation", "test")
        for seed in (0, 1)
    ]
    assert len(set.union(*rooms_of)) == sum(map(len, rooms_of)) == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, "train, validation, test, not 'val'"),
        ({"form": "letters"}, "words, options, not 'letters'"),
        ({"families": ["object_counting", "colour"]}, "not object_counting, colour"),
        ({"families": ["object_counting"] * 2}, "each once, not object_counting, object_counting"),
        ({"families": []}, "not none"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"num_frames": 0}, "--num_frames must be at least 1, not 0"),
    ],
)
def test_arguments_that_are_invalid_are_named(change, message):
    with pytest.raises(UserError, match=message):
        vsi_rooms.load(**({"split": "test", "limit": 4} | change))
