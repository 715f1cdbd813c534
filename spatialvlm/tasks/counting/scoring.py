"""Counting in CLEVR, SAT, CV-Bench and PixMo-Count: right, nearly right, and how far off.

Per data set: accuracy; close-call, the fraction of the wrong counts that are off by exactly one; and within,
the fraction of all counts that are off by no more than a threshold. An answer that names no number is wrong,
off by no number, and counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import STRICT_FREE, Benchmark, Parsed, Rule, micro_and_mean
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import percent, text_table
from spatialvlm.example import Example
from spatialvlm.tasks.clevr import scoring as clevr
from spatialvlm.tasks.counting import data

_OPEN, _CLOSE = (re.compile(tag, re.I) for tag in ("<answer>", "</answer>"))
THRESHOLD = 1  # how far off a count may be to be `within`, as published
_WORDS = re.findall(r"\w+", "zero one two three four five six seven eight nine ten eleven twelve")


def parse_paper(text: str, example: Example) -> Parsed:
    """The first number between the first tags, in digits before words; nothing without tags.

    Paper A's script, which leaves unparsed answers out; here they are wrong.
    """
    start = _OPEN.search(text)
    end = _CLOSE.search(text, start.end()) if start else None
    if end is None:
        return None
    said = text[start.end() : end.start()].strip().lower()
    if not example.answer.isdecimal():
        return said or None
    if digits := re.search(r"\d+(?:\.\d+)?", said):
        value = float(digits[0])
        if math.isinf(value):
            return None
        return int(value) if value.is_integer() else value
    words = [value for value, word in enumerate(_WORDS) if re.search(rf"\b{word}\b", said)]
    return words[0] if words else None


def gold(example: Example) -> Parsed:
    return int(example.answer) if example.answer.isdecimal() else example.answer


# ---- fractions


def fractions(records: Sequence[Record], threshold: int = THRESHOLD) -> dict[str, dict[str, Estimate]]:
    """By data set, of greedy counts: `accuracy`, `within`, and `close_call` where one of them is wrong."""
    counts = [record for record in records if isinstance(record["gold"], int)]
    return {source: _fractions(part, threshold) for source, part in metrics.group(counts, "source").items()}


def _fractions(counts: Sequence[Record], threshold: int) -> dict[str, Estimate]:
    said, right = [record["parsed"] for record in counts], [record["gold"] for record in counts]
    near = sum(metrics.off_by(p, g) <= threshold for p, g in zip(said, right, strict=True))
    close = metrics.close_call(said, right)
    found = {"accuracy": metrics.accuracy(counts), "within": metrics.proportion(near, len(counts))}
    return found | ({"close_call": close} if close else {})


def aggregate(records: Sequence[Record], threshold: int = THRESHOLD) -> dict[str, Estimate]:
    """`micro` and `mean_of_tasks` of all questions; `close_call` and `within` of all counts together."""
    totals = micro_and_mean(records)
    counts = [record for record in records if isinstance(record["gold"], int)]
    if counts and all(record.get("num_samples", 1) == 1 for record in counts):
        found = _fractions(counts, threshold)
        totals |= {name: found[name] for name in ("close_call", "within") if name in found}
    return totals


def table(
    found: Mapping[str, Mapping[str, Estimate]],
    threshold: int = THRESHOLD,
    published: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """`fractions` in percent as lines of text, each with n and 95 % interval, beside what is published."""
    header = ["counting", "n", "accuracy", f"within {threshold}", "wrong", "close-call"]
    rows = [header + (["published accuracy (close-call)"] if published else [])]
    for source, part in found.items():
        wrong = part["close_call"].n if "close_call" in part else 0
        close_call = percent(part["close_call"]) if wrong else "-"
        accuracy, within = percent(part["accuracy"]), percent(part["within"])
        rows.append([source, str(part["accuracy"].n), accuracy, within, str(wrong), close_call])
        if published and source in published:
            rows[-1].append("{:.2f} ({:.2f})".format(*published[source]))
    return text_table(rows, "<><<><")


# ---- the benchmark


def benchmark(threshold: int = THRESHOLD) -> Benchmark:
    """`BENCHMARK` with another threshold for `within`."""
    return replace(BENCHMARK, aggregate=partial(aggregate, threshold=threshold))


BENCHMARK = Benchmark(
    "Counting",
    data.load,
    {
        "strict": STRICT_FREE,
        "official": replace(
            clevr.BENCHMARK.rules["official"], source="the integer inside <answer>, else the last one (R1-V)"
        ),
        "paper": Rule("paper", "the first number inside <answer> (paper A's script)", parse_paper, gold),
    },
    aggregate,
)
