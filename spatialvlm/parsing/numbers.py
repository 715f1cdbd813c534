"""Numbers in digits or English words, in every form that somebody counting or measuring would write."""

from __future__ import annotations

import math
import re

from spatialvlm.parsing.conclusion import Found, denied

NO_IDIOM = (  # a "no" that counts nothing
    r"(?!\s+(?:doubt|idea|clue|question|problem|wonder|way|need|reason|sign|sense|matter|longer|one|answer"
    r"|such|expert|image|response|comment|worries|evidence|indication|guarantee|number|specific|exact"
    r"|clear|conclusion|visible|conclusive|definiti\w+|info\w*|details?|context|data|content|text|obvious"
    r"|certainty|particular|further|additional|suitable|valid|available)\b)"
)
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

_DIGITS = (
    r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?"  # 1,234.5
    r"|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?!\d)"  # 1.234,5
    r"|\d{1,3}(?:[ ']\d{3})+(?!\d)(?:[.,]\d+)?"  # 12 500
    r"|\d+,\d{1,2}(?![\d,])"  # 2,5
    r"|\d+(?:\.\d+)?|\.\d+"
)
_NUMBER = re.compile(
    r"(?<![A-Za-z\d_.^√])(?<!√-)(?<![A-Za-z]-)(?:"
    r"(?P<factor>\d{1,9}(?:\.\d{1,9})?)?\s?√\s?(?P<root>\d{1,15}(?:\.\d{1,15})?)"
    r"|(?:(?P<whole>\d{1,9})(?:\s+and)?[\s-]+)?(?P<top>\d{1,15})\s?[/⁄]\s?(?P<bottom>\d{1,15})(?![\d./⁄])"
    r"|(?P<metres>\d{1,6})\s?(?:m|met(?:er|re)s?|m[eè]t(?:re|ro)s?)(?:(?:(?P<tail>\d\d)(?!\d)"
    r"|\s(?P<blank>\d\d)(?![\d.,]|\s?[A-Za-z]))"
    r"|,?\s?(?:and\s+)?(?P<cm>\d{1,2})\s?(?:cm|centimet(?:er|re)s?)\b)"
    r"|(?P<base>\d{1,4})\s?\^\s?(?P<power>[-+]?\d{1,3})(?!\d)"
    rf"|(?P<negative>(?:minus|negative)\s+)?(?P<digits>[-+]?(?:{_DIGITS})(?:e[-+]?\d{{1,9}})?)"
    r"(?![\d^]|\.\d|(?:st|nd|rd|th|d|e|er|ème|º|ª)\b|x\d)(?:(?:\s+(?P<scale>hundred|thousand|million"
    r"|billion)|(?P<k>k))\b)?"
    rf"(?P<more>\s+and\s+(?:a|one|two|three)[\s-]+(?:{_PART})\b)?)"
    rf"|\b(?P<parts>(?:half|(?:a|one|two|three)[\s-]+(?:{_PART})))(?:\s+of)?\s+an?\s+(?:{_LENGTH})\b"
    r"|\b(?P<minus>(?:minus|negative)\s+)?(?P<words>"
    rf"(?:a|{_BELOW_1000})\s+thousand\b(?:[,\s]+(?:and\s+)?{_BELOW_1000})?"
    rf"|(?:(?:half\s+a|a|{_BELOW_100})\s+)?dozen\b|{_BELOW_1000}|a\s+(?:single|couple|pair)\b)(?!-\w+ed\b)"
    rf"(?P<decimals>(?:\s+point)(?:\s+(?:zero|{_UNIT})\b){{1,9}})?"
    rf"(?P<and_part>\s+and\s+(?:a|one|two|three)[\s-]+(?:{_PART})\b)?"
    rf"|\b(?:a|an)\s+(?:{_LENGTH})\s+and\s+a\s+(?P<unit_and>half|quarter)\b"
    r"|\b(?P<none>none(?!\s+of\s+(?:the\s+(?:above|info\w*|options?|choices|frames|images|details)|these"
    r"|those)|\s+(?:given|provided|specified|stated"
    r"|available))\b"
    rf"|(?:there\s+(?:are|is|were|was)|i\s+(?:can\s+)?(?:see|find|count"
    rf"|spot))\s+no\b{NO_IDIOM}(?!\s+(?:more|fewer|less)\b)"
    r"|(?:there\s+(?:aren't|isn't|are\s+not|is\s+not)|(?:do\s+not|don't|cannot|can't|can\s+not)\s+(?:see"
    r"|find|count|spot))"
    r"\s+(?:any\b|an?\s+single\b)(?!\s+(?:image|picture|photo))|\bnot\s+a\s+single\b"
    rf"|(?<!\w\W)no{NO_IDIOM}\s+(?:[a-z]+\s+){{0,3}}[a-z]+s(?=\W*$|\s+(?:are|were|can|visible|present"
    rf"|at all|here|there|in|on|to be|whatsoever)\b))",
    re.I,
)

# ---- what holds digits and is no number, or a number that is not the answer

_NO_NUMBER = re.compile(
    r"\b\d{1,2}:\d\d(?::\d\d)?\b(?:\s?[ap]\.?m\b)?|\b\d{1,2}\s?(?:[ap]m|[ap]\.m\.|o'clock)(?!\w)"  # times
    r"|\d\s?\.{2,3}\s?\d|\b\d{4}-\d\d-\d\d\b|\b\d{1,4}/\d{1,2}/\d{1,4}\b|\b\d+(?:\.\d+){3,}\b"
    r"|\b\d+(?:\.\d+){2}(?![\d,])(?<!\.\d{3})|(?<![\d.])\d{2,5}\s?[x×]\s?\d{2,5}\b(?!\s?m)"
    r"|\b\d{1,2}:\d{1,2}\b|\b0x[\da-f]+\b"
    r"|[\[(]\s?-?[\d.]+(?:\s?[,;]\s?-?[\d.]+)+\s?[\])]"  # boxes and points
    r"|\b[xyzw]\d\s?[=:]\s?-?[\d.]+|\bx\s?=\s?[\d.]+\s?[,;]\s?y\s?=\s?[\d.]+|\d+(?:\.\d+)?\s?°\s?[NSEW]\b"
    r"|^\s?\[\d{1,3}\]\s.{0,500}$|(?<=\w)\s?(?:\[\d{1,2}\])+"  # citations
    r"|(?:±|\+/-|\+-|\bplus or minus\b|\bplus/minus\b)\s?(?:[\d.,]+|[a-z]+)\s?%?|\b(?:step|stage|part"
    r"|frame|image|question|item|task)\s+\d+\s+(?:of|out of)\s+\d+\b"
    r"|\bframes?\s+\d+\s?(?:[-–]|to|and)\s?\d+\b"
    r"|\b\d{1,2}\s?k\s+(?:resolution|video|tv|display|screen|monitor|image|photo)s?\b|\b(?:with|to"
    r"|at)\s+(?:\d+|one|two|three)\s+(?:decimals?|decimal places?|significant \w+|digits?)\b"
    r"|\bthe\s+(?:two|three|four|\d{1,2})\s+(?:frames?|rooms?|objects?|items?|points?|images?|pictures?"
    r"|photos?|views?|options?|things)\b|\b(?:one|two|three) (?:by|at a) (?:one|two|three|time)\b"
    r"|\bone (?:would|could|can|must|should|may|might|has to|needs|sees|another|side|end)\b|\b(?:\d{1,9}"
    r"|one|two|three|four|five|six)\s+(?:steps?\s(?:to|in|for|of)|parts|ways?|questions?|observations?"
    r"|sentences?|methods?|reasons?"
    r"|possibilities|cases|factors|approaches|numbers?|letters?|bytes|dpi|px|pixels?|attempts?|retries"
    r"|tokens?)\b|\b(?:\d{1,4}|one|two|three|four|five|six)-(?!met|m\b|cm|f(?:oo|ee)t|inch|ft|degree|ish"
    r"|and|half|quarter|third)[a-z]{3,}\b|\b0\s+(?:frames?|images?)\b|\b24/7\b"
    r"|\banswer(?: to question)? \d{1,2}\s?:|\bone day\b|\b\d+\s?% battery\b|\bone of (?:the\s)?(?:\d{1,3}"
    r"|two|three|four|five)\b|\bnumber one\b|\b(\d{1,3})\s?[-–~]\s?\1\b(?!\s?[/⁄])"
    r"|\bthe\s+\d{1,2}\s+(?:walls|corners|sides)\b|\?\s?/\s?\d+|\b[a-z]\s?[+*/×]\s?\d+\b"
    r"|\b\d+\s?[+*/×]\s?[a-z]\b|\A(?:\s?\d{1,3}[.)]\s*\n)+\s?\d{1,3}[.)]\s*\Z|^[^\n]*=\s?\?|\b\d+\s?(?:ft"
    r"|feet|foot"
    r"|')\s?\d{1,2}(?!\d)\s?(?:in|inch|inches|\"|'')?(?!\w)",
    re.I | re.M,
)
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
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:within|max(?:imum)?(?: of)?:?|min(?:imum)?(?: of)?:?|limit(?: of)?:?|not quite|none or|top"
    r"|over|under|above|below|beyond|exceed(?:s|ing)?|(?:minimum|maximum) of|upwards of|minimum|maximum"
    r"|(?:greater|larger|smaller|fewer|less|more|taller|longer|shorter) than|several|many|a few)"
    r"|(?<![-=])[<>≤≥]=?)\s*$",
    re.I,
)
_BOUND_AFTER = re.compile(
    r"\+(?!\s*\d)|\s*[<≤≥]|(?:\s*[^\W\d]{1,20})?,?\s+(?:or\s+(?:more|less|fewer)|and\s+(?:up|above|over)"
    r"|at (?:least|most)|max(?:imum)?|min(?:imum)?|tops)\b",
    re.I,
)
_LABEL_BEFORE = re.compile(  # "in frame 12"
    r"\b(?:image|frame|figure|fig\.|picture|photo|step|view|video|scene|question|room|page|object|camera"
    r"|option|line|version|section|chapter|case|phase|sensor|point|no\.|copyright|type|iso|model|level"
    r"|class|grade|floor|channel|apartment|year|gate|route|call|dial|row|iteration|round|attempt|trial|run"
    r"|epoch)\s+(?:#|no\.\s*)?$",
    re.I,
)
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
