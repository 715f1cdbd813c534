"""Sparkle (arXiv 2410.16162): directions, distances and places; shortest paths and tours.

Numbers are right within `NUMBER_WITHIN` of the true one, coordinates within `COORDINATES_WITHIN` units on
each axis: nobody measures a picture to a tenth. Of paths and tours every one that is as short as the shortest
is right (`strict`); the paper does not say so, hence `paper` and `exact`, which take the one reference alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
from scipy.stats import bootstrap

from spatialvlm import answers, metrics
from spatialvlm.data import sparkle, sparkle_composite
from spatialvlm.data.sparkle_composite import JOIN, judge
from spatialvlm.data.sparkle_questions import CELLS, QUADRANTS, SECTORS
from spatialvlm.example import Example
from spatialvlm.metrics import Estimate, Record
from spatialvlm.passages import Found, body, conclude, denied
from spatialvlm.scoring import PAPER_TEXT, Benchmark, Parsed, Rule, micro_and_mean

NUMBER_WITHIN = 0.1  # of the true number, as a share
COORDINATES_WITHIN = 0.5  # units

# ---- labels

_LABEL = re.compile(r"(?<![A-Za-z0-9])(?:N[\s_-]?|nodes?\s+(?:N[\s_-]?)?)0*(\d{1,4})(?!\d|\.\d)", re.I)
_BARE = re.compile(r"(?<![\d.])0*(\d{1,4})(?!\d|\.\d)")


def _labels(text: str, bare: bool = True) -> list[tuple[str, int, int]]:
    """(label, start, end) of the nodes that a text names and does not rule out: "N3", "node 3", and "3" where
    there is no N."""
    found = list(_LABEL.finditer(text)) or (list(_BARE.finditer(text)) if bare else [])
    return [(f"N{match[1]}", *match.span()) for match in found if not denied(text, *match.span())]


def _asked(example: Example) -> set[str]:
    """Labels of the question that are none of the answers it lists: "the node nearest to N1 is N3"."""
    return {label for label, *_ in _labels(example.question, bare=False)} - set(example.meta["options"])


def read_label(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        named = {label for label, *_ in _labels(stretch)}
        return named - _asked(example) or named

    return conclude(text, find)


def read_order(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        named = [label for label, *_ in _labels(stretch)]
        asked = _asked(example)
        order = [label for label in named if label not in asked]
        return {", ".join(order)} if len(order) > 1 else set()

    return conclude(text, find)


# ---- places in words

_WAYS = {
    "above": "above|up|upper|uppermost|upwards?|top|north|northern|northward",
    "below": "below|down|lower|downwards?|bottom|south|southern|southward|beneath|under|underneath",
    "left": "left|leftwards?|west|western|westward",
    "right": "right|rightwards?|east|eastern|eastward",
    "center": "center|centre|central|middle|mid",
}
_WAY = {word: way for way, words in _WAYS.items() for word in re.sub(r"(\w)s\?", r"\1|\1s", words).split("|")}
_WORD = "|".join(_WAYS.values())
_RUN = re.compile(  # "upper right", "above and to the right", "the top row, in the middle"
    rf"\b(?:{_WORD})\b(?:[\s,/-]*(?:\b(?:and|to|the|of|its|on|in|at|slightly|row|column|side|part|directly|hand"
    rf"|corner)\b[\s,/-]*)*\b(?:{_WORD})\b)*",
    re.I,
)
_COMPASS = re.compile(r"\b(north|south)[\s-]?(east|west)", re.I)
_OR = re.compile(r"\bor\b", re.I)


def _runs(text: str) -> list[frozenset[str]]:
    """The ways that belong together in a text: {above, right} of "upper right"."""
    text = _COMPASS.sub(r"\1 \2", text)
    return [
        frozenset(_WAY[word.lower()] for word in re.findall(rf"\b(?:{_WORD})\b", match[0], re.I))
        for match in _RUN.finditer(text)
        if not denied(text, *match.span())
    ]


@lru_cache(maxsize=1024)
def _named(ways: frozenset[str], names: tuple[str, ...]) -> str | None:
    """The name among some that says just these ways."""
    by_ways = {frozenset(_WAY[word] for word in name.split()): name for name in names}
    return by_ways.get(ways)


def _read_place(text: str, example: Example, names: tuple[str, ...]) -> str | None:
    def find(stretch: str) -> Found:
        runs = _runs(stretch)
        if len(runs) == 2 and not _OR.search(stretch):  # "right of N1 and a little above it"
            together = runs[0] | runs[1]
            if len(together) == len(runs[0]) + len(runs[1]) == 2 and _named(together, names):
                return {_named(together, names)}
        return {name for ways in runs if (name := _named(ways, names))}

    return conclude(text, find)


# ---- numbers


def read_number(text: str, example: Example) -> Parsed:
    return answers.number(_LABEL.sub(" ", text) if _LABEL.search(text) else text)


_PAIR = re.compile(
    r"(?:\bx\s*[=:]\s*)?(-?\d+(?:\.\d+)?)\s*(?:[,;]|\band\b)\s*(?:\band\s+)?(?:y\s*[=:]\s*)?(-?\d+(?:\.\d+)?)",
    re.I,
)


def read_coordinates(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        return {
            f"({float(x)}, {float(y)})"
            for match in _PAIR.finditer(stretch)
            for x, y in [match.groups()]
            if not denied(stretch, *match.span())
        }

    return conclude(text, find)


# ---- routes

_STEP = (
    r"(?:[\s\"'\[\](),;:>=→⇒|/-]"
    r"|(?:then|to|and|next|on|via|through|go|goes|back|return|returns|returning|finally)\b)*"
)
_NODE = r"(?<![A-Za-z0-9])(?:nodes?\s+)?N[\s_]?\d{1,4}\b"
_CHAIN = re.compile(rf"{_NODE}(?:{_STEP}{_NODE})+", re.I)
_BARE_CHAIN = re.compile(rf"\b\d{{1,4}}\b(?:{_STEP}\b\d{{1,4}}\b)+", re.I)
_FROM_TO = re.compile(r"\b(?:from|between)\s*$", re.I)


def read_route(text: str, example: Example) -> str | None:
    """The labels of a path or tour in order, joined by arrows: the last list that goes all the way.

    "from N1 to N9" announces a path and is none. Two different lists with "or" between them are no answer.
    """
    text = body(text)
    matches = list(_CHAIN.finditer(text)) or list(_BARE_CHAIN.finditer(text))
    chains = [
        (match, [label for label, *_ in _labels(match[0])])
        for match in matches
        if not denied(text, *match.span())
    ]
    chains = [(match, route) for match, route in chains if not _announces(text, match, route)] or chains
    whole = [(match, route) for match, route in chains if _goes_all_the_way(route, example)] or chains
    if not whole:
        steps = [label for label, *_ in _labels(text, bare=False)]  # "Start at N1. Go right to N2. ..."
        steps = [label for at, label in enumerate(steps) if at == 0 or label != steps[at - 1]]
        return JOIN.join(steps) if len(steps) > 1 else None
    match, route = whole[-1]
    for other, alternative in whole[:-1]:
        if alternative != route and re.fullmatch(r"\W*or\W*", text[other.end() : match.start()], re.I):
            return None
    return JOIN.join(route)


def _announces(text: str, match: re.Match, route: Sequence[str]) -> bool:
    return len(route) == 2 and bool(_FROM_TO.search(text, max(0, match.start() - 20), match.start()))


def _goes_all_the_way(route: Sequence[str], example: Example) -> bool:
    meta = example.meta
    if "edges" in meta:
        return (route[0], route[-1]) == (meta["start"], meta["end"])
    return len(set(route)) >= len(meta["nodes"])


_WORTH = re.compile(r" \| (?:(optimal)|valid, ([\d.]+) times the shortest|no route: .*)\Z")


def read_judged(text: str, example: Example) -> str | None:
    """A route with what it is worth: `N1 -> N2 | optimal`, `... | valid, 1.2500 times the shortest` or
    `... | no route: N9 is no node`."""
    route = read_route(text, example)
    if route is None:
        return None
    verdict = judge(route.split(JOIN), example.meta)
    if verdict.ratio is None:
        return f"{route} | no route: {verdict.fault}"
    return f"{route} | " + (
        "optimal" if verdict.optimal else f"valid, {verdict.ratio:.4f} times the shortest"
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
        said, true = ([float(value) for value in re.findall(r"[-\d.]+", pair)] for pair in (parsed, gold))
        return float(all(abs(s - t) <= COORDINATES_WITHIN + 1e-9 for s, t in zip(said, true, strict=True)))
    return float(parsed == gold)


def score_optimal(parsed: Parsed, gold: Parsed) -> float:
    found = ratio(parsed)
    return float(found == 1 or is_exact(parsed, gold))


def score_exact(parsed: Parsed, gold: Parsed) -> float:
    return float(is_exact(parsed, gold))


_READERS: dict[str, Callable[[str, Example], Parsed]] = {
    "direction": partial(_read_place, names=SECTORS),
    "cell": partial(_read_place, names=CELLS),
    "quadrant": partial(_read_place, names=QUADRANTS),
    "yes_no": lambda text, example: answers.yes_no(text),
    "label": read_label,
    "order": read_order,
    "number": read_number,
    "ratio": read_number,
    "count": read_number,
    "coordinates": read_coordinates,
}


def read_basic(text: str, example: Example) -> Parsed:
    """What a text answers, by the kind of answer that the question asks for."""
    return _READERS[example.meta["answer_type"]](text, example)


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
    return sparkle.load(path, split or "test", limit)


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
            read_basic,
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
        "strict": Rule("strict", "any shortest path or tour", read_judged, gold_route, score_optimal),
        "paper": Rule("paper", "the one reference path or tour alone", read_judged, gold_route, score_exact),
    },
    aggregate_composite,
)
