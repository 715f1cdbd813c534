"""What the language side is asked, as token rows: short free questions first, lettered choices and chains
last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from transformers import PaliGemmaProcessor

from spatialvlm.disk import whole
from spatialvlm.worlds.clevr import official_questions, questions
from spatialvlm.worlds.clevr.facts import VALUES, Scene
from spatialvlm.worlds.clevr.questions import CVBENCH_TASKS, FREE_KINDS, LETTERS, SAT_KINDS, Question

MENTIONS = 5
Mention = tuple[int, int, tuple[int, ...]]  # position of the noun, object, its name
Asker = Callable[[Scene, Random], Question | None]


def _free(kind: str) -> Asker:
    return lambda scene, rng: questions.free(scene, rng, kind)


def _sat(kind: str, form: str) -> Asker:
    return lambda scene, rng: questions.sat(scene, rng, kind, form)


def _sat_right_first(kind: str) -> Asker:
    """Lettered options in the order of SAT's own files, the right one first: the answer is always A."""

    def ask(scene: Scene, rng: Random) -> Question | None:
        if found := questions.sat(scene, rng, kind):
            others = [choice for choice in found.choices if choice != found.answer]
            choices = (found.answer, *others)
            prompt = questions.sat_prompt(found.question, choices, "letter")
            return replace(found, answer=LETTERS[0], choices=choices, prompt=prompt)
        return None

    return ask


def _cvbench(task: str) -> Asker:
    return lambda scene, rng: questions.cvbench(scene, rng, task)


def _clevr(scene: Scene, rng: Random) -> Question | None:
    return official_questions.clevr(scene, rng, rng.choice(official_questions.FAMILIES))


Plan = dict[str, tuple[Asker, float]]  # kind -> (how to ask, how often)

SHORT: Plan = {kind: (_free(kind), share) for kind, share in zip(FREE_KINDS, (2, 3, 4, 3, 3, 4), strict=True)}
FORMS: Plan = (
    {kind: (_free(kind), share) for kind, share in zip(FREE_KINDS, (1, 1, 1, 1, 0.5, 0.5), strict=True)}
    | {f"natural-{kind}": (_sat(kind, "natural"), 0.5) for kind in SAT_KINDS}
    | {f"letter-{kind}": (_sat(kind, "letter"), 1) for kind in SAT_KINDS}
    | {f"cvbench-{task}": (_cvbench(task), 1) for task in CVBENCH_TASKS}
    | {"clevr": (_clevr, 2)}
)
# The last stage's lettered options have the right one first, and the model comes to favour A: a weakness of
# models that were never trained to reason in letters (Zheng et al., ICLR 2024), left for GRPO to correct.
LAST: Plan = {kind: ask for kind, ask in FORMS.items() if not kind.startswith(("letter", "cvbench"))} | {
    f"first-{kind}": (_sat_right_first(kind), 1) for kind in SAT_KINDS
}


@dataclass(frozen=True)
class Quiz:
    """Token rows for scenes x questions; row = question, newline, answer, <eos>, padding.

    Args:
        tokens: (scenes, questions, length) int16.
        prefix: (scenes, questions) int16, tokens up to and with the newline.
        total: (scenes, questions) int16, tokens in all.
        kinds: (scenes, questions) int8, index into `names`.
        mentions: (scenes, questions, MENTIONS) int8, the token that ends each mention of a single object.
        objects: (scenes, questions, MENTIONS) int8, which object that is; -1 where there is no mention.
        chosen: (scenes, questions, MENTIONS) int8, 1 if it is the answer, 0 if not; -1 where no mention is.
    """

    tokens: torch.Tensor
    prefix: torch.Tensor
    total: torch.Tensor
    kinds: torch.Tensor
    mentions: torch.Tensor
    objects: torch.Tensor
    chosen: torch.Tensor
    names: tuple[str, ...]


def make(
    path: Path,
    scenes: list[Scene],
    processor: PaliGemmaProcessor,
    plan: Plan,
    each: int,
    length: int,
    seed: str,
    workers: int = 2,
) -> Quiz:
    """`each` questions per scene, kept in `path` (npz). Rows longer than `length` tokens are not asked.

    Questions are drawn by the plan's shares from Random(f"{seed}-{scene index}"), so any row can be made
    again alone.
    """
    if not path.exists():
        blocks = [scenes[start : start + 500] for start in range(0, len(scenes), 500)]
        global _asked
        # forked workers inherit it: plans hold functions
        _asked = (processor.tokenizer, plan, each, length, seed)
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_rows, blocks, [500 * k for k in range(len(blocks))]))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        with whole(path) as aside:
            np.savez(aside, **arrays)
    with np.load(path, allow_pickle=False) as stored:
        return Quiz(**{name: torch.from_numpy(stored[name]) for name in stored.files}, names=tuple(plan))


def mentions(
    asked: list[int], objects: Sequence[int], nouns: set[int], adjectives: set[int]
) -> list[Mention]:
    """Where a question names single objects.

    `objects` are in the order in which they are first named; a name that comes again is the same object.
    """
    found, named, following = [], {}, iter(objects)
    for at, token in enumerate(asked):
        if token in nouns:
            start = at
            while start and asked[start - 1] in adjectives:
                start -= 1
            name = tuple(asked[start : at + 1])
            if name not in named:
                named[name] = next(following, None)
            if named[name] is not None:
                found.append((at, named[name], name))
    return found[:MENTIONS]


_asked: tuple = ()


def _rows(scenes: list[Scene], first: int) -> dict[str, np.ndarray]:
    tokenizer, plan, each, length, seed = _asked
    names, askers, shares = list(plan), [a for a, _ in plan.values()], [s for _, s in plan.values()]
    newline = tokenizer.convert_tokens_to_ids("\n")
    nouns = {tokenizer.convert_tokens_to_ids(word) for word in (*VALUES["shape"], "thing")}
    adjectives = [value for name, values in VALUES.items() if name != "shape" for value in values]
    adjectives = {tokenizer.convert_tokens_to_ids(word) for word in adjectives}
    tokens = np.zeros((len(scenes), each, length), np.int16)
    prefix, total, kinds = (np.zeros((len(scenes), each), kind) for kind in (np.int16, np.int16, np.int8))
    named = np.zeros((len(scenes), each, MENTIONS), np.int8)
    objects, chosen = (np.full((len(scenes), each, MENTIONS), -1, np.int8) for _ in range(2))
    for i, scene in enumerate(scenes):
        rng, k = Random(f"{seed}-{first + i}"), 0
        while k < each:
            kind = rng.choices(range(len(names)), shares)[0]
            question = askers[kind](scene, rng)
            if question is None:
                continue
            asked = tokenizer.encode(question.prompt, add_special_tokens=False)
            answer = question.answer.strip("()")
            said = tokenizer.encode(answer, add_special_tokens=False)
            row = [*asked, newline, *said, tokenizer.eos_token_id]
            if len(row) > length:
                continue
            tokens[i, k, : len(row)] = row
            prefix[i, k], total[i, k], kinds[i, k] = len(asked) + 1, len(row), kind
            found = mentions(asked, question.meta.get("objects", ()), nouns, adjectives)
            if question.choices and answer in LETTERS:
                answer = question.choices[LETTERS.index(answer)]
            answer = tuple(tokenizer.encode(answer, add_special_tokens=False))
            choosing = any(name == answer for _, _, name in found)
            for slot, (at, index, name) in enumerate(found):
                named[i, k, slot], objects[i, k, slot] = at, index
                chosen[i, k, slot] = name == answer if choosing else -1
            k += 1
    arrays = {"tokens": tokens, "prefix": prefix, "total": total, "kinds": kinds}
    return arrays | {"mentions": named, "objects": objects, "chosen": chosen}
