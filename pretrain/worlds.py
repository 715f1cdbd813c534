"""What the model is pretrained on: images of rendered worlds with dense targets, and questions about them.

A world (`scenes_world`, `nodes_world`) says how an item is made, drawn and asked about. Items and questions
are kept on disk in shards, so that a stopped run makes none twice.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PaliGemmaProcessor

from pretrain.build import LABELS
from pretrain.targets import GROUPS, MOST, VALUES
from spatialvlm.disk import whole
from spatialvlm.worlds.clevr.facts import VALUES as ATTRIBUTES

SHARD = 500
MENTIONS = 6
TOLD = ("distance", "sine", "cosine", "number")  # what may be told of a mention, beside what is named there
TRIES = 400  # for the questions of an item, before it is left out
Facts = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """An item as the model sees it, with what is there.

    Args:
        image: (size, size, 3) uint8.
        owners: (patches,) int8, the thing that covers most of a patch; -1 for none.
        floor: (patches,) float, from -1 to 1: how much of a patch is floor; NaN where there are no floors.
        classes: (things, groups) int8, the index within each of `targets.GROUPS`; -1 without.
        values: (things, VALUES) float; NaN where there is nothing to say.
    """

    image: np.ndarray
    owners: np.ndarray
    floor: np.ndarray
    classes: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Asked:
    """A question.

    Args:
        prompt, answer: the texts.
        things: the things that it names, in the order in which they are first named; None: not one thing.
        told: by number of the mention, values by name of `TOLD`.
    """

    prompt: str
    answer: str
    things: tuple[int | None, ...] = ()
    told: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


Asker = Callable[[Facts, Random], Asked | None]


@dataclass(frozen=True)
class Plan:
    """Args:
    each: questions per item.
    length: of the longest row, in tokens; longer ones are not asked.
    answer: tokens of the longest answer, its end among them.
    askers: by kind, how to ask and how often.
    only: which items it asks about; all by default.
    """

    each: int
    length: int
    answer: int
    askers: Mapping[str, tuple[Asker, float]]
    only: Callable[[Facts], bool] = lambda facts: True

    def __reduce__(self):
        """Pickled by name, since it holds functions; one that stands in no world cannot be."""
        return _named, self.place


@dataclass(frozen=True)
class World:
    """Args:
    name: of its folder.
    make: (split, index) -> facts, which JSON can hold.
    draw: facts -> the item.
    plans: by name.
    """

    name: str
    make: Callable[[str, int], Facts]
    draw: Callable[[Facts], Drawn]
    plans: Mapping[str, Plan]

    def __post_init__(self) -> None:
        for name, plan in self.plans.items():
            object.__setattr__(plan, "place", (self.name, name))

    def __reduce__(self):
        """Pickled by name, since it holds functions."""
        return _named, (self.name,)


def _named(world: str, plan: str = "") -> World | Plan:
    """A world, or a plan of it, in a process that has neither."""
    found = importlib.import_module(f"pretrain.{world}_world").WORLD
    return found.plans[plan] if plan else found


# ---- on disk


def _shards(folder: Path, count: int) -> dict[Path, slice]:
    """The items of each shard, by its file; the last may be short."""
    parts = [slice(at, min(at + SHARD, count)) for at in range(0, count, SHARD)]
    return {folder / f"{part.start:06d}-{part.stop - part.start}.npz": part for part in parts}


def _each_shard(what: str, files: Mapping[Path, tuple], job: Callable) -> None:
    """Writes the files that are missing, by `job(*arguments)`; several in processes of their own."""
    missing = {file: given for file, given in files.items() if not file.exists()}
    for file in missing:
        file.parent.mkdir(parents=True, exist_ok=True)
    if len(missing) == 1:
        _save(*missing.popitem(), job)
    elif missing:
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(_save, file, given, job) for file, given in missing.items()]
            for each in tqdm(jobs, desc=what, unit="shard"):
                each.result()


def _save(file: Path, given: tuple, job: Callable[..., dict[str, np.ndarray]]) -> None:
    arrays = job(*given)
    with whole(file) as aside:
        np.savez(aside, **arrays)


def draw(folder: Path, world: World, split: str, count: int) -> None:
    """Draws `count` items of a split into `folder`; shards that are there stay."""
    files = {file: (world, split, part) for file, part in _shards(folder, count).items()}
    _each_shard(f"drawing {world.name}, {split}", files, _drawn)


def _drawn(world: World, split: str, part: slice) -> dict[str, np.ndarray]:
    facts = [world.make(split, number) for number in range(part.start, part.stop)]
    items = [world.draw(each) for each in facts]
    arrays = {name: np.stack([getattr(item, name) for item in items]) for name in ("image", "owners")}
    arrays["floor"] = np.stack([item.floor for item in items]).astype(np.float16)
    arrays["classes"] = np.full((len(items), MOST, len(GROUPS)), -1, np.int8)
    arrays["values"] = np.full((len(items), MOST, len(VALUES)), np.nan, np.float16)
    for number, item in enumerate(items):
        arrays["classes"][number, : len(item.classes)] = item.classes
        arrays["values"][number, : len(item.values)] = item.values
    return arrays | {"facts": np.array("\n".join(map(json.dumps, facts)))}


class Corpus:
    """All items of a folder, in memory: image, owners, floor, classes and values as in `Drawn`, stacked, and
    facts.
    """

    def __init__(self, folder: Path, count: int) -> None:
        parts: dict[str, list[np.ndarray]] = {}
        self.facts: list[Facts] = []
        for file in _shards(folder, count):
            with np.load(file, allow_pickle=False) as stored:
                self.facts += map(json.loads, str(stored["facts"]).split("\n"))
                for name in ("image", "owners", "floor", "classes", "values"):
                    parts.setdefault(name, []).append(stored[name])
        arrays = {name: torch.from_numpy(np.concatenate(listed)) for name, listed in parts.items()}
        self.image, self.owners, self.floor, self.classes, self.values = arrays.values()

    def __len__(self) -> int:
        return len(self.facts)


# ---- questions


@dataclass(frozen=True)
class Quiz:
    """Token rows for items x questions; row = prompt, newline, answer, <eos>, padding.

    Args:
        items: (items,) int64, their numbers in the corpus.
        tokens: (items, questions, length) int16.
        prefix: (items, questions) int16, tokens up to and with the newline.
        total: (items, questions) int16, tokens in all.
        kinds: (items, questions) int8, index into `names`.
        mentions: (items, questions, MENTIONS) int16, the token that ends each mention of a thing; 0 for none.
        things: (items, questions, MENTIONS) int8, which thing that is; -1 where it is none.
        chosen: (items, questions, MENTIONS) int8, 1 if it is the answer, 0 if not; -1 where no mention is.
        told: (items, questions, MENTIONS, TOLD) float16; NaN for nothing.
        names: of the kinds.
    """

    items: torch.Tensor
    tokens: torch.Tensor
    prefix: torch.Tensor
    total: torch.Tensor
    kinds: torch.Tensor
    mentions: torch.Tensor
    things: torch.Tensor
    chosen: torch.Tensor
    told: torch.Tensor
    names: tuple[str, ...]


def ask(folder: Path, facts: Sequence[Facts], processor: PaliGemmaProcessor, plan: Plan, seed: str) -> Quiz:
    """A plan's questions about items, kept in `folder`; items that do not allow as many are left out.

    Questions are drawn by the plan's shares from Random(f"{seed}-{item's index}"), so any row can be made
    again alone.
    """
    numbers = [number for number, each in enumerate(facts) if plan.only(each)]
    facts = [facts[number] for number in numbers]
    files = {
        file: (processor.tokenizer, plan, facts[part], part.start, seed)
        for file, part in _shards(folder, len(facts)).items()
    }
    _each_shard(f"asking {folder.name}", files, _rows)
    parts = []
    for file in files:
        with np.load(file, allow_pickle=False) as stored:
            parts.append({name: stored[name] for name in stored.files})
    arrays = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    whole_items = arrays.pop("asked") == plan.each
    arrays = {name: array[whole_items] for name, array in arrays.items()}
    return Quiz(torch.tensor(numbers)[whole_items], **arrays, names=tuple(plan.askers))


def _rows(tokenizer, plan: Plan, facts: Sequence[Facts], first: int, seed: str) -> dict[str, np.ndarray]:
    names, askers = list(plan.askers), list(plan.askers.values())
    count, shape = len(facts), (len(facts), plan.each)
    arrays = {
        "asked": np.zeros(count, np.int16),
        "tokens": np.zeros((*shape, plan.length), np.int16),
        "prefix": np.zeros(shape, np.int16),
        "total": np.zeros(shape, np.int16),
        "kinds": np.zeros(shape, np.int8),
        "mentions": np.zeros((*shape, MENTIONS), np.int16),
        "things": np.full((*shape, MENTIONS), -1, np.int8),
        "chosen": np.full((*shape, MENTIONS), -1, np.int8),
        "told": np.full((*shape, MENTIONS, len(TOLD)), np.nan, np.float16),
    }
    names_of_things = Names(tokenizer)
    for item in range(count):
        rng, number = Random(f"{seed}-{first + item}"), 0
        for _ in range(TRIES):
            kind = rng.choices(range(len(names)), [share for _, share in askers])[0]
            asked = askers[kind][0](facts[item], rng)
            row = asked and _row(asked, tokenizer, names_of_things, plan)
            if row:
                tokens = row.pop("tokens")
                arrays["tokens"][item, number, : len(tokens)] = tokens
                arrays["kinds"][item, number] = kind
                for name, value in row.items():
                    arrays[name][item, number] = value
                number += 1
            if number == plan.each:
                break
        arrays["asked"][item] = number
    return arrays


def _row(asked: Asked, tokenizer, names: Names, plan: Plan) -> dict[str, Any] | None:
    """A question's part of each array; None where it is too long."""
    prompt = tokenizer.encode(f"{asked.prompt}\n", add_special_tokens=False)
    answer = tokenizer.encode(asked.answer, add_special_tokens=False)
    if len(prompt) + len(answer) >= plan.length or len(answer) >= plan.answer:
        return None
    found = names.mentions(prompt, asked.things)
    choosing = any(name == tuple(answer) for _, _, name in found)
    row: dict[str, Any] = {
        "tokens": [*prompt, *answer, tokenizer.eos_token_id],
        "prefix": len(prompt),
        "total": len(prompt) + len(answer) + 1,
        "mentions": np.zeros(MENTIONS, np.int16),
        "things": np.full(MENTIONS, -1, np.int8),
        "chosen": np.full(MENTIONS, -1, np.int8),
        "told": np.full((MENTIONS, len(TOLD)), np.nan, np.float16),
    }
    for slot, (at, thing, name) in enumerate(found):
        row["mentions"][slot], row["things"][slot] = at, -1 if thing is None else thing
        if choosing and thing is not None:
            row["chosen"][slot] = name == tuple(answer)
        for key, value in asked.told.get(slot, {}).items():
            row["told"][slot, TOLD.index(key)] = value
    return row


class Names:
    """Finds where a prompt names things: a noun with the adjectives before it, or a node's label."""

    def __init__(self, tokenizer) -> None:
        def ids(words: Sequence[str]) -> set[int]:
            return set(tokenizer.convert_tokens_to_ids(list(words)))

        nouns = (*ATTRIBUTES["shape"], "thing")
        self.nouns = ids([*nouns, *(f"{noun}s" for noun in nouns), *LABELS])
        self.adjectives = ids(
            [word for name, words in ATTRIBUTES.items() if name != "shape" for word in words]
        )

    def mentions(
        self, prompt: Sequence[int], things: Sequence[int | None]
    ) -> list[tuple[int, int | None, tuple[int, ...]]]:
        """(token that ends it, thing, its tokens) of each name; a name that comes again is the same thing.

        `things` are in the order in which they are first named; names beyond them are not told of.
        """
        found: list[tuple[int, int | None, tuple[int, ...]]] = []
        named: dict[tuple[int, ...], int | None] = {}
        for at, token in enumerate(prompt):
            if token in self.nouns:
                start = at
                while start and prompt[start - 1] in self.adjectives:
                    start -= 1
                name = tuple(prompt[start : at + 1])
                if name not in named and len(named) < len(things):
                    named[name] = things[len(named)]
                if name in named:
                    found.append((at, named[name], name))
        return found[:MENTIONS]
