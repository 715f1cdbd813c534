"""Examples that are made when they are looked at, so that memory does not grow with a data set."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import Any, overload

from tqdm import tqdm

from spatialvlm.example import Example

KEPT = 4096  # examples held in memory, some 60 kB each where they are rendered
BLOCK = 40  # examples that a process renders before it hands them over: whole scenes, where four share one

Make = Callable[[int], Example]


class LazyExamples(Sequence[Example]):
    """Examples that are made on access; slices are lazy too and share what is kept in memory.

    Args:
        make: makes the example with a number; it must always make the same.
        indices: the numbers of the examples, in order.
        kept: how many of the last ones stay in memory; 1 where they hold decoded photographs.
        rendered: what `make` renders, such as a split, for the progress bar of `prefetch`; None where making
            an example is cheap. Such a `make` must be picklable.
        sources: the examples that `make` looks up, which `prefetch` renders first.
        facts: what a run's config.json is to record of them, such as the rows left out.
    """

    def __init__(
        self,
        make: Make,
        indices: Sequence[int],
        kept: int = KEPT,
        rendered: str | None = None,
        sources: Sequence[Sequence[Example]] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._make, self._kept = make, lru_cache(maxsize=kept)(make)
        self._ahead: dict[int, Example] = {}  # rendered by `prefetch`
        self._rendered, self._sources = rendered, sources
        self.indices = indices
        self.facts = dict(facts or {})

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> LazyExamples: ...
    def __getitem__(self, index: int | slice) -> Example | LazyExamples:
        if isinstance(index, slice):
            part = copy.copy(self)
            part.indices = self.indices[index]
            return part
        number = self.indices[index]
        return self._ahead.get(number) or self._kept(number)

    def prefetch(self) -> None:
        """Renders all examples now, on all cores; see `prefetch`."""
        for source in self._sources:
            prefetch(source)
        todo = [number for number in self.indices if number not in self._ahead]
        if self._rendered is None or not BLOCK < len(todo) <= len(self) <= KEPT:
            return
        blocks = [todo[at : at + BLOCK] for at in range(0, len(todo), BLOCK)]
        workers = min(os.cpu_count() or 1, len(blocks))
        with (
            ProcessPoolExecutor(workers, initializer=end_with, initargs=(os.getpid(),)) as pool,
            tqdm(total=len(todo), desc=f"rendering, {self._rendered}", unit="q", dynamic_ncols=True) as bar,
        ):
            for block, made in zip(
                blocks, pool.map(_make_all, [self._make] * len(blocks), blocks), strict=True
            ):
                self._ahead.update(zip(block, made, strict=True))
                bar.update(len(block))


def mapped(examples: Sequence[Example], change: Callable[[Example], Example], kept: int = 1) -> LazyExamples:
    """The same examples, each changed when it is looked at."""

    def make(index: int) -> Example:
        return change(examples[index])

    return LazyExamples(make, range(len(examples)), kept, sources=(examples,), facts=facts_of(examples))


def facts_of(examples: Sequence[Example]) -> dict[str, Any]:
    """What is to be recorded of examples, whatever holds them; nothing of a list."""
    return examples.facts if isinstance(examples, LazyExamples) else {}


def prefetch(examples: Sequence[Example]) -> None:
    """Render in advance everything that will be accessed; does nothing for examples that are not rendered.

    The small model answers questions faster than they are rendered, so all cores render at once.
    More than memory should hold are rendered on access, and so are all in a launch of several processes, each
    of which needs only its own shard.
    """
    from spatialvlm import distributed  # imports torch, which reading data does not need

    if isinstance(examples, LazyExamples) and distributed.state().num_processes == 1:
        examples.prefetch()


def _make_all(make: Make, numbers: Sequence[int]) -> list[Example]:
    return [make(number) for number in numbers]


def end_with(parent: int) -> None:
    """End this process soon after its parent, which a SIGKILL keeps from ending it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
