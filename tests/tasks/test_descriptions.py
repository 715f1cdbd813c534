"""The description study: scenes in words that say what CLEVR asks, files joined and read back, bad rows."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from random import Random

import datasets
import numpy as np
import pytest
import tiny
from PIL import Image

from spatialvlm.disk import whole_folder
from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.papers import descriptions as report
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import described, described_files
from spatialvlm.worlds.clevr import facts, official_answers, official_questions, scenes
from spatialvlm.worlds.clevr.official_answers import FAMILIES


def thing(words: str, x: float, y: float) -> dict:
    size, color, material, shape = words.split()
    radius = 0.7 if size == "large" else 0.35
    return {"size": size, "color": color, "material": material, "shape": shape, "3d_coords": [x, y, radius]}


def scene_of(*things: dict) -> dict:
    """A scene whose camera looks along (-1, 1): right is (1, 1) and behind (-1, 1), over the root of 2."""
    half = 2**-0.5
    ways = {"right": [half, half, 0.0], "behind": [-half, half, 0.0]}
    ways |= {"left": [-half, -half, -0.0], "front": [half, -half, 0.0]}
    scene = {"image_filename": "CLEVR_val_000000.png", "objects": [*things], "directions": ways}
    return scene | {"relationships": facts.relationships(scene)}


@pytest.fixture
def three():
    """Along the camera's right: red, blue, green; along world x: red, green, blue."""
    return scene_of(
        thing("large green metal cube", 0.0, 3.0),
        thing("small red rubber sphere", -2.0, -1.0),
        thing("large blue rubber cylinder", 2.0, -1.0),
    )


# ---- in words


def test_structured_by_hand(three):
    assert described.describe(three, "structured").splitlines()[1:] == [
        "1. small red rubber sphere @ -2.1, 0.7; nearest 2; left of 2, 3; front of 3",
        "2. large blue rubber cylinder @ 0.7, -2.1; nearest 1; left of 3; front of 1, 3",
        "3. large green metal cube @ 2.1, 2.1; nearest 2",
    ]


def test_ordered_and_sentences_by_hand(three):
    red, blue, green = "small red rubber sphere", "large blue rubber cylinder", "large green metal cube"
    assert described.describe(three, "ordered") == (
        f"From left to right: {red}, {blue}, {green}.\nFrom front to back: {blue}, {red}, {green}."
    )
    assert described.describe(three, "nlp") == (
        f"There are 3 objects. The leftmost one is a {red}. Next to the right comes a {blue}, in front of "
        f"the {red}. Next to the right comes a {green}, behind the {blue}. From the front to the back there "
        f"are the {blue}, the {red} and the {green}."
    )


def test_world_axes_are_x_and_y(three):
    turned = described.world_axes(three)
    assert described.left_to_right(three) == [1, 2, 0] and described.front_to_back(three) == [2, 1, 0]
    assert described.left_to_right(turned) == [1, 0, 2] and described.front_to_back(turned) == [1, 2, 0]
    assert described.positions(turned) == [tuple(t["3d_coords"][:2]) for t in three["objects"]]
    assert three["directions"]["right"][0] < 1  # the scene given is as it was


def test_equal_objects_are_told_apart_by_letters_from_the_left():
    ball = "small red rubber sphere"
    scene = scene_of(thing(ball, 2, 2), thing("large red metal cube", 0, 0), thing(ball, -2, -2))
    assert described.names(scene) == [f"{ball} B", "large red metal cube", f"{ball} A"]
    assert f"{ball} A, large red metal cube, {ball} B" in described.describe(scene, "ordered")


def test_no_position_is_minus_zero():
    scene = scene_of(thing("small red rubber sphere", -0.02, -0.02), thing("large red metal cube", 2, 2))
    assert "1. small red rubber sphere @ 0.0, 0.0; nearest 2" in described.describe(scene, "structured")


def test_objects_as_far_back_as_one_another():
    scene = scene_of(thing("small red rubber sphere", -1, -1), thing("large red metal cube", 1, 1.1))
    assert "cube, as far back as the small red" in described.describe(scene, "nlp")


@pytest.mark.parametrize("style", described.STYLES)
def test_one_object_alone(style):
    text = described.describe(scene_of(thing("small red rubber sphere", 1, 2)), style)
    assert "small red rubber sphere" in text and "nearest 1" not in text and "left of 1" not in text


def test_another_style_is_refused(three):
    with pytest.raises(ValueError, match="structured, ordered, nlp, not 'poem'"):
        described.describe(three, "poem")


# ---- read back: a description says all that CLEVR's questions ask


def as_thing(words: str) -> dict:
    size, color, material, shape = words.split()[:4]  # a letter may follow, of equal ones
    return {"size": size, "color": color, "material": material, "shape": shape}


def by_rank(across: list[str], away: list[str]) -> dict:
    """A scene from the names of its objects from left to right and from front to back."""
    sides = {"right": [], "left": [], "behind": [], "front": []}
    for name in across:
        for order, more, less in ((across, "right", "left"), (away, "behind", "front")):
            place = order.index(name)
            sides[less].append([across.index(other) for other in order[:place]])
            sides[more].append([across.index(other) for other in order[place + 1 :]])
    return {"objects": [as_thing(name) for name in across], "relationships": sides}


def read_ordered(text: str) -> dict:
    across, away = (line.split(": ")[1].rstrip(".").split(", ") for line in text.splitlines())
    return by_rank(across, away)


def read_sentences(text: str) -> dict:
    across = re.findall(r"(?:leftmost one is|right comes) a ([^,.]+)", text)
    away = re.split(r", the | and the ", text.split("back there are the ")[1].rstrip("."))
    return by_rank(across, away)


def read_structured(text: str) -> dict:
    lines = text.splitlines()[1:]
    sides = {side: [[] for _ in lines] for side in ("right", "left", "behind", "front")}
    for number, line in enumerate(lines):
        for words, side, back in (("left of", "right", "left"), ("front of", "behind", "front")):
            found = re.search(rf"{words} ([\d, ]+)", line)
            for other in found[1].split(", ") if found else []:
                sides[side][number].append(int(other) - 1)
                sides[back][int(other) - 1].append(number)
    return {"objects": [as_thing(line.split(". ")[1]) for line in lines], "relationships": sides}


READERS = {"structured": read_structured, "ordered": read_ordered, "nlp": read_sentences}


@pytest.mark.parametrize("style", described.STYLES)
def test_all_official_answers_are_found_from_the_description_alone(real_data, style):
    asked = described.load(real_data / "clevr")
    answers = [
        official_answers.answer_clevr(item.question, READERS[style](item.meta["descriptions"][style]))
        for item in asked
    ]
    assert len(asked) == 400 and answers == [item.answer for item in asked]


@pytest.mark.parametrize("style", described.STYLES)
def test_along_the_world_axes_many_answers_are_lost(real_data, style):
    lost = 0
    for item in described.load(real_data / "clevr", axes="world"):
        said = official_answers.answer_clevr(item.question, READERS[style](item.meta["descriptions"][style]))
        lost += said != item.answer
        if not report.names_a_side(item.question):
            assert said == item.answer == item.meta["described_answer"]
    assert lost > 50


def test_rendered_scenes_too(folder):
    for item in described.load(folder):
        assert item.meta["described_answer"] == item.answer and described.verdict(item) == described.RIGHT


# ---- official folders


@pytest.fixture(scope="module")
def made():
    return [scenes.make("test-descriptions", index) for index in range(4)]


@pytest.fixture
def folder(tmp_path, made):
    """An official folder: four scenes with noise for images, eight questions each."""
    folder = tmp_path / "clevr"
    for name in ("images", "scenes", "questions"):
        (folder / name).mkdir(parents=True)
    listed, asked = [], []
    for index, scene in enumerate(made):
        name = f"CLEVR_val_{index:06d}.png"
        listed.append({**scene, "image_filename": name, "image_index": index, "split": "val"})
        tiny.image(index, 96, 64).save(folder / "images" / name)
        for turn, family in enumerate(FAMILIES):
            question = official_questions.clevr(scene, Random(f"{index}-{turn}"), family)
            if question:
                row = {"question": question.question, "answer": question.answer, "image_filename": name}
                asked.append(row | {"question_index": len(asked), "split": "val", "image_index": index})
    write(folder / SCENES, {"info": {}, "scenes": listed})
    write(folder / QUESTIONS, {"info": {}, "questions": asked})
    return folder


SCENES, QUESTIONS = "scenes/CLEVR_val_scenes.json", "questions/CLEVR_val_questions.json"


def write(file: Path, content) -> None:
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def changed(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content.get("scenes") or content["questions"])
    write(file, content)


def test_the_same_questions_as_without_descriptions(real_data):
    ours, plain = described.load(real_data / "clevr"), clevr.load(real_data / "clevr")
    assert [(e.id, e.question, e.answer, e.task) for e in ours] == [
        (e.id, e.question, e.answer, e.task) for e in plain
    ]
    assert [e.images for e in ours] == [e.images for e in plain]


def test_prompts(folder):
    plain = described.load(folder)
    text, question = plain[3].meta["descriptions"]["nlp"], plain[3].question
    assert [e.prompt for e in described.prompted(plain, "none")] == [e.question for e in plain]
    before, after = (described.prompted(plain, "nlp", wording)[3] for wording in ("before", "after"))
    assert before.prompt == f"Description: {text}\nQuestion: {question}"
    assert after.prompt.startswith("Answer the question with the help of the description")
    assert after.prompt.endswith(f"Question: {question}\nDescription: {text}")
    assert (before.question, before.answer, before.id) == (question, plain[3].answer, plain[3].id)


def test_limit_takes_the_first_and_a_folder_without_images_gives_blanks(folder):
    assert [e.id for e in described.load(folder, limit=3)] == [e.id for e in described.load(folder)][:3]
    for image in (folder / "images").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"question 0: its image .*CLEVR_val_000000.png is not there"):
        described.load(folder)
    (image,) = described.load(folder, images=False)[0].open_images()
    assert image.size == (480, 320) and len(image.getcolors()) == 1


def test_two_scene_files_of_two_splits(folder):
    for name in (SCENES, QUESTIONS):
        (folder / name.replace("val", "valB")).write_text((folder / name).read_text())
    assert described.load(folder)[0].meta["split"] == "val"
    assert described.load(folder, split="valB")[0].id == "clevr-valB-0"
    with pytest.raises(UserError, match="no file of split 'test'"):
        described.load(folder, split="test")


def put(field, value, index=1):
    return lambda items: items[index].__setitem__(field, value)


def drop(field, index=1):
    return lambda items: items[index].pop(field)


def inside(name, field, value):
    return lambda items: items[1][name].__setitem__(field, value)


def of_object(field, value):
    return lambda items: items[1]["objects"][0].__setitem__(field, value)


BAD_SCENES = [
    (drop("objects"), r"scene 1 has no 'objects'"),
    (put("objects", []), r"scene 1 has no 'objects'"),
    (put("objects", 3), r"scene 1: 'objects' must be a list"),
    (put("objects", ["cube"]), r"scene 1 object 0 has no 'size'"),
    (drop("image_filename"), r"scene 1 has no 'image_filename'"),
    (put("image_filename", 7), r"scene 1: 'image_filename' must be a text, not 7"),
    (put("image_filename", "CLEVR_val_000000.png"), r"scene 1: .*CLEVR_val_000000.png' was there before"),
    (drop("directions"), r"scene 1 has no 'directions'"),
    (put("directions", "east"), r"scene 1 directions has no 'right'"),
    (inside("directions", "left", None), r"scene 1 directions has no 'left'"),
    (inside("directions", "behind", [0.0, 0.0, 0.0]), r"scene 1 directions: 'behind' .* length 1"),
    (inside("directions", "left", [1.0, 0.0, 0.0]), r"scene 1 directions: 'right' .* the other way"),
    (of_object("color", "pink"), r"scene 1 object 0: 'color' is 'pink', not one of gray"),
    (of_object("shape", ["cube"]), r"scene 1 object 0: 'shape' is \['cube'\]"),
    (of_object("size", ""), r"scene 1 object 0 has no 'size'"),
    (of_object("3d_coords", [0.0, 1.0]), r"scene 1 object 0: '3d_coords' must be three numbers"),
    (of_object("3d_coords", [0.0, "1", 2.0]), r"scene 1 object 0: '3d_coords' must be three numbers"),
    (of_object("3d_coords", [0.0, float("nan"), 2.0]), r"not JSON after scenes 0"),
    (lambda items: items.__setitem__(1, "scene"), r"scene 1 has no 'image_filename'"),
]
BAD_QUESTIONS = [
    (drop("question"), r"question 1 has no 'question'"),
    (put("question", "  "), r"question 1: 'question' must be a text"),
    (put("answer", ""), r"question 1 has no 'answer'"),
    (put("answer", None), r"question 1 has no 'answer'"),
    (put("answer", "11"), r"question 1: 'answer' '11' is none of CLEVR's 28"),
    (put("answer", True), r"question 1: 'answer' must be a text, not True"),
    (put("image_filename", "CLEVR_val_000009.png"), r"question 1: no scene has its 'image_filename'"),
    (put("question_index", 0), r"question 1: 'question_index' 0 was there before"),
    (put("question_index", "one"), r"question 1: 'question_index' must be a whole number"),
    (lambda items: items.__setitem__(1, ["?"]), r"question 1 has no 'question'"),
]
BAD = [(SCENES, *each) for each in BAD_SCENES] + [(QUESTIONS, *each) for each in BAD_QUESTIONS]


@pytest.mark.parametrize("file, change, message", BAD)
def test_a_scene_or_question_that_is_not_whole_is_named(folder, file, change, message):
    changed(folder / file, change)
    with pytest.raises(UserError, match=message) as raised:
        described.load(folder)
    assert str(folder / file) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("file, key", [(SCENES, "scenes"), (QUESTIONS, "questions")])
def test_a_file_that_is_torn_or_of_another_kind_is_named(folder, file, key):
    whole = (folder / file).read_text()
    for text, message in [
        (whole[:-400], f"is not JSON after {key} "),
        ("", f"is not JSON after {key} -1"),
        ('{"info": {}}', f"holds no '{key}'"),
        ("[]", f"holds no '{key}'"),
    ]:
        write(folder / file, text)
        with pytest.raises(UserError, match=message):
            described.load(folder)


def test_files_in_any_unicode_are_read(folder):
    before = list(described.load(folder))
    texts = {file: (folder / file).read_text() for file in (SCENES, QUESTIONS)}
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"):
        for file, text in texts.items():
            (folder / file).write_text(text, encoding=encoding)
        assert list(described.load(folder)) == before, encoding
    (folder / SCENES).write_bytes(texts[SCENES].encode("utf-16")[:-401])
    with pytest.raises(UserError, match="CLEVR_val_scenes.json is not JSON after scenes [0-9]"):
        described.load(folder)
    (folder / SCENES).write_bytes(texts[SCENES].encode("utf-16-le") + b"\0\xdc" * 9)
    with pytest.raises(UserError, match="CLEVR_val_scenes.json is not JSON after scenes "):
        described.load(folder)


def test_a_scene_that_is_nested_too_deeply_is_named(folder):
    deep = '"rotation": ' + "[" * 5000 + "]" * 5000 + ', "turn": '
    write(folder / SCENES, (folder / SCENES).read_text().replace('"rotation": ', deep, 1))
    with pytest.raises(UserError, match="scene 0 is nested too deeply"):
        described.load(folder)


def test_no_scenes(folder):
    (folder / SCENES).unlink()
    with pytest.raises(UserError, match="scenes holds no file of split 'val'"):
        described.load(folder)


# ---- merged


def merge(folder: Path, out: Path, suffix: str, axes: str = "camera", depth: bool = False) -> Path:
    with whole_folder(out) as partial:
        images = described_files.Images(partial, out, embed=suffix == "parquet")

        def rows():
            for example in described.load(folder, axes=axes):
                name, scene = example.meta["image_filename"], example.meta["described_scene"]
                image = images.hold("images", name, lambda e=example: e.images[0])
                found = depth and images.hold(
                    "depth", name, lambda s=scene: described_files.render_depth(s, 48, 32)
                )
                yield described_files.row(example, axes, image, found or None)

        write_rows = described_files.write_parquet if suffix == "parquet" else described_files.write_jsonl
        write_rows(partial / f"val.{suffix}", rows())
    return out / f"val.{suffix}"


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_merged_rows_are_the_questions_that_they_were_made_of(folder, tmp_path, suffix):
    file = merge(folder, tmp_path / "out", suffix)
    before = described.load(folder)
    for place in (file, file.parent):
        after = described.load(place)
        assert len(after) == len(before) > 20
        for old, new in zip(before, after, strict=True):
            for field in ("id", "question", "answer", "task", "prompt"):
                assert getattr(old, field) == getattr(new, field)
            meta = {name: value for name, value in old.meta.items() if name != "described_scene"}
            assert new.meta == meta
            assert new.open_images()[0].tobytes() == old.open_images()[0].tobytes()
    plain = clevr.load(file, split="val")  # the hub's form of CLEVR's rows
    assert [(e.question, e.answer, e.task) for e in plain] == [(e.question, e.answer, e.task) for e in before]


def test_parquet_is_what_datasets_writes_and_holds_a_picture_once(folder, tmp_path):
    file = merge(folder, tmp_path / "out", "parquet", depth=True)
    table = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    strings = {name: datasets.Value("string") for name in described_files.TEXTS}
    expected = strings | {name: datasets.Image() for name in ("image", "depth")}
    assert dict(table.features) == expected | {"question_index": datasets.Value("int64")}
    assert table[0]["image"].tobytes() == tiny.image(0, 96, 64).tobytes()
    images = sum(image.stat().st_size for image in (folder / "images").iterdir())
    assert len(table) > 7 * 4 - 4 and file.stat().st_size < 1.3 * images + 40_000


def test_a_jsonl_refers_to_pictures_by_relative_paths(folder, tmp_path):
    file = merge(folder, tmp_path / "deep" / "out", "jsonl", depth=True)
    row = json.loads(file.read_text().splitlines()[0])
    assert row["image"] == "../../clevr/images/CLEVR_val_000000.png"
    assert row["depth"] == "depth/CLEVR_val_000000.png" and (file.parent / row["depth"]).is_file()
    assert row["solution"] == f"<answer> {row['answer']} </answer>" and row["problem"] == row["question"]


def test_a_broken_image_gets_into_no_data_set(folder, tmp_path):
    image = folder / "images/CLEVR_val_000002.png"
    image.write_bytes(image.read_bytes()[:2000])
    for suffix in ("parquet", "jsonl"):
        with pytest.raises(UserError, match="CLEVR_val_000002.png cannot be read"):
            merge(folder, tmp_path / suffix, suffix)
        assert not (tmp_path / suffix).exists()


def test_what_a_stop_left_is_thrown_away_and_what_is_there_stays(folder, tmp_path, capsys):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/val.parquet").write_text("half")
    file = merge(folder, tmp_path / "out", "parquet")
    assert "out was not finished when it was stopped; starting again" in capsys.readouterr().out
    assert len(described.load(file)) > 20 and not (tmp_path / ".out.partial").exists()
    with pytest.raises(UserError, match="out is there already"):
        merge(folder, tmp_path / "out", "parquet")


def test_axes_must_be_those_that_were_merged(folder, tmp_path):
    camera, world = (merge(folder, tmp_path / axes, "jsonl", axes) for axes in ("camera", "world"))
    with pytest.raises(UserError, match="row 0 has descriptions along the axes 'camera'; leave out --world"):
        described.load(camera, axes="world")
    with pytest.raises(UserError, match="row 0 has descriptions along the axes 'world'; give --world"):
        described.load(world)
    assert [e.meta["descriptions"] for e in described.load(world, axes="world")] == [
        e.meta["descriptions"] for e in described.load(folder, axes="world")
    ]


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("description_nlp", "", "row 1 has no 'description_nlp'"),
        ("description_ordered", 3, "row 1: 'description_ordered' must be a text"),
        ("axes", None, "row 1 has no 'axes'"),
        ("answer", "maybe", "row 1: 'answer' 'maybe' is none of"),
        ("described_answer", "maybe", "row 1: 'described_answer' 'maybe' is none of"),
        ("question_index", 0, "row 1: 'question_index' 0 was there before"),
        ("question_index", float("nan"), "row 1 has no 'question_index'"),
        ("id", None, "row 1 has no 'id'"),
        ("family", ["count"], "row 1: 'family' must be a text"),
    ],
)
def test_a_merged_row_that_is_not_whole_is_named(folder, tmp_path, field, value, message):
    file = merge(folder, tmp_path / "out", "jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1][field] = value
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=message):
        described.load(file)


def test_a_folder_of_two_merged_files(folder, tmp_path):
    file = merge(folder, tmp_path / "out", "jsonl")
    file.with_name("valB.jsonl").write_text(file.read_text().replace('"clevr-val-', '"clevr-valB-'))
    assert described.load(file.parent, split="valB")[0].id == "clevr-valB-0"
    for split in (None, "test"):
        with pytest.raises(UserError, match="has val.jsonl, valB.jsonl; give --split"):
            described.load(file.parent, split=split)


def test_merged_without_images(folder, tmp_path):
    file = merge(folder, tmp_path / "out", "jsonl")
    rows = [json.loads(line) | {"image": None} for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="row 0 has no 'image'"):
        described.load(file)
    assert described.load(file, images=False)[0].open_images()[0].size == (480, 320)


def test_a_stream_to_the_hub(folder, tmp_path, monkeypatch):
    file, sent = merge(folder, tmp_path / "out", "parquet"), []

    def push(table, name, split):
        sent.append((name, split, [(row["id"], row["image"].size) for row in table]))

    monkeypatch.setattr(datasets.IterableDataset, "push_to_hub", push)
    described_files.push(file, "me/new", "val")
    assert sent == [("me/new", "val", [(e.id, (96, 64)) for e in described.load(folder)])]

    def refuse(*_, **__):
        raise OSError("401 Unauthorized\nmore")

    monkeypatch.setattr(datasets.IterableDataset, "push_to_hub", refuse)
    with pytest.raises(UserError, match="--push_to_hub me/new: 401 Unauthorized; log in"):
        described_files.push(file, "me/new", "val")


# ---- depth


def test_depth_is_the_renderers(made):
    for scene in made:
        depth = np.asarray(described_files.render_depth(scene, 240, 160), float) / 1000
        drawn = scenes.render_scene(scene, 240, 160, samples=1).depth
        assert np.abs(depth - drawn).max() < 0.001
        column, row, away = min((each["pixel_coords"] for each in scene["objects"]), key=lambda at: at[2])
        nearest = depth[row // 2 - 2 : row // 2 + 3, column // 2 - 2 : column // 2 + 3].min()
        assert away - 1.5 < nearest < away  # the foremost object's surface, before its centre


def test_depth_of_official_scenes_needs_their_pixels(real_data, made):
    item = described.load(real_data / "clevr")[0]
    depth = np.asarray(described_files.render_depth(item.meta["described_scene"], 240, 160))
    assert depth.dtype == np.uint16 and 5000 < depth.min() < depth.max() <= 65535
    bare = {**made[0], "objects": [{k: v for k, v in made[0]["objects"][0].items() if k != "pixel_coords"}]}
    with pytest.raises(UserError, match="object 0 has no 'pixel_coords'"):
        described_files.render_depth(bare, 48, 32)


def depth_rows(folder: Path, named: str | None, picture=lambda index: index) -> Path:
    """Rows in the form of erkam/clevr-with-depth: the folder's images resized, a grey level for depth.

    Args:
        named: the column, `image` or `depth`, whose paths are the images' names; none has any where None.
    """

    def held(image: Image.Image, name: str | None) -> dict:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": name}

    rows = []
    for index in range(4):
        image = tiny.image(picture(index), 96, 64).resize((192, 128))
        shown = {"image": image, "depth": Image.new("L", (24, 16), 50 * index)}
        name = f"CLEVR_val_{index:06d}.png"
        rows.append({kind: held(each, name if kind == named else None) for kind, each in shown.items()})
        rows[-1]["prompt"] = "a scene"
    if named:
        rows.reverse()
    datasets.Dataset.from_list(rows).to_parquet(folder / "depth.parquet")
    return folder / "depth.parquet"


WANTED = {f"CLEVR_val_{i:06d}.png": i for i in (0, 2, 3, 9)}


def levels(found: dict[str, Path]) -> dict[str, int]:
    return {name: Image.open(file).getpixel((0, 0)) for name, file in found.items()}


@pytest.mark.parametrize("named", ["image", "depth", None])
def test_depth_is_joined_by_name_or_by_number_and_picture(folder, tmp_path, named):
    file = str(depth_rows(tmp_path, named))
    described_files.check_depths(file, "val", "val", folder)
    found = described_files.find_depths(file, "val", WANTED, folder, tmp_path / "depth")
    assert levels(found) == {f"CLEVR_val_{index:06d}.png": 50 * index for index in (0, 2, 3)}


def test_depth_maps_are_joined_from_a_folder_of_files(folder, tmp_path):
    maps = tmp_path / "maps/val"
    maps.mkdir(parents=True)
    for name, index in (("CLEVR_val_000002.png", 2), ("CLEVR_val_000003_depth.png", 3), ("other.png", 4)):
        Image.new("L", (24, 16), 50 * index).save(maps / name)
    described_files.check_depths(str(maps.parent), "val", "val", folder)
    found = described_files.find_depths(str(maps.parent), "val", WANTED, folder, tmp_path / "depth")
    assert levels(found) == {"CLEVR_val_000002.png": 100, "CLEVR_val_000003.png": 150}
    with pytest.raises(UserError, match="has no file of the 1 scenes asked about"):
        described_files.find_depths(
            str(maps.parent), "val", {"CLEVR_val_000009.png": 9}, folder, tmp_path / "depth"
        )


def test_depth_that_is_of_other_pictures_is_refused(folder, tmp_path):
    wanted = {f"CLEVR_val_{index:06d}.png": index for index in range(4)}
    file = str(depth_rows(tmp_path, None, picture=lambda index: 3 - index))
    needs = "joined by the images' names: give --depth a folder of depth maps .*CLEVR_val_000000.png"
    other = f"row 0 bears no name of an image, and its image is not CLEVR_val_000000.png .*{needs}"
    with pytest.raises(UserError, match=other):
        described_files.check_depths(file, "train", "val", folder)
    with pytest.raises(UserError, match=other):
        described_files.find_depths(file, "val", wanted, folder, tmp_path / "depth")
    (folder / "images/CLEVR_val_000000.png").unlink()
    with pytest.raises(UserError, match=f"row 0 bears no name .*000000.png, to compare .*{needs}"):
        described_files.check_depths(file, "val", "val", folder)
    with pytest.raises(UserError, match="has no row of the 1 scenes asked about"):
        described_files.find_depths(
            str(depth_rows(tmp_path, "image")), "val", {"other.png": 77}, folder, tmp_path / "depth"
        )


@pytest.mark.parametrize("levels", [np.float32([[0.5, 2]]), np.int32([[0, 70_000]])])
def test_a_depth_map_that_png_cannot_hold_is_named(tmp_path, levels):
    Image.fromarray(levels).save(tmp_path / "depth.tiff")
    with pytest.raises(UserError, match=r"depth.tiff holds levels from .* scale it"):
        described_files.save_image(tmp_path / "depth.tiff", tmp_path / "depth.png")


# ---- the tables


def grid(**marks: str) -> dict:
    """Records by cell; a cell that is not given answers as `image_none`."""
    found = {}
    for cell in report.CELLS:
        correct = marks.get(cell.replace("-", "_"), marks["image_none"])
        found[cell] = [{"id": str(i), "task": "t", "correct": mark == "1"} for i, mark in enumerate(correct)]
    return found


def test_the_grid_by_hand():
    rows = dict(report.grid_rows(grid(image_none="1100", image_nlp="1110", blank_nlp="0000")))
    assert rows["none"]["image"] == metrics.proportion(2, 4) and rows["none"]["blank - image"].value == 0
    assert rows["nlp"]["blank - image"].value == -0.75
    assert rows["nlp - none"]["image"].value == 0.25 and rows["nlp - none"]["blank"].value == -0.5
    text = report.grid_table(report.grid_rows(grid(image_none="1100")), 4)
    assert "47.05" in text and "48.82" in text and "52.25" in text and "50.0 (15.0 to 85.0)" in text


def test_two_orders_by_hand():
    world, camera = grid(image_none="1100"), grid(image_none="1100", image_ordered="0111")
    sides = {"0": False, "1": False, "2": True, "3": True}
    rows = dict(report.order_rows(world, camera, sides))
    assert {name: each.value for name, each in rows["image-ordered"].items()} == {
        "all": 0.25,
        "naming a side": 1.0,
        "naming none": -0.5,
    }
    assert rows["blank-ordered"]["all"].value == 0
    with pytest.raises(UserError, match="--against: that grid has other questions"):
        report.order_rows(world, grid(image_none="110"), sides)


def test_an_incomplete_grid_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no complete grid \(image-none/ has no summary\)"):
        report.read_grid(tmp_path)


def test_which_questions_name_a_side():
    assert report.names_a_side("What is left of the cube?") and report.names_a_side("Is it in front of it?")
    assert not report.names_a_side("What color is the brightest thing?")
