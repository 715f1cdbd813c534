"""SAT as an evaluation: every order of the choices, totals, the authors' reader, rows that are not whole."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest
import tiny
from pyarrow import Table, parquet

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.example import Example
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.sat.scoring import BENCHMARK, aggregate


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    tiny.image(seed).save(buffer, "PNG")
    return buffer.getvalue()


def row(images: int = 1, **changed) -> dict:
    return {
        "image_bytes": [png(number) for number in range(images)],
        "question": "Where is the chair?",
        "answers": ["to the left, near the wall", "to the right", "behind me"],
        "question_type": "perspective",
        "correct_answer": "to the left, near the wall",
    } | changed


def as_parquet(folder, listed, name="SAT_test.parquet"):
    parquet.write_table(Table.from_pylist(listed), folder / name)
    return folder / name


def real_rows(real_data) -> list[dict]:
    """The real test's questions with the hub's columns, and made images."""
    listed = []
    for number, item in enumerate(json.loads((real_data / "sat/sat_test_text.json").read_text())):
        right = item["correct_answer"]
        listed.append(
            {
                "image_bytes": [png(number + part) for part in range(len(item["img_paths"]))],
                "question": item["question"],
                "answers": [right, *(choice for choice in item["answer_choices"] if choice != right)],
                "question_type": item["question_type"],
                "correct_answer": right,
            }
        )
    return listed


# ---- questions in every order


@pytest.mark.parametrize("form", ["natural", "letter"])
def test_the_real_test_is_asked_in_both_orders(real_data, tmp_path, form):
    found = sat.load_test(as_parquet(tmp_path, real_rows(real_data)), answer_form=form)
    assert len(found) == 300 and len({example.id for example in found}) == 300
    assert Counter(len(example.images) for example in found) == {1: 208, 2: 92}
    assert Counter(example.task for example in found) == {
        "action_conseq": 74,
        "goal_aim": 68,
        "perspective": 66,
        "obj_movement": 46,
        "ego_movement": 46,
    }
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert (one.id[:-2], one.id[-2:], other.id) == (other.id[:-2], "/0", f"{one.id[:-2]}/1")
        assert one.choices == other.choices[::-1] and one.prompt != other.prompt
        assert one.question == other.question and sat.right_choice(one) == sat.right_choice(other)
        assert {BENCHMARK.rules["strict"].gold(one), BENCHMARK.rules["strict"].gold(other)} == {"A", "B"}
        assert (one.answer == other.answer) == (form == "natural")
    for rule in BENCHMARK.rules.values():  # every gold answer, said, is right
        for example in found:
            assert rule.score_of(rule.parse(example.answer, example), rule.gold(example)) == 1, example


def test_choices_with_commas_stay_whole(tmp_path):
    found = sat.load_test(as_parquet(tmp_path, [row(2), row(answers=["a, b", "b"], correct_answer="a, b")]))
    assert [len(example.choices) for example in found] == [3, 3, 3, 2, 2]
    assert {example.choices.index("to the left, near the wall") for example in found[:3]} == {0, 1, 2}
    assert found[3].choices == found[4].choices[::-1]
    assert all(
        f"options: {example.choices[0]}, {example.choices[1]} or" in example.prompt for example in found[:3]
    )
    assert [len(example.open_images()) for example in found] == [2, 2, 2, 1, 1]


def test_what_is_asked_once(tmp_path):
    file = as_parquet(tmp_path, [row(), row(2), row()])
    assert [example.id for example in sat.load_test(file, "val")] == ["sat-val-0", "sat-val-1", "sat-val-2"]
    assert len(sat.load_test(file, "static", max_images=1)) == 2
    assert len(sat.load_test(file, "test", circular=False)) == 3
    assert len(sat.load_test(file, "val", circular=True, limit=2)) == 6
    assert [example.id for example in BENCHMARK.load(str(file), limit=1)] == [
        f"sat-test-0/{n}" for n in range(3)
    ]


@pytest.mark.parametrize("form", ["natural", "letter"])
def test_rendered_questions_in_every_order(form):
    found = sat.load_test("embedded", limit=4, answer_form=form)
    by_question = metrics.group([{"id": e.id.split("/")[0], "example": e} for e in found], "id")
    assert len(by_question) == 4
    for orders in by_question.values():
        places = [BENCHMARK.rules["strict"].gold(each["example"]) for each in orders]
        assert sorted(places) == list("ABCD"[: len(orders)]) and len(orders) == len(
            orders[0]["example"].choices
        )


# ---- rows that are not whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " "}, "row 1: 'question' must be a text"),
        ({"question_type": None}, "row 1 has no 'question_type'"),
        ({"correct_answer": None}, "row 1 has no 'correct_answer'"),
        ({"correct_answer": "to the right"}, "row 1: 'correct_answer' 'to the right' is not the first of"),
        ({"answers": ["x", ""], "correct_answer": "x"}, "row 1: 'answers' must be a text, not ''"),
        ({"answers": ["x", "x"], "correct_answer": "x"}, "row 1: 'answers' has 1 different choices"),
        ({"answers": list("abcdefghi"), "correct_answer": "a"}, "row 1: 'answers' has 9 different choices"),
        ({"image_bytes": []}, "row 1 has no 'image_bytes'"),
        ({"image_bytes": [png(), b"none"]}, "row 1 image 1: the image cannot be read"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        sat.load_test(as_parquet(tmp_path, [row(), row() | changes]))
    assert "SAT_test.parquet" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"question": 7}, {"question_type": float("nan")}, {"answers": "yes, no"}, {"answers": ["x", 3]}],
)
def test_a_field_of_another_type_is_named(tmp_path, changes):
    (tmp_path / "a.png").write_bytes(png())
    content = row() | {"image_bytes": "a.png"} | changes
    (tmp_path / "rows.json").write_text(json.dumps([row(image_bytes="a.png"), content]))
    with pytest.raises(UserError, match="rows.json row 1"):
        sat.load_test(tmp_path / "rows.json")


def test_a_missing_column_and_a_truncated_image_are_named(tmp_path):
    without = {name: value for name, value in row().items() if name != "correct_answer"}
    with pytest.raises(UserError, match="row 0 has no 'correct_answer'"):
        sat.load_test(as_parquet(tmp_path, [without]))
    with pytest.raises(UserError, match="row 0 image 0: the image cannot be read"):
        sat.load_test(as_parquet(tmp_path, [row(image_bytes=[png()[:-400]])]))


def test_a_choice_listed_twice_is_shown_once(tmp_path):
    (found,) = sat.load_test(as_parquet(tmp_path, [row(answers=["x", "y", "y"], correct_answer="x")]), "val")
    assert sorted(found.choices) == ["x", "y"]


# ---- totals


def records(*marks: str) -> list[dict]:
    """Questions of two tasks in turn, each with its orders: "10" is right in the first alone."""
    return [
        {"id": f"{number}/{turn}", "cluster": f"{number}", "task": "ab"[number % 2], "correct": mark == "1"}
        for number, orders in enumerate(marks)
        for turn, mark in enumerate(orders)
    ]


def test_official_is_the_mean_over_all_items():
    totals = aggregate(records("11", "10", "01", "00", "11"))
    assert totals["official"].value == pytest.approx(6 / 10)
    assert totals["both_orders"].value == pytest.approx(2 / 5)
    assert totals["mean_of_tasks"].value == pytest.approx((5 / 6 + 1 / 4) / 2)
    assert set(totals) == {"official", "mean_of_tasks", "both_orders"}


def test_answers_to_one_question_go_together():
    together = aggregate(records(*["11", "00"] * 50))["official"]
    assert together.interval == pytest.approx(metrics.proportion(50, 100).interval)
    apart = aggregate(records(*["10", "01"] * 50))["official"]  # one letter always: surely half
    assert together.value == apart.value == 0.5
    assert apart.interval == pytest.approx(metrics.proportion(100, 200).interval)


def test_questions_of_more_choices_count_with_all_their_orders():
    totals = aggregate(records("11", "100", "1110"))
    assert totals["official"].value == pytest.approx(6 / 9)
    assert totals["all_orders"].value == pytest.approx(1 / 3) and "both_orders" not in totals


def test_sampled_answers_have_the_same_totals():
    made = [
        record | {"num_samples": 4, "num_correct": 2 * record["correct"]}
        for record in records("11", "10", "00")
    ]
    first = aggregate(metrics.scored(made, 1))
    assert first["official"].value == pytest.approx(0.25)
    assert first["both_orders"].value == pytest.approx((0.5 + 0 + 0) / 3)
    assert aggregate(made)["official"].value == pytest.approx(0.5)  # any of the four


def test_questions_asked_once_have_no_official_total():
    made = [{**record} for record in records("11", "10")]
    for record in made:
        del record["cluster"]
    assert set(aggregate(made)) == {"micro", "mean_of_tasks"}


# ---- the authors' reader


@pytest.mark.parametrize(
    ("text", "prompt", "gold", "read"),
    [
        ("left", "Which way?", "left", "left"),
        ("Left.", "Which way?", "left", "left."),  # the full stop stays
        ("The answer is left", "Which way?", "left", "the answer is left"),
        ("", "Which way?", "left", None),
        ("ight", "Which way?", "right", "right"),
        ("night stand", "What?", "night stand", "nnight stand"),  # as their replacement leaves it
        ("left ### Human: more", "Which way?", "left", "left"),
        ("###Assistant: left###Human: no", "Which way?", "left", "left"),
        ("well###Assistant: yes###", "Will I?", "yes", "yes"),  # for yes and no alone
        ("well###Assistant: left###", "Which way?", "left", "well"),
        ("The red chair is closer to me", "Which object is closer to me?", "chair", "chair"),
        ("The camera is moving clockwise", "Is the camera moving left or right?", "left", "left"),
        ("It is moving", "Is the camera moving left or right?", "left", None),  # their code stops here
        (
            "It is located to the left of the right chair",
            "Considering the relative positions, where?",
            "left",
            "right",
        ),
        ("1. left", "Which way?", "left", "left"),
        ("It is located above", "Where?", "above", "above"),
        ("answer: left side", "Which way?", "left", "left"),
        ("chair (highlighted by a red box)", "What?", "chair", "chair"),
    ],
)
def test_official_reads_as_the_authors_do(text, prompt, gold, read):
    item = Example("a", (tiny.image(0),), prompt, gold, "perspective", (gold, "nothing"))
    assert BENCHMARK.rules["official"].parse(text, item) == read
    assert BENCHMARK.rules["official"].gold(item) == gold


def test_strict_reads_text_and_letter_alike():
    item = Example(
        "a", (tiny.image(0),), "Which way?", "left, then up", "goal_aim", ("right", "left, then up")
    )
    strict = BENCHMARK.rules["strict"]
    for text in ("left, then up", "B", "(B)", "The answer is B.", "Left, then up."):
        assert strict.parse(text, item) == strict.gold(item) == "B"
    assert strict.parse("", item) is None and strict.parse("A or B", item) is None
