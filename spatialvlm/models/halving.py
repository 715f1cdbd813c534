"""Batches that are halved where the device's memory does not hold them.

Only for passes that nothing is learnt from: their results do not depend on the batches.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from spatialvlm.models.sharding import is_sharded

Item = TypeVar("Item")
Result = TypeVar("Result")


class Halving:
    """Work in batches; a size that memory did not hold is not tried again.

    A model sharded over processes is exempt, since a pass that fails on one of them leaves the others waiting
    for it.

    Args:
        model: what the work runs.
        flag: the flag of the batch size, for the message.
        batch_size: its value.
    """

    def __init__(self, model, flag: str, batch_size: int):
        self.model, self.flag, self.batch_size = model, flag, batch_size
        self._said = False

    def __call__(
        self, work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], each: int = 1
    ) -> list[Result]:
        """The results of `work`, one per item, in their order.

        Args:
            each: how much of the batch size an item takes; a batch has at least one item.

        Raises:
            torch.OutOfMemoryError: there is too little memory for a single item, or the model is sharded.
        """
        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results) :][: max(1, self.batch_size // each)]
            try:
                results += work(batch)
                continue
            except torch.OutOfMemoryError:
                if len(batch) == 1 or is_sharded(self.model):
                    raise
            # Behind the except clause: the error is gone, and with it the tensors that its traceback held.
            self._halve(len(batch), each)
        return results

    def _halve(self, failed: int, each: int) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        self.batch_size = failed // 2 * each
        if not self._said:
            self._said = True
            print(
                f"\nout of memory in a batch of {failed * each}: continuing with {self.batch_size} or less, "
                f"which changes no result; --{self.flag} {self.batch_size} avoids it",
                file=sys.stderr,
                flush=True,
            )
