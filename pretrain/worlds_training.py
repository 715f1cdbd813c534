"""How the embedded model learns a further world (`worlds`): the tower what lies on each patch, then the
language side, from frozen features, to answer, and to tell of each thing that is named where it is.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from pretrain import language, loop
from pretrain.vision import Seer, augment, in_bfloat16, normalize
from pretrain.worlds import Corpus, Questions, World
from spatialvlm.worlds.clevr.render import COLORS

MATCHING = 0.45  # how strongly; a name and its patch then score about 5 before the softmax
DENSE = 1.0  # the weight of dense answers beside spoken ones


# ---- the tower


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
    said = in_bfloat16(seer, compiled)

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

    loop.fit("tower", folder, seer, loss, steps, learning_rate, evaluate, evaluations=8)


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


@torch.no_grad()
def align(
    model: PaliGemmaForConditionalGeneration,
    processor: PaliGemmaProcessor,
    seen: torch.Tensor,
    corpus: Corpus,
    world: World,
) -> None:
    """Sets a patch's projection to the embedding of what lies there, and where it is, as far as its features
    tell in a linear way: a name's last token then finds the thing from the start (`language.align`).

    Words that the model has never met lie in one place; what tells them apart gets the size of known words.

    Args:
        seen: (items, patches, width) features of the first items of `corpus`.
    """
    known = model.get_input_embeddings()
    table = known.parametrizations.weight
    words = table[0].change
    original = table.original[: len(words)]
    sizes = original.norm(dim=1, keepdim=True)
    met = processor.tokenizer.convert_tokens_to_ids(list(COLORS))
    usual = sizes[met].mean()
    unmet = sizes[:, 0] > 1.2 * usual  # training has pushed them all one way, away from every answer
    apart = original[unmet] - original[unmet].mean(0)
    words.zero_()
    words[unmet] = usual * F.normalize(apart, dim=1) - original[unmet]
    said = torch.stack([_said(processor, known.weight, name) for name in world.names])  # (kinds, width)
    said = F.normalize(said, dim=1) * usual * math.sqrt(said.shape[1])
    ways = torch.cat([said, torch.randn(world.values, said.shape[1])])  # places go ways of their own
    patches = seen.flatten(0, 1).float()
    kinds = corpus.kinds.flatten()[: len(patches)].long()
    gold = F.one_hot(kinds, world.kinds)[:, 1:].float()
    places = corpus.values.flatten(0, 1)[: len(patches)].float() * (kinds > 0)[:, None]
    wanted = torch.cat([3 * gold, 0.7 * places], 1)
    rows = torch.linalg.lstsq(patches, wanted).solution.T  # (kinds and values, width)
    projection = ways.T @ rows
    projection /= (patches @ projection.T).std()
    bias = model.model.multi_modal_projector.linear.bias  # stays as it is, so the weight makes up for it
    constant = torch.linalg.lstsq(patches, torch.ones(len(patches), 1)).solution
    projection -= torch.outer(bias, constant[:, 0])
    linear = model.model.multi_modal_projector.linear.parametrizations.weight
    linear[0].a.copy_(torch.eye(len(linear[0].a)))
    linear[0].b.copy_(projection - linear.original)
    _match_names(model, said)


def _said(processor: PaliGemmaProcessor, words: torch.Tensor, name: str) -> torch.Tensor:
    """The last token of a name, and a little of the one before: `##3` is the last of N3 and of N13."""
    *before, last = processor.tokenizer.encode(name, add_special_tokens=False)
    return words[last] + (0.6 * words[before[-1]] if before else 0)


def _match_names(model: PaliGemmaForConditionalGeneration, said: torch.Tensor) -> None:
    """In the first layers a name looks for patches on which it lies, as `language.match_content` does for all
    words: each head gives the names (kinds, width) codes, in those of its dimensions that turn slowly with
    the distance of two tokens.
    """
    config = model.config.text_config
    heads, size = config.num_attention_heads, config.head_dim
    slow = [at for half in (0, size // 2) for at in range(half + size * 5 // 16, half + size // 2)]
    names = F.normalize(said, dim=1)
    for layer in model.model.language_model.layers[: language.LOOKS]:
        codes = torch.zeros(heads, size, len(names))
        codes[:, slow] = F.normalize(torch.randn(heads, len(slow), len(names)), dim=1)
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            change = projection.parametrizations.weight[0]
            change.a[: len(names)] = names
            change.b.zero_()
            change.b[:, : len(names)] = MATCHING * codes.flatten(0, 1)


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
    right, told = [], []
    for start in range(0, len(seen) // batch_size * batch_size, batch_size):
        index = torch.arange(start, start + batch_size)
        *asked, gold = _row(questions, index, answer)
        look = (index + len(seen) // 2) % len(seen) if shuffled else index
        logits, looks, _ = streams(seen[look], *asked, answer)
        told.append(told_loss(looks, questions.told[index]).item())
        right.append(((logits.argmax(-1) == gold) | (gold == -100)).all(-1))
    right = torch.cat(right).numpy()
    kinds = questions.kinds[: len(right)]
    found = {str(kind): float(right[kinds == kind].mean()) for kind in np.unique(kinds)}
    found["told-loss"] = sum(told) / len(told)
    return {f"{name}{'-shuffled' * shuffled}": value for name, value in found.items()}


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
        plan = world.plans["short"]  # the others' answers mean nothing
        for shuffled in (False, True):
            found |= accuracy(streams, seen[1], validation.questions["short"], plan.answer, shuffled)
        return found

    loop.fit("language", folder, streams, loss, steps, learning_rate, evaluate, evaluations=8)
