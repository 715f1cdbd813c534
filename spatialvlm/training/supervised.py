"""What SFT and DPO share: transformers' loop with our order of examples, checks, metrics and checkpoints.

Examples come in the order of `groups.example_index`: with B prompts a step, step k (from 0) learns from draws
k * B to (k + 1) * B - 1. Order and dropout follow from seed, draw, step and process, so a run that is gone on
with ends as one that was never stopped.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import reduce
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from spatialvlm import distributed
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models.inputs import Completions
from spatialvlm.training.checkpoints import Checkpoints, load_state, save_state
from spatialvlm.training.loop import (
    TrainingArgs,
    add_gradients,
    optimizer_and_scheduler,
    same_start,
    seed_dropout,
)
from spatialvlm.training.sampler import example_index

AfterStep = Callable[[dict[str, float]], None]


@dataclass
class SupervisedArgs(TrainingArgs):
    """How large a step is."""

    per_device_batch_size: int = field(
        default=8, metadata={"help": "prompts of one forward pass on a device"}
    )
    gradient_accumulation_steps: int = field(
        default=2, metadata={"help": "forward passes a step; a step has as many prompts as both make"}
    )
    gradient_checkpointing: bool = field(
        default=True, metadata={"help": "make activations anew in the backward pass: less memory, slower"}
    )

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        self._check_numbers(positive=("per_device_batch_size", "gradient_accumulation_steps"))


def written(processor, texts: Sequence[Sequence[str]]) -> Completions:
    """Texts, G for each of B prompts, as completions: their tokens and the end token.

    `logps` are 0: nobody sampled them.
    """
    tokenizer = processor.tokenizer
    ends = [text + tokenizer.eos_token for group in texts for text in group]
    ids = tokenizer(ends, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    shape = len(texts), len(texts[0]), -1
    tokens, mask = ids["input_ids"].view(shape), ids["attention_mask"].bool().view(shape)
    return Completions(tokens, mask, torch.zeros(tokens.shape))


class Loop(transformers.Trainer):
    """One run. transformers has the loop and the shares of processes; ours are the order of examples, the
    loss scale, the sum over processes, the check before each update, and checkpoints.

    Where a run stands is the trainable weights, the optimizer and scheduler, `steps` (taken) and `drawn`
    (examples, over all processes): all that is random follows from the seed and those two numbers.

    Weights stay in the dtype they are loaded in, and adapters in float32, without autocast, as in GRPO.
    transformers' own `fp16` would compute the adapters in float16 as well, and would go on for ever skipping
    steps; so a scale for float16 is put in accelerate's place for it, and `Step` stops where it runs out.

    A subclass makes a micro-batch of examples in `encode`, and gives its share of the loss to `step.add`.

    Args:
        model: with a trainable adapter (`models.add_lora`).
        settings: for transformers, `transformers_args`.
        step: what is called around every step.
        more: of the next class's arguments.
    """

    def __init__(
        self,
        model,
        processor,
        examples: Sequence[Example],
        args: SupervisedArgs,
        settings: TrainingArguments,
        step: Step,
        **more: Any,
    ):
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.processor, self.examples, self.seed = processor, examples, args.seed
        self.steps = self.drawn = 0
        self.step, step.trainer = step, self
        same_start(self.parameters)
        model._is_accelerate_prepared = True  # keeps DDP off: `Step` adds gradients up, as GRPO does
        super().__init__(
            model=model,
            args=settings,
            optimizers=optimizer_and_scheduler(self.parameters, args),
            callbacks=[step],
            **more,
        )
        self.remove_callback(PrinterCallback)
        self.prompts_per_step = self.get_total_train_batch_size(self.args)  # of all processes
        # Gradients through float16 layers underflow without a scale; for other dtypes this does nothing.
        self.accelerator.scaler = torch.amp.GradScaler(
            model.device.type, enabled=model.dtype == torch.float16
        )

    def encode(self, examples: Sequence[Example]) -> dict[str, Any]:
        """What `compute_loss` takes. Raises UserError for a missing or broken image."""
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        """Of the step just taken, besides `Step`'s own; called once a step."""
        return {}

    def get_train_dataloader(self) -> DataLoader:
        """All micro-batches that are still to come, of this process; accelerate deals them out in turn."""
        remaining = (self.args.max_steps - self.steps) * self.prompts_per_step
        return self.accelerator.prepare(
            DataLoader(
                range(self.drawn, self.drawn + remaining),
                batch_size=self.args.per_device_train_batch_size,
                collate_fn=self._micro_batch,
            )
        )

    def _micro_batch(self, draws: Sequence[int]) -> dict[str, Any]:
        size, inputs = len(self.examples), {}

        def read() -> list:
            rows = [self.examples[example_index(draw, size, self.seed)] for draw in draws]
            inputs.update(self.encode(rows))
            return []

        distributed.agree(read)  # an image that is broken on one process ends all
        return inputs

    def save(self, folder: Path) -> None:
        """Writes where the run stands (`checkpoints.save_state`)."""
        scaler = self.accelerator.scaler.state_dict()
        more = {"steps": self.steps, "drawn": self.drawn, "scaler": scaler}
        save_state(folder, self.model, self.optimizer, self.lr_scheduler, more)

    def load(self, folder: Path) -> None:
        """Stands where `save` was called; what follows is what followed then."""
        state = load_state(folder, self.model, self.optimizer, self.lr_scheduler)
        self.steps, self.drawn = state["steps"], state["drawn"]
        self.accelerator.scaler.load_state_dict(state["scaler"])


class Step(TrainerCallback):
    """What a step has besides transformers' own: seeded dropout, the check before the update, its metrics."""

    def __init__(self, max_grad_norm: float, after_step: AfterStep):
        self.max_grad_norm, self.after_step = max_grad_norm, after_step
        self.trainer: Loop
        self.started = 0.0
        self.total: Tensor | float = 0.0  # this process's part of the loss so far
        self.tokens: Tensor | int | None = None  # of the whole step's answers, where the trainer counts them
        self.metrics: dict[str, float] = {}

    def add(self, loss: Tensor, tokens: Tensor | int | None = None) -> None:
        """A micro-batch's part of the step's loss, on this process."""
        self.total = self.total + loss.detach()
        self.tokens = tokens

    def on_train_begin(self, args, state, control, **_) -> None:
        state.global_step = self.trainer.steps  # the loop's own count, which starts at 0 in every process
        self.started = time.perf_counter()

    def on_step_begin(self, args, state, control, **_) -> None:
        seed_dropout(args.seed, self.trainer.steps)
        self.total = 0.0

    def on_pre_optimizer_step(self, args, state, control, **_) -> None:
        """Adds the gradients up over processes, checks and clips them.

        Raises:
            UserError: they or the loss are not finite, other than by a loss scale that is still too large.
        """
        trainer, scaler = self.trainer, self.trainer.accelerator.scaler
        loss = reduce(self.total, "sum").item()
        add_gradients(trainer.parameters)
        scaler.unscale_(trainer.optimizer.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(trainer.parameters, self.max_grad_norm).item()
        # Too large a scale for float16 shows in the gradients alone: the scaler skips the step and lowers it.
        if not math.isfinite(loss) or not (math.isfinite(norm) or scaler.get_scale() > 1):
            what = "gradient" if math.isfinite(loss) else "loss"
            other = "" if trainer.model.dtype == torch.float32 else ", or --dtype float32"
            where = f"at step {trainer.steps + 1}; stopped before it reached the weights"
            raise UserError(f"the {what} is not finite {where}: use a lower --learning_rate{other}")
        self.metrics = {
            "loss": loss,
            "grad_norm": norm if math.isfinite(norm) else 0.0,  # 0: skipped
            "lr": trainer.lr_scheduler.get_last_lr()[0],
        }
        if self.tokens is not None:
            self.metrics["tokens"] = int(self.tokens)

    def on_step_end(self, args, state, control, **_) -> None:
        trainer = self.trainer
        trainer.steps = state.global_step
        trainer.drawn += trainer.prompts_per_step
        self.after_step(
            {
                "step": trainer.steps,
                **self.metrics,
                **trainer.metrics(),
                "epoch": trainer.drawn / len(trainer.examples),
                "seconds": time.perf_counter() - self.started,
            }
        )
        self.started = time.perf_counter()


def transformers_args(
    args: SupervisedArgs, device: torch.device, kind: type[TrainingArguments] = TrainingArguments, **more: Any
) -> TrainingArguments:
    """The loop's settings, as a `kind`, with nothing written and nothing printed."""
    made = kind(
        output_dir=tempfile.gettempdir(),  # it is made where it is not there, and stays empty
        per_device_train_batch_size=args.per_device_batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        max_steps=args.max_steps,
        max_grad_norm=0,  # `Step` clips, once the loss scale is taken off
        seed=args.seed,
        use_cpu=device.type == "cpu",
        average_tokens_across_devices=True,
        dataloader_pin_memory=device.type == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )
    made.mixed_precision = "no"  # whatever `accelerate config` says: see Loop
    made._n_gpu = min(made.n_gpu, 1)  # a process has one GPU: with more, transformers takes to DataParallel
    return made


Log = Callable[[dict[str, float], Loop], None]


def run(
    name: str,
    make: Callable[[AfterStep], Loop],
    args: SupervisedArgs,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Loop:
    """Takes `args.max_steps` steps, with a progress bar; the model is in eval mode then.

    Args:
        name: of the progress bar.
        make: makes the trainer, which calls what it is given with every step's metrics, on every process.
        log: called with every step's metrics and the trainer, on the main process.
        checkpoints: where to save how the run stands, and how often; nowhere where None.
        resume: the checkpoint to go on from.

    Raises:
        UserError: too little memory, a full disk, numbers that are no longer finite, and whatever `make` and
            the trainer raise.
    """

    def after_step(metrics: dict[str, float]) -> None:
        bar.set_postfix({"loss": f"{metrics['loss']:.3f}"}, refresh=False)
        bar.update()
        if log and main:
            log(metrics, trainer)
        if checkpoints and checkpoints.due(trainer.steps, args.max_steps):
            checkpoints.save(trainer.steps, trainer.save)

    trainer = make(after_step)
    main = trainer.is_world_process_zero()
    if resume is not None:
        trainer.load(resume)
    shown = {"total": args.max_steps, "initial": trainer.steps, "desc": name, "disable": not main}
    try:
        with tqdm(**shown, dynamic_ncols=True) as bar:
            if trainer.steps < args.max_steps:
                trainer.train()
    except torch.OutOfMemoryError:
        raise UserError(
            "the device has too little memory; use a smaller --per_device_batch_size with a larger "
            "--gradient_accumulation_steps, or --gradient_checkpointing true"
        ) from None
    trainer.model.eval()
    return trainer
