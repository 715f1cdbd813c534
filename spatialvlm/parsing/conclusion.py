"""Where in a generated text its answer stands, in one order: `conclude` has it.

1. Thoughts are cut, in every mark that models write (`thoughts`); what stands inside them does not count.
2. Markup is taken off, with marks around what tags, boxes and JSON announce (`markup`), and words of other
   languages become English ones (`translation`).
3. Refusals, doubts and error messages are separated from answers (`refusals`), and lines about something else
   (confidence, tokens, time) are left out.
4. What is announced last counts: `_announced` and, where nothing is, `_stretches` list where to look.

A *finder* lists what a stretch of text answers (`spatialvlm.parsing.answers` has one each for letters,
numbers and words). The first stretch that names any answer decides. One that names two different answers
names none: "A or B" is unparsed, never half right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from spatialvlm.parsing.english import part, pattern, phrases
from spatialvlm.parsing.markup import CLOSE, OPEN, TAGGED, inside_answer_tags, plain, unmarked
from spatialvlm.parsing.refusals import answering, declines
from spatialvlm.parsing.thoughts import without_thoughts
from spatialvlm.parsing.translation import in_english

__all__ = ["Finder", "Found", "body", "conclude", "declines", "denied", "inside_answer_tags"]

Found = set  # what a finder returns: the distinct answers of a stretch of text
Finder = Callable[[str], Found]
CONCLUSIONS = 20  # of each kind that are looked at, from the end

# ---- conclusions

_MARKS = re.compile(f"[{OPEN}{CLOSE}]")
_ANNOUNCED = re.compile(part("announced"), re.I)
_ASIDE_LINE = re.compile(part("aside_line"), re.I | re.M)
_ASIDE_CLAUSE = pattern("certainty", "run", "question")
_EARLIER = pattern("earlier")
_INSTRUCTION = pattern("instruction", "plan")
_SUM_AFTER = re.compile(
    r"\A(\W*[\d.,]{1,15}(?:\s[^\W\d]{1,15})?)\s*=\s*[\d.]{1,15}(?:\s*[+×*x-]\s*[\d.]{1,15})+\W*\Z"
)  # 5 = 2 + 3
_CUT_OFF_LIST = re.compile(r"\n\W{0,4}[A-H][:.)]\W{0,4}\Z")
_CUT_OFF = re.compile(part("cut_off"), re.I)
_ENDS_BEFORE_ANSWER = re.compile(r"\n\W*(?:in )?(?:total|sum|altogether)\s*(?:is|:|=)\s*\Z", re.I)
_CONFIRMED = re.compile(rf"(?:\A|(?<=[.\n;,]))([^.\n;,]*){part('confirms')}", re.I | re.M)
_TOTAL = re.compile(rf"(?:\A|(?<=[.\n;,:]))([^.\n;,:]{{1,60}}?){part('total_after')}", re.I)
_TAKEN_BACK = re.compile(part("taken_back"), re.I)
_CORRECTION = re.compile(part("corrected"), re.I)
_CONCLUDED = re.compile(part("concluded"), re.I)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])|\n")
_EXPLANATION = re.compile(part("explanation"), re.I)
# a short first line, set off from an explanation
_BARE_OPENING = re.compile(rf"\A([^\n:]+)\n(?:\s*\n|\W*{phrases('explains')})", re.I)
_BARE_FIRST_LINE = re.compile(r"\A(\W{0,4}(?:[A-Z]|\d{1,6}(?:\.\d{1,6})?|yes|no)\W{0,4})\n", re.I)
_BARE_LINE = re.compile(r"^\W*(?:\w+\W*|\w\W.*)$", re.M)  # or one of a list, "B. chair"
_AFTER_COLON = re.compile(r"(?:[^\s.:;]{1,30}\s+){6}[^\s.:;]{1,30}:\s*([\w-]{1,20}(?: [\w-]{1,20})?)\W*\Z")
_OPENING_SENTENCE = re.compile(  # "6. There are four here and two there", but not the first entry of a list
    r"\A\W*([A-Za-z]+|[\d.,]*\d|it(?:'s"
    r"| is) (?:the )?\w+(?: \w+)?)[.!]\s+(?=[A-Z]\S*(?:\s+[^\s.)]+){3})(?!.*[\s(]\w{1,2}[.)]\s)",
    re.DOTALL | re.I,
)
_LISTED_LINE = re.compile(  # "(A) left", "- left", "A"
    r"(?:\W*(?:[A-Za-z]|\d+)[.):]|\s*[-•|])\W*\w|\W*\w+\W*$"
)
_DENIED_BEFORE = re.compile(part("denied_before"), re.I)
_DENIED_IN_LIST = re.compile(part("denied_in_list"), re.I)
_LIST_GOES_ON = re.compile(part("list_goes_on"), re.I)
_DENIED_AFTER = re.compile(part("denied_after"), re.I)


def conclude(
    text: str, find: Finder, stated: re.Pattern | None = None, may_decline: bool = True
) -> str | int | float | None:
    """The one answer of the first stretch that names any; None where it names several, or none does.

    Args:
        stated: also what follows this pattern, where it occurs once, is a stretch that may conclude.
        may_decline: a refusal is no answer; False where "cannot be determined" is one of the choices.
    """
    found = _found(in_english(plain(without_thoughts(text))), find, stated, may_decline)
    return found.pop() if len(found) == 1 else None


def _found(text: str, find: Finder, stated: re.Pattern | None, may_decline: bool) -> Found:
    """What the deciding stretch of a plain text answers."""
    pieces = _pieces(text)
    if _taken_back_after_marks(pieces):
        return set()
    marked = any(is_marked for is_marked, _ in pieces)
    for is_marked, piece in reversed(pieces):
        settled = piece.startswith(TAGGED)
        piece = (
            answering(_about_the_answer(piece.lstrip(TAGGED))) if may_decline else _about_the_answer(piece)
        )
        stretches = _announced(piece) if marked and not is_marked else _stretches(piece, stated)
        for stretch in stretches:
            claim = _EXPLANATION.split(stretch, maxsplit=1)[0]
            if found := find(claim) or find(stretch):
                return found
        if settled:
            break
    return set()


def _taken_back_after_marks(pieces: list[tuple[bool, str]]) -> bool:
    """Whether boxes or tags are then left open, "\\boxed{4} or \\boxed{5}? I can't tell", or are cut off."""
    marks = [piece.lstrip(TAGGED).strip() for is_marked, piece in pieces if is_marked]
    is_marked, last = pieces[-1]
    if not marks or is_marked:
        return False
    open_end = bool(_CUT_OFF.search(last)) and len(last.split()) > 5
    same_sentence = re.match(r"[^.\n]*", last)[0]
    return (
        open_end or declines(same_sentence) or (len(set(marks)) > 1 and last.strip() != "" and declines(last))
    )


def _pieces(text: str) -> list[tuple[bool, str]]:
    """A text cut at its marks: (whether markup announces it, the piece)."""
    pieces, depth, last = [], 0, 0
    for mark in _MARKS.finditer(text):
        if mark[0] == OPEN:
            depth += 1
            if depth == 1:
                pieces.append((False, text[last : mark.start()]))
                last = mark.end()
        elif depth:
            depth -= 1
            if depth == 0:
                pieces.append((True, unmarked_inside(text[last : mark.start()])))
                last = mark.end()
    pieces.append((depth > 0, unmarked_inside(text[last:])))
    return [(is_marked, piece) for is_marked, piece in pieces if piece.strip(" \n" + TAGGED) or not is_marked]


def unmarked_inside(piece: str) -> str:
    return TAGGED + unmarked(piece[1:]) if piece.startswith(TAGGED) else unmarked(piece)


def body(text: str) -> str:
    """The part of a text that may answer, as plain text: no thoughts, no markup, no repeated question."""
    text = plain(without_thoughts(text))
    pieces = _pieces(text)
    marked = [piece for is_marked, piece in pieces if is_marked]
    return marked[-1].lstrip(TAGGED) if marked else unmarked(text)


def _announced(text: str) -> Iterator[str]:
    announced = _last(_ANNOUNCED, text)
    if (
        announced
        and (taken_back := _last(_TAKEN_BACK, text))
        and taken_back[0].start() > announced[0].start()
    ):
        yield text[taken_back[0].end() :]
    for match in announced:
        stretch = _sentence(text, match.end())
        if "=" in stretch:  # "total = 2 + 3 = 5"
            yield stretch.rpartition("=")[2]
        yield stretch
    for match in (*_last(_CONFIRMED, text), *_last(_TOTAL, text)):
        yield match[1]


def _stretches(text: str, stated: re.Pattern | None) -> Iterator[str]:
    yield from _announced(text)
    bare = _BARE_FIRST_LINE.match(text)
    if bare and not _BARE_LINE.search(text, bare.end()) and not _CORRECTION.search(text, bare.end()):
        yield bare[1]
    if last := _short_last_line(text):
        yield last
    opening = _BARE_OPENING.match(text)
    explained = opening and len(text[opening.end() :].split()) > 1
    if explained and len(opening[1].split()) <= 4 and not _CORRECTION.search(text, opening.end()):
        yield opening[1]
    for match in _last(_CONCLUDED, text):
        yield text[match.end() :]
    if stated and len(matches := list(stated.finditer(text))) == 1:
        yield _sentence(text, matches[0].end())
    if colon := _AFTER_COLON.search(text):
        yield colon[1]
    if opening := _OPENING_SENTENCE.match(text):
        yield opening[1]
    yield text


def _last(pattern: re.Pattern, text: str) -> list[re.Match]:
    """The last few matches, the last one first: a model caught in a loop may write thousands."""
    return list(pattern.finditer(text))[: -CONCLUSIONS - 1 : -1]


def _about_the_answer(text: str) -> str:
    """A text without lines and clauses about something else, and without a last sentence that is cut off."""
    text = _EARLIER.sub(
        " actually ", _ASIDE_CLAUSE.sub(" ", _ASIDE_LINE.sub(" ", _INSTRUCTION.sub(" ", text)))
    )
    text = _SUM_AFTER.sub(r"\1", text)
    whole = _CUT_OFF.sub("", text) if len(text.split()) > 3 else text
    ends_before_answer = _ENDS_BEFORE_ANSWER.search(text)
    return "" if ends_before_answer or _CUT_OFF_LIST.search(whole) else whole


def _sentence(text: str, start: int) -> str:
    return _SENTENCE_END.split(text[start:], maxsplit=1)[0]


def _short_last_line(text: str) -> str | None:
    """The last of several lines where it has six words at most and is no further entry of a list."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or len(lines[-1].split()) > 6:
        return None
    before = re.split(r"\n\s*\n", text)[:-1]
    set_off = len(lines) > 2 and before and "\n" in before[-1].strip() and text.endswith("\n" + lines[-1])
    return lines[-1] if set_off or not _continues_list(*lines[-2:]) else None


def _continues_list(line: str, following: str) -> bool:
    """Whether two lines are entries of one list ("(A) left", "(B) right"), whose last concludes nothing."""
    listed = _LISTED_LINE.match(line) and _LISTED_LINE.match(following)
    return bool(listed) and (len(line.split()) > 1) == (len(following.split()) > 1)


def denied(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is mentioned only to rule it out: "not B", "B is wrong", "nearer than B"."""
    before = max(0, start - 100)
    return bool(
        _DENIED_BEFORE.search(text, before, start)
        or _DENIED_AFTER.match(text, end)
        or (_DENIED_IN_LIST.search(text, before, start) and _LIST_GOES_ON.match(text, end))
    )
