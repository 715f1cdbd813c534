"""VSI-Bench (Yang et al., arXiv 2412.14171): a letter or a number per question, and the mean of eight tasks.

Numbers are scored by their mean relative accuracy, so an answer can be partly right. Units are those of the
question, and are not converted. Questions in VSI-100k's form, whose choices are answered in words
(`meta["vocabulary"]`), are scored too: `strict` parses the word that a text answers with, the other rules
take the whole text but for case, blanks and full stops.

`TAGGED` is for prompts with thoughts or observations first: every rule parses what stands in the last
`<answer>` of a text, and the whole text where there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import Benchmark, Parsed, Rule
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi.data import DIRECTIONS

DIRECTION = "object_rel_direction"
TASKS = (  # in the order of the paper's tables
    "object_counting",
    "object_abs_distance",
    "object_size_estimation",
    "room_size_estimation",
    "object_rel_distance",
    DIRECTION,
    "route_planning",
    "obj_appearance_order",
)
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_VALUES = {name: value for value, name in enumerate(_UNITS.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES |= {name: 10 * value for value, name in enumerate(_TENS.split(), start=2)}
_VALUES |= {"hundred": 100, "thousand": 1000}
LARGEST = 1e300  # of a number in words
# What stands in a tag that is closed, or that the text ends in; some tokenizers write blanks into tags. The
# possessive `*+` keeps the time linear in the text's length.
_ANSWER = re.compile(
    r"<\s*+answer\s*+>((?:(?!<\s*+/?\s*+answer\s*+>).)*+)(?:<\s*+/\s*+answer\s*+>|\Z)", re.I | re.S
)
_TOKEN = re.compile(r"-?\d+(?:\.\d+)?|[a-z]+")


def _finite(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:  # no number
        return None
    return value if math.isfinite(value) else None


def parse_official(text: str, example: Example) -> Parsed:
    """Parse what stands before the first blank, but for full stops at its end, as a letter or a number.

    A number is what Python's `float` takes. "The answer is B" gives THE, "3m" and "about 3" nothing, "(B)" no
    letter. The benchmark's authors' `lmms_eval/tasks/vsibench/utils.py` (vision-x-nyu/thinking-in-space).
    """
    if _in_words(example):
        return _whole(text, example)
    word = text.partition(" ")[0].rstrip(".").strip()
    return (word.upper() or None) if example.choices else _finite(word)


def _in_words(example: Example) -> bool:
    """Whether a choice of VSI-100k is answered in words, without options."""
    worded = "vocabulary" in example.meta and example.task in vsibench.CHOICE_TYPES
    return worded and example.choices is None


def _whole(text: str, example: Example) -> str | None:
    return next((entry for entry in example.meta["vocabulary"] if same_word(text, entry)), None)


def same_word(text: str, word: str) -> bool:
    """Whether a text is this word, but for case, blanks and full stops."""
    return _bare(text) == _bare(word)


def _bare(text: str) -> str:
    return "".join(text.casefold().replace(".", "").split())


def parse_lmms_eval(text: str, example: Example) -> Parsed:
    """Parse as `official`, but take the first number in the text, in digits or in English words.

    "2 to 3" gives 2, "1,000" 1, "the red one" 1. lmms-eval 0.7.3, `tasks/vsibench/utils.py`.
    """
    if example.choices or _in_words(example):
        return parse_official(text, example)
    tokens = _TOKEN.findall(text.lower())
    start = next((at for at, token in enumerate(tokens) if token in _VALUES or not token.isalpha()), None)
    if start is None:
        return None
    if tokens[start] not in _VALUES:
        return _finite(tokens[start])
    words = (token for token in tokens[start:] if token.isalpha())
    return _spelt(token for token in takewhile(lambda token: token in _VALUES or token == "and", words))


def _spelt(words: Iterable[str]) -> float | None:
    """The value of number words in a row: those below a hundred add up, hundred and thousand multiply.

    None above LARGEST, which a model that repeats "hundred" soon is; lmms-eval raises from 1e308 on.
    """
    total = group = 0
    for word in words:
        if word == "hundred":
            group = 100 * max(group, 1)
        elif word == "thousand":
            total, group = total + 1000 * max(group, 1), 0
        else:
            group += _VALUES.get(word, 0)  # 0: the "and" between
        if total + group > LARGEST:
            return None
    return float(total + group)


def parse_strict(text: str, example: Example) -> Parsed:
    if _in_words(example):
        return answers.one_of(text, example.meta["vocabulary"])
    return answers.choice(text, example.choices) if example.choices else answers.number(text)


def gold(example: Example) -> str | float:
    return example.answer if example.choices or _in_words(example) else float(example.answer)


def score(parsed: Parsed, true: str | float) -> float:
    """1 or 0 for a letter or word; for a number its mean relative accuracy, 0 where unparsed."""
    return float(parsed == true) if isinstance(true, str) else metrics.mean_relative_accuracy(parsed, true)


def aggregate(records: Sequence[Record]) -> dict[str, Estimate]:
    """`official`, the eight tasks behind it, `trained` and `held_out`, and `micro` over all questions.

    Official is the plain mean of the eight tasks, where relative direction is the mean of its easy, medium
    and hard questions; `trained` is the mean of the six that VSI-100k has, `held_out` of the two others. A
    mean is left out where one of its parts has no questions.
    """
    by_task = metrics.by_task(records)
    if all(name in by_task for name in DIRECTIONS):
        by_task[DIRECTION] = metrics.mean([by_task[name] for name in DIRECTIONS])
    totals = {name: by_task[name] for name in TASKS if name in by_task}
    means = {"official": TASKS, "trained": TASKS[:6], "held_out": TASKS[6:]}
    means = {
        name: metrics.mean([totals[task] for task in tasks])
        for name, tasks in means.items()
        if totals.keys() >= set(tasks)
    }
    return means | totals | {"micro": metrics.accuracy(records)}


def load(path: str, split: str | None = None, limit: int | None = None) -> Sequence[Example]:
    if path == "embedded":
        from spatialvlm.tasks.vsi import rendered  # imports a renderer

        return rendered.load(split or "test", limit or rendered.QUESTIONS, form="options")
    return vsibench.load(path, split or "test", limit)


VSIBENCH = Benchmark(
    "VSI-Bench",
    load,
    {
        "strict": Rule("strict", "the letter or number that a text answers with", parse_strict, gold, score),
        "official": Rule(
            "official",
            "the first word is the letter or number (the authors' code)",
            parse_official,
            gold,
            score,
        ),
        "paper": Rule("paper", "the benchmark's own script, as vsGRPO used it", parse_official, gold, score),
        "lmms_eval": Rule(
            "lmms_eval", "the first word, or the first number anywhere (0.7.3)", parse_lmms_eval, gold, score
        ),
    },
    aggregate,
)


def _in_tags(rule: Rule) -> Rule:
    def parse(text: str, example: Example) -> Parsed:
        inside = _ANSWER.findall(text)
        return rule.parse(inside[-1].strip() if inside else text, example)

    return replace(rule, source=f"{rule.source}, in the last <answer>", parse=parse)


TAGGED = replace(VSIBENCH, rules={name: _in_tags(rule) for name, rule in VSIBENCH.rules.items()})
