"""Questions made ready for the model by worker processes, which decode and resize while the model runs.

A batch holds what the model needs and the questions without their pictures, so that little goes between
processes. Batches come in order, and are the same whatever the number of workers is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset
from transformers import ProcessorMixin

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import rollout
from spatialvlm.models.inputs import Batch

AHEAD = 2  # batches that each worker holds ready


@dataclass(frozen=True)
class Prepared:
    """Questions without their pictures, and the model's inputs for them; None for no questions."""

    examples: list[Example]
    inputs: Batch | None


def prepared(
    processor: ProcessorMixin, examples: Sequence[Example], batches: Sequence[Sequence[int]], workers: int
) -> Iterator[Prepared]:
    """Batches of `examples`, by their indices.

    Args:
        workers: processes beside this one; 0 prepares each batch here when its turn comes.

    Raises:
        UserError: an image is missing or broken, when the turn of its batch comes.
    """
    source = _Batches(processor, examples, batches)
    if not workers:
        yield from map(source.make, range(len(batches)))
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    loader = DataLoader(
        source,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD,
        multiprocessing_context="fork",  # examples are made by local functions, which cannot be sent
    )
    for found in loader:
        if isinstance(found, str):
            raise UserError(found)
        yield found


class _Batches(Dataset):
    def __init__(self, processor, examples: Sequence[Example], batches: Sequence[Sequence[int]]):
        self.processor, self.examples, self.batches = processor, examples, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Prepared | str:
        """In a worker: a batch, or the message of what is wrong with it, since DataLoader rewrites errors."""
        try:
            return self.make(number)
        except UserError as error:
            return str(error)

    def make(self, number: int) -> Prepared:
        batch = [self.examples[index] for index in self.batches[number]]
        return Prepared([example.without_images() for example in batch], self._inputs(batch))

    def _inputs(self, batch: Sequence[Example]) -> Any:
        if not batch:
            return None
        prompts, images = [example.prompt for example in batch], [example.images for example in batch]
        return rollout.encode(self.processor, prompts, images)
