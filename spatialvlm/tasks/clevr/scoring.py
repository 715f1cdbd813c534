"""CLEVR (Johnson et al., CVPR 2017) and Super-CLEVR: yes or no, a number, or a word for an attribute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import PAPER_TEXT, STRICT_FREE, Benchmark, Parsed, Rule, micro_and_mean
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.parsing.answers import inside_answer_tags
from spatialvlm.tasks.clevr import data as clevr

MAX_DIGITS = 300  # of an answer: beyond float's range, and Python's `int` stops with an error at 4,300


def parse_official(text: str, example: Example) -> Parsed:
    """The integer inside `<answer>`, else the last one in the text; of yes or no the text between the tags.

    R1-V's `test_qwen2vl_counting_superclevr.py`, whose data Super-CLEVR's hub form is; CLEVR's own authors
    classify among 28 answers and parse no text.
    """
    tagged = inside_answer_tags(text)
    content = text if tagged is None else tagged
    numbers = re.findall(r"-?\d+", content)
    if not numbers:
        return content.strip().lower() or None
    return int(numbers[-1]) if len(numbers[-1]) < MAX_DIGITS else None


def aggregate(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, of wrong counts, `close_call`, the fraction off by exactly one."""
    counts = [record for record in records if isinstance(record["gold"], int)]
    greedy = [record for record in counts if record.get("num_samples", 1) == 1]
    near = metrics.close_call([r["parsed"] for r in greedy], [r["gold"] for r in greedy])
    return micro_and_mean(records) | ({"close_call": near} if near else {})


BENCHMARK = Benchmark(
    "CLEVR",
    partial(clevr.load, need_images=False),
    {
        "strict": STRICT_FREE,
        "official": Rule("official", "the integer inside <answer>, or its text (R1-V)", parse_official),
        "paper": PAPER_TEXT,
    },
    aggregate,
)
SUPERCLEVR = replace(BENCHMARK, title="Super-CLEVR")  # the same questions and answers, about vehicles


def benchmark(path: str) -> Benchmark:
    """Which of the two lies at a path, by the form of a folder or the hub's name; both are parsed alike."""
    is_super = clevr.superclevr_questions(path) or "superclevr" in str(path).lower()
    return SUPERCLEVR if is_super else BENCHMARK
