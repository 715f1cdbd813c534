"""Supervised fine-tuning: the right answer is the target. The loop is `transformers.Trainer`'s.

A row is what PaliGemma's processor makes of a prompt and its `suffix`, padded on the left:

    tokens           <pad>  <image> ... <image>  <bos>  prompt \\n    answer <eos>
    token_type_ids     0       0           0        0      0    0      1      1     0: both ways, 1: causal
    labels           -100    -100        -100     -100   -100 -100   answer <eos>   -100: not learnt

All answers end in the last column, so logits are made for the last few columns alone.

The loss is the mean over all answer tokens of a step, however it is split into micro-batches and among
processes. transformers.Trainer divides by `num_items_in_batch` to the same end, so this is what the published
settings (8 prompts a forward pass, 2 passes a step) mean: 16 prompts, all tokens of their answers alike.

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

import torch
import transformers
from accelerate.utils import reduce
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import (
    PaliGemmaForConditionalGeneration,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from spatialvlm import processes
from spatialvlm.checkpoints import Checkpoints, load_state, save_state
from spatialvlm.cli import UserError
from spatialvlm.example import Example
from spatialvlm.groups import example_index
from spatialvlm.training import TrainingArgs, add_gradients, optimizer_and_scheduler, same_start, seed_dropout

AfterStep = Callable[[dict[str, float]], None]

_IGNORED = -100  # the label of what is not learnt, as processor and transformers have it


@dataclass
class SFTArgs(TrainingArgs):
    """Hyper-parameters; the defaults are the published SFT run of PaliGemma 2 on SAT."""

    learning_rate: float = field(default=1e-5, metadata={"help": "of AdamW"})
    max_steps: int = field(default=2000, metadata={"help": "optimizer steps"})
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


def encode(processor, examples: Sequence[Example]) -> dict[str, Tensor | int | bool]:
    """The model's inputs for prompts with their answers (B, S), and `labels` (B, S), as drawn above.

    `logits_to_keep` is one more than the longest answer has tokens: the token before an answer predicts it.

    Raises:
        UserError: an image is missing or broken.
    """
    inputs = processor(
        images=[example.open_images() for example in examples],
        text=[processor.image_token * len(example.images) + example.prompt for example in examples],
        suffix=[example.answer for example in examples],
        padding="longest",
        padding_side="left",
        return_tensors="pt",
    )
    longest = int((inputs["labels"] != _IGNORED).sum(1).max())
    # Positions count tokens, from 1 on as PaliGemma does: the model's own would count padding too.
    positions = inputs["attention_mask"].cumsum(1).clamp(min=1)
    return {**inputs, "position_ids": positions, "logits_to_keep": longest + 1, "use_cache": False}


def answer_loss(logits: Tensor, labels: Tensor, num_tokens: Tensor | int) -> Tensor:
    """Cross-entropy of the answers' tokens, their sum over `num_tokens` (of the whole step), in float32.

    Args:
        logits: (B, K, V), of the last K of S columns.
        labels: (B, S); before the last K - 1 columns there are none.
    """
    predicted, targets = logits[:, :-1].float(), labels[:, labels.shape[1] - logits.shape[1] + 1 :]
    total = cross_entropy(predicted.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, reduction="sum")
    return total / num_tokens


class Trainer(transformers.Trainer):
    """One run of SFT. transformers has the loop, the shares of processes and the count of a step's
    tokens; ours are the order of examples, the loss scale, the sum over processes, the check before each
    update, and checkpoints.

    Where a run stands is the trainable weights, the optimizer and scheduler, `steps` (taken) and `drawn`
    (examples, over all processes): all that is random follows from the seed and those two numbers.

    Weights stay in the dtype they are loaded in, and adapters in float32, without autocast, as in GRPO.
    transformers' own `fp16` would compute the adapters in float16 as well, and would go on for ever skipping
    steps; so a scale for float16 is put in accelerate's place for it, and `_Step` stops where it runs out.

    Args:
        model: with a trainable adapter (`models.add_lora`).
        after_step: called with every step's metrics on every process.

    Raises:
        UserError: arguments that make no sense, no examples, or one that the model cannot read.
        ValueError: a model without a trainable adapter, or with attention that drops PaliGemma's masks.
    """

    def __init__(self, model, processor, examples: Sequence[Example], args: SFTArgs, after_step: AfterStep):
        args.check()
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        _check_model(model, self.parameters)
        _check_examples(model, processor, examples)
        self.processor, self.examples, self.seed = processor, examples, args.seed
        self.steps = self.drawn = 0
        same_start(self.parameters)
        model._is_accelerate_prepared = True  # keeps DDP off: `_Step` adds gradients up, as GRPO does
        step = _Step(self, args.max_grad_norm, after_step)
        super().__init__(
            model,
            _transformers_args(args, model.device),
            optimizers=optimizer_and_scheduler(self.parameters, args),
            compute_loss_func=step.loss,
            callbacks=[step],
        )
        self.remove_callback(PrinterCallback)
        self.prompts_per_step = self.get_total_train_batch_size(self.args)  # of all processes
        # Gradients through float16 layers underflow without a scale; for other dtypes this does nothing.
        self.accelerator.scaler = torch.amp.GradScaler(
            model.device.type, enabled=model.dtype == torch.float16
        )

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

    def _micro_batch(self, draws: Sequence[int]) -> dict[str, Tensor | int | bool]:
        size, inputs = len(self.examples), {}

        def read() -> list:
            rows = [self.examples[example_index(draw, size, self.seed)] for draw in draws]
            inputs.update(encode(self.processor, rows))
            return []

        processes.agree(read)  # an image that is broken on one process ends all
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


class _Step(TrainerCallback):
    """What a step has besides transformers' own: seeded dropout, the check before the update, its metrics."""

    def __init__(self, trainer: Trainer, max_grad_norm: float, after_step: AfterStep):
        self.trainer, self.max_grad_norm, self.after_step = trainer, max_grad_norm, after_step
        self.started = 0.0
        self.total: Tensor | float = 0.0  # this process's part of the loss so far
        self.tokens: Tensor | int = 0  # of the whole step's answers
        self.metrics: dict[str, float] = {}

    def loss(self, outputs, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        """transformers' `compute_loss_func`."""
        loss = answer_loss(outputs.logits, labels, num_items_in_batch)
        self.total = self.total + loss.detach()
        self.tokens = num_items_in_batch
        return loss / self.trainer.accelerator.num_processes  # transformers multiplies by it, for DDP's mean

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
            "tokens": int(self.tokens),
        }

    def on_step_end(self, args, state, control, **_) -> None:
        trainer = self.trainer
        trainer.steps = state.global_step
        trainer.drawn += trainer.prompts_per_step
        self.after_step(
            {
                "step": trainer.steps,
                **self.metrics,
                "epoch": trainer.drawn / len(trainer.examples),
                "seconds": time.perf_counter() - self.started,
            }
        )
        self.started = time.perf_counter()


def _transformers_args(args: SFTArgs, device: torch.device) -> TrainingArguments:
    made = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # it is made where it is not there, and stays empty
        per_device_train_batch_size=args.per_device_batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        max_steps=args.max_steps,
        max_grad_norm=0,  # `_Step` clips, once the loss scale is taken off
        seed=args.seed,
        use_cpu=device.type == "cpu",
        average_tokens_across_devices=True,
        dataloader_pin_memory=device.type == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    made.mixed_precision = "no"  # whatever `accelerate config` says: see Trainer
    made._n_gpu = min(made.n_gpu, 1)  # a process has one GPU: with more, transformers takes to DataParallel
    return made


def _check_model(model, parameters: Sequence[torch.nn.Parameter]) -> None:
    if not parameters or not isinstance(model, PeftModel):
        raise ValueError("the model needs a trainable adapter, models.add_lora")
    if not isinstance(model.get_base_model(), PaliGemmaForConditionalGeneration):
        kind = type(model.get_base_model()).__name__
        raise UserError(f"SFT is written for PaliGemma so far, and --model is a {kind}")
    if (attention := model.config.get_text_config()._attn_implementation) != "eager":
        raise ValueError(
            f"attention is {attention!r}, which does not keep PaliGemma's masks and Gemma 2's soft-capping; "
            "load the model with attn_implementation='eager'"
        )


def _check_examples(model, processor, examples: Sequence[Example]) -> None:
    """Before the first step, because the one that does not fit may come hours later."""
    if not examples:
        raise UserError("there are no examples to train on; check --data and --train_limit")
    tokenizer, image_token = processor.tokenizer, processor.image_token
    prompts = tokenizer([f"{tokenizer.bos_token}{e.prompt}\n" for e in examples], add_special_tokens=False)
    answers = tokenizer([e.answer + tokenizer.eos_token for e in examples], add_special_tokens=False)
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    for example, prompt, answer in zip(examples, prompts["input_ids"], answers["input_ids"], strict=True):
        if image_token in example.prompt + example.answer:
            raise UserError(
                f"row {example.id}: prompt or answer holds {image_token!r}, which stands for a picture; "
                "reword the row or leave it out"
            )
        length = len(example.images) * processor.image_seq_length + len(prompt) + len(answer)
        if window is not None and length > window:
            raise UserError(
                f"row {example.id}: prompt and answer take {length} tokens, more than the model's sliding "
                f"window of {window}; shorten the row, use fewer images, or leave it out"
            )


Log = Callable[[dict[str, float], Trainer], None]


def train(
    model,
    processor,
    examples: Sequence[Example],
    args: SFTArgs,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Trainer:
    """Trains the model's adapter for `args.max_steps` steps, with a progress bar.

    Args:
        log: called with every step's metrics and the trainer, on the main process: `loss` as described above,
            `grad_norm` before clipping (0 where a step was skipped to lower the loss scale), `lr`, `tokens`
            of the step's answers, `epoch` (examples drawn, over how many there are), `seconds`.
        checkpoints: where to save how the run stands, and how often; nowhere where None.
        resume: the checkpoint to go on from.

    Raises:
        UserError: arguments that make no sense, no examples or one that the model cannot read, a broken
            image, too little memory, a full disk, numbers that are no longer finite.
    """

    def after_step(metrics: dict[str, float]) -> None:
        bar.set_postfix({"loss": f"{metrics['loss']:.3f}"}, refresh=False)
        bar.update()
        if log and main:
            log(metrics, trainer)
        if checkpoints and checkpoints.due(trainer.steps, args.max_steps):
            checkpoints.save(trainer.steps, trainer.save)

    trainer = Trainer(model, processor, examples, args, after_step)
    main = trainer.is_world_process_zero()
    if resume is not None:
        trainer.load(resume)
    shown = {"total": args.max_steps, "initial": trainer.steps, "desc": "sft", "disable": not main}
    try:
        with tqdm(**shown, dynamic_ncols=True) as bar:
            if trainer.steps < args.max_steps:
                trainer.train()
    except torch.OutOfMemoryError:
        raise UserError(
            "the device has too little memory; use a smaller --per_device_batch_size with a larger "
            "--gradient_accumulation_steps, or --gradient_checkpointing true"
        ) from None
    model.eval()
    return trainer
