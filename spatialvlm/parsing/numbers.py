"""Numbers in English text, in digits or in words, as somebody counting or measuring would mean them."""

from __future__ import annotations

import math
import re

from spatialvlm.parsing.conclusion import Found, denied

NO_IDIOM = r"(?!\s+(?:doubt|idea|clue|question|problem|wonder|way|need)\b)"  # a "no" that counts nothing

_SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {name: value for value, name in enumerate(_SMALL)}
_VALUES |= {name: 10 * value for value, name in enumerate(_TENS, start=2)} | {"a": 1}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}
_UNIT = "|".join(_SMALL[1:10])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-]+(?:{_UNIT})\b)?|{'|'.join(reversed(_SMALL))})"
_BELOW_1000 = rf"(?:(?:a|{_UNIT})\s+hundred\b(?:\s+(?:and\s+)?{_BELOW_100}\b)?|{_BELOW_100}\b)"
_NUMBER = re.compile(
    r"(?<![A-Za-z\d_.^])(?P<digits>[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?)"
    r"(?![\d^]|\.\d|(?:st|nd|rd|th|d)\b)(?:\s+(?P<scale>hundred|thousand|million)\b)?"
    r"|\b(?P<minus>(?:minus|negative)\s+)?(?P<words>"
    rf"(?:a|{_BELOW_1000})\s+thousand\b(?:[,\s]+(?:and\s+)?{_BELOW_1000})?"
    rf"|(?:(?:half\s+a|a|{_BELOW_100})\s+)?dozen\b|{_BELOW_1000})"
    r"|\b(?P<none>none(?!\s+of\s+(?:the\s+above|these|those))\b"
    rf"|(?:there\s+(?:are|is|were)|i\s+(?:can\s+)?(?:see|find|count))\s+no\b{NO_IDIOM}"
    r"|there\s+(?:aren't|isn't|are\s+not|is\s+not)\s+any\b"
    r"|(?:do\s+not|don't|cannot|can't|can\s+not)\s+(?:see|find|count|spot)\s+any\b(?!\s+(?:image|picture|photo))"
    rf"|(?<!\w\W)no{NO_IDIOM}\s+(?:[a-z]+\s+){{0,3}}[a-z]+s(?=\W*$|\s+(?:are|were|can|visible|present)\b))",
    re.I,
)
_HALF = re.compile(r"\s+and\s+(?:a|one|two|three)\s+(?:half|third|quarter|tenth)", re.I)
_ONE_AS_PRONOUN = re.compile(  # "the red one", "one of them"
    r"\b(?:the|this|that|each|every|which|any|another|other|either|no)\s+(?:[\w-]+\s+){0,2}$", re.I
)
_ONE_OF = re.compile(r"\s+(?:of|another)\b", re.I)
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:over|under|above|below|beyond|exceed(?:s|ing)?|(?:minimum|maximum) of)|(?<![-=])[<>≤≥]=?)\s*$",
    re.I,
)
_BOUND_AFTER = re.compile(
    r"\+(?!\s*\d)|(?:\s*[a-z]+)?\s+(?:or\s+(?:more|less|fewer)|and\s+(?:up|above))\b", re.I
)
_LABEL_BEFORE = re.compile(  # "in frame 12"
    r"\b(?:image|frame|figure|fig\.|picture|photo|step|view|video|scene|question)\s+(?:#|no\.\s*)?$", re.I
)
_ASIDE = re.compile(r"(?<=\w)\s*\((?!\s*(?:[\d.,]+|[a-z-]+)\s*\))[^()]*\)", re.I)  # but "three (3)"


def numbers(text: str) -> Found:
    """The distinct numbers that a text answers with, in digits or words.

    Those in an aside, "3 (2 red, 1 blue)", or in a label, "frame 12", count only where there are no others.
    """
    outside = _ASIDE.sub(" ", text)
    return _mentioned(outside, labels=False) or _mentioned(text, labels=True)


def _mentioned(text: str, labels: bool) -> Found:
    found = set()
    for match in _NUMBER.finditer(text):
        if denied(text, *match.span()) or _HALF.match(text, match.end()) or _is_bound(text, match):
            continue
        if match["none"]:
            found.add(0)
        elif match["digits"]:
            if labels or not _LABEL_BEFORE.search(text, max(0, match.start() - 20), match.start()):
                found.add(_digits_to_number(match["digits"], match["scale"]))
        elif not _is_pronoun(text, match):
            value = _words_to_number(match["words"])
            found.add(-value if match["minus"] else value)
    return found - {None}


def _words_to_number(words: str) -> int:
    """The value of English number words as `_NUMBER` matches them: "two hundred and five" is 205."""
    tokens = re.findall(r"[a-z]+", words.lower())
    if tokens[0] == "half":
        return 6  # half a dozen
    total = group = 0
    for token in tokens:
        if token == "hundred":
            group *= 100
        elif token == "thousand":
            total, group = total + group * 1000, 0
        elif token == "dozen":
            group = 12 * max(group, 1)
        else:
            group += _VALUES.get(token, 0)  # 0: the "and" between
    return total + group


def _digits_to_number(digits: str, scale: str | None) -> int | float | None:
    """The value of digits as `_NUMBER` matches them, an int unless they show a fraction; None if infinite."""
    value = float(digits.replace(",", "")) * _SCALES.get((scale or "").lower(), 1)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and "." not in digits else value


def _is_bound(text: str, match: re.Match) -> bool:
    return bool(_BOUND_BEFORE.search(text, max(0, match.start() - 20), match.start())) or bool(
        _BOUND_AFTER.match(text, match.end())
    )


def _is_pronoun(text: str, match: re.Match) -> bool:
    start, end = match.span()
    before = _ONE_AS_PRONOUN.search(text, max(0, start - 80), start)
    return match["words"].lower() == "one" and bool(before or _ONE_OF.match(text, end))
