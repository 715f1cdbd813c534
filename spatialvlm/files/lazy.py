"""Examples that are made when they are looked at, so that memory does not grow with a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import overload

from spatialvlm.example import Example

KEPT = 4096  # examples held in memory, some 60 kB each where they are rendered


class LazyExamples(Sequence[Example]):
    """Examples that are made when they are looked at; the last `KEPT` stay. Slices are lazy too.

    Args:
        make: makes the example with a number; it must always make the same.
        indices: the numbers of the examples, in order.
    """

    def __init__(self, make: Callable[[int], Example], indices: Sequence[int]) -> None:
        self.make = make if hasattr(make, "cache_info") else lru_cache(maxsize=KEPT)(make)
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> LazyExamples: ...
    def __getitem__(self, index: int | slice) -> Example | LazyExamples:
        if isinstance(index, slice):
            return LazyExamples(self.make, self.indices[index])
        return self.make(self.indices[index])
