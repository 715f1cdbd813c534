"""Questions about a scene in CLEVR's form: free form, and in the forms of SAT, CV-Bench and VSR.

Every function is pure: a scene and a `random.Random` give one `Question`, or None where the scene holds none
of that kind, or where the text would give the answer away: then the caller moves to its next scene. The rules
against ambiguity are in `facts`, CLEVR's official families in `official_questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.worlds.clevr.facts import (
    ATTRIBUTES,
    AXES,
    SUBSETS,
    VALUES,
    Scene,
    balanced_count,
    counts,
    describe,
    distance,
    matches,
    nearer_to_camera,
    nearer_to_object,
    refer,
    relation,
)

FREE_KINDS = ("exist", "attribute", "count", "relation", "depth", "distance")
SAT_KINDS = ("count", "relation", "depth", "distance")
CVBENCH_TASKS = ("Count", "Relation", "Depth", "Distance")
ANSWER_FORMS = ("natural", "letter", "mixed")
LETTERS = "ABCDEFGH"
POLARITIES = ("closer to", "farther from")
# How free questions say either of them.
POLARITY_WORDS = {
    "closer to": ("closer to", "nearer to"),
    "farther from": ("farther from", "far away from", "farther away from"),
}


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    Args:
        question: the bare question, without choices or instructions.
        answer: the gold answer in the form's own style (`(B)` in CV-Bench's).
        task: the kind of question.
        choices: the choices' texts in the order shown, or None for a free-form question.
        prompt: the whole text for a model; the question itself where it is empty.
        boxes: (colour name, object index) of every box to draw into the image.
        meta: anything else worth recording (objects, axis, filter).
    """

    question: str
    answer: str
    task: str
    choices: tuple[str, ...] | None = None
    prompt: str = ""
    boxes: tuple[tuple[str, int], ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt:
            object.__setattr__(self, "prompt", self.question)

    def example(self, id: str, image: Image.Image | Path, meta: dict[str, Any]) -> Example:
        """The question about an image, which shows its boxes; `meta` is added to its own."""
        meta = self.meta | meta
        return Example(id, (image,), self.question, self.answer, self.task, self.choices, self.prompt, meta)


# ---- free form


def free(scene: Scene, rng: Random, kind: str) -> Question | None:
    """A short question with a short answer. `kind` is one of `FREE_KINDS`."""
    return _FREE[kind](scene, rng)


def _article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" else "a"


def _free_exist(scene: Scene, rng: Random) -> Question | None:
    subsets = list(SUBSETS[1:])
    rng.shuffle(subsets)
    for attributes in subsets:
        thing = rng.choice(scene["objects"])
        present = {name: thing[name] for name in attributes}
        absent = [
            changed
            for name in attributes
            for value in VALUES[name]
            if not matches(scene, changed := present | {name: value})
        ]
        if absent:  # only where both answers were possible, so that the kind of filter tells nothing
            answer = rng.choice(("yes", "no"))
            conditions = present if answer == "yes" else rng.choice(absent)
            phrase = describe(conditions)
            question = f"Is there {_article(phrase)} {phrase}?"
            return Question(question, answer, "exist", meta={"filter": conditions})
    return None


def _free_attribute(scene: Scene, rng: Random) -> Question | None:
    indices = list(range(len(scene["objects"])))
    rng.shuffle(indices)
    name = rng.choice(ATTRIBUTES)
    for index in indices:
        if phrase := refer(scene, index, rng, without=(name,)):
            answer = scene["objects"][index][name]
            question = f"What {name} is the {phrase}?"
            return Question(question, answer, "attribute", meta={"attribute": name, "objects": [index]})
    return None


def _free_count(scene: Scene, rng: Random) -> Question | None:
    by_subset = [counts(scene, subset) for subset in SUBSETS[:-1]]
    count = rng.choice(sorted({count for by_count in by_subset for count in by_count}))
    by_count = rng.choice([by_count for by_count in by_subset if count in by_count])
    conditions = rng.choice(by_count[count])
    question = f"How many {describe(conditions, plural=True)} are there?"
    return Question(question, str(count), "count", meta={"filter": conditions})


_FREE_RELATION = {
    "lateral": "Is the {} left or right of the {}?",
    "sagittal": "Is the {} in front of or behind the {}?",
    "image y": "Is the {} above or below the {} in the image?",
}


def _free_relation(scene: Scene, rng: Random) -> Question | None:
    axis = rng.choice(("lateral", "lateral", "sagittal", "sagittal", "image y"))
    if found := relation(scene, rng, axis):
        pair, names, side = found
        meta = {"axis": axis, "objects": [*pair]}
        return Question(_FREE_RELATION[axis].format(*names), side, "relation", meta=meta)
    return None


def _free_nearer(scene: Scene, rng: Random, kind: str) -> Question | None:
    if found := _NEARER[kind](scene, rng):
        polarity = rng.choice(POLARITIES)
        words = rng.choice(POLARITY_WORDS[polarity])
        question = f"Which is {words} {found.reference}, the {found.names[0]} or the {found.names[1]}?"
        meta = {"polarity": polarity, "objects": found.objects}
        return Question(question, found.answer(polarity), kind, meta=meta)
    return None


_NEARER = {"depth": nearer_to_camera, "distance": nearer_to_object}
_FREE = {
    "exist": _free_exist,
    "attribute": _free_attribute,
    "count": _free_count,
    "relation": _free_relation,
    "depth": partial(_free_nearer, kind="depth"),
    "distance": partial(_free_nearer, kind="distance"),
}


def caption(scene: Scene, rng: Random) -> Question:
    """Every object with all its attributes, from left to right as the camera sees them."""
    right = scene["directions"]["right"]
    ordered = sorted(
        scene["objects"], key=lambda thing: sum(p * d for p, d in zip(thing["3d_coords"], right, strict=True))
    )
    text = " , ".join(describe({name: thing[name] for name in ATTRIBUTES}) for thing in ordered)
    return Question("describe the image", text, "caption")


# ---- multiple choice


def choose_answer_form(rng: Random, answer_form: str) -> str:
    """`natural` or `letter`; one of the two at random for `mixed`.

    Raises:
        UserError: none of `ANSWER_FORMS`.
    """
    if answer_form not in ANSWER_FORMS:
        raise UserError(f"--answer_form must be one of {', '.join(ANSWER_FORMS)}, not {answer_form!r}")
    return rng.choice(("natural", "letter")) if answer_form == "mixed" else answer_form


def sat_prompt(question: str, choices: Sequence[str], answer_form: str) -> str:
    """The whole prompt of SAT's form: the paper's for `natural`; for `letter`, CV-Bench's list of options."""
    ask = f"{question} Choose between the following options:"
    if answer_form == "natural":
        return f"Answer in natural language. {ask} {', '.join(choices[:-1])} or {choices[-1]}"
    if answer_form == "letter":
        return f"Answer with the letter. {ask}\n{_lettered(choices)}"
    raise ValueError(f"answer_form must be natural or letter, not {answer_form!r}")


def _lettered(choices: Sequence[str]) -> str:
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def cvbench_prompt(question: str, choices: Sequence[str]) -> str:
    """CV-Bench's own `prompt` column: the question and its lettered choices, one per line."""
    return f"{question} Select from the following choices.\n{_lettered(choices)}"


def flip_polarity_text(text: str) -> str:
    """A Depth or Distance question (or prompt) of CV-Bench, polarity-flipped in the paper's words.

    Raises:
        ValueError: the text does not ask which object is closer.
    """
    if "Which object is closer to" not in text:
        raise ValueError(f"no 'Which object is closer to' in {text!r}")
    return text.replace("Which object is closer to", "Which object is far away from")


def sat(
    scene: Scene, rng: Random, kind: str, answer_form: str = "natural", polarity: str = "closer"
) -> Question | None:
    """A multiple-choice question in SAT's form: 2 to 4 shuffled choices for counts, else 2.

    Args:
        kind: one of `SAT_KINDS`.
        answer_form: `natural` (the answer is the choice's text, as in the paper) or `letter` (`B`).
        polarity: of depth and distance: always `closer`, or `balanced` between closer and farther.
    """
    far = polarity == "balanced" and rng.random() < 0.5
    asked = _SAT[kind](scene, rng, POLARITIES[far])
    if asked is None:
        return None
    question, answer, choices, meta = asked
    rng.shuffle(choices)
    prompt = sat_prompt(question, choices, answer_form)
    if answer_form == "letter":
        answer = LETTERS[choices.index(answer)]
    return Question(question, answer, kind, tuple(choices), prompt, meta=meta)


Choice = tuple[str, str, list[str], dict[str, Any]]  # question, the correct choice's text, choices, meta


def _sat_count(scene: Scene, rng: Random, _: str) -> Choice | None:
    if found := balanced_count(scene, rng, rng.randint(2, 4)):
        conditions, count, window = found
        question = f"How many {describe(conditions, plural=True)} are visible in the scene?"
        return question, str(count), [str(number) for number in window], {"filter": conditions}
    return None


_SAT_SIDES = {"left": "left", "right": "right", "front": "in front", "behind": "behind"}


def _sat_relation(scene: Scene, rng: Random, _: str) -> Choice | None:
    axis = rng.choice(("lateral", "lateral", "sagittal", "image y"))
    if found := relation(scene, rng, axis):
        pair, names, side = found
        question = (
            f"Considering the relative positions, where is the {names[0]} with respect to the {names[1]}?"
        )
        words = [_SAT_SIDES.get(word, word) for word in AXES[axis]]
        return question, _SAT_SIDES.get(side, side), words, {"axis": axis, "objects": [*pair]}
    return None


def _sat_nearer(scene: Scene, rng: Random, polarity: str, kind: str) -> Choice | None:
    if found := _NEARER[kind](scene, rng):
        first, second = found.names
        question = f"Which object is {polarity} {found.reference}, the {first} or the {second}?"
        meta = {"polarity": polarity, "objects": found.objects}
        return question, found.answer(polarity), [first, second], meta
    return None


_SAT = {
    "count": _sat_count,
    "relation": _sat_relation,
    "depth": partial(_sat_nearer, kind="depth"),
    "distance": partial(_sat_nearer, kind="distance"),
}


def cvbench(scene: Scene, rng: Random, task: str, ood: bool = False) -> Question | None:
    """A question in CV-Bench's form; Depth and Distance come with boxes to draw.

    Args:
        task: one of `CVBENCH_TASKS`.
        ood: the polarity-flipped twin of a Depth or Distance question, its answer swapped.
    """
    asked = _CVBENCH[task](scene, rng)
    if asked is None:
        return None
    question, answer, choices, meta = asked
    boxes = tuple(meta.pop("boxes", ()))
    if ood and task in ("Depth", "Distance"):
        question = flip_polarity_text(question)
        answer = next(choice for choice in choices if choice != answer)
    letter = LETTERS[choices.index(answer)]
    return Question(
        question, f"({letter})", task, tuple(choices), cvbench_prompt(question, choices), boxes, meta
    )


def _cvbench_count(scene: Scene, rng: Random) -> Choice | None:
    if found := balanced_count(scene, rng, 4):
        conditions, count, window = found
        choices = [str(number) for number in window]
        rng.shuffle(choices)
        question = f"How many {describe(conditions, plural=True)} are in the image?"
        return question, str(count), choices, {"filter": conditions}
    return None


def _cvbench_relation(scene: Scene, rng: Random) -> Choice | None:
    axis = rng.choice(("image x", "image y"))
    if found := relation(scene, rng, axis):
        pair, (first, second), side = found
        choices = list(AXES[axis])
        rng.shuffle(choices)
        question = (
            f"Considering the relative positions of the {first} and the {second} in the image provided, "
            f"where is the {first} located with respect to the {second}?"
        )
        return question, side, choices, {"axis": axis, "objects": [*pair]}
    return None


def _cvbench_depth(scene: Scene, rng: Random) -> Choice | None:
    if found := nearer_to_camera(scene, rng):
        first, second = found.names
        question = (
            f"Which object is closer to the camera taking this photo, the {first} "
            f"(highlighted by a red box) or the {second} (highlighted by a blue box)?"
        )
        boxes = zip(("red", "blue"), found.objects, strict=True)
        return (
            question,
            found.answer("closer to"),
            [first, second],
            {"objects": found.objects, "boxes": boxes},
        )
    return None


def _cvbench_distance(scene: Scene, rng: Random) -> Choice | None:
    if found := nearer_to_object(scene, rng):
        first, second = found.names
        question = (
            "Estimate the real-world distances between objects in this image. Which object is closer to "
            f"{found.reference} (highlighted by a red box), the {first} (highlighted by a blue box) "
            f"or the {second} (highlighted by a green box)?"
        )
        boxes = zip(("red", "blue", "green"), found.objects, strict=True)
        return (
            question,
            found.answer("closer to"),
            [first, second],
            {"objects": found.objects, "boxes": boxes},
        )
    return None


_CVBENCH = {
    "Count": _cvbench_count,
    "Relation": _cvbench_relation,
    "Depth": _cvbench_depth,
    "Distance": _cvbench_distance,
}


# ---- captions


# VSR's relations that CLEVR's world has, by VSR's groups: sides (Projective, and Adjacency in its longer
# words) and nearness (Proximity). Nothing there touches, holds or faces another thing.
SIDE_WORDS = {
    "Projective": {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"},
    "Adjacency": {"left": "at the left side of", "right": "at the right side of"},
}
NEARNESS = {"near": ("close to", "near"), "far": ("far from", "far away from")}
VSR_KINDS = (*SIDE_WORDS, "Proximity")
NEAR, FAR = 1.9, 3.8  # scene units between centres; a fifth and half of all pairs are so, the rest unclear


def vsr_prompt(caption: str) -> str:
    """The whole prompt of a caption; the wording is ours, since paper A gives none for VSR."""
    return f"Is the following statement true or false? {caption} Answer yes or no."


def vsr(scene: Scene, rng: Random, kind: str) -> Question | None:
    """A caption that is as often true as false, given its words; the answer is yes or no.

    Args:
        kind: one of `VSR_KINDS`; `meta["relation"]` is VSR's own name of the relation.
    """
    found = _nearness(scene, rng) if kind == "Proximity" else _side(scene, rng, SIDE_WORDS[kind])
    if found is None:
        return None
    pair, names, words, is_true = found
    caption = f"The {names[0]} is {words} the {names[1]}."
    meta = {"relation": words, "vocabulary": ("yes", "no"), "objects": [*pair]}
    return Question(caption, "yes" if is_true else "no", kind, prompt=vsr_prompt(caption), meta=meta)


Claim = tuple[tuple[int, int], tuple[str, str], str, bool]  # the two objects, their names, relation, truth


def _side(scene: Scene, rng: Random, words: dict[str, str]) -> Claim | None:
    """The claimed side is sampled without regard to the true one, so the words tell nothing."""
    axis = rng.choice([axis for axis in ("lateral", "sagittal") if AXES[axis][0] in words])
    if found := relation(scene, rng, axis):
        pair, names, side = found
        claimed = rng.choice(AXES[axis])
        return pair, names, words[claimed], claimed == side
    return None


def _nearness(scene: Scene, rng: Random) -> Claim | None:
    """Only of scenes with both near and far pairs, so that neither is claimed more often of one.

    Sizes stay unsaid: small things can come closer to each other than large ones.
    """
    names = [refer(scene, index, rng, without=("size",)) for index in range(len(scene["objects"]))]
    pairs = [pair for pair in combinations(range(len(names)), 2) if None not in (names[i] for i in pair)]
    near = [pair for pair in pairs if distance(scene, *pair) <= NEAR]
    far = [pair for pair in pairs if distance(scene, *pair) >= FAR]
    if not near or not far:
        return None
    truth, claimed = rng.choice(("near", "far")), rng.choice(("near", "far"))
    pair = tuple(rng.sample(rng.choice(near if truth == "near" else far), 2))
    return pair, tuple(names[index] for index in pair), rng.choice(NEARNESS[claimed]), claimed == truth
