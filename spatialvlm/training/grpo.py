"""GRPO: groups of completions -> rewards -> advantages -> reference -> loss -> update.

Within a group the advantage of a completion is (reward - mean) / (std + 1e-4). The loss is the policy
gradient plus beta times the KL divergence from the model with its adapter off. Every sum is over the whole
step, so what a step computes does not depend on how its prompts are split into micro-batches or among
processes (dropout apart).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spatialvlm.errors import require_at_least
from spatialvlm.example import Example
from spatialvlm.models import rollout
from spatialvlm.models.sharding import in_step
from spatialvlm.training import loop
from spatialvlm.training.sampler import Collected, Group, Reward, Sampler, SamplingArgs, fit


@dataclass
class GRPOArgs(SamplingArgs):
    """Hyper-parameters; the defaults are the published GRPO-v2 run of PaliGemma 2 on SAT."""

    FLAG_GROUP: ClassVar = "GRPO"

    beta: float = field(default=0.01, metadata={"help": "weight of the KL term; 0 = no reference model"})
    loss_type: Literal["grpo", "dr_grpo", "dapo"] = field(
        default="grpo",
        metadata={
            "help": "grpo: mean over tokens, then completions; dr_grpo: sum over a constant length (but "
            "advantages are divided by their group's std, as by default in trl); dapo: mean over all tokens"
        },
    )

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        require_at_least(0, beta=self.beta)


def group_advantages(rewards: Tensor) -> Tensor:
    """(B, G) advantages of (B, G) rewards: (r - mean) / (std + 1e-4) in each group, std over G - 1."""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def kl_estimate(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Schulman's k3 per token: exp(d) - d - 1, d = ref_logps - logps; never negative, unbiased as a value."""
    difference = ref_logps - logps
    return difference.exp() - difference - 1


def loss_from_logps(
    logps: Tensor,
    ref_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    beta: float = 0.0,
    loss_type: str = "grpo",
    max_completion_length: int | None = None,
    num_completions: int | None = None,
    num_tokens: int | None = None,
) -> Tensor:
    """The loss of on-policy completions, as trl 1.16's GRPOTrainer defines it.

    Args:
        logps: (R, T) of the tokens under the policy, with gradients.
        ref_logps: (R, T) under the reference; None if beta is 0.
        advantages: (R,).
        mask: (R, T), True for a completion's tokens.
        loss_type: as in `GRPOArgs`; the constant length of `dr_grpo` is `max_completion_length`.
        num_completions, num_tokens: of the whole step, so that the losses of its micro-batches add up to the
            step's; these rows' own if None.

    Raises:
        ValueError: another loss_type.
    """
    # 1, with the gradient of logps: this very policy sampled the tokens
    ratio = (logps - logps.detach()).exp()
    per_token = -ratio * advantages[:, None]
    if beta:
        per_token = per_token + beta * kl_estimate(logps, ref_logps)
    per_token = per_token * mask
    completions = len(logps) if num_completions is None else num_completions
    tokens = int(mask.sum()) if num_tokens is None else num_tokens
    if loss_type == "grpo":
        return (per_token.sum(1) / mask.sum(1).clamp(min=1)).sum() / completions
    if loss_type == "dr_grpo":
        return per_token.sum() / (completions * max_completion_length)
    if loss_type == "dapo":
        return per_token.sum() / max(1, tokens)
    raise ValueError(f"loss_type {loss_type!r}: must be grpo, dr_grpo or dapo")


class Trainer(loop.Trainer):
    """One run of GRPO; the reference is the model with its adapter off.

    Args:
        model: with a trainable adapter (`loop.add_adapter`).
        reward: maps (completion, example) to a number.
    """

    name, shown = "grpo", ("reward", "informative", "kl")
    less_memory = (
        "a smaller --prompts_per_device with a larger --gradient_accumulation_steps, a smaller "
        "--sampling_batch_size, --num_generations or --max_completion_length, or --gradient_checkpointing"
    )
    less_divergence = "a lower --learning_rate or a higher --beta"

    def __init__(self, model, processor, examples: Sequence[Example], reward: Reward, args: GRPOArgs):
        super().__init__(model, processor, examples, args)
        self.sampler = Sampler(model, processor, examples, reward, args)
        self.collected: Collected | None = None  # what the last step sampled

    def step(self) -> dict[str, float]:
        """Sample and reward, learn, and return the metrics of the step.

        `reward` is of all that was sampled, before dynamic sampling dropped any group; `reward_kept` of what
        was learnt from, if anything; `informative` the fraction of groups whose rewards differ, `dropped` the
        fraction not learnt from, `tries` the rounds of sampling. `kl` is a mean over tokens,
        `completion_length` one over completions, in tokens.
        """
        collected = self.collected = self.sampler.collect(self.drawn)
        self.drawn += len(collected.seen)
        learnt = self.learn(collected)
        seen = collected.seen
        rewards = torch.tensor([summary.rewards for summary in seen])
        kept = [reward for summary in collected.kept for reward in summary.rewards]
        return {
            "reward": rewards.mean().item(),
            **({"reward_kept": sum(kept) / len(kept)} if kept else {}),
            "reward_std": rewards.std(1).mean().item(),
            "informative": sum(summary.informative for summary in seen) / len(seen),
            "dropped": 1 - len(collected.kept) / len(seen),
            "tries": collected.tries,
            **learnt,
            "completion_length": sum(sum(summary.lengths) for summary in seen) / rewards.numel(),
        }

    def learn(self, collected: Collected) -> dict[str, float]:
        """Advantages, reference, loss and update: one optimizer step from groups of completions."""
        args, groups, device = self.args, collected.groups, self.model.device
        advantages = [  # N of (1, G)
            group_advantages(torch.tensor([group.rewards], device=device)) for group in groups
        ]
        references = self.reference_logps(groups) if args.beta else []  # N of (G, T)
        num_completions = len(collected.kept) * args.num_generations  # of all processes
        num_tokens = sum(sum(summary.lengths) for summary in collected.kept)

        def loss(rows: slice) -> tuple[Tensor, ...]:
            """This micro-batch's part of the step's loss, and its sum of per-token KL."""
            batch, completions = self.sampler.micro_batch(groups[rows])
            logps = rollout.per_token_logps(self.model, batch, completions, args.temperature)
            logps, mask = logps.flatten(0, 1), completions.mask.flatten(0, 1)  # (B * G, T)
            ref_logps, kl = None, ()
            if args.beta:
                ref_logps = torch.cat([fit(each, mask.shape[1], 0.0) for each in references[rows]])
                kl = ((kl_estimate(logps.detach(), ref_logps) * mask).sum(),)
            part = loss_from_logps(
                logps,
                ref_logps,
                torch.cat(advantages[rows]).flatten(),
                mask,
                args.beta,
                args.loss_type,
                args.max_completion_length,
                num_completions,
                num_tokens,
            )
            return part, *kl

        size = args.prompts_per_pass
        micro_batches = [slice(start, start + size) for start in range(0, len(groups), size)]
        metrics = self.update(micro_batches, loss, sums=("kl",) if args.beta else ())
        if args.beta:
            metrics["kl"] /= max(1, num_tokens)
        return metrics

    def reference_logps(self, groups: Sequence[Group]) -> list[Tensor]:
        """(G, T) log-probabilities of each group under the model with its adapter off.

        Without activations to keep, more prompts fit in a pass than the policy's has.
        """
        args, model = self.args, self.model
        each = min(4 * args.num_generations, max(1, args.sampling_batch_size // args.prompts_per_pass))

        def score(groups: Sequence[Group]) -> list[Tensor]:
            return [*rollout.per_token_logps(model, *self.sampler.micro_batch(groups), args.temperature)]

        with torch.no_grad(), rollout.evaluating(model), model.disable_adapter(), in_step(model):
            return self.sampler.halving(score, groups, each)

    def samples(self, count: int = 4) -> list[dict]:
        """Prompts of this process's last step, before filtering, with their completions and rewards."""
        groups = self.collected.first_round if self.collected else []
        return [
            {
                "id": group.example.id,
                "prompt": group.example.prompt,
                "answer": group.example.answer,
                "completions": group.texts,
                "rewards": group.rewards,
            }
            for group in groups[:count]
        ]
