"""True and false captions about a scene, in the form of VSR (Liu et al., TACL 2023): a small stand-in for it.

Three of VSR's seven groups of relations can be told in CLEVR's world: sides (Projective, and Adjacency in its
longer words) and nearness (Proximity). Nothing there touches, holds or faces another thing.
"""

from __future__ import annotations

from itertools import combinations
from random import Random

from spatialvlm.worlds.clevr.facts import AXES, Scene, distance, refer, relation
from spatialvlm.worlds.clevr.questions import Question

SIDES = {
    "Projective": {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"},
    "Adjacency": {"left": "at the left side of", "right": "at the right side of"},
}
NEARNESS = {"near": ("close to", "near"), "far": ("far from", "far away from")}
VSR_KINDS = (*SIDES, "Proximity")
NEAR, FAR = 1.9, 3.8  # scene units between centres; a fifth and half of all pairs are so, the rest unclear


def vsr_prompt(caption: str) -> str:
    """The whole prompt of a caption. Paper A gives no wording for VSR; this one is ours, and asks for a word
    that every rule reads."""
    return f"Is the following statement true or false? {caption} Answer yes or no."


def vsr(scene: Scene, rng: Random, kind: str) -> Question | None:
    """A caption that is as often true as false, given its words; the answer is yes or no.

    Args:
        kind: one of `VSR_KINDS`; `meta["relation"]` is VSR's own name of the relation.
    """
    found = _nearness(scene, rng) if kind == "Proximity" else _side(scene, rng, SIDES[kind])
    if found is None:
        return None
    pair, names, words, is_true = found
    caption = f"The {names[0]} is {words} the {names[1]}."
    return Question(
        caption,
        "yes" if is_true else "no",
        kind,
        prompt=vsr_prompt(caption),
        meta={"relation": words, "vocabulary": ("yes", "no"), "objects": [*pair]},
    )


Claim = tuple[tuple[int, int], tuple[str, str], str, bool]  # the two objects, their names, relation, truth


def _side(scene: Scene, rng: Random, words: dict[str, str]) -> Claim | None:
    """The side is said without regard to the true one, so the words tell nothing."""
    axis = rng.choice([axis for axis in ("lateral", "sagittal") if AXES[axis][0] in words])
    if found := relation(scene, rng, axis):
        pair, names, side = found
        said = rng.choice(AXES[axis])
        return pair, names, words[said], said == side
    return None


def _nearness(scene: Scene, rng: Random) -> Claim | None:
    """Asked only where the scene holds near and far pairs, so that neither is said more often of one.

    Sizes stay unsaid: small things can come closer to each other than large ones.
    """
    names = [refer(scene, index, rng, without=("size",)) for index in range(len(scene["objects"]))]
    pairs = [pair for pair in combinations(range(len(names)), 2) if None not in (names[i] for i in pair)]
    near = [pair for pair in pairs if distance(scene, *pair) <= NEAR]
    far = [pair for pair in pairs if distance(scene, *pair) >= FAR]
    if not near or not far:
        return None
    truth, said = rng.choice(("near", "far")), rng.choice(("near", "far"))
    chosen = rng.choice(near if truth == "near" else far)
    pair = tuple(rng.sample(chosen, 2))
    return pair, tuple(names[index] for index in pair), rng.choice(NEARNESS[said]), said == truth
