"""Numbers in digits or English words, in every form that somebody counting or measuring would write."""

from __future__ import annotations

import math
import re

from spatialvlm.parsing.conclusion import Found, denied
from spatialvlm.parsing.english import part, pattern

SEVERAL = math.inf  # beside a number: it is no answer, as in "3 x 3"

# ---- words

_SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {name: value for value, name in enumerate(_SMALL)}
_VALUES |= {name: 10 * value for value, name in enumerate(_TENS, start=2)} | {"a": 1, "single": 1}
_VALUES |= {"couple": 2, "pair": 2}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "k": 1000}
_PARTS = {"hal": 2, "qua": 4, "fou": 4, "fif": 5, "eig": 8, "ten": 10}  # those of decimal fractions
_UNIT = "|".join(_SMALL[1:10])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-]+(?:{_UNIT})\b)?|{'|'.join(reversed(_SMALL))})"
_BELOW_1000 = rf"(?:(?:a|{_UNIT})\s+hundred\b(?:\s+(?:and\s+)?{_BELOW_100}\b)?|{_BELOW_100}\b)"
_PART = r"hal(?:f|ves)|quarters?|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?"
_LENGTH = (
    r"(?:kilo|centi|milli|deci)?met(?:er|re)s?|m|km|cm|mm|f(?:oo|ee)t|inch(?:es)?|yards?|miles?|hours?|kg"
    r"|lit(?:er|re)s?"
)

# ---- digits

_DIGITS = "|".join(
    [
        r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?",  # 1,234.5
        r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?!\d)",  # 1.234,5
        r"\d{1,3}(?:[ ']\d{3})+(?!\d)(?:[.,]\d+)?",  # 12 500
        r"\d+,\d{1,2}(?![\d,])",  # 2,5
        r"\d+(?:\.\d+)?|\.\d+",
    ]
)
_METRE = r"(?:m|met(?:er|re)s?|m[eè]t(?:re|ro)s?)"
_CM_AFTER = (
    r"(?:(?P<tail>\d\d)(?!\d)|\s(?P<blank>\d\d)(?![\d.,]|\s?[A-Za-z])"  # 1m80, "1 m 80"
    r"|,?\s?(?:and\s+)?(?P<cm>\d{1,2})\s?(?:cm|centimet(?:er|re)s?)\b)"
)
_NO_ORDINAL = r"(?![\d^]|\.\d|(?:st|nd|rd|th|d|e|er|ème|º|ª)\b|x\d)"
_SCALE = r"(?:(?:\s+(?P<scale>hundred|thousand|million|billion)|(?P<k>k))\b)?"
_AND_PART = rf"\s+and\s+(?:a|one|two|three)[\s-]+(?:{_PART})\b"
_IN_DIGITS = [
    r"(?P<factor>\d{1,9}(?:\.\d{1,9})?)?\s?√\s?(?P<root>\d{1,15}(?:\.\d{1,15})?)",  # 2√3
    r"(?:(?P<whole>\d{1,9})(?:\s+and)?[\s-]+)?"  # 2 1/2
    r"(?P<top>\d{1,15})\s?[/⁄]\s?(?P<bottom>\d{1,15})(?![\d./⁄])",
    rf"(?P<metres>\d{{1,6}})\s?{_METRE}{_CM_AFTER}",
    r"(?P<base>\d{1,4})\s?\^\s?(?P<power>[-+]?\d{1,3})(?!\d)",  # 10^3
    rf"(?P<negative>(?:minus|negative)\s+)?(?P<digits>[-+]?(?:{_DIGITS})(?:e[-+]?\d{{1,9}})?)"  # -3.5 k
    rf"{_NO_ORDINAL}{_SCALE}(?P<more>{_AND_PART})?",
]
_IN_WORDS = [
    rf"(?:a|{_BELOW_1000})\s+thousand\b(?:[,\s]+(?:and\s+)?{_BELOW_1000})?",
    rf"(?:(?:half\s+a|a|{_BELOW_100})\s+)?dozen\b",
    _BELOW_1000,
    r"a\s+(?:single|couple|pair)\b",
]
_FORMS = [
    rf"(?<![A-Za-z\d_.^√])(?<!√-)(?<![A-Za-z]-)(?:{'|'.join(_IN_DIGITS)})",
    rf"\b(?P<parts>(?:half|(?:a|one|two|three)[\s-]+(?:{_PART})))(?:\s+of)?\s+an?\s+(?:{_LENGTH})\b",
    rf"\b(?P<minus>(?:minus|negative)\s+)?(?P<words>{'|'.join(_IN_WORDS)})(?!-\w+ed\b)"
    rf"(?P<decimals>(?:\s+point)(?:\s+(?:zero|{_UNIT})\b){{1,9}})?(?P<and_part>{_AND_PART})?",
    rf"\b(?:a|an)\s+(?:{_LENGTH})\s+and\s+a\s+(?P<unit_and>half|quarter)\b",  # a metre and a half
    rf"\b(?P<none>{part('none')})",
]
_NUMBER = re.compile("|".join(_FORMS), re.I)

# ---- what holds digits and is no number, or a number that is not the answer

_NO_NUMBER = pattern("no_number", "place", "margin", "of_the_question", "idiom")
_COUNTED = ["(?:1|one)", "(?:2|two)", "(?:3|three)", "(?:4|four)", "(?:5|five)", "(?:6|six)", "(?:7|seven)"]
_COUNTED += ["(?:8|eight)", "(?:9|nine)", "(?:10|ten)"]
_NEXT = r"(?:[,;]\s?(?:and\s)?|\s?\.\.\.\s?)"
_COUNTING = re.compile(  # "one, two, three": counted aloud
    rf"\b(?>{_COUNTED[0]}{_NEXT}{_COUNTED[1]}"
    + f"{_NEXT}{_COUNTED[2]}"
    + "".join(rf"(?:{_NEXT}{word}" for word in _COUNTED[3:])
    + ")?" * len(_COUNTED[3:])
    + r")\b(?!\W{0,3}(?:or|to|and)\b)(?!\s\w{1,20}\W*\Z)",
    re.I,
)
_OF_WHICH = re.compile(
    rf",?\s*\b(?:(?:\d{{1,3}}|{_BELOW_100})\s+of\s+which|of which|including|among (?:them"
    rf"|which))\b[^.;\n]{{0,80}}|,\s*(?:\d{{1,3}}|{_BELOW_100})\s+of\s+(?:them|these)\b[^.;\n]{{0,80}}"
    # "there are four: one here, three there"
    r"|(?<=\w):\s+(?:a|an|one|two|three|four|\d{1,2})\s[^.;\n]{0,100}(?:,|\band\b)[^.;\n]{0,100}",
    re.I,
)
_ONE_AS_PRONOUN = re.compile(  # "the red one", "one of them"
    r"\b(?:the|this|that|each|every|which|any|another|other|either|no)\s+(?:[\w-]{1,30}\s+){0,2}$", re.I
)
_ONE_OF = re.compile(r"\s+(?:of|another)\b", re.I)
_BOUND_BEFORE = re.compile(part("bound_before"), re.I)
_BOUND_AFTER = re.compile(part("bound_after"), re.I)
_LABEL_BEFORE = pattern("label")  # "in frame 12"
_ASIDE = re.compile(
    r"(?<=\w)\s?\((?!\s?(?:or|maybe|possibly|perhaps)\b|\s?(?:[\d.,]{1,20}"
    r"|[a-z-]{1,20})\s?\))[^()]{0,2000}\)",
    re.I,
)  # but "three (3)"
_OPERATOR = re.compile(  # "3 m x 3 m", "2 + 2", "one by two"
    rf"\s?(?:{_LENGTH}|[a-z]{{1,15}})?\s?(?:[+×*·÷x]|\bby\b|\btimes\b|\bplus\b|\bminus\b)\s?(?=[\d(√])", re.I
)
_SAME_AGAIN = re.compile(
    r"\s+and\s+|(?:\s+[^\W\d]{2,20}){1,5}\s*(?:,|\band\b|\bplus\b|;)\s*(?:and\s+)?"
    r"|\s*[,;]?\s*(?:[^\W\d]{2,20}\s+){0,2}[^\W\d]{2,20}\s?[:=]\s?",
    re.I,
)
_PART_AFTER = re.compile(rf"[\s-]+(?:{_PART})\b", re.I)
_MIXED = re.compile(r"\d\s?m(?:et(?:er|re)s?)?,?\s?(?:and\s)?\d", re.I)  # 1 m 20 cm
_IN_METRES = re.compile(
    r"(?<![\d.,])(\d{1,9}(?:\.\d{1,9})?)\s?(mm|cm|km|centimet(?:er|re)s?|millimet(?:er|re)s?)\b", re.I
)


def numbers(text: str) -> Found:
    """The distinct numbers that a text answers with, in digits or words.

    Those in an aside, "3 (2 red, 1 blue)", in a label, "frame 12", and in times, dates, boxes or margins
    do not count. `SEVERAL` stands beside a number that is no answer alone, as in "3 x 3".
    """
    text = _NO_NUMBER.sub(" ", text)
    text = _COUNTING.sub(" ", _OF_WHICH.sub(" ", _ASIDE.sub(" ", text)))
    found: Found = set()
    last: re.Match | None = None
    for match in _NUMBER.finditer(text):
        if denied(text, *match.span()) or _is_bound(text, match) or _is_label(text, match):
            continue
        if (value := _value(text, match)) is None:
            continue
        if _OPERATOR.match(text, match.end()):
            found.add(SEVERAL)
        if last and value in found and _SAME_AGAIN.fullmatch(text, last.end(), match.start()):
            found.add(SEVERAL)  # "2 on the left and 2 on the right"
        found.add(value)
        last = match
    return found


def in_metres(text: str) -> str:
    """A text with its millimetres, centimetres and kilometres as metres."""
    if _MIXED.search(text):
        return text
    factors = {"m": 1000, "c": 100}

    def converted(match: re.Match) -> str:
        unit = match[2].lower()
        return f"{float(match[1]) * 1000 if unit == 'km' else float(match[1]) / factors[unit[0]]:g} m"

    return _IN_METRES.sub(converted, text)


def _value(text: str, match: re.Match) -> int | float | None:
    """The value of what `_NUMBER` matches; None where it has none, as "two-thirds" or 5/0.

    In floats, which take any number of digits; those beyond their range have no value.
    """
    if match["none"]:
        return 0
    if match["root"]:
        return _plain(float(match["factor"] or 1) * math.sqrt(float(match["root"])))
    if match["top"]:
        bottom = float(match["bottom"])
        return _plain(float(match["whole"] or 0) + float(match["top"]) / bottom) if bottom else None
    if match["metres"]:
        return _plain(float(match["metres"]) + float(match["tail"] or match["blank"] or match["cm"]) / 100)
    if match["power"]:
        base, power = int(match["base"]), int(match["power"])
        return _plain(float(base) ** power) if base and power * math.log10(base) < 300 else None
    if match["unit_and"]:
        return 1.5 if match["unit_and"].lower() == "half" else 1.25
    if match["parts"]:
        return _of_parts(match["parts"])
    more = match["more"] or match["and_part"]
    part = _of_parts(more) if more else 0
    if part is None or _PART_AFTER.match(text, match.end()):
        return None
    if match["digits"]:
        value = _digits_to_number(match["digits"], match["scale"] or match["k"])
        value = -value if match["negative"] and value is not None else value
    elif _is_pronoun(text, match):
        return None
    else:
        value = _words_to_number(match["words"])
        if match["decimals"]:
            places = "".join(str(_VALUES[word]) for word in match["decimals"].lower().split()[1:])
            value = float(f"{value}.{places}")
        value = -value if match["minus"] else value
    return None if value is None else value + part


def _plain(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def _of_parts(words: str) -> float | None:
    """The value of "three quarters"; None for thirds, sixths and the like, which have no decimals."""
    *count, part = re.findall(r"[a-z]+", words.lower())
    bottom = _PARTS.get(part[:3])
    return _VALUES.get(count[-1] if count else "a", 1) / bottom if bottom else None


def _words_to_number(words: str) -> int:
    """The value of English number words as `_NUMBER` matches them: "two hundred and five" is 205."""
    tokens = re.findall(r"[a-z]+", words.lower())
    if tokens[0] == "half":
        return 6  # half a dozen
    if tokens[-1] in ("single", "couple", "pair"):
        return _VALUES[tokens[-1]]
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
    """The value of digits as `_NUMBER` matches them, an int but for fractions; None if infinite."""
    number, _, exponent = digits.lower().replace(" ", "").replace("'", "").partition("e")
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", number):
        number = number.replace(",", "")
    elif "," in number or number.count(".") > 1:
        number = number.replace(".", "").replace(",", ".")
    value = float(f"{number}e{exponent or 0}") * _SCALES.get((scale or "").lower(), 1)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and ("." not in number or scale) else value


def _is_bound(text: str, match: re.Match) -> bool:
    return bool(_BOUND_BEFORE.search(text, max(0, match.start() - 20), match.start())) or bool(
        _BOUND_AFTER.match(text, match.end())
    )


def _is_label(text: str, match: re.Match) -> bool:
    return bool(_LABEL_BEFORE.search(text, max(0, match.start() - 20), match.start()))


def _is_pronoun(text: str, match: re.Match) -> bool:
    start, end = match.span()
    before = _ONE_AS_PRONOUN.search(text, max(0, start - 80), start)
    return match["words"].lower() == "one" and bool(before or _ONE_OF.match(text, end))
