"""Parse the answer out of a generated text: pure functions, and None where a person could not tell either.

Every parser works in the same two steps. A *finder* lists what a stretch of text answers: letters, numbers or
words, denied ones such as "not B" left out. `conclusion.conclude` picks the stretch that counts: what is
inside `<answer>` tags or `\\boxed{}`, after "the answer is", on a short last line, after "so" or "therefore",
or the whole text. A stretch that names two different answers names none: "A or B" is unparsed, never half
right.

`tests/parsing/completions.jsonl` holds the habits of language models that this is tested against, each with
what a person would read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from spatialvlm.parsing.conclusion import Found, conclude, denied, inside_answer_tags
from spatialvlm.parsing.numbers import NO_IDIOM, numbers

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

_BRITISH = [
    (re.compile(r"\bgrey", re.I), "gray"),
    (re.compile(r"\b(col|neighb|harb)our", re.I), r"\1or"),
    (re.compile(r"\b(cent|met|lit|theat)re(s?)\b", re.I), r"\1er\2"),
]
# What a short answer may say beside the choice: "the red one", "the box in blue".
_FILLER = frozenset("the a an one it its is s in on of at with that this which object".split())  # noqa: SIM905


@lru_cache(maxsize=4096)
def _american(text: str) -> str:
    for british, american in _BRITISH:
        text = british.sub(american, text)
    return text


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


def word(text: str, vocabulary: Sequence[str]) -> str | None:
    """The entry of the vocabulary that a text answers with, or None; plurals and "grey" count too."""
    return conclude(text, lambda stretch: {vocabulary[index] for index in _phrases(stretch, vocabulary)})


_YES_OR_NO = re.compile(
    rf"\b(?:(?P<yes>yes|yeah|yep|(?P<true>true))|no|nope|false)\b{NO_IDIOM}"
    r"|(?:\A\W*|\b(?:is|are|was|not|that's|it's)\s+)(?:(?P<correct>correct|accurate)|incorrect|inaccurate|wrong)"
    r"\b(?=\W*(?:\Z|[.,;!\n]))",
    re.I,
)
_HEDGED = re.compile(r"\s*(?:or|and|/|)\s*(?:yes|no)\b", re.I)
_SAYS_YES = re.compile(
    r"\W*(?:y|i (?:think|believe|guess) so|(?:yes )?(?:definitely|absolutely|certainly|indeed|of course))\W*",
    re.I,
)
_SAYS_NO = re.compile(
    r"\W*(?:n|(?:i )?(?:don't|do not) (?:think|believe) so|not (?:really|at all)"
    r"|(?:i (?:think|guess)|definitely|absolutely|certainly|clearly|surely|probably|of course) not)\W*",
    re.I,
)


def yes_no(text: str) -> str | None:
    """Parse a yes or a no ("true" and "correct" count as such); None for anything else, such as "not sure".

    A text that opens with yes or no has answered: "Yes, there is no other cube" is a yes.
    """

    def find(stretch: str) -> Found:
        for answer, idiom in (("yes", _SAYS_YES), ("no", _SAYS_NO)):
            if idiom.fullmatch(stretch):
                return {answer}
        found = set()
        for match in _YES_OR_NO.finditer(stretch):
            answer = "yes" if match["yes"] or match["correct"] else "no"
            start = match.start("correct") if match["correct"] else match.start()
            if denied(stretch, start, match.end()):
                if match["true"] or match["correct"]:  # "not true"
                    found.add("no")
                continue
            opens = not stretch[: match.start()].strip(" \"'(,.:")
            if opens and not _HEDGED.match(stretch, match.end()):
                return {answer}
            found.add(answer)
        return found

    return conclude(text, find)


# ---- numbers

_MEASURE_IS = re.compile(  # "The distance between the 2 objects is": numbers before are the question's
    r"\b(?:distance|length|height|width|depth|size|area|number|count)\b[^.\n]{0,80}?(?:\b(?:is|are|was|equals)\b|[:=])",
    re.I,
)

_LIST_MARK = re.compile(r"^\s*(\d+)[.)]\s+(?=\S)", re.M)


def number(text: str) -> int | float | None:
    """The number that a text answers with, an int where it is written as one; None for none or several.

    Parses digits ("1,000", "1e3", "-2", "3.5 meters") and words ("four", "twenty-one", "none"). Ranges and
    bounds ("between 2 and 3", "2-3", "more than 3") are no answer; neither are ordinals, "3D" or the one in
    "the red one". Units are not converted: "350 cm" is 350.
    """
    marks = _LIST_MARK.findall(text)
    if marks and marks[0] == "1":  # "6. There are four here and two there" starts no list
        text = _LIST_MARK.sub("", text)
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
    rf"(?<![{_LETTER}.-])(?:([B-HJ-Z])(?![{_LETTER}-])|(A)(?=[ \t]*(?:$|[\n.,:;!?/)\]<>=])|\s+[-–—]"
    r"|\s+(?:or|and|nor|is|because|since|but|rather|instead|would|seems)\b))"
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_ORDINAL_OPTION = re.compile(rf"\b({'|'.join(_ORDINALS)}|last)\s+(?:option|choice)\b", re.I)


def _letters(text: str, alphabet: Sequence[str]) -> Found:
    """The choice letters that a text names; one beyond the alphabet too, where it is meant as one: "(E)"."""
    if alone := re.fullmatch(r"\W*([A-Za-z])\W*", text):
        return {alone[1].upper()}
    found = set()
    for pattern in (_EXPLICIT_LETTER, _CAPITAL_LETTER):
        for match in pattern.finditer(text):
            letter = next(group for group in match.groups() if group).upper()
            meant = pattern is _EXPLICIT_LETTER or letter in alphabet
            if meant and not denied(text, *match.span()):
                found.add(letter)
    for match in _ORDINAL_OPTION.finditer(text):
        if not denied(text, *match.span()):
            name = match[1].lower()
            found.add(alphabet[-1] if name == "last" else chr(ord("A") + _ORDINALS.index(name)))
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
    values = _quantities(choices)

    def find(stretch: str) -> Found:
        letters = _letters(stretch, alphabet)
        if values is None:
            named = {alphabet[index] for index in _phrases(stretch, choices)}
        else:
            mentioned = numbers(stretch)
            named = {letter for letter, value in zip(alphabet, values, strict=True) if value in mentioned}
        if letters and (not named or letters & named):
            return letters
        return letters | named or {alphabet[index] for index in _abbreviated(stretch, choices)}

    letter = conclude(text, find)
    return letter if letter in alphabet else None


def _quantities(choices: Sequence[str]) -> list[float] | None:
    """The values of choices that are all different numbers of one unit ("2.5 m", or no unit), else None."""
    found = [re.fullmatch(r"\W*[\d.,]+\s*([a-z]*)\W*", option, re.I) for option in choices]
    if not all(found) or len({match[1].lower() for match in found}) > 1:
        return None
    values = [number(option) for option in choices]
    return values if len(set(values) - {None}) == len(choices) else None


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
