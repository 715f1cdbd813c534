"""The benchmark's workload with a Qwen2-VL of random weights and videos, and its plain way of sampling.

A prompt has 8 frames of random pixels (224 x 224), which are 256 image tokens, and 20 to 49 words.
"""

from __future__ import annotations

from random import Random

import numpy as np
import torch
import ways
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast, Qwen2VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from workload import IMAGE_SIZE, Workload, prepared

from spatialvlm.example import Example, Video
from spatialvlm.models.qwen import ChatProcessor, QwenBatch

FRAMES, VOCABULARY = 8, 4096
SPECIAL = ["im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad"]
TEMPLATE = (
    "{% for turn in messages %}<|im_start|> {% for part in turn.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>"
    "{% endfor %}<|im_start|>"
)


class Plain(ways.Plain):
    """As for PaliGemma, but for `generate`'s inputs."""

    @torch.no_grad()
    def _sample(self, batch: QwenBatch) -> Tensor:
        self.model.eval()
        videos = [visual for each in batch.visuals for visual in each]
        core = self.model.get_base_model()
        rows = self.model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            mm_token_type_ids=2 * (batch.input_ids == core.config.video_token_id).int(),
            pixel_values_videos=torch.cat([video.patches for video in videos]).to(self.model.dtype),
            video_grid_thw=torch.tensor([video.grid for video in videos], device=batch.input_ids.device),
            num_return_sequences=self.num_generations,
            max_new_tokens=self.work.completion_length,
            do_sample=True,
            temperature=1.0,
            top_k=0,
        )
        return rows[:, batch.input_ids.shape[1] :].view(len(batch.input_ids), self.num_generations, -1)


def make(
    decoder_layers: int | None,
    vision_layers: int | None,
    prompts: int,
    prompts_per_pass: int,
    completion_length: int,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> Workload:
    """A Qwen2-VL of 9.3 million weights in the proportions of the 2B one, and prompts with a video each.

    Decoder: 4 layers of width 256, MLP 1536, 4 heads of 64 (1 for keys and values), 4,096 tokens. Vision
    tower: 4 layers of width 192. Vision tower and output layer have 53 % and 20 % of the weights in the
    decoder's layers (2B: 51 % and 18 %).
    """
    torch.manual_seed(seed)
    made = processor()
    tokenizer = made.tokenizer
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{pad}|>") for name, pad in _pads()}
    text = dict(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=1536,
        num_hidden_layers=4 if decoder_layers is None else decoder_layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    depth = 4 if vision_layers is None else vision_layers
    vision = dict(depth=depth, embed_dim=192, num_heads=3, hidden_size=256)
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa", dtype=dtype)
    model = prepared(model.eval(), tokenizer.all_special_ids)
    return Workload(model, made, examples(prompts, seed), prompts_per_pass, completion_length, seed)


def processor() -> ChatProcessor:
    """A word-level tokenizer (`w0 w1 ...`) with Qwen's own tokens."""
    special = [f"<|{name}|>" for name in SPECIAL]
    known = ["<|endoftext|>", "<unk>", *special]
    known += [f"w{number}" for number in range(VOCABULARY - len(known))]
    text = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=text,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=special,
    )
    return ChatProcessor(tokenizer, Qwen2VLImageProcessorPil(), TEMPLATE)


def examples(count: int, seed: int) -> list[Example]:
    made = []
    for number in range(count):
        rng = Random(f"{seed}-{number}")
        prompt = " ".join(f"w{rng.randrange(1000)}" for _ in range(rng.randrange(20, 50)))
        shape = (FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3)
        pixels = np.random.default_rng([seed, number]).integers(0, 256, shape, dtype=np.uint8)
        video = Video(map(Image.fromarray, pixels))
        made.append(Example(str(number), video, prompt, answer="w0", task="random"))
    return made


def _pads() -> list[tuple[str, str]]:
    """Names in the configuration, and tokens."""
    both = [(name, f"{name}_pad") for name in ("image", "video")]
    return both + [(name, name) for name in ("vision_start", "vision_end")]
