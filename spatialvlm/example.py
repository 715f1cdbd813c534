"""One question about one or more images: the form that every data set is converted to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from spatialvlm.errors import UserError

# What Pillow raises for files that are no images, too large, or broken (PNGs also by the latter two).
BROKEN_IMAGE = (OSError, Image.DecompressionBombError, SyntaxError, ValueError)


@dataclass(frozen=True)
class Example:
    """A question with its images and gold answer.

    Args:
        id: unique in its data set.
        images: PIL images, or paths that are opened when needed (`open_images`).
        question: the bare question, without choices or instructions.
        answer: the gold answer as the benchmark writes it: `(B)` in CV-Bench, the choice's text in SAT.
        task: the benchmark's own name of the kind of question: `Count`, `Relation`, ...
        choices: the choices' texts in the order shown, or None for a free-form question.
        prompt: the whole text shown to a model; the question itself where it is empty.
        meta: anything else a data set knows (source, scene index, boxes, program).

    Raises:
        ValueError: an empty id, question, answer or task, no image, or fewer than two choices; the message
            names the row and the field.
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
        if not self.prompt:
            object.__setattr__(self, "prompt", self.question)

    def without_images(self) -> Example:
        """The same question with a name in the place of each image: small, to be kept or sent."""
        images: tuple = self.images
        names = tuple(Path(f"{self.id} image {number}") for number in range(len(images)))
        return replace(self, images=Video(names, images.interval) if isinstance(images, Video) else names)

    def open_images(self) -> list[Image.Image]:
        """The images in RGB, decoded. Raises UserError naming the file where one is missing or broken."""
        return [open_image(image) for image in self.images]


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


def open_image(image: Image.Image | Path) -> Image.Image:
    """An RGB image, fully decoded. Raises UserError naming the file where it is missing or broken."""
    name = getattr(image, "filename", "in memory") if isinstance(image, Image.Image) else image
    try:
        if isinstance(image, Image.Image):
            return image.convert("RGB")  # decodes one that was opened lazily
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"image {image} does not exist") from None
    except BROKEN_IMAGE as error:
        message = f"image {name} cannot be read ({error}); replace the file or remove its row"
        raise UserError(message) from None
