"""Direct preference optimization: the right answer against a wrong one. Loss and loop are trl's DPOTrainer's.

The log-probabilities are the rollout's: both answers to a prompt stand in one row behind it, each seeing the
prompt and itself alone, and the prompt's images are looked at once. trl 1.16's own cannot be had: it makes an
answer's tokens by the processor without images, which PaliGemma's refuses, and knows no videos. (Its GRPO
gives PaliGemma's completions token type 0, so that each answer leaks into its own prediction.) The policy is
the rollout's, over tokens that can stand in an answer. The reference is the model with its adapter off.

Order of examples, checkpoints and the rest of the run are as in SFT (`supervised`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from spatialvlm.example import Example
from spatialvlm.models import rollout
from spatialvlm.models.inputs import Completions
from spatialvlm.training import sft
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

Rejected = Callable[[Example], str]  # the wrong answer to a question


@dataclass
class DPOArgs(SupervisedArgs):
    """Hyper-parameters. vsGRPO's paper gives DPO's learning rate alone; the others are trl's, or SFT's."""

    learning_rate: float = field(default=1e-5, metadata={"help": "of AdamW"})
    max_steps: int = field(default=2000, metadata={"help": "optimizer steps"})
    beta: float = field(default=0.1, metadata={"help": "how much a change from the reference counts"})
    loss_type: Literal["sigmoid", "ipo", "hinge"] = field(
        default="sigmoid", metadata={"help": "trl's; sigmoid is the original"}
    )

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        self._check_numbers(positive=("beta",))


class Trainer(Loop, DPOTrainer):
    """One run of DPO.

    Args:
        model: with a trainable adapter (`models.add_lora`), which is off for the reference.
        rejected: makes the wrong answer to a question.
        after_step: called with every step's metrics on every process.

    Raises:
        UserError: arguments that make no sense, no examples, or one that the model cannot read.
        ValueError: a model without a trainable adapter, or an attention that is not written for.
    """

    def __init__(
        self,
        model,
        processor,
        examples: Sequence[Example],
        rejected: Rejected,
        args: DPOArgs,
        after_step: AfterStep,
    ):
        args.check()
        sft.check_model(model)
        sft.check_examples(model, processor, examples)
        self.rejected = rejected
        more = {"beta": args.beta, "loss_type": [args.loss_type], "disable_dropout": False}
        more |= {"bf16": False, "gradient_checkpointing": False}  # as they are in `Loop`, and on the model
        settings = transformers_args(args, model.device, DPOConfig, **more)
        step = Step(args.max_grad_norm, after_step)
        # trl asks for a data set and a tokenizer; `Loop` draws the examples, and `encode` reads them.
        asked = {"train_dataset": Dataset.from_dict({"draw": [0]}), "processing_class": processor.tokenizer}
        super().__init__(model, processor, examples, args, settings, step, **asked)
        self.model.delete_adapter("ref")  # trl's copy of the adapter as it starts
        self.precompute_ref_logps = True  # they come with the inputs, see `_compute_loss`

    def _prepare_dataset(self, dataset: Dataset, *_) -> Dataset:
        return dataset

    def encode(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Prompts, and the tokens (B, 2, T) of the right and the wrong answer to each."""
        prompts, images = zip(*[(example.prompt, example.images) for example in examples], strict=True)
        answers = written(self.processor, [[each.answer, self.rejected(each)] for each in examples])
        batch = rollout.encode(self.processor, prompts, images)
        return {"batch": batch, "tokens": answers.tokens, "mask": answers.mask}

    def _compute_loss(self, model, inputs: dict[str, Any], return_outputs: bool = False) -> Tensor:
        """trl's loss of the rollout's log-probabilities, laid out as trl does: right ones first."""
        batch, mask = inputs["batch"], inputs["mask"]
        answers = Completions(inputs["tokens"], mask, torch.zeros_like(mask, dtype=torch.float32))
        if not rollout.vision_is_trained(self.model):
            batch = replace(batch, features=rollout.image_features(self.model, batch))
        with torch.no_grad(), rollout.evaluating(self.model), self.model.disable_adapter():
            reference = rollout.per_token_logps(self.model, batch, answers).sum(-1)  # (B, 2)
        logps = rollout.per_token_logps(self.model, batch, answers).transpose(0, 1).flatten(0, 1)  # (2B, T)
        of_answers = torch.nn.functional.pad(
            mask.transpose(0, 1).flatten(0, 1), (1, 0)
        )  # a prompt's token first
        unused = torch.zeros_like(logps)  # trl makes metrics of them that nobody asks for
        scored = SimpleNamespace(log_probs=logps, entropy=unused, mean_logits=unused, is_top1=unused.bool())
        layout = {
            "input_ids": of_answers.long(),
            "attention_mask": of_answers.long(),
            "completion_mask": of_answers.long(),
            "ref_chosen_logps": reference[:, 0],
            "ref_rejected_logps": reference[:, 1],
        }
        loss = super()._compute_loss(lambda **_: scored, layout, return_outputs)
        loss = loss / self.accelerator.num_processes  # `Step` adds up over processes
        self.step.add(loss / self.args.gradient_accumulation_steps)
        return loss

    def metrics(self) -> dict[str, float]:
        """How much more the right answers gained than the wrong (`margin`, times beta), and how often."""
        names = {"margin": "rewards/margins", "preferred": "rewards/accuracies"}
        kept = self._metrics["train"]
        found = {name: sum(kept[of]) / len(kept[of]) for name, of in names.items()}
        kept.clear()
        return found


def train(
    model,
    processor,
    examples: Sequence[Example],
    rejected: Rejected,
    args: DPOArgs,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Loop:
    """Trains the model's adapter for `args.max_steps` steps, with a progress bar.

    Args:
        log: called with every step's metrics and the trainer, on the main process: `loss`, `grad_norm` before
            clipping, `lr`, `margin` and `preferred` (`Trainer.metrics`), `epoch`, `seconds`.
        checkpoints: where to save how the run stands, and how often; nowhere where None.
        resume: the checkpoint to go on from.

    Raises:
        UserError: arguments that make no sense, no examples or one that the model cannot read, a broken
            image, too little memory, a full disk, numbers that are no longer finite.
    """

    def make(after_step: AfterStep) -> Trainer:
        return Trainer(model, processor, examples, rejected, args, after_step)

    return run("dpo", make, args, log, checkpoints, resume)
