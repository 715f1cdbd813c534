"""Where in a generated text its answer stands: without markup, denials apart from claims.

The order is `_stretches`: an announced answer, a confirmed one, a short last line, a short first line that
explanations follow, what comes after "so" or "wait", then all of the text.

A *finder* lists what a stretch of text answers (`spatialvlm.parsing.answers` has one each for letters,
numbers and words). `conclude` hands it the stretches that may hold the conclusion, the most telling first,
and takes the first that names any answer. One that names two different answers names none: "A or B" is
unparsed, never half right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

Found = set  # what a finder returns: the distinct answers of a stretch of text
Finder = Callable[[str], Found]
CONCLUSIONS = 20  # of each kind that are looked at, from the end

# ---- markup

_TAG = re.compile(r"</?\s*\|?[a-z_]{2,}[^<>\n]{0,30}>", re.I)  # two letters at least: "<B>" is an answer
_END_TOKENS = re.compile(r"(?:\s*(?:</s>|<eos>|<pad>|<end_of_turn>|<\|[a-z_]+\|>))+\s*\Z")
_JSON_ANSWER = re.compile(
    r"""\{.*?["'](?:final_)?answer["']\s*:\s*("[^"]*"|'[^']*'|[^,}\n]+)""", re.I | re.DOTALL
)
_ASKED_AND_ANSWERED = re.compile(r"\A\s*Q(?:uestion)?\s*:.*\n\s*A\s*:", re.DOTALL)
_QUESTION = re.compile(r"(?:\A|(?<=[.!?\n]))[^.!?\n]*\?(?=\s|$)")
_POWER_OF_TEN = re.compile(r"(?<=\d)\s*(?:[×·*x]|\\times|\\cdot)\s*10\^\{?([-+]?\d+)\}?")
_REMARK = re.compile(  # words that would read as an answer: "you're right", "right behind it", "N/A"
    r"\b(?:that'?s|that is|you'?re|you are|all) right\b(?=\s*[,.!])"
    r"|(?<!the )(?<!your )(?<!to )\bright (?=behind|in front|next to|beside|above|below|under)"
    r"|\bn/a\b",
    re.I,
)


def inside_answer_tags(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>` (or after it, unclosed); None without tags."""
    parts = re.split(r"<answer>", text, flags=re.I)
    if len(parts) > 2 and not parts[-1].strip():  # "<answer>B<answer>": the second one was to close the first
        parts.pop()
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


def body(text: str) -> str:
    """The part of a text that may answer, as plain text: no thoughts, no markup, no repeated question."""
    text = _END_TOKENS.sub("", text)
    if (tagged := inside_answer_tags(text)) is not None:
        text = tagged
    else:
        text = re.split(r"</think>", text, flags=re.I)[-1]
        text = re.split(r"<think>", text, flags=re.I)[0]  # thoughts that never end conclude nothing
    if (boxed := _boxed(text)) is not None:
        text = boxed
    if written := _JSON_ANSWER.search(text):
        text = written[1]
    text = _TAG.sub(" ", text)
    text = re.sub(r"[²³]", r"^\g<0>", text)  # before NFKC turns "10³" into "103"
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("’", "'")
    text = _POWER_OF_TEN.sub(r"e\1", text)
    text = re.sub(r"\^\{?\\circ\}?", "°", text)
    text = re.sub(r"\^\{(\w+)\}", r"^\1", text).replace("{,}", ",")
    text = re.sub(r"\\[()\[\]]|\\[a-zA-Z]+|[{}$*`#]", " ", text)  # LaTeX and markdown
    text = re.sub(r"(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])", " ", text)
    text = _REMARK.sub(" ", _ASKED_AND_ANSWERED.sub(" ", text))
    without_questions = _QUESTION.sub(" ", text)
    return (without_questions if without_questions.strip() else text).strip()


# ---- conclusions

_ANNOUNCED = re.compile(
    r"\b(?:answer|(?:correct|right|best|final|my)\s+(?:choice|option|response))\b"
    r"(?:\s+(?:to|for|of|here|among|in)\b[^.:\n]{0,80}?)?"
    r"[\s\"']*(?:\b(?:is|was|are|(?:would|should|must|will|could|may|might)\s+be|seems\s+to\s+be)\b"
    r"|:|=|->|→)[:\s]*"
    r"|\b(?:correction|i\s+meant?|make\s+that)\b[:,\s]*",
    re.I,
)
_CONFIRMED = re.compile(  # "B is the correct answer": what is confirmed stands before
    r"(?:\A|(?<=[.\n;,]))([^.\n;,]*)\b(?:is|are)\s+(?:the\s+)?(?:most\s+|best\s+)?"
    r"(?:correct|right|best|answer)\s*(?:answer|choice|option|one)?\s*(?:[.,;!]|$)",
    re.I | re.M,
)
_CORRECTED = (
    r"\b(?:actually|wait|on second thought)\b"
    r"|\b(?:first|initially|originally|thought)\b[^.\n]{0,120}?\bbut\b"  # "I first thought A, but it is B"
    r"|(?<=\S)\s*[-–—?.!,…]\s*(?:h+m+,?\s+)?(?:oh,?\s+)?no[,:.]\s"  # "A... no, B"
)
_CORRECTION = re.compile(_CORRECTED, re.I)
_CONCLUDED = re.compile(
    r"\b(?:so|therefore|thus|hence|finally|overall|consequently|altogether|in conclusion|in total"
    r"|total (?:of|is)|making|makes|giving|leaves|leaving|i (?:think|believe|guess|say|estimate)"
    r"|(?:i'd|i'll|i would|i will) \w+|choose|pick|select|go with|going with)\b|\b(?:total|sum):|=>?"
    rf"|{_CORRECTED}",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])|\n")
_EXPLANATION = re.compile(r"\b(?:because|since)\b", re.I)
_BARE_OPENING = re.compile(  # a short first line, set off from an explanation
    r"\A([^\n:]+)\n(?:\s*\n|\W*(?:explanation|reason(?:ing)?|rationale|justification|note)\b)", re.I
)
_OPENING_SENTENCE = re.compile(  # "6. There are four here and two there", but not the first entry of a list
    r"\A\W*([A-Za-z]+|[\d.,]*\d|it(?:'s| is) (?:the )?\w+(?: \w+)?)[.!]\s+(?=[A-Z]\S*(?:\s+[^\s.)]+){3})"
    r"(?!.*[\s(]\w{1,2}[.)]\s)",
    re.DOTALL | re.I,
)
_LISTED_LINE = re.compile(  # "(A) left", "- left", "A"
    r"(?:\W*(?:[A-Za-z]|\d+)[.):]|\s*[-•])\W*\w|\W*\w+\W*$"
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|than|without|except|excluding|cannot|instead of|at (?:least|most)|up to"
    r"|(?:anything|everything|all) but)|n't)\s+"
    r"(?:(?:be|being|option|choice|answer|the|a|an|in|on|at|to|of|think|believe|that|it|it's|is)\s+)*"
    r"[\"'(\[]*$",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"[)\]\"']*\s*(?:(?:is|are|was|were|can)\s*(?:not\b|n't)|cannot\b"
    r"|(?:is|are)\s+(?:wrong|incorrect|false|ruled out))",
    re.I,
)


def conclude(text: str, find: Finder, stated: re.Pattern | None = None) -> str | int | float | None:
    """The one answer of the first stretch that names any; None where it names several, or none does.

    Args:
        stated: also what follows this pattern, where it occurs once, is a stretch that may conclude.
    """
    for stretch in _stretches(body(text), stated):
        claim = _EXPLANATION.split(stretch, maxsplit=1)[0]
        if found := find(claim) or find(stretch):
            return found.pop() if len(found) == 1 else None
    return None


def _stretches(text: str, stated: re.Pattern | None) -> Iterator[str]:
    for match in _last(_ANNOUNCED, text):
        yield _sentence(text, match.end())
    for match in _last(_CONFIRMED, text):
        yield match[1]
    if last := _short_last_line(text):
        yield last
    opening = _BARE_OPENING.match(text)
    if opening and len(opening[1].split()) <= 4 and not _CORRECTION.search(text, opening.end()):
        yield opening[1]
    for match in _last(_CONCLUDED, text):
        yield text[match.end() :]
    if stated and len(matches := list(stated.finditer(text))) == 1:
        yield _sentence(text, matches[0].end())
    if opening := _OPENING_SENTENCE.match(text):
        yield opening[1]
    yield text


def _last(pattern: re.Pattern, text: str) -> list[re.Match]:
    """The last few matches, the last one first: a model caught in a loop may write thousands."""
    return list(pattern.finditer(text))[: -CONCLUSIONS - 1 : -1]


def _sentence(text: str, start: int) -> str:
    return _SENTENCE_END.split(text[start:], maxsplit=1)[0]


def _short_last_line(text: str) -> str | None:
    """The last of several lines where it has four words at most and is no further entry of a list."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or len(lines[-1].split()) > 4:
        return None
    before = re.split(r"\n\s*\n", text)[:-1]
    set_off = len(lines) > 2 and before and "\n" in before[-1].strip() and text.endswith("\n" + lines[-1])
    return lines[-1] if set_off or not _continues_list(*lines[-2:]) else None


def _continues_list(line: str, following: str) -> bool:
    """Whether two lines are entries of one list ("(A) left", "(B) right"), whose last concludes nothing."""
    listed = _LISTED_LINE.match(line) and _LISTED_LINE.match(following)
    return bool(listed) and (len(line.split()) > 1) == (len(following.split()) > 1)


def denied(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is mentioned only to rule it out: "not B", "B is wrong", "closer than B"."""
    return bool(_DENIED_BEFORE.search(text, max(0, start - 80), start) or _DENIED_AFTER.match(text, end))
