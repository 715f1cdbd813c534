"""What every way of training shares: adapter, AdamW and its schedule, and how processes train as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import torch
from accelerate.utils import broadcast, reduce
from transformers import get_scheduler

from spatialvlm import distributed
from spatialvlm.errors import UserError
from spatialvlm.models import loading


@dataclass
class TrainingArgs:
    """Optimizer and adapter; the defaults are the published GRPO-v2 run of PaliGemma 2 on SAT."""

    learning_rate: float = field(default=2e-5, metadata={"help": "of AdamW"})
    lr_scheduler: Literal["linear", "cosine", "constant"] = field(
        default="linear", metadata={"help": "how the learning rate goes after the warm-up"}
    )
    warmup_steps: int = field(default=0, metadata={"help": "steps over which the learning rate rises from 0"})
    weight_decay: float = field(default=0.01, metadata={"help": "of AdamW"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradients are clipped to this norm"})
    max_steps: int = field(default=1000, metadata={"help": "optimizer steps"})
    lora_r: int = field(default=16, metadata={"help": "rank of the adapter"})
    lora_alpha: int = field(default=32, metadata={"help": "scale of the adapter, over its rank"})
    lora_dropout: float = field(default=0.05, metadata={"help": "dropout before the adapter, in training"})
    lora_target_modules: list[str] = field(
        default_factory=lambda: list(loading.LORA_MODULES),
        metadata={"help": "layers with an adapter, by the last part of their name"},
    )
    lora_scope: Literal["language", "all"] = field(
        default="language", metadata={"help": "all = the vision tower's layers of these names too"}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "make activations anew in the backward pass: less memory, slower"}
    )
    seed: int = field(default=0, metadata={"help": "of everything random"})

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        self._check_numbers(positive=("max_steps", "learning_rate", "max_grad_norm", "lora_r", "lora_alpha"))
        self._check_numbers(not_negative=("warmup_steps", "weight_decay"))
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"--lora_dropout {self.lora_dropout}: must be at least 0 and less than 1")

    def _check_numbers(self, positive: Sequence[str] = (), not_negative: Sequence[str] = ()) -> None:
        for name in positive:
            if not getattr(self, name) > 0:
                raise UserError(f"--{name} {getattr(self, name)}: must be greater than 0")
        for name in not_negative:
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name} {getattr(self, name)}: must not be negative")


def add_adapter(model, args: TrainingArgs):
    """The model with a fresh adapter (`models.add_lora`), or with the one it has; checkpointing as asked."""
    if not hasattr(model, "peft_config"):
        torch.manual_seed(args.seed)  # whatever was drawn before, the adapter starts the same
        model = loading.add_lora(
            model, args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules, args.lora_scope
        )
    if args.gradient_checkpointing:
        # transformers 5.17 knows the older of the two names alone, and 5.23 warns of it.
        newer = getattr(model, "activation_checkpointing_enable", None)
        (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return model


def optimizer_and_scheduler(parameters: Sequence[torch.nn.Parameter], args: TrainingArgs):
    """AdamW over `parameters`, and its learning-rate schedule over `args.max_steps` steps."""
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, weight_decay=args.weight_decay)
    name = "constant_with_warmup" if args.lr_scheduler == "constant" else args.lr_scheduler
    return optimizer, get_scheduler(name, optimizer, args.warmup_steps, args.max_steps)


def same_start(parameters: Sequence[torch.nn.Parameter]) -> None:
    """All processes take over the first one's adapter."""
    for parameter in parameters:
        broadcast(parameter.data)


def add_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Adds gradients up over processes, once a step: an adapter is small, so the model needs no wrapper."""
    if distributed.state().num_processes == 1:
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    total = reduce(torch.cat([grad.flatten() for grad in grads]), "sum")
    for parameter, grad in zip(parameters, total.split([g.numel() for g in grads]), strict=True):
        parameter.grad = grad.view_as(parameter)


def seed_dropout(seed: int, steps: int) -> None:
    """Dropout follows from seed, step and process: a run that is gone on with sees what it would have."""
    key = f"{seed}-step-{steps}-process-{distributed.state().process_index}"
    torch.manual_seed(Random(key).getrandbits(62))
