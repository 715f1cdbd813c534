"""`tasks.score_file`: predictions of any model, joined to their questions, scored by a named rule."""

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from test_cvbench import as_parquet, row

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.tasks import predictions, score_file


@pytest.fixture
def data(tmp_path):
    """Four Count questions of COCO, whose answer is (C), and four of Depth, whose answer is (A)."""
    rows = [row(n) for n in range(4)] + [row(n, "Depth", "Omni3D", answer="(A)") for n in range(4, 8)]
    return as_parquet(tmp_path, rows)


def written(folder, rows, name="predictions.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def scored(data, predictions, *flags, capsys):
    argv = ["--benchmark", "cvbench", "--data", data, "--predictions", predictions, *flags]
    cli.run(score_file.main, score_file.Args, list(map(str, argv)))
    return json.loads(capsys.readouterr().out)


SAID = ["C", "(C)", "The answer is C.", "B", "A", "(a)", "Answer: A", "neither"]


@pytest.mark.parametrize(
    "id_of",
    [lambda n: n, lambda n: f"cvbench-{n}", str, None],
    ids=["number", "ours", "text", "none"],
)
def test_rows_are_joined_by_either_id_or_by_order(id_of, data, tmp_path, capsys):
    rows = [{"prediction": text} | ({"id": id_of(n)} if id_of else {}) for n, text in enumerate(SAID)]
    if id_of:
        rows.reverse()
    summary = scored(data, written(tmp_path, rows), capsys=capsys)
    assert summary["n"] == 8 and summary["unread"] == 1
    assert summary["tasks"]["Count"]["accuracy"] == summary["tasks"]["Depth"]["accuracy"] == 3 / 4
    assert summary["aggregates"]["official"]["value"] == pytest.approx(0.75)
    assert summary["rule"].startswith("strict: ") and {"chance", "seconds", "peak_memory_bytes"} <= set(
        summary
    )


def test_each_rule_reads_as_it_says(data, tmp_path, capsys):
    path = written(tmp_path, [{"prediction": text} for text in SAID])
    right = {}
    for rule in ("strict", "official", "paper"):
        summary = scored(data, path, "--rule", rule, capsys=capsys)
        right[rule] = 8 * summary["aggregates"]["micro"]["value"]
        assert summary["rule"].startswith(f"{rule}: ")
    # official reads T of "The answer is C." and A of "Answer: A"; paper takes the last line as it stands
    assert right == {"strict": 6, "official": 5, "paper": 4}


def test_our_own_run_folders_and_other_fields_and_files(data, tmp_path, capsys):
    ours = written(tmp_path, [{"id": f"cvbench-{n}", "completions": [t, "C"]} for n, t in enumerate(SAID)])
    summary = scored(data, ours, capsys=capsys)
    assert summary["num_samples"] == 2 and summary["tasks"]["Count"]["accuracy"] == 1
    table = pandas.DataFrame({"idx": range(8), "model_output": SAID})
    table.to_parquet(tmp_path / "other.parquet")
    summary = scored(data, tmp_path / "other.parquet", "--text_field", "model_output", capsys=capsys)
    assert summary["aggregates"]["micro"]["value"] == 6 / 8


def test_missing_ones_count_as_wrong_where_asked(data, tmp_path, capsys):
    path = written(tmp_path, [{"id": 0, "prediction": "C"}])
    summary = scored(data, path, "--missing", "wrong", capsys=capsys)
    assert (summary["n"], summary["unread"]) == (8, 7)
    assert summary["aggregates"]["micro"]["value"] == 1 / 8


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"id": 0, "prediction": "C"}], "has no prediction for 7 of 8 questions, 'cvbench-1' the first"),
        ([{"id": 0, "prediction": "C"}] * 2, "row 1: a second prediction for 'cvbench-0'"),
        ([{"id": 99, "prediction": "C"}], "row 0: no question has the id '99'"),
        ([{"id": 0, "prediction": {"text": "C"}}], "row 0: 'prediction' must be a text, or a list of texts"),
        ([{"id": 0, "prediction": float("nan")}], "write '' where the model said nothing"),
        ([{"id": 0, "prediction": []}], "row 0: 'prediction' must be a text"),
        (
            [{"id": 0, "answer": "C"}],
            "row 0 has no 'prediction'; name the field of the text with --text_field. There are 'id', "
            "'answer' ('answer' is the right one",
        ),
        ([{"id": 0, "response": "C", "output": "B"}], "row 0 has 'response' and 'output'; name the field"),
        ([{"id": 0, "prediction": "C"}, {"prediction": "C"}], "row 1 has no 'id'"),
        ([{"id": 0, "prediction": "C"}, {"id": 1, "prediction": ["C", "C"]}], "row 1: 2 texts"),
        ([{"prediction": "C"}], "has 1 rows without an 'id' for 8 questions"),
        ([], "holds no predictions"),
    ],
)
def test_bad_predictions_are_named(rows, message, data, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        scored(data, written(tmp_path, rows), capsys=capsys)
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == ""
    assert message in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1


# ---- ids and texts under the names that other programs give them

IDS = [f"cvbench-{n}" for n in range(8)]
SHUFFLED = [5, 2, 7, 0, 3, 6, 1, 4]


@pytest.mark.parametrize(
    "row_of",
    [
        lambda n: {"doc_id": n, "filtered_resps": SAID[n]},
        lambda n: {"doc_id": n, "resps": [[SAID[n]]], "filtered_resps": ["?"], "target": "(A)"},  # lm-eval
        lambda n: {
            "doc_id": n,
            "resps": json.dumps([[SAID[n]]]),
            "filtered_resps": "?",
        },  # as a table of texts
        lambda n: {"doc_id": 7 - n, "doc": {"idx": n, "image_id": 99 - n}, "resps": [[SAID[n]]]},  # lmms-eval
        lambda n: {"index": n, "question": "?", "A": "x", "answer": "A", "prediction": SAID[n]},  # VLMEvalKit
        lambda n: {"question_id": float(n), "response": SAID[n]},
        lambda n: {"questionId": str(n), "output": SAID[n]},
        lambda n: {"ID": f"{n}.0", "model_output": SAID[n]},
        lambda n: {"idx": n, "pred": SAID[n]},
        lambda n: {"example_id": n, "prediction": SAID[n]},
        lambda n: {
            "id": f"chat-{n * n}",
            "question_id": n,
            "prediction": SAID[n],
        },  # a server's id of the reply
        lambda n: {"id": f"cvbench-{n}", "index": 7 - n, "prediction": SAID[n]},
    ],
)
def test_rows_are_joined_by_the_ids_of_other_programs(row_of, tmp_path, capsys):
    path = written(tmp_path, [row_of(n) for n in SHUFFLED])
    assert predictions.texts(str(path), None, IDS) == {f"cvbench-{n}": [SAID[n]] for n in SHUFFLED}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "row_of",
    [
        *(
            lambda n, name=name: {name: SAID[n]}
            for name in ("Prediction", "Response", "text", "content", "raw_output", "generated_text", "reply")
        ),
        lambda n: {"text": "What is it?", "completion": SAID[n]},
        lambda n: {"text": SAID[n], "category": "ab"[n % 2], "note": "x" * n},
        lambda n: {"said": SAID[n], "model": "m", "answer": "A", "question": f"{n}?", "task": "ab"[n % 2]},
    ],
)
def test_the_only_text_beside_an_id_is_taken(row_of, tmp_path, capsys):
    path = written(tmp_path, [{"id": n} | row_of(n) for n in SHUFFLED])
    assert predictions.texts(str(path), None, IDS) == {f"cvbench-{n}": [SAID[n]] for n in SHUFFLED}
    assert "the texts are those of '" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [{"id": 0, "a": "x", "b": "y"}, {"id": 0, "answer": "A"}, {"a": "x"}, {"id": 0, "question": "x"}]
    + [{"id": "a"}, {"id": 0, "n": 3}, {"id": 0, "text": "a", "content": "b"}],
)
def test_a_text_that_may_be_another_is_asked_for(row, tmp_path):
    with pytest.raises(UserError, match="name the field of the text with --text_field"):
        predictions.texts(str(written(tmp_path, [row])), None, IDS[:1])


def test_what_was_chosen_is_said(tmp_path, capsys):
    predictions.texts(str(written(tmp_path, [{"doc_id": n, "resps": ["A"]} for n in range(8)])), None, IDS)
    said = capsys.readouterr().err
    assert "joined to the questions by 'doc_id'" in said and "the texts are those of 'resps'" in said
    predictions.texts(str(written(tmp_path, [{"prediction": "A"} for _ in range(8)])), None, IDS)
    assert "no ids: its rows are taken in the data's order" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row_of", "message"),
    [
        (
            lambda n: {"index": n + 1},
            "no question has the id '8'; 'index' counts from 1: write the questions'",
        ),
        (lambda n: {"doc_id": n + 10}, "row 0: no question has the id '15'; they are such as 'cvbench-0'"),
        (lambda n: {"sample_id": f"x{n}"}, "row 0: no question has the id 'x5'"),
        (lambda n: {"request_id": f"x{n}"}, "or rename 'request_id' where it is no id"),
        (lambda n: {"Unnamed: 0": n + 10}, "row 0: no question has the id '15'"),
        (lambda n: {"ID": "012" if n == 3 else n}, "row 4: no question has the id '012'"),
        (lambda n: {"idx": None if n == 3 else n}, "row 4 has no 'idx', which other rows have"),
        (lambda n: {"idx": True if n == 3 else n}, "row 4: 'idx' must be an id, not True"),
        (lambda n: {"idx": n // 2}, "row 4: a second prediction for 'cvbench-1'"),
        (
            lambda n: {"question_id": n, "doc_id": 7 - n},
            "row 0: by 'question_id' it answers 'cvbench-5', and by",
        ),
    ],
)
def test_ids_that_fit_no_question_are_never_taken_in_order(row_of, message, tmp_path):
    path = written(tmp_path, [row_of(n) | {"prediction": "A"} for n in SHUFFLED])
    with pytest.raises(UserError) as error:
        predictions.texts(str(path), None, IDS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_number_that_may_be_an_id_or_a_place_is_refused(tmp_path):
    ids = [f"cvbench-{n}" for n in SHUFFLED]  # the data's own ids are in another order
    for name in ("doc_id", "index"):
        path = str(written(tmp_path, [{name: n, "prediction": SAID[n]} for n in range(8)]))
        with pytest.raises(
            UserError, match=f"'{name}' 0 may be the id of 'cvbench-0' or the place of 'cvbench-5'"
        ):
            predictions.texts(path, None, ids)
    path = str(written(tmp_path, [{"idx": n, "prediction": SAID[n]} for n in range(8)]))
    assert predictions.texts(path, None, ids) == {f"cvbench-{n}": [SAID[n]] for n in range(8)}


@pytest.mark.parametrize(
    "row_of",
    [
        lambda n: {"row": n},
        lambda n: {"#": str(n)},
        lambda n: {"filename": f"{n}.png"},
        lambda n: {"metadata": {"place": n}},
    ],
)
def test_numbers_in_another_order_are_never_passed_over(row_of, tmp_path):
    path = written(tmp_path, [row_of(n) | {"prediction": SAID[n]} for n in SHUFFLED])
    with pytest.raises(
        UserError,
        match="row 0 stands in the place of 'cvbench-0', but its '.*' 5.* is the number of 'cvbench-5'",
    ):
        predictions.texts(str(path), None, IDS)
    path = written(tmp_path, [row_of(n) | {"prediction": SAID[n]} for n in range(8)])
    assert predictions.texts(str(path), None, IDS) == {f"cvbench-{n}": [SAID[n]] for n in range(8)}


def test_ids_in_records_and_in_the_index_of_pandas(tmp_path):
    right = {f"cvbench-{n}": [SAID[n]] for n in range(8)}
    for inner in ({"metadata": {"id": None}}, {"doc": None}):
        rows = []
        for n in SHUFFLED:
            name = next(iter(inner))
            value = {"id": n} if name == "metadata" else json.dumps({"idx": n})
            rows.append({name: value, "prediction": SAID[n]})
        assert predictions.texts(str(written(tmp_path, rows)), None, IDS) == right
    pandas.DataFrame({"prediction": SAID})[::-1].to_parquet(tmp_path / "reversed.parquet")
    assert predictions.texts(str(tmp_path / "reversed.parquet"), None, IDS) == right


def test_the_question_of_a_row_must_be_the_one_it_is_joined_to(tmp_path):
    asked = {id: f"What is near the chair number {id}?" for id in IDS}
    examples = {id: example(id, question=text) for id, text in asked.items()}
    for given in ({}, {"doc_id": True}):
        rows = [{"input": f"<image>\n{asked[IDS[n]].upper()}  Answer.", "prediction": "A"} for n in SHUFFLED]
        rows = [row | ({"doc_id": place} if given else {}) for place, row in enumerate(rows)]
        with pytest.raises(
            UserError, match="row 0: its 'input' is the question 'cvbench-5', and by id or place"
        ):
            predictions.texts(str(written(tmp_path, rows)), None, IDS, examples)
    rows = [{"id": n, "input": asked[IDS[n]], "prediction": SAID[n]} for n in SHUFFLED]
    assert len(predictions.texts(str(written(tmp_path, rows)), None, IDS, examples)) == 8


def example(id, **changed):
    fields = {"question": "Where?", "answer": "(A)", "task": "t", "choices": ("desk", "chair", "bed")}
    return Example(id, (Path("x.png"),), **fields | changed)


# What each of the eight questions is about, beside its id: other letters, words and numbers in any order.
LETTERS, WORDS, COUNTS = "ABCAABCB", ["yes", "no", "red", "3", "0", "no", "blue", "7"], "12345678"
CHOSEN = {id: example(id, answer=f"({letter})") for id, letter in zip(IDS, LETTERS, strict=True)}
FREE = {id: example(id, answer=word, choices=None) for id, word in zip(IDS, WORDS, strict=True)}
NUMBERS = {id: example(id, answer=f"{n}.5", choices=None) for id, n in zip(IDS, COUNTS, strict=True)}
ABOUT = {
    id: example(id, question=f"Q{n}?", task=f"task {n % 3}", meta={"scene": f"s{n}", "source": "ABC"[n % 3]})
    for n, id in enumerate(IDS)
}


@pytest.mark.parametrize(
    ("examples", "evidence"),
    [
        (CHOSEN, lambda n: {"target": LETTERS[n]}),
        (CHOSEN, lambda n: {"gold": f" ({LETTERS[n].lower()}) "}),
        (CHOSEN, lambda n: {"doc": {"answer": ("desk", "chair", "bed")["ABC".index(LETTERS[n])]}}),
        (
            CHOSEN,
            lambda n: {"gt_answer": f"{LETTERS[n]}. " + ("Desk", "Chair", "Bed")["ABC".index(LETTERS[n])]},
        ),
        (CHOSEN, lambda n: {"ground_truth": [LETTERS[n]]}),
        (FREE, lambda n: {"answer": WORDS[n].upper()}),
        (FREE, lambda n: {"gt": int(WORDS[n]) if WORDS[n].isdecimal() else WORDS[n]}),
        (NUMBERS, lambda n: {"ground_truth": f"{COUNTS[n]}.50"}),
        (NUMBERS, lambda n: {"ground_truth": float(f"{COUNTS[n]}.5")}),
        (ABOUT, lambda n: {"question": f"<image> q{n}?"}),
        (ABOUT, lambda n: {"scene_name": f"s{n}"}),
        (ABOUT, lambda n: {"question_type": f"task {n % 3}"}),
        (ABOUT, lambda n: {"doc": json.dumps({"dataset": "ABC"[n % 3]})}),
    ],
)
def test_a_row_that_brings_another_questions_facts_is_refused(examples, evidence, tmp_path):
    rows = [{"prediction": "so?"} | evidence(n) for n in SHUFFLED]
    for ids in ({}, {"id": True}):
        given = [row | ({"id": place} if ids else {}) for place, row in enumerate(rows)]
        with pytest.raises(UserError, match="row [01]: .* 'cvbench-[01]'") as error:
            predictions.texts(str(written(tmp_path, given)), None, IDS, examples)
        assert "ids" in str(error.value) and "\n" not in str(error.value)
    right = [row | {"id": n} for n, row in zip(SHUFFLED, rows, strict=True)]
    assert len(predictions.texts(str(written(tmp_path, right)), None, IDS, examples)) == 8


@pytest.mark.parametrize(
    ("examples", "beside"),
    [
        (CHOSEN, lambda n: {"target": "ABC".index(LETTERS[n])}),  # a place, from 0 or from 1
        (CHOSEN, lambda n: {"target": "ABC".index(LETTERS[n]) + 1}),
        (CHOSEN, lambda n: {"target": "the right one is the left one"}),
        (CHOSEN, lambda n: {"target": None, "gt": ""}),
        (CHOSEN, lambda n: {"answer": "B", "prediction": "It is B."}),  # a model's own
        (FREE, lambda n: {"score": 1, "label": "positive", "target": {"a": 1}}),
        (FREE, lambda n: {"target": f"<answer>{WORDS[n]}</answer>"}),
        (ABOUT, lambda n: {"question": f"Q{n + 1}? Answer with a letter.", "scene": "any", "source": "A"}),
    ],
)
def test_what_is_only_written_otherwise_is_no_evidence(examples, beside, tmp_path):
    rows = [{"id": n, "prediction": "so?"} | beside(n) for n in SHUFFLED]
    assert len(predictions.texts(str(written(tmp_path, rows)), None, IDS, examples)) == 8


def test_numbers_and_booleans_are_texts_that_pandas_read(tmp_path):
    values = [3, 3.0, 2.5, True, False, "", "3.0", -1]
    path = written(tmp_path, [{"id": n, "prediction": value} for n, value in enumerate(values)])
    found = [text for (text,) in predictions.texts(str(path), None, IDS).values()]
    assert found == ["3", "3", "2.5", "yes", "no", "", "3.0", "-1"]


def test_likelihoods_are_no_texts(tmp_path):
    row = {"doc_id": 0, "resps": [[[-1.5, False]], [[-0.5, True]]], "filtered_resps": [[-1.5, False]] * 2}
    with pytest.raises(UserError, match="row 0: 'resps' must be a text, or a list of texts"):
        predictions.texts(str(written(tmp_path, [row])), None, IDS)


@pytest.mark.slow
def test_stdout_holds_the_summary_and_nothing_else(data, tmp_path):
    path = written(tmp_path, [{"prediction": text} for text in SAID])
    command = [sys.executable, "-m", "spatialvlm.tasks.score_file", "--benchmark", "cvbench"]
    done = subprocess.run(
        [*command, "--data", data, "--predictions", path], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 8


@pytest.mark.parametrize("rule", ["strict", "official"])
def test_real_answers_have_their_published_accuracy(rule, real_data, capsys):
    """R1-V's Qwen2-VL-2B trained by GRPO, 200 counting questions of Super-CLEVR: 82.5 %."""
    questions = real_data / "r1v" / "superclevr_test200_counting_problems.jsonl"
    answers = real_data / "r1v" / "superclevr_test200_predictions.jsonl"
    argv = f"--benchmark superclevr --data {questions} --predictions {answers} --text_field model_output"
    cli.run(score_file.main, score_file.Args, [*argv.split(), "--rule", rule])
    summary = json.loads(capsys.readouterr().out)
    assert (summary["n"], summary["aggregates"]["micro"]["value"]) == (200, 0.825)


@pytest.mark.parametrize("first", [0, 1])
def test_of_lmms_evals_two_texts_its_own_rules_take_the_one_without_thoughts(tmp_path, first):
    """Where both are equal, lmms-eval writes `filtered_resps` alone."""
    both = {"doc_id": 0, "resps": [["<think>A?</think>(B)"]], "filtered_resps": ["(B)"]}
    table = [both, {"doc_id": 1, "filtered_resps": ["(A)"]}]
    file = str(written(tmp_path, table if first == 0 else table[::-1]))
    ids = ["cvbench-0", "cvbench-1"]
    assert predictions.texts(file, None, ids) == {ids[0]: ["<think>A?</think>(B)"], ids[1]: ["(A)"]}
    assert predictions.texts(file, None, ids, filtered=True) == {ids[0]: ["(B)"], ids[1]: ["(A)"]}
