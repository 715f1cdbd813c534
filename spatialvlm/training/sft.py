"""Supervised fine-tuning: the right answer is the target.

A PaliGemma's row is what its processor makes of a prompt and its `suffix`, padded on the left:

    tokens           <pad>  <image> ... <image>  <bos>  prompt \n    answer <eos>
    token_type_ids     0       0           0        0      0    0      1      1     0: both ways, 1: causal
    labels           -100    -100        -100     -100   -100 -100   answer <eos>   -100: not learnt

All answers end in the last column, so logits are computed for the last few columns alone. A Qwen's prompt is
what the rollout makes of it (`qwen.encode`), and the answer its one completion.

The loss is the mean over all answer tokens of a step, however it is split into micro-batches and among
processes. transformers.Trainer divides by `num_items_in_batch` to the same end, so this is what the published
settings (8 prompts per forward pass, 2 passes per step) mean: 16 prompts, all tokens of their answers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from accelerate.utils import reduce, send_to_device
from torch import Tensor
from torch.nn.functional import cross_entropy

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import context_length, qwen, rollout
from spatialvlm.models.inputs import Completions
from spatialvlm.models.qwen import ChatProcessor
from spatialvlm.training import loop
from spatialvlm.training.loop import TrainingArgs

_IGNORED = -100  # label of what is not learnt, as processor and transformers have it


@dataclass
class SFTArgs(TrainingArgs):
    """Hyper-parameters; the defaults are the published SFT run of PaliGemma 2 on SAT."""

    FLAG_GROUP: ClassVar = "training"
    per_pass: ClassVar[str] = "per_device_batch_size"

    learning_rate: float = field(default=1e-5, metadata={"help": "learning rate of AdamW"})
    max_steps: int = field(default=2000, metadata={"help": "optimizer steps"})
    per_device_batch_size: int = field(default=8, metadata={"help": "prompts per forward pass on a device"})
    gradient_accumulation_steps: int = field(
        default=2, metadata={"help": "forward passes per step and device, each with its backward pass"}
    )
    gradient_checkpointing: bool = field(
        default=True, metadata={"help": "recompute activations in the backward pass: less memory, slower"}
    )


def answers_as_completions(processor, texts: Sequence[Sequence[str]]) -> Completions:
    """Texts, G for each of B prompts, as completions: their tokens and the end token, `logps` 0."""
    tokenizer = processor.tokenizer
    ends = [text + tokenizer.eos_token for group in texts for text in group]
    ids = tokenizer(ends, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    shape = len(texts), len(texts[0]), -1
    tokens, mask = ids["input_ids"].view(shape), ids["attention_mask"].bool().view(shape)
    return Completions(tokens, mask, torch.zeros(tokens.shape))


def encode(processor, examples: Sequence[Example]) -> dict[str, Any]:
    """A PaliGemma's inputs for prompts with their answers (B, S), and `labels` (B, S), as shown above.

    `logits_to_keep` is one more than the longest answer has tokens: the token before an answer predicts it.
    For a Qwen: the prompts as its `batch`, and the answers' tokens as `labels` (B, T).

    Raises:
        UserError: an image is missing or broken; a prompt with one of Qwen's special tokens.
    """
    if isinstance(processor, ChatProcessor):
        prompts, images = zip(*[(example.prompt, example.images) for example in examples], strict=True)
        answers = answers_as_completions(processor, [[example.answer] for example in examples])
        labels = answers.tokens.where(answers.mask, _IGNORED).squeeze(1)
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


class Trainer(loop.Trainer):
    """One run of SFT.

    Raises:
        UserError: besides `loop.Trainer`'s, an example that the model cannot read.
        ValueError: besides `loop.Trainer`'s, attention that drops PaliGemma's masks.
    """

    name = "sft"
    less_memory = (
        "a smaller --per_device_batch_size with a larger --gradient_accumulation_steps, or "
        "--gradient_checkpointing true"
    )

    def __init__(self, model, processor, examples: Sequence[Example], args: SFTArgs):
        super().__init__(model, processor, examples, args)
        rollout.core_and_family(model)  # raises for attention that drops masks
        check_examples(model, processor, examples)

    def step(self) -> dict[str, float]:
        """Learn the next answers; `tokens` counts those of the step."""
        micro_batches = self.next_micro_batches(self.encode)
        counts = [(inputs["labels"] != _IGNORED).sum() for inputs in micro_batches]
        num_tokens = reduce(torch.stack(counts).sum(), "sum")  # of all processes
        metrics = self.update(micro_batches, lambda inputs: (self.loss(inputs, num_tokens),))
        return metrics | {"tokens": num_tokens.item()}

    def encode(self, examples: Sequence[Example]) -> dict[str, Any]:
        return send_to_device(encode(self.processor, examples), self.model.device)

    def loss(self, inputs: dict[str, Any], num_tokens: Tensor) -> Tensor:
        """This micro-batch's part of the step's loss."""
        labels = inputs["labels"]
        if "batch" not in inputs:
            logits = self.model(**{name: inputs[name] for name in inputs if name != "labels"}).logits
            return answer_loss(logits, labels, num_tokens)
        mask = labels != _IGNORED
        tokens = labels.where(mask, inputs["batch"].vocabulary.pad)
        answers = Completions(tokens[:, None], mask[:, None], torch.zeros_like(tokens)[:, None])
        logits = qwen.plain_logits(self.model.get_base_model(), inputs["batch"], answers)
        return _summed(logits, labels) / num_tokens


def check_examples(model, processor, examples: Sequence[Example]) -> None:
    """Raise UserError for an example that the model cannot read: it may come hours after the first step."""
    if not isinstance(processor, ChatProcessor):
        _check_paligemma(model, processor, examples)
        return
    special = processor.tokenizer.all_special_tokens
    for example in examples:
        if found := [token for token in special if token in example.prompt + example.answer]:
            raise UserError(
                f"row {example.id}: prompt or answer holds {found[0]!r}, which the model reserves; "
                "reword the row or leave it out"
            )


def _check_paligemma(model, processor, examples: Sequence[Example]) -> None:
    tokenizer, image_token = processor.tokenizer, processor.image_token
    prompts = tokenizer([f"{tokenizer.bos_token}{e.prompt}\n" for e in examples], add_special_tokens=False)
    answers = tokenizer([e.answer + tokenizer.eos_token for e in examples], add_special_tokens=False)
    for example, prompt, answer in zip(examples, prompts["input_ids"], answers["input_ids"], strict=True):
        if image_token in example.prompt + example.answer:
            raise UserError(
                f"row {example.id}: prompt or answer holds {image_token!r}, which stands for an image; "
                "reword the row or leave it out"
            )
        length = len(example.images) * processor.image_seq_length + len(prompt) + len(answer)
        what, remedy = f"row {example.id}, prompt with answer,", "shorten the row or leave it out"
        context_length.require(model, length, what, remedy)
