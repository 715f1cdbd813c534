"""Prompts and images as PaliGemma's inputs, and completions back as text."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from spatialvlm.images import open_image

_NEVER_ANSWERED = re.compile(r"<image>|<loc\d{4}>|<seg\d{3}>")


@dataclass(frozen=True)
class Vocabulary:
    """What a completion may be made of: `allowed` (V,) bool by token id, and the ids that end and pad one."""

    allowed: Tensor
    eos: int
    pad: int

    def to(self, device: torch.device | str) -> Vocabulary:
        return replace(self, allowed=self.allowed.to(device))


@dataclass(frozen=True)
class Batch:
    """B prompts, padded on the left to P tokens, with their N images in reading order.

    `features` (N, image tokens, hidden) are the projected image features (`rollout.image_features`); where it
    is None they are computed on every use. Set it by `dataclasses.replace` to pay for the vision tower once.
    """

    input_ids: Tensor  # (B, P)
    attention_mask: Tensor  # (B, P), 1 = token, 0 = padding
    pixel_values: Tensor  # (N, 3, height, width)
    image_counts: tuple[int, ...]  # images of each prompt
    vocabulary: Vocabulary
    features: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        moved = {
            name: getattr(self, name).to(device) for name in ("input_ids", "attention_mask", "pixel_values")
        }
        features = None if self.features is None else self.features.to(device)
        return replace(self, **moved, vocabulary=self.vocabulary.to(device), features=features)

    def image_rows(self, rows: Sequence[int]) -> list[int]:
        """Where the images of prompts `rows` lie in `pixel_values` and `features`."""
        starts = [sum(self.image_counts[:row]) for row in rows]
        return [
            start + i for start, row in zip(starts, rows, strict=True) for i in range(self.image_counts[row])
        ]

    def select(self, rows: Sequence[int]) -> Batch:
        """The prompts `rows`, without padding that only the others needed."""
        rows, images = list(rows), self.image_rows(rows)
        attention_mask = self.attention_mask[rows]
        start = self.attention_mask.shape[1] - int(attention_mask.sum(1).max())
        return replace(
            self,
            input_ids=self.input_ids[rows, start:],
            attention_mask=attention_mask[:, start:],
            pixel_values=self.pixel_values[images],
            image_counts=tuple(self.image_counts[row] for row in rows),
            features=None if self.features is None else self.features[images],
        )

    def without_pixels(self) -> Batch:
        """The same batch for a model that is given `features`."""
        return replace(self, pixel_values=self.pixel_values[:0])


@dataclass(frozen=True)
class Completions:
    """G completions of each of B prompts, padded on the right to T tokens.

    `mask` is True for real tokens, the closing end token included. `logps` are log-probabilities under the
    policy that sampled the tokens, 0 where `mask` is False.
    """

    tokens: Tensor  # (B, G, T)
    mask: Tensor  # (B, G, T) bool
    logps: Tensor  # (B, G, T) float32

    def select(self, rows: Sequence[int]) -> Completions:
        """The completions of prompts `rows`, without padding that only the others needed."""
        rows = list(rows)
        length = int(self.mask[rows].sum(-1).max())
        return Completions(*(part[rows, :, :length] for part in (self.tokens, self.mask, self.logps)))


class ImageCache:
    """Preprocessed images by path or PIL object; beyond `max_bytes` the one unused for longest goes."""

    def __init__(self, max_bytes: int = 2**29):
        self.max_bytes = max_bytes
        self._entries: OrderedDict = (
            OrderedDict()
        )  # key -> (source, pixels); a source kept keeps its id its own
        self._bytes = 0

    def pixels(self, processor, image: Image.Image | Path) -> Tensor:
        """(3, height, width) as the processor makes it. Raises UserError for a missing or broken image."""
        return self.get(
            image, lambda opened: processor.image_processor(opened, return_tensors="pt")["pixel_values"][0]
        )

    def get(self, image: Image.Image | Path, make: Callable[[Image.Image], Tensor] | None = None) -> Tensor:
        """What `make` makes of the image in RGB, unless it is there already.

        Raises:
            UserError: a missing or broken image.
        """
        key = id(image) if isinstance(image, Image.Image) else image
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][1]
        pixels = make(open_image(image))
        self.add(image, pixels)
        return pixels

    def add(self, image: Image.Image | Path, pixels: Tensor) -> None:
        """Keep what was made of an image."""
        key = id(image) if isinstance(image, Image.Image) else image
        if key not in self._entries:
            self._bytes += _size(image, pixels)
        self._entries[key] = (image, pixels)
        while self._bytes > self.max_bytes:
            self._bytes -= _size(*self._entries.popitem(last=False)[1])


def _size(source: Image.Image | Path, pixels: Tensor) -> int:
    held = source.width * source.height * len(source.getbands()) if isinstance(source, Image.Image) else 0
    return pixels.nbytes + held


def forbidden_tokens(processor) -> list[int]:
    """Ids that no answer may hold: padding, `<image>`, `<loc....>` and `<seg...>`."""
    tokenizer = processor.tokenizer
    named = {i for token, i in tokenizer.get_vocab().items() if _NEVER_ANSWERED.fullmatch(token)}
    return sorted(named | {tokenizer.pad_token_id})


@lru_cache(maxsize=4)
def _vocabulary(processor, size: int, device: str) -> Vocabulary:
    allowed = torch.ones(size, dtype=torch.bool)
    allowed[forbidden_tokens(processor)] = False
    tokenizer = processor.tokenizer
    return Vocabulary(allowed.to(device), tokenizer.eos_token_id, tokenizer.pad_token_id)


def encode(
    processor,
    prompts: Sequence[str],
    images: Sequence[Sequence[Image.Image | Path]],
    device: torch.device | str = "cpu",
    cache: ImageCache | None = None,
) -> Batch:
    """Prompts and the images of each (one or more, any size), laid out as PaliGemmaProcessor does it.

    Each prompt becomes `<image>...<image><bos>prompt\\n`. Ragged prompts are padded on the
    left. `cache` avoids re-preprocessing repeated images.

    Raises:
        ValueError: prompts and images differ in number, a prompt has no image, or holds the text `<image>`.
        UserError: an image is missing or broken.
    """
    if len(prompts) != len(images) or not prompts or not all(images):
        counts = [len(each) for each in images]
        raise ValueError(f"{len(prompts)} prompts with {counts} images: each prompt needs one or more")
    if bad := [prompt for prompt in prompts if processor.image_token in prompt]:
        raise ValueError(
            f"the prompt {bad[0]!r} holds {processor.image_token!r}, which is put before it anyway"
        )
    cache = cache or ImageCache()
    tokenizer = processor.tokenizer
    texts = tokenizer([f"{tokenizer.bos_token}{prompt}\n" for prompt in prompts], add_special_tokens=False)
    one_image = [processor.image_token_id] * processor.image_seq_length
    rows = [one_image * len(each) + ids for each, ids in zip(images, texts["input_ids"], strict=True)]
    width = max(map(len, rows))
    pixels = [cache.pixels(processor, image) for each in images for image in each]
    padded = [[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return Batch(
        input_ids=torch.tensor(padded, device=device),
        attention_mask=torch.tensor(mask, device=device),
        pixel_values=torch.stack(pixels).to(device),
        image_counts=tuple(map(len, images)),
        vocabulary=_vocabulary(processor, len(tokenizer), str(device)),
    )


def decode(processor, completions: Completions) -> list[list[str]]:
    """Texts (B lists of G) without special tokens and surrounding blanks."""
    tokenizer = processor.tokenizer
    groups = [
        tokenizer.batch_decode(group, skip_special_tokens=True) for group in completions.tokens.tolist()
    ]
    return [[text.strip() for text in group] for group in groups]
