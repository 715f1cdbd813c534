"""A labelled set of what language models write, and what a person reads from it: `strict` reads the same."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from spatialvlm.parsing import answers

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "completions.jsonl").read_text(encoding="utf-8").splitlines()
]
HABITS = defaultdict(list)
for _row in ROWS:
    HABITS[_row["kind"], _row["why"]].append(_row)


UNDRESSED = ("agent lines", "roles and template tokens", "last box")  # whose place in the text matters


def read(row: dict, text: str):
    if row["kind"] == "choice":
        return answers.choice(text, row["choices"])
    if row["kind"] == "number":
        return answers.number(text)
    return answers.yes_no(text) if row["kind"] == "yes_no" else answers.word(text, row["vocabulary"])


@pytest.mark.parametrize("habit", HABITS, ids=": ".join)
def test_strict_reads_what_a_person_reads(habit):
    wrong = [
        (row["text"], "person", row["person"], "strict", found)
        for row in HABITS[habit]
        if (found := read(row, row["text"])) != row["person"]
    ]
    assert not wrong


@pytest.mark.parametrize("dressed", ["{}\n", "\n\n  {}", "{}<eos>", "{}  \n</s>", "<answer>{}</answer>"])
def test_what_stands_around_a_text_changes_nothing(dressed):
    """Blanks, end tokens and, but for texts with tags, thoughts or a role of their own, answer tags."""
    for row in ROWS:
        if "answer" in dressed and ("<" in row["text"] or row["why"] in UNDRESSED):
            continue
        assert read(row, dressed.replace("{}", row["text"])) == row["person"], row


def test_the_labels_are_whole():
    asked = Counter(
        (row["text"], row["kind"], str(row.get("choices") or row.get("vocabulary"))) for row in ROWS
    )
    assert len(ROWS) >= 3450 and max(asked.values()) == 1
    assert Counter(row["kind"] for row in ROWS).keys() == {"choice", "number", "yes_no", "word"}
    for row in ROWS:
        options = {
            "choice": [chr(65 + index) for index in range(len(row.get("choices", ())))],
            "number": [row["person"]] if type(row["person"]) in (int, float) else [],
        }.get(row["kind"], row.get("vocabulary"))
        assert row["why"] and (row["person"] is None or row["person"] in options), row
        assert ("choices" in row) == (row["kind"] == "choice")
    assert sum(row.get("held_back", False) for row in ROWS) >= 1390  # labelled apart from the rules
    unclear = Counter(row["kind"] for row in ROWS if row["person"] is None)
    assert all(unclear[kind] >= 15 for kind in ("choice", "number", "yes_no", "word")), unclear
