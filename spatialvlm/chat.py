"""Chat models that see, Qwen2-VL and Qwen2.5-VL: loading, prompts and pictures as inputs, answers as texts.

The prompt runs once, whatever the number of samples: its cache is then handed to all of them. Prompts are
padded on the left, and positions are counted from each prompt's own start, so an answer depends neither on
the batch size nor on its neighbours, but for the rounding of 16-bit weights. Of the settings that a model
brings along only its end tokens are used: no repetition penalty, which would make a number in the prompt less
likely, and no top-k or top-p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig

from spatialvlm import models
from spatialvlm.cli import UserError
from spatialvlm.example import open_image
from spatialvlm.models import ModelArgs
from spatialvlm.qwen import IMAGE, PIXELS, TYPES, ChatProcessor
from spatialvlm.rollout import _draw, _uniforms, evaluating

QWEN = "Qwen/Qwen2.5-VL-3B-Instruct"
SPACEQWEN = "remyxai/SpaceQwen2.5-VL-3B-Instruct"


@dataclass(frozen=True)
class ChatBatch:
    """B prompts, padded on the left to P tokens, with the patches of all their pictures in reading order."""

    input_ids: Tensor  # (B, P)
    attention_mask: Tensor  # (B, P), 1 = token, 0 = padding
    pixel_values: Tensor  # (patches of all N pictures, values of a patch)
    image_grid_thw: Tensor  # (N, 3): how many patches each picture has in time, height and width

    def to(self, device: torch.device | str) -> ChatBatch:
        return ChatBatch(*(getattr(self, part.name).to(device) for part in fields(self)))


# ---- loading


def load(args: ModelArgs, pixels: tuple[int, int] = PIXELS):
    """(model, processor): a chat model, or the PaliGemma that `models.load` gives.

    `args.model` says which; where it is not given, `QWEN` in the paper's profile and the embedded PaliGemma
    else.

    Args:
        pixels: least and most pixels of a picture; others are scaled to lie between.

    Raises:
        UserError: a model that cannot be had, is damaged or of another type; as `models.load`.
    """
    name = args.model or (QWEN if models.resolve_profile(args)[0] == "paper" else str(models.EMBEDDED))
    is_chat(name)
    return models.load(replace(args, model=name), pixels=pixels)


def is_chat(name: str) -> bool:
    """Whether a folder or hub id holds a chat model of `TYPES`, by its config.json alone.

    Raises:
        UserError: it holds a model that is neither of those nor a PaliGemma, or cannot be had from the hub.
    """
    folder = Path(name)
    hub_id = name.count("/") == 1 and not name.startswith((".", "~", "/"))
    if not ((folder / "config.json").is_file() or (hub_id and not folder.exists())):
        return False  # nothing to look at: `models.load` says what is missing
    with models._explained(name):
        kind = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    if kind not in (*TYPES, "paligemma"):
        raise UserError(f"--model {name} is of type {kind!r}; give one of {', '.join(TYPES)} or paligemma")
    return kind in TYPES


# ---- prompts and pictures


def encode(
    processor: ChatProcessor, prompts: Sequence[str], images: Sequence[Sequence[Image.Image | Path]]
) -> ChatBatch:
    """One turn of a user each: the pictures (one or more, any size), then the prompt; the answer comes next.

    Raises:
        ValueError: prompts and images differ in number, or a prompt has no image.
        UserError: an image is missing or broken; a prompt holds one of the model's special tokens.
    """
    if len(prompts) != len(images) or not prompts or not all(images):
        counts = [len(each) for each in images]
        raise ValueError(f"{len(prompts)} prompts with {counts} images: each prompt needs one or more")
    tokenizer, special = processor.tokenizer, processor.tokenizer.all_special_tokens
    for prompt in prompts:
        if found := [token for token in special if token in prompt]:
            raise UserError(f"the prompt {prompt!r} holds {found[0]!r}, which the model keeps for itself")
    opened = [open_image(image) for each in images for image in each]
    seen = processor.image_processor(images=opened, return_tensors="pt")
    # A picture takes one token for each square of `merge_size` x `merge_size` patches.
    lengths = iter((seen["image_grid_thw"].prod(-1) // processor.image_processor.merge_size**2).tolist())
    texts = []
    for prompt, each in zip(prompts, images, strict=True):
        content = [{"type": "image"}] * len(each) + [{"type": "text", "text": prompt}]
        before, *parts = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=processor.chat_template,
            add_generation_prompt=True,
            tokenize=False,
        ).split(IMAGE)
        texts.append(before + "".join(IMAGE * next(lengths) + part for part in parts))
    ids = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    return ChatBatch(ids["input_ids"], ids["attention_mask"], seen["pixel_values"], seen["image_grid_thw"])


# ---- answers


def sample(
    model,
    processor: ChatProcessor,
    prompts: Sequence[str],
    images: Sequence[Sequence[Image.Image | Path]],
    num_samples: int,
    max_new_tokens: int,
    temperature: float,
    seeds: Sequence[int],
) -> list[list[str]]:
    """(B lists of `num_samples`) texts: `encode`, then `generate`; raises what they raise."""
    batch = encode(processor, prompts, images).to(model.device)
    return generate(model, processor, batch, num_samples, max_new_tokens, temperature, seeds)


@torch.no_grad()
def generate(
    model,
    processor: ChatProcessor,
    batch: ChatBatch,
    num_samples: int,
    max_new_tokens: int,
    temperature: float,
    seeds: Sequence[int],
) -> list[list[str]]:
    """(B lists of `num_samples`) texts of up to `max_new_tokens` tokens, without special tokens.

    Args:
        temperature: divides the logits; 0 takes the likeliest token. Special tokens are never said, but for
            those that end an answer.
        seeds: one a prompt. A text follows from the weights, its prompt, that seed and its number among the
            samples alone, not from the batch it is in.

    Raises:
        UserError: the logits are not finite.
    """
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    tokenizer, device = processor.tokenizer, batch.input_ids.device
    ends, never = (ids.to(device) for ids in _end_and_never(core, tokenizer))
    uniforms = _uniforms(seeds, num_samples, max_new_tokens).to(device)  # (B * G, T)
    running = torch.ones(len(uniforms), dtype=torch.bool, device=device)
    said: list[Tensor] = []
    with evaluating(core):
        logits, cache, following = _prefill(core, tokenizer, batch)
        cache.batch_repeat_interleave(num_samples)
        logits, mask = (each.repeat_interleave(num_samples, 0) for each in (logits, batch.attention_mask))
        following = following.repeat_interleave(num_samples, 1)  # (3, B * G, 1)
        for step in range(max_new_tokens):
            if not logits.isfinite().all():
                raise UserError(
                    "the model's logits are not finite: its weights are damaged, or need bfloat16"
                )
            scores = logits[:, -1].float().index_fill(-1, never, -torch.inf)  # (B * G, V)
            if temperature:
                drawn = _draw((scores / temperature).log_softmax(-1), uniforms[:, step])
            else:
                drawn = scores.argmax(-1)
            said.append(drawn.where(running, tokenizer.pad_token_id))
            running = running & ~torch.isin(drawn, ends)
            if step + 1 == max_new_tokens or not running.any():
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            logits = core(
                input_ids=said[-1][:, None],
                attention_mask=mask,
                position_ids=following + step,
                past_key_values=cache,
                use_cache=True,
            ).logits
    texts = tokenizer.batch_decode(torch.stack(said, 1), skip_special_tokens=True)  # of (B * G, T)
    texts = [text.strip() for text in texts]
    return [texts[start : start + num_samples] for start in range(0, len(texts), num_samples)]


def _prefill(core, tokenizer, batch: ChatBatch) -> tuple[Tensor, DynamicCache, Tensor]:
    """Runs the prompts once.

    Returns the next token's logits (B, 1, V), the cache, and that token's position (3, B, 1): time, height
    and width, which are alike for text.
    """
    positions, _ = core.model.get_rope_index(  # (3, B, P)
        batch.input_ids,
        mm_token_type_ids=(batch.input_ids == tokenizer.convert_tokens_to_ids(IMAGE)).int(),
        image_grid_thw=batch.image_grid_thw,
        attention_mask=batch.attention_mask,
    )
    cache = DynamicCache()
    logits = core(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=positions,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    return logits, cache, (positions.amax((0, 2)) + 1)[None, :, None].expand(3, -1, -1)


def _end_and_never(core, tokenizer) -> tuple[Tensor, Tensor]:
    """(ids that end an answer, ids that no answer holds: other special tokens, and ids without a token)."""
    own = core.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id, *([own] if isinstance(own, int) else own or ())}
    unused = range(len(tokenizer), core.config.get_text_config().vocab_size)
    return torch.tensor(sorted(ends)), torch.tensor(sorted({*tokenizer.all_special_ids, *unused} - ends))
