"""vsGRPO's rewards (arXiv 2504.00883): for the format where the prompt has one, plus for the answer.

`reward` is 0 to 1 for vanilla prompts, and 0 to 2 for think and observe, whose format counts 1. Answers are
parsed from the whole completion for vanilla, else from its only `<answer>`.

Words must equal the answer but for case, blanks and full stops. For numbers the paper gives the relative
error alone, |predicted - true| / min(predicted, true); the reward here is 1 minus it, and 0 from an error of
1 on: twice as much and half earn nothing alike. `mra` rewards with VSI-Bench's own mean relative accuracy
instead. A number is parsed from at most MAX_WORDS words ("about 3.5 square meters"), since a reward for
numbers in longer texts teaches longer texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from spatialvlm.evaluation import metrics
from spatialvlm.example import Example
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsi.data import Mode
from spatialvlm.tasks.vsi.scoring import same_word

Numbers = Literal["relative", "mra"]
MAX_WORDS = 4
EMPTY = 3  # words; a thought of fewer counts as empty

# A tokenizer of whole words puts blanks around what it takes for punctuation: "< / think >", "3 . 5". The
# possessive `*+` keeps the time linear in the text's length.
_TAG = re.compile(r"<\s*+(/?)\s*+(think|observe|answer)\s*+>", re.I)
_POINT = re.compile(r"(?<=\d)\s+\.\s+(?=\d)")


def reward(completion: str, example: Example, mode: Mode = "vanilla", numbers: Numbers = "relative") -> float:
    """The format's reward, where the mode has one, and the answer's.

    Raises:
        ValueError: a true number that is not above 0.
    """
    right = accuracy(answer_text(completion, mode), example, numbers)
    return right if mode == "vanilla" else has_format(completion, mode) + right


def has_format(completion: str, mode: Mode) -> float:
    """1.0 for exactly `<mode>...</mode><answer>...</answer>`, blanks around them aside, else 0.0.

    Each of the four tags occurs once, in this order, and the answer is not empty. The thought may be;
    `habits` counts that.
    """
    tags = [(slash, name.lower()) for slash, name in _TAG.findall(completion)]
    if tags != [("", mode), ("/", mode), ("", "answer"), ("/", "answer")]:
        return 0.0
    before, _, between, answer, after = (part.strip() for part in _split(completion))
    return float(bool(answer) and not (before or between or after))


def answer_text(completion: str, mode: Mode) -> str:
    """The answer of a completion: all of it for vanilla, else the content of its only `<answer>`."""
    return completion.strip() if mode == "vanilla" else _inside(completion, "answer") or ""


def accuracy(text: str, example: Example, numbers: Numbers = "relative") -> float:
    """0 to 1 for an answer: 0 or 1 where the example has a `vocabulary` of words, else by the number.

    Raises:
        ValueError: a true number that is not above 0.
    """
    if "vocabulary" in example.meta:
        return float(same_word(text, example.answer))
    true = float(example.answer)
    if not (math.isfinite(true) and true > 0):
        raise ValueError(f"row {example.id!r}: the true number must be above 0, not {example.answer!r}")
    predicted = parse_number(text)
    if predicted is None or predicted <= 0:
        return 0.0
    if numbers == "mra":
        return metrics.mean_relative_accuracy(predicted, true)
    return max(0.0, 1.0 - abs(predicted - true) / min(predicted, true))


def parse_number(text: str) -> float | None:
    """The finite number of a short text (`answers.number`), without its unit; None where there is none.

    A text of more than MAX_WORDS words, or with tags in it, has none.
    """
    text = _POINT.sub(".", text)
    short = len(text.split()) <= MAX_WORDS and not _TAG.search(text)
    number = answers.number(text) if short else None
    return None if number is None or not math.isfinite(number) else float(number)


def habits(completions: Sequence[str], mode: Mode) -> dict[str, float]:
    """Fractions of completions with the right `format`, and with `empty_thoughts`; none for vanilla.

    An empty thought has its tags once, and fewer than EMPTY words in them.
    """
    if mode == "vanilla" or not completions:
        return {}
    thoughts = [_inside(completion, mode) for completion in completions]
    empty = [thought is not None and len(re.findall(r"\w+", thought)) < EMPTY for thought in thoughts]
    formats = [has_format(completion, mode) for completion in completions]
    return {"format": sum(formats) / len(formats), "empty_thoughts": sum(empty) / len(empty)}


def _split(completion: str) -> list[str]:
    """The texts between tags, from before the first to after the last."""
    return _TAG.sub("\0", completion.replace("\0", "")).split("\0")


def _inside(completion: str, name: str) -> str | None:
    """The text between the only pair of these tags; None where there is none, or several."""
    tags = [match for match in _TAG.finditer(completion) if match[2].lower() == name]
    if [tag[1] for tag in tags] != ["", "/"]:
        return None
    return completion[tags[0].end() : tags[1].start()].strip()
