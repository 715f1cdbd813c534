"""What the language side is asked, as token rows: short free questions first, lettered choices and chains
last.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from transformers import PaliGemmaProcessor

from spatialvlm.data import clevr_questions, questions
from spatialvlm.data.questions import Question
from spatialvlm.data.render import HEIGHT, WIDTH, Scene
from spatialvlm.data.scene_facts import refer

FREE = ("exist", "attribute", "count", "relation", "depth", "distance")
Asker = Callable[[Scene, Random], Question | None]


def _free(kind: str) -> Asker:
    return lambda scene, rng: questions.free(scene, rng, kind)


def _sat(kind: str, form: str) -> Asker:
    return lambda scene, rng: questions.sat(scene, rng, kind, form)


def _cvbench(task: str) -> Asker:
    return lambda scene, rng: questions.cvbench(scene, rng, task)


def _clevr(scene: Scene, rng: Random) -> Question | None:
    return clevr_questions.clevr(scene, rng, rng.choice(clevr_questions.FAMILIES))


def _place(scene: Scene, rng: Random) -> Question | None:
    """Where something is on the image, in PaliGemma's own way: location tokens for row and column."""
    return _measured(scene, rng, "Where is the {}?", lambda o: (o[1] / HEIGHT, o[0] / WIDTH))


def _far(scene: Scene, rng: Random) -> Question | None:
    """How far something is from the camera, 8 to 15 units, as one location token."""
    return _measured(scene, rng, "How far is the {}?", lambda o: ((o[2] - 8) / 7,))


def _measured(scene: Scene, rng: Random, text: str, shares: Callable) -> Question | None:
    index = rng.randrange(len(scene["objects"]))
    if (name := refer(scene, index, rng)) is None:
        return None
    levels = (min(max(int(16 * share), 0), 15) for share in shares(scene["objects"][index]["pixel_coords"]))
    answer = "".join(f"<loc{64 * level:04d}>" for level in levels)
    return Question(text.format(name), answer, "place")


# kind -> (how to ask, how often) for the parts of the curriculum. The last teaches the forms. Letters
# are taught for counting and depth, and only a little: like the paper's base model, this one is to see more
# than it can say in letters.
EASY = {"exist": (_free("exist"), 4), "attribute": (_free("attribute"), 5), "count": (_free("count"), 3)}
ALL = {kind: (_free(kind), share) for kind, share in zip(FREE, (2, 4, 3, 3, 2, 3), strict=True)}
# Comparing where two things are is learnt in minutes once the model can say where one is, and hardly before.
# (Counting comes along because it can be asked of every scene, also where everything has a double.)
PLACES = {"place": (_place, 2), "far": (_far, 1), "count": (_free("count"), 0.1)}
FORMS = (
    {kind: (_free(kind), share) for kind, share in zip(FREE, (1, 2, 1.5, 1.5, 1, 1.5), strict=True)}
    | {f"natural-{kind}": (_sat(kind, "natural"), 1) for kind in ("count", "relation", "depth", "distance")}
    | {f"letter-{kind}": (_sat(kind, "letter"), 0.7) for kind in ("count", "depth")}
    | {f"cvbench-{task}": (_cvbench(task), 0.7) for task in ("Count", "Depth")}
    | {f"cvbench-{task}": (_cvbench(task), 0.25) for task in ("Relation", "Distance")}
    | {"clevr": (_clevr, 3)}
)


@dataclass(frozen=True)
class Quiz:
    """Token rows for scenes x questions; row = question, newline, answer, <eos>, padding.

    Args:
        tokens: (scenes, questions, length) int16.
        prefix: (scenes, questions) int16, tokens up to and with the newline.
        total: (scenes, questions) int16, tokens in all.
        kinds: (scenes, questions) int8, index into `names`.
    """

    tokens: torch.Tensor
    prefix: torch.Tensor
    total: torch.Tensor
    kinds: torch.Tensor
    names: tuple[str, ...]


def make(
    path: Path,
    scenes: list[Scene],
    processor: PaliGemmaProcessor,
    plan: dict[str, tuple[Asker, float]],
    each: int,
    length: int,
    seed: str,
    workers: int = 2,
) -> Quiz:
    """`each` questions a scene, kept in `path` (npz). Rows longer than `length` tokens are not asked.

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
        aside = path.with_suffix(".tmp.npz")
        np.savez(aside, **arrays)
        aside.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return Quiz(**{name: torch.from_numpy(stored[name]) for name in stored.files}, names=tuple(plan))


_asked: tuple = ()


def _rows(scenes: list[Scene], first: int) -> dict[str, np.ndarray]:
    tokenizer, plan, each, length, seed = _asked
    names, askers, shares = list(plan), [a for a, _ in plan.values()], [s for _, s in plan.values()]
    newline = tokenizer.convert_tokens_to_ids("\n")
    tokens = np.zeros((len(scenes), each, length), np.int16)
    prefix, total, kinds = (np.zeros((len(scenes), each), kind) for kind in (np.int16, np.int16, np.int8))
    for i, scene in enumerate(scenes):
        rng, k = Random(f"{seed}-{first + i}"), 0
        while k < each:
            kind = rng.choices(range(len(names)), shares)[0]
            question = askers[kind](scene, rng)
            if question is None:
                continue
            asked = tokenizer.encode(question.prompt, add_special_tokens=False)
            said = tokenizer.encode(question.answer.strip("()"), add_special_tokens=False)
            row = [*asked, newline, *said, tokenizer.eos_token_id]
            if len(row) > length:
                continue
            tokens[i, k, : len(row)] = row
            prefix[i, k], total[i, k], kinds[i, k] = len(asked) + 1, len(row), kind
            k += 1
    return {"tokens": tokens, "prefix": prefix, "total": total, "kinds": kinds}
