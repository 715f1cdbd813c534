"""The published model's shape, for what needs no weights: memory plans and speed measurements."""

from __future__ import annotations

import torch
from transformers import (
    AutoModelForImageTextToText,
    Gemma2Config,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
)


def paligemma2_3b(
    image_size: int = 224, decoder_layers: int = 26, vision_layers: int = 27
) -> PaliGemmaConfig:
    """The configuration of `google/paligemma2-3b-mix-224` (Steiner et al., arXiv 2412.03555).

    SigLIP So400m/14 and Gemma 2 2B; fewer layers keep every layer's width, for machines that hold no more.
    """
    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=vision_layers,
        num_attention_heads=16,
        image_size=image_size,
        patch_size=14,
        projection_dim=2304,
        vision_use_head=False,
    )
    text = Gemma2Config(
        vocab_size=257_216,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=decoder_layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        projection_dim=2304,
        hidden_size=2304,
        image_token_index=257_152,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )


def random_model(
    config: PaliGemmaConfig, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PaliGemmaForConditionalGeneration:
    """A model of that shape, in eval mode, initialized on its device and in its dtype."""
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager", dtype=dtype)
    return model.eval()
