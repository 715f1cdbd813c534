"""A random Qwen2-VL or Qwen2.5-VL of a few ten thousand weights in a folder, with tokenizer and template."""

from pathlib import Path

import tiny
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import spatialvlm.models.loading

SPECIAL = ["im_start", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"]
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% for part in turn.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_processor(folder: Path) -> PreTrainedTokenizerFast:
    """Tokenizer over tiny.WORDS and image processor, as save_pretrained leaves them."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", *tiny.WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[f"<|{name}|>" for name in SPECIAL],
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=64, max_pixels=10_000).save_pretrained(
        folder
    )
    return tokenizer


def save_model(folder: Path, kind: str, width: int = 32) -> Path:
    """A random model of a few ten thousand weights, with its processor; `width` of the language layers."""
    tokenizer = save_processor(folder)
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    text = dict(
        vocab_size=len(tokenizer) + 3,  # the published ones are padded too
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 8,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        initializer_range=0.4,  # large: a wrong position or mask must show
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = dict(depth=2, num_heads=2, patch_size=4, spatial_merge_size=2, initializer_range=0.4)
    if kind == "qwen2_vl":
        config = Qwen2VLConfig(
            text_config=text, vision_config=vision | dict(embed_dim=16, hidden_size=width), **ids
        )
    else:
        vision |= dict(hidden_size=16, out_hidden_size=width, intermediate_size=32, window_size=16)
        config = Qwen2_5_VLConfig(
            text_config=text, vision_config=vision | dict(fullatt_block_indexes=[1]), **ids
        )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    own = dict(do_sample=True, repetition_penalty=1.5, top_k=1, top_p=0.001, temperature=0.1)
    model.generation_config = GenerationConfig(**own, eos_token_id=[tokenizer.eos_token_id])
    model.save_pretrained(folder)
    return folder


def load(folder: Path, **changed):
    """(model, processor) of a folder, with few pixels per image."""
    args = spatialvlm.models.loading.ModelArgs(profile="embedded", model=str(folder), **changed)
    return spatialvlm.models.loading.load(args, pixels=(64, 1024))
