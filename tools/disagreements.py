"""Where the benchmarks' own rules parse a text differently from a person: the tables of docs/scoring.md.

python tools/disagreements.py                # writes the tables into docs/scoring.md
python tools/disagreements.py --pairs        # prints every disagreement, one JSON line per text

Both use the labelled texts of tests/parsing/completions.jsonl. A rule agrees with a person if it scores a
text as correct for the person's answer or, where the person finds none, for no answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import Rule
from spatialvlm.evaluation.metrics import group
from spatialvlm.evaluation.tables import markdown
from spatialvlm.example import Example
from spatialvlm.reporting.comparison import replace_section
from spatialvlm.tasks.registry import benchmark

ROOT = Path(__file__).resolve().parents[1]
COMPLETIONS, DOCS = ROOT / "tests/parsing/completions.jsonl", ROOT / "docs/scoring.md"
CLEVR, CVBENCH, VSIBENCH = (benchmark(name) for name in ("clevr", "cvbench", "vsibench"))
CLEVR_RULES = {"CLEVR official": CLEVR.rules["official"], "paper": CLEVR.rules["paper"]}
RULES = {  # by kind of answer: those that are not ours
    "choice": {
        "CV-Bench official": CVBENCH.rules["official"],
        "CV-Bench paper": CVBENCH.rules["paper"],
        "VSI-Bench official": VSIBENCH.rules["official"],
    },
    "number": {
        "VSI-Bench official": VSIBENCH.rules["official"],
        "VSI-Bench lmms_eval": VSIBENCH.rules["lmms_eval"],
        **CLEVR_RULES,
    },
    "yes_no": CLEVR_RULES,
    "word": CLEVR_RULES,
}
NAMES = {"choice": "Letters of choices", "number": "Numbers", "yes_no": "Yes or no", "word": "Words"}
Row = dict


def example(row: Row, answer: str) -> Example:
    """The labelled text's question with one possible gold answer; its image is never opened."""
    choices = tuple(row["choices"]) if row["kind"] == "choice" else None
    meta = {"vocabulary": tuple(row.get("vocabulary", "0"))}
    return Example("labelled", (Path("none.png"),), "?", answer, row["kind"], choices, meta=meta)


def parsed_by(rule: Rule, row: Row) -> str | float | None:
    """The answer that a rule parses from a text; None if it finds none, or an impossible one."""
    parsed = rule.parse(row["text"], example(row, "A"))
    if row["kind"] == "number":
        right = row["person"] is not None and rule.gold(example(row, str(row["person"]))) == parsed
        return row["person"] if right else _number(parsed)
    possible = row.get("vocabulary") or [chr(ord("A") + index) for index in range(len(row["choices"]))]
    return next((answer for answer in possible if rule.gold(example(row, answer)) == parsed), None)


def _number(parsed: str | float | None) -> float | None:
    """A rule's parsed number; `paper` parses texts, of which a text of digits is one."""
    if isinstance(parsed, str):
        return float(parsed) if parsed.isdecimal() else None
    return parsed


def with_parsed(rows: Sequence[Row]) -> list[Row]:
    """The rows with `parsed`, each rule's answer by the rule's name."""
    return [
        row | {"parsed": {name: parsed_by(rule, row) for name, rule in RULES[row["kind"]].items()}}
        for row in rows
    ]


def disagrees(row: Row, name: str) -> bool:
    return row["parsed"][name] != row["person"]


def table(rows: Sequence[Row], least: int) -> str:
    """Texts and each rule's disagreements by habit, for one kind of answer; rarer habits share a row."""
    names = list(rows[0]["parsed"])
    habits = group(rows, "why")
    parts = {habit: part for habit, part in habits.items() if len(part) >= least}
    if rare := [habit for habit in habits if habit not in parts]:
        parts[f"{len(rare)} other habits"] = [row for habit in rare for row in habits[habit]]
    lines = [
        [habit, str(len(part)), *(str(sum(disagrees(row, name) for row in part)) for name in names)]
        for habit, part in parts.items()
    ]
    lines.append(["**all**", str(len(rows)), *(_count(rows, name) for name in names)])
    for title, kind in {
        "an answer where a person finds none": lambda row, parsed: (
            row["person"] is None and parsed is not None
        ),
        "another answer than a person": lambda row, parsed: None not in (row["person"], parsed),
        "none where a person finds one": lambda row, parsed: parsed is None and row["person"] is not None,
    }.items():
        counts = [
            sum(disagrees(row, name) and kind(row, row["parsed"][name]) for row in rows) for name in names
        ]
        lines.append([f"*{title}*", "", *map(str, counts)])
    return markdown(["habit", "texts", *names], lines)


def _count(rows: Sequence[Row], name: str) -> str:
    wrong = sum(disagrees(row, name) for row in rows)
    return f"**{wrong}** ({100 * wrong / len(rows):.0f} %)"


def load(path: Path) -> list[Row]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--completions {path} cannot be read as JSON lines ({error})") from None


@dataclass
class Args:
    completions: str = field(default=str(COMPLETIONS), metadata={"help": "the labelled texts"})
    docs: str = field(default=str(DOCS), metadata={"help": "the Markdown file whose tables are rewritten"})
    least: int = field(default=20, metadata={"help": "texts of a habit that has a row of its own"})
    pairs: bool = field(
        default=False, metadata={"help": "print every disagreement instead of writing the tables"}
    )


def main(args: Args) -> None:
    kinds = group(with_parsed(load(Path(args.completions))), "kind")
    if args.pairs:
        for row in (row for rows in kinds.values() for row in rows):
            if any(disagrees(row, name) for name in row["parsed"]):
                print(json.dumps(row, ensure_ascii=False))
        return
    if not Path(args.docs).is_file():
        raise UserError(f"--docs {args.docs} does not exist; name the file to write the tables into")
    text = Path(args.docs).read_text(encoding="utf-8")
    for kind, rows in kinds.items():
        section = f"### {NAMES[kind]}\n\n{table(rows, args.least)}"
        text = replace_section(text, f"disagreements: {kind}", section)
    Path(args.docs).write_text(text, encoding="utf-8")
    print(f"{args.docs}: tables of {sum(map(len, kinds.values()))} texts")


if __name__ == "__main__":
    cli.run(main, Args)
