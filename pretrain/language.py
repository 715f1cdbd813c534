"""Stage 2: the language side learns to read the image, with the vision tower frozen and its features cached.

Two streams share one set of weights: an image's keys and values are computed once for all its questions,
which look at the image and at themselves. The image does not look at the questions here, as PaliGemma's does:
80 more steps through the true model gained nothing at a low rate, and unlearnt much at a higher one.
Image tokens and words start in one basis (`align`), and attention starts as matching of like with like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from pretrain import loop, targets
from pretrain.targets import GROUPS, WORDS
from pretrain.vision import can_compile
from pretrain.worlds import TOLD, Corpus, Quiz

TESTED = 384  # items that an evaluation looks at
DENSE = 0.3  # the weight of dense answers beside spoken ones
LOOKS, CHOOSES = 2, 3  # layers after which a noun should know its thing, and how it stands to the others
SCALES = torch.tensor([2.5, 1.0, 1.0, 2.5])  # of what `TOLD` names


@torch.no_grad()
def align(
    model: PaliGemmaForConditionalGeneration,
    processor: PaliGemmaProcessor,
    heads: nn.Linear,
    features: torch.Tensor,
) -> None:
    """Sets the projector so that a patch becomes the sum of the embeddings of the words its dense heads say.

    Words get unit variance (after Gemma's scaling by sqrt(hidden)); places and 'nothing here' random ways.
    `features` (N, patches, width) are a few hundred images', for the scale.
    """
    language = model.model.language_model
    hidden = language.config.hidden_size
    language.embed_tokens.weight.normal_(0, 1 / math.sqrt(hidden))
    words = language.embed_tokens.weight * math.sqrt(hidden)
    features = features.float()

    def level(rows: torch.Tensor) -> torch.Tensor:
        """Rows scaled so that together they vary by 1: confident heads would drown where things are."""
        return rows / (features @ rows.T).var((0, 1)).sum().sqrt()

    projection, start = torch.zeros(hidden, heads.in_features), 0
    for group in GROUPS.values():
        rows = heads.weight[start : start + len(group)]
        for word, row in zip(group, level(rows - rows.mean(0)), strict=True):
            way = torch.randn(hidden)
            if word is not None:
                way = words[processor.tokenizer.convert_tokens_to_ids(word)]
            projection += torch.outer(way, row)
        start += len(group)
    for row in heads.weight[len(WORDS) :]:
        projection += torch.outer(torch.randn(hidden), 0.7 * level(row[None])[0])
    image = features @ projection.T
    linear = model.model.multi_modal_projector.linear
    linear.weight.copy_(projection / image.std())
    linear.bias.copy_(-(image / image.std()).mean((0, 1)))


@torch.no_grad()
def match_content(model: PaliGemmaForConditionalGeneration, strength: float = 0.8) -> None:
    """Per head, keys and queries start as the same random view of a token, so that like attends to like."""
    config = model.config.text_config
    hidden, size = config.hidden_size, config.head_dim
    for block in model.model.language_model.layers:
        for start in range(0, hidden, size):
            view = torch.linalg.qr(torch.randn(hidden, size))[0].T * (2 * strength / math.sqrt(size))
            for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
                projection.weight[start : start + size] = view + 0.02 * torch.randn(size, hidden)


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + weight.float())).to(x.dtype)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def _layer(xi, xq, own, angles, weights, norms, heads: int, ask=None):
    """One Gemma 2 layer on the image stream xi (B, N, h) and the question stream xq (B, K, L, h).

    own (B, 1, K, L, L) is added where a question's token looks at its own question. With `ask` (B, K, A), the
    places whose answer is wanted, only those go on, (B, K, A, h): the last layer needs no others.
    """
    (ci, si, cq, sq), (n1, n2, n3, n4) = angles, norms
    wq, wk, wv, wo, wg, wu, wd = (w.to(xi.dtype) for w in weights)
    batch, patches, hidden = xi.shape
    asked, size = xq.shape[1], wq.shape[0] // heads

    def image(x, w):
        return F.linear(x, w).view(batch, patches, heads, size).transpose(1, 2)

    def question(x, w):
        return F.linear(x, w).view(batch, asked, -1, heads, size)

    def mlp(x):
        x = _norm(x, n3)
        x = F.linear(F.gelu(F.linear(x, wg), approximate="tanh") * F.linear(x, wu), wd)
        return _norm(x, n4)

    a, b = _norm(xi, n1), _norm(xq, n1)
    ki, vi, kq, vq = _rotate(image(a, wk), ci, si), image(a, wv), question(b, wk), question(b, wv)
    kq = _rotate(kq, cq, sq)
    turn: Sequence[torch.Tensor] = (cq, sq)
    if ask is not None:
        b, xq = (x.gather(2, ask[..., None].expand(-1, -1, -1, hidden)) for x in (b, xq))
        turn = [x[0, 0, :, 0][ask][..., None, :] for x in turn]
        own = own.gather(3, ask[:, None, :, :, None].expand(-1, -1, -1, -1, own.shape[-1]))
    qq = _rotate(question(b, wq), *turn)
    qq, kq, vq = (x.permute(0, 3, 1, 2, 4) for x in (qq, kq, vq))  # (B, H, K, L or A, d)
    length = qq.shape[3]
    flat = qq.reshape(batch, heads, asked * length, size)
    to_image = (flat @ ki.transpose(2, 3)).view(batch, heads, asked, length, patches) * size**-0.5
    to_own = qq @ kq.transpose(3, 4) * size**-0.5 + own
    p = F.softmax(torch.cat([to_image, to_own], -1), -1)
    seen = p[..., :patches].reshape(batch, heads, asked * length, patches) @ vi
    oq = seen.view(batch, heads, asked, length, size) + p[..., patches:] @ vq
    xq = xq + _norm(F.linear(oq.permute(0, 2, 3, 1, 4).reshape(batch, asked, length, -1), wo), n2)
    xq = xq + mlp(xq)
    if ask is None:
        qi = _rotate(image(a, wq), ci, si)
        oi = F.softmax(qi @ ki.transpose(2, 3) * size**-0.5, -1) @ vi
        xi = xi + _norm(F.linear(oi.transpose(1, 2).reshape(batch, patches, -1), wo), n2)
        xi = xi + mlp(xi)
    return xi, xq


class TwoStreams(nn.Module):
    """Projector and Gemma 2 of a PaliGemma, run on K questions per image.

    Dense heads, thrown away after, ask each noun that names one thing what and where it is (`targets`), and a
    layer later whether it is the answer and how it stands to the others (`TOLD`): comparing two things is
    learnt at once by a model that finds them, and hardly before.
    """

    def __init__(self, model: PaliGemmaForConditionalGeneration, compiled: bool = True) -> None:
        super().__init__()
        self.projector, self.language = model.model.multi_modal_projector, model.model.language_model
        self.looks = nn.Linear(model.config.text_config.hidden_size, targets.ROWS)
        self.chooses = nn.Linear(model.config.text_config.hidden_size, 1 + len(TOLD))
        self.bos = model.config.text_config.bos_token_id
        device = next(model.parameters()).device
        compiled = compiled and can_compile(device)
        if compiled:  # one version each for every part's shape, with and without gradients, last layer or not
            torch._dynamo.config.recompile_limit = 128
        self.layer = torch.compile(_layer, dynamic=False) if compiled else _layer

    def forward(
        self,
        features: torch.Tensor,
        tokens: torch.Tensor,
        prefix: torch.Tensor,
        mentions: torch.Tensor,
        answer: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, K, answer, vocabulary) from the newline on, and what the dense heads say at `mentions`
        (B, K, M): (B, K, M, ROWS) and (B, K, M, 1 + TOLD); features (B, N, width), tokens (B, K, L) int64.
        """
        language, config = self.language, self.language.config
        batch, asked, length = tokens.shape
        patches, kind = features.shape[1] + 1, torch.bfloat16
        embed = language.embed_tokens
        start = embed(tokens.new_full((batch, 1), self.bos))
        xi = torch.cat([self.projector.linear(features.float()), start], 1).to(kind)
        xq = embed(tokens).to(kind)
        places = torch.arange(1, patches + length + 1, device=tokens.device)[None]
        cos, sin = (x[0].to(kind) for x in language.rotary_emb(xi, places))
        angles = (
            cos[:patches],
            sin[:patches],
            cos[patches:][None, None, :, None],
            sin[patches:][None, None, :, None],
        )
        at = torch.arange(length, device=tokens.device)
        sees = (at[None, None, None] < prefix[..., None, None]) | (at[:, None] >= at)
        own = torch.where(sees, 0.0, -1e4).to(kind)[:, None]
        ask = prefix[..., None] - 1 + torch.arange(answer, device=tokens.device)
        ask = ask.clamp_max(length - 1)  # (B, K, answer)
        mentions = mentions[..., None].expand(-1, -1, -1, xq.shape[-1])

        def there(x: torch.Tensor) -> torch.Tensor:
            return _norm(x.gather(2, mentions), torch.zeros(())).float()

        for number, block in enumerate(language.layers):
            attention, feed = block.self_attn, block.mlp
            weights = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
            weights = [x.weight for x in (*weights, feed.gate_proj, feed.up_proj, feed.down_proj)]
            norms = [block.input_layernorm, block.post_attention_layernorm]
            norms += [block.pre_feedforward_layernorm, block.post_feedforward_layernorm]
            norms = [x.weight for x in norms]
            last = ask if number + 1 == len(language.layers) else None
            xi, xq = self.layer(xi, xq, own, angles, weights, norms, config.num_attention_heads, last)
            if number + 1 == LOOKS:
                looks = self.looks(there(xq))
            if number + 1 == CHOOSES:
                chooses = self.chooses(there(xq))
        logits = F.linear(_norm(xq, language.norm.weight), embed.weight.to(kind)).float()
        return 30 * torch.tanh(logits / 30), looks, chooses  # Gemma 2's final soft cap


def labels(tokens: torch.Tensor, prefix: torch.Tensor, total: torch.Tensor, answer: int) -> torch.Tensor:
    """What should follow the newline: (B, K, answer), -100 past the end."""
    at = prefix[..., None] + torch.arange(answer)
    said = tokens.gather(2, at.clamp_max(tokens.shape[2] - 1))
    return torch.where(at < total[..., None], said, -100)


@dataclass(frozen=True)
class Lesson:
    """Questions of a plan over a corpus, with the corpus' features (items, patches, width)."""

    quiz: Quiz
    corpus: Corpus
    features: torch.Tensor
    answer: int

    def rows(self, index: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
        """tokens, prefix, mentions and labels of some of the quiz' rows, on the device."""
        quiz = self.quiz
        tokens, prefix, total, mentions = (
            part[index].long() for part in (quiz.tokens, quiz.prefix, quiz.total, quiz.mentions)
        )
        gold = labels(tokens, prefix, total, self.answer)
        return tuple(part.to(device) for part in (tokens, prefix, mentions, gold))

    def dense(self, looks: torch.Tensor, chooses: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The loss of what was said at the mentions of some rows."""
        quiz, device = self.quiz, looks.device
        things, chosen = quiz.things[index].long(), quiz.chosen[index]
        named = things >= 0
        item = quiz.items[index][:, None, None].expand_as(things)[named]
        one = things[named]
        classes = self.corpus.classes[item, one].long().to(device)
        values = self.corpus.values[item, one].float().to(device)
        total = targets.loss(looks[named.to(device)], classes, values)
        if (chosen >= 0).any():
            said = chooses[..., 0][(chosen >= 0).to(device)]
            total = total + F.binary_cross_entropy_with_logits(said, chosen[chosen >= 0].float().to(device))
        told = quiz.told[index].float() / SCALES
        known = ~told.isnan()
        if known.any():
            total = total + F.smooth_l1_loss(chooses[..., 1:][known.to(device)], told[known].to(device))
        return total


def accuracy(
    streams: TwoStreams, lesson: Lesson, batch_size: int, shuffled: bool = False
) -> dict[str, float]:
    """Exact match by kind, every token the likeliest; with `shuffled`, on other images.

    With gradients, as in training: without them each shape would be compiled once more.
    """
    device, quiz = next(streams.parameters()).device, lesson.quiz
    right, batch_size = [], min(batch_size, len(quiz.items))
    count = min(len(quiz.items), TESTED) // batch_size * batch_size
    for start in range(0, count, batch_size):
        index = torch.arange(start, start + batch_size)
        *asked, gold = lesson.rows(index, device)
        look = quiz.items[(index + count // 2) % count if shuffled else index]
        logits, _, _ = streams(lesson.features[look].to(device), *asked, lesson.answer)
        right.append(((logits.detach().argmax(-1) == gold) | (gold == -100)).all(-1).cpu())
    right, kinds = torch.cat(right), quiz.kinds[:count]
    found = {name: right[kinds == k].float().mean().item() for k, name in enumerate(quiz.names)}
    return {f"{name}{'-shuffled' * shuffled}": value for name, value in found.items()}


def train(
    name: str,
    lessons: dict[str, Lesson],
    validation: dict[str, Lesson],
    turns: Sequence[str],
    steps: int,
    learning_rate: float,
    *,
    streams: TwoStreams,
    folder: Path,
    seed: int,
    batch_size: int = 64,
) -> None:
    """The lessons in turn, for so many batches; resumes from `folder/<name>.pt`."""
    device = next(streams.parameters()).device
    batches = {
        lesson: loop.batches(len(given.quiz.items), batch_size, f"{name}-{lesson}-{seed}")
        for lesson, given in lessons.items()
    }

    def loss(step: int) -> torch.Tensor:
        number, turn = divmod(step, len(turns))
        taught = turns[turn]
        lesson = lessons[taught]
        index = batches[taught](number * turns.count(taught) + turns[:turn].count(taught))
        *asked, gold = lesson.rows(index, device)
        seen = lesson.features[lesson.quiz.items[index]].to(device)
        logits, looks, chooses = streams(seen, *asked, lesson.answer)
        spoken = F.cross_entropy(logits.flatten(0, 2), gold.flatten())
        return spoken + DENSE * lesson.dense(looks, chooses, index)

    def evaluate() -> dict[str, float]:
        found = {}
        for taught in dict.fromkeys(turns):
            for shuffled in (False, True):
                scores = accuracy(streams, validation[taught], batch_size, shuffled)
                found |= {f"{taught}-{kind}": score for kind, score in scores.items()}
        return found

    loop.fit(name, folder, streams, loss, steps, learning_rate, evaluate)
