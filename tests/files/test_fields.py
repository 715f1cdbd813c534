"""Fields of rows: what was meant, whatever pandas, JSON or a spreadsheet made of it; or one line."""

import base64
import io
import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas
import pytest
import test_cvbench
import test_vsibench
import test_vsr
from PIL import Image

from spatialvlm.errors import RowError, UserError, shown
from spatialvlm.files import rows
from spatialvlm.tasks import score_file
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsr import data as vsr


@pytest.mark.parametrize("value", [3, 3.0, "3", "3.0", " 3 ", "+3", "3.", "003"])
def test_whole_numbers(value):
    assert rows.as_whole(value, "count", "row 0") == 3


@pytest.mark.parametrize(
    "value", [True, 3.5, "3.5", "three", math.inf, math.nan, None, [3], "9" * 5000, 10**400, "٣", "1e3"]
)
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(
        RowError, match="^row 0: 'count' must be a whole number, not .{1,100}; correct"
    ) as error:
        rows.as_whole(value, "count", "row 0")
    assert "\n" not in str(error.value)


def test_yes_and_no():
    for value in (True, 1, 1.0, "1", "1.0", "yes", "True", " YES "):
        assert rows.as_yes_no(value, "label", "row 0") is True
    for value in (False, 0, 0.0, "0", "0.0", "no", "false"):
        assert rows.as_yes_no(value, "label", "row 0") is False
    for value in (None, 2, 0.5, "", "maybe", [1], {"a": 1}, math.nan):
        with pytest.raises(RowError, match="row 0: 'label' must be yes or no .1 or 0., not"):
            rows.as_yes_no(value, "label", "row 0")


@pytest.mark.parametrize(
    "value", [["a", "it's"], ("a", "it's"), '["a", "it\'s"]', """['a', "it's"]""", " ['a', \"it's\"] "]
)
def test_lists_of_texts(value):
    assert rows.as_texts(value, "choices", "row 0") == ["a", "it's"]


def test_numbers_among_choices_are_written_as_people_do():
    assert rows.as_texts([0, 1.0, "2", 2.5], "choices", "row 0") == ["0", "1", "2", "2.5"]
    assert rows.as_texts("[0, 1]", "choices", "row 0") == ["0", "1"]


@pytest.mark.parametrize(
    "value",
    [
        "['left' 'right']",  # as numpy prints it, which Python takes for one text
        "[left, right]",
        "a",
        "__import__('os')",
        "[" * 5000,
        None,
        3,
        {"a": 1},
        ["a", None],
        ["a", ""],
        ["a", True],
        ["a", ["b"]],
        ["a", "\ud83d"],
    ],
)
def test_what_is_no_list_of_texts_is_named(value):
    with pytest.raises(RowError, match="^row 0: 'choices' "):
        rows.as_texts(value, "choices", "row 0")


def test_ids():
    for value, id in ((12, "12"), (12.0, "12"), ("12", "12"), (" a-1 ", "a-1"), ("012", "012")):
        assert rows.as_id(value, "id", "row 0") == id
    for value in (True, 1.5, None, "", " ", [1], math.nan, pandas.Timestamp(0)):
        with pytest.raises(RowError, match="row 0: 'id' must be"):
            rows.as_id(value, "id", "row 0")


def test_values_in_messages_are_short():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for value in (deep, "a\n" * 10**6, {n: "x" * 1000 for n in range(1000)}, b"\0" * 10**6):
        assert len(shown(value)) < 1000 and "\n" not in shown(value)


def test_names_that_no_file_can_have_are_missing_files():
    with pytest.raises(RowError, match=r"row 0: image iVBO.*\(5,500 characters\) does not exist"):
        rows.require_files([Path("iVBORw0KGgo" * 500)], "row 0")


# ---- the benchmarks' rows as pandas writes them


def as_parquet(folder: Path, data: list[dict], **changed) -> Path:
    """Rows as a table of pandas, some columns changed by a function."""
    table = pandas.DataFrame(data)
    for name, change in changed.items():
        table[name] = change(table[name])
    table.to_parquet(folder / "test.parquet")
    return folder / "test.parquet"


@pytest.mark.parametrize(
    "change",
    [
        lambda column: column.astype(float),
        lambda column: column.astype(bool),
        lambda column: column.astype("category"),
        lambda column: column.astype("Int64"),
        lambda column: column.map(Decimal),
        lambda column: column.map({1: "True", 0: "False"}),
        lambda column: column.astype(float).astype(str),
    ],
    ids=["floats", "booleans", "categories", "nullable", "decimals", "texts", "floats as texts"],
)
def test_labels_of_vsr(tmp_path, change):
    file = as_parquet(tmp_path, [test_vsr.row(n) for n in range(4)], label=change)
    examples = vsr.load(file, "test", need_images=False)
    assert [example.answer for example in examples] == ["no", "yes", "no", "yes"]


@pytest.mark.parametrize("options", [None, math.nan, [], "", "[]"])
def test_no_options_of_vsibench(tmp_path, options):
    data = [test_vsibench.row(0), test_vsibench.row(1, "object_rel_distance")]
    data[0]["options"] = options
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, data)))
    assert [example.answer for example in vsibench.load(tmp_path / "test.jsonl")] == ["4", "B"]
    if not isinstance(options, str):
        examples = vsibench.load(as_parquet(tmp_path, data))
        assert [example.choices for example in examples] == [None, ("left", "right", "back")]


def test_numbers_and_ids_of_vsibench(tmp_path):
    data = [test_vsibench.row(n, truth=truth) for n, truth in enumerate(("4", "2.5"))]
    file = as_parquet(tmp_path, data, id=lambda c: c.astype(float), ground_truth=lambda c: c.astype(float))
    assert [(e.id, e.answer) for e in vsibench.load(file)] == [("vsibench-0", "4"), ("vsibench-1", "2.5")]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.map(np.array),
        lambda c: c.map(json.dumps),
        lambda c: c.map(str),
        lambda c: c.map(lambda each: {"text": each, "label": list("ABCDEF")[: len(each)]}),
        lambda c: c.map(lambda each: dict(zip("ABCDEF", [*each, *[None] * 6], strict=False))),
    ],
)
def test_choices_of_cvbench(tmp_path, change):
    data = [test_cvbench.row(n, "Count", image=test_cvbench.png(n)) for n in range(3)]
    file = as_parquet(tmp_path, data, choices=change, idx=lambda column: column.astype(float))
    plain = [test_cvbench.row(n, "Count") for n in range(3)]
    found = [(example.id, example.choices, example.answer) for example in cvbench.load(file)]
    assert found == [(f"cvbench-{n}", tuple(row["choices"]), row["answer"]) for n, row in enumerate(plain)]


@pytest.mark.parametrize("written", ["C", "c", "(c)", "(C) ", " C. ", "C)", "C:"])
def test_letters_however_they_are_written(tmp_path, written):
    changed = {"answer": written, "task": " count ", "source": "coco"}
    data = [test_cvbench.row(0, "Count", image=test_cvbench.png(0)) | changed]
    (found,) = cvbench.load(as_parquet(tmp_path, data), tasks=("Count",))
    assert (found.answer, found.task, found.meta["source"]) == ("(C)", "Count", "COCO")
    row = test_vsibench.row(0, "object_rel_distance") | {"ground_truth": written}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    assert vsibench.load(tmp_path / "test.jsonl")[0].answer == "C"


@pytest.mark.parametrize("written", ["CC", "E", "the C", "(", "", 2, True, ["C"], None, "Ⅽ", "С"])
def test_what_is_no_letter_is_named(written):
    with pytest.raises(RowError, match="row 0: 'answer' .* is not the letter of one of its 4 choices"):
        rows.as_letter(written, 4, "answer", "row 0")


@pytest.mark.parametrize("record", [{"A": "x", "C": "y"}, {"a": "x"}, {"text": "x"}, {"B": "x", "D": None}])
def test_records_that_are_no_choices_are_named(record):
    with pytest.raises(RowError, match="row 0: 'choices' must be a list of texts"):
        rows.as_texts(record, "choices", "row 0")


def test_relations_of_vsr_in_another_case(tmp_path):
    data = [test_vsr.row(0) | {"relation": written} for written in ("Under", " under", "Somewhere New")]
    found = vsr.load(as_parquet(tmp_path, data), "test", need_images=False)
    assert [example.meta["relation"] for example in found] == ["under", "under", "Somewhere New"]
    assert [example.task for example in found] == [vsr.group("under")] * 2 + [vsr.UNALLOCATED]


@pytest.mark.parametrize("padded", [True, False])
def test_images_in_the_other_alphabet_of_base64(padded):
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "PNG")
    packed = base64.urlsafe_b64encode(content.getvalue()).decode()
    assert "-" in packed and "_" in packed
    for text in (packed, f"data:image/png;base64,{packed}"):
        found = rows.as_image(text if padded else text.rstrip("="), "row 0")
        assert (np.asarray(found) == noise).all()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (3.0, "3"),
        ("3.0", "3"),
        (True, "yes"),
        ("False", "no"),
        ("TRUE", "yes"),
        ("Red ", "red"),
        (Decimal(3), "3"),
    ],
)
def test_answers_of_clevr(tmp_path, written, meant):
    (tmp_path / "0.png").write_bytes(test_cvbench.png(0))
    question = "What color is the cube?" if meant == "red" else "How many cubes are there?"
    data = [{"image_path": "0.png", "question": question, "ground_truth": written}]
    pandas.DataFrame(data).to_parquet(tmp_path / "test.parquet")
    assert [example.answer for example in clevr.load(tmp_path / "test.parquet")] == [meant]


@pytest.mark.parametrize("written", [2.5, "9" * 5000, "3.5", [3], {"a": 1}, "٣", 11, -1])
def test_what_is_no_answer_of_clevr_is_named(tmp_path, written):
    data = [{"image_path": "0.png", "question": "How many cubes are there?", "ground_truth": written}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, data)))
    with pytest.raises(UserError, match=r"^.*test.jsonl row 0: 'ground_truth' must be .{1,300}$"):
        clevr.load(tmp_path / "test.jsonl")


def test_answers_of_sat(tmp_path):
    image = test_cvbench.png(0)
    data = [{"image_bytes": [image], "question": "How many chairs?", "question_type": "count"}]
    data[0] |= {"answers": "['3', '4']", "correct_answer": 3.0}
    pandas.DataFrame(data).to_parquet(tmp_path / "train.parquet")
    (example,) = sat.load(tmp_path / "train.parquet")
    assert example.answer == "3" and sorted(example.choices) == ["3", "4"]
    for written in (" 3\n", "3.0"):
        data[0]["correct_answer"] = written
        pandas.DataFrame(data).to_parquet(tmp_path / "train.parquet")
        assert sat.load(tmp_path / "train.parquet")[0].answer == "3"


# ---- files made after public trouble reports


def test_reported_files_are_read_right(real_data):
    folder = real_data / "field_cases"
    marked = vsr.load(folder / "d4-bom/bom_test.jsonl", need_images=False)
    assert [example.answer for example in marked] == ["no", "yes", "no"]
    subsets = {
        name: vsibench.load(folder / "d4-bom/test.jsonl", subset=name) for name in ("pruned", "debiased")
    }
    assert [example.id for example in subsets["pruned"]] == ["vsibench-0", "vsibench-2"]
    assert [example.id for example in subsets["debiased"]] == ["vsibench-1", "vsibench-3"]
    floats = vsr.load(folder / "d6-pandas-types/float_test.parquet", need_images=False)
    assert [example.answer for example in floats] == ["no", "yes", "no", "yes"]
    for name in ("vsi_empty_test.parquet", "vsi_nan_test.jsonl"):
        found = vsibench.load(folder / "d6-pandas-types" / name)
        assert [(example.answer, example.choices) for example in found] == [
            ("4", None), ("4", None), ("B", ("desk", "chair")),
        ]  # fmt: skip
    args = score_file.Args(
        "cvbench", str(folder / "d9-doc-id/doc_id_shuffled.jsonl"), str(folder / "d9-doc-id/q.parquet")
    )
    assert score_file.score(args)["aggregates"]["micro"]["value"] == 1
