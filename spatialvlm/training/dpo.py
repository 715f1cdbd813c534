"""Direct preference optimization: the right answer against a wrong one.

The log-probabilities are the rollout's: both answers to a prompt stand in one row behind it, each seeing the
prompt and itself alone, and the prompt's images are encoded once. (trl 1.16 has no such inputs for PaliGemma
or for videos; its loss on given log-probabilities is what the tests compare with.) The policy is the
rollout's, over tokens that can stand in an answer. The reference is the model with its adapter off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.nn.functional import logsigmoid

from spatialvlm import distributed
from spatialvlm.errors import require_above_zero
from spatialvlm.example import Example
from spatialvlm.models import rollout
from spatialvlm.models.inputs import Completions
from spatialvlm.training import loop, sft

Rejected = Callable[[Example], str]  # the wrong answer to a question


@dataclass
class DPOArgs(sft.SFTArgs):
    """Hyper-parameters. vsGRPO's paper gives DPO's learning rate alone; the others are trl's, or SFT's."""

    beta: float = field(default=0.1, metadata={"help": "how much a change from the reference counts"})
    loss_type: Literal["sigmoid", "ipo", "hinge"] = field(
        default="sigmoid", metadata={"help": "loss of the margin, as trl names it; sigmoid is the original"}
    )

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        require_above_zero(beta=self.beta)


def loss_from_logps(
    logps: Tensor, ref_logps: Tensor, lengths: Tensor, beta: float, loss_type: str = "sigmoid"
) -> Tensor:
    """(B,) losses of pairs of answers, as trl 1.16's DPOTrainer defines them.

    Args:
        logps: (B, 2) of the right and the wrong answer under the policy, with gradients.
        ref_logps: (B, 2) under the reference.
        lengths: (B, 2), tokens of each answer; ipo is by token.

    Raises:
        ValueError: another loss_type.
    """
    gains = logps - ref_logps
    if loss_type == "ipo":
        by_token = gains / lengths
        return (by_token[:, 0] - by_token[:, 1] - 1 / (2 * beta)) ** 2
    margins = beta * (gains[:, 0] - gains[:, 1])
    if loss_type == "sigmoid":
        return -logsigmoid(margins)
    if loss_type == "hinge":
        return torch.relu(1 - margins)
    raise ValueError(f"loss_type {loss_type!r}: must be sigmoid, ipo or hinge")


class Trainer(loop.Trainer):
    """One run of DPO.

    Args:
        model: with a trainable adapter (`loop.add_adapter`), which is off for the reference.
        rejected: gives the wrong answer to a question.

    Raises:
        UserError, ValueError: as `sft.Trainer`.
    """

    name = "dpo"
    less_memory = sft.Trainer.less_memory

    def __init__(self, model, processor, examples: Sequence[Example], rejected: Rejected, args: DPOArgs):
        super().__init__(model, processor, examples, args)
        rollout.core_and_family(model)
        sft.check_examples(model, processor, examples)
        self.rejected = rejected

    def step(self) -> dict[str, float]:
        """Learn from the next pairs of answers.

        `margin` is how much more the right answers gained over the reference than the wrong, times beta;
        `preferred` the fraction of pairs where it is positive.
        """
        micro_batches = self.next_micro_batches(self.encode)
        args = self.args
        passes = args.gradient_accumulation_steps * distributed.state().num_processes
        num_pairs = args.prompts_per_pass * passes

        def loss(micro_batch: tuple[rollout.Batch, Completions]) -> tuple[Tensor, ...]:
            logps, ref_logps, lengths = self.score(*micro_batch)
            losses = loss_from_logps(logps, ref_logps, lengths, args.beta, args.loss_type)
            rewards = args.beta * (logps - ref_logps).detach()
            margins, preferred = rewards[:, 0] - rewards[:, 1], rewards[:, 0] > rewards[:, 1]
            return losses.sum() / num_pairs, margins.sum() / num_pairs, preferred.sum() / num_pairs

        return self.update(micro_batches, loss, sums=("margin", "preferred"))

    def encode(self, examples: Sequence[Example]) -> tuple[rollout.Batch, Completions]:
        """Prompts, and the right and the wrong answer to each as their two completions."""
        prompts, images = zip(*[(example.prompt, example.images) for example in examples], strict=True)
        texts = [[example.answer, self.rejected(example)] for example in examples]
        answers = sft.answers_as_completions(self.processor, texts)
        device = self.model.device
        batch = rollout.encode(self.processor, prompts, images, device)
        return batch, Completions(*send_to_device((answers.tokens, answers.mask, answers.logps), device))

    def score(self, batch: rollout.Batch, answers: Completions) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 2) log-probabilities of the answers under policy and reference, and tokens of each."""
        model = self.model
        if not rollout.vision_is_trained(model):
            batch = replace(batch, features=rollout.image_features(model, batch))
        with torch.no_grad(), rollout.evaluating(model), model.disable_adapter():
            ref_logps = rollout.per_token_logps(model, batch, answers).sum(-1)
        logps = rollout.per_token_logps(model, batch, answers).sum(-1)
        return logps, ref_logps, answers.mask.sum(-1)
