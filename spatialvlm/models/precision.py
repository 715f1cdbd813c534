"""float16 that keeps a model's values in range, and the layer whose values left it all the same.

V100 and T4 have no bfloat16, and float16 ends at 65,504. What Gemma 2, SigLIP and Qwen's vision tower carry
from layer to layer goes beyond. So in a float16 model this residual stream is float32, around matrix
products, attention and a KV cache in float16:

    stream -> norm -> float16: products, attention -> 2**-6 of what is written -> float32, * 2**6 -> stream

What is written into the stream may be as large as the stream, so its product is computed 2**6 times smaller.
A power of two costs no digit, but where numbers come close to float16's smallest: 2e-6 of what is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spatialvlm.errors import UserError

# Where the scale of float16's gradients begins. On the embedded model (SFT, from a loss of 11) 2**16 is too
# much, 2**10 leaves a factor of 53, and from 2**13 down to 2**6 gradients change by 2e-4. GRPO's are smaller.
LOSS_SCALE = 2.0**10
_SMALLER = 2.0**-6
# Modules by name: PaliGemma's (Gemma 2, SigLIP), Qwen2-VL's and Qwen2.5-VL's.
_WRITERS = re.compile(
    r".*\b(self_attn\.(o_proj|out_proj)|attn\.proj|patch_embedding|patch_embed\.proj"
    r"|multi_modal_projector\.linear|merger\.mlp\.2)"
)
_MLPS = re.compile(r".*\b(layers|blocks)\.\d+\.mlp")
_READERS = re.compile(
    r".*\b(input_layernorm|pre_feedforward_layernorm|layer_norm[12]|post_layernorm|norm[12]?|ln_q|rotary_emb)"
)
_QWEN_READERS = re.compile(r".*\bpost_attention_layernorm")  # Gemma 2's writes into the stream


def float32_stream(model) -> None:
    """Give a float16 model a residual stream in float32, in place; other models stay as they are.

    To be called before adapters are put on the model or it is sharded.
    """
    if model.dtype != torch.float16:
        return
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False  # nor do partial sums leave it
    words = model.get_input_embeddings()
    scale = getattr(words, "scalar_embed_scale", 1.0)  # Gemma 2's, which is then not to be rounded to float16
    if scale != 1.0:
        words.embed_scale.fill_(1.0)
    words.register_forward_hook(lambda module, inputs, output: output.float() * scale)
    modules = dict(model.named_modules())
    gemma = any(name.endswith("pre_feedforward_layernorm") for name in modules)
    for name, module in modules.items():
        if isinstance(module, nn.LayerNorm):
            module.float()  # torch has none of float32 with float16 weights
        if _READERS.fullmatch(name) or (not gemma and _QWEN_READERS.fullmatch(name)):
            module.register_forward_hook(_lower)
        elif _WRITERS.fullmatch(name):
            module.register_forward_pre_hook(lambda module, inputs: (inputs[0] * _SMALLER,))
            _shrink_bias(module)
            module.register_forward_hook(_restore)
        elif _MLPS.fullmatch(name):
            # Already behind the activation: its product with the gate may leave the range too. An adapter on
            # the last layer then sees the smaller input, and its output is restored with the layer's own.
            (activation,) = (part for part_name, part in module.named_children() if "act" in part_name)
            activation.register_forward_hook(lambda module, inputs, output: output * _SMALLER)
            _shrink_bias(module.down_proj if hasattr(module, "down_proj") else module.fc2)
            module.register_forward_hook(_restore)


def _lower(module: nn.Module, inputs: tuple, output):
    return tuple(each.half() for each in output) if isinstance(output, tuple) else output.half()


def _restore(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return output.float() / _SMALLER


def _shrink_bias(module: nn.Module) -> None:
    if module.bias is not None:
        module.bias.data *= _SMALLER


def not_finite(
    what: str,
    model,
    repeat: Callable[[], object],
    remedy: str = "its weights are damaged or training diverged; use others",
) -> UserError:
    """The error for values that are not finite, naming the layer that gave the first of them.

    Args:
        what: is not finite: "the loss is not finite at step 3".
        repeat: computes it once more, with gradients where those may be what is not finite.
        remedy: what to do, or to know, beside computing with more digits.
    """
    layer = _first_not_finite(model, repeat)
    if model.dtype != torch.float32:
        remedy += ", or --dtype float32"
        if model.device.type == "cuda":
            remedy += (
                " (a 3B model in 16 GB: with --load_in_4bit, or small batches and, in training, "
                "--gradient_checkpointing)"
            )
    return UserError(f"{what}{layer and f' ({layer})'}: {remedy}")


def _first_not_finite(model, repeat: Callable[[], object]) -> str:
    """Which layer first gave a value that is not finite, else a gradient, in words; "" if none did."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    values: list[str] = []
    gradients: list[str] = []
    hooks = []
    for name, module in core.named_modules():
        name = name.replace(".base_layer", "")  # an adapter's name for the layer it is on

        def entered(module: nn.Module, inputs: tuple, name: str = name) -> None:
            # No layer gave it: what is computed between layers did, in the module around this one.
            values.extend(_described(name.rpartition(".")[0], inputs))

        def left(module: nn.Module, inputs: tuple, output, name: str = name) -> None:
            values.extend(_described(name, output))
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(
                        lambda gradient: gradients.extend(_described(f"the gradient at {name}", gradient))
                    )

        hooks += [module.register_forward_pre_hook(entered), module.register_forward_hook(left)]
    try:
        repeat()
    finally:
        for hook in hooks:
            hook.remove()
    return next(iter(values + gradients), "")


def _described(name: str, values) -> list[str]:
    return [
        f"{name} gave {'nan' if tensor.isnan().any() else 'inf'}"
        for tensor in _tensors(values)
        if not tensor.isfinite().all()
    ]


def _tensors(values) -> list[Tensor]:
    parts = values if isinstance(values, tuple) else (values,)
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
