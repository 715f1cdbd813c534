"""A video as the images of an `Example`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from PIL import Image


class Video(tuple):
    """Images in order of time: one video for Qwen2-VL and Qwen2.5-VL, several images for PaliGemma.

    Args:
        frames: of one size, as an Example's images are: PIL images, or paths.
        interval: seconds between two frames; Qwen's own way samples two a second. Qwen2.5-VL counts its time
            in seconds, Qwen2-VL in frames.

    Raises:
        ValueError: an interval that is no positive number.
    """

    interval: float

    def __new__(cls, frames: Iterable[Image.Image | Path], interval: float = 0.5) -> Video:
        if not (math.isfinite(interval) and interval > 0):
            raise ValueError(f"the interval between two frames is {interval!r}: it must be a number above 0")
        made = super().__new__(cls, frames)
        made.interval = interval
        return made
