"""Supervised fine-tuning: the right answer is the target. The loop is in `supervised`.

A PaliGemma's row is what its processor makes of a prompt and its `suffix`, padded on the left:

    tokens           <pad>  <image> ... <image>  <bos>  prompt \\n    answer <eos>
    token_type_ids     0       0           0        0      0    0      1      1     0: both ways, 1: causal
    labels           -100    -100        -100     -100   -100 -100   answer <eos>   -100: not learnt

All answers end in the last column, so logits are made for the last few columns alone. A Qwen's prompt is what
the rollout makes of it (`qwen.encode`), and the answer its one completion.

The loss is the mean over all answer tokens of a step, however it is split into micro-batches and among
processes. transformers.Trainer divides by `num_items_in_batch` to the same end, so this is what the published
settings (8 prompts a forward pass, 2 passes a step) mean: 16 prompts, all tokens of their answers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PaliGemmaForConditionalGeneration

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import qwen, rollout
from spatialvlm.models.inputs import Completions
from spatialvlm.models.qwen import ChatProcessor
from spatialvlm.training.checkpoints import Checkpoints
from spatialvlm.training.supervised import (
    AfterStep,
    Log,
    Loop,
    Step,
    SupervisedArgs,
    run,
    transformers_args,
    written,
)

_IGNORED = -100  # the label of what is not learnt, as processor and transformers have it


@dataclass
class SFTArgs(SupervisedArgs):
    """Hyper-parameters; the defaults are the published SFT run of PaliGemma 2 on SAT."""

    learning_rate: float = field(default=1e-5, metadata={"help": "of AdamW"})
    max_steps: int = field(default=2000, metadata={"help": "optimizer steps"})


def encode(processor, examples: Sequence[Example]) -> dict[str, Any]:
    """A PaliGemma's inputs for prompts with their answers (B, S), and `labels` (B, S), as drawn above.

    `logits_to_keep` is one more than the longest answer has tokens: the token before an answer predicts it.
    For a Qwen they are the prompts as its `batch`, and `labels` (B, 1 + T); the first is -100.

    Raises:
        UserError: an image is missing or broken; a prompt with one of Qwen's special tokens.
    """
    if isinstance(processor, ChatProcessor):
        prompts, images = zip(*[(example.prompt, example.images) for example in examples], strict=True)
        answers = written(processor, [[example.answer] for example in examples])
        labels = answers.tokens.where(answers.mask, _IGNORED).squeeze(1)
        labels = pad(labels, (1, 0), value=_IGNORED)  # transformers takes it that nothing predicts the first
        return {"batch": rollout.encode(processor, prompts, images), "labels": labels}
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
    return _summed(logits[:, :-1], labels[:, labels.shape[1] - logits.shape[1] + 1 :]) / num_tokens


def _summed(predicted: Tensor, targets: Tensor) -> Tensor:
    """Sum over labels (B, K) of the cross-entropy of the logits (B, K, V) that predict them, in float32."""
    flat = predicted.float().flatten(0, 1)
    return cross_entropy(flat, targets.flatten(), ignore_index=_IGNORED, reduction="sum")


class Trainer(Loop):
    """One run of SFT.

    Args:
        model: with a trainable adapter (`models.add_lora`).
        after_step: called with every step's metrics on every process.

    Raises:
        UserError: arguments that make no sense, no examples, or one that the model cannot read.
        ValueError: a model without a trainable adapter, or with attention that drops PaliGemma's masks.
    """

    def __init__(self, model, processor, examples: Sequence[Example], args: SFTArgs, after_step: AfterStep):
        args.check()
        check_model(model)
        check_examples(model, processor, examples)
        step, settings = Step(args.max_grad_norm, after_step), transformers_args(args, model.device)
        loss = self._loss
        super().__init__(model, processor, examples, args, settings, step, compute_loss_func=loss)

    def encode(self, examples: Sequence[Example]) -> dict[str, Any]:
        return encode(self.processor, examples)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if "batch" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        mask = labels != _IGNORED
        tokens = labels.where(mask, inputs["batch"].vocabulary.pad)
        answers = Completions(tokens[:, None], mask[:, None], torch.zeros_like(tokens)[:, None])
        logits = qwen.plain_logits(self.model.get_base_model(), inputs["batch"], answers)
        loss = _summed(logits, labels) / num_items_in_batch
        self.step.add(loss, num_items_in_batch)
        return loss

    def _loss(self, outputs, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        """transformers' `compute_loss_func`, for PaliGemma."""
        loss = answer_loss(outputs.logits, labels, num_items_in_batch)
        self.step.add(loss, num_items_in_batch)
        return loss / self.accelerator.num_processes  # transformers multiplies by it, for DDP's mean


def check_model(model) -> None:
    """Raises UserError for a model of another family, ValueError for one that cannot be trained so."""
    if not isinstance(model, PeftModel) or not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model needs a trainable adapter, models.add_lora")
    core = model.get_base_model()
    if not isinstance(core, (PaliGemmaForConditionalGeneration, *qwen.CLASSES)):
        kind = type(core).__name__
        raise UserError(f"training is written for PaliGemma, Qwen2-VL and Qwen2.5-VL; --model is a {kind}")
    attention = model.config.get_text_config()._attn_implementation
    if attention != "eager" and isinstance(core, PaliGemmaForConditionalGeneration):
        raise ValueError(
            f"attention is {attention!r}, which does not keep PaliGemma's masks and Gemma 2's soft-capping; "
            "load the model with attn_implementation='eager'"
        )


def check_examples(model, processor, examples: Sequence[Example]) -> None:
    """Before the first step, because the one that does not fit may come hours later.

    Raises:
        UserError: no examples, or one that the model cannot read.
    """
    if not examples:
        raise UserError("there are no examples to train on; check --data and --train_limit")
    prefetch(examples)
    if isinstance(processor, ChatProcessor):
        _check_chat(processor, examples)
    else:
        _check_paligemma(model, processor, examples)


def _check_chat(processor: ChatProcessor, examples: Sequence[Example]) -> None:
    special = processor.tokenizer.all_special_tokens
    for example in examples:
        if found := [token for token in special if token in example.prompt + example.answer]:
            raise UserError(
                f"row {example.id}: prompt or answer holds {found[0]!r}, which the model keeps for itself; "
                "reword the row or leave it out"
            )


def _check_paligemma(model, processor, examples: Sequence[Example]) -> None:
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


def train(
    model,
    processor,
    examples: Sequence[Example],
    args: SFTArgs,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Loop:
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

    def make(after_step: AfterStep) -> Trainer:
        return Trainer(model, processor, examples, args, after_step)

    return run("sft", make, args, log, checkpoints, resume)
