"""Sampling and scoring completions, the prompt computed once per group: PaliGemma, Qwen2-VL and Qwen2.5-VL.

All G completions of a prompt share its image and text, and the prefix never looks at what follows it.
So sampling runs the prefix once and feeds the next token of all G completions together, each seeing the one
cache of the prefix and its own tokens; and scoring puts a whole group in one row:

                  prefix   c1     c2          rows: queries;  # = may attend to
     prefix       ######   ....   ....        PaliGemma's prefix sees the whole prefix (both ways)
     c1           ######   #...   ....        a completion sees the prefix and itself, causally,
                  ######   ##..   ....        never its neighbours
     c2           ######   ....   #...
                  ######   ....   ##..        positions restart after the prefix in each completion

Log-probabilities while sampling, packed (`per_token_logps`) and one row per completion
(`per_token_logps_plain`) agree to rounding. The policy of all three is the model restricted to
tokens that can stand in an answer: `<image>`, `<loc....>`, `<seg...>`, padding, Qwen's special tokens (but
the end) and ids without a token have probability 0 while sampling and while scoring alike, so what is sampled
is exactly what is scored. Prompts are padded on the left; no number depends on the padding, the batch size or
the neighbours in the batch, but for the rounding of 16 bits.

What a family of models has of its own (inputs, the prefix's mask, positions) is in `paligemma` and `qwen`;
Qwen's prefix is causal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel

from spatialvlm.models import context_length, inputs, paligemma, precision, qwen
from spatialvlm.models.inputs import Batch, Completions, ImageCache, Vocabulary
from spatialvlm.models.inputs import decode as decode  # so that callers find all of a rollout here
from spatialvlm.models.inputs import forbidden_tokens as forbidden_tokens
from spatialvlm.models.qwen import QwenBatch

SHORTER = "use fewer or smaller images, or a smaller --max_completion_length"
_CHUNK = 2**24  # logits turned to float32 at a time: 64 MiB


def encode(
    processor,
    prompts: Sequence[str],
    images: Sequence[Sequence[Image.Image | Path]],
    device: torch.device | str = "cpu",
    cache: ImageCache | None = None,
) -> Batch | QwenBatch:
    """Prompts and the images of each as the model's inputs: `inputs.encode`, or `qwen.encode`."""
    family = qwen if isinstance(processor, qwen.ChatProcessor) else inputs
    return family.encode(processor, prompts, images, device, cache)


def vision_is_trained(model) -> bool:
    """Whether vision tower or projector have trainable weights: image features change and carry gradients."""
    core, family = core_and_family(model)
    return any(parameter.requires_grad for part in family.vision(core) for parameter in part.parameters())


def image_features(model, batch: Batch | QwenBatch) -> Tensor:
    """(N, image tokens, hidden), Qwen's (all image tokens, hidden); gradients only if vision is trained."""
    core, family = core_and_family(model)
    with torch.set_grad_enabled(vision_is_trained(model) and torch.is_grad_enabled()):
        return family.image_features(core, batch)


@torch.no_grad()
def sample(
    model,
    batch: Batch | QwenBatch,
    num_generations: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> Completions:
    """Sample G completions per prompt, of at most `max_new_tokens` tokens with the end token; no dropout.

    Args:
        temperature: divides the logits; 0 takes the likeliest token (log-probabilities are then untempered).
        seeds: one per prompt, random if None. A completion follows from the weights, its prompt, that seed
            and its number in the group alone, not from the batch it is in.

    Raises:
        UserError: prompt and completion do not fit into the context, or the logits are not finite.
        ValueError: a model or an attention that this is not written for.
    """
    core, family = core_and_family(model)
    prompts, prefix_length = batch.input_ids.shape
    context_length.require(core, prefix_length + max_new_tokens, "prompt with completion", SHORTER)
    if seeds is None:
        seeds = torch.randint(2**62, (prompts,)).tolist()
    uniforms = _uniforms(seeds, num_generations, max_new_tokens).to(batch.input_ids.device)  # (B * G, T)
    running = torch.ones(prompts * num_generations, dtype=torch.bool, device=batch.input_ids.device)
    tokens, mask, logps = [], [], []
    with evaluating(core):
        logits, cache, bias, last = prefill(core, batch)
        logits = logits.repeat_interleave(num_generations, 0)  # (B * G, V)
        bias = bias.expand(-1, -1, num_generations, -1)  # (B, 1, G, P)
        own = torch.eye(num_generations, dtype=torch.bool, device=bias.device).expand(prompts, 1, -1, -1)
        own = _additive(own, bias.dtype)  # (B, 1, G, G): of G tokens fed together, each sees its own
        for step in range(max_new_tokens):
            if not logits.isfinite().all():
                fed = torch.stack([*tokens, running.long()], 1).view(prompts, num_generations, -1)
                repeat = partial(per_token_logps, core, batch, Completions(fed, fed >= 0, fed.float()))
                raise precision.not_finite("the model's logits are not finite", core, repeat)
            scores = restrict(logits, batch.vocabulary, temperature).log_softmax(-1)
            drawn = scores.argmax(-1) if temperature == 0 else pick_tokens(scores, uniforms[:, step])
            tokens.append(drawn.where(running, batch.vocabulary.pad))
            logps.append(scores.gather(1, drawn[:, None]).squeeze(1).where(running, 0.0))
            mask.append(running)
            running = running & (drawn != batch.vocabulary.eos)
            if step + 1 == max_new_tokens or not running.any():
                break
            bias = torch.cat([bias, own], -1)
            logits = core(
                input_ids=tokens[-1].view(prompts, num_generations),
                attention_mask=bias,
                position_ids=(last + step + 1).expand(*last.shape[:-1], num_generations),
                past_key_values=cache,
            ).logits.flatten(0, 1)
    return Completions(
        *(torch.stack(part, 1).view(prompts, num_generations, -1) for part in (tokens, mask, logps))
    )


def prefill(model, batch: Batch | QwenBatch) -> tuple[Tensor, DynamicCache, Tensor, Tensor]:
    """Run the prefix once.

    Returns:
        The next token's logits (B, V), the cache, the additive mask for completions (B, 1, 1, P), and the
        last position, (B, 1) or (3, B, 1).
    """
    core, family = core_and_family(model)
    allowed, positions, last = family.prefix(core, batch)
    embeds = _embed_prefix(core, family, batch)
    cache = DynamicCache()  # made without a config, no layer forgets; the sliding window was checked before
    logits = core(
        inputs_embeds=embeds,
        attention_mask=_additive(allowed[:, None], core.dtype),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    bias = _additive(batch.attention_mask.bool()[:, None, None], core.dtype)
    return logits, cache, bias, last


def per_token_logps(
    model, batch: Batch | QwenBatch, completions: Completions, temperature: float = 1.0
) -> Tensor:
    """Log-probabilities (B, G, T) float32 of the completions' tokens, packed; 0 where masked out.

    The last token of a completion predicts nothing, so it is not fed and has no logits.
    `temperature` divides the logits as in `sample`; 0 counts as 1.
    """
    core, family = core_and_family(model)
    tokens = completions.tokens
    groups, num_generations, length = tokens.shape
    prefix_length, fed = batch.input_ids.shape[1], length - 1
    context_length.require(core, prefix_length + length, "prompt with completion", SHORTER)
    prefix = _embed_prefix(core, family, batch)
    continuation = core.get_input_embeddings()(tokens[..., :-1].reshape(groups, num_generations * fed))
    of_prefix, positions, last = family.prefix(core, batch)
    allowed = _packed_allowed(of_prefix, batch.attention_mask.bool(), num_generations, fed)
    restarted = last + torch.arange(1, length, device=tokens.device).repeat(num_generations)
    logits = core(
        inputs_embeds=torch.cat([prefix, continuation.to(prefix.dtype)], 1),
        attention_mask=_additive(allowed[:, None], core.dtype),
        position_ids=torch.cat([positions, restarted], -1),
        logits_to_keep=1 + num_generations * fed,
        use_cache=False,
    ).logits  # (B, 1 + G * (T - 1), V)
    # The last prefix token predicts the first token of every completion.
    first = _select_logps(logits[:, :1], tokens[:, None, :, 0], batch.vocabulary, temperature)  # (B, 1, G)
    following = tokens[..., 1:].reshape(groups, num_generations * fed, 1)
    rest = _select_logps(logits[:, 1:], following, batch.vocabulary, temperature)  # (B, G * (T - 1), 1)
    logps = torch.cat([first.transpose(1, 2), rest.view(groups, num_generations, fed)], 2)
    return logps.where(completions.mask, 0.0)


def per_token_logps_plain(
    model, batch: Batch | QwenBatch, completions: Completions, temperature: float = 1.0
) -> Tensor:
    """What `per_token_logps` must equal: one row per completion through the model's own inputs and masks.

    Slow (the prefix and its images are computed for every completion) and independent of everything packed.
    """
    core, family = core_and_family(model)
    logits = family.plain_logits(core, batch, completions)
    targets = completions.tokens.flatten(0, 1)[..., None]
    logps = _select_logps(logits, targets, batch.vocabulary, temperature)
    return logps.view_as(completions.tokens).where(completions.mask, 0.0)


def core_and_family(model) -> tuple[PreTrainedModel, ModuleType]:
    """The model inside PEFT's wrapper, and its family's module.

    LoRA layers sit in it, so adapters act as they are switched.
    """
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    family = next((each for each in (paligemma, qwen) if isinstance(core, each.CLASSES)), None)
    if family is None:
        raise ValueError(
            f"rollouts are written for PaliGemma, Qwen2-VL and Qwen2.5-VL, not for {type(core).__name__}"
        )
    if (attention := core.config.get_text_config()._attn_implementation) not in family.ATTENTION:
        best, reason = next(iter(family.ATTENTION.items()))
        raise ValueError(
            f"attention is {attention!r}; load the model with attn_implementation={best!r}: {reason}"
        )
    return core, family


def _embed_prefix(core, family, batch: Batch | QwenBatch) -> Tensor:
    """(B, P, hidden): word embeddings, with image features for image tokens, as in the model's forward."""
    features = image_features(core, batch) if batch.features is None else batch.features
    is_image = family.is_image(core, batch)
    embeds = core.get_input_embeddings()(batch.input_ids.masked_fill(is_image, 0))
    if is_image.sum() * embeds.shape[-1] != features.numel():
        raise ValueError(f"{int(is_image.sum())} image tokens for image features {tuple(features.shape)}")
    return embeds.masked_scatter(is_image[..., None], features.to(embeds.dtype))


def _packed_allowed(of_prefix: Tensor, valid: Tensor, num_generations: int, fed: int) -> Tensor:
    """(B, S, S) bool, S = P + G * fed: who may attend to whom in `[prefix | c1 | ... | cG]` (shown above).

    Args:
        of_prefix: (B, 1 or P, P), the same within the prefix.
        valid: (B, P), the prefix's tokens that are no padding.
    """
    groups, prefix_length = valid.shape
    causal = torch.ones(fed, fed, dtype=torch.bool, device=valid.device).tril()
    size = prefix_length + num_generations * fed
    allowed = torch.zeros(groups, size, size, dtype=torch.bool, device=valid.device)
    allowed[:, :prefix_length, :prefix_length] = of_prefix
    allowed[:, prefix_length:, :prefix_length] = valid[:, None]
    allowed[:, prefix_length:, prefix_length:] = torch.block_diag(*[causal] * num_generations)
    return allowed


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    bias = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return bias.masked_fill_(~allowed, torch.finfo(dtype).min)


def restrict(logits: Tensor, vocabulary: Vocabulary, temperature: float) -> Tensor:
    """(..., V) float32 logits / temperature, -inf for what no answer holds (ids past the tokenizer's too)."""
    allowed = pad(vocabulary.allowed, (0, logits.shape[-1] - len(vocabulary.allowed)))
    return (logits.float() / (temperature or 1.0)).masked_fill(~allowed, -torch.inf)


def _select_logps(logits: Tensor, targets: Tensor, vocabulary: Vocabulary, temperature: float) -> Tensor:
    """(B, K, M): log-probabilities under logits (B, K, V) of targets (B, K, M).

    A vocabulary of 257,216 in float32 is what fills memory, so it is computed in pieces, which the backward
    pass recomputes.
    """

    def piece(logits: Tensor, targets: Tensor) -> Tensor:
        scores = restrict(logits, vocabulary, temperature)
        return scores.gather(-1, targets) - scores.logsumexp(-1, keepdim=True)

    size = max(1, _CHUNK // (logits.shape[0] * logits.shape[2]))
    if logits.shape[1] <= size:
        return piece(logits, targets)
    pieces = zip(logits.split(size, 1), targets.split(size, 1), strict=True)
    return torch.cat([checkpoint(piece, *each, use_reentrant=False) for each in pieces], 1)


def _uniforms(seeds: Sequence[int], num_generations: int, length: int) -> Tensor:
    """(B * G, T) float64 in [0, 1), each row of T the same whatever B, G and T are."""
    rows = []
    for seed in seeds:
        for number in range(num_generations):
            generator = torch.Generator().manual_seed((seed + number * 0x9E3779B97F4A7C15) % 2**63)
            rows.append(torch.rand(length, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def pick_tokens(logps: Tensor, uniforms: Tensor) -> Tensor:
    """One token id per row from (rows, V) log-probabilities and (rows,) uniforms by inversion.

    An impossible token is never picked: its step in the distribution function has no width, and float64 keeps
    the threshold below the total.
    """
    cumulative = logps.double().exp().cumsum(-1)
    threshold = uniforms[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


@contextmanager
def evaluating(model) -> Iterator[None]:
    """Dropout off; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
