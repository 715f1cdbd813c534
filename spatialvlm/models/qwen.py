"""Qwen2-VL and Qwen2.5-VL in `spatialvlm.models.rollout`: their inputs, and where they differ from PaliGemma.

A prompt is one turn of a user: images or a video, then the text. Its prefix is causal, so a completion
looks at all of it and at itself, as in PaliGemma, and one row `[prefix | c1 | c2 | ... | cG]` holds a group.
Positions have three axes, time, height and width, alike for text; in each completion they go on after the
prefix's greatest position. A video goes through the vision tower as images do, `temporal_patch_size` frames
at a time. Everything else is in `rollout`.

transformers 5.23 makes neither a Qwen processor nor a Qwen video processor without torchvision; the processor
here holds the tokenizer and the image processor, and lays images, videos and text out as those do. A frame
has the least and most pixels that an image has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from spatialvlm.errors import UserError
from spatialvlm.example import Video
from spatialvlm.models.inputs import Completions, ImageCache, Vocabulary

CLASSES = (Qwen2VLForConditionalGeneration, Qwen2_5_VLForConditionalGeneration)
ATTENTION = dict.fromkeys(("sdpa", "eager"), "others drop masks that are not causal")
TYPES = ("qwen2_vl", "qwen2_5_vl")
# Least and most pixels of an image: 4 to 1,280 tokens; Qwen's own most is 16,384 tokens.
PIXELS = (4 * 28 * 28, 1280 * 28 * 28)
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"


@dataclass(frozen=True)
class ChatProcessor:
    """Makes a chat model's inputs: the tokenizer, the image processor, and the template of a conversation."""

    tokenizer: object
    image_processor: object
    chat_template: str


@dataclass(frozen=True)
class Visual:
    """An image or a video as the vision tower takes it."""

    patches: Tensor  # (time * height * width, values of a patch)
    grid: tuple[int, int, int]  # how many patches in time, height and width
    seconds: float | None = None  # that one step in time takes in a video; None: an image


@dataclass(frozen=True)
class QwenBatch:
    """`inputs.Batch` for these models: B prompts, padded on the left to P tokens, and their images and videos
    (`visuals`).

    An image has as many image tokens as its size requires. `features` (image tokens of all prompts, hidden)
    are what the vision tower makes of them (`rollout.image_features`); computed on every use where None.
    """

    input_ids: Tensor  # (B, P)
    attention_mask: Tensor  # (B, P), 1 = token, 0 = padding
    visuals: tuple[tuple[Visual, ...], ...]  # of each prompt
    merge_size: int  # a token stands for a square of merge_size x merge_size patches
    vocabulary: Vocabulary
    features: Tensor | None = None

    def to(self, device: torch.device | str) -> QwenBatch:
        moved = {name: getattr(self, name).to(device) for name in ("input_ids", "attention_mask")}
        visuals = tuple(
            tuple(replace(visual, patches=visual.patches.to(device)) for visual in each)
            for each in self.visuals
        )
        moved |= {"visuals": visuals, "vocabulary": self.vocabulary.to(device)}
        features = None if self.features is None else self.features.to(device)
        return replace(self, **moved, features=features)

    def image_rows(self, rows: Sequence[int]) -> list[int]:
        """Where the image tokens of prompts `rows` lie in `features`."""
        ends = [0]
        for each in self.visuals:
            ends.append(ends[-1] + sum(tokens_of(visual, self.merge_size) for visual in each))
        return [number for row in rows for number in range(ends[row], ends[row + 1])]

    def select(self, rows: Sequence[int]) -> QwenBatch:
        """The prompts `rows`, without padding that only the others needed."""
        rows = list(rows)
        attention_mask = self.attention_mask[rows]
        start = self.attention_mask.shape[1] - int(attention_mask.sum(1).max())
        return replace(
            self,
            input_ids=self.input_ids[rows, start:],
            attention_mask=attention_mask[:, start:],
            visuals=tuple(self.visuals[row] for row in rows),
            features=None if self.features is None else self.features[self.image_rows(rows)],
        )

    def without_pixels(self) -> QwenBatch:
        """The same batch for a model that is given `features`; grids stay."""
        visuals = tuple(
            tuple(replace(visual, patches=visual.patches[:0]) for visual in each) for each in self.visuals
        )
        return replace(self, visuals=visuals)


def tokens_of(visual: Visual, merge_size: int) -> int:
    return prod(visual.grid) // merge_size**2


# ---- prompts, images and videos as inputs


def load_processor(name: str, pixels: tuple[int, int] = PIXELS, revision: str = "main") -> ChatProcessor:
    """The processor of a chat model's folder or hub id.

    Args:
        pixels: least and most of an image or frame; others are scaled to lie between.
        revision: of a hub id.

    Raises:
        ValueError: there is no chat template.
        OSError: a file is missing.
    """
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    least, most = pixels
    sizes = {"min_pixels": least, "max_pixels": most}
    images = Qwen2VLImageProcessorPil.from_pretrained(name, revision=revision, **sizes)
    template = tokenizer.chat_template
    if not template:
        template = Qwen2VLProcessor.get_processor_dict(name, revision=revision)[0].get("chat_template")
    if not template:
        raise ValueError("it has no chat template, so no way to put a question")
    return ChatProcessor(tokenizer, images, template)


def encode(
    processor: ChatProcessor,
    prompts: Sequence[str],
    images: Sequence[Sequence[Image.Image | Path]],
    device: torch.device | str = "cpu",
    cache: ImageCache | None = None,
    conversations: Sequence[Sequence[dict]] | None = None,
) -> QwenBatch:
    """Encode one user turn each: the images (one or more, any size) or one video (`Video`), then the prompt.

    Args:
        conversations: turns for the chat template in place of the user turn, with `{"type": "image"}` for
            each image; the prompts are then their texts, for the checks.

    Raises:
        ValueError: prompts and images differ in number, or a prompt has no image.
        UserError: an image is missing or broken; frames of one video differ in size; a prompt holds one of
            the model's special tokens.
    """
    if len(prompts) != len(images) or not prompts or not all(images):
        counts = [len(each) for each in images]
        raise ValueError(f"{len(prompts)} prompts with {counts} images: each prompt needs one or more")
    tokenizer, merge_size = processor.tokenizer, processor.image_processor.merge_size
    for prompt in prompts:
        if found := [token for token in tokenizer.all_special_tokens if token in prompt]:
            raise UserError(f"the prompt {prompt!r} holds {found[0]!r}, which the model keeps for itself")
    cache = cache or ImageCache()
    apart = {id(each): each for each in images}  # several questions may be about one video
    made = {
        key: (_video(processor, each, cache),)
        if isinstance(each, Video)
        else tuple(Visual(*_still(processor, image, cache)) for image in each)
        for key, each in apart.items()
    }
    visuals = tuple(made[id(each)] for each in images)
    if conversations is None:
        contents = [
            [{"type": "image"}] * len(each) + [{"type": "text", "text": prompt}]
            for prompt, each in zip(prompts, visuals, strict=True)
        ]
        conversations = [[{"role": "user", "content": content}] for content in contents]
    texts = []
    for turns, each in zip(conversations, visuals, strict=True):
        before, *parts = tokenizer.apply_chat_template(
            turns,
            chat_template=processor.chat_template,
            add_generation_prompt=True,
            tokenize=False,
        ).split(IMAGE)
        for visual, part in zip(each, parts, strict=True):
            token = IMAGE if visual.seconds is None else VIDEO
            before += token * tokens_of(visual, merge_size) + part
        texts.append(before)
    ids = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    batch = QwenBatch(ids["input_ids"], ids["attention_mask"], visuals, merge_size, _vocabulary(processor))
    return batch.to(device)


def _still(processor: ChatProcessor, image, cache: ImageCache) -> tuple[Tensor, tuple[int, int, int]]:
    def made(opened: Image.Image) -> Tensor:
        seen = processor.image_processor(images=[opened], return_tensors="pt")
        (_, height, width), patches = seen["image_grid_thw"][0].tolist(), seen["pixel_values"]
        return patches.view(height, width, -1)  # in the processor's order; the shape keeps the grid in mind

    patches = cache.get(image, made)
    return patches.flatten(0, 1), (1, *patches.shape[:2])


def _video(processor: ChatProcessor, frames: Video, cache: ImageCache) -> Visual:
    """Frames as transformers' Qwen2VLVideoProcessor lays them out; the last is repeated to fill its patch."""
    stills, grids = zip(*(_still(processor, frame, cache) for frame in frames), strict=True)
    if len(set(grids)) > 1:
        sizes = " and ".join(f"{grid[1]} x {grid[2]}" for grid in sorted(set(grids))[:2])
        raise UserError(f"frames of one video differ in size ({sizes} patches): bring them to one size")
    together = processor.image_processor.temporal_patch_size
    # An image is a video of `together` equal frames: (patches, channels, time, values of a patch at a time).
    channels = len(processor.image_processor.image_mean)
    once = [patches.view(len(patches), channels, together, -1)[:, :, 0] for patches in stills]
    once += once[-1:] * (-len(once) % together)
    steps = [torch.stack(once[at : at + together], 2).flatten(1) for at in range(0, len(once), together)]
    grid = (len(steps), *grids[0][1:])
    return Visual(torch.cat(steps), grid, seconds=together * frames.interval)


@lru_cache(maxsize=4)
def _vocabulary(processor: ChatProcessor) -> Vocabulary:
    """An answer holds no special token but the one that ends it."""
    tokenizer = processor.tokenizer
    allowed = torch.ones(len(tokenizer), dtype=torch.bool)
    allowed[sorted({*tokenizer.all_special_ids, tokenizer.pad_token_id})] = False
    allowed[tokenizer.eos_token_id] = True
    return Vocabulary(allowed, tokenizer.eos_token_id, tokenizer.pad_token_id)


# ---- what the model makes of them


def vision(core) -> tuple[torch.nn.Module, ...]:
    """The parts that image features come from."""
    return (core.model.visual,)


def image_features(core, batch: QwenBatch) -> Tensor:
    """(image tokens of all prompts, hidden): images and videos go through the vision tower alike."""
    visuals = [visual for each in batch.visuals for visual in each]
    seen = _inputs(visuals)
    return torch.cat(core.get_image_features(seen["pixels"], image_grid_thw=seen["grid"]).pooler_output)


def is_image(core, batch: QwenBatch) -> Tensor:
    """(B, P) bool: which tokens stand for images or videos."""
    config = core.config
    return (batch.input_ids == config.image_token_id) | (batch.input_ids == config.video_token_id)


def positions(core, batch: QwenBatch) -> Tensor:
    """(3, B, P): time, height and width of each token, 0 for padding.

    Whatever follows an image or a video counts on from the greatest position in it, on any axis, as the
    published models were trained. `get_rope_index` of transformers 5.23 leaves time out there, so a video of
    more steps than its image is wide and high runs into the text behind it.
    """
    # Qwen2-VL's time axis counts steps, Qwen2.5-VL's a fixed number of positions a second.
    per_second = getattr(core.config.vision_config, "tokens_per_second", None)
    found = torch.zeros(3, *batch.input_ids.shape, dtype=torch.long)
    real, image = batch.attention_mask.bool().cpu(), is_image(core, batch).cpu()
    for row, visuals in enumerate(batch.visuals):
        parts, at, start = [], 0, 0  # of the tokens that are no padding; `start` is the next position
        where = image[row, real[row]].nonzero().flatten().tolist()
        for visual in visuals:
            size = tokens_of(visual, batch.merge_size)
            first, where = where[0], where[size:]
            parts.append(torch.arange(start, start + first - at).expand(3, -1))
            start += first - at
            time, *sides = visual.grid
            step = 1 if per_second is None or visual.seconds is None else per_second * visual.seconds
            axes = [(torch.arange(time) * step).long()]
            axes += [torch.arange(side // batch.merge_size) for side in sides]
            parts.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1) + start)
            start, at = int(parts[-1].max()) + 1, first + size
        rest = int(real[row].sum()) - at
        parts.append(torch.arange(start, start + rest).expand(3, -1))
        found[:, row, real[row]] = torch.cat(parts, 1)
    return found.to(batch.input_ids.device)


def prefix(core, batch: QwenBatch) -> tuple[Tensor, Tensor, Tensor]:
    """(who sees whom (B, P, P) bool, positions (3, B, P), greatest position (3, B, 1))."""
    valid, found = batch.attention_mask.bool(), positions(core, batch)
    size = valid.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=valid.device).tril()
    own = torch.eye(size, dtype=torch.bool, device=valid.device)  # padding that sees nothing makes NaN
    last = found.amax((0, 2))[None, :, None].expand(3, -1, -1)
    return causal & valid[:, None] | own, found, last


def plain_logits(core, batch: QwenBatch, completions: Completions) -> Tensor:
    """(B * G, T, V): one row per completion, images and all, through the model's own inputs and masks."""
    groups, num_generations, length = completions.tokens.shape
    repeated = batch.select([group for group in range(groups) for _ in range(num_generations)])
    tokens = completions.tokens.view(-1, length)
    before = positions(core, repeated)
    after = torch.arange(1, length + 1, device=tokens.device) + before.amax((0, 2))[:, None]
    visuals = [visual for each in repeated.visuals for visual in each]
    stills = _inputs([visual for visual in visuals if visual.seconds is None])
    videos = _inputs([visual for visual in visuals if visual.seconds is not None])
    return core(
        input_ids=torch.cat([repeated.input_ids, tokens], 1),
        attention_mask=torch.cat([repeated.attention_mask, completions.mask.view_as(tokens).long()], 1),
        position_ids=torch.cat([before, after.expand(3, -1, -1)], 2),
        pixel_values=stills.get("pixels"),
        image_grid_thw=stills.get("grid"),
        pixel_values_videos=videos.get("pixels"),
        video_grid_thw=videos.get("grid"),
        logits_to_keep=length + 1,
        use_cache=False,
    ).logits[:, :-1]


def _inputs(visuals: Sequence[Visual]) -> dict[str, Tensor]:
    """Pixels (patches, values) and grid (N, 3) of images or videos; nothing where there are none."""
    if not visuals:
        return {}
    pixels = torch.cat([visual.patches for visual in visuals])
    return {"pixels": pixels, "grid": torch.tensor([p.grid for p in visuals], device=pixels.device)}
