"""vsGRPO's data and tests: prompts, videos in their places, and how answers to the test are read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.papers import vsi
from spatialvlm.papers.vsi import VSIArgs
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsi.scoring import VSIBENCH
from spatialvlm.tasks.vsi.vsi_100k import BENCHMARK, inside_answer


def arguments(**options):
    small = {"data": "embedded", "eval_data": "embedded", "train_limit": 12, "eval_limit": 12}
    return VSIArgs(**(small | {"num_frames": 4} | options))


def word(answer="night stand"):
    meta = {"vocabulary": ("night stand", "desk")}
    return Example("w", (tiny.image(0),), "Which?", answer, "object_rel_distance", meta=meta)


NUMBER = Example("n", (tiny.image(0),), "How far?", "2.0", "object_abs_distance")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("text", "example", "parsed", "score"),
    [
        ("night stand", word(), "night stand", 1),
        ("Nightstand.", word(), "night stand", 1),
        ("desk", word(), "desk", 0),
        ("lamp", word(), None, 0),
        ("", word(), None, 0),
        ("2 . 0", NUMBER, 2.0, 1),
        ("2.42", NUMBER, 2.42, 0.6),
        ("far", NUMBER, None, 0),
        ("", NUMBER, None, 0),
    ],
)
def test_words_and_numbers_of_the_test(text, example, parsed, score):
    rule = BENCHMARK.rules["strict"]
    assert rule.parse(text, example) == parsed
    assert rule.score_of(parsed, rule.gold(example)) == pytest.approx(score)


def test_an_answer_in_tags_is_read_inside_them():
    text = "<think>a desk stands there</think><answer>night stand</answer>"
    within = inside_answer(BENCHMARK, "think").rules["strict"]
    assert (
        within.parse(text, word()) == "night stand" and BENCHMARK.rules["strict"].parse(text, word()) is None
    )
    assert within.parse("desk", word()) == "desk", "without tags the whole text counts"
    assert within.gold(NUMBER) == 2.0
    assert inside_answer(BENCHMARK, "vanilla") is BENCHMARK
    assert set(inside_answer(VSIBENCH, "observe").rules) == set(VSIBENCH.rules)


def test_training_asks_for_the_families_and_in_the_mode():
    args = arguments(families=["object_counting", "object_rel_distance"])
    found = vsi.with_prompt(vsi.training_set(args), "think")
    assert len(found) == 12 and {each.task for each in found} == set(args.families)
    for each in found:
        assert each.prompt == vsibench.training_prompt(each.question, "think")
        assert isinstance(each.images, Video) and len(each.images) == 4


def test_the_test_is_of_other_rooms_and_all_families():
    tested = vsi.test_set(arguments(families=["object_counting"]), "vanilla")
    trained = vsi.training_set(arguments())
    assert {each.meta["family"] for each in tested} == set(vsi_rooms.FAMILIES)
    assert not {each.meta["scene"] for each in tested} & {each.meta["scene"] for each in trained}
    assert all(each.prompt.endswith(vsibench.PHRASE) for each in tested)
    other = vsi.test_set(arguments(seed=3), "vanilla")
    assert [each.id for each in other] == [each.id for each in tested], "whatever the run's seed"


def bench(folder, **frames):
    """VSI-Bench's rows of two scenes, and a folder of frames for those named."""
    usual = {"dataset": "scannet", "ground_truth": "2", "options": None, "question": "How many?"}
    choice = {"question_type": "object_rel_distance", "ground_truth": "B", "options": ["A. bed", "B. sink"]}
    rows = [
        usual | {"id": 1, "scene_name": "one", "question_type": "object_counting"},
        usual | {"id": 2, "scene_name": "two"} | choice,
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for scene, count in frames.items():
        (folder / "scannet" / scene).mkdir(parents=True)
        for number in range(count):
            tiny.image(number).save(folder / "scannet" / scene / f"{number}.png")
    return arguments(eval_data=str(folder / "rows.jsonl"), eval_frames=str(folder), eval_limit=None)


def test_vsibench_with_its_videos(tmp_path):
    number, choice = vsi.test_set(bench(tmp_path, one=9, two=2), "observe")
    assert isinstance(number.images, Video) and len(number.images) == 4 and len(choice.images) == 2
    assert number.open_images()[0].tobytes() == tiny.image(0).tobytes()
    assert number.prompt.endswith("observe the video first and then " + vsibench.PHRASE)
    assert choice.prompt.splitlines()[-3:-1] == ["A. bed", "B. sink"]
    assert choice.prompt.endswith(vsibench.LETTER) and choice.choices == ("bed", "sink")


def test_a_video_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"has no video of scene scannet/two: neither scannet/two.mp4"):
        vsi.test_set(bench(tmp_path, one=9), "vanilla")


def trained_on(folder, scene="one", frames=6):
    """A folder of VSI-100k's rows, two about one scene."""
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "id": f"row-{number}",
            "dataset": "rooms",
            "scene_name": scene,
            "family": "object_counting",
            "question_type": "object_counting",
            "question": "How many chair(s) are in this room?",
            "answer": "2",
            "frames": [f"{frame}.png" for frame in range(frames)],
        }
        for number in range(2)
    ]
    for frame in range(frames):
        tiny.image(frame).save(folder / f"{frame}.png")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_vsi_100k_from_a_folder_comes_as_videos(tmp_path):
    data = trained_on(tmp_path)
    found = vsi.with_prompt(vsi.training_set(arguments(data=data)), "vanilla")
    assert len(found) == 2 and isinstance(found[0].images, Video) and len(found[0].images) == 4
    assert found[0].prompt.endswith(vsibench.SHORT)


def test_rows_without_frames_are_not_trained_on(tmp_path):
    with pytest.raises(UserError, match=r"train.jsonl row 0 has no frames to show; .*--frames FOLDER"):
        vsi.training_set(arguments(data=trained_on(tmp_path, frames=0)))


def test_no_room_of_vsibench_is_trained_on(tmp_path):
    """Another scan of a room that is tested is that room too."""
    tested = bench(tmp_path)
    rows = (tmp_path / "rows.jsonl").read_text().replace('"two"', '"scene0011_00"')
    (tmp_path / "rows.jsonl").write_text(rows)
    leaked = replace(tested, data=trained_on(tmp_path / "leaked", "scene0011_01"))
    with pytest.raises(
        UserError, match=r"row 0: its scene scene0011_01 is of a room that the test asks about"
    ):
        vsi.training_set(leaked)
    assert len(vsi.training_set(replace(leaked, eval_data="embedded", eval_frames=None))) == 2
    other = replace(tested, data=trained_on(tmp_path / "other", "scene0012_00"))
    assert len(vsi.training_set(other)) == 2


def test_the_hubs_videos_are_fetched_where_none_are_given(tmp_path):
    with pytest.raises(UserError, match="VSI-Bench is no file or folder here, and from the hub it"):
        vsi.test_set(replace(bench(tmp_path), eval_frames=None), "vanilla")
