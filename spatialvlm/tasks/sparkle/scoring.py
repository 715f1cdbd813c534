"""Sparkle (arXiv 2410.16162): directions, distances and places; shortest paths and tours.

Numbers are right within `NUMBER_WITHIN` of the true one, coordinates within `COORDINATES_WITHIN` units on
each axis: nobody measures a picture to a tenth. Of paths and tours every one that is as short as the shortest
is right (`strict`); the paper does not say so, hence `paper` and `exact`, which take the one reference alone.
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
from spatialvlm.tasks.sparkle.parsing import asked_about, parse_basic, parse_route
from spatialvlm.tasks.sparkle.questions import CELLS, QUADRANTS, SECTORS

NUMBER_WITHIN = 0.1  # of the true number, as a share
COORDINATES_WITHIN = 0.5  # units

# ---- judged routes

_WORTH = re.compile(r" \| (?:(optimal)|valid, ([\d.]+) times the shortest|no route: .*)\Z")


def parse_judged(text: str, example: Example) -> str | None:
    """A route with what it is worth: `N1 -> N2 | optimal`, `... | valid, 1.25 times the shortest` or
    `... | no route: N9 is no node`."""
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
    """How many times as long as the shortest a judged route is; None where it is none."""
    found = _WORTH.search(parsed or "")
    if not found or not (found[1] or found[2]):
        return None
    return 1.0 if found[1] else float(found[2])


def is_exact(parsed: Parsed, gold: Parsed) -> bool:
    """Whether a route is the reference; a tour may leave out its return."""
    return parsed is not None and _WORTH.sub("", parsed) in (gold, _open(gold))


def _open(gold: str) -> str:
    first, *_, last = gold.split(JOIN)
    return gold.removesuffix(f"{JOIN}{last}") if first == last else gold


# ---- scores


def score_basic(parsed: Parsed, gold: Parsed) -> float:
    """1 or 0. A gold float is a measured number, an int a count; coordinates are compared axis by axis."""
    if parsed is None:
        return 0.0
    if isinstance(gold, float):
        return float(isinstance(parsed, int | float) and abs(parsed - gold) <= NUMBER_WITHIN * gold + 1e-9)
    if isinstance(gold, str) and gold.startswith("("):
        return float(all(axes_right(parsed, gold)))
    return float(parsed == gold)


def axes_right(parsed: str, gold: str) -> tuple[bool, bool]:
    """Whether x, and whether y, is within `COORDINATES_WITHIN`, of coordinates as `parse_coordinates` gives
    them; those may be tiny or huge: `(1e-05, 3.0)`, `(inf, 3.0)`."""
    said, true = ([float(along) for along in pair.strip("()").split(",")] for pair in (parsed, gold))
    return tuple(abs(s - t) <= COORDINATES_WITHIN + 1e-9 for s, t in zip(said, true, strict=True))


def score_optimal(parsed: Parsed, gold: Parsed) -> float:
    found = ratio(parsed)
    return float(found == 1 or is_exact(parsed, gold))


def score_exact(parsed: Parsed, gold: Parsed) -> float:
    return float(is_exact(parsed, gold))


def vocabulary(example: Example) -> tuple[str, ...]:
    """The answers to choose among without looking, where they are few: sectors, cells, yes and no, labels;
    empty for numbers and coordinates."""
    meta = example.meta
    if meta["answer_type"] == "order":
        return tuple(", ".join(order) for order in permutations(meta["options"]))
    if meta["answer_type"] == "label":
        asked = asked_about(example)
        return meta["options"] or tuple(label for label in meta["nodes"] if label not in asked)
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
    """Of single answers: `optimal`, `exact` and `valid` as shares of all, and, where any are valid,
    `length_ratio`: their mean length as a multiple of the shortest, with a percentile bootstrap's
    interval."""
    ratios = [ratio(record["parsed"]) for record in records]
    exact = [is_exact(record["parsed"], record["gold"]) for record in records]
    valid = [each for each in ratios if each is not None]
    found = {
        "optimal": metrics.proportion(sum(each == 1 for each in ratios), len(records)),
        "exact": metrics.proportion(sum(exact), len(records)),
        "valid": metrics.proportion(len(valid), len(records)),
    }
    return found | ({"length_ratio": _mean_ratio(valid)} if valid else {})


def _mean_ratio(ratios: Sequence[float]) -> Estimate:
    value, n = float(np.mean(ratios)), len(ratios)
    if n == 1 or min(ratios) == max(ratios):  # nothing to resample
        return Estimate(value, (value, value), n)
    found = bootstrap((ratios,), np.mean, method="percentile", batch=100, rng=np.random.default_rng(0))
    return Estimate(value, tuple(map(float, found.confidence_interval)), n)


def routes_by_task(records: Sequence[Record]) -> dict[str, dict[str, Estimate]]:
    return {task: routes(part) for task, part in metrics.group(records).items()}


def aggregate_composite(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, of one answer a question, `routes` over all."""
    single = all(record.get("num_samples", 1) == 1 for record in records)
    return micro_and_mean(records) | (routes(records) if single else {})


def aggregate_basic(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, before them, the mean over the families of each capability."""
    found = metrics.group(
        [record | {"capability": _CAPABILITY[record["task"]]} for record in records], "capability"
    )
    return {name: metrics.mean_of_tasks(part) for name, part in found.items()} | micro_and_mean(records)


_CAPABILITY = {name: family.capability for name, family in sparkle.FAMILIES.items()}


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
