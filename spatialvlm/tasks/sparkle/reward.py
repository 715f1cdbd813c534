"""The reward for Sparkle's basic questions: a short pure function of a completion and its question."""

from __future__ import annotations

import re

from spatialvlm.example import Example
from spatialvlm.tasks.sparkle.data import ANSWERS
from spatialvlm.tasks.sparkle.scoring import BASIC, axes_right

EMPTY = -0.2  # as in paper A
_STRICT = BASIC.rules["strict"]
_SPACES = (  # tokenizers that keep words apart give "( 3 . 4 , 7 )" back for "(3.4, 7)"
    (re.compile(r"(?<=\d) \. (?=\d)"), "."),
    (re.compile(r"\(\s+"), "("),
    (re.compile(r"\s+(?=[,)])"), ""),
    (re.compile(r",\s*"), ", "),
)


def basic(completion: str, example: Example) -> float:
    """-0.2 for an empty completion, 0 for one that is not just an answer of the form asked, else its score.

    The whole completion must be the answer, but for case, spaces and a period at the end: a reward that digs
    it out of longer texts would teach longer texts. Then a sector, cell, label, order, count, yes or no is
    worth 1 or 0. A measured number is worth 1 where `score_basic` calls it right (within a tenth), else
    1 - |said - true| / true, and 0 at least, so that nearer is better: 0.7 for an error of 30 %. Coordinates
    are worth half for each axis that is right (within half a unit). Nothing but a right answer is worth 1.
    """
    text = " ".join(completion.split()).removesuffix(".").strip()
    if not text:
        return EMPTY
    for spaces, joined in _SPACES:
        text = spaces.sub(joined, text)
    if not re.fullmatch(ANSWERS[example.meta["answer_type"]], text, re.IGNORECASE):
        return 0.0
    said, true = _STRICT.parse(text, example), _STRICT.gold(example)
    score = _STRICT.score_of(said, true)
    if score == 1 or said is None:
        return score
    if isinstance(true, float):
        return max(0.0, 1 - abs(said - true) / true)
    if example.meta["answer_type"] == "coordinates":
        return sum(axes_right(said, true)) / 2
    return score
