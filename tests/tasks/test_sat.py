"""SAT's rows, as bytes, records and images, become shuffled multiple-choice examples; faults are named."""

import io
import json
from collections import Counter

import datasets
import hub_rows
import pytest
from PIL import Image
from pyarrow import parquet

from spatialvlm.errors import UserError
from spatialvlm.tasks.sat import data as sat

COMMAS = ["chair moved left, away from the camera", "chair moved right, and back", "nothing moved"]


def png(color="red", size=(30, 20)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "png")
    return file.getvalue()


def row(images=1, **changes):
    content = {
        "image_bytes": [png()] * images,
        "question": "What moved?",
        "answers": COMMAS,
        "question_type": "obj_movement",
        "correct_answer": COMMAS[0],
    }
    return content | changes


def save(folder, rows, name="SAT_train.parquet"):
    """Rows as parquet with plain bytes."""
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name)
    return folder / name


def test_rows_become_examples(tmp_path):
    found = sat.load(save(tmp_path, [row()] * 200))
    assert len(found) == 200
    for item in found:
        assert item.answer == COMMAS[0] and sorted(item.choices) == sorted(COMMAS)
        first, second, third = item.choices
        assert item.prompt == (
            "Answer in natural language. What moved? Choose between the following options: "
            f"{first}, {second} or {third}"
        )
        assert item.task == "obj_movement"
    assert found[0].open_images()[0].size == (30, 20)
    places = Counter(item.choices.index(item.answer) for item in found)
    assert min(places.values()) > 45  # the right answer comes first in the file, and anywhere here


def test_a_rows_choices_depend_on_the_seed_and_its_number_alone(tmp_path):
    file = save(tmp_path, [row()] * 30)
    found = [item.choices for item in sat.load(file)]
    assert found[:5] == [item.choices for item in sat.load(file, limit=5)]
    assert found != [item.choices for item in sat.load(file, seed=1)]


def test_answer_forms(tmp_path):
    file = save(tmp_path, [row()] * 60)
    for item in sat.load(file, answer_form="letter"):
        assert item.choices["ABC".index(item.answer)] == COMMAS[0]
        assert item.prompt.startswith("Answer with the letter. What moved? Choose between")
    forms = Counter(item.meta["answer_form"] for item in sat.load(file, answer_form="mixed"))
    assert min(forms["natural"], forms["letter"]) > 15
    with pytest.raises(UserError, match="--answer_form must be one of natural, letter, mixed, not 'word'"):
        sat.load(file, answer_form="word")


def test_rows_with_two_images_are_left_out_unless_asked_for(tmp_path):
    file = save(tmp_path, [row(2), row(1), row(2), row(1), row(1)])
    assert [item.id for item in sat.load(file, limit=2)] == ["sat-train-1", "sat-train-3"]
    assert len(sat.load(file, max_images=2)[0].open_images()) == 2


def test_pictures_as_the_hub_library_gives_them(tmp_path, hub):
    features = datasets.Features(
        image_bytes=datasets.List(datasets.Image()),
        question=datasets.Value("string"),
        answers=datasets.List(datasets.Value("string")),
        question_type=datasets.Value("string"),
        correct_answer=datasets.Value("string"),
    )
    listed = [row(question=f"number {i}?") for i in range(3)]
    table = datasets.Dataset.from_list(listed, features=features)
    assert isinstance(table[0]["image_bytes"][0], Image.Image)
    table.to_parquet(tmp_path / "train-00000-of-00001.parquet")  # {'bytes', 'path'} records
    (tmp_path / "dataset_infos.json").write_text("{}")
    local = sat.load(tmp_path)
    hub.add("array/SAT", {file.name: file.read_bytes() for file in tmp_path.glob("train*")})
    from_hub = sat.load("array/SAT")
    for found in (local, from_hub):
        assert [item.question for item in found] == ["number 0?", "number 1?", "number 2?"]
        assert found[2].open_images()[0].getpixel((0, 0)) == (255, 0, 0)
    assert [item.choices for item in local] == [item.choices for item in from_hub]


def test_the_split_picks_a_folders_files(tmp_path):
    save(tmp_path, [row(question="train?")], "SAT_train.parquet")
    save(tmp_path, [row(question="val?")], "SAT_val.parquet")
    assert [item.question for item in sat.load(tmp_path, split="val")] == ["val?"]


def test_static_of_a_mirror(tmp_path):
    for split in ("train", "static", "val", "test"):
        save(tmp_path, [row(question=f"{split}?")], f"SAT_{split}.parquet")
    for split in ("train", "static", "val", "test"):
        assert [item.question for item in sat.load(tmp_path, split=split)] == [f"{split}?"]
    with pytest.raises(UserError, match="no file of split 'dynamic', only of: test, train, val"):
        sat.load(tmp_path, split="dynamic")


def test_sat_v2_holds_its_images_in_another_column(hub):
    hub.add("array/SAT", hub_rows.sat())
    hub.add("array/SAT-v2", hub_rows.sat_v2())
    first, second = (sat.load(name, "val", max_images=2) for name in ("array/SAT", "array/SAT-v2"))
    assert first.facts == {"set": "SAT"} and second.facts == {"set": "SAT-v2"}
    for one, other in zip(first, second, strict=True):
        assert (one.prompt, one.answer, one.id) == (other.prompt, other.answer, other.id)
        assert [each.tobytes() for each in one.open_images()] == [
            each.tobytes() for each in other.open_images()
        ]
    circular = sat.load_test("array/SAT-v2", images=2)
    assert len(circular) == 4 and circular.facts == {"set": "SAT-v2"}


def test_pictures_as_paths_in_jsonl(tmp_path):
    (tmp_path / "a.png").write_bytes(png("blue"))
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(image_bytes=[str(tmp_path / "a.png")])) + "\n\n")
    (found,) = sat.load(tmp_path / "rows.jsonl")
    assert found.open_images()[0].getpixel((0, 0)) == (0, 0, 255)


def test_real_questions(real_data, tmp_path):
    """The text of SAT's 150 test questions, with a stand-in for its images."""
    listed = json.loads((real_data / "sat/sat_test_text.json").read_text())
    for item in listed:
        right, choices = item["correct_answer"], item["answer_choices"]
        item["answers"] = [right, *(choice for choice in choices if choice != right)]
        item["image_bytes"] = [png()] * len(item["img_paths"])
    file = save(tmp_path, listed)
    found = sat.load(file, split="test", max_images=2)
    assert [item.answer for item in found] == [item["correct_answer"] for item in listed]
    assert 0 < len(sat.load(file, split="test")) < len(found) == 150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": None}, "row 1 has no 'answers'"),
        ({"answers": []}, "row 1 has no 'answers'"),
        ({"answers": ["left"]}, "row 1: 'answers' must be a list of two or more"),
        ({"question": ""}, "row 1 has no 'question'"),
        ({"image_bytes": None}, "row 1 has no 'image_bytes'"),
        ({"image_bytes": [b"no image"]}, "row 1 image 0: the image cannot be read"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changes, message):
    file = save(tmp_path, [row(), row(**changes)])
    with pytest.raises(UserError, match=message) as caught:
        sat.load(file)
    assert "SAT_train.parquet" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_places(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        sat.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no .parquet"):
        sat.load(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(image_bytes=["a.png"])) + "\n{broken\n")
    with pytest.raises(UserError, match="rows.jsonl line 2 is not JSON"):
        sat.load(tmp_path / "rows.jsonl")
    (tmp_path / "rows.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="rows.parquet cannot be read"):
        sat.load(tmp_path / "rows.parquet")
    only_pairs = save(tmp_path, [row(2)])
    with pytest.raises(UserError, match="no SAT row with at most 1 image"):
        sat.load(only_pairs)

    with pytest.raises(UserError, match="array/SAT is no file or folder here, and from the hub .* offline "):
        sat.load("array/SAT")
