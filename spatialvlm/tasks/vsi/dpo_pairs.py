"""Wrong answers for DPO's pairs: the right one changed, by a rule for each family.

A word becomes another that could have been the answer. A number is multiplied by a factor, so that it is more
than 20 % off, and written as precisely as the right one; counts stay whole and at least 1. Which word or
factor follows from the seed and the row's id alone.
"""

from __future__ import annotations

import math
from decimal import Decimal
from random import Random

from spatialvlm.errors import UserError
from spatialvlm.example import Example

LEAST = 0.2  # relative distance from the right number that a wrong one keeps more than
MOST = 3.0  # a factor is between 1 / MOST and MOST


def rejected(example: Example, seed: int = 0) -> str:
    """The wrong answer to a question of VSI-100k.

    Raises:
        UserError: an answer that is neither a word with another in its `vocabulary` nor a number above 0.
    """
    draw = Random(f"{seed}-rejected-{example.id}")
    if "vocabulary" in example.meta:
        right = example.answer.casefold()
        others = [word for word in example.meta["vocabulary"] if word.casefold() != right]
        if not others:
            raise UserError(f"row {example.id!r}: no word but {example.answer!r} could be the answer")
        return draw.choice(others)
    return _scaled(example, draw)


def _scaled(example: Example, draw: Random) -> str:
    try:
        decimals = max(0, -Decimal(example.answer).as_tuple().exponent)
        right = float(example.answer)
    except (ArithmeticError, TypeError, ValueError):  # no number; NaN has no exponent
        right = math.nan
    if not (math.isfinite(right) and right > 0):
        raise UserError(f"row {example.id!r}: the answer must be a number above 0, not {example.answer!r}")
    if example.task == "object_counting":
        decimals = 0
    while True:  # a factor that does not show after rounding is drawn anew; a large one always does
        factor = MOST ** draw.uniform(-1, 1)
        written = f"{right * factor:.{decimals}f}"
        if float(written) > 0 and abs(float(written) - right) > LEAST * right:
            return written
