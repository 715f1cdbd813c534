"""`python -m spatialvlm.evaluation.compare`: two runs of the same questions, paired by id."""

import json
from pathlib import Path

import pytest

from spatialvlm import cli
from spatialvlm.evaluation import compare

MARKS = {"Count": ("1100110011", "1111110000"), "Depth": ("0000000000", "1111100000")}  # A, B


def record(task, number, mark, **changed):
    parsed = {"1": "A", "0": "B"}[mark]
    made = {"id": f"{task}-{number}", "task": task, "prompt": "?", "gold": "A", "parsed": parsed}
    return made | {"correct": mark == "1"} | changed


def run(folder, side, **changed):
    folder.mkdir(parents=True)
    rows = [
        record(task, n, mark, **changed)
        for task, marks in MARKS.items()
        for n, mark in enumerate(marks[side])
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def compared(*argv):
    cli.run(compare.main, compare.Args, compare.flags(list(argv)))


def test_the_table_has_the_paired_difference_of_each_task(tmp_path, capsys):
    compared(run(tmp_path / "a", 0), run(tmp_path / "b", 1), "--changes", str(tmp_path / "changed.jsonl"))
    lines = capsys.readouterr().out.splitlines()
    cells = {
        line.split()[0]: line.split()
        for line in lines
        if line.startswith(("Count", "Depth", "micro", "mean"))
    }
    assert cells["Count"][1:5] == ["10", "60.0", "60.0", "+0.0"] and cells["Count"][-1] == "1"
    assert cells["Depth"][1:5] == ["10", "0.0", "50.0", "+50.0"] and cells["Depth"][-1] == "0.062"
    assert cells["micro"][1:5] == ["20", "30.0", "55.0", "+25.0"]
    assert cells["mean_of_tasks"][2:5] == ["30.0", "55.0", "+25.0"]
    assert "7 right in B alone" in lines and "2 right in A alone" in lines
    changed = [json.loads(line) for line in (tmp_path / "changed.jsonl").read_text().splitlines()]
    assert [change["now"] for change in changed] == ["right"] * 7 + ["wrong"] * 2
    assert changed[0] == {
        "id": "Count-2", "task": "Count", "now": "right", "gold": "A", "a": "B", "b": "A", "prompt": "?"
    }  # fmt: skip


def test_partly_right_answers_are_compared_by_their_scores(tmp_path, capsys):
    a, b = run(tmp_path / "a", 0, score=0.2), run(tmp_path / "b", 0, score=0.5)
    compared(a, b)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("micro"))
    assert line.split()[2:5] == ["20.0", "50.0", "+30.0"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda rows: rows[1:], "not of the same questions (20 in A, 19 in B)"),
        (lambda rows: [rows[0] | {"id": "x"}, *rows[1:]], "not of the same questions (Count-0)"),
        (lambda rows: [rows[0] | {"gold": "B"}, *rows[1:]], "'Count-0' has another right answer in B"),
        (lambda rows: [*rows, rows[0]], "two rows of one id"),
        (lambda rows: [{"id": "1"}], "row 0 has no 'task'"),
        (lambda rows: [rows[0] | {"id": ["Count-0"]}], "row 0: 'id' is ['Count-0']"),
        (lambda rows: [rows[0] | {"correct": "no"}], "row 0: 'correct' is 'no'"),
        (lambda rows: [], "holds no answers"),
    ],
)
def test_runs_that_cannot_be_compared(spoil, message, tmp_path, capsys):
    a, b = run(tmp_path / "a", 0), run(tmp_path / "b", 1)
    file = tmp_path / "b" / "predictions.jsonl"
    rows = spoil([json.loads(line) for line in file.read_text().splitlines()])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit) as stop:
        compared(a, b)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_rows_are_whole_whatever_separators_their_texts_hold(tmp_path, capsys):
    a, b = run(tmp_path / "a", 0), run(tmp_path / "b", 1)
    compared(a, b)
    as_written = capsys.readouterr().out
    for file in (Path(a, "predictions.jsonl"), Path(b, "predictions.jsonl")):
        rows = [json.loads(line) | {"note": "\u2028 \x85"} for line in file.read_text().splitlines()]
        text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        file.write_text(text, encoding="utf-8-sig")
    compared(a, b)
    assert capsys.readouterr().out == as_written


@pytest.mark.parametrize("argv", [["nowhere", "nowhere"], ["nowhere"], []])
def test_what_is_no_run(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        compared(*argv)
    assert stop.value.code == 2 and capsys.readouterr().err.startswith("error: ")
