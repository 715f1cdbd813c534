"""What is measured: a PaliGemma 2 of random weights, prompts with an image each, and a reward.

Two things make every way of taking a step do the same work and compute the same numbers. Both are done to
the model that all ways share, not to the ways. The output layer gets a bias that leaves no chance (below
1e-12, by Gemma 2's soft cap) to the end token, so that every completion has the same length, and to what no
answer may hold (padding, `<image>`, `<loc....>`, `<seg...>`), which the ways would exclude differently. And
the adapter's second matrices, zero in a fresh one, are random: policy and reference differ, and every weight
has a gradient.

`qwen_workload.py` has the same with a Qwen2-VL and videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionConfig,
)
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

from spatialvlm.example import Example
from spatialvlm.models import rollout
from spatialvlm.models.loading import add_lora
from spatialvlm.models.qwen import ChatProcessor, QwenBatch
from spatialvlm.models.shapes import paligemma2_3b, random_model

IMAGE_SIZE, PATCH_SIZE = 224, 14  # 256 image tokens
BETA, LEARNING_RATE, WEIGHT_DECAY = 0.01, 2e-5, 0.01  # GRPO-v2, as published
LORA_R, LORA_ALPHA = 16, 32


@dataclass(frozen=True)
class Workload:
    """One model and the prompts of a step, for every way alike."""

    model: torch.nn.Module
    processor: PaliGemmaProcessor | ChatProcessor
    examples: list[Example]
    prompts_per_pass: int  # prompts of one forward pass; all of a step are sampled at once
    completion_length: int
    seed: int

    @property
    def passes(self) -> int:
        return len(self.examples) // self.prompts_per_pass

    def encode(self) -> rollout.Batch | QwenBatch:
        """All prompts of a step, images read and resized again."""
        prompts, images = zip(*((example.prompt, example.images) for example in self.examples), strict=True)
        return rollout.encode(self.processor, prompts, images, self.model.device)


def small(decoder_layers: int = 4, vision_layers: int = 4) -> PaliGemmaConfig:
    """A PaliGemma 2 of 5.9 million weights in the proportions of the 3B one.

    Decoder: 4 layers of width 256, MLP 1024, 4 heads of 64 (2 for keys and values), 4,096 tokens. Vision
    tower: 4 layers of width 128, MLP 512. Vision tower and output layer have 20 % and 27 % of the weights in
    the decoder's layers (3B: 20 % and 29 %).
    """
    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=vision_layers,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=256,
        vision_use_head=False,
    )
    text = Gemma2Config(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=decoder_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        query_pre_attn_scalar=64,
        sliding_window=4096,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return PaliGemmaConfig(vision_config=vision, text_config=text, projection_dim=256, hidden_size=256)


def configuration(shape: str, decoder_layers: int | None, vision_layers: int | None) -> PaliGemmaConfig:
    """`small` or `paligemma2-3b`, with fewer layers where asked."""
    layers = {"decoder_layers": decoder_layers, "vision_layers": vision_layers}
    layers = {name: count for name, count in layers.items() if count is not None}
    return small(**layers) if shape == "small" else paligemma2_3b(IMAGE_SIZE, **layers)


def processor(vocabulary_size: int) -> PaliGemmaProcessor:
    """A word-level tokenizer (`w0 w1 ...`) with PaliGemma's own tokens, `vocabulary_size` in all."""
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    words = vocabulary_size - len(special) - len(EXTRA_TOKENS) - 2  # 2: the newline and <image>
    known = [*special.values(), *(f"w{number}" for number in range(words))]
    text = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=text, **special)
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])  # PaliGemma's prompts end in it
    images = SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    images.image_seq_length = (IMAGE_SIZE // PATCH_SIZE) ** 2
    return PaliGemmaProcessor(images, tokenizer)


def examples(count: int, seed: int) -> list[Example]:
    """Prompts of 20 to 49 words, so ragged, each with its own image of random pixels (320 x 240)."""
    made = []
    for number in range(count):
        rng = Random(f"{seed}-{number}")
        prompt = " ".join(f"w{rng.randrange(1000)}" for _ in range(rng.randrange(20, 50)))
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        made.append(Example(str(number), (Image.fromarray(pixels),), prompt, answer="w0", task="random"))
    return made


def reward(completion: str, example: Example | None = None) -> float:
    """0 to 1, differing within nearly every group, whatever was asked."""
    return sum(completion.encode()) % 11 / 10


def make(
    config: PaliGemmaConfig,
    prompts: int,
    prompts_per_pass: int,
    completion_length: int,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> Workload:
    """A PaliGemma and its prompts, `prepared`."""
    torch.manual_seed(seed)
    made = processor(config.get_text_config().vocab_size)
    config.image_token_id = made.image_token_id
    model = random_model(config, dtype, device)
    model = prepared(model, [*rollout.forbidden_tokens(made), made.tokenizer.eos_token_id])
    return Workload(model, made, examples(prompts, seed), prompts_per_pass, completion_length, seed)


def prepared(model, excluded: list[int]):
    """The model with an output bias against tokens `excluded`, and a LoRA adapter.

    The adapter is GRPO-v2's (r 16, alpha 32, all linear layers of the decoder), but has no dropout: its
    random numbers would keep the ways from computing the same.
    """
    bias = torch.zeros(model.config.get_text_config().vocab_size, dtype=model.dtype, device=model.device)
    bias[excluded] = -1e4
    model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    model = add_lora(model, LORA_R, LORA_ALPHA, dropout=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02)
    return model
