"""Image features of prompts, which several questions about the same images share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spatialvlm.models import rollout
from spatialvlm.models.inputs import Batch
from spatialvlm.models.qwen import QwenBatch

KEPT = 2**26  # bytes, on the model's device: questions about the same images follow each other


class Features:
    """Computes each image's features once, if questions about it follow each other.

    For a model whose vision tower does not change meanwhile.
    """

    def __init__(self, model, max_bytes: int = KEPT):
        self.model, self.max_bytes = model, max_bytes
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def of(self, batch: Batch | QwenBatch, images: Sequence[str | None]) -> Batch | QwenBatch:
        """The batch on the model's device, with its features in place of its pixels.

        Args:
            images: of each prompt, a name of its images; None where no other prompt has them.
        """
        names = [row if name is None else name for row, name in enumerate(images)]
        first: dict[str | int, int] = {}
        for row, name in enumerate(names):
            first.setdefault(name, row)
        found: dict[str | int, Tensor] = {name: kept for name, kept in self._kept.items() if name in first}
        new = {name: row for name, row in first.items() if name not in found}
        if new:
            part = batch if len(new) == len(names) else batch.select([*new.values()])
            part = part.to(self.model.device)
            features = rollout.image_features(self.model, part)
            found |= {name: features[part.image_rows([row])] for row, name in enumerate(new)}
        for name in found:
            if isinstance(name, str):
                self._kept[name] = found[name]
                self._kept.move_to_end(name)
        while sum(each.nbytes for each in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)
        together = torch.cat([found[name] for name in names])
        return replace(batch.without_pixels().to(self.model.device), features=together)
