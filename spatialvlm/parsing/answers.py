"""Parse the answer out of a generated text: pure functions, and None where a person could not tell either.

Every parser is a *finder*, which lists what a stretch of text answers (letters, numbers or words, denied ones
such as "not B" left out), and `conclusion.conclude`, which has the order of steps and picks the stretch that
counts. A stretch that names two different answers names none: "A or B" is unparsed, never half right. Of a
huge text the head and the tail are parsed.

`tests/parsing/completions.jsonl` holds the habits of language models that this is tested against, each with
what a person would read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from spatialvlm.parsing.claims import claims
from spatialvlm.parsing.conclusion import Found, conclude, declines, denied, inside_answer_tags
from spatialvlm.parsing.english import part, phrases
from spatialvlm.parsing.numbers import SEVERAL, in_metres, numbers
from spatialvlm.parsing.thoughts import head_and_tail
from spatialvlm.parsing.translation import in_english

__all__ = [
    "choice",
    "inside_answer_tags",
    "last_line",
    "normalized",
    "number",
    "one_of",
    "word",
    "yes_no",
]

# ---- words

_UNSPACED = re.compile(r"[\u3040-\u9fff]")  # scripts that put no blanks between words

_BRITISH = [
    (re.compile(r"\bgrey", re.I), "gray"),
    (re.compile(r"\b(col|neighb|harb)our", re.I), r"\1or"),
    (re.compile(r"\b(cent|met|lit|theat)re(s?)\b", re.I), r"\1er\2"),
]
# What a short answer may say beside the choice: "the red one", "the box in blue".
_FILLER = frozenset(
    re.findall(
        r"\w+",
        "the a an one it its is s in on of at with that this which object and to stands lies sits placed",
    )
)
_DERIVED = {  # "the wooden one" is of wood
    "wooden": "wood",
    "metallic": "metal",
    "spherical": "sphere",
    "cubic": "cube",
    "cubical": "cube",
    "cylindrical": "cylinder",
    "rubbery": "rubber",
    "tv": "television",
}
_DERIVED_WORD = re.compile(rf"\b(?:{'|'.join(_DERIVED)})\b", re.I)


@lru_cache(maxsize=4096)
def _american(text: str) -> str:
    for british, american in _BRITISH:
        text = british.sub(american, text)
    return _DERIVED_WORD.sub(lambda match: _DERIVED[match[0].lower()], text)


@lru_cache(maxsize=4096)
def _pattern(phrase: str, singular: bool) -> re.Pattern:
    """Matches a phrase as a whole, whatever its punctuation, plural or (with `singular`) singular, and
    leading article.
    """
    words = re.findall(r"\w+(?:[.,]\d+)*", phrase)
    if len(words) > 1 and words[0].lower() in ("a", "an", "the"):
        words = words[1:]
    if not words:
        return re.compile(re.escape(phrase.strip()))
    if singular and re.fullmatch(r"[a-z]{3,}[^s\W]s", words[-1], re.I):
        words[-1] = words[-1][:-1]
    middle = r"[\W_]+".join(re.escape(word) for word in words)
    if _UNSPACED.match(phrase):
        return re.compile(middle)
    return re.compile(rf"(?<!\w)(?<!\d[.,]){middle}(?:s|es)?(?!\w)(?![.,]\d)", re.I)


def _phrases(text: str, phrases: Sequence[str]) -> set[int]:
    """Indices of the phrases that a text mentions, longest first, so that "red cube" is not also "cube"."""
    text, phrases = _american(text), [_american(phrase) for phrase in phrases]
    known = {phrase.lower() for phrase in phrases}
    found: set[int] = set()
    for index in sorted(range(len(phrases)), key=lambda index: -len(phrases[index])):
        pattern = _pattern(phrases[index], singular=phrases[index][:-1].lower() not in known)
        matches = list(pattern.finditer(text))
        if any(not denied(text, *match.span()) for match in matches):
            found.add(index)
        for match in matches:
            text = text[: match.start()] + "_" * (match.end() - match.start()) + text[match.end() :]
    return found


_PROPERTY_IS = re.compile(part("property_is"), re.I)


def word(text: str, vocabulary: Sequence[str]) -> str | None:
    """The entry of the vocabulary that a text answers with, or None; plurals and "grey" count too."""
    may_decline = not any(declines(entry) for entry in vocabulary)
    return conclude(
        text,
        lambda stretch: {vocabulary[index] for index in _phrases(stretch, vocabulary)},
        _PROPERTY_IS,
        may_decline=may_decline,
    )


def yes_no(text: str) -> str | None:
    """Parse a yes or a no ("true" and "correct" count as such); None for anything else, such as "not sure".

    A text that opens with yes or no has answered: "Yes, there is no other cube" is a yes. Half truths,
    and texts that say both, are none.
    """
    return conclude(text, claims)


# ---- numbers

_MEASURE_IS = re.compile(part("measure_is"), re.I)  # numbers before are the question's
_LIST_MARK = re.compile(r"^(?:<answer>)?[ \t]{0,20}(\d{1,4})[.)][ \t]{1,5}(?=\S)", re.M)


def number(text: str) -> int | float | None:
    """The number that a text answers with, an int where it is written as one; None for none or several.

    Parses digits ("1,000", "1e3", "-2", "3.5 meters") and words ("four", "twenty-one", "none"). Ranges and
    bounds ("between 2 and 3", "2-3", "more than 3") are no answer; neither are ordinals, "3D" or the one in
    "the red one". Units are not converted: "350 cm" is 350.
    """
    text = head_and_tail(text)
    marks = _LIST_MARK.findall(text)
    if marks and marks[0] == "1":  # "6. There are four here and two there" starts no list
        text = _LIST_MARK.sub(lambda mark: "<answer>" * mark[0].startswith("<"), text)
    return conclude(text, numbers, _MEASURE_IS)


# ---- choices

_LETTER = (
    "A-Za-z\u00c0-\u024f\\d_'"  # what makes a letter part of a word; Chinese characters beside it do not
)
_EXPLICIT_LETTER = re.compile(
    rf"(?<![{_LETTER}])[(\[]\s*([A-Za-z])\s*[)\]]"  # (B) [b]
    rf"|(?<![{_LETTER}(\[])([A-Za-z])\)"  # B) b)
    r"|\b(?:option|choice|letter|answer)[\s-]+(?:([B-Z])\b|(A)(?=\W*$|\s*[.,:;)]|\s+(?:is|because|since)\b))"
    r"|^\W*([A-HJ-Z])[.:](?=\s|$)"  # B. left
    r"|\b(?:is|it's|be|choose|pick|select|think|say|guess|with)\s+([b-hj-z])(?=\W*$)",  # it's b
    re.I,
)
_CAPITAL_LETTER = re.compile(  # I is a pronoun and A an article, unless what follows shows otherwise
    rf"(?<![{_LETTER}.-])(?:([B-HJ-Z])(?![{_LETTER}-]|\+\+|#)|(A)(?=[ \t]*(?:$|[\n.,:;!?/)\]<>=|])|\s+[-–—]"
    r"|\s+(?:[^\W\d_]{1,5}\s+)?[B-J](?![\w'])|[\"']|\s*\(|\s*[&+✓✔☑✗✘✖❌✅]|\s*\((?:or|and|not)\b|\s+(?:then"
    r"|vs|versus)\b|\s+(?:or|and|nor|is|because|since|but|rather|instead|would|seems)\b))"
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_PLACE = {name: index for index, name in enumerate(_ORDINALS)}
_PLACE |= {name: index for index, name in enumerate(("1st", "2nd", "3rd", "4th", "5th", "6th"))}
_PLACE |= {name: index for index, name in enumerate(("i", "ii", "iii", "iv", "v", "vi"))}
_PLACE |= {name: index for index, name in enumerate(("one", "two", "three", "four", "five", "six"))}
_PLACE |= {str(index + 1): index for index in range(6)} | {"last": -1}
_ORDINAL_OPTION = re.compile(
    rf"\b({'|'.join(_ORDINALS)}|last|1st|2nd|3rd|[4-6]th)\s+(?:option|choice|one|answer)\b|\b(?:chose"
    rf"|choose|pick|picked|select|selected|take|go with)\s+the\s+({'|'.join(_ORDINALS)}|last)\b"
    r"|\b(?:option|choice)\s+(?:no\.?\s*|number\s+|#)?([1-6]|i{1,3}|iv|vi?|one|two|three|four|five|six)\b",
    re.I,
)
_NAME_BEFORE = re.compile(rf"{phrases('named_by_letter')}\s+\Z", re.I)
_PLACED_AT = re.compile(part("placed_at"), re.I)  # "the window over the sink" is a window
_VERB = re.compile(r"\b(?:is|are|was|stands?|lies|sits?|seems|looks|appears|has)\b", re.I)


def _letters(text: str, alphabet: Sequence[str]) -> Found:
    """The choice letters that a text names; one beyond the alphabet too, where it is meant as one: "(E)"."""
    if alone := re.fullmatch(r"\W*([A-Za-z])\W*", text):
        return {alone[1].upper()}
    found = set()
    for pattern in (_EXPLICIT_LETTER, _CAPITAL_LETTER):
        for match in pattern.finditer(text):
            letter = next(group for group in match.groups() if group).upper()
            if pattern is _CAPITAL_LETTER:
                named = _NAME_BEFORE.search(text, max(0, match.start() - 20), match.start())
                if letter not in alphabet or named:
                    continue
            if not denied(text, *match.span()):
                found.add(letter)
    return found


def _by_place(text: str, alphabet: Sequence[str]) -> Found:
    """The letters of the choices that a text names by their place: "the second option", "option 2"."""
    found = set()
    for match in _ORDINAL_OPTION.finditer(text):
        if not denied(text, *match.span()):
            place = _PLACE[next(filter(None, match.groups())).lower()]
            found.add(alphabet[-1] if place < 0 else chr(ord("A") + place))
    return found


def choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter ("A", "B", ...) of the choice that a text answers with, or None where that is not clear.

    The text may name the letter in any usual form ("(B)", "B.", "Answer: b", "B) left"), the choice itself
    ("left", "the red cube", "three" for 3) or its place ("the second option"). A letter that contradicts the
    text beside it, a letter beyond the choices, or two different choices are unparsed.

    Raises:
        ValueError: fewer than two choices.
    """
    if len(choices) < 2:
        raise ValueError(f"a choice needs at least two choices, not {choices!r}")
    alphabet = [chr(ord("A") + index) for index in range(len(choices))]
    choices, values, unit, may_decline = _prepared(tuple(choices))

    def find(stretch: str) -> Found:
        letters = _letters(stretch, alphabet) or (_by_place(stretch, alphabet) if values is None else set())
        if values is None:
            named = {alphabet[index] for index in _phrases(stretch, choices)}
            if (
                len(named) > 1
                and (placed := _PLACED_AT.fullmatch(stretch))
                and not _VERB.search(placed["what"])
            ):
                named = {alphabet[index] for index in _phrases(placed["what"], choices)}
        else:
            mentioned = numbers(in_metres(stretch) if unit == "m" else stretch)
            named = {letter for letter, value in zip(alphabet, values, strict=True) if value in mentioned}
            if SEVERAL in mentioned or (named and len(mentioned) > 1):
                named = set(alphabet) if not letters else named
        if letters and (not named or letters & named):
            return letters
        return letters | named or {alphabet[index] for index in _abbreviated(stretch, choices)}

    letter = conclude(text, find, may_decline=may_decline)
    return letter if letter in alphabet else None


@lru_cache(maxsize=1024)
def _prepared(choices: tuple[str, ...]) -> tuple[list[str], list[float] | None, str, bool]:
    """Choices in English, their values and unit if they are quantities, and whether none is a refusal."""
    may_decline = not any(declines(option) for option in choices)
    translated = [in_english(option) for option in choices]
    return translated, *_quantities(translated), may_decline


def _quantities(choices: Sequence[str]) -> tuple[list[float] | None, str]:
    """The values and the unit of choices that are all different numbers of one unit, else (None, "")."""
    found = [re.fullmatch(r"\W*[\d.,]+\s*([a-z]*)\W*", option, re.I) for option in choices]
    if not all(found) or len({match[1].lower() for match in found}) > 1:
        return None, ""
    values = [number(option) for option in choices]
    different = len(set(values) - {None}) == len(choices)
    return (values, found[0][1].lower()) if different else (None, "")


def _abbreviated(text: str, choices: Sequence[str]) -> list[int]:
    """The index of the only choice that holds every word of a text: "the red one" for "red box"."""

    def words(text: str) -> set[str]:
        return set(re.findall(r"\w+(?:[.,]\d+)*", _american(text).lower()))

    given = words(text) - _FILLER
    held = [given <= words(option) for option in choices]
    return [held.index(True)] if given and sum(held) == 1 else []


def one_of(text: str, vocabulary: Sequence[str]) -> str | int | float | None:
    """Parse a short free answer by what it can be: yes or no, a number, or a word of the vocabulary.

    `("yes", "no")` is parsed by `yes_no`, a vocabulary of digits by `number` (also a number outside it, which
    is then simply wrong), anything else by `word`.
    """
    if set(vocabulary) == {"yes", "no"}:
        return yes_no(text)
    if all(entry.isdecimal() for entry in vocabulary):
        return number(text)
    return word(text, vocabulary)


# ---- exact match


_IGNORED = str.maketrans("", "", "().,-")


def normalized(text: str) -> str:
    """A text in lower case without `( ) . , -` and repeated blanks."""
    return " ".join(text.translate(_IGNORED).lower().split())


def last_line(text: str) -> str:
    """The normalized last line of a text; empty for an empty text."""
    lines = text.strip().splitlines()
    return normalized(lines[-1]) if lines else ""
