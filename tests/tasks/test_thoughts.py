"""CLEVR's questions with thoughts: every spelling of the columns, one target; what is missing is named."""

from __future__ import annotations

import io
import json

import datasets
import hub_rows
import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, STRICT_FREE
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.tasks.clevr import thoughts
from spatialvlm.training import sft

QUESTION = "How many cubes are there?"
TARGET = "<think>One is red. One is blue.</think><answer>2</answer>"
THOUGHTS = "One is red. One is blue."


def picture() -> dict:
    tiny.image(1).save(buffer := io.BytesIO(), "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def file(folder, *rows: dict):
    datasets.Dataset.from_list([*rows]).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def row(**changed) -> dict:
    plain = {
        "image": picture(),
        "problem": QUESTION,
        "thinking": THOUGHTS,
        "solution": "<answer> 2 </answer>",
    }
    return {name: value for name, value in (plain | changed).items() if value is not None}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"solution": None, "answer": "2"},
        {"solution": None, "answer": 2},
        {"solution": "2 "},
        {"solution": "<think>Others.</think> 2", "answer": "2"},
        {"solution": "<think>Is it <answer>9</answer>?</think> 2"},
        {"solution": "<think>Is it <answer>9</answer>?</think><ANSWER>2</ANSWER>"},
        {"problem": None, "question": f"<image>{QUESTION}"},
        {"thinking": None, "reasoning": f"<think> {THOUGHTS}</think>"},
        {"thinking": None, "thoughts": f"<think>\n{THOUGHTS}\n</think>\n<answer>2</answer>"},
        {"thinking": None, "solution": f"<think>{THOUGHTS}</think> <answer> 2 </answer>"},
        {"thinking": None, "solution": f"<think>{THOUGHTS}</think>\n\n2"},
        {"thinking": "", "solution": f"<think>{THOUGHTS}</think><answer>2</answer>"},
        {"image": None, "images": [picture()]},
    ],
)
def test_every_spelling_of_the_columns_gives_one_target(tmp_path, changed):
    path = file(tmp_path, row(**changed))
    assert thoughts.lie_at(str(path))
    (found,) = thoughts.load(path)
    assert (found.question, found.answer, found.task) == (QUESTION, TARGET, "count")
    assert found.prompt.startswith(f"{QUESTION} ") and "<think> </think>" in found.prompt
    assert found.prompt.endswith("in <answer> </answer>.")
    assert found.open_images()[0].size == tiny.image(1).size


@pytest.mark.parametrize(
    "answer, expected", [(True, "yes"), (False, "no"), (0, "0"), (3.0, "3"), ("No", "No")]
)
def test_answers_of_other_types(tmp_path, answer, expected):
    (found,) = thoughts.load(file(tmp_path, row(answer=answer, solution=None)))
    assert found.answer == f"<think>{THOUGHTS}</think><answer>{expected}</answer>"


def test_the_target_is_read_as_its_answer_whatever_the_thoughts_say():
    choices = ("1", "2", "3")
    lettered = Example("1", (tiny.image(0),), QUESTION, "(B)", "Count", choices=choices)
    for said in ("(A) is too few.", "Not 3, so B?", "Is it A or C?"):
        text = f"<think>{said}</think><answer>(B)</answer>"
        assert STRICT_CHOICE.parse(text, lettered) == STRICT_CHOICE.gold(lettered)
    free = Example("1", (tiny.image(0),), QUESTION, "2", "count", meta={"vocabulary": choices})
    assert STRICT_FREE.parse("<think>1 and 1, or 3?</think><answer>2</answer>", free) == STRICT_FREE.gold(
        free
    )


def test_rows_of_the_hub(hub):
    rows = [row(problem=f"{number}. {QUESTION}") for number in range(3)]
    hub.add(thoughts.HUB_ID, {"data/train-00000-of-00001.parquet": hub_rows.as_parquet(rows)})
    assert thoughts.lie_at(thoughts.HUB_ID)
    assert [example.question[0] for example in thoughts.load(limit=2)] == ["0", "1"]


def test_missing_columns_are_named_beside_those_there(tmp_path):
    path = file(tmp_path, {"image": picture(), "conversations": "x", "solution": "<answer> 2 </answer>"})
    message = (
        "row 0 has no 'problem' or 'question', no 'thinking' or 'reasoning' or 'thoughts', which questions "
        "with thoughts have; its columns are image, conversations, solution: "
    )
    with pytest.raises(UserError, match=message):
        thoughts.load(path)
    (tmp_path / "empty.jsonl").write_text("")
    assert not thoughts.lie_at(str(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match="holds no row"):
        thoughts.load(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"thinking": " "}, "no thoughts"),
        ({"solution": "<answer></answer>"}, "no answer"),
        ({"solution": "<think>It never ends"}, "no answer"),
        ({"problem": "<image> "}, "'question' is no text"),
        ({"image": {"bytes": b"none", "path": None}}, "broken image"),
        ({"image": {"bytes": None, "path": "gone.png"}}, "no image"),
    ],
)
def test_rows_that_cannot_be_used_are_left_out_and_counted(tmp_path, capsys, changed, reason):
    rows = [row()] * 120
    rows[7] = row(**changed)
    found = thoughts.load(file(tmp_path, *rows))
    assert len(found) == 119 and found.facts == {"excluded": {reason: 1}}
    assert "clevr-thoughts-train-7" not in {example.id for example in found}
    assert f"1 of 120 rows cannot be used and are left out ({reason} 1)" in capsys.readouterr().err
    rows[9] = rows[7]
    with pytest.raises(UserError, match="2 of the .* rows .* cannot be used"):
        thoughts.load(file(tmp_path, *rows))
    assert len(thoughts.load(file(tmp_path, *rows), limit=7)) == 7


@pytest.mark.parametrize("column", ["image_bytes", "answers", "correct_answer"])
def test_rows_of_sat_are_no_such_rows(tmp_path, column):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": QUESTION, column: "x"}))
    assert not thoughts.lie_at(str(tmp_path / "rows.jsonl")) and not thoughts.lie_at("embedded")


def test_only_thoughts_and_answer_are_learnt(tmp_path):
    """By the labels of the batch that a step learns, with the embedded model's own tokens."""
    examples = thoughts.load(file(tmp_path, row(), row(thinking="Two.", problem="Is there a red cube?")))
    _, processor = loading.load(loading.ModelArgs(profile="embedded"))
    inputs = sft.encode(processor, examples)
    for example, ids, labels in zip(examples, inputs["input_ids"], inputs["labels"], strict=True):
        learnt = labels != -100
        target = processor.tokenizer(example.answer + "<eos>", add_special_tokens=False)["input_ids"]
        assert labels[learnt].tolist() == ids[learnt].tolist() == target
        assert learnt.nonzero().min() == len(ids) - len(target)  # nothing of the prompt, all of the end
