"""Refusals, doubts, offers and error messages, separated from answers: the second step of parsing.

Three degrees: where there is no image, an error or an offer, only an announced answer counts; what a text
"cannot determine" takes back all before it but an answer in so many words, and only an opinion after it
counts ("but I would say B"); what it is "not sure" of is left out, and the answer beside it counts.
"""

from __future__ import annotations

import re

from spatialvlm.parsing.english import part, pattern

_ABSENT = pattern("no_image", "request", "assistant", "error", "server", "limit")
_OFFER = pattern("offer")
_UNABLE = pattern("unable")
_UNSURE = pattern("unsure")
_OPINION = pattern("opinion")
_WILLING = re.compile(part("willing"), re.I)
_CONCEDED_BEFORE = re.compile(part("conceded_before"), re.I)
_SUBORDINATE = re.compile(part("subordinate"), re.I)
_SENTENCE = re.compile(r"[^.!?;\n]+(?:[.!?;](?![\s\n]|$)[^.!?;\n]*)*[.!?;\n]*|[.!?;\n]+")
_ANSWERS_ANYWAY = re.compile(part("answers_anyway"), re.I)
_ASSERTS = re.compile(part("asserts"), re.I)
_BARE = re.compile(part("bare"), re.I)


def declines(text: str) -> bool:
    """Whether a text is nothing but a refusal or a doubt, as "Cannot be determined" is."""
    return bool(re.search(r"\w", text)) and not re.search(r"\w", answering(text))


def answering(text: str) -> str:
    """What a plain English text still says once its refusals, doubts, offers and error messages are out."""
    if not any(kind.search(text) for kind in (_ABSENT, _UNABLE, _UNSURE, _OFFER)):
        return text
    kept: list[str] = []
    offered: list[str] = []
    absent = False
    after_doubt = False
    for sentence in _SENTENCE.findall(text):
        if _ABSENT.search(sentence):
            kept = [piece for piece in kept if _ANSWERS_ANYWAY.search(piece) and piece not in offered]
            absent = True
            rest = _opinion_after(sentence, _last_end(_ABSENT, sentence))
            if rest and _ANSWERS_ANYWAY.search(rest):
                kept.append(rest)
        elif _OFFER.search(sentence):
            if kept and _WILLING.fullmatch(kept[-1]):
                kept.pop()
            if (answer := _ANSWERS_ANYWAY.search(sentence)) and not absent:
                kept.append(answer[0])
                offered.append(answer[0])  # "Answer: Yes, I can help!", before it asks for the image
        elif doubt := _UNABLE.search(sentence):
            kept = [piece for piece in kept if _ANSWERS_ANYWAY.search(piece) or _BARE.fullmatch(piece)]
            if (conceded := _CONCEDED_BEFORE.search(sentence, 0, doubt.start())) and not absent:
                before = sentence[: conceded.start()]
                if _BARE.fullmatch(before) or _ANSWERS_ANYWAY.search(before) or _ASSERTS.match(before):
                    kept.append(before)
            rest = _opinion_after(sentence, _last_end(_UNABLE, sentence))
            if rest and (not absent or _ANSWERS_ANYWAY.search(rest)):
                kept.append(rest)
            after_doubt = not rest
        elif absent or after_doubt:
            if (
                _ANSWERS_ANYWAY.search(sentence)
                or (not absent and _OPINION.search(sentence))
                or (not absent and _BARE.fullmatch(sentence))
            ):
                kept.append(sentence)
        elif doubt := _UNSURE.search(sentence):
            kept.append(_without_clause(sentence, doubt))
        else:
            kept.append(sentence)
    return "".join(kept)


def _last_end(pattern: re.Pattern, text: str) -> int:
    return max(match.end() for match in pattern.finditer(text))


def _opinion_after(sentence: str, end: int) -> str:
    opinion = _OPINION.search(sentence, end)
    return sentence[opinion.start() :] if opinion else ""


def _without_clause(sentence: str, doubt: re.Match) -> str:
    """A sentence without the clause of a doubt: from the pause before it to the one after."""
    start = max((sentence.rfind(mark, 0, doubt.start()) for mark in ",;:(–—"), default=-1) + 1
    pause = _SUBORDINATE.search(sentence, doubt.end())
    return sentence[:start] + (sentence[pause.start() :] if pause else "\n")
