r"""Score a predictions file from any model, as a benchmark defines it.

python -m spatialvlm.tasks.score_file --benchmark cvbench --data path/or/hub-id --predictions p.jsonl
python -m spatialvlm.tasks.score_file --benchmark superclevr --data questions.jsonl \
    --predictions answers.jsonl --text_field model_output --rule official

Predictions are rows of a jsonl, json or parquet file: the raw text under `prediction` (or --text_field, or
what lm-eval, lmms-eval or VLMEvalKit call it; in our own run folders `completions`), and the question's `id`
(or `question_id`, `doc_id`, `index`, ...). An id is ours (`cvbench-12`) or the data set's (`12`), the part
of ours after the last dash. Only where no row has an id are they taken in the data's order. The summary is
printed as JSON on stdout; what was chosen, on stderr.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Literal

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.evaluation.evaluate import Settings, gold_answers, peak_memory_bytes
from spatialvlm.evaluation.summary import summarize
from spatialvlm.tasks import predictions, registry


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
        default=None,
        metadata={"help": "where the text stands; 'prediction', or the usual name that is there"},
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
    asked = {example.id: example.without_images() for example in examples}
    predicted = predictions.texts(
        args.predictions, args.text_field, list(gold), asked, filtered=args.rule != "strict"
    )
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


def main(args: Args) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries print: stdout is for the summary alone
        summary = score(args)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    cli.run(main, Args)
