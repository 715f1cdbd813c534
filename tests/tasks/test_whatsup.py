"""What'sUp's files in their own form, its rendered stand-in, and accuracy by image, pair and set."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.parsing import answers
from spatialvlm.tasks import registry
from spatialvlm.tasks.whatsup import data as whatsup
from spatialvlm.tasks.whatsup.scoring import BENCHMARK, aggregate
from spatialvlm.worlds.clevr import scenes

A = {"left": "left_of", "right": "right_of", "on": "on", "under": "under"}
B = {"left": "left_of", "right": "right_of", "front": "in-front_of", "behind": "behind"}


def controlled(name: str, words: dict[str, str], things=("beer-bottle", "armchair")) -> list[dict]:
    """A set's rows as the files have them: the first caption is right."""
    first, second = (thing.replace("-", " ") for thing in things)
    captions = {said: f"A {first}{whatsup.RELATIONS[said]}a {second}" for said in words}
    return [
        {
            "image_path": f"data/{name}/{things[0]}_{words[said]}_{things[1]}.jpeg",
            "caption_options": [captions[said], *(text for key, text in captions.items() if key != said)],
        }
        for said in words
    ]


def write(folder, tables: dict[str, list]) -> None:
    """Annotation files, and an image for every row; a row names its image by path or number."""
    for file, table in tables.items():
        for row in table:
            if isinstance(row, dict):
                image = folder / row["image_path"].removeprefix("data/")
            elif file.startswith("coco"):
                image = folder / f"val2017/{row[0]:012d}.jpg"
            else:
                image = folder / f"vg_images/{row[0]}.jpg"
            image.parent.mkdir(exist_ok=True)
            tiny.image(len(image.name)).save(image, "JPEG")
        (folder / file).write_text(json.dumps(table))


TABLES = {
    "controlled_images_dataset.json": controlled("controlled_images", A)
    + controlled("controlled_images", A, ("mug", "table")),
    "controlled_clevr_dataset.json": controlled("controlled_clevr", B),
    "coco_qa_one_obj.json": [[139, "A photo of a vase on the left", "A photo of a vase on the right"]],
    "coco_qa_two_obj.json": [[285, "A photo of a bear above a log", "A photo of a bear below a log"]],
    "vg_qa_one_obj.json": [["2317538", "A photo of a hat at the top", "A photo of a hat at the bottom"]],
    "vg_qa_two_obj.json": [[7, "A photo of a cup in front of a jug", "A photo of a cup behind a jug"]],
}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, TABLES)
    return tmp_path


@pytest.fixture(scope="module")
def sets():
    """20 rendered sets."""
    return list(whatsup.load("embedded", limit=80))


def records(examples, right) -> list[dict]:
    return [{"id": e.id, "task": e.task, "cluster": e.meta["cluster"], "correct": right(e)} for e in examples]


def test_every_file_is_read_in_its_own_form(folder):
    examples = whatsup.load(folder)
    assert Counter(example.task for example in examples) == {
        "controlled_a": 8,
        "controlled_b": 4,
        **dict.fromkeys(("coco_one", "coco_two", "gqa_one", "gqa_two"), 1),
    }
    rights = {row["caption_options"][0] for name in TABLES for row in TABLES[name] if isinstance(row, dict)}
    rights |= {row[1] for name in TABLES for row in TABLES[name] if isinstance(row, list)}
    for example in examples:
        letter = answers.choice(example.answer, example.choices)
        assert f"({letter})" == example.answer
        right = example.choices["ABCD".index(letter)]
        assert right in rights and f"({letter}) {right}" in example.prompt
        assert example.images[0].is_file() and example.open_images()
    assert [example.id for example in examples[:4]] == [f"controlled_a-000-{said}" for said in A]
    assert examples[13].images[0].name == "000000000285.jpg"
    assert examples[14].images[0].name == "2317538.jpg"


def test_captions_are_shuffled_by_id_and_seed(sets):
    letters = Counter(example.answer for example in sets)
    assert set(letters) == {"(A)", "(B)", "(C)", "(D)"} and min(letters.values()) >= 10
    again = whatsup.load("embedded", limit=8)
    assert [(e.id, e.choices) for e in again] == [(e.id, e.choices) for e in sets[:8]]
    other = whatsup.load("embedded", 8, seed=1)
    assert [e.choices for e in other] != [e.choices for e in again]


def test_limit_keeps_sets_whole(folder):
    tasks = Counter(example.task for example in whatsup.load(folder, limit=5))
    assert tasks["controlled_a"] == 4 and tasks["coco_one"] == 1
    assert len(whatsup.load("embedded", limit=3)) == 4
    with pytest.raises(UserError, match="--limit must be at least 1"):
        whatsup.load(folder, limit=0)


def test_pictures_may_lie_elsewhere_and_are_said_to_be_missing(folder, tmp_path_factory, capsys):
    away = tmp_path_factory.mktemp("coco")
    (folder / "val2017").rename(away / "val")
    tasks = {example.task for example in whatsup.load(folder)}
    assert "coco_one" not in tasks and "gqa_one" in tasks
    assert "coco_one is left out: its images are not in" in capsys.readouterr().err
    assert "coco_one" in {example.task for example in whatsup.load(folder, coco=away / "val")}
    with pytest.raises(UserError, match="no such folder; give the one with the images of coco_qa_one"):
        whatsup.load(folder, coco=away / "gone")


def test_rows_that_repeat_are_said(folder, capsys):
    write(folder, {"coco_qa_one_obj.json": TABLES["coco_qa_one_obj.json"] * 2})
    assert sum(example.task == "coco_one" for example in whatsup.load(folder)) == 2
    assert "1 rows of" in capsys.readouterr().err


FIRST = TABLES["controlled_images_dataset.json"][0]
CAPTIONS = FIRST["caption_options"]


@pytest.mark.parametrize(
    "file, change, message",
    [
        (
            "controlled_images_dataset.json",
            {"caption_options": CAPTIONS[:1]},
            "row 0: the captions .* must be 4",
        ),
        ("controlled_images_dataset.json", {"caption_options": CAPTIONS[:3] + CAPTIONS[:1]}, "must differ"),
        (
            "controlled_images_dataset.json",
            {"caption_options": [*CAPTIONS[:3], ""]},
            "row 0: .*must be a text",
        ),
        ("controlled_images_dataset.json", {"caption_options": None}, "row 0 has no 'caption_options'"),
        (
            "controlled_images_dataset.json",
            {"caption_options": CAPTIONS[1:] + CAPTIONS[:1]},
            "row 1: another row",
        ),
        (
            "controlled_images_dataset.json",
            {"caption_options": ["A mug near a table", *CAPTIONS[1:]]},
            "'A mug near a table' must say one of left",
        ),
        (
            "controlled_images_dataset.json",
            {"image_path": "data/gone.jpeg"},
            "row 0: its image .*gone.jpeg is",
        ),
        ("controlled_images_dataset.json", {"image_path": 3}, "row 0: 'image_path' must be a text"),
        (
            "controlled_images_dataset.json",
            {"image_path": TABLES["controlled_images_dataset.json"][1]["image_path"]},
            "row 1: its image is that of .* row 0",
        ),
        ("coco_qa_one_obj.json", [139, "left"], "row 0: must be .image id, right caption, wrong caption"),
        ("coco_qa_one_obj.json", [139, "left", "left"], "row 0: the captions must differ"),
        ("coco_qa_one_obj.json", [139, "left", 2.0], "row 0: 'the captions' must be a text"),
        ("coco_qa_one_obj.json", [float("nan"), "left", "right"], "row 0: 'image id' must be a whole number"),
        (
            "coco_qa_one_obj.json",
            [True, "left", "right"],
            "row 0: 'image id' must be a whole number, not True",
        ),
        ("coco_qa_one_obj.json", [140, "left", "right"], "row 0: its image .*000000000140.jpg is missing"),
    ],
    ids=lambda value: None if isinstance(value, str) else "row",
)
def test_a_row_that_is_not_whole_is_named(folder, file, change, message):
    table = list(TABLES[file])
    table[0] = table[0] | change if isinstance(change, dict) else change
    (folder / file).write_text(json.dumps(table))
    with pytest.raises(UserError, match=message):
        whatsup.load(folder)


@pytest.mark.parametrize(
    "content, message", [("[", "line 1 is not JSON"), ("[]", "no list of rows"), ("{}", "no list")]
)
def test_a_file_that_is_no_table_is_named(folder, content, message):
    (folder / "coco_qa_two_obj.json").write_text(content)
    with pytest.raises(UserError, match=f"coco_qa_two_obj.json .*{message}"):
        whatsup.load(folder)


def test_a_set_without_one_of_its_pictures_is_named(folder):
    rows = TABLES["controlled_images_dataset.json"]
    (folder / "controlled_images_dataset.json").write_text(json.dumps(rows[:-1]))
    with pytest.raises(
        UserError, match=r"the set of mug_left_of_table.jpeg has 3 images \(left, right, on\)"
    ):
        whatsup.load(folder)


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(UserError, match="holds none of What'sUp's files"):
        whatsup.load(tmp_path)
    with pytest.raises(UserError, match="--whatsup .*: no such folder"):
        whatsup.load(tmp_path / "gone")


def test_rendered_sets_are_two_things_in_four_arrangements(sets):
    for start in range(0, len(sets), 4):
        group = sets[start : start + 4]
        assert [e.id.rpartition("-")[2] for e in group] == list(whatsup.ARRANGEMENTS)
        assert (
            len({frozenset(e.choices) for e in group}) == 1 and len({e.meta["cluster"] for e in group}) == 1
        )
        rights = {e.choices["ABCD".index(e.answer[1])] for e in group}
        assert rights == set(group[0].choices)
        assert len({e.images[0].tobytes() for e in group}) == 4


def test_an_arrangement_is_clear_or_none():
    """Against CLEVR's own relationships: what is said holds there, and its opposite is said the other way."""
    found = Counter()
    for index in range(200):
        scene = scenes.make("arrangement", index, 2, 2)
        said = whatsup.arrangement(scene)
        found[said] += 1
        if said:
            assert 0 in scene["relationships"][said][1]
            turned = scene | {"objects": scene["objects"][::-1]}
            pairs = {"left": "right", "right": "left", "front": "behind", "behind": "front"}
            assert whatsup.arrangement(turned) == pairs[said]
    assert len(found) == 5 and min(found.values()) >= 10


def test_pairs_and_sets_by_hand(folder):
    examples = whatsup.load(folder)
    wrong = {"controlled_a-000-left", "controlled_a-001-on", "controlled_a-001-left", "coco_one-00000"}
    totals = aggregate(records(examples, lambda e: e.id not in wrong))
    assert totals["micro"].value == pytest.approx(12 / 16)
    assert totals["controlled_a pair"].value == pytest.approx(1 / 4) and totals["controlled_a pair"].n == 4
    assert totals["controlled_a set"].value == 0 and totals["controlled_a set"].n == 2
    assert totals["controlled_b pair"].value == totals["controlled_b set"].value == 1
    assert not any(name.startswith(("coco", "gqa")) for name in totals)


def test_one_answer_for_all_is_worth_a_quarter_and_no_pair(sets):
    """Who always says the same of a set gets one image of four right, and no pair."""
    totals = aggregate(records(sets, lambda e: e.id.endswith("left")))
    assert totals["micro"].value == 0.25
    assert totals["rendered pair"].value == totals["rendered set"].value == 0
    assert aggregate(records(sets, lambda e: True))["rendered set"].value == 1


def test_answers_of_a_set_are_not_counted_as_independent(sets):
    by_set = aggregate(records(sets, lambda e: int(e.meta["cluster"][-1]) % 2))["micro"]
    spread = aggregate(records(sets, lambda e: e.id.endswith(("left", "front"))))["micro"]
    assert by_set.value == spread.value == 0.5
    width = [e.interval[1] - e.interval[0] for e in (by_set, spread)]
    assert width[0] > 1.5 * width[1]


def test_a_set_that_is_not_whole_is_not_scored(sets):
    with pytest.raises(ValueError, match="set rendered-000 has 3 answers of 4"):
        aggregate(records(sets[:3], lambda e: True))


def test_it_is_registered(folder):
    assert registry.benchmark("whatsup") is BENCHMARK
    assert len(BENCHMARK.load(str(folder))) == 16
