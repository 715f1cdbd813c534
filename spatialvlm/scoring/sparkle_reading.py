"""What a text answers to Sparkle's questions: labels, places in words, numbers, coordinates, routes.

Pure functions of a text and its question; None where a person could not tell either. Repeated and unknown
nodes are read as they stand, and are then simply wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from spatialvlm import answers
from spatialvlm.data.sparkle_composite import JOIN
from spatialvlm.data.sparkle_nodes import CELLS, QUADRANTS, SECTORS
from spatialvlm.example import Example
from spatialvlm.passages import Found, body, conclude, denied
from spatialvlm.scoring import Parsed

# ---- labels

_LABEL = re.compile(r"(?<![A-Za-z0-9])(?:N[\s_-]?|nodes?\s+(?:N[\s_-]?)?)0*(\d{1,4})(?!\d|\.\d)", re.I)
_BARE = re.compile(r"(?<![\d.])0*(\d{1,4})(?!\d|\.\d)")


def _labels(text: str, bare: bool = True) -> list[tuple[str, int, int]]:
    """(label, start, end) of the nodes that a text names and does not rule out: "N3", "node 3", and "3" where
    there is no N."""
    found = list(_LABEL.finditer(text)) or (list(_BARE.finditer(text)) if bare else [])
    return [(f"N{match[1]}", *match.span()) for match in found if not denied(text, *match.span())]


def asked_about(example: Example) -> set[str]:
    """Labels of the question that are none of the answers it lists: "the node nearest to N1 is N3"."""
    return {label for label, *_ in _labels(example.question, bare=False)} - set(example.meta["options"])


def read_label(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        named = {label for label, *_ in _labels(stretch)}
        return named - asked_about(example) or named

    return conclude(text, find)


def read_order(text: str, example: Example) -> str | None:
    def find(stretch: str) -> Found:
        named = [label for label, *_ in _labels(stretch)]
        asked = asked_about(example)
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

_SPACED = re.compile(r"(?<=\d) \. (?=\d)")  # "3 . 4", as tokenizers that keep words apart give it back


def read_number(text: str, example: Example) -> Parsed:
    text = _SPACED.sub(".", text)
    return answers.number(_LABEL.sub(" ", text) if _LABEL.search(text) else text)


_PAIR = re.compile(
    r"(?:\bx\s*[=:]\s*)?(-?\d+(?:\.\d+)?)\s*(?:[,;]|\band\b)\s*(?:\band\s+)?(?:y\s*[=:]\s*)?(-?\d+(?:\.\d+)?)",
    re.I,
)


def read_coordinates(text: str, example: Example) -> str | None:
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


# ---- by the kind of question

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
