"""Controls: the same questions without what should decide them. A model that still scores has not looked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples, mapped, prefetch

_GREY = (128, 128, 128)  # near what PaliGemma's normalisation maps to 0


def shuffle_images(examples: Sequence[Example], seed: int = 0) -> Sequence[Example]:
    """Gives each question the image of another one, never the same picture; `meta["images_of"]` names it.

    Images stay within their task, and go across tasks only where a task has too few different ones. What is
    still answered right afterwards the text gave away.

    Raises:
        UserError: more than half of the questions share one picture.
    """
    pools: dict[int, dict[str, list[int]]] = {}  # by number of images, then by task: who may swap
    pictures = []
    prefetch(examples)
    for index, example in enumerate(examples):
        pools.setdefault(len(example.images), {}).setdefault(example.task, []).append(index)
        pictures.append(tuple(_picture(image) for image in example.images))
    givers: dict[int, int] = {}
    for tasks in pools.values():
        rng = Random(seed)
        swaps = [_derange(pool, pictures, rng) for pool in tasks.values()]
        if None in swaps:
            swaps = [_derange([index for pool in tasks.values() for index in pool], pictures, rng)]
        if None in swaps:
            raise UserError("--shuffle_images: over half of the questions share one image; raise --limit")
        for swap in swaps:
            givers |= swap

    def make(index: int) -> Example:
        example, giver = examples[index], examples[givers[index]]
        return replace(example, images=giver.images, meta=example.meta | {"images_of": giver.id})

    return LazyExamples(make, range(len(examples)), kept=1, sources=(examples,))


def blank_images(examples: Sequence[Example]) -> Sequence[Example]:
    """The same questions with every image grey all over and of its size; `meta["image_blanked"]` tells."""

    def blank(example: Example) -> Example:
        images = tuple(Image.new("RGB", image.size, _GREY) for image in example.open_images())
        return replace(example, images=images, meta=example.meta | {"image_blanked": True})

    return mapped(examples, blank)


def _derange(pool: list[int], pictures: Sequence[tuple], rng: Random) -> dict[int, int] | None:
    """Who gets whose images, so that nobody gets its own picture; None where over half of a pool share one.

    Questions of one picture stand side by side, in a random order of pictures. Moving everyone on by the size
    of the largest such block takes each out of its own.
    """
    blocks: dict[tuple, list[int]] = {}
    for index in pool:
        blocks.setdefault(pictures[index], []).append(index)
    largest = max(map(len, blocks.values()))
    if 2 * largest > len(pool):
        return None
    shuffled = rng.sample(list(blocks.values()), len(blocks))
    order = [index for block in shuffled for index in rng.sample(block, len(block))]
    return dict(zip(order, order[largest:] + order[:largest], strict=True))


def _picture(image) -> str:
    """Tells one picture from another: its path, or a hash of its pixels."""
    if isinstance(image, Image.Image):
        return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
    return str(image)
