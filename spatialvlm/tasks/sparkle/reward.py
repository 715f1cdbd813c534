"""The reward for Sparkle's basic questions: a short pure function of a completion and its question."""

from __future__ import annotations

import re

from spatialvlm.example import Example
from spatialvlm.tasks.sparkle.questions import ANSWERS
from spatialvlm.tasks.sparkle.scoring import BASIC, correct_axes

EMPTY = -0.2  # as in paper A
_STRICT = BASIC.rules["strict"]
_SPACES = (  # tokenizers that keep words apart give "( 3 . 4 , 7 )" back for "(3.4, 7)"
    (re.compile(r"(?<=\d) \. (?=\d)"), "."),
    (re.compile(r"\(\s+"), "("),
    (re.compile(r"\s+(?=[,)])"), ""),
    (re.compile(r",\s*"), ", "),
)


def basic(completion: str, example: Example) -> float:
    """-0.2 for an empty completion, 0 for one that is not just an answer of its type, else its score.

    The whole completion must be the answer, but for case, spaces and a period at the end: a reward for
    answers in longer texts would teach longer texts. A sector, cell, label, order, count, yes or no earns 1
    or 0. A measured number earns 1 where `score_basic` accepts it (within a tenth), else 1 - |predicted -
    true| / true, and at least 0: 0.7 for an error of 30 %. Coordinates earn half for each correct axis
    (within half a unit). Only a correct answer earns 1.
    """
    text = " ".join(completion.split()).removesuffix(".").strip()
    if not text:
        return EMPTY
    for spaces, joined in _SPACES:
        text = spaces.sub(joined, text)
    if not re.fullmatch(ANSWERS[example.meta["answer_type"]], text, re.IGNORECASE):
        return 0.0
    parsed, true = _STRICT.parse(text, example), _STRICT.gold(example)
    score = _STRICT.score_of(parsed, true)
    if score == 1 or parsed is None:
        return score
    if isinstance(true, float):
        return max(0.0, 1 - abs(parsed - true) / true)
    if example.meta["answer_type"] == "coordinates":
        return sum(correct_axes(parsed, true)) / 2
    return score
