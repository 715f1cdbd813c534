"""A further world for the embedded model: pictures with dense targets, and questions with dense targets.

A world says how an item looks and what is asked of it; everything else, from shards on disk to the trained
adapter, is here and is the same for all (`rooms_world`, `labels_world`). An item is a few frames of one
thing to look at. As in the first pretraining the tower learns first what lies on each patch, then the
language side learns to answer from frozen features, and tells of each thing that a question names where it
is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import PaliGemmaProcessor

from spatialvlm.pretrain import build, language, loop
from spatialvlm.pretrain.vision import augment, can_compile, normalize

SHARD = 250
MENTIONS = 6  # of things in a question that are told of
PATCHES = build.IMAGE_SIZE // build.PATCH_SIZE
DENSE = 0.3  # the weight of dense answers beside spoken ones


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
    """A question: its kind, the prompt, the answer, and the names in the prompt that are told of, in turn."""

    kind: str
    prompt: str
    answer: str
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """
    Args:
        each: questions an item.
        length: of the longest row, in tokens.
        answer: tokens of the longest answer, its end among them.
        ask: (item, rng) -> a question, or None for another try.
    """

    each: int
    length: int
    answer: int
    ask: Callable[[Item, Random], Asked | None]


@dataclass(frozen=True)
class World:
    """
    Args:
        name: of the world, and of the adapter's folder.
        taught: what is learnt and what is not, in a few sentences, for the card.
        frames: of an item.
        kinds: how many there are, nothing among them.
        values: about a thing on a patch.
        told: about a thing that is named.
        make: (split, index) -> Item.
        plans: by name.
        turns: the plans of one batch after another, again and again.
    """

    name: str
    taught: str
    frames: int
    kinds: int
    values: int
    told: int
    make: Callable[[str, int], Item]
    plans: dict[str, Plan]
    turns: tuple[str, ...]

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
    aside = file.with_suffix(".tmp.npz")
    np.savez(aside, **arrays)
    os.replace(aside, file)


def _rows(told_values: int, tokenizer, item: Item, plan: Plan, seed: str) -> dict[str, np.ndarray]:
    """A plan's questions about an item as token rows; those that are too long are not asked."""
    each, length = plan.each, plan.length
    tokens = np.zeros((each, length), np.int16)
    prefix, total = np.zeros(each, np.int16), np.zeros(each, np.int16)
    kinds = np.zeros(each, "U24")
    at = np.zeros((each, MENTIONS), np.int16)
    told = np.full((each, MENTIONS, told_values), np.nan, np.float16)
    rng, number = Random(seed), 0
    while number < each:
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
    nothing."""

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


# ---- the tower


class Seer(nn.Module):
    """The vision tower with a world's dense heads on it."""

    def __init__(self, tower: nn.Module, world: World) -> None:
        super().__init__()
        self.tower, self.heads = tower, nn.Linear(tower.config.hidden_size, world.rows)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.heads(self.tower(pixels).last_hidden_state)


def dense_loss(
    said: torch.Tensor, kinds: torch.Tensor, centres: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """What lies on each patch, whether a middle is there, and values where something lies."""
    said, kinds = said.flatten(0, 1).float(), kinds.flatten().long()
    names = said.shape[1] - 1 - values.shape[-1]
    on = kinds > 0
    total = F.cross_entropy(said[:, :names], kinds) + F.cross_entropy(said[on, :names], kinds[on])
    total = total + F.binary_cross_entropy_with_logits(said[:, names], centres.flatten().float())
    return total + F.smooth_l1_loss(said[on, names + 1 :], values.flatten(0, 1)[on].float())


def train_tower(
    seer: Seer,
    data: tuple[Corpus, Corpus],
    folder: Path,
    steps: int,
    seed: int,
    learning_rate: float,
    compiled: bool = True,
    batch_size: int = 128,
) -> None:
    """`steps` batches of frames; resumes from `folder/tower.pt`."""
    train, validation = data
    batch = loop.batches(len(train.images), batch_size, f"tower-{seed}")
    device = next(seer.parameters()).device
    run = torch.compile(seer, dynamic=False) if compiled and can_compile(device) else seer

    def said(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return run(pixels)

    def prepare(step: int) -> tuple[torch.Tensor, ...]:
        index = batch(step)
        generator = torch.Generator().manual_seed(loop.hash_seed(f"augment-{seed}-{step}"))
        pixels = augment(normalize(train.images[index], device), generator)
        return pixels, *(part[index].to(device) for part in (train.kinds, train.centres, train.values))

    prepared = loop.ahead(prepare)

    def loss(step: int) -> torch.Tensor:
        pixels, *gold = prepared(step)
        return dense_loss(said(pixels), *gold)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        found = []
        for start in range(0, len(validation.images) // batch_size * batch_size, batch_size):
            part = slice(start, start + batch_size)
            answer = said(normalize(validation.images[part], device)).float()
            kinds, on = validation.kinds[part], validation.kinds[part] > 0
            names = answer.shape[-1] - 1 - validation.values.shape[-1]
            right = answer[..., :names].argmax(-1) == kinds
            wrong = (answer[..., names + 1 :] - validation.values[part].float())[on].abs().mean(0)
            found.append(
                {"kind": right[on].float().mean().item(), "nothing": right[~on].float().mean().item()}
                | {f"error{n}": each.item() for n, each in enumerate(wrong)}
            )
        return loop.mean(found)

    loop.fit("tower", folder, seer, loss, steps, learning_rate, evaluate, evaluations=6)


@torch.no_grad()
def features(tower: nn.Module, corpus: Corpus, frames: int, batch_size: int = 256) -> torch.Tensor:
    """(items, frames * patches, width) bfloat16."""
    found = []
    for start in range(0, len(corpus.images), batch_size):
        with torch.autocast("cpu", torch.bfloat16):
            seen = tower(normalize(corpus.images[start : start + batch_size], torch.device("cpu")))
        found.append(seen.last_hidden_state.to(torch.bfloat16))
    seen = torch.cat(found)
    return seen.view(-1, frames * seen.shape[1], seen.shape[2])


# ---- the language side


def _row(questions: Questions, index: torch.Tensor, answer: int) -> tuple[torch.Tensor, ...]:
    tokens, prefix, total, at = (
        part[index].long() for part in (questions.tokens, questions.prefix, questions.total, questions.at)
    )
    return tokens, prefix, at, language.labels(tokens, prefix, total, answer)


def told_loss(said: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Of the named things: smooth L1 where there is something to say."""
    known = ~told.isnan()
    return F.smooth_l1_loss(said[known], told[known].float()) if known.any() else said.sum() * 0


@torch.no_grad()
def accuracy(
    streams: language.TwoStreams,
    seen: torch.Tensor,
    questions: Questions,
    answer: int,
    shuffled: bool,
    batch_size: int = 32,
) -> dict[str, float]:
    """Exact match by kind; with `shuffled`, on another item's frames."""
    right = []
    for start in range(0, len(seen) // batch_size * batch_size, batch_size):
        index = torch.arange(start, start + batch_size)
        *asked, gold = _row(questions, index, answer)
        look = (index + len(seen) // 2) % len(seen) if shuffled else index
        logits, _, _ = streams(seen[look], *asked, answer)
        right.append(((logits.argmax(-1) == gold) | (gold == -100)).all(-1))
    right = torch.cat(right).numpy()
    kinds = questions.kinds[: len(right)]
    return {
        f"{kind}{'-shuffled' * shuffled}": float(right[kinds == kind].mean()) for kind in np.unique(kinds)
    }


def train_language(
    streams: language.TwoStreams,
    data: tuple[Corpus, Corpus],
    seen: tuple[torch.Tensor, torch.Tensor],
    world: World,
    folder: Path,
    steps: int,
    seed: int,
    learning_rate: float,
    batch_size: int = 32,
) -> None:
    """`world.turns` in turn, for so many batches of items; resumes from `folder/language.pt`."""
    train, validation = data
    batch = loop.batches(len(seen[0]), batch_size, f"language-{seed}")

    def loss(step: int) -> torch.Tensor:
        plan = world.turns[step % len(world.turns)]
        index, questions, answer = batch(step), train.questions[plan], world.plans[plan].answer
        *asked, gold = _row(questions, index, answer)
        logits, looks, _ = streams(seen[0][index], *asked, answer)
        spoken = F.cross_entropy(logits.flatten(0, 2), gold.flatten())
        return spoken + DENSE * told_loss(looks, questions.told[index])

    def evaluate() -> dict[str, float]:
        found = {}
        for name, plan in world.plans.items():
            for shuffled in (False, True):
                found |= accuracy(streams, seen[1], validation.questions[name], plan.answer, shuffled)
        return found

    loop.fit("language", folder, streams, loss, steps, learning_rate, evaluate, evaluations=6)
