"""The tables of the rules' disagreements with a person: by hand, and as docs/scoring.md has them."""

import json
import shutil

import disagreements
import pytest

from spatialvlm import cli

CHOICES = ["desk", "chair", "lamp", "door"]


def labelled(text, person, kind="choice", why="habit"):
    options = {"choice": {"choices": CHOICES}, "yes_no": {"vocabulary": ["yes", "no"]}}.get(kind, {})
    return {"text": text, "kind": kind, "person": person, "why": why} | options


@pytest.mark.parametrize(
    "row, parsed",
    [
        (labelled("B.", "B"), ["B", "B", "B"]),
        (labelled("(B)", "B"), ["B", "B", None]),
        (labelled("The answer is A", "A"), [None, None, None]),  # CV-Bench's reader says T, no choice
        (labelled("Based on what I see", None), ["B", None, None]),
        (labelled("A or C", None), ["A", None, "A"]),
        (labelled("3", 3, "number"), [3, 3, 3, 3]),
        (labelled("2 to 3", None, "number"), [2, 2, 3, None]),
        (labelled("2-3", None, "number"), [None, 2, -3, 23]),  # paper's comparison drops the dash
        (labelled("0.5", 0.5, "number"), [0.5, 0.5, 0.5, 0.5]),  # its gold answer is read as it is
        (labelled("three", 3, "number"), [None, 3, None, None]),
        (labelled("No.", "no", "yes_no"), [None, "no"]),
    ],
)
def test_answer_parsed_by_each_rule(row, parsed):
    (found,) = disagreements.with_parsed([row])
    assert list(found["parsed"].values()) == parsed


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_counts_by_habit(tmp_path, capsys):
    rows = [labelled(text, "B", why="plain") for text in ("B", "(B)")]
    rows += [labelled("A or C", None, why="several"), labelled("A. No, B.", "B", why="correction")]
    (tmp_path / "docs.md").write_text("# Scoring\n")
    completions = write(tmp_path / "rows.jsonl", rows)
    flags = ["--completions", completions, "--docs", str(tmp_path / "docs.md"), "--least", "2"]
    cli.run(disagreements.main, disagreements.Args, flags)
    lines = [line.replace(" ", "") for line in (tmp_path / "docs.md").read_text().splitlines()]
    for line in (
        "|plain|2|0|0|1|",
        "|2otherhabits|2|2|1|2|",
        "|**all**|4|**2**(50%)|**1**(25%)|**3**(75%)|",
        "|*ananswerwhereapersonfindsnone*||1|0|1|",
        "|*anotheranswerthanaperson*||1|0|1|",
        "|*nonewhereapersonfindsone*||0|1|1|",
    ):
        assert line in lines, line

    capsys.readouterr()
    cli.run(disagreements.main, disagreements.Args, [*flags, "--pairs"])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in printed] == ["(B)", "A or C", "A. No, B."]


def test_missing_files_are_named(tmp_path, capsys):
    for flags, message in [
        (["--completions", str(tmp_path / "gone.jsonl")], "gone.jsonl cannot be read"),
        (["--docs", str(tmp_path / "gone.md")], "gone.md does not exist"),
    ]:
        with pytest.raises(SystemExit) as stop:
            cli.run(disagreements.main, disagreements.Args, flags)
        assert stop.value.code == 2 and message in capsys.readouterr().err


def test_the_documented_tables_are_those_of_the_rules(tmp_path):
    copy = tmp_path / "scoring.md"
    shutil.copy(disagreements.DOCS, copy)
    cli.run(disagreements.main, disagreements.Args, ["--docs", str(copy)])
    assert copy.read_text() == disagreements.DOCS.read_text(), "run python tools/disagreements.py"
