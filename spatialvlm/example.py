"""One question about one or more images: the form that every data set is converted to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from spatialvlm.errors import RowError
from spatialvlm.images import open_image

# What stands for an image or a video in the texts of LLaVA, PaliGemma, Qwen, Llama, Phi, Gemma, Pixtral and
# InternVL, or for a turn or an end in their templates of chats; not `<image 1>`, by which questions refer to
# their images.
_IMAGE_TOKEN = (
    r"(?:<(?:image|video|img|/img|im_start|im_end|img_context|image_placeholder|imagehere|start_of_image|"
    r"end_of_image|image_soft_token|bos|eos|pad|end_of_turn)>|\[(?:/?INST|IMG|IMG_BREAK|IMG_END)\]|"
    r"<\|(?:image|video|vision)(?:_\w+)?\|>|<\|(?:object_ref|box|quad)_(?:start|end)\|>|"
    r"<\|(?:im_end|endoftext|end_of_text|begin_of_text|eot_id)\|>|"
    r"(?:<\|im_start\|>|<start_of_turn>)(?:(?:system|user|assistant|model)\b)?|"
    r"<\|start_header_id\|>(?:\w+<\|end_header_id\|>)?)"
)
_IMAGE_TOKENS = re.compile(rf"{_IMAGE_TOKEN}(?:\s*{_IMAGE_TOKEN})*(\s*)", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """A question with its images and gold answer.

    Args:
        id: unique in its data set.
        images: PIL images, or paths that are opened when needed (`open_images`).
        question: the bare question, without choices or instructions. Tokens that stand for images
            (`<image>`, `<|image_pad|>`) and those of chat templates (`<|im_start|>user`, `<eos>`) are taken
            off, here and in the prompt: a model's own come before it.
        answer: the gold answer as the benchmark writes it: `(B)` in CV-Bench, the choice's text in SAT.
        task: the benchmark's own name of the kind of question: `Count`, `Relation`, ...
        choices: the choices' texts in the order shown, or None for a free-form question.
        prompt: the whole text shown to a model; the question itself where it is empty.
        meta: anything else a data set knows (source, scene index, boxes, program).

    Raises:
        ValueError: an empty id, question, answer or task, no image, or fewer than two choices; the message
            names the row and the field.
        RowError: a question of nothing but such tokens.
    """

    id: str
    images: tuple[Image.Image | Path, ...]
    question: str
    answer: str
    task: str
    choices: tuple[str, ...] | None = None
    prompt: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "question", "answer", "task"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"row {self.id!r}: field '{name}' must be a non-empty text, not {value!r}")
        if not self.images:
            raise ValueError(f"row {self.id!r}: field 'images' is empty")
        if self.choices is not None and len(self.choices) < 2:
            raise ValueError(f"row {self.id!r}: field 'choices' needs at least two, not {self.choices!r}")
        question = without_image_tokens(self.question)
        if not question:
            message = f"row {self.id!r}: its question is only {self.question.strip()!r}; correct or remove it"
            raise RowError(message, "no question but image tokens")
        prompt = without_image_tokens(self.prompt.replace(self.question, question)) or question
        object.__setattr__(self, "question", question)
        object.__setattr__(self, "prompt", prompt)

    def without_images(self) -> Example:
        """The same question with a name in the place of each image: small, to be kept or sent."""
        images: tuple = self.images
        names = tuple(Path(f"{self.id} image {number}") for number in range(len(images)))
        return replace(self, images=Video(names, images.interval) if isinstance(images, Video) else names)

    def open_images(self) -> list[Image.Image]:
        """The images as viewers show them (`open_image`, whose errors it raises)."""
        return [open_image(image) for image in self.images]


def without_image_tokens(text: str) -> str:
    """The text without tokens for images and turns and the line or space they take; else unchanged."""
    kept, start = [], 0
    for found in _IMAGE_TOKENS.finditer(text):
        before = text[start : found.start()]
        kept.append(before.rstrip())
        if len(kept[-1]) < len(before):  # between words, one of the two gaps goes; else what follows
            kept.append(found[1])
        start = found.end()
    return "".join([*kept, text[start:]]).strip() if start else text


class Video(tuple):
    """Images in order of time: one video for Qwen2-VL and Qwen2.5-VL, several images for PaliGemma.

    Args:
        frames: of one size, as an Example's images are: PIL images, or paths.
        interval: seconds between two frames; Qwen samples two per second. Qwen2.5-VL counts its time
            in seconds, Qwen2-VL in frames.

    Raises:
        ValueError: an interval that is no positive number.
    """

    interval: float

    def __new__(cls, frames: Iterable[Image.Image | Path], interval: float = 0.5) -> Video:
        if not (math.isfinite(interval) and interval > 0):
            raise ValueError(f"the interval between two frames is {interval!r}: it must be a number above 0")
        video = super().__new__(cls, frames)
        video.interval = interval
        return video
