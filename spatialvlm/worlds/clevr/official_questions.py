"""New questions of CLEVR's official families, in the official words, with the official form of answer.

The families and their structures are those of the CLEVR generator (Johnson et al., CVPR 2017): chains of up
to three sides, things with the same attribute, two sides at once, one kind or another. References are unique.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from spatialvlm.worlds.clevr.facts import (
    ATTRIBUTES,
    SUBSETS,
    VALUES,
    Filter,
    Scene,
    counts,
    matches,
    single_out,
)
from spatialvlm.worlds.clevr.official_answers import FAMILIES, SIDE_WORDS, SIDES, SYNONYMS
from spatialvlm.worlds.clevr.questions import Question

HOPS = ("zero_hop", "one_hop", "two_hop", "three_hop")
_TRIES = 40

Asked = tuple[str, str, str] | None  # question, answer, structure


def clevr(scene: Scene, rng: Random, family: str) -> Question | None:
    """A question of an official family; None where the scene yields none.

    Yes and no are equally likely, whatever else is sampled. `meta["structure"]` tells how the question is
    built: one of `HOPS`, `same_relate`, `single_and`, `single_or` or `comparison`.

    Args:
        family: one of `FAMILIES`.
    """
    if family not in FAMILIES:
        raise ValueError(f"no CLEVR family {family!r}; one of {', '.join(FAMILIES)}")
    want = rng.random() < 0.5  # sampled once: with every try, the commoner answer would win
    for _ in range(_TRIES):
        if family.startswith("query_"):
            asked = _query(scene, rng, family.removeprefix("query_"))
        elif family == "count":
            asked = rng.choice((_count, _count, _count_either))(scene, rng)
        else:
            ask = {"exist": _exist, "compare_integer": _integers, "compare_attribute": _attributes}[family]
            asked = ask(scene, rng, want)
        if asked is not None:
            question, answer, structure = asked
            return Question(question, answer, family, meta={"structure": structure})
    return None


# ---- phrases


def _noun(rng: Random, conditions: Filter, plural: bool = False) -> str:
    words = [conditions[name] for name in ("size", "color", "material") if name in conditions]
    words.append(conditions.get("shape", "thing"))
    words = [rng.choice(SYNONYMS.get(word, (word,))) for word in words]
    return " ".join(words) + ("s" if plural else "")


def _nouns(rng: Random, conditions: Filter) -> str:
    return _noun(rng, conditions, plural=True)


def _a(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _everything(scene: Scene) -> set[int]:
    return set(range(len(scene["objects"])))


def _beside(scene: Scene, rng: Random, anchor: tuple[str, int]) -> tuple[str, set[int]]:
    """(`left of the red cube`, the objects there)."""
    side = rng.choice(SIDES)
    return f"{rng.choice(SIDE_WORDS[side])} the {anchor[0]}", set(scene["relationships"][side][anchor[1]])


def _thing(scene: Scene, rng: Random, hops: int, without: Iterable[str] = ()) -> tuple[str, int] | None:
    """(a phrase that singles an object out over a chain of sides, the object)."""
    suffix, among = "", _everything(scene)
    if hops:
        anchor = _thing(scene, rng, hops - 1)
        if anchor is None:
            return None
        words, among = _beside(scene, rng, anchor)
        suffix = rng.choice((" ", " that is ")) + words
    if not among:
        return None
    index = rng.choice(sorted(among))
    conditions = single_out(scene, index, rng, tuple(without), among)
    return None if conditions is None else (_noun(rng, conditions) + suffix, index)


def _scope(scene: Scene, rng: Random, structure: str) -> tuple[str, set[int], str | None] | None:
    """(what a noun is said to be, the objects that are it, an attribute the noun may then not mention)."""
    if structure == "zero_hop":
        return "", _everything(scene), None
    if structure == "same_relate":
        attribute = rng.choice(ATTRIBUTES)
        if anchor := _thing(scene, rng, 0, (attribute,)):
            value = scene["objects"][anchor[1]][attribute]
            among = set(matches(scene, {attribute: value})) - {anchor[1]}
            return f"the same {attribute} as the {anchor[0]}", among, attribute
    elif structure == "single_and":
        first, second = _thing(scene, rng, 0), _thing(scene, rng, 0)
        if first and second and first[1] != second[1]:
            (here, one), (there, other) = _beside(scene, rng, first), _beside(scene, rng, second)
            return f"both {here} and {there}", one & other, None
    elif anchor := _thing(scene, rng, HOPS.index(structure) - 1):
        return *_beside(scene, rng, anchor), None
    return None


def _subset(rng: Random, without: str | None, smallest: int = 0) -> tuple[str, ...]:
    return rng.choice([names for names in SUBSETS if len(names) >= smallest and without not in names])


# ---- families


def _exist(scene: Scene, rng: Random, want: bool) -> Asked:
    structure = rng.choice((*HOPS, "same_relate"))
    scope = _scope(scene, rng, structure)
    if scope is None or not scope[1]:
        return None
    words, among, without = scope
    attributes = _subset(rng, without, smallest=1)
    thing = scene["objects"][rng.choice(sorted(among))]
    present = {name: thing[name] for name in attributes}
    changed = [present | {name: value} for name in attributes for value in VALUES[name]]
    absent = [conditions for conditions in changed if not among & set(matches(scene, conditions))]
    if not absent:  # asked only where both answers were possible, so that the kind of filter tells nothing
        return None
    conditions = present if want else rng.choice(absent)
    one, many = _noun(rng, conditions), _nouns(rng, conditions)
    if structure == "zero_hop":
        question = rng.choice((f"Are there any {many}?", f"Is there {_a(one)}?", f"Are any {many} visible?"))
    elif structure == "same_relate":
        question = rng.choice(
            (f"Are there any other {many} that have {words}?", f"Is there another {one} that has {words}?")
        )
    else:
        question = rng.choice((f"Are there any {many} {words}?", f"Is there {_a(one)} that is {words}?"))
    return question, "yes" if want else "no", structure


def _count(scene: Scene, rng: Random) -> Asked:
    structure = rng.choice((*HOPS, "same_relate", "single_and"))
    scope = _scope(scene, rng, structure)
    if scope is None:
        return None
    words, among, without = scope
    by_count = counts({"objects": [scene["objects"][index] for index in among]}, _subset(rng, without))
    count = rng.choice(sorted(by_count))
    things = _nouns(rng, rng.choice(by_count[count]))
    how = rng.choice(("How many", "What number of"))
    question = {
        "zero_hop": f"{how} {things} are there?",
        "same_relate": f"{how} other {things} have {words}?",
    }.get(structure, f"{how} {things} are {words}?")
    return question, str(count), structure


def _count_either(scene: Scene, rng: Random) -> Asked:
    head = {name: rng.choice(VALUES[name]) for name in rng.choice(SUBSETS[:5])}
    filters = []
    for _ in range(2):
        thing = rng.choice(scene["objects"])
        names = _subset(rng, None, smallest=1)
        filters.append({name: thing[name] for name in names if name not in head})
    first, second = filters
    if not first or not second or first == second:
        return None
    either = set(matches(scene, first)) | set(matches(scene, second))
    question = (
        f"{rng.choice(('How many', 'What number of'))} {_nouns(rng, head)} are {rng.choice(('', 'either '))}"
        f"{_nouns(rng, first)} or {_nouns(rng, second)}?"
    )
    return question, str(len(either & set(matches(scene, head)))), "single_or"


def _integers(scene: Scene, rng: Random, want: bool) -> Asked:
    sides = []
    for _ in range(2):
        scope = _scope(scene, rng, rng.choice(HOPS[:2]))
        if scope is None:
            return None
        words, among, _ = scope
        thing = rng.choice(scene["objects"])
        conditions = {name: thing[name] for name in _subset(rng, None, smallest=1)}
        phrase = f"{_nouns(rng, conditions)} {words}".rstrip()
        sides.append((phrase, len(among & set(matches(scene, conditions)))))
    (first, one), (second, other) = sides
    if first == second:
        return None
    question, truth = rng.choice(
        (
            (f"Are there an equal number of {first} and {second}?", one == other),
            (f"Is the number of {first} the same as the number of {second}?", one == other),
            (f"Are there more {first} than {second}?", one > other),
            (f"Is the number of {first} greater than the number of {second}?", one > other),
            (f"Are there fewer {first} than {second}?", one < other),
            (f"Is the number of {first} less than the number of {second}?", one < other),
        )
    )
    return (question, "yes" if want else "no", "comparison") if truth == want else None


def _attributes(scene: Scene, rng: Random, want: bool) -> Asked:
    name = rng.choice(ATTRIBUTES)
    first, second = (_thing(scene, rng, rng.choice((0, 1)), (name,)) for _ in range(2))
    if first is None or second is None or first[1] == second[1]:
        return None
    if (scene["objects"][first[1]][name] == scene["objects"][second[1]][name]) != want:
        return None
    question = rng.choice(
        (
            f"Is the {name} of the {first[0]} the same as the {second[0]}?",
            f"Do the {first[0]} and the {second[0]} have the same {name}?",
            f"Does the {first[0]} have the same {name} as the {second[0]}?",
            f"Is the {first[0]} the same {name} as the {second[0]}?",
            f"There is {_a(first[0])}; does it have the same {name} as the {second[0]}?",
            f"There is {_a(first[0])}; is its {name} the same as the {second[0]}?",
        )
    )
    return question, "yes" if want else "no", "comparison"


def _query(scene: Scene, rng: Random, name: str) -> Asked:
    structure = rng.choice((*HOPS, "same_relate", "single_and"))
    scope = _scope(scene, rng, structure)
    if scope is None or not scope[1] or scope[2] == name:  # empty, or asked for what it says
        return None
    words, among, shared = scope
    index = rng.choice(sorted(among))
    conditions = single_out(scene, index, rng, (name, shared), among)
    if conditions is None:
        return None
    link = {"zero_hop": "", "same_relate": " that has "}.get(structure, " that is ")
    thing = f"{_noun(rng, conditions)}{link}{words}"
    questions = [
        f"What {name} is the {thing}?",
        f"What is the {name} of the {thing}?",
        f"There is {_a(thing)}; what {name} is it?",
        f"There is {_a(thing)}; what is its {name}?",
        f"The {thing} is what {name}?",
    ]
    questions += {"size": [f"How big is the {thing}?"], "material": [f"What is the {thing} made of?"]}.get(
        name, []
    )
    return rng.choice(questions), scene["objects"][index][name], structure
