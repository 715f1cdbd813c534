"""Groups for GRPO: prompts drawn in a seeded order, G rewarded completions of each, shared among processes.

A group whose rewards are all equal teaches nothing. With dynamic sampling (DAPO) it is replaced by a fresh
prompt, up to a cap. Which prompts a step draws, and what is sampled for them, follows from the seed and the
weights alone: not from batch sizes or the number of processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from spatialvlm import distributed
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import rollout
from spatialvlm.models.sharding import in_step

if TYPE_CHECKING:
    from spatialvlm.training.grpo import GRPOArgs

Reward = Callable[[str, Example], float]  # (completion, what was asked) -> reward


@dataclass(frozen=True)
class Group:
    """One prompt with its rewarded completions, on the process that sampled them."""

    draw: int
    example: Example
    features: Tensor | None  # (images, image tokens, hidden); None where vision is trained and they change
    tokens: Tensor  # (G, T)
    mask: Tensor  # (G, T) bool
    texts: list[str]
    rewards: list[float]

    @property
    def summary(self) -> Summary:
        return Summary(self.draw, self.rewards, self.mask.sum(-1).tolist())


@dataclass(frozen=True)
class Summary:
    """What every process knows of a group."""

    draw: int
    rewards: list[float]
    lengths: list[int]  # tokens of each completion

    @property
    def informative(self) -> bool:
        return max(self.rewards) > min(self.rewards)


@dataclass(frozen=True)
class Collected:
    """What a step found in `tries` rounds of drawing.

    `groups` to learn from are this process's, and so is the `first_round`, before filtering. All processes
    together learn from `kept` and saw `seen`.
    """

    groups: list[Group]
    first_round: list[Group]
    kept: list[Summary]
    seen: list[Summary]
    tries: int


@lru_cache(maxsize=2)  # a step may reach from one epoch into the next
def _epoch_order(seed: int, epoch: int, size: int) -> list[int]:
    order = list(range(size))
    Random(f"{seed}-epoch-{epoch}").shuffle(order)
    return order


def example_index(draw: int, size: int, seed: int) -> int:
    """Which of `size` examples the draw-th prompt is; every epoch goes through all in its own order."""
    return _epoch_order(seed, draw // size, size)[draw % size]


class Sampler:
    """Draws, samples and rewards. `drawn` counts the prompts drawn so far, over all processes."""

    def __init__(self, model, processor, examples: Sequence[Example], reward: Reward, args: GRPOArgs):
        self.model, self.processor, self.examples = model, processor, examples
        self.reward, self.args = reward, args
        self.processes = distributed.state()
        self.vision_is_trained = rollout.vision_is_trained(model)
        self.images = rollout.ImageCache()
        self.drawn = 0
        prefetch(examples)
        self._warned = False

    def collect(self) -> Collected:
        """The groups of a step.

        All processes see the same summaries after every round, so all draw again or stop together. A step
        that finds too few groups to learn from goes on with what there is; the first one warns.
        """
        args, count = self.args, self.processes.num_processes
        wanted = args.prompts_per_device * args.gradient_accumulation_steps * count
        groups_here: list[Group] = []
        first_round: list[Group] = []
        kept: list[Summary] = []
        seen: list[Summary] = []
        for tries in range(1, 2 + args.max_resamples * args.dynamic_sampling):
            draws = range(self.drawn, self.drawn + wanted - len(kept))
            self.drawn = draws.stop
            mine, groups = draws[self.processes.process_index :: count], []

            def sample(mine: Sequence[int] = mine, groups: list[Group] = groups) -> list[Summary]:
                with in_step(self.model):
                    groups.extend(self.sample(mine))
                return [group.summary for group in groups]

            summaries = distributed.agree(sample)  # an error on one process ends all
            first_round = first_round or groups
            seen.extend(sorted(summaries, key=lambda summary: summary.draw))
            useful = {s.draw for s in summaries if s.informative or not args.dynamic_sampling}
            groups_here.extend(group for group in groups if group.draw in useful)
            kept.extend(summary for summary in summaries if summary.draw in useful)
            if len(kept) == wanted:
                return Collected(groups_here, first_round, kept, seen, tries)
        if not self._warned and self.processes.is_main_process:
            self._warned = True
            warnings.warn(
                f"after {args.max_resamples} further draws {len(kept)} of {wanted} groups have "
                "rewards that differ; such steps go on with what there is (other questions, a higher "
                "--temperature or more --num_generations would give more)",
                stacklevel=2,
            )
        return Collected(groups_here, first_round, kept, seen, tries)

    def sample(self, draws: Sequence[int]) -> list[Group]:
        """Samples and rewards a group for each draw, `args.sampling_batch_size` completions at a time."""
        size = max(1, self.args.sampling_batch_size // self.args.num_generations)
        parts = [draws[start : start + size] for start in range(0, len(draws), size)]
        return [group for part in parts for group in self._sample(part)]

    def _sample(self, draws: Sequence[int]) -> list[Group]:
        args = self.args
        examples = [self.examples[example_index(draw, len(self.examples), args.seed)] for draw in draws]
        batch = self._encode(examples)
        with torch.no_grad():
            features = rollout.image_features(self.model, batch)
        completions = rollout.sample(
            self.model,
            replace(batch, features=features),
            args.num_generations,
            args.max_completion_length,
            args.temperature,
            seeds=[Random(f"{args.seed}-draw-{draw}").getrandbits(62) for draw in draws],
        )
        texts = rollout.decode(self.processor, completions)
        return [
            Group(
                draw,
                example,
                None if self.vision_is_trained else features[batch.image_rows([row])],
                completions.tokens[row],
                completions.mask[row],
                texts[row],
                [float(self.reward(text, example)) for text in texts[row]],
            )
            for row, (draw, example) in enumerate(zip(draws, examples, strict=True))
        ]

    def micro_batch(self, groups: Sequence[Group]) -> tuple[rollout.Batch, rollout.Completions, Tensor]:
        """Prompts, completions and rewards (B, G) of some groups, padded to the longest of them."""
        batch = self._encode([group.example for group in groups])
        if not self.vision_is_trained:
            batch = replace(batch, features=torch.cat([group.features for group in groups]))
        length = max(int(group.mask.sum(-1).max()) for group in groups)
        tokens = [fit(group.tokens, length, batch.vocabulary.pad) for group in groups]
        mask = torch.stack([fit(group.mask, length, False) for group in groups])
        rewards = torch.tensor([group.rewards for group in groups], device=mask.device)
        return batch, rollout.Completions(torch.stack(tokens), mask, torch.zeros(mask.shape)), rewards

    def _encode(self, examples: Sequence[Example]) -> rollout.Batch:
        prompts, images = [example.prompt for example in examples], [example.images for example in examples]
        return rollout.encode(self.processor, prompts, images, self.model.device, self.images)


def fit(rows: Tensor, length: int, value: float) -> Tensor:
    """(G, T) cut or filled up to (G, length)."""
    return pad(rows[:, :length], (0, max(0, length - rows.shape[1])), value=value)
