"""Super-CLEVR in both its forms, and CLEVR-CoGenT's rows: read as they are, every fault named."""

import json
from collections import Counter

import datasets
import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.evaluation.evaluate import Settings, gold_answers
from spatialvlm.tasks import score_file
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr.scoring import BENCHMARK, SUPERCLEVR, benchmark

ASKED = [
    ("How many big objects have the same color as the metal bus?", 3),
    ("Are there any jets that have the same material as the regular bus?", False),
    ("Is the color of the big suv the same as the tiny car that is in front of the tiny blue truck?", True),
    ("What shape is the tiny brown object that is on the left side of the gray matte chopper?", "road bike"),
    ("What color is the metallic bus?", "cyan"),
]


@pytest.fixture
def folder(tmp_path):
    """A small folder in Super-CLEVR's form."""
    (tmp_path / "images").mkdir()
    (tmp_path / "scenes").mkdir()
    tiny.image(0).save(tmp_path / "images/superCLEVR_new_000000.png")
    write(tmp_path, [row(number, *asked) for number, asked in enumerate(ASKED)])
    return tmp_path


def row(number, question, answer, **changed):
    name = {"image_filename": "superCLEVR_new_000000.png", "question_index": number}
    return {"question": question, "answer": answer} | name | changed


def write(folder, rows):
    (folder / "questions.json").write_text(json.dumps({"info": {}, "questions": rows}))


def test_answers_of_three_types(folder):
    found = clevr.load(folder)
    assert [example.answer for example in found] == ["3", "no", "yes", "road bike", "cyan"]
    families = ["count", "exist", "compare_attribute", "query_shape", "query_color"]
    assert [example.task for example in found] == families
    assert [example.id for example in found] == [f"superclevr-{number}" for number in range(5)]
    assert found[0].open_images()[0].size == tiny.image(0).size
    assert len(clevr.load(folder, limit=2)) == 2


@pytest.mark.parametrize("rule", ["strict", "official", "paper"])
def test_the_right_answers_are_read_as_right_and_others_as_wrong(folder, rule):
    rule = SUPERCLEVR.rules[rule]
    for example, wrong in zip(clevr.load(folder), ("4", "yes", "no", "jet", "red"), strict=True):
        gold = rule.gold(example)
        assert to_record(example, [example.answer], rule, gold)["correct"]
        assert not to_record(example, [wrong], rule, gold)["correct"]


@pytest.mark.parametrize("rule", ["strict", "official", "paper"])
@pytest.mark.parametrize("count", ["Y", "(Q)", "9" * 5000, "<answer>-" + "9" * 5000, "\ud800", ""])
def test_a_letter_for_a_count_is_wrong(folder, count, rule):
    predictions = folder / "predictions.json"
    predictions.write_text(
        json.dumps([{"prediction": text} for text in (count, "no", "yes", "road bike", "cyan")])
    )
    summary = score_file.score(score_file.Args("superclevr", str(predictions), str(folder), rule))
    assert (summary["tasks"]["count"]["accuracy"], summary["aggregates"]["micro"]["value"]) == (0, 4 / 5)
    assert rule == "paper" or summary["aggregates"]["close_call"]["value"] == 0


def test_a_vehicle_is_read_out_of_a_sentence(folder):
    example = clevr.load(folder)[3]
    strict = SUPERCLEVR.rules["strict"]
    assert strict.parse("It is a road bike.", example) == "road bike"
    assert strict.parse("It is a mountain bike.", example) == "mountain bike"
    assert strict.parse("It is a cube.", example) is None


EDGES = {"train": (0, 19_999), "val": (20_000, 24_999), "test": (25_000, 29_999)}  # first, last image


def of_image(number, id):
    return row(id, *ASKED[id % 5], image_filename=f"superCLEVR_new_{number:06}.png")


@pytest.fixture
def whole(folder):
    """Questions about the first and the last image of every split, out of order, all images there."""
    numbers = [29_999, 0, 20_000, 25_000, 24_999, 19_999]
    write(folder, [of_image(number, id) for id, number in enumerate(numbers)])
    for number in numbers:
        tiny.image(0).save(folder / f"images/superCLEVR_new_{number:06}.png")
    return folder


@pytest.mark.parametrize("split", [None, "train", "val", "test"])
def test_the_official_splits(whole, split, capsys):
    found = clevr.load(whole, split)
    images = [f"superCLEVR_new_{number:06}.png" for number in EDGES[split or "test"]]
    assert sorted(example.images[0].name for example in found) == images
    ids = {"train": [1, 5], "val": [2, 4], "test": [0, 3]}[split or "test"]
    assert [example.id for example in found] == [f"superclevr-{id}" for id in ids]
    assert len(clevr.load(whole, split, limit=1)) == 1
    assert capsys.readouterr().err == ""


def test_a_file_of_one_split_needs_no_name_of_it(folder):
    assert [*clevr.load(folder)] == [*clevr.load(folder, "train")]
    with pytest.raises(UserError, match="no question about an image of split 'val', only of: train"):
        clevr.load(folder, "val")
    with pytest.raises(UserError, match="split 'valid', only of: train"):
        clevr.load(folder, "valid")
    write(folder, [of_image(30_000, 0)])
    with pytest.raises(UserError, match="split 'test', only of: none .no number from 0 to 29,999"):
        clevr.load(folder, "test")


def test_a_folder_with_some_of_the_images_says_so(whole, capsys):
    (whole / "images/superCLEVR_new_029999.png").unlink()
    assert [example.id for example in clevr.load(whole, "test")] == ["superclevr-3"]
    line = f"{whole} holds only some images of split 'test': 1 of its 2 questions are taken\n"
    assert capsys.readouterr().err == line
    (whole / "images/superCLEVR_new_025000.png").unlink()
    with pytest.raises(UserError, match="none of the 2 questions of split 'test' .* add them, or give anoth"):
        clevr.load(whole)
    assert len(clevr.load(whole, "val")) == 2


def test_which_benchmark_a_place_holds(folder, tmp_path):
    assert benchmark(str(folder)) is SUPERCLEVR and SUPERCLEVR.title == "Super-CLEVR"
    assert benchmark("MMInstruction/SuperClevr_Val") is SUPERCLEVR
    assert benchmark("MMInstruction/Clevr_CoGenT_ValA") is BENCHMARK and benchmark("embedded") is BENCHMARK


@pytest.mark.parametrize(
    "answer", [None, "", "  ", 3.5, float("nan"), -1, 11, "11", "-1", "3.5", ["3"], {"a": 1}, "<b>"]
)
def test_an_answer_that_cannot_be_is_named(folder, answer):
    write(folder, [row(0, *ASKED[0]), row(1, ASKED[1][0], answer)])
    with pytest.raises(UserError, match="questions.json row 1.*answer") as caught:
        clevr.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["question", "image_filename"])
@pytest.mark.parametrize("value", [None, "", " ", 7])
def test_a_field_that_is_no_text_is_named(folder, name, value):
    write(folder, [row(0, *ASKED[0]) | {name: value}])
    with pytest.raises(UserError, match=f"questions.json row 0.*'{name}'"):
        clevr.load(folder)


@pytest.mark.parametrize("content", ["{broken", "[]", "{}", '{"questions": []}', '{"questions": {"a": 1}}'])
def test_a_file_without_questions_is_named(folder, content):
    (folder / "questions.json").write_text(content)
    with pytest.raises(UserError, match="questions.json"):
        clevr.load(folder)


def test_a_row_that_is_no_record(folder):
    write(folder, [3])
    with pytest.raises(UserError, match="questions.json row 0 has no .image_filename."):
        clevr.load(folder)


def test_a_folder_of_another_form(tmp_path):
    with pytest.raises(UserError, match="holds no .parquet, .jsonl, .json file"):
        clevr.load(tmp_path)


def test_a_word_that_answers_nothing_is_refused_before_the_scores(folder):
    write(folder, [row(0, ASKED[3][0], "nan")])
    settings = Settings(SUPERCLEVR.rules["strict"])
    with pytest.raises(UserError, match="'superclevr-0': gold answer 'nan' cannot be parsed"):
        gold_answers(clevr.load(folder), settings, None)


def test_the_published_sample(real_data):
    found = clevr.load(real_data / "superclevr")
    assert len(found) == 238
    assert Counter(example.answer for example in found).most_common(3) == [("no", 84), ("yes", 74), ("0", 18)]
    assert "other" not in {example.task for example in found}
    strict = SUPERCLEVR.rules["strict"]
    for example in found:
        assert strict.parse(f"The answer is {example.answer}.", example) == strict.gold(example) is not None
    assert all(example.images[0].is_file() for example in found)


# ---- the hub's form


def hub(folder, solutions, name="MMInstruction_SuperClevr_Val.parquet", **columns):
    tiny.image(1).save(folder / "one.png")
    picture = (folder / "one.png").read_bytes()
    content = {
        "image": [{"bytes": picture, "path": None}] * len(solutions),
        "problem": ["How many different items are there in the image?"] * len(solutions),
        "solution": solutions,
    }
    datasets.Dataset.from_dict(content | columns).to_parquet(folder / name)
    return folder / name


def test_rows_of_the_hub(tmp_path):
    file = hub(tmp_path, ["<answer> 3 </answer>", "<answer> yes </answer>", "<answer>No</answer>"])
    found = clevr.load(file)
    assert [(example.id, example.answer) for example in found] == [
        ("superclevr-train-0", "3"),
        ("superclevr-train-1", "yes"),
        ("superclevr-train-2", "no"),
    ]
    assert found[0].open_images()[0].size == tiny.image(1).size
    assert len(clevr.load(file, limit=1)) == 1
    other = hub(tmp_path, ["<answer> 3 </answer>"], "Clevr_CoGenT_ValA.parquet")
    assert clevr.load(other)[0].id == "clevr-train-0"


@pytest.mark.parametrize(
    "solution",
    [
        "<think>It is <answer>9</answer></think><answer>3</answer>",
        "<THINK>Is it <answer> yes </answer>?</THINK>\n<ANSWER> 3 </ANSWER>",
        "It is <answer>9</answer>, no, wait:</think><Answer>3</Answer>",
        "<answer>7</answer> or rather <answer>3</answer>",
    ],
)
def test_the_last_answer_after_the_thoughts_is_a_rows_own(tmp_path, solution):
    (found,) = clevr.load(hub(tmp_path, [solution]))
    assert found.answer == "3"


@pytest.mark.parametrize(
    "solution",
    [
        *(None, "", "3", "<answer></answer>", "<answer> 3.5 </answer>", "<answer>12</answer>"),
        *("<answer>3", "<think>It is <answer>9</answer>", "<think><answer>9</answer></think> 3"),
    ],
)
def test_a_solution_that_cannot_be_is_named(tmp_path, solution):
    with pytest.raises(UserError, match="row 1.*(answer|solution)"):
        clevr.load(hub(tmp_path, ["<answer> 3 </answer>", solution]))


def test_a_picture_that_is_none_is_named(tmp_path):
    file = hub(tmp_path, ["<answer> 3 </answer>"] * 2, image=[{"bytes": b"no", "path": None}] * 2)
    with pytest.raises(UserError, match="row 0: the image cannot be read"):
        clevr.load(file)
    cut = (tmp_path / "one.png").read_bytes()[:-400]
    with pytest.raises(UserError, match="row 0: the image cannot be read"):
        clevr.load(hub(tmp_path, ["<answer> 3 </answer>"], image=[{"bytes": cut, "path": None}]))


def test_no_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no row"):
        clevr.load(tmp_path / "rows.jsonl")
