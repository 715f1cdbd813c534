"""Questions about a scene in CLEVR's form: free form, captions, SAT's form and CV-Bench's form.

Every function is pure: a scene and a `random.Random` give one `Question`, or None where the scene holds none
of that kind, or where asking would let the text give the answer away: then the caller goes on to its next
scene. The rules against ambiguity are in `scene_facts`, the official CLEVR families in `clevr_questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from spatialvlm.worlds.clevr.facts import (
    ATTRIBUTES,
    AXES,
    SUBSETS,
    VALUES,
    Scene,
    balanced_count,
    counts,
    describe,
    matches,
    nearer_to_anchor,
    nearer_to_camera,
    refer,
    relation,
)

FREE_KINDS = ("exist", "attribute", "count", "relation", "depth", "distance")
SAT_KINDS = ("count", "relation", "depth", "distance")
CVBENCH_TASKS = ("Count", "Relation", "Depth", "Distance")
LETTERS = "ABCDEFGH"


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
        meta: anything else worth recording (objects asked about, axis, count).
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
        if absent:  # asked only where both answers were possible, so that the kind of filter tells nothing
            answer = rng.choice(("yes", "no"))
            phrase = describe(present if answer == "yes" else rng.choice(absent))
            return Question(f"Is there {_article(phrase)} {phrase}?", answer, "exist")
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
    phrase = describe(rng.choice(by_count[count]), plural=True)
    return Question(f"How many {phrase} are there?", str(count), "count")


_FREE_RELATION = {
    "lateral": "Is the {} left or right of the {}?",
    "sagittal": "Is the {} in front of or behind the {}?",
    "image y": "Is the {} above or below the {} in the image?",
}


def _free_relation(scene: Scene, rng: Random) -> Question | None:
    axis = rng.choice(("lateral", "lateral", "sagittal", "sagittal", "image y"))
    if found := relation(scene, rng, axis):
        pair, names, side = found
        return Question(
            _FREE_RELATION[axis].format(*names), side, "relation", meta={"axis": axis, "objects": [*pair]}
        )
    return None


def _free_depth(scene: Scene, rng: Random) -> Question | None:
    if found := nearer_to_camera(scene, rng):
        pair, names, closer = found
        polarity = rng.choice(("closer to", "farther from"))
        question = f"Which is {polarity} the camera, the {names[0]} or the {names[1]}?"
        answer = names[closer if polarity == "closer to" else 1 - closer]
        return Question(question, answer, "depth", meta={"polarity": polarity, "objects": [*pair]})
    return None


def _free_distance(scene: Scene, rng: Random) -> Question | None:
    if found := nearer_to_anchor(scene, rng):
        anchor, anchor_name, pair, names, closer = found
        polarity = rng.choice(("closer to", "farther from"))
        question = f"Which is {polarity} the {anchor_name}, the {names[0]} or the {names[1]}?"
        answer = names[closer if polarity == "closer to" else 1 - closer]
        return Question(question, answer, "distance", meta={"polarity": polarity, "objects": [anchor, *pair]})
    return None


_FREE = {
    "exist": _free_exist,
    "attribute": _free_attribute,
    "count": _free_count,
    "relation": _free_relation,
    "depth": _free_depth,
    "distance": _free_distance,
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
    """CV-Bench's own `prompt` column: the question and its lettered choices, one a line."""
    return f"{question} Select from the following choices.\n{_lettered(choices)}"


def flip_polarity_text(text: str) -> str:
    """A Depth or Distance question (or prompt) of CV-Bench with its polarity turned, in the paper's words.

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
        answer_form: `natural` (the answer is the choice's text, as in the paper) or `letter` (its letter,
            `B`).
        polarity: of depth and distance: always `closer`, or `balanced` between closer and farther.
    """
    far = polarity == "balanced" and rng.random() < 0.5
    asked = _SAT[kind](scene, rng, "farther from" if far else "closer to")
    if asked is None:
        return None
    question, answer, choices, meta = asked
    rng.shuffle(choices)
    prompt = sat_prompt(question, choices, answer_form)
    if answer_form == "letter":
        answer = LETTERS[choices.index(answer)]
    return Question(question, answer, kind, tuple(choices), prompt, meta=meta)


Asked = tuple[str, str, list[str], dict[str, Any]]  # question, the right choice's text, choices, meta


def _sat_count(scene: Scene, rng: Random, _: str) -> Asked | None:
    if found := balanced_count(scene, rng, rng.randint(2, 4)):
        conditions, count, window = found
        question = f"How many {describe(conditions, plural=True)} are visible in the scene?"
        return question, str(count), [str(number) for number in window], {"filter": conditions}
    return None


_SAT_SIDES = {"left": "left", "right": "right", "front": "in front", "behind": "behind"}


def _sat_relation(scene: Scene, rng: Random, _: str) -> Asked | None:
    axis = rng.choice(("lateral", "lateral", "sagittal", "image y"))
    if found := relation(scene, rng, axis):
        pair, names, side = found
        question = (
            f"Considering the relative positions, where is the {names[0]} with respect to the {names[1]}?"
        )
        words = [_SAT_SIDES.get(word, word) for word in AXES[axis]]
        return question, _SAT_SIDES.get(side, side), words, {"axis": axis, "objects": [*pair]}
    return None


def _sat_depth(scene: Scene, rng: Random, polarity: str) -> Asked | None:
    if found := nearer_to_camera(scene, rng):
        pair, names, closer = found
        question = f"Which object is {polarity} the camera, the {names[0]} or the {names[1]}?"
        answer = names[closer if polarity == "closer to" else 1 - closer]
        return question, answer, [*names], {"polarity": polarity, "objects": [*pair]}
    return None


def _sat_distance(scene: Scene, rng: Random, polarity: str) -> Asked | None:
    if found := nearer_to_anchor(scene, rng):
        anchor, anchor_name, pair, names, closer = found
        question = f"Which object is {polarity} the {anchor_name}, the {names[0]} or the {names[1]}?"
        answer = names[closer if polarity == "closer to" else 1 - closer]
        return question, answer, [*names], {"polarity": polarity, "objects": [anchor, *pair]}
    return None


_SAT = {"count": _sat_count, "relation": _sat_relation, "depth": _sat_depth, "distance": _sat_distance}


def cvbench(scene: Scene, rng: Random, task: str, ood: bool = False) -> Question | None:
    """A question in CV-Bench's form; Depth and Distance come with boxes to draw.

    Args:
        task: one of `CVBENCH_TASKS`.
        ood: the twin of a Depth or Distance question: the same draw, polarity turned and answer swapped.
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


def _cvbench_count(scene: Scene, rng: Random) -> Asked | None:
    if found := balanced_count(scene, rng, 4):
        conditions, count, window = found
        choices = [str(number) for number in window]
        rng.shuffle(choices)
        question = f"How many {describe(conditions, plural=True)} are in the image?"
        return question, str(count), choices, {"filter": conditions}
    return None


def _cvbench_relation(scene: Scene, rng: Random) -> Asked | None:
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


def _cvbench_depth(scene: Scene, rng: Random) -> Asked | None:
    if found := nearer_to_camera(scene, rng):
        pair, names, closer = found
        question = (
            f"Which object is closer to the camera taking this photo, the {names[0]} "
            f"(highlighted by a red box) or the {names[1]} (highlighted by a blue box)?"
        )
        boxes = zip(("red", "blue"), pair, strict=True)
        return question, names[closer], [*names], {"objects": [*pair], "boxes": boxes}
    return None


def _cvbench_distance(scene: Scene, rng: Random) -> Asked | None:
    if found := nearer_to_anchor(scene, rng):
        anchor, anchor_name, pair, names, closer = found
        question = (
            "Estimate the real-world distances between objects in this image. Which object is closer to the "
            f"{anchor_name} (highlighted by a red box), the {names[0]} (highlighted by a blue box) "
            f"or the {names[1]} (highlighted by a green box)?"
        )
        boxes = zip(("red", "blue", "green"), (anchor, *pair), strict=True)
        return question, names[closer], [*names], {"objects": [anchor, *pair], "boxes": boxes}
    return None


_CVBENCH = {
    "Count": _cvbench_count,
    "Relation": _cvbench_relation,
    "Depth": _cvbench_depth,
    "Distance": _cvbench_distance,
}
