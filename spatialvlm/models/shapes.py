"""The published models' shapes, for what needs no weights: memory plans and speed measurements."""

from __future__ import annotations

from functools import partial

import torch
from transformers import (
    AutoModelForImageTextToText,
    Gemma2Config,
    PaliGemmaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    SiglipVisionConfig,
)

from spatialvlm.models import precision


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


def qwen2_vl(billions: int) -> Qwen2VLConfig:
    """The configuration of `Qwen/Qwen2-VL-2B-Instruct` or `-7B-Instruct` (arXiv 2409.12191)."""
    hidden = {2: 1536, 7: 3584}[billions]
    text = dict(
        vocab_size={2: 151_936, 7: 152_064}[billions],
        hidden_size=hidden,
        intermediate_size={2: 8960, 7: 18_944}[billions],
        num_hidden_layers=28,
        num_attention_heads={2: 12, 7: 28}[billions],
        num_key_value_heads={2: 2, 7: 4}[billions],
        **_QWEN_TEXT,
    )
    vision = dict(depth=32, embed_dim=1280, num_heads=16, mlp_ratio=4, hidden_size=hidden)
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=billions == 2)


def qwen2_5_vl_3b() -> Qwen2_5_VLConfig:
    """The configuration of `Qwen/Qwen2.5-VL-3B-Instruct` (arXiv 2502.13923); SpaceQwen's is the same."""
    text = dict(
        vocab_size=151_936,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        **_QWEN_TEXT,
    )
    vision = dict(depth=32, hidden_size=1280, num_heads=16, intermediate_size=3420, out_hidden_size=2048)
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)


_QWEN_TEXT = {
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
PUBLISHED = {  # by hub id
    "google/paligemma2-3b-mix-224": paligemma2_3b,
    "google/paligemma2-3b-mix-448": partial(paligemma2_3b, image_size=448),
    "Qwen/Qwen2-VL-2B-Instruct": partial(qwen2_vl, 2),
    "Qwen/Qwen2-VL-7B-Instruct": partial(qwen2_vl, 7),
    "Qwen/Qwen2.5-VL-3B-Instruct": qwen2_5_vl_3b,
    "remyxai/SpaceQwen2.5-VL-3B-Instruct": qwen2_5_vl_3b,
}


def random_model(
    config: PreTrainedConfig, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """A model of that shape, in eval mode, initialized on its device and in its dtype, as one is loaded."""
    attention = "eager" if isinstance(config, PaliGemmaConfig) else "sdpa"  # as `loading.load` has them
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, attn_implementation=attention, dtype=dtype)
    precision.float32_stream(model)
    return model.eval()
