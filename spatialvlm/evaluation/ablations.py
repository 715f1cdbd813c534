"""Ablations: the same questions without their images, to see what the text gives away."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples, mapped, prefetch
from spatialvlm.images import open_image

_GREY = (128, 128, 128)  # near what PaliGemma's normalisation maps to 0


def shuffle_images(examples: Sequence[Example], seed: int = 0) -> Sequence[Example]:
    """Give each question a different image, another question's; `meta["images_of"]` names that question.

    Images stay within their task, and go across tasks only where a task has too few different ones.

    Raises:
        UserError: more than half of the questions have one and the same image.
    """
    pools: dict[int, dict[str, list[int]]] = {}  # by number of images, then by task: who may swap
    identities = []
    prefetch(examples)
    for index, example in enumerate(examples):
        pools.setdefault(len(example.images), {}).setdefault(example.task, []).append(index)
        identities.append(tuple(_identity(image) for image in example.images))
    givers: dict[int, int] = {}
    for tasks in pools.values():
        rng = Random(seed)
        swaps = [_derange(pool, identities, rng) for pool in tasks.values()]
        if None in swaps:
            swaps = [_derange([index for pool in tasks.values() for index in pool], identities, rng)]
        if None in swaps:
            raise UserError(
                "--shuffle_images: over half of the questions have one and the same image; raise --limit"
            )
        for swap in swaps:
            givers |= swap

    def make(index: int) -> Example:
        example, giver = examples[index], examples[givers[index]]
        return replace(example, images=giver.images, meta=example.meta | {"images_of": giver.id})

    return LazyExamples(make, range(len(examples)), kept=1, sources=(examples,))


def blank_images(examples: Sequence[Example]) -> Sequence[Example]:
    """Make every image grey, of its own size; marked by `meta["image_blanked"]`."""

    def blank(example: Example) -> Example:
        images = tuple(Image.new("RGB", image.size, _GREY) for image in example.open_images())
        return replace(example, images=images, meta=example.meta | {"image_blanked": True})

    return mapped(examples, blank)


def _derange(pool: list[int], identities: Sequence[tuple], rng: Random) -> dict[int, int] | None:
    """Receivers and givers of images, none its own; None where over half of a pool have one and the same.

    Questions with one image form a block, and blocks come in a random order. Shifting everyone by the size of
    the largest block takes each out of its own.
    """
    blocks: dict[tuple, list[int]] = {}
    for index in pool:
        blocks.setdefault(identities[index], []).append(index)
    largest = max(map(len, blocks.values()))
    if 2 * largest > len(pool):
        return None
    shuffled = rng.sample(list(blocks.values()), len(blocks))
    order = [index for block in shuffled for index in rng.sample(block, len(block))]
    return dict(zip(order, order[largest:] + order[:largest], strict=True))


def _identity(image) -> str:
    """What identifies an image: its path, or a hash of its pixels."""
    if isinstance(image, Image.Image):
        return hashlib.sha256(open_image(image).tobytes()).hexdigest()
    return str(image)
