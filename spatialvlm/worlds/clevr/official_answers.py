"""Answers to CLEVR's official questions (Johnson et al., CVPR 2017) from their text and a scene alone.

No program is needed: synonyms are mapped to plain words, the question's frame gives the family, and its
noun phrases are parsed from left to right, each one narrowing a set of objects. `official_questions` writes
new questions of the same families in the same words.
"""

from __future__ import annotations

import re
from typing import Any

from spatialvlm.worlds.clevr.facts import ATTRIBUTES, VALUES, Filter, Scene, matches

QUERIES = tuple(f"query_{name}" for name in ATTRIBUTES)
FAMILIES = ("exist", "count", "compare_integer", "compare_attribute", *QUERIES)
SIDES = ("left", "right", "front", "behind")

SYNONYMS = {
    "small": ("small", "tiny"),
    "large": ("large", "big"),
    "rubber": ("rubber", "matte"),
    "metal": ("metal", "metallic", "shiny"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "thing": ("thing", "object"),
}
SIDE_WORDS = {
    "left": ("left of", "to the left of", "on the left side of"),
    "right": ("right of", "to the right of", "on the right side of"),
    "front": ("in front of",),
    "behind": ("behind",),
}

# ---- families


def family(question: str | list[dict[str, Any]]) -> str | None:
    """The family of an official question, one of `FAMILIES`, by its program (a list of steps) or by its text.

    None for a text that is no official question.
    """
    if not isinstance(question, str):
        last = question[-1]["function"]
        if last in ("equal_integer", "less_than", "greater_than"):
            return "compare_integer"
        return "compare_attribute" if last.startswith("equal_") else last
    _, text = _parts(question)
    for name, pattern in _FRAMES:
        if found := pattern.match(text):
            return f"query_{_asked(found)}" if name == "query" else name
    return None


# ---- reading a question

_ONE, _TWO = "(?P<first>.+)", "(?P<second>.+)"
_ATTRIBUTE = "(?P<attribute>size|color|material|shape)"
_FRAMES = [
    (name, re.compile(pattern + "$"))
    for name, *patterns in (
        (
            "compare_integer",
            f"are there (?:an equal|the same) number of {_ONE} and {_TWO}",
            f"are there (?P<order>more|fewer) {_ONE} than {_TWO}",
            f"is the number of {_ONE} the same as the number of {_TWO}",
            f"is the number of {_ONE} (?P<order>greater|less) than the number of {_TWO}",
        ),
        (
            "compare_attribute",
            f"is (?:the )?{_ATTRIBUTE} of {_ONE} the same as {_TWO}",
            f"(?:do|are) {_ONE} and (?P<second>the .+?)(?: have| made of)? the same {_ATTRIBUTE}",
            f"(?:does|is) (?P<first>the .+|it)(?: have| made of)? the same {_ATTRIBUTE} as {_TWO}",
        ),
        (
            "query",
            f"how (?P<attribute>big) is {_ONE}",
            f"what is (?:the )?{_ATTRIBUTE} of {_ONE}",
            f"what {_ATTRIBUTE} is {_ONE}",
            f"what is {_ONE} (?P<attribute>made) of",
            f"{_ONE} (?:is|has)(?: made of)? what {_ATTRIBUTE}",
        ),
        ("count", f"(?:how many|what number of) {_ONE}"),
        ("exist", f"(?:are there|is there|are) {_ONE}"),
    )
    for pattern in patterns
]

_PLAIN = {word: plain for plain, words in SYNONYMS.items() for word in words}
_PLAIN |= {word + "s": plain for word, plain in _PLAIN.items()}
_PLAIN |= {"cylinders": "cylinder", "anything": "thing"}
_ATTRIBUTE_OF = {value: name for name, values in VALUES.items() for value in values}
_SIDES = {side.upper() for side in SIDES}
_FILLERS = frozenset(
    ("the", "a", "an", "any", "other", "another", "that", "is", "are", "there", "has", "have", "of")
    + ("both", "either", "visible", "made", "else")
)


class _Unreadable(Exception):
    """The text is none of the official forms, or refers to something that the scene does not single out."""


def answer_clevr(question: str, scene: Scene) -> str | None:
    """The answer to an official question, from its text and the scene (`relationships` for the sides) alone.

    Returns:
        The answer as the official files give it (`yes`, `3`, `red`); None for a text of another form, or one
        that refers to what is not there or not unique.
    """
    known, text = _parts(question)
    try:
        it = _one(scene, known, None) if known else None
        for name, pattern in _FRAMES:
            if found := pattern.match(text):
                return _ANSWERS[name](scene, found, it)
    except _Unreadable:
        pass
    return None


def _parts(question: str) -> tuple[str, str]:
    """("a cube", "what color is it") of "There is a cube; what color is it?"; ("", text) of others.

    "its color" becomes "color of it", so that both halves are read by the same frames.
    """
    text = re.sub(r"\bits (\w+)", r"\1 of it", question.lower().strip().rstrip("?."))
    known, separator, asked = text.rpartition("; ")
    return (known.removeprefix("there is "), asked) if separator else ("", text)


def _asked(found: re.Match[str]) -> str:
    return {"big": "size", "made": "material"}.get(found["attribute"], found["attribute"])


def _words(phrase: str) -> list[str]:
    """Plain words of a phrase, sides as one word in capitals (`LEFT`), fillers dropped."""
    for side, wordings in SIDE_WORDS.items():
        for wording in sorted(wordings, key=len, reverse=True):
            phrase = re.sub(rf"\b{wording}\b", side.upper(), phrase)
    words = [_PLAIN.get(word, word) for word in phrase.split()]
    return [word for word in words if word not in _FILLERS]


def _one(scene: Scene, phrase: str, it: int | None) -> int:
    """The one object a phrase refers to."""
    return _unique(_some(scene, phrase, it))


def _unique(found: set[int]) -> int:
    if len(found) != 1:
        raise _Unreadable
    return next(iter(found))


def _some(scene: Scene, phrase: str, it: int | None) -> set[int]:
    """All objects a phrase fits."""
    words = _words(phrase)
    found = _phrase(scene, words, it)
    if words:  # "purple things [are either] cubes or large cubes"
        first = _phrase(scene, words, it)
        if not words or words.pop(0) != "or":
            raise _Unreadable
        found &= first | _phrase(scene, words, it)
    if words:
        raise _Unreadable
    return found


def _phrase(scene: Scene, words: list[str], it: int | None, inner: bool = False) -> set[int]:
    """Reads a noun phrase with all that hangs on it off the front of `words`.

    `inner` phrases ("... behind the red cube") leave an "and" to the phrase they hang on.
    """
    if words[:1] == ["it"] and it is not None:
        del words[0]
        return {it}
    conditions: Filter = {}
    while words and _ATTRIBUTE_OF.get(words[0], "shape") != "shape":
        value = words.pop(0)
        conditions[_ATTRIBUTE_OF[value]] = value
    if not words or words[0] not in (*VALUES["shape"], "thing"):
        raise _Unreadable
    if (noun := words.pop(0)) != "thing":
        conditions["shape"] = noun
    found = set(matches(scene, conditions))
    if words and words[0] in _SIDES:
        found &= _beside(scene, words, it)
        if not inner and words[:1] == ["and"]:
            del words[0]
            found &= _beside(scene, words, it)
    elif words[:1] == ["same"]:
        if len(words) < 3 or words[1] not in ATTRIBUTES or words[2] != "as":
            raise _Unreadable
        attribute = words[1]
        del words[:3]
        anchor = _unique(_phrase(scene, words, it, inner=True))
        value = scene["objects"][anchor][attribute]
        found &= set(matches(scene, {attribute: value})) - {anchor}
    return found


def _beside(scene: Scene, words: list[str], it: int | None) -> set[int]:
    if not words or words[0] not in _SIDES:
        raise _Unreadable
    side = words.pop(0).lower()
    anchor = _unique(_phrase(scene, words, it, inner=True))
    return set(scene["relationships"][side][anchor])


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _answer_integers(scene: Scene, found: re.Match[str], it: int | None) -> str:
    first, second = (len(_some(scene, found[name], it)) for name in ("first", "second"))
    order = found.groupdict().get("order")
    if order is None:
        return _yes(first == second)
    return _yes(first > second if order in ("more", "greater") else first < second)


def _answer_attributes(scene: Scene, found: re.Match[str], it: int | None) -> str:
    first, second = (scene["objects"][_one(scene, found[name], it)] for name in ("first", "second"))
    return _yes(first[found["attribute"]] == second[found["attribute"]])


_ANSWERS = {
    "compare_integer": _answer_integers,
    "compare_attribute": _answer_attributes,
    "query": lambda scene, found, it: scene["objects"][_one(scene, found["first"], it)][_asked(found)],
    "count": lambda scene, found, it: str(len(_some(scene, found["first"], it))),
    "exist": lambda scene, found, it: _yes(bool(_some(scene, found["first"], it))),
}
