"""VSI-100k: its questions with their margins, proportions and splits, and its rows."""

import cmath
import json
import math
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from random import Random

import av
import numpy as np
import pytest
from boxed_rooms import LABELS, made
from PIL import Image
from pytest import approx

from spatialvlm.errors import UserError
from spatialvlm.example import Video
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.questions import FAMILIES, PAPER, candidates
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box, SceneAnnotation


def mirrored(room: SceneAnnotation) -> SceneAnnotation:
    def flip(box: Box) -> Box:
        axes = np.reshape(box.normalized_axes, (3, 3)) * [-1, 1, 1]
        return Box.oriented(np.multiply(box.centroid, [-1, 1, 1]), box.axes_lengths, axes.ravel())

    return replace(room, objects={label: tuple(map(flip, boxes)) for label, boxes in room.objects.items()})


# ---- questions


def answered(row: dict, size: float, count: int) -> str:
    """The answer to a row by other formulas than those it was made with, from its geometry alone."""
    where = [complex(*box["centroid"][:2]) for box in row["geometry"]]
    centres = np.array([box["centroid"] for box in row["geometry"]])
    match row["family"]:
        case "object_counting":
            return str(count)
        case "room_size_estimation":
            return f"{size:.1f}"
        case "object_size_estimation":
            return f"{max(row['geometry'][0]['axes_lengths']) * 100:.0f}"
        case "object_abs_distance":
            return f"{np.sqrt(((centres[0] - centres[1]) ** 2).sum()):.1f}"
        case "object_rel_distance":
            return row["labels"][1 + ((centres[1:] - centres[0]) ** 2).sum(1).argmin()]
    seen = (where[2] - where[0]) / (
        where[1] - where[0]
    )  # facing along the real axis; left is imaginary above 0
    side = "left" if seen.imag > 0 else "right"
    if row["question_type"].endswith("hard"):
        return f"{'front' if seen.real > 0 else 'back'}-{side}"
    return "back" if abs(cmath.phase(seen)) >= 3 * math.pi / 4 else side


def test_answers_follow_from_the_geometry_in_the_row():
    kinds = Counter()
    for index in range(24):
        room = made(index)
        for name, listed in candidates(room).items():
            for number, candidate in enumerate(listed):
                row = vsi.row(room, candidate, number, [], "centers")
                count = room.object_counts[row["labels"][0]] if row["labels"] else 0
                assert row["answer"] == answered(row, room.room_size, count), row
                assert row["family"] == name and set(row["labels"]) == {
                    box["label"] for box in row["geometry"]
                }
                kinds[row["question_type"], row["answer"] if name in vsi_questions.WORDS else ""] += 1
    words = {kind: {word for each, word in kinds if each == kind} for kind, _ in kinds}
    assert all(
        words[kind] == set(vsi_questions.DIRECTION_WORDS[kind]) for kind in vsi_questions.DIRECTION_WORDS
    )
    assert len(words["object_rel_distance"]) == len(LABELS) and len(words) == 8


@pytest.mark.parametrize("distance", ["centers", "closest"])
def test_no_answer_hangs_on_a_hair(distance):
    measure = vsi_questions.DISTANCES[distance]
    for index in range(6):
        room = made(index)
        box = {label: boxes[0] for label, boxes in room.objects.items()}
        found = candidates(room, distance=distance)
        for each in (
            *found["object_abs_distance"],
            *found["object_rel_distance"],
            *found["object_rel_direction"],
        ):
            assert all(room.object_counts[label] == 1 for label in each.labels)
            assert len(set(each.labels)) == len(each.labels)
        for each in found["object_abs_distance"]:
            assert each.measures[0] == approx(measure(*(box[label] for label in each.labels)))
            assert each.measures[0] >= 0.3
        for each in found["object_rel_distance"]:
            target, *others = each.labels
            apart = sorted(measure(box[target], box[other]) for other in others)
            assert apart == approx(sorted(each.measures)) and len(others) == 4
            assert apart[0] >= 0.15 and min(np.diff(apart)) > 0.15
        for each in found["object_rel_direction"]:
            standing, facing, asked = (box[label] for label in each.labels)
            angle = abs(annotation.bearing(standing, facing, asked))
            behind = 90 if each.question_type.endswith("hard") else 135
            assert angle >= 10 and abs(angle - behind) >= 10
            assert not each.question_type.endswith("hard") or angle <= 170
            assert not each.question_type.endswith("easy") or angle < 135
            for one, other in ((standing, facing), (standing, asked), (facing, asked)):
                assert 0.3 <= annotation.gap(one, other) <= 5


def test_a_mirrored_room_swaps_left_and_right_and_nothing_else():
    swap = str.maketrans({"\0": "left", "\1": "right"})
    asked = 0
    for index in range(10):
        straight, mirror = candidates(made(index)), candidates(mirrored(made(index)))
        for name in FAMILIES:
            for one, other in zip(straight[name], mirror[name], strict=True):
                said = one.answer
                if name == "object_rel_direction":
                    said = said.replace("left", "\1").replace("right", "\0").translate(swap)
                    asked += said != one.answer
                assert (one.question, said) == (other.question, other.answer)
    assert asked > 50


def test_questions_depend_on_seed_and_scene_alone():
    room = made(3)
    shuffled = replace(room, objects=dict(reversed(room.objects.items())))
    assert candidates(room) == candidates(shuffled) == candidates(replace(room, dataset="rooms"))
    assert candidates(room) != candidates(room, seed=1)
    again = candidates(replace(room, scene="scene0004_00"))
    assert again != candidates(room) and all(
        len(again[name]) == len(candidates(room)[name]) for name in FAMILIES[:2]
    )


def test_labels_that_mean_each_others_objects_are_not_asked_about():
    room = made(0)
    boxes = [*room.objects.values()]
    objects = {"table": boxes[0], "coffee table": boxes[1], "lamp": boxes[2], "printer": boxes[-1]}
    counts = {
        "table": 1,
        "coffee table": 1,
        "lamp": 1,
        "printer": 1,
    }  # VSI-Bench has such a count of two boxes
    asked = candidates(replace(room, objects=objects, object_counts=counts))
    named = {label for listed in asked.values() for each in listed for label in each.labels}
    assert named == {"coffee table", "lamp"}


def test_an_answer_that_would_be_written_as_0_is_not_asked_for():
    room = replace(made(0), room_size=0.04, object_counts={"pin": 1})
    room = replace(room, objects={"pin": (Box.oriented((0, 0, 0), (0.004, 0.001, 0.001)),)})
    assert all(listed == [] for listed in candidates(room).values())


def test_an_empty_room_is_named():
    with pytest.raises(UserError, match="scene 'scene0000_00' has no objects to ask about"):
        candidates(replace(made(0), objects={}, object_counts={}))


def test_the_wording_is_vsibenchs(real_data):
    lines = (real_data / "vsi/vsi_bench_scannet.jsonl").read_text().splitlines()
    real = {(row["scene_name"], row["question"]) for row in map(json.loads, lines)}
    scenes = annotation.read(real_data / "vsi/scannet_meta_info_val.json")
    met = Counter()
    for scene in scenes.values():
        for listed in candidates(scene).values():
            for each in listed:
                met[each.question_type, (scene.scene, each.question) in real] += 1
    for kind in ("object_counting", "object_size_estimation", "room_size_estimation"):
        assert met[kind, True] > 80 and met[kind, False] <= 2  # they ask nearly all that can be asked
    for kind in ("object_abs_distance", *vsi_questions.DIRECTION_WORDS):  # they ask some of all that can be
        assert met[kind, True] >= 10


# ---- proportions and splits


def test_families_are_in_the_papers_proportions():
    plenty = dict.fromkeys(FAMILIES, 10**6)
    assert vsi_questions.targets(1500, plenty) == PAPER
    scarce = plenty | {"object_abs_distance": 7500}
    assert vsi_questions.targets(1500, scarce) == {name: count / 10 for name, count in PAPER.items()}
    assert vsi_questions.targets(1500, scarce, "available") == PAPER | {"object_abs_distance": 7500}
    with pytest.raises(UserError, match="allow no question of object_counting.*--proportions available"):
        vsi_questions.targets(3, plenty | {"object_counting": 0})


def test_scenes_get_as_alike_as_they_can():
    for seed in range(50):
        draw = Random(seed)
        counts = {f"scene{number}": draw.randint(0, 9) for number in range(draw.randint(1, 30))}
        target = draw.randint(0, sum(counts.values()))
        taken = vsi_questions.evenly(counts, target, seed)
        assert sum(taken.values()) == target and taken == vsi_questions.evenly(counts, target, seed)
        assert all(0 <= taken[scene] <= counts[scene] for scene in counts)
        full = max(taken.values(), default=0)
        assert all(taken[scene] >= min(counts[scene], full - 1) for scene in counts)


def test_scans_of_one_room_stay_together():
    scenes = [f"scene{number:04}_{scan:02}" for number in range(40) for scan in range(3)] + [
        "room-train-0-000001"
    ]
    rooms = {vsi_questions.room_of(scene) for scene in scenes}
    assert len(rooms) == 41
    held = vsi_questions.validation_rooms(scenes, 0.1)
    assert held < rooms and len(held) == 4 and held == vsi_questions.validation_rooms(scenes[::-1], 0.1)
    assert held != vsi_questions.validation_rooms(scenes, 0.1, seed=1)
    assert vsi_questions.validation_rooms(scenes, 0) == set()
    assert vsi_questions.validation_rooms(scenes[:1], 0.5) == set(), "the only room is trained on"


# ---- rows on disk


@lru_cache
def every_kind() -> list[dict]:
    """A row of every question type, that of relative distance the last."""
    found: dict[str, dict] = {}
    for index in range(12):
        for listed in candidates(made(index)).values():
            for number, each in enumerate(listed):
                frames = [f"frames/{frame}.png" for frame in range(5)]
                found.setdefault(each.question_type, vsi.row(made(index), each, number, frames, "centers"))
    return sorted(found.values(), key=lambda row: row["question_type"] == "object_rel_distance")


def rows(tmp_path, **changed) -> list[dict]:
    """`every_kind`, the last with changed fields; their frames are there."""
    (tmp_path / "frames").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 6), (50 * number, 0, 0)).save(tmp_path / f"frames/{number}.png")
    *others, last = every_kind()
    return [*others, last | changed]


def as_parquet(tmp_path, rows: list[dict]):
    assert vsi.write_parquet(tmp_path / "train.parquet", rows) == len(rows)
    return tmp_path


def as_jsonl(tmp_path, rows: list[dict]):
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_rows_come_back_as_examples(tmp_path):
    made_rows = rows(tmp_path)
    examples = vsi.load(as_parquet(tmp_path, made_rows))
    assert [example.id for example in examples] == [row["id"] for row in made_rows]
    for row, example in zip(made_rows, examples, strict=True):
        assert (example.task, example.question, example.answer) == (
            row["question_type"],
            row["question"],
            row["answer"],
        )
        assert ("vocabulary" in example.meta) == (row["family"] in vsi_questions.WORDS)
        assert [image.getpixel((0, 0))[0] for image in example.open_images()] == [0, 50, 100, 150, 200]
    (last,) = vsi.load(tmp_path, families=["object_rel_distance"], num_frames=2)
    assert [image.name for image in last.images] == ["0.png", "4.png"]
    assert last.meta["vocabulary"] == tuple(made_rows[-1]["labels"][1:])
    assert [example.id for example in vsi.load(tmp_path, limit=2)] == [made_rows[0]["id"], made_rows[4]["id"]]


def test_a_video_is_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with av.open(str(tmp_path / "room.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for grey in range(0, 250, 25):
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (grey, grey, grey)))
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    examples = vsi.load(as_parquet(tmp_path, rows(tmp_path, frames=["room.mp4"])), num_frames=3)
    shades = [image.getpixel((16, 16))[0] for image in examples[7].open_images()]
    assert len(shades) == 3 and shades == approx([0, 100, 225], abs=12)
    assert isinstance(examples[7].images, Video) and examples[7].images.interval == approx(0.45)
    assert all(path.is_relative_to(tmp_path / "cache") for path in examples[7].images)
    (tmp_path / "room.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="row 7: its video .*room.mp4 cannot be read"):
        vsi.load(tmp_path, num_frames=3)


def test_rows_without_frames_cannot_be_looked_at(tmp_path):
    (example,) = vsi.load(as_parquet(tmp_path, rows(tmp_path, frames=[])[-1:]))
    with pytest.raises(UserError, match="scannet/scene00.*mp4 does not exist"):
        example.open_images()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"id": ""}, "row 7 has no 'id'"),
        ({"question": 3}, "'question' must be a text"),
        ({"family": None}, "row 7 has no 'family'"),
        ({"question_type": "route_planning"}, "'question_type' 'route_planning' is none of VSI-100k's"),
        ({"family": "object_abs_distance"}, "is none of VSI-100k's of family 'object_abs_distance'"),
        ({"answer": ""}, "row 7 has no 'answer'"),
        ({"answer": "ghost"}, "'answer' 'ghost' is none of: "),
        ({"labels": None}, "'labels' must be a list of texts, not None"),
        ({"frames": None}, "'frames' must be a list of texts, not None"),
        ({"frames": [1]}, "row 7: its frame .*1 is not there"),
        ({"frames": [None]}, "'frames' must be a text"),
        ({"frames": ["gone.png"]}, "row 7: its frame .*gone.png is not there"),
    ]
    + [
        (
            {"family": "room_size_estimation", "question_type": "room_size_estimation", "answer": answer},
            message,
        )
        for answer, message in [
            ("0", "'answer' must be a number above 0, not '0'"),
            ("nan", "not 'nan'"),
            ("inf", "not 'inf'"),
            ("-3", "not '-3'"),
            ("large", "not 'large'"),
        ]
    ],
)
def test_a_row_that_is_not_whole_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        vsi.load(as_jsonl(tmp_path, rows(tmp_path, **change)))


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"answer": "ghost"}, "'answer' is none of the words"),
        ({"question": ""}, "no 'question'"),
        ({"frames": []}, "no frames"),
        ({"frames": ["frames/9.png"]}, "missing frame"),
        ({"frames": ["broken.mp4"]}, "broken video"),
        ({"id": "0-0"}, "duplicate id"),
    ],
)
def test_training_leaves_out_a_row_in_a_hundred_and_a_test_none(tmp_path, capsys, change, reason):
    kinds = rows(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    many = [row | {"id": f"{copy}-{kind}"} for copy in range(13) for kind, row in enumerate(kinds)]
    many[-1] |= change
    found = vsi.load(as_jsonl(tmp_path, many), need_frames=True, training=True)
    assert [example.id for example in found] == [row["id"] for row in many[:-1]]
    assert found.facts == {"excluded": {reason: 1}}
    assert f"1 of 104 rows cannot be used and are left out ({reason} 1)" in capsys.readouterr().err
    with pytest.raises(UserError, match="row 103"):
        vsi.load(tmp_path, need_frames=True)
    tested = [kinds[0]["scene_name"]]
    with pytest.raises(UserError, match="is of a room that the test asks about too"):
        vsi.load(tmp_path, need_frames=True, training=True, tested=lambda: tested)


def test_what_cannot_be_loaded_is_named(tmp_path):
    twice = rows(tmp_path)
    folder = as_jsonl(tmp_path, [*twice, twice[0]])
    with pytest.raises(UserError, match="row 8 has the id 'vsi-.*' of .*row 0"):
        vsi.load(folder, tested=lambda: pytest.fail("asks the hub before the rows are checked"))
    for flags, message in [
        ({"families": ["route_planning"]}, "has the families object_counting, .*, not route_planning"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"num_frames": 0}, "--num_frames must be at least 1"),
    ]:
        with pytest.raises(UserError, match=message):
            vsi.load(folder, **flags)
