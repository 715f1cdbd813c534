"""One training loop for GRPO, SFT and DPO: adapter, optimizer, update and progress.

A step of every method: sample or select examples -> loss of micro-batches -> backward -> add gradients over
processes -> finite? -> clip -> step -> log -> save. A method subclasses `Trainer` and gives its loss to
`update`; the rest is here. Order of examples, sampling and dropout follow from seed, step and process, so a
resumed run ends bit for bit as one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import ClassVar, Literal, TypeVar

import torch
from accelerate.utils import broadcast, reduce
from torch import Tensor
from tqdm import tqdm
from transformers import get_scheduler

from spatialvlm import distributed
from spatialvlm.errors import UserError, require_above_zero, require_at_least
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import loading, precision
from spatialvlm.models.sharding import in_step
from spatialvlm.training.checkpoints import Checkpoints, load_state, save_state

T = TypeVar("T")


@dataclass
class TrainingArgs:
    """Optimizer, adapter and size of a step; the defaults are the published GRPO-v2 run of PaliGemma 2."""

    FLAG_GROUP: ClassVar = "training"
    per_pass: ClassVar[str]  # the flag for prompts per forward pass, which each method names as published

    learning_rate: float = field(default=2e-5, metadata={"help": "learning rate of AdamW"})
    lr_scheduler: Literal["linear", "cosine", "constant"] = field(
        default="linear", metadata={"help": "learning-rate schedule after the warm-up"}
    )
    warmup_steps: int = field(default=0, metadata={"help": "steps over which the learning rate rises from 0"})
    weight_decay: float = field(default=0.01, metadata={"help": "weight decay of AdamW"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "norm to which gradients are clipped"})
    max_steps: int = field(default=1000, metadata={"help": "optimizer steps"})
    gradient_accumulation_steps: int = field(
        default=16, metadata={"help": "forward passes per step and device, each with its backward pass"}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "recompute activations in the backward pass: less memory, slower"}
    )
    lora_r: int = field(default=16, metadata={"help": "rank of the adapter"})
    lora_alpha: int = field(default=32, metadata={"help": "scale of the adapter, divided by its rank"})
    lora_dropout: float = field(default=0.05, metadata={"help": "dropout before the adapter, in training"})
    lora_target_modules: list[str] = field(
        default_factory=lambda: list(loading.LORA_MODULES),
        metadata={"help": "layers with an adapter, by the last part of their name"},
    )
    lora_scope: Literal["language", "all"] = field(
        default="language", metadata={"help": "all = the vision tower's layers of these names too"}
    )
    seed: int = field(default=0, metadata={"help": "seed of everything random"})

    @property
    def prompts_per_pass(self) -> int:
        return getattr(self, self.per_pass)

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        above_zero = ("max_steps", "learning_rate", "max_grad_norm", "lora_r", "lora_alpha", self.per_pass)
        names = (*above_zero, "gradient_accumulation_steps")
        require_above_zero(**{name: getattr(self, name) for name in names})
        require_at_least(0, warmup_steps=self.warmup_steps, weight_decay=self.weight_decay)
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"--lora_dropout {self.lora_dropout}: must be at least 0 and less than 1")


def add_adapter(model, args: TrainingArgs):
    """The model with a fresh adapter, or the one it has; with checkpointing if `args` ask for it."""
    if not hasattr(model, "peft_config"):
        torch.manual_seed(args.seed)  # the adapter starts the same whatever was random before
        model = loading.add_lora(
            model, args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules, args.lora_scope
        )
    if args.gradient_checkpointing:
        # transformers 5.17 knows the older of the two names alone, and 5.23 warns of it.
        newer = getattr(model, "activation_checkpointing_enable", None)
        (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return model


@lru_cache(maxsize=2)  # a step may reach from one epoch into the next
def _epoch_order(seed: int, epoch: int, size: int) -> list[int]:
    order = list(range(size))
    Random(f"{seed}-epoch-{epoch}").shuffle(order)
    return order


def example_index(number: int, size: int, seed: int) -> int:
    """Which of `size` examples comes at `number`; every epoch goes through all in its own order."""
    return _epoch_order(seed, number // size, size)[number % size]


class Trainer:
    """One run of training; a method writes `step`, which calls `update` with its loss.

    The state of a run is the trainable weights, optimizer, scheduler and loss scale, `steps` (taken) and
    `drawn` (prompts so far, over all processes): all that is random follows from the seed and those two.

    Weights stay in the dtype they were loaded in, and adapters in float32, without autocast.

    Args:
        model: with a trainable adapter (`add_adapter`).

    Raises:
        UserError: invalid arguments, or no examples.
        ValueError: a model without a trainable adapter.
    """

    name: ClassVar[str]  # shown at the progress bar
    shown: ClassVar[Sequence[str]] = ("loss",)  # metrics beside the bar
    less_memory: ClassVar[str]  # advice: flags to change when memory does not suffice
    less_divergence: ClassVar[str] = "a lower --learning_rate"

    def __init__(self, model, processor, examples: Sequence[Example], args: TrainingArgs):
        args.check()
        if not examples:
            raise UserError("there are no examples to train on; check --data and --train_limit")
        prefetch(examples)
        self.model, self.processor, self.examples, self.args = model.eval(), processor, examples, args
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters or not hasattr(model, "disable_adapter"):
            raise ValueError("the model needs a trainable adapter (loop.add_adapter)")
        for parameter in self.parameters:
            broadcast(parameter.data)  # all processes start from the first one's adapter
        self.optimizer = torch.optim.AdamW(
            self.parameters, args.learning_rate, weight_decay=args.weight_decay
        )
        schedule = "constant_with_warmup" if args.lr_scheduler == "constant" else args.lr_scheduler
        self.scheduler = get_scheduler(schedule, self.optimizer, args.warmup_steps, args.max_steps)
        # Gradients through float16 layers underflow without a scale; for other dtypes this does nothing.
        self.scaler = torch.amp.GradScaler(
            model.device.type, precision.LOSS_SCALE, enabled=model.dtype == torch.float16
        )
        self.scaler.scale(torch.zeros(1, device=model.device))  # gives it its state, on every process alike
        self.steps = self.drawn = 0

    def step(self) -> dict[str, float]:
        """Learn from the next prompts; the metrics, the same on every process."""
        raise NotImplementedError

    def samples(self, count: int = 4) -> list[dict]:
        """Prompts of the last step with sampled completions, where the method samples any."""
        return []

    def take_step(self) -> dict[str, float]:
        """Take one step; its metrics with number, epoch and seconds."""
        start = time.perf_counter()
        try:
            metrics = self.step()
        except torch.OutOfMemoryError:
            raise UserError(f"the device has too little memory; use {self.less_memory}") from None
        self.steps += 1
        epoch, seconds = self.drawn / len(self.examples), time.perf_counter() - start
        return {"step": self.steps, **metrics, "epoch": epoch, "seconds": seconds}

    def next_micro_batches(self, encode: Callable[[list[Example]], T]) -> list[T]:
        """Encode this process's micro-batches of the next step; a broken image aborts all processes."""
        processes, size = distributed.state(), self.args.prompts_per_pass
        stride = size * processes.num_processes
        numbers = range(self.drawn, self.drawn + stride * self.args.gradient_accumulation_steps)
        self.drawn = numbers.stop
        encoded: list[T] = []

        def read() -> list:
            for start in range(processes.process_index * size, len(numbers), stride):
                rows = [example_index(n, len(self.examples), self.args.seed) for n in numbers[start:][:size]]
                encoded.append(encode([self.examples[row] for row in rows]))
            return []

        distributed.agree(read)
        return encoded

    def update(
        self,
        micro_batches: Sequence[T],
        loss: Callable[[T], tuple[Tensor, ...]],
        sums: Sequence[str] = (),
    ) -> dict[str, float]:
        """Take one optimizer step. Without micro-batches on any process, weights stay.

        Args:
            micro_batches: of this process; each may have another number of them.
            loss: maps a micro-batch to its part of the step's loss (parts add up to the loss over all
                micro-batches and processes), and to values for `sums`.
            sums: names of what is added up beside the loss.

        Returns:
            `loss`, `grad_norm` before clipping, `lr`, and `sums`.

        Raises:
            UserError: loss or gradient is not finite; the weights are as before.
        """
        # Dropout follows from seed, step and process: a resumed run sees what it would have seen.
        key = f"{self.args.seed}-step-{self.steps}-process-{distributed.state().process_index}"
        torch.manual_seed(Random(key).getrandbits(62))
        totals = torch.zeros(2 + len(sums), device=self.model.device)

        def learn() -> None:
            with in_step(self.model, backward=True):
                for micro_batch in micro_batches:
                    part, *more = loss(micro_batch)
                    self.scaler.scale(part).backward()
                    totals.add_(torch.stack([torch.ones_like(part), part.detach(), *more]))

        self.model.train()
        learn()
        self.model.eval()
        count, total, *more = (value.item() for value in reduce(totals, "sum"))
        metrics = {"loss": total, "grad_norm": 0.0, "lr": self.scheduler.get_last_lr()[0]}
        norm = self._reduce_and_clip(total, learn) if count else 0.0
        if count:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()  # without gradients it does nothing; the scheduler expects the call
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(norm):  # the scale was too large, so the scaler took no step and has halved it
            return self.update(micro_batches, loss, sums)
        metrics["grad_norm"] = norm
        self.scheduler.step()
        return metrics | dict(zip(sums, more, strict=True))

    def _reduce_and_clip(self, loss: float, learn: Callable[[], None]) -> float:
        """Add gradients up over processes, check and clip them; their norm before clipping."""
        if distributed.state().num_processes > 1:  # once per step: an adapter is small, so no wrapper
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            total = reduce(torch.cat([grad.flatten() for grad in grads]), "sum")
            pieces = total.split([grad.numel() for grad in grads])
            for parameter, grad in zip(self.parameters, pieces, strict=True):
                parameter.grad = grad.view_as(parameter)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.args.max_grad_norm).item()
        # Too large a scale for float16 shows in the gradients alone.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.get_scale() > 1):
            what = "gradient" if math.isfinite(loss) else "loss"
            what = f"the {what} is not finite at step {self.steps + 1}; stopped before it reached the weights"
            raise precision.not_finite(what, self.model, learn, f"use {self.less_divergence}")
        return norm

    def save(self, folder: Path) -> None:
        """Write the state of the run (`checkpoints.save_state`)."""
        more = {"steps": self.steps, "drawn": self.drawn, "scaler": self.scaler.state_dict()}
        save_state(folder, self.model, self.optimizer, self.scheduler, more)

    def load(self, folder: Path) -> None:
        """Restore the state that `save` wrote; training continues identically."""
        state = load_state(folder, self.model, self.optimizer, self.scheduler)
        self.steps, self.drawn = state["steps"], state["drawn"]
        self.scaler.load_state_dict(state["scaler"])


Log = Callable[[dict[str, float], Trainer], None]


def train(
    trainer: Trainer,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Trainer:
    """Take the remaining steps, with a progress bar; the model is in eval mode after.

    Args:
        log: called with every step's metrics and the trainer, on the main process.
        checkpoints: where and how often to save; nowhere if None.
        resume: the checkpoint to resume from.

    Raises:
        UserError: as `Trainer.take_step`; a full disk.
    """
    args, main = trainer.args, distributed.state().is_main_process
    if resume is not None:
        trainer.load(resume)
    bar = tqdm(
        total=args.max_steps, initial=trainer.steps, desc=trainer.name, disable=not main, dynamic_ncols=True
    )
    with bar:
        while trainer.steps < args.max_steps:
            metrics = trainer.take_step()
            shown = {name: f"{metrics[name]:.3f}" for name in trainer.shown if name in metrics}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if log and main:
                log(metrics, trainer)
            if checkpoints and checkpoints.due(trainer.steps, args.max_steps):
                checkpoints.save(trainer.steps, trainer.save)
    return trainer
