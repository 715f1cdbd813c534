"""Batches for the model, made while it runs: worker processes open and resize images, up to some bytes.

Questions about the same images that follow each other have them opened and resized once. What a worker makes
comes through a pipe: shared memory is scarce in containers (64 MB by default).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from transformers import ProcessorMixin

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import end_with
from spatialvlm.models import rollout
from spatialvlm.models.inputs import Batch, ImageCache
from spatialvlm.models.qwen import QwenBatch

AHEAD = 2**28  # bytes of images that are held ready, besides the batch at work
MOST_AHEAD = 64  # pieces of work per worker process, however small they are


@dataclass(frozen=True)
class Piece:
    """Questions with the same images, which are preprocessed once; names stand in the images' place."""

    examples: list[Example]
    pixels: list[np.ndarray]  # of each image

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.pixels)


@dataclass(frozen=True)
class Prepared:
    """Questions, without their images, and the model's inputs for them."""

    examples: list[Example]
    inputs: Batch | QwenBatch | None  # None for no questions
    images: list[str | None]  # as `prepared` was given them


def prepared(
    processor: ProcessorMixin,
    examples: Sequence[Example],
    batches: Sequence[Sequence[int]],
    workers: int,
    images: Sequence[str | None] | None = None,
) -> Iterator[Prepared]:
    """Batches of `examples` by their indices, in order and the same for any number of workers.

    Args:
        workers: processes beside this one; 0 prepares each batch here when its turn comes.
        images: of each example, what its images have in common with another's; None where they are its own.

    Raises:
        UserError: an image is missing or broken, when the turn of its batch comes.
    """

    def name(index: int) -> str | None:
        return images[index] if images else None

    def source(index: int) -> str | int:
        return index if name(index) is None else name(index)

    def read(indices: Sequence[int]) -> Piece:
        found = [examples[index] for index in indices]
        cache = ImageCache(sys.maxsize)  # what is made of the images is taken from it
        rollout.encode(processor, [found[0].prompt], [found[0].images], cache=cache)
        pixels = [cache.get(image).numpy() for image in found[0].images]
        names = found[0].without_images().images
        return Piece([replace(example, images=names) for example in found], pixels)

    order = [index for batch in batches for index in batch]
    pieces = [list(indices) for _, indices in groupby(order, source)]
    made = _in_workers(read, pieces, min(workers, len(pieces))) if workers else map(read, pieces)
    questions = ((example, piece.pixels) for piece in made for example in piece.examples)
    for indices in batches:
        batch = [next(questions) for _ in indices]
        if not batch:
            yield Prepared([], None, [])
            continue
        cache = ImageCache(sys.maxsize)
        for example, pixels in batch:
            for image, array in zip(example.images, pixels, strict=True):
                cache.add(image, torch.from_numpy(array))
        found = [example for example, _ in batch]
        prompts, names = [example.prompt for example in found], [example.images for example in found]
        inputs = rollout.encode(processor, prompts, names, cache=cache)
        yield Prepared(found, inputs, [name(index) for index in indices])


def _in_workers(
    read: Callable[[Sequence[int]], Piece], pieces: Sequence[Sequence[int]], workers: int
) -> Iterator[Piece]:
    """What `read` makes of the pieces, in order; those ahead take `AHEAD` bytes, by the largest so far."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    # Forked, since `read` and what makes examples are local functions, which cannot be sent.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start, (read, os.getpid()))
    waiting: deque[Future[Piece]] = deque()
    largest, todo = 0, iter(pieces)
    try:
        while True:
            ahead = min(AHEAD // largest, MOST_AHEAD * workers) if largest else workers
            while len(waiting) < max(1, ahead) and (piece := next(todo, None)):
                waiting.append(pool.submit(_read, piece))
            if not waiting:
                return
            try:
                done = waiting.popleft().result()
            except BrokenProcessPool:
                raise UserError(
                    "a process that reads images was killed, likely for lack of memory; use a smaller "
                    "--num_workers, or 0"
                ) from None
            largest = max(largest, done.nbytes)
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _start(read: Callable[[Sequence[int]], Piece], parent: int) -> None:
    global _reader
    _reader = read  # by the fork: it could not be sent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, ends its workers
    end_with(parent)
    torch.set_num_threads(1)


_reader: Callable[[Sequence[int]], Piece]


def _read(indices: Sequence[int]) -> Piece:
    return _reader(indices)
