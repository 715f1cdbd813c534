"""Yes and no, in the words of somebody who judges a statement."""

from __future__ import annotations

import re

from spatialvlm.parsing.conclusion import Found, denied
from spatialvlm.parsing.english import part

# Each group of `_CLAIM` is one way to say yes (YES) or no, and some words judge only where they end a clause.
YES = ("yes", "correct", "right", "match")
_CLAIM = re.compile(part("claim"), re.I)
_HALF_TRUE = re.compile(part("half_true"), re.I)
_HALF_TRUE_AFTER = re.compile(part("half_true_after"), re.I)
_POSSIBLY = re.compile(part("possibly"), re.I)
_MAYBE_AFTER = re.compile(part("maybe_after"), re.I)
_HEDGED = re.compile(r"\s*(?:or|and|/|\||)\s*(yes|no|true|false)\b", re.I)
_EITHER = re.compile(part("either"), re.I)
_SAID_NO = re.compile(r"\bno\W*\Z", re.I)  # "no (false)" denies nothing
_ARTICLE = re.compile(r"\b(?:a|an|the)\s+\Z", re.I)  # "a false ceiling", but "a false claim"
_NOUN = re.compile(r"\s+(?!statement|claim|description|assertion|caption)[a-z]{3,}", re.I)
_CLAUSE_START = re.compile(r"(?:\A|[.,;:!\n–—-]|\b(?:and|but|or|also))\s*\Z", re.I)
_CLAUSE_END = re.compile(r"\s*(?:\Z|[.,;:!\n)]|\b(?:if|for|when|from|in)\b)", re.I)
_SAYS_YES = re.compile(rf"\W*{part('says_yes')}\W*|[^\w❌✖✗✘👎🙅]*[✅✔☑👍👌🙆][^\w❌✖✗✘👎🙅]*", re.I)
_SAYS_NO = re.compile(rf"\W*{part('says_no')}\W*|[^\w✅✔☑👍👌🙆]*[❌✖✗✘👎🙅][^\w✅✔☑👍👌🙆]*", re.I)


def claims(stretch: str) -> Found:
    """The yes and no of a stretch; a claim that is half made, asked or only possible is none."""
    for answer, idiom in (("yes", _SAYS_YES), ("no", _SAYS_NO)):
        if idiom.fullmatch(stretch):
            return {answer}
    stretch = _EITHER.sub(" ", stretch)
    found, opening = set(), None
    for match in _CLAIM.finditer(stretch):
        is_yes = any(match[name] for name in YES)
        name = next((name for name in ("correct", "wrong", "right") if match[name]), None)
        start = match.start(name) if name else match.start()
        before = stretch[max(0, start - 80) : start]
        is_word = match[0].lower() in ("yes", "yeah", "yep", "yup", "no", "nope", "nah")
        if _HALF_TRUE.search(before) or _HALF_TRUE_AFTER.match(stretch, match.end()):
            found, opening = set(), None
            continue
        attributive = _ARTICLE.search(before) and _NOUN.match(stretch, match.end())
        if not is_word and (attributive or _POSSIBLY.search(before)):
            continue
        if _MAYBE_AFTER.match(stretch, match.end()):
            continue
        negated = denied(stretch, start, match.end()) and not _SAID_NO.search(before)
        if negated and is_word:
            continue
        answer = "yes" if is_yes != negated else "no"
        if not stretch[: match.start()].strip(" \"'(,.:"):
            other = _HEDGED.match(stretch, match.end())
            if other and other[1].lower() != match[0].lower():
                return {"yes", "no"}
            opening = answer
        bare = _CLAUSE_START.search(before) and _CLAUSE_END.match(stretch, match.end())
        if opening is None or bare:
            found.add(answer)
    return {opening} if opening and found <= {opening} else found
