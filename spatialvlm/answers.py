"""Reading the answer out of a generated text: pure functions, and None where a person could not tell either.

Every reader works in the same two steps. A *finder* lists what a stretch of text answers: letters, numbers or
words, denied ones such as "not B" left out. `_conclude` then picks the stretch that counts: what is inside
`<answer>` tags or `\\boxed{}`, after "the answer is", on a short last line, after "so" or "therefore", or the
whole text. A stretch that names two different answers names none: "A or B" is unread, never half right.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

Found = set  # what a finder returns: the distinct answers of a stretch of text

# ---- where the answer stands

_ANNOUNCED = re.compile(
    r"\b(?:answer|(?:correct|right|best|final|my)\s+(?:choice|option|response))\b"
    r"(?:\s+(?:to|for|of|here|among|in)\b[^.:\n]{0,80}?)?"
    r"[\s\"']*(?:\b(?:is|was|are|(?:would|should|must|will|could|may|might)\s+be|seems\s+to\s+be)\b"
    r"|:|=|->|→)[:\s]*",
    re.I,
)
_CONFIRMED = re.compile(  # "B is the correct answer": what is confirmed stands before
    r"([^.\n;,]*)\b(?:is|are)\s+(?:the\s+)?(?:most\s+|best\s+)?(?:correct|right|best|answer)\s*"
    r"(?:answer|choice|option|one)?\s*(?:[.,;!]|$)",
    re.I | re.M,
)
_CONCLUDED = re.compile(
    r"\b(?:so|therefore|thus|hence|finally|overall|consequently|actually|wait|correction|in conclusion"
    r"|in total|total (?:of|is)|i (?:think|believe|guess|say)|(?:i'd|i'll|i would|i will) \w+"
    r"|choose|pick|select|go with|going with)\b|\btotal:|=>?",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])|\n")
_QUESTION = re.compile(r"[^.!?\n]*\?(?=\s|$)")
_EXPLANATION = re.compile(r"\b(?:because|since)\b", re.I)
_LISTED_LINE = re.compile(r"(?:\W*(?:[A-Za-z]|\d+)[.):]|\s*[-•])\W*\w|\W*\w\W*$")  # "(A) left", "- left", "A"
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|than|without|except|excluding|cannot|instead of|at (?:least|most)|up to)"
    r"|n't)\s+(?:(?:be|being|option|choice|answer|the|a|an|in|on|at|to|of)\s+)*[\"'(\[]*$",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"[)\]\"']*\s*(?:(?:is|are|was|were|can)\s*(?:not\b|n't)|cannot\b"
    r"|(?:is|are)\s+(?:wrong|incorrect|false|ruled out))",
    re.I,
)


def inside_answer_tags(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>` (or after it, unclosed); None without tags."""
    parts = re.split(r"<answer>", text, flags=re.I)
    return re.split(r"</answer>", parts[-1], flags=re.I)[0].strip() if len(parts) > 1 else None


def _boxed(text: str) -> str | None:
    """What stands in the last LaTeX `\\boxed{...}`, braces balanced; None without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start, depth = start + len("\\boxed{"), 1
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    return text[start:]


def _body(text: str) -> str:
    """The part of a text that may answer, as plain text: no thoughts, no markup, no repeated question."""
    if (tagged := inside_answer_tags(text)) is not None:
        text = tagged
    else:
        text = re.split(r"</think>", text, flags=re.I)[-1]
        text = re.split(r"<think>", text, flags=re.I)[0]  # thoughts that never end conclude nothing
    if (boxed := _boxed(text)) is not None:
        text = boxed
    text = re.sub(r"[²³]", r"^\g<0>", text)  # before NFKC turns "10³" into "103"
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("’", "'")
    text = re.sub(r"\\[()\[\]]|\\[a-zA-Z]+|[{}$*`#]", " ", text)  # LaTeX and markdown
    text = re.sub(r"(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])", " ", text)
    without_questions = _QUESTION.sub(" ", text)
    return (without_questions if without_questions.strip() else text).strip()


def _stretches(body: str) -> Iterator[str]:
    """Stretches of the body that may hold the conclusion, the most telling first."""
    for match in reversed(list(_ANNOUNCED.finditer(body))):
        yield _SENTENCE_END.split(body[match.end() :], maxsplit=1)[0]
    for match in reversed(list(_CONFIRMED.finditer(body))):
        yield match[1]
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > 1 and len(lines[-1].split()) <= 4 and not _continues_list(*lines[-2:]):
        yield lines[-1]
    for match in reversed(list(_CONCLUDED.finditer(body))):
        yield body[match.end() :]
    yield body


def _continues_list(line: str, following: str) -> bool:
    """Whether two lines are entries of one list ("(A) left", "(B) right"), whose last concludes nothing."""
    listed = _LISTED_LINE.match(line) and _LISTED_LINE.match(following)
    return bool(listed) and (len(line.split()) > 1) == (len(following.split()) > 1)


def _conclude(text: str, find: Callable[[str], Found]) -> str | int | float | None:
    """The one answer of the first stretch that names any; None where it names several, or none does."""
    for stretch in _stretches(_body(text)):
        claim = _EXPLANATION.split(stretch, maxsplit=1)[0]
        if found := find(claim) or find(stretch):
            return found.pop() if len(found) == 1 else None
    return None


def _denied(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is mentioned only to rule it out: "not B", "B is wrong", "closer than B"."""
    return bool(_DENIED_BEFORE.search(text, max(0, start - 80), start) or _DENIED_AFTER.match(text, end))


# ---- words


@lru_cache(maxsize=4096)
def _pattern(phrase: str) -> re.Pattern:
    """Matches a phrase as a whole, whatever its punctuation, plural, leading article and spelling of gray."""
    words = re.findall(r"\w+(?:[.,]\d+)*", phrase)
    if len(words) > 1 and words[0].lower() in ("a", "an", "the"):
        words = words[1:]
    if not words:
        return re.compile(re.escape(phrase.strip()))
    middle = r"[\W_]+".join(re.escape(word) for word in words)
    middle = re.sub(r"gr[ae]y", "gr[ae]y", middle, flags=re.I)
    return re.compile(rf"(?<!\w)(?<!\d[.,]){middle}(?:s|es)?(?!\w)(?![.,]\d)", re.I)


def _phrases(text: str, phrases: Sequence[str]) -> set[int]:
    """Indices of the phrases that a text mentions, longest first, so that "red cube" is not also "cube"."""
    found: set[int] = set()
    for index in sorted(range(len(phrases)), key=lambda index: -len(phrases[index])):
        matches = list(_pattern(phrases[index]).finditer(text))
        if any(not _denied(text, *match.span()) for match in matches):
            found.add(index)
        for match in matches:
            text = text[: match.start()] + "_" * (match.end() - match.start()) + text[match.end() :]
    return found


def word(text: str, vocabulary: Sequence[str]) -> str | None:
    """The entry of the vocabulary that a text answers with, or None; plurals and "grey" are read as well."""
    return _conclude(text, lambda stretch: {vocabulary[index] for index in _phrases(stretch, vocabulary)})


_NO_IDIOM = r"(?!\s+(?:doubt|idea|clue|question|problem|wonder|way|need)\b)"
_YES_OR_NO = re.compile(rf"\b(?:(?P<yes>yes|yeah|yep|true)|no|nope|false)\b{_NO_IDIOM}", re.I)
_HEDGED = re.compile(r"\s*(?:or|and|/)\s*(?:yes|no)\b", re.I)


def yes_no(text: str) -> str | None:
    """Reads a yes or a no ("true" and "false" count as such); None for anything else, such as "not sure".

    A text that opens with yes or no has said it: "Yes, there is no other cube" is a yes.
    """

    def find(stretch: str) -> Found:
        found = set()
        for match in _YES_OR_NO.finditer(stretch):
            if _denied(stretch, *match.span()):
                continue
            said = "yes" if match["yes"] else "no"
            opens = not stretch[: match.start()].strip(" \"'(,.:")
            if opens and not _HEDGED.match(stretch, match.end()):
                return {said}
            found.add(said)
        return found

    return _conclude(text, find)


# ---- numbers

_SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {name: value for value, name in enumerate(_SMALL)}
_VALUES |= {name: 10 * value for value, name in enumerate(_TENS, start=2)} | {"a": 1, "dozen": 12}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}
_UNIT = "|".join(_SMALL[1:10])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-]+(?:{_UNIT})\b)?|{'|'.join(reversed(_SMALL))})"
_BELOW_1000 = rf"(?:(?:a|{_UNIT})\s+hundred\b(?:\s+(?:and\s+)?{_BELOW_100}\b)?|{_BELOW_100}\b)"
_NUMBER = re.compile(
    r"(?<![\w.^])(?P<digits>[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?)"
    r"(?![\d^]|\.\d|(?:st|nd|rd|th|d)\b)(?:\s+(?P<scale>hundred|thousand|million)\b)?"
    r"|\b(?P<minus>(?:minus|negative)\s+)?(?P<words>"
    rf"(?:a|{_BELOW_1000})\s+thousand\b(?:[,\s]+(?:and\s+)?{_BELOW_1000})?|{_BELOW_1000}|(?:a\s+)?dozen\b)"
    r"|\b(?P<none>none(?!\s+of\s+(?:the\s+above|these|those))\b"
    rf"|there\s+(?:are|is|were)\s+no\b{_NO_IDIOM}|there\s+(?:aren't|isn't|are\s+not|is\s+not)\s+any\b"
    rf"|(?<!\w\W)no{_NO_IDIOM}\s+(?:[a-z]+\s+){{0,3}}[a-z]+s\W*$)",
    re.I,
)
_HALF = re.compile(r"\s+and\s+(?:a|one|two|three)\s+(?:half|third|quarter|tenth)", re.I)
_ONE_AS_PRONOUN = re.compile(  # "the red one", "one of them"
    r"\b(?:the|this|that|each|every|which|any|another|other|either|no)\s+(?:[\w-]+\s+){0,2}$", re.I
)


def _words_to_number(words: str) -> int:
    """The value of English number words as `_NUMBER` matches them: "two hundred and five" is 205."""
    total = group = 0
    for token in re.findall(r"[a-z]+", words.lower()):
        if token == "hundred":
            group *= 100
        elif token == "thousand":
            total, group = total + group * 1000, 0
        elif token == "dozen":
            group = 12
        else:
            group += _VALUES.get(token, 0)  # 0: the "and" between
    return total + group


def _digits_to_number(digits: str, scale: str | None) -> int | float | None:
    """The value of digits as `_NUMBER` matches them, an int unless they show a fraction; None if infinite."""
    value = float(digits.replace(",", "")) * _SCALES.get((scale or "").lower(), 1)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and "." not in digits else value


def _numbers(text: str) -> Found:
    """The distinct numbers that a text answers with, in digits or words."""
    found = set()
    for match in _NUMBER.finditer(text):
        if _denied(text, *match.span()) or _HALF.match(text, match.end()):
            continue
        if match["none"]:
            found.add(0)
        elif match["digits"]:
            found.add(_digits_to_number(match["digits"], match["scale"]))
        elif not _is_pronoun(text, match):
            value = _words_to_number(match["words"])
            found.add(-value if match["minus"] else value)
    return found - {None}


def _is_pronoun(text: str, match: re.Match) -> bool:
    followed = re.match(r"\s+(?:of|another)\b", text[match.end() :], re.I)
    return match["words"].lower() == "one" and bool(followed or _ONE_AS_PRONOUN.search(text[: match.start()]))


def number(text: str) -> int | float | None:
    """The number that a text answers with, an int where it is written as one; None for none or several.

    Reads digits ("1,000", "1e3", "-2", "3.5 meters") and words ("four", "twenty-one", "none"). Ranges and
    bounds ("between 2 and 3", "2-3", "more than 3") are no answer; neither are ordinals, "3D" or the one in
    "the red one".
    """
    without_list_marks = re.sub(r"(?m)^\s*\d+[.)]\s+(?=\S)", "", text)
    return _conclude(without_list_marks, _numbers)


# ---- choices

_EXPLICIT_LETTER = re.compile(
    r"(?<!\w)[(\[]\s*([A-Za-z])\s*[)\]]"  # (B) [b]
    r"|(?<![\w(\['])([A-Za-z])\)"  # B) b)
    r"|\b(?:option|choice|letter|answer)\s+(?:([B-Z])\b|(A)(?=\W*$|\s*[.,:;)]|\s+(?:is|because|since)\b))"
    r"|^\W*([A-HJ-Z])[.:](?=\s|$)",  # B. left
    re.I,
)
_CAPITAL_LETTER = re.compile(  # I is a pronoun and A an article, unless what follows shows otherwise
    r"(?<![\w'.-])(?:([B-HJ-Z])(?![\w'-])|(A)(?=[ \t]*(?:$|[\n.,:;!?/)\]<>=])|\s+[-–—]"
    r"|\s+(?:or|and|nor|is|because|since|but|rather|instead|would|seems)\b))"
)


def _letters(text: str, count: int) -> Found:
    """The choice letters that a text names; one beyond `count` too, where it is meant as a letter: "(E)"."""
    if alone := re.fullmatch(r"\W*([A-Za-z])\W*", text):
        return {alone[1].upper()}
    found = set()
    for pattern in (_EXPLICIT_LETTER, _CAPITAL_LETTER):
        for match in pattern.finditer(text):
            letter = next(group for group in match.groups() if group).upper()
            meant = pattern is _EXPLICIT_LETTER or letter in _alphabet(count)
            if meant and not _denied(text, *match.span()):
                found.add(letter)
    return found


def _alphabet(count: int) -> list[str]:
    return [chr(ord("A") + index) for index in range(count)]


def choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter ("A", "B", ...) of the choice that a text answers with, or None where that cannot be told.

    The text may name the letter in any usual form ("(B)", "B.", "Answer: b", "B) left"), or the choice itself
    ("left", "the red cube", "three" for 3). A letter that contradicts the text beside it, a letter beyond the
    choices, or two different choices are unread.

    Raises:
        ValueError: fewer than two choices.
    """
    if len(choices) < 2:
        raise ValueError(f"a choice needs at least two choices, not {choices!r}")
    alphabet = _alphabet(len(choices))
    values = [number(option) if re.fullmatch(r"\W*[\d.,]+\W*", option) else None for option in choices]

    def find(stretch: str) -> Found:
        letters = _letters(stretch, len(choices))
        if None in values:
            named = {alphabet[index] for index in _phrases(stretch, choices)}
        else:
            numbers = _numbers(stretch)
            named = {letter for letter, value in zip(alphabet, values, strict=True) if value in numbers}
        if letters and (not named or letters & named):
            return letters
        return letters | named or {alphabet[index] for index in _abbreviated(stretch, choices)}

    letter = _conclude(text, find)
    return letter if letter in alphabet else None


def _abbreviated(text: str, choices: Sequence[str]) -> list[int]:
    """The index of the only choice that holds every word of a text: "the red one" for "red box"."""
    told = set(re.findall(r"\w+", text.lower())) - {"the", "a", "an", "one", "it", "is", "s"}
    held = [told <= set(re.findall(r"\w+", option.lower())) for option in choices]
    return [held.index(True)] if told and sum(held) == 1 else []


def one_of(text: str, vocabulary: Sequence[str]) -> str | int | float | None:
    """Reads a short free answer by what it can be: yes or no, a number, or a word of the vocabulary.

    `("yes", "no")` is read by `yes_no`, a vocabulary of digits by `number` (a number outside it is read as
    well, and is then simply wrong), anything else by `word`.
    """
    if set(vocabulary) == {"yes", "no"}:
        return yes_no(text)
    if all(entry.isdecimal() for entry in vocabulary):
        return number(text)
    return word(text, vocabulary)
