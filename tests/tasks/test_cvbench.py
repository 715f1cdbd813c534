"""CV-Bench's rows from every place they may lie in, its totals, and its twin of turned polarity."""

import io
import json
from dataclasses import replace

import datasets
import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.example import Example
from spatialvlm.parsing import answers
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench.scoring import aggregate


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    tiny.image(seed).save(buffer, "PNG")
    return buffer.getvalue()


def row(idx: int, task: str = "Count", source: str = "COCO", **changed) -> dict:
    """A row with the hub's columns and wording."""
    question, choices, answer = {
        "Count": ("How many chairs are in the image?", ["2", "0", "1", "3"], "(C)"),
        "Relation": ("Where is the lamp located with respect to the bed?", ["left", "right"], "(A)"),
        "Depth": (
            "Which object is closer to the camera taking this photo, the bed or the lamp?",
            ["bed", "lamp"],
            "(B)",
        ),
        "Distance": ("Which object is closer to the sink, the bed or the lamp?", ["bed", "lamp"], "(A)"),
    }[task]
    lettered = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", choices, strict=False))
    return {
        "idx": idx,
        "type": "2D" if task in ("Count", "Relation") else "3D",
        "task": task,
        "image": {"bytes": png(idx), "path": None},
        "question": question,
        "choices": choices,
        "answer": answer,
        "prompt": f"{question} Select from the following choices.\n{lettered}",
        "source": source,
    } | changed


def rows() -> list[dict]:
    return [
        row(0, "Count", "ADE20K"),
        row(1, "Count"),
        row(2, "Relation"),
        row(3, "Depth", "Omni3D"),
        row(4, "Distance", "Omni3D"),
    ]


def as_parquet(folder, data):
    datasets.Dataset.from_list(data).to_parquet(folder / "test.parquet")
    return folder / "test.parquet"


def as_folder(folder, data):
    datasets.Dataset.from_list(data[:3]).to_parquet(folder / "test_2d.parquet")
    datasets.Dataset.from_list(data[3:]).to_parquet(folder / "test_3d.parquet")
    (folder / "train.jsonl").write_text("not for us")
    return folder


def as_jsonl(folder, data):
    """Images as files beside the rows."""
    for each in data:
        (folder / f"{each['idx']}.png").write_bytes(each["image"]["bytes"])
    lines = [json.dumps(each | {"image": f"{each['idx']}.png"}) for each in data]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def as_saved(folder, data):
    table = datasets.Dataset.from_list(data).cast_column("image", datasets.Image())
    datasets.DatasetDict({"test": table}).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize("written", [as_parquet, as_folder, as_jsonl, as_saved])
def test_the_same_examples_from_every_place(tmp_path, written):
    examples = cvbench.load(written(tmp_path, rows()))
    assert [example.task for example in examples] == ["Count", "Count", "Relation", "Depth", "Distance"]
    for number, (example, original) in enumerate(zip(examples, rows(), strict=True)):
        assert example.id == f"cvbench-{number}"
        assert (example.prompt, example.answer) == (original["prompt"], original["answer"])
        assert example.choices == tuple(original["choices"]) and example.meta["source"] == original["source"]
        assert example.open_images()[0].tobytes() == tiny.image(number).tobytes()


def test_every_gold_answer_reads_as_its_letter(tmp_path):
    for example in cvbench.load(as_parquet(tmp_path, rows())):
        assert f"({answers.choice(example.answer, example.choices)})" == example.answer


def test_limit_keeps_every_task_and_tasks_picks_some(tmp_path):
    data = [row(number, task) for number, task in enumerate(["Count"] * 6 + ["Depth"] * 4 + ["Distance"] * 2)]
    path = as_parquet(tmp_path, data)
    assert [example.task for example in cvbench.load(path, limit=4)] == ["Count", "Count", "Depth", "Depth"]
    assert len(cvbench.load(path, limit=5)) == 5 and len(cvbench.load(path, limit=100)) == 12
    assert {example.task for example in cvbench.load(path, limit=6)} == {"Count", "Depth", "Distance"}
    assert [example.id for example in cvbench.load(path, tasks=["Distance"])] == ["cvbench-10", "cvbench-11"]


def test_a_row_that_is_not_whole_is_named(tmp_path):
    for number, (change, message) in enumerate(
        [
            ({"answer": None}, r"row 1 has no 'answer'"),
            ({"answer": "(E)"}, r"row 1: 'answer' '\(E\)' is not the letter of one of its 4 choices"),
            ({"prompt": ""}, r"row 1 has no 'prompt'"),
            ({"choices": ["3"]}, r"row 1: .* its 1 choices"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(UserError, match=message):
            cvbench.load(as_parquet(folder, [row(0), row(1, **change)]))


def test_a_missing_column_is_named(tmp_path):
    data = [{name: value for name, value in row(0).items() if name != "choices"}]
    with pytest.raises(UserError, match="no column 'choices'"):
        cvbench.load(as_parquet(tmp_path, data))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda folder: cvbench.load(folder / "gone"), "gone"),
        (lambda folder: cvbench.load(folder, tasks=["Counting"]), "not Counting"),
        (lambda folder: cvbench.load(folder, limit=0), "--limit must be at least 1"),
        (lambda folder: cvbench.load("embedded", split="dev"), "splits train, validation, test"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, call, message):
    with pytest.raises(UserError, match=message):
        call(tmp_path)


def test_a_saved_data_set_without_the_split(tmp_path):
    with pytest.raises(UserError, match="no split 'val', but test"):
        cvbench.load(as_saved(tmp_path, rows()), split="val")


def test_embedded_questions_have_the_same_form():
    examples = cvbench.load("embedded", limit=8)
    assert [example.task for example in examples] == ["Count", "Relation", "Depth", "Distance"] * 2
    for example in examples:
        assert "Select from the following choices.\n(A) " in example.prompt
        assert answers.choice(example.answer, example.choices) is not None


def test_flip_polarity_turns_depth_and_distance_alone(tmp_path):
    examples = cvbench.load(as_parquet(tmp_path, rows()))
    flipped = cvbench.flip_polarity(examples)
    for before, after in zip(examples, flipped, strict=True):
        assert (after.id, after.choices, after.meta) == (before.id, before.choices, before.meta)
        if before.task in ("Count", "Relation"):
            assert (after.prompt, after.answer) == (before.prompt, before.answer)
        else:
            assert after.prompt == before.prompt.replace(
                "Which object is closer to", "Which object is far away from"
            )
            assert "closer" not in after.question and {before.answer, after.answer} == {"(A)", "(B)"}


def test_flip_polarity_refuses_what_it_cannot_turn():
    good = Example("x", (tiny.image(0),), "Which object is closer to me?", "(A)", "Depth", ("bed", "lamp"))
    with pytest.raises(UserError, match="no two choices"):
        cvbench.flip_polarity([replace(good, choices=("bed", "lamp", "door"))])[0]
    with pytest.raises(UserError, match="'x': no 'Which object is closer to'"):
        cvbench.flip_polarity([replace(good, question="Which is nearer?", prompt="Which is nearer?")])[0]


def records(task, source, marks):
    return [{"task": task, "source": source, "correct": mark == "1"} for mark in marks]


def test_official_total_by_hand():
    made = (
        records("Count", "ADE20K", "1110")  # ADE20K: 4 of 6
        + records("Relation", "ADE20K", "10")
        + records("Count", "COCO", "1")  # COCO: 1 of 2
        + records("Relation", "COCO", "0")
        + records("Depth", "Omni3D", "11")  # Omni3D: 4 of 4
        + records("Distance", "Omni3D", "11")
    )
    totals = aggregate(made)
    assert totals["official"].value == pytest.approx(0.5 * ((4 / 6 + 1 / 2) / 2 + 4 / 4))
    assert totals["mean_of_tasks"].value == pytest.approx((4 / 5 + 1 / 3 + 1 + 1) / 4)
    assert totals["micro"].value == pytest.approx(9 / 12)
    assert len({round(total.value, 3) for total in totals.values()}) == 3, "no two totals are equal by chance"
    low, high = totals["official"].interval
    assert low < totals["official"].value < high and high - low > 0.3


def test_scenes_without_a_source_are_one_source_a_half():
    made = records("Count", None, "10") + records("Relation", None, "11") + records("Depth", None, "100000")
    for record in made:
        del record["source"]
    totals = aggregate(made)
    assert totals["official"].value == pytest.approx(0.5 * (3 / 4 + 1 / 6))
    assert totals["micro"].value == pytest.approx(4 / 10)


def test_no_official_total_of_one_half():
    assert set(aggregate(records("Depth", "Omni3D", "10"))) == {"mean_of_tasks", "micro"}


def test_official_interval_is_as_wide_as_its_questions_allow():
    made = records("Count", "ADE20K", "10" * 50) + records("Count", "COCO", "10" * 50)
    made += records("Depth", "Omni3D", "10" * 100)
    # variance / 0.25: (1/4)^2 / 100 twice and (1/2)^2 / 200, which is 1 / 400
    expected = metrics.proportion(200, 400).interval
    assert aggregate(made)["official"].interval == pytest.approx(expected, abs=2e-3)
