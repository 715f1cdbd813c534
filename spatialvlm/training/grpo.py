"""GRPO: groups of completions -> rewards -> advantages -> loss -> step, on one process or many.

Within a group the advantage of a completion is (reward - mean) / (std + 1e-4). The loss is the policy
gradient plus beta times the KL divergence from the model with its adapter off. Every sum is over the whole
step, so what a step computes does not depend on how its prompts are split into micro-batches or among
processes (dropout apart).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate.utils import reduce
from torch import Tensor
from tqdm import tqdm

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import rollout
from spatialvlm.models.sharding import in_step
from spatialvlm.training.checkpoints import Checkpoints, load_state, save_state
from spatialvlm.training.loop import (
    TrainingArgs,
    add_gradients,
    optimizer_and_scheduler,
    same_start,
    seed_dropout,
)
from spatialvlm.training.sampler import Collected, Group, Reward, Sampler, fit


@dataclass
class GRPOArgs(TrainingArgs):
    """Hyper-parameters; the defaults are the published GRPO-v2 run of PaliGemma 2 on SAT."""

    num_generations: int = field(default=4, metadata={"help": "completions a prompt (a group)"})
    prompts_per_device: int = field(default=1, metadata={"help": "prompts of one forward pass on a device"})
    gradient_accumulation_steps: int = field(
        default=16, metadata={"help": "forward passes a step; a step has as many prompts as both make"}
    )
    temperature: float = field(default=1.0, metadata={"help": "of sampling"})
    max_completion_length: int = field(default=32, metadata={"help": "longest completion, in tokens"})
    sampling_batch_size: int = field(
        default=64, metadata={"help": "completions sampled at a time on a device; memory, not results"}
    )
    beta: float = field(
        default=0.01, metadata={"help": "weight of the KL term; 0 spares the reference model"}
    )
    loss_type: Literal["grpo", "dr_grpo", "dapo"] = field(
        default="grpo",
        metadata={"help": "mean over tokens, then completions; constant length; all tokens alike"},
    )
    dynamic_sampling: bool = field(
        default=True, metadata={"help": "replace groups whose rewards are all equal by fresh prompts"}
    )
    max_resamples: int = field(
        default=10, metadata={"help": "times that a step draws anew before it makes do"}
    )

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        if self.num_generations < 2:
            raise UserError(
                f"--num_generations {self.num_generations}: a group needs at least 2 completions, "
                "because each is judged against the others; 4 is the published number"
            )
        self._check_numbers(
            positive=(
                "prompts_per_device",
                "gradient_accumulation_steps",
                "max_completion_length",
                "sampling_batch_size",
                "temperature",
            ),
            not_negative=("beta", "max_resamples"),
        )


def group_advantages(rewards: Tensor) -> Tensor:
    """(B, G) advantages of (B, G) rewards: (r - mean) / (std + 1e-4) in each group, std over G - 1."""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def kl_estimate(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Per-token exp(d) - d - 1 with d = ref_logps - logps: unbiased and never negative (Schulman's k3)."""
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
        ref_logps: (R, T) under the reference; None where beta is 0.
        advantages: (R,).
        mask: (R, T), True for a completion's tokens.
        loss_type: `grpo` token mean of each completion, then mean over completions; `dr_grpo` sum over
            tokens, divided by completions times `max_completion_length`; `dapo` mean over all tokens.
        num_completions, num_tokens: of the whole step where these rows are a part of it, so that the parts'
            losses add up to the step's; these rows' own where None.

    Raises:
        ValueError: another loss_type.
    """
    ratio = (
        logps - logps.detach()
    ).exp()  # 1, with the gradient of logps: this very policy sampled the tokens
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


class Trainer:
    """One run of GRPO: `step` does a step and returns its metrics.

    Where a run stands is the trainable weights, the optimizer and scheduler, `steps` (taken) and
    `sampler.drawn`: all that is random follows from the seed and those two numbers.

    Args:
        model: with a trainable adapter (`models.add_lora`); the reference is the same with the adapter off.
        reward: maps (completion, example) to a number.

    Raises:
        UserError: arguments that make no sense, or no examples.
        ValueError: a model without a trainable adapter.
    """

    def __init__(self, model, processor, examples: Sequence[Example], reward: Reward, args: GRPOArgs):
        args.check()
        if not examples:
            raise UserError("there are no examples to train on; check --data and --limit")
        self.model, self.args = model.eval(), args
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters or not hasattr(model, "disable_adapter"):
            raise ValueError(
                "the model needs a trainable adapter, models.add_lora: the reference is without it"
            )
        self.sampler = Sampler(model, processor, examples, reward, args)
        self.processes = self.sampler.processes
        same_start(self.parameters)
        self.optimizer, self.scheduler = optimizer_and_scheduler(self.parameters, args)
        # Gradients through float16 layers underflow without a scale; for other dtypes this does nothing.
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=model.dtype == torch.float16)
        self.steps = 0
        self.collected: Collected | None = None  # what the last step saw

    def save(self, folder: Path) -> None:
        """Writes where the run stands (`checkpoints.save_state`)."""
        more = {"steps": self.steps, "drawn": self.sampler.drawn, "scaler": self.scaler.state_dict()}
        save_state(folder, self.model, self.optimizer, self.scheduler, more)

    def load(self, folder: Path) -> None:
        """Stands where `save` was called; what follows is what followed then."""
        state = load_state(folder, self.model, self.optimizer, self.scheduler)
        self.steps, self.sampler.drawn = state["steps"], state["drawn"]
        self.scaler.load_state_dict(state["scaler"])

    def step(self) -> dict[str, float]:
        """Samples, learns, and returns the step's metrics, the same on every process.

        `reward` is of all that was sampled, before dynamic sampling dropped what teaches nothing;
        `reward_kept` of what was learnt from, where that is anything, `informative` the share of groups
        whose rewards differ, `dropped` the share not learnt from, `tries` the rounds of drawing. `kl` is a
        mean over tokens, `completion_length` one over completions, in tokens.

        Raises:
            UserError: loss or gradient is not finite, an image is broken, or memory does not suffice.
        """
        start = time.perf_counter()
        try:
            collected = self.collected = self.sampler.collect()
            learnt = self.learn(collected)
        except torch.OutOfMemoryError:
            raise UserError(
                "the device has too little memory; use a smaller --prompts_per_device with a larger "
                "--gradient_accumulation_steps, a smaller --sampling_batch_size, --num_generations or "
                "--max_completion_length, or --gradient_checkpointing"
            ) from None
        self.steps += 1
        seen = collected.seen
        rewards = torch.tensor([summary.rewards for summary in seen])
        kept = [reward for summary in collected.kept for reward in summary.rewards]
        return {
            "step": self.steps,
            "reward": rewards.mean().item(),
            **({"reward_kept": sum(kept) / len(kept)} if kept else {}),
            "reward_std": rewards.std(1).mean().item(),
            "informative": sum(summary.informative for summary in seen) / len(seen),
            "dropped": 1 - len(collected.kept) / len(seen),
            "tries": collected.tries,
            **learnt,
            "completion_length": sum(sum(summary.lengths) for summary in seen) / rewards.numel(),
            "epoch": self.sampler.drawn / len(self.sampler.examples),
            "seconds": time.perf_counter() - start,
        }

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

    def learn(self, collected: Collected) -> dict[str, float]:
        """One optimizer step: gradients over micro-batches and processes. Without groups, weights stay."""
        args = self.args
        num_completions = len(collected.kept) * args.num_generations
        num_tokens = sum(sum(summary.lengths) for summary in collected.kept)
        references = self._references(collected.groups) if args.beta else []
        seed_dropout(args.seed, self.steps)
        self.model.train()
        sums = torch.zeros(2, device=self.model.device)  # loss, KL
        with in_step(self.model, backward=True):
            for start in range(0, len(collected.groups), args.prompts_per_device):
                these = slice(start, start + args.prompts_per_device)
                part = self.sampler.micro_batch(collected.groups[these])
                loss, kl = self._loss(*part, references[these], num_completions, num_tokens)
                self.scaler.scale(loss).backward()
                sums += torch.stack([loss.detach(), kl])
        self.model.eval()
        loss, kl = reduce(sums, "sum").tolist()
        metrics = {"loss": loss, "grad_norm": 0.0, "lr": self.scheduler.get_last_lr()[0]}
        if args.beta:
            metrics["kl"] = kl / max(1, num_tokens)
        if collected.kept:
            metrics["grad_norm"] = self._reduce_and_clip(loss)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()  # without gradients it does nothing; the scheduler wants it called
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return metrics

    def _loss(
        self,
        batch: rollout.Batch,
        completions: rollout.Completions,
        rewards: Tensor,
        references: Sequence[Tensor],
        num_completions: int,
        num_tokens: int,
    ) -> tuple[Tensor, Tensor]:
        """(this micro-batch's part of the step's loss, its sum of per-token KL)."""
        args, mask = self.args, completions.mask.flatten(0, 1)
        ref_logps, kl = None, torch.zeros((), device=mask.device)
        if args.beta:
            ref_logps = torch.cat([fit(reference, mask.shape[1], 0.0) for reference in references])
        logps = rollout.per_token_logps(self.model, batch, completions, args.temperature).flatten(0, 1)
        if args.beta:
            kl = (kl_estimate(logps.detach(), ref_logps) * mask).sum()
        advantages = group_advantages(rewards).flatten()
        sizes = (args.max_completion_length, num_completions, num_tokens)
        return loss_from_logps(logps, ref_logps, advantages, mask, args.beta, args.loss_type, *sizes), kl

    def _references(self, groups: Sequence[Group]) -> list[Tensor]:
        """(G, T) log-probabilities of each group under the model with its adapter off.

        Without activations to keep, more prompts fit in a pass than the policy's has.
        """
        args = self.args
        size = max(args.prompts_per_device, args.sampling_batch_size // (4 * args.num_generations))
        found: list[Tensor] = []
        model = self.model
        with torch.no_grad(), rollout.evaluating(model), model.disable_adapter(), in_step(model):
            for start in range(0, len(groups), size):
                batch, completions, _ = self.sampler.micro_batch(groups[start : start + size])
                found += rollout.per_token_logps(model, batch, completions, args.temperature)
        return found

    def _reduce_and_clip(self, loss: float) -> float:
        """Adds gradients up over processes, checks and clips them, and returns their norm before clipping."""
        add_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.args.max_grad_norm).item()
        # Too large a scale for float16 shows in the gradients alone: the scaler skips the step and lowers it.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.get_scale() > 1):
            what = "gradient" if math.isfinite(loss) else "loss"
            other = "" if self.model.dtype == torch.float32 else ", or --dtype float32"
            raise UserError(
                f"the {what} is not finite at step {self.steps + 1}; stopped before it reached the weights: "
                f"use a lower --learning_rate or a higher --beta{other}"
            )
        return norm if math.isfinite(norm) else 0.0  # 0: skipped


Log = Callable[[dict[str, float], Trainer], None]


def train(
    model,
    processor,
    examples: Sequence[Example],
    reward: Reward,
    args: GRPOArgs,
    log: Log | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Trainer:
    """Trains the model's adapter for `args.max_steps` steps, with a progress bar.

    Args:
        log: called with every step's metrics and the trainer, on the main process.
        checkpoints: where to save how the run stands, and how often; nowhere where None.
        resume: the checkpoint to go on from.

    Raises:
        UserError: arguments that make no sense, no examples, a broken image, too little memory, a full disk,
            numbers that are no longer finite.
    """
    trainer = Trainer(model, processor, examples, reward, args)
    main = trainer.processes.is_main_process
    if resume is not None:
        trainer.load(resume)
    with tqdm(
        total=args.max_steps, initial=trainer.steps, desc="grpo", disable=not main, dynamic_ncols=True
    ) as bar:
        while trainer.steps < args.max_steps:
            metrics = trainer.step()
            shown = {
                name: f"{metrics[name]:.3f}" for name in ("reward", "informative", "kl") if name in metrics
            }
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if log and main:
                log(metrics, trainer)
            if checkpoints and checkpoints.due(trainer.steps, args.max_steps):
                checkpoints.save(trainer.steps, trainer.save)
    return trainer
