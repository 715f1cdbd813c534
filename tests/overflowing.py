"""The same function with values that float16 cannot hold, for tests of float16.

All factors are powers of two and norms or the next layer cancel them, so in float32 not a digit changes.
"""

from __future__ import annotations

import torch


@torch.no_grad()
def paligemma(model, stream: float = 2.0**15, products: float = 2.0**13, gated: float = 2.0**12) -> None:
    """Scale values in place.

    Args:
        stream: factor of the residual streams of both towers, and of all that is written into them.
        products: of the products that Gemma 2's post-norms read.
        gated: of the gated products in Gemma 2's MLPs.
    """
    vision, language = model.model.vision_tower, model.model.language_model
    embeddings, layers = vision.embeddings, vision.encoder.layers
    _scale(stream, embeddings.patch_embedding, embeddings.position_embedding)
    _scale(stream, *(part for each in layers for part in (each.self_attn.out_proj, each.mlp.fc2)))
    _cancel(stream, *(norm for each in layers for norm in (each.layer_norm1, each.layer_norm2)))
    _cancel(stream, vision.post_layernorm)
    _scale(stream, model.model.multi_modal_projector.linear)
    language.embed_tokens.scalar_embed_scale *= stream
    language.embed_tokens.embed_scale *= stream
    for layer in language.layers:
        _cancel(stream, layer.input_layernorm, layer.pre_feedforward_layernorm)
        _scale(products, layer.self_attn.o_proj)
        _scale(gated, layer.mlp.up_proj)
        _scale(products / gated, layer.mlp.down_proj)
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
            _cancel(products, norm)
            norm.weight.data = (1 + norm.weight) * stream - 1
    _cancel(stream, language.norm)


@torch.no_grad()
def qwen(model, stream: float = 2.0**15, gated: float = 2.0**12) -> None:
    """Scale values in place, as `paligemma` does, in Qwen2-VL or Qwen2.5-VL."""
    vision, language = model.model.visual, model.model.language_model
    _scale(stream, vision.patch_embed.proj)
    for block in vision.blocks:
        _cancel(stream, block.norm1, block.norm2)
        _scale(stream, block.attn.proj)
        if hasattr(block.mlp, "fc2"):
            _scale(stream, block.mlp.fc2)
        else:
            _scale(gated, block.mlp.up_proj)
            _scale(stream / gated, block.mlp.down_proj)
    _cancel(stream, vision.merger.ln_q)
    _scale(stream, vision.merger.mlp[2], language.embed_tokens)
    for layer in language.layers:
        _cancel(stream, layer.input_layernorm, layer.post_attention_layernorm)
        _scale(stream, layer.self_attn.o_proj)
        _scale(gated, layer.mlp.up_proj)
        _scale(stream / gated, layer.mlp.down_proj)
    _cancel(stream, language.norm)


def half(model):
    """The model in float16 as it would be loaded, but for norm weights that are beyond float16.

    Buffers (rotary frequencies) stay float32, as in loading, and Gemma 2's norms compute in float32 anyway.
    """
    for name, parameter in model.named_parameters():
        if parameter.half().isfinite().all():
            parameter.data = parameter.half()
        else:
            assert "norm" in name, f"the weight {name} itself is beyond float16"
    return model


def _scale(factor: float, *modules: torch.nn.Module) -> None:
    for module in modules if factor != 1 else ():  # 4-bit weights cannot be scaled
        for parameter in module.parameters(recurse=False):
            parameter *= factor


def _cancel(factor: float, *norms: torch.nn.Module) -> None:
    for norm in norms:
        name = "eps" if hasattr(norm, "eps") else "variance_epsilon"
        setattr(norm, name, getattr(norm, name) * factor**2)
