"""What a further world adds to the embedded model: low-rank changes of its linear layers, and its words.

They are trained as parametrizations, so that code which reads `layer.weight` sees the changed weight, and are
kept in PEFT's form, a tenth of the model's size; `models.load` merges them into the model.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.utils import parametrize
from transformers import PaliGemmaForConditionalGeneration

RANK = 20
PROJECTOR = "multi_modal_projector.linear"  # may change as a whole: another world looks another way
LAYERS = r".*\.(?:q_proj|k_proj|v_proj|o_proj|out_proj|gate_proj|up_proj|down_proj|fc1|fc2|linear)"


class _LowRank(nn.Module):
    """weight + b @ a; nothing at first."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.b @ self.a


class _Rows(nn.Module):
    """The first rows of a table changed; those of locations and segments stay."""

    def __init__(self, weight: torch.Tensor, count: int) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(count, weight.shape[1]))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        rows = len(self.change)
        return torch.cat([weight[:rows] + self.change, weight[rows:]])


def attach(model: PaliGemmaForConditionalGeneration, words: int) -> None:
    """Puts trainable changes on every linear layer and the first `words` embeddings; all else is frozen."""
    model.requires_grad_(False)
    for name, module in [*model.named_modules()]:
        if isinstance(module, nn.Linear) and re.fullmatch(LAYERS, name):
            rank = module.in_features if name.endswith(PROJECTOR) else RANK
            parametrize.register_parametrization(module, "weight", _LowRank(module.weight, rank))
    embedding = model.get_input_embeddings()
    parametrize.register_parametrization(embedding, "weight", _Rows(embedding.weight, words))


def save(model: PaliGemmaForConditionalGeneration, base: Path, folder: Path) -> None:
    """Writes the changes of a model with `attach`ed parametrizations as a PEFT adapter, in float16.

    Args:
        base: the folder of the model that was changed.
    """
    plain = PaliGemmaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    embedding = model.get_input_embeddings().parametrizations.weight[0]
    whole = {PROJECTOR: plain.model.multi_modal_projector.linear.in_features}
    config = LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        rank_pattern=whole,
        alpha_pattern=whole,
        target_modules=LAYERS,
        trainable_token_indices={"embed_tokens": list(range(len(embedding.change)))},
    )
    adapted = get_peft_model(plain, config)
    with torch.no_grad():
        for name, module in adapted.base_model.model.named_modules():
            if hasattr(module, "lora_A"):
                change = model.get_submodule(name).parametrizations.weight[0]
                module.lora_A["default"].weight.copy_(change.a)
                module.lora_B["default"].weight.copy_(change.b)
            if hasattr(module, "trainable_tokens_delta"):  # PEFT keeps whole rows there, not their change
                rows = len(embedding.change)
                table = model.get_input_embeddings().weight[:rows]
                for delta in module.trainable_tokens_delta.values():
                    delta.copy_(table)
    adapted.peft_config["default"].base_model_name_or_path = ".."  # where the base lies in the repository
    adapted.half().save_pretrained(folder, save_embedding_layers=False)
