"""Sparkle (arXiv 2410.16162): directions, distances and places; shortest paths and tours.

Numbers are correct within `NUMBER_WITHIN` of the true one, coordinates within `COORDINATES_WITHIN` units on
each axis: nobody measures an image to a tenth. Every path or tour as short as the shortest is correct
(`strict`); the paper does not say whether it counts, hence `paper` and `exact`, which take the one reference
alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
from scipy.stats import bootstrap

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import PAPER_TEXT, Benchmark, Parsed, Rule, micro_and_mean
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.files.lazy import mapped
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.composite import JOIN, judge
from spatialvlm.tasks.sparkle.parsing import labels_of_question, parse_basic, parse_route
from spatialvlm.tasks.sparkle.questions import CELLS, FAMILIES, QUADRANTS, SECTORS

NUMBER_WITHIN = 0.1  # of the true number
COORDINATES_WITHIN = 0.5  # units

# ---- judged routes

_VERDICT = re.compile(r" \| (?:(optimal)|valid, ([\d.]+) times the shortest|no route: .*)\Z")


def parse_judged(text: str, example: Example) -> str | None:
    """Parse a route, with its verdict behind a bar.

    `N1 -> N2 | optimal`, `... | valid, 1.25 times the shortest` or `... | no route: N9 is no node`.
    """
    route = parse_route(text, example)
    if route is None:
        return None
    verdict = judge(route.split(JOIN), example.meta)
    if verdict.ratio is None:
        return f"{route} | no route: {verdict.fault}"
    return f"{route} | " + (
        "optimal" if verdict.optimal else f"valid, {verdict.ratio:.7g} times the shortest"
    )


def gold_route(example: Example) -> str:
    return example.answer


def ratio(parsed: Parsed) -> float | None:
    """The length of a judged route as a multiple of the shortest; None where it is no route."""
    verdict = _VERDICT.search(parsed or "")
    if not verdict or not (verdict[1] or verdict[2]):
        return None
    return 1.0 if verdict[1] else float(verdict[2])


def is_exact(parsed: Parsed, gold: Parsed) -> bool:
    """Whether a route is the reference; a tour may leave out its return."""
    if parsed is None:
        return False
    first, *_, last = gold.split(JOIN)
    open_tour = gold.removesuffix(f"{JOIN}{last}") if first == last else gold
    return _VERDICT.sub("", parsed) in (gold, open_tour)


# ---- scores


def score_basic(parsed: Parsed, gold: Parsed) -> float:
    """1 or 0. A gold float is a measured number, an int a count; coordinates are compared axis by axis."""
    if parsed is None:
        return 0.0
    if isinstance(gold, float):
        return float(isinstance(parsed, int | float) and abs(parsed - gold) <= NUMBER_WITHIN * gold + 1e-9)
    if isinstance(gold, str) and gold.startswith("("):
        return float(all(correct_axes(parsed, gold)))
    return float(parsed == gold)


def correct_axes(parsed: str, gold: str) -> tuple[bool, bool]:
    """Whether x, and whether y, of coordinates is within `COORDINATES_WITHIN` of the true one.

    Parsed ones may be tiny or huge: `(1e-05, 3.0)`, `(inf, 3.0)`.
    """
    axes, true = ([float(along) for along in pair.strip("()").split(",")] for pair in (parsed, gold))
    return tuple(abs(a - b) <= COORDINATES_WITHIN + 1e-9 for a, b in zip(axes, true, strict=True))


def score_optimal(parsed: Parsed, gold: Parsed) -> float:
    return float(ratio(parsed) == 1 or is_exact(parsed, gold))


def score_exact(parsed: Parsed, gold: Parsed) -> float:
    return float(is_exact(parsed, gold))


def vocabulary(example: Example) -> tuple[str, ...]:
    """The possible answers where they are few: sectors, cells, yes and no, labels; else empty."""
    meta = example.meta
    if meta["answer_type"] == "order":
        return tuple(", ".join(order) for order in permutations(meta["options"]))
    if meta["answer_type"] == "label":
        given = labels_of_question(example)
        return meta["options"] or tuple(label for label in meta["nodes"] if label not in given)
    return _VOCABULARIES.get(meta["answer_type"], ())


_VOCABULARIES = {"direction": SECTORS, "cell": CELLS, "quadrant": QUADRANTS, "yes_no": ("yes", "no")}


def with_vocabulary(examples: Sequence[Example]) -> Sequence[Example]:
    """The same basic questions with `meta["vocabulary"]`, where they have one."""

    def with_words(example: Example) -> Example:
        words = vocabulary(example)
        return replace(example, meta=example.meta | {"vocabulary": words}) if words else example

    return mapped(examples, with_words)


# ---- totals


def routes(records: Sequence[Record]) -> dict[str, Estimate]:
    """Fractions of `optimal`, `exact` and `valid` routes, and the mean `length_ratio` of the valid ones.

    The ratio is to the shortest; its interval is a percentile bootstrap's.
    """
    ratios = [ratio(record["parsed"]) for record in records]
    exact = [is_exact(record["parsed"], record["gold"]) for record in records]
    valid = [each for each in ratios if each is not None]
    totals = {
        "optimal": metrics.proportion(sum(each == 1 for each in ratios), len(records)),
        "exact": metrics.proportion(sum(exact), len(records)),
        "valid": metrics.proportion(len(valid), len(records)),
    }
    return totals | ({"length_ratio": _mean_ratio(valid)} if valid else {})


def _mean_ratio(ratios: Sequence[float]) -> Estimate:
    value, n = float(np.mean(ratios)), len(ratios)
    if n == 1 or min(ratios) == max(ratios):  # nothing to resample
        return Estimate(value, (value, value), n)
    result = bootstrap((ratios,), np.mean, method="percentile", batch=100, rng=np.random.default_rng(0))
    return Estimate(value, tuple(map(float, result.confidence_interval)), n)


def routes_by_task(records: Sequence[Record]) -> dict[str, dict[str, Estimate]]:
    return {task: routes(part) for task, part in metrics.group(records).items()}


def aggregate_composite(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, with one answer per question, `routes` over all."""
    single = all(record.get("num_samples", 1) == 1 for record in records)
    return micro_and_mean(records) | (routes(records) if single else {})


def aggregate_basic(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, before them, the mean over the families of each capability."""
    by_capability = metrics.group(
        [record | {"capability": FAMILIES[record["task"]].capability} for record in records], "capability"
    )
    means = {name: metrics.mean_of_tasks(part) for name, part in by_capability.items()}
    return means | micro_and_mean(records)


def load_basic(path: str, split: str | None = None, limit: int | None = None) -> Sequence[Example]:
    return with_vocabulary(sparkle.load(path, split or "test", limit))


def load_composite(path: str, split: str | None = None, limit: int | None = None) -> Sequence[Example]:
    """The composite items; there is one split of them, whatever the basic questions' is."""
    return sparkle_composite.load(path, limit)


BASIC = Benchmark(
    "Sparkle basic",
    load_basic,
    {
        "strict": Rule(
            "strict",
            "a sector, place, label, order or number, as the question asks",
            parse_basic,
            score=score_basic,
        ),
        "paper": PAPER_TEXT,
    },
    aggregate_basic,
)
COMPOSITE = Benchmark(
    "Sparkle composite",
    load_composite,
    {
        "strict": Rule("strict", "any shortest path or tour", parse_judged, gold_route, score_optimal),
        "paper": Rule("paper", "the one reference path or tour alone", parse_judged, gold_route, score_exact),
    },
    aggregate_composite,
)
