"""PaliGemma in `spatialvlm.models.rollout`: where it differs from `qwen`.

Its inputs are made in `models/inputs.py`. Its prefix looks at all of itself, both ways, and positions are
counted from 1 on.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from spatialvlm.models.inputs import Batch, Completions

CLASSES = (PaliGemmaForConditionalGeneration,)
ATTENTION = {"eager": "others drop PaliGemma's prefix mask or Gemma 2's soft-capping"}


def vision(core) -> tuple[torch.nn.Module, ...]:
    """The parts that image features come from."""
    return core.model.vision_tower, core.model.multi_modal_projector


def image_features(core, batch: Batch) -> Tensor:
    """(N, image tokens, hidden), projected."""
    pixels = batch.pixel_values.to(core.model.vision_tower.dtype)
    return core.get_image_features(pixel_values=pixels).pooler_output


def is_image(core, batch: Batch) -> Tensor:
    """(B, P) bool: which tokens stand for images."""
    return batch.input_ids == core.config.image_token_id


def prefix(core, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(who sees whom (B, 1, P) bool, positions (B, P), the last of them (B, 1))."""
    positions = batch.attention_mask.cumsum(1).clamp(min=1)
    return batch.attention_mask.bool()[:, None], positions, positions[:, -1:]


def plain_logits(core, batch: Batch, completions: Completions) -> Tensor:
    """(B * G, T, V): one row per completion, images and all, through the model's own inputs and masks."""
    groups, num_generations, length = completions.tokens.shape
    repeated = [group for group in range(groups) for _ in range(num_generations)]
    tokens = completions.tokens.reshape(groups * num_generations, length)
    attention_mask = torch.cat([batch.attention_mask[repeated], completions.mask.view_as(tokens).long()], 1)
    prefix_type = torch.zeros_like(batch.input_ids[repeated])  # 0: both ways; 1: causal
    return core(
        input_ids=torch.cat([batch.input_ids[repeated], tokens], 1),
        pixel_values=batch.pixel_values[batch.image_rows(repeated)].to(core.model.vision_tower.dtype),
        token_type_ids=torch.cat([prefix_type, torch.ones_like(tokens)], 1),
        attention_mask=attention_mask,
        position_ids=attention_mask.cumsum(1).clamp(min=1),
        logits_to_keep=length + 1,
        use_cache=False,
    ).logits[:, :-1]
