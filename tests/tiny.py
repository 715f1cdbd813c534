"""A random PaliGemma 2 of a few ten thousand weights with a true processor, for tests."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

WORDS = """
how many red blue green cubes spheres are there what is left of the behind in front yes no cube sphere or
Answer natural language Choose between following options A B C D . , ? : ( ) 0 1 2 3 4 5 6 7 8 9
""".split()  # noqa: SIM905 (readable as text)
IMAGE_SIZE, PATCH_SIZE = 28, 14


def processor() -> PaliGemmaProcessor:
    """Word-level tokenizer over WORDS, and the newline that ends PaliGemma's prompts, a token of its own."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {name: f"<{name[:3]}>" for name in ("pad_token", "eos_token", "bos_token", "unk_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    images = SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    images.image_seq_length = (IMAGE_SIZE // PATCH_SIZE) ** 2
    return PaliGemmaProcessor(images, tokenizer)


def paligemma(seed: int = 0, **text_options) -> tuple[PaliGemmaForConditionalGeneration, PaliGemmaProcessor]:
    """(model, processor), eager attention, float32, eval; `text_options` change the Gemma 2 configuration."""
    torch.manual_seed(seed)
    made = processor()
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=32,
        vision_use_head=False,
    )
    text = dict(
        vocab_size=len(made.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        initializer_range=0.2,  # large: a wrong mask must show in the first decimals
    )
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=Gemma2Config(**(text | text_options)),
        projection_dim=32,
        hidden_size=32,
        image_token_index=made.image_token_id,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    model = PaliGemmaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():  # SigLIP's own initialisation leaves the features of all images alike
        model.model.multi_modal_projector.linear.weight.normal_(0, 0.3)
    return model, made


def image(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Random pixels in RGB, other than any other seed's."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
