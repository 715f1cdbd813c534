"""Compare two runs on the same questions: the paired difference, whether it is chance, and what changed.

run=results/pali_sat_grpo/v2-embedded-seed0
python -m spatialvlm.evaluation.compare $run/base $run/trained
python -m spatialvlm.evaluation.compare $run/base $run/trained --changes changed.jsonl  # every changed item
python -m spatialvlm.evaluation.compare results/eval_sparkle/RUN_A/basic results/eval_sparkle/RUN_B/basic

Runs are folders with predictions.jsonl, or such files. Questions are paired by id; the difference is B - A,
its interval Newcombe's for paired proportions (a bootstrap where answers can be partly right), p the exact
two-sided McNemar test's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spatialvlm import cli, text_files
from spatialvlm.disk import disk_errors
from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.tables import interval, text_table

SHOWN = 10  # changed items of each kind that are printed
FIELDS = {"id": str, "task": str, "correct": bool, "parsed": object, "gold": object}  # what a run has written


@dataclass
class Args:
    run_a: str = field(metadata={"help": "folder of a run, or its predictions.jsonl"})
    run_b: str = field(metadata={"help": "another, of the same questions"})
    changes: str | None = field(
        default=None, metadata={"help": "jsonl file to write all items to whose answer changed"}
    )


def records(path: str) -> list[Record]:
    """Load a run's records. Raises UserError for what is no run, or one without answers."""
    file = Path(path, "predictions.jsonl") if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no predictions.jsonl there; give a run folder, or a part (base, trained)")
    rows = text_files.json_rows(file)
    for number, row in enumerate(rows):
        for name, kind in FIELDS.items():
            if not isinstance(row, dict) or name not in row:
                raise UserError(f"{file} row {number} has no '{name}'; give a run's own predictions")
            if not isinstance(row[name], kind):
                value = repr(row[name])[:80]
                raise UserError(f"{file} row {number}: '{name}' is {value}; give a run's own predictions")
    if not rows:
        raise UserError(f"{file} holds no answers")
    if len({row["id"] for row in rows}) < len(rows):
        raise UserError(f"{file} has two rows of one id")
    return rows


def paired(a: Sequence[Record], b: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The records of the same questions. Raises UserError where one run has a question that the other lacks,
    or another right answer to it.
    """
    of_b = {record["id"]: record for record in b}
    if len(a) != len(b) or (lacking := [record["id"] for record in a if record["id"] not in of_b]):
        first = lacking[0] if len(a) == len(b) else f"{len(a)} in A, {len(b)} in B"
        raise UserError(f"the runs are not of the same questions ({first}); evaluate both on the same data")
    pairs = [(record, of_b[record["id"]]) for record in a]
    for one, other in pairs:
        if (one["task"], one["gold"]) != (other["task"], other["gold"]):
            raise UserError(f"question {one['id']!r} has another right answer in B; use the same data")
    return pairs


def changes(pairs: Sequence[tuple[Record, Record]]) -> list[dict]:
    """What each run answered, of the questions that only one got right, those won by B first."""
    found = [
        {
            "id": one["id"],
            "task": one["task"],
            "now": "right" if other["correct"] else "wrong",
            "gold": one["gold"],
            "a": one["parsed"],
            "b": other["parsed"],
            "prompt": one.get("prompt", ""),
        }
        for one, other in pairs
        if one["correct"] != other["correct"]
    ]
    return sorted(found, key=lambda change: change["now"])


def table(pairs: Sequence[tuple[Record, Record]]) -> str:
    """Format each task, their mean and all questions together, in percent."""
    a, b = zip(*pairs, strict=True)
    tasks = metrics.group(a)
    names = [*tasks, "mean_of_tasks", "micro"]
    differences = metrics.compare(a, b)
    values = [
        metrics.by_task(side)
        | {"mean_of_tasks": metrics.mean_of_tasks(side), "micro": metrics.accuracy(side)}
        for side in (a, b)
    ]
    rows = [("", "n", "A", "B", "B - A", "95 % interval", "p")]
    for name in names:
        chosen = [pair for pair in pairs if name not in tasks or pair[0]["task"] == name]
        p = metrics.mcnemar([one["correct"] for one, _ in chosen], [other["correct"] for _, other in chosen])
        difference = differences[name]
        figures = [f"{100 * side[name].value:.1f}" for side in values]
        figures += [f"{100 * difference.value:+.1f}", interval(difference.interval, sign=True)]
        rows.append((name, str(difference.n), *figures, "" if name == "mean_of_tasks" else f"{p:.2g}"))
    return text_table(rows)


def main(args: Args) -> None:
    pairs = paired(records(args.run_a), records(args.run_b))
    changed = changes(pairs)
    print(f"A: {args.run_a}\nB: {args.run_b}\n\n{table(pairs)}")
    for now in ("right", "wrong"):
        these = [change for change in changed if change["now"] == now]
        print(f"\n{len(these)} right in {'B' if now == 'right' else 'A'} alone")
        for change in these[:SHOWN]:
            print(f"  {change['id']}: gold {change['gold']!r}, A {change['a']!r}, B {change['b']!r}")
        if len(these) > SHOWN:
            print(f"  and {len(these) - SHOWN} more; --changes FILE writes all")
    if args.changes:
        with disk_errors(Path(args.changes)):
            Path(args.changes).write_text("".join(json.dumps(change) + "\n" for change in changed))


def flags(argv: Sequence[str]) -> list[str]:
    """`RUN_A RUN_B --changes f` as the flags that the parser knows."""
    named = [word for name, path in zip(("--run_a", "--run_b"), argv, strict=False) for word in (name, path)]
    return [*named, *argv[2:]] if argv[:1] and not argv[0].startswith("-") else list(argv)


if __name__ == "__main__":
    cli.run(main, Args, flags(sys.argv[1:]))
