"""A further world for the embedded model: images with dense targets, and questions with dense targets.

A world says how an item looks and its questions (`rooms_world`, `labels_world`); its shards on disk are
made and read here, and `worlds_training` learns from them. An item is a few frames of one thing to look at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from tqdm import tqdm
from transformers import PaliGemmaProcessor

from pretrain import build
from spatialvlm.disk import whole

SHARD = 250
TRIES = 1000  # for the questions of an item, before it is given up
MENTIONS = 6  # of things in a question that have targets
PATCHES = build.IMAGE_SIZE // build.PATCH_SIZE


@dataclass(frozen=True)
class Item:
    """What there is to see, and what is so.

    Args:
        images: (frames, size, size, 3) uint8.
        kinds: (frames, patches) int8: what lies on each patch, 0 for nothing.
        centres: (frames, patches) bool: whether the middle of a thing is there.
        values: (frames, patches, values) float: about the thing on it, of about unit variance.
        facts: what questions are made from.
        told: by name, a vector about each thing that a question can name; NaN where there is nothing to say.
    """

    images: np.ndarray
    kinds: np.ndarray
    centres: np.ndarray
    values: np.ndarray
    facts: object
    told: dict[str, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """A question: its kind, the prompt, the answer, and the names in the prompt with targets, in turn."""

    kind: str
    prompt: str
    answer: str
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Args:
    each: questions per item.
    length: of the longest row, in tokens.
    answer: tokens of the longest answer, its end among them.
    ask: (item, rng) -> a question, or None for another try.
    """

    each: int
    length: int
    answer: int
    ask: Callable[[Item, Random], Asked | None]


@dataclass(frozen=True)
class Sizes:
    """Training items, batches of 128 frames for the tower, and batches of 32 items for the language side."""

    items: int
    tower_steps: int
    language_steps: int


@dataclass(frozen=True)
class World:
    """Args:
    name: of the world, and of the adapter's folder.
    taught: what is learnt and what is not, in a few sentences, for the card.
    sizes: of its training.
    frames: of an item.
    kinds: how many there are, nothing among them.
    values: about a thing on a patch.
    told: about a thing that is named.
    make: (split, index) -> Item.
    plans: by name.
    turns: the plans of one batch after another, again and again.
    names: what each kind but nothing is called in questions.
    """

    name: str
    taught: str
    sizes: Sizes
    frames: int
    kinds: int
    values: int
    told: int
    make: Callable[[str, int], Item]
    plans: dict[str, Plan]
    turns: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def rows(self) -> int:
        return self.kinds + 1 + self.values


# ---- items on disk


def draw(
    folder: Path, world: World, processor: PaliGemmaProcessor, split: str, count: int, workers: int = 2
) -> None:
    """Writes `count` items with their questions in shards; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [at for at in range(0, count, SHARD) if not _file(folder, at, count).exists()]
    global _drawing
    _drawing = (world, processor.tokenizer)  # forked workers inherit it: worlds hold functions
    with ProcessPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_shard, _file(folder, at, count), split, at, min(SHARD, count - at)) for at in missing
        ]
        for job in tqdm(jobs, desc=f"drawing {world.name}, {split}", unit="shard"):
            job.result()


_drawing: tuple = ()


def _file(folder: Path, at: int, count: int) -> Path:
    return folder / f"{at:06d}-{min(SHARD, count - at)}.npz"


def _shard(file: Path, split: str, first: int, count: int) -> None:
    world, tokenizer = _drawing
    items = [world.make(split, first + number) for number in range(count)]
    arrays = {
        name: np.stack([getattr(item, name) for item in items]) for name in ("images", "kinds", "centres")
    }
    arrays["values"] = np.stack([item.values for item in items]).astype(np.float16)
    for name, plan in world.plans.items():
        made = [
            _rows(world.told, tokenizer, item, plan, f"{split}-{first + number}-{name}")
            for number, item in enumerate(items)
        ]
        arrays |= {f"{name}-{key}": np.stack([row[key] for row in made]) for key in made[0]}
    with whole(file) as aside:
        np.savez(aside, **arrays)


def _rows(told_values: int, tokenizer, item: Item, plan: Plan, seed: str) -> dict[str, np.ndarray]:
    """A plan's questions about an item as token rows; those that are too long are not asked."""
    each, length = plan.each, plan.length
    tokens = np.zeros((each, length), np.int16)
    prefix, total = np.zeros(each, np.int16), np.zeros(each, np.int16)
    kinds = np.zeros(each, "U24")
    at = np.zeros((each, MENTIONS), np.int16)
    told = np.full((each, MENTIONS, told_values), np.nan, np.float16)
    rng, number = Random(seed), 0
    for tries in itertools.count():
        if number == each:
            break
        if tries > TRIES:
            raise RuntimeError(f"{seed}: no question fits in {length} tokens, its answer in {plan.answer}")
        asked = plan.ask(item, rng)
        if asked is None:
            continue
        encoded = tokenizer(f"{asked.prompt}\n", add_special_tokens=False)
        said = tokenizer.encode(asked.answer, add_special_tokens=False)
        row = [*encoded["input_ids"], *said, tokenizer.eos_token_id]
        if len(row) > length or len(said) >= plan.answer:
            continue
        tokens[number, : len(row)] = row
        prefix[number], total[number] = len(encoded["input_ids"]), len(row)
        kinds[number], start = asked.kind, 0
        for slot, name in enumerate(asked.named[:MENTIONS]):
            start = asked.prompt.index(name, start) + len(name)
            at[number, slot], told[number, slot] = encoded.char_to_token(start - 1), item.told[name]
        number += 1
    return {"tokens": tokens, "prefix": prefix, "total": total, "kinds": kinds, "at": at, "told": told}


@dataclass(frozen=True)
class Questions:
    """Rows of a plan for all items, as `language.rows` has them; `told` (N, K, MENTIONS, values), NaN for
    nothing.
    """

    tokens: torch.Tensor
    prefix: torch.Tensor
    total: torch.Tensor
    kinds: np.ndarray
    at: torch.Tensor
    told: torch.Tensor


class Corpus:
    """All items of a folder, in memory."""

    def __init__(self, folder: Path, world: World, count: int) -> None:
        parts: dict[str, list[np.ndarray]] = {}
        for start in range(0, count, SHARD):
            with np.load(_file(folder, start, count), allow_pickle=False) as stored:
                for name in stored.files:
                    parts.setdefault(name, []).append(stored[name])
        arrays = {name: np.concatenate(listed) for name, listed in parts.items()}
        flat = {
            name: arrays[name].reshape(-1, *arrays[name].shape[2:]) for name in ("images", "kinds", "centres")
        }
        self.images, self.kinds, self.centres = (torch.from_numpy(part) for part in flat.values())
        self.values = torch.from_numpy(arrays["values"]).flatten(0, 1)
        self.questions = {
            plan: Questions(
                **{
                    key: arrays[f"{plan}-{key}"]
                    if key == "kinds"
                    else torch.from_numpy(arrays[f"{plan}-{key}"])
                    for key in Questions.__dataclass_fields__
                }
            )
            for plan in world.plans
        }
