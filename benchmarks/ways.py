"""Ways to take one GRPO step on the same prompts: `Plain` and `Ours`; trl's is in trl_way.py.

A way has `step()`, a whole optimizer step (sampling, rewards, reference, policy, backward, update);
`learn()`, the same on given completions; `logps()`, their log-probabilities under the policy; and
`optimizer`. All ways score `prompts_per_pass` prompts at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from workload import BETA, LEARNING_RATE, WEIGHT_DECAY, Workload, reward

from spatialvlm.models import rollout
from spatialvlm.training import grpo

# Clipping is computed in every way and never bites, so that gradients can be compared.
MAX_GRAD_NORM = 1e6


class Way(Protocol):
    optimizer: torch.optim.Optimizer

    def step(self) -> None: ...

    def learn(self, completions: rollout.Completions) -> float: ...  # the loss

    def logps(self, completions: rollout.Completions) -> Tensor: ...  # (B, G, T)


def rewards_of(processor, completions: rollout.Completions) -> list[list[float]]:
    """B lists of G."""
    texts = rollout.decode(processor, completions)
    return [[reward(text) for text in group] for group in texts]


class Plain:
    """One row per completion, as published scripts do it.

    `generate` with `num_return_sequences`, then the whole sequence of every completion through the model for
    the reference and for the policy; image and prompt are recomputed for each. Better than published code
    where that costs nothing: the mask is right, logits are made for the completion alone, and prompts are
    sampled the quicker way, which is all of a step in one batch on a GPU and one pass's on a CPU.
    """

    def __init__(self, work: Workload, num_generations: int):
        self.work, self.num_generations, self.model = work, num_generations, work.model
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.scaler = torch.amp.GradScaler(self.model.device.type, enabled=self.model.dtype == torch.float16)

    def step(self) -> None:
        batch, prompts = self.work.encode(), len(self.work.examples)
        size = prompts if self.model.device.type == "cuda" else self.work.prompts_per_pass
        parts = [self._sample(batch.select(range(at, at + size))) for at in range(0, prompts, size)]
        tokens = torch.cat(parts)
        mask = torch.ones_like(tokens, dtype=torch.bool)  # the end token has no chance
        self._learn(batch, rollout.Completions(tokens, mask, torch.zeros(tokens.shape)))

    def learn(self, completions: rollout.Completions) -> float:
        return self._learn(self.work.encode(), completions)

    @torch.no_grad()
    def logps(self, completions: rollout.Completions) -> Tensor:
        return rollout.per_token_logps_plain(self.model, self.work.encode(), completions)

    @torch.no_grad()
    def _sample(self, batch: rollout.Batch) -> Tensor:
        """Completions as token ids (B, G, T)."""
        self.model.eval()
        rows = self.model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=torch.zeros_like(batch.input_ids),
            pixel_values=batch.pixel_values.to(self.model.dtype),
            num_return_sequences=self.num_generations,
            max_new_tokens=self.work.completion_length,
            do_sample=True,
            temperature=1.0,
            top_k=0,
        )
        return rows[:, batch.input_ids.shape[1] :].view(len(batch.input_ids), self.num_generations, -1)

    def _learn(self, batch: rollout.Batch, completions: rollout.Completions) -> float:
        rewards = torch.tensor(rewards_of(self.work.processor, completions), device=self.model.device)
        advantages = grpo.group_advantages(rewards)
        prompts, num_generations, _ = completions.tokens.shape
        size, total = self.work.prompts_per_pass, torch.zeros((), device=self.model.device)
        self.model.train()
        for start in range(0, prompts, size):
            rows = range(start, start + size)
            these, sampled = batch.select(rows), completions.select(rows)
            with torch.no_grad(), self.model.disable_adapter():
                ref_logps = rollout.per_token_logps_plain(self.model, these, sampled).flatten(0, 1)
            logps = rollout.per_token_logps_plain(self.model, these, sampled).flatten(0, 1)
            loss = grpo.loss_from_logps(
                logps,
                ref_logps,
                advantages[rows].flatten(),
                sampled.mask.flatten(0, 1),
                BETA,
                num_completions=prompts * num_generations,
            )
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return total.item()


class Ours:
    """spatialvlm's own trainer as training uses it; without dynamic sampling, which would draw more groups.

    Its store of resized images is emptied before each step: in a real run an image seldom comes again soon.
    """

    def __init__(self, work: Workload, num_generations: int):
        self.work = work
        args = grpo.GRPOArgs(
            learning_rate=LEARNING_RATE,
            lr_scheduler="constant",
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            num_generations=num_generations,
            prompts_per_device=work.prompts_per_pass,
            gradient_accumulation_steps=work.passes,
            max_completion_length=work.completion_length,
            beta=BETA,
            dynamic_sampling=False,
            seed=work.seed,
        )
        self.trainer = grpo.Trainer(work.model, work.processor, work.examples, reward, args)
        self.optimizer = self.trainer.optimizer

    def step(self) -> None:
        self.trainer.sampler.images = rollout.ImageCache()
        self.trainer.take_step()

    def learn(self, completions: rollout.Completions) -> float:
        rewards = rewards_of(self.work.processor, completions)
        collected, groups = self.trainer.sampler.collect(self.trainer.drawn), []
        for group in collected.groups:  # the same prompts, in the seed's order
            row = int(group.example.id)
            tokens, mask = completions.tokens[row], completions.mask[row]
            groups.append(replace(group, tokens=tokens, mask=mask, rewards=rewards[row]))
        kept = [group.summary for group in groups]
        return self.trainer.learn(replace(collected, groups=groups, kept=kept))["loss"]

    @torch.no_grad()
    def logps(self, completions: rollout.Completions) -> Tensor:
        return rollout.per_token_logps(self.work.model, self.work.encode(), completions)


def agreement(ways: dict[str, Way], work: Workload, num_generations: int) -> dict[str, dict[str, float]]:
    """How far each way is from the first, on the same completions: greatest difference of log-probabilities,
    difference of the loss, and of the gradient relative to its norm. The weights are left as they were.
    """
    completions = rollout.sample(
        work.model, work.encode(), num_generations, work.completion_length, seeds=range(len(work.examples))
    )
    parameters = [parameter for parameter in work.model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    found = {}
    for name, way in ways.items():
        logps, gradients = way.logps(completions), []
        hook = way.optimizer.register_step_pre_hook(lambda *_, into=gradients: into.append(flat(parameters)))
        while not gradients:  # a float16 step that overflows is left out, and the next tried at a lower scale
            loss = way.learn(completions)
        hook.remove()
        found[name] = logps, loss, gradients[0]
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
    (first_logps, first_loss, first_gradient), *_ = found.values()
    return {
        name: {
            "logps": (logps - first_logps).abs().max().item(),
            "loss": abs(loss - first_loss),
            "gradient": ((gradient - first_gradient).norm() / first_gradient.norm()).item(),
        }
        for name, (logps, loss, gradient) in found.items()
    }


def flat(parameters: Sequence[Tensor]) -> Tensor:
    """Their gradients in one row, copied."""
    return torch.cat([parameter.grad.flatten() for parameter in parameters])
