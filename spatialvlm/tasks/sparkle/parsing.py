"""Parse answers to Sparkle's questions: labels, places in words, numbers, coordinates, routes.

Pure functions of a text and its question; None where a person could not tell the answer either. Repeated and
unknown nodes are kept, and are then simply incorrect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise

from spatialvlm.evaluation.benchmark import Parsed
from spatialvlm.example import Example
from spatialvlm.parsing import answers
from spatialvlm.parsing.conclusion import Found, body, conclude, denied
from spatialvlm.tasks.sparkle.composite import JOIN
from spatialvlm.worlds.plane.nodes import CELLS, QUADRANTS, SECTORS

# ---- labels

_LABEL = re.compile(r"(?<![A-Za-z0-9])(?:N[\s_-]?|nodes?\s+(?:N[\s_-]?)?)0*(\d{1,4})(?!\d|\.\d)", re.I)
_BARE = re.compile(r"(?<![\d.])0*(\d{1,4})(?!\d|\.\d)")


def _labels(text: str, bare: bool = True) -> list[tuple[str, int, int]]:
    """(label, start, end) of the nodes that a text names and does not rule out.

    They are written "N3", "node 3", or "3" where there is no N.
    """
    matches = list(_LABEL.finditer(text)) or (list(_BARE.finditer(text)) if bare else [])
    return [
        (f"N{match[1]}", match.start(), match.end())
        for match in matches
        if not denied(text, match.start(), match.end())
    ]


def labels_of_question(example: Example) -> set[str]:
    """Labels in the question that are not among its options: N1 in "the node nearest to N1 is N3"."""
    return {label for label, *_ in _labels(example.question, bare=False)} - set(example.meta["options"])


_NEARER = re.compile(r"\b(?:nearer|closer)\b", re.I)


def _parse_label(text: str, example: Example) -> str | None:
    options = set(example.meta["options"])

    def find(stretch: str) -> Found:
        named = {label for label, *_ in _labels(stretch)}
        named = named - labels_of_question(example) or named
        if len(options) == 2 and len(named & options) == 1 and _NEARER.search(stretch):
            return options - named  # which is farther? "N2 is closer than N3"
        return named

    return conclude(text, find)


def _parse_order(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        named = [label for label, *_ in _labels(stretch)]
        given = labels_of_question(example)
        order = [label for label in named if label not in given]
        return {", ".join(order)} if len(order) > 1 else set()

    return conclude(text, find)


# ---- places in words

_SIDES = {
    "above": "above|up|upper|uppermost|upwards?|top|north|northern|northward",
    "below": "below|down|lower|downwards?|bottom|south|southern|southward|beneath|under|underneath",
    "left": "left|leftwards?|west|western|westward",
    "right": "right|rightwards?|east|eastern|eastward",
    "center": "center|centre|central|middle|mid",
}
_SIDE = {
    word: side for side, words in _SIDES.items() for word in re.sub(r"(\w)s\?", r"\1|\1s", words).split("|")
}
_WORD = "|".join(_SIDES.values())
_RUN = re.compile(  # "upper right", "above and to the right", "the top row, in the middle"
    rf"\b(?:{_WORD})\b(?:[\s,/-]*(?:\b(?:and|to|the|of|its|on|in|at|slightly|row|column|side|part|directly|hand"
    rf"|corner)\b[\s,/-]*)*\b(?:{_WORD})\b)*",
    re.I,
)
_COMPASS = re.compile(r"\b(north|south)[\s-]?(east|west)", re.I)
_OR = re.compile(r"\bor\b", re.I)


def _runs(text: str) -> list[frozenset[str]]:
    """The sides that belong together in a text: {above, right} of "upper right"."""
    text = _COMPASS.sub(r"\1 \2", text)
    return [
        frozenset(_SIDE[word.lower()] for word in re.findall(rf"\b(?:{_WORD})\b", match[0], re.I))
        for match in _RUN.finditer(text)
        if not denied(text, *match.span())
    ]


@lru_cache(maxsize=1024)
def _named(sides: frozenset[str], names: tuple[str, ...]) -> str | None:
    """The one of some names that means just these sides."""
    return next((name for name in names if sides == {_SIDE[word] for word in name.split()}), None)


_OPPOSITES = {"above": "below", "below": "above", "left": "right", "right": "left"}
_SUBJECT = re.compile(r"\s*(?:is|lies|sits|appears)\b", re.I)
_NEXT_CLAUSE = re.compile(r"(?:[.,;:\n]|\b(?:and|while|whereas|but))\s*\Z", re.I)
_ORIGIN = re.compile(r"\b(?:from|to|of|at|between|and|than)\s+\Z", re.I)


def _reversed_direction(text: str, example: Example) -> str | None:
    """The words between the nodes where a text gives the direction back to the first; else None.

    "N1 is to the left of N2" answers the question for the direction from N1 to N2 in reverse.
    """
    pair = [label for label, *_ in _labels(example.question, bare=False)]
    named = _labels(text, bare=False)
    if len(pair) != 2 or [label for label, *_ in named] != pair:
        return None
    (_, start, end), (_, other, _) = named
    between = text[end:other]
    is_reversed = _SUBJECT.match(between) and not _NEXT_CLAUSE.search(between)
    return between if is_reversed and not _ORIGIN.search(text[:start]) else None


def _parse_direction(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        if words := _reversed_direction(stretch, example):
            opposite = [frozenset(_OPPOSITES.get(side, side) for side in run) for run in _runs(words)]
            return {name for sides in opposite if (name := _named(sides, SECTORS))}
        return _places(stretch, SECTORS)

    return conclude(text, find)


def _parse_place(text: str, example: Example, names: tuple[str, ...]) -> str | None:
    return conclude(text, lambda stretch: _places(stretch, names))


def _places(text: str, names: tuple[str, ...]) -> Found:
    runs = _runs(text)
    if len(runs) == 2 and not _OR.search(text):  # "right of N1 and a little above it"
        together = runs[0] | runs[1]
        if len(together) == len(runs[0]) + len(runs[1]) == 2 and _named(together, names):
            return {_named(together, names)}
    return {name for sides in runs if (name := _named(sides, names))}


# ---- numbers

_SPACED = re.compile(r"(?<=\d) \. (?=\d)")  # "3 . 4", as tokenizers that keep words apart give it back


def _parse_count(text: str, example: Example) -> Parsed:
    text = _SPACED.sub(".", text)
    return answers.number(_LABEL.sub(" ", text) if _LABEL.search(text) else text)


def _parse_measure(text: str, example: Example) -> float | None:
    """A float, which `score_basic` takes as measured: "5" for a true length is correct within a tenth."""
    number = _parse_count(text, example)
    return None if number is None else float(number)


_PAIR = re.compile(
    r"(?<![A-Za-z\d.])(?:x\s*[=:]\s*)?(?<![A-Za-z\d.])(-?\d+(?:\.\d+)?)\s*(?:[,;]|\band\b)\s*(?:\band\s+)?(?:y\s*[=:]\s*)?(-?\d+(?:\.\d+)?)",
    re.I,
)


def _parse_coordinates(text: str, example: Example) -> str | None:
    text = _SPACED.sub(".", text)

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
    r"|(?:then|to|and|next|on|via|through|go|goes|back|return|returns|returning|finally|the|at|a|line|along"
    r"|green|red|up|down|left|right|upwards?|downwards?|straight|start|end|move|moving|continue|pass|passing"
    r"|visit|visiting|reach|reaching|arrive|arriving)\b)*"
)
_NODE = r"(?<![A-Za-z0-9])(?:nodes?\s+)?N[\s_]?\d{1,4}\b"
_CHAIN = re.compile(rf"{_NODE}(?:{_STEP}{_NODE})+", re.I)
_BARE_CHAIN = re.compile(rf"\b\d{{1,4}}\b(?:{_STEP}\b\d{{1,4}}\b)+", re.I)
_FROM_TO = re.compile(r"\b(?:from|between)\s*$", re.I)


_REMARK = re.compile(r"\([^()\n]{1,60}\)")
_UP_TO = re.compile(r"\bup to\b", re.I)  # a bound of numbers, but a step of routes
_ARROW = re.compile(r"[>→⇒➔=-]")


def _without_remarks(text: str) -> str:
    """A text without parentheses that name no node: "N1 (green) -> N2 (3.0 units)"."""
    named = bool(_LABEL.search(text))

    def remark(match: re.Match) -> str:
        bare_nodes = not named and not re.search(r"[A-Za-z]", match[0])
        return match[0] if bare_nodes or _LABEL.search(match[0]) else " "

    return _REMARK.sub(remark, text)


def _route(text: str, bare: bool = True) -> list[str]:
    """The nodes of a text in order.

    A leg that starts where the one before ended, after a pause, repeats no node: "N1 to N2, N2 to N3";
    "N1 -> N2 -> N2" does.
    """
    named = _labels(text, bare)
    gaps = [text[end:start].strip().lower() for (_, _, end), (_, start, _) in pairwise(named)]
    within = {gap for gap, (one, other) in zip(gaps, pairwise(named), strict=True) if one[0] != other[0]}
    route = [named[0][0]] if named else []
    for gap, (one, other) in zip(gaps, pairwise(named), strict=True):
        if one[0] != other[0] or gap in within or _ARROW.search(gap):
            route.append(other[0])
    return route


def parse_route(text: str, example: Example) -> str | None:
    """Parse a path or tour into its labels in order, joined by arrows: the last complete list.

    "from N1 to N9" announces a path and is none. Two different lists with "or" between them are no answer.
    Where no list is complete, but the nodes of the whole text are, they are the route.
    """
    text = _UP_TO.sub("up", _without_remarks(body(text)))
    matches = list(_CHAIN.finditer(text)) or list(_BARE_CHAIN.finditer(text))
    chains = [(match, _route(match[0])) for match in matches if not denied(text, *match.span())]
    announced = [
        match.span()
        for match, route in chains
        if len(route) == 2 and _FROM_TO.search(text, max(0, match.start() - 20), match.start())
    ]
    chains = [(match, route) for match, route in chains if match.span() not in announced] or chains
    complete = [(match, route) for match, route in chains if _is_complete(route, example)]
    if not complete:
        steps_text = text  # "Start at N1. Go right to N2. Then go up. You reach N4."
        for start, end in announced:
            steps_text = steps_text[:start] + " " * (end - start) + steps_text[end:]
        steps = _route(steps_text, bare=False)
        if len(steps) > 1 and (not chains or _is_complete(steps, example)):
            return JOIN.join(steps)
    complete = complete or chains
    if not complete:
        return None
    match, route = complete[-1]
    for other, alternative in complete[:-1]:
        if alternative != route and re.fullmatch(r"\W*or\W*", text[other.end() : match.start()], re.I):
            return None
    return JOIN.join(route)


def _is_complete(route: Sequence[str], example: Example) -> bool:
    meta = example.meta
    if "edges" in meta:
        return (route[0], route[-1]) == (meta["start"], meta["end"])
    return len(set(route)) >= len(meta["nodes"])


# ---- by type of answer

_PARSERS: dict[str, Callable[[str, Example], Parsed]] = {
    "direction": _parse_direction,
    "cell": partial(_parse_place, names=CELLS),
    "quadrant": partial(_parse_place, names=QUADRANTS),
    "yes_no": lambda text, example: answers.yes_no(text),
    "label": _parse_label,
    "order": _parse_order,
    "number": _parse_measure,
    "ratio": _parse_measure,
    "count": _parse_count,
    "coordinates": _parse_coordinates,
}


def parse_basic(text: str, example: Example) -> Parsed:
    """Parse a text by the type of answer that its question asks for."""
    return _PARSERS[example.meta["answer_type"]](text, example)
