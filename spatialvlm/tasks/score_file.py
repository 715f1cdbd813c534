r"""Score a predictions file from any model, as a benchmark defines it.

python -m spatialvlm.tasks.score_file --benchmark cvbench --data path/or/hub-id --predictions p.jsonl
python -m spatialvlm.tasks.score_file --benchmark superclevr --data questions.jsonl \
    --predictions answers.jsonl --text_field model_output --rule official

Predictions are rows of a jsonl, json or parquet file: the raw text under `prediction` (or --text_field; our
own run folders hold `completions`, a list), and the question's `id`. An id is ours (`cvbench-12`) or the data
set's own (`12`), the part of ours after the last dash. Rows without an `id` are taken in the data's order.
The summary is printed as JSON on stdout, and nothing else is.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.evaluation.evaluate import Settings, gold_answers, peak_memory_bytes
from spatialvlm.evaluation.summary import summarize
from spatialvlm.files import rows
from spatialvlm.tasks import registry


@dataclass
class Args:
    benchmark: Literal[tuple(registry.BENCHMARKS)] = field(metadata={"help": "whose questions and rules"})
    predictions: str = field(metadata={"help": "jsonl, json or parquet file of predictions"})
    data: str = field(metadata={"help": "the questions: hub id, file or folder, or 'embedded'"})
    rule: str = field(
        default="strict",
        metadata={
            "help": "strict (ours), official (the authors'), paper (the reproduced paper's), lmms_eval "
            "(vsibench); not every benchmark has each"
        },
    )
    split: str | None = field(default=None, metadata={"help": "of the data; its test split by default"})
    limit: int | None = field(default=None, metadata={"help": "as it was given to the evaluation"})
    text_field: str | None = field(
        default=None, metadata={"help": "where the text stands; 'prediction', or 'completions' in our files"}
    )
    missing: Literal["error", "wrong"] = field(
        default="error", metadata={"help": "questions without a prediction: refuse, or count as wrong"}
    )


def score(args: Args) -> dict:
    """Score the predictions; returns the summary, as an evaluation writes it.

    Raises:
        UserError: a file that cannot be read, a rule that the benchmark does not have, a prediction that is
            no text, of no question, twice, or missing; the message names file and row.
    """
    started, benchmark = time.monotonic(), registry.benchmark(args.benchmark)
    if args.rule not in benchmark.rules:
        raise UserError(f"--rule {args.rule}: {args.benchmark} has {', '.join(benchmark.rules)}")
    rule = benchmark.rules[args.rule]
    examples = benchmark.load(args.data, split=args.split, limit=args.limit)
    gold = gold_answers(examples, Settings(rule), progress=None).answers
    predicted = texts(args.predictions, args.text_field, list(gold))
    if args.missing == "error" and (without := [id for id in gold if id not in predicted]):
        raise UserError(
            f"{args.predictions} has no prediction for {len(without)} of {len(examples)} questions, "
            f"{without[0]!r} the first; add them, or count them as wrong with --missing wrong"
        )
    samples = max(map(len, predicted.values()), default=1)
    nothing = [""] * samples
    records = [to_record(e, predicted.get(e.id, nothing), rule, gold[e.id]) for e in examples]
    took = {"seconds": time.monotonic() - started, "peak_memory_bytes": peak_memory_bytes()}
    return summarize(records, benchmark.aggregate, rule, benchmark.title) | took


def texts(path: str, text_field: str | None, ids: Sequence[str]) -> dict[str, list[str]]:
    """The texts of each prediction, by the id of its question.

    Args:
        ids: of all questions, in order, each once.
    """
    predictions = rows.read(path, "")
    if not len(predictions):
        raise UserError(f"{path} holds no predictions")
    named = any("id" in row for _, row in predictions)
    if not named and len(predictions) != len(ids):
        raise UserError(
            f"{path} has {len(predictions)} rows without an 'id' for {len(ids)} questions; add ids, or give "
            "--split and --limit as in the evaluation"
        )
    own = {id.rsplit("-", 1)[-1]: id for id in ids}
    known = {**(own if len(own) == len(ids) else {}), **{id: id for id in ids}}
    predicted: dict[str, list[str]] = {}
    for number, (where, row) in enumerate(predictions):
        if named and row.get("id") is None:
            raise UserError(f"{where} has no 'id', which other rows have")
        id = str(row["id"]) if named else ids[number]
        if id not in known:
            raise UserError(f"{where}: no question has the id {id!r}; check --data, --split and --limit")
        if (id := known[id]) in predicted:
            raise UserError(f"{where}: a second prediction for {id!r}; keep one")
        predicted[id] = _texts(row, text_field, where)
        if len(predicted[id]) != len(next(iter(predicted.values()))):
            raise UserError(f"{where}: {len(predicted[id])} texts, but the rows before have another number")
    return predicted


def _texts(row: dict[str, Any], text_field: str | None, where: str) -> list[str]:
    name = text_field or ("prediction" if "prediction" in row or "completions" not in row else "completions")
    if name not in row:
        raise UserError(f"{where} has no '{name}'; name the field of the text with --text_field")
    found = row[name] if isinstance(row[name], list) else [row[name]]
    if not found or not all(isinstance(text, str) for text in found):
        raise UserError(f"{where}: '{name}' must be a text, or a list of texts, not {row[name]!r}")
    return found


def main(args: Args) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries print: stdout is for the summary alone
        summary = score(args)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    cli.run(main, Args)
