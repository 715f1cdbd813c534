"""Groups for GRPO: prompts in a seeded order, G rewarded completions of each, split among processes.

A group whose rewards are all equal teaches nothing. With dynamic sampling (DAPO) it is replaced by a fresh
prompt, up to a maximum. Which prompts come next, and what is sampled for them, follows from the seed and
the weights alone: not from batch sizes or the number of processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from spatialvlm import distributed
from spatialvlm.errors import UserError, require_above_zero, require_at_least
from spatialvlm.example import Example
from spatialvlm.models import context_length, rollout
from spatialvlm.models.halving import Halving
from spatialvlm.models.sharding import in_step
from spatialvlm.training.loop import TrainingArgs, example_index

Reward = Callable[[str, Example], float]  # (completion, example) -> reward


@dataclass
class SamplingArgs(TrainingArgs):
    """Size of a step of GRPO, and how its completions are sampled."""

    FLAG_GROUP: ClassVar = "GRPO"
    per_pass: ClassVar[str] = "prompts_per_device"

    num_generations: int = field(default=4, metadata={"help": "completions per prompt (a group)"})
    prompts_per_device: int = field(default=1, metadata={"help": "prompts per forward pass on a device"})
    temperature: float = field(default=1.0, metadata={"help": "sampling temperature"})
    max_completion_length: int = field(default=32, metadata={"help": "longest completion, in tokens"})
    sampling_batch_size: int = field(
        default=64, metadata={"help": "completions sampled at a time on a device; memory, not results"}
    )
    dynamic_sampling: bool = field(
        default=True, metadata={"help": "replace groups whose rewards are all equal by fresh prompts"}
    )
    max_resamples: int = field(default=10, metadata={"help": "at most N further rounds of sampling per step"})

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        if self.num_generations < 2:
            raise UserError(
                f"--num_generations {self.num_generations}: a group needs at least 2 completions, "
                "because each is judged against the others; 4 is the published number"
            )
        names = ("max_completion_length", "sampling_batch_size", "temperature")
        require_above_zero(**{name: getattr(self, name) for name in names})
        require_at_least(0, max_resamples=self.max_resamples)


@dataclass(frozen=True)
class Summary:
    """What every process knows of a group."""

    number: int
    rewards: list[float]
    lengths: list[int]  # tokens of each completion

    @property
    def informative(self) -> bool:
        return max(self.rewards) > min(self.rewards)


@dataclass(frozen=True)
class Group:
    """One prompt with its rewarded completions, on the process that sampled them."""

    number: int  # of the prompt, counted from the start of the run over all processes
    example: Example
    features: Tensor | None  # (images, image tokens, hidden); None if vision is trained and they change
    tokens: Tensor  # (G, T)
    mask: Tensor  # (G, T) bool
    texts: list[str]
    rewards: list[float]

    @property
    def summary(self) -> Summary:
        return Summary(self.number, self.rewards, self.mask.sum(-1).tolist())


@dataclass(frozen=True)
class Collected:
    """The groups of a step, after `tries` rounds of sampling.

    `groups` to learn from are this process's, and so is the `first_round`, before filtering. All processes
    together learn from `kept` and saw `seen`.
    """

    groups: list[Group]
    first_round: list[Group]
    kept: list[Summary]
    seen: list[Summary]
    tries: int


class Sampler:
    """Samples and rewards the groups of a step."""

    def __init__(self, model, processor, examples: Sequence[Example], reward: Reward, args: SamplingArgs):
        self.model, self.processor, self.examples = model, processor, examples
        self.reward, self.args = reward, args
        self.vision_is_trained = rollout.vision_is_trained(model)
        self.images = rollout.ImageCache()
        self.halving = Halving(model, "sampling_batch_size", args.sampling_batch_size)
        self._warned = False

    def collect(self, drawn: int) -> Collected:
        """The groups of a step, from the prompts after the first `drawn`.

        All processes see the same summaries after every round, so all sample again or stop together. A step
        with too few groups to learn from uses those that there are; the first one warns.
        """
        args, processes = self.args, distributed.state()
        count = processes.num_processes
        wanted = args.prompts_per_pass * args.gradient_accumulation_steps * count
        mine, first_round, kept, seen = [], [], [], []  # as in `Collected`
        tries = 0
        while tries == 0 or (len(kept) < wanted and tries <= args.max_resamples):
            tries += 1
            start = drawn + len(seen)
            numbers = range(start, start + wanted - len(kept))[processes.process_index :: count]
            groups: list[Group] = []

            def sample(numbers: Sequence[int] = numbers, groups: list[Group] = groups) -> list[Summary]:
                with in_step(self.model):
                    groups.extend(self.halving(self._sample, numbers, each=args.num_generations))
                return [group.summary for group in groups]

            summaries = distributed.agree(sample)  # an error on one process ends all
            first_round = first_round or groups
            seen.extend(sorted(summaries, key=lambda summary: summary.number))
            useful = {s.number for s in summaries if s.informative or not args.dynamic_sampling}
            mine.extend(group for group in groups if group.number in useful)
            kept.extend(summary for summary in summaries if summary.number in useful)
        if len(kept) < wanted and not self._warned and processes.is_main_process:
            self._warned = True
            warnings.warn(
                f"after {args.max_resamples} further rounds {len(kept)} of {wanted} groups have rewards that "
                "differ; such steps learn from those alone (other questions, a higher --temperature or more "
                "--num_generations would give more)",
                stacklevel=2,
            )
        return Collected(mine, first_round, kept, seen, tries)

    def _sample(self, numbers: Sequence[int]) -> list[Group]:
        """Sample and reward a group for each number."""
        examples = [self.examples[example_index(n, len(self.examples), self.args.seed)] for n in numbers]
        batch = self.encode(examples)
        context_length.require_rows(self.model, batch, examples, self.args.max_completion_length)
        with torch.no_grad():
            features = rollout.image_features(self.model, batch)
        completions = rollout.sample(
            self.model,
            replace(batch, features=features),
            self.args.num_generations,
            self.args.max_completion_length,
            self.args.temperature,
            seeds=[Random(f"{self.args.seed}-draw-{number}").getrandbits(62) for number in numbers],
        )
        texts = rollout.decode(self.processor, completions)
        return [
            Group(
                number,
                example,
                None if self.vision_is_trained else features[batch.image_rows([row])],
                completions.tokens[row],
                completions.mask[row],
                texts[row],
                [float(self.reward(text, example)) for text in texts[row]],
            )
            for row, (number, example) in enumerate(zip(numbers, examples, strict=True))
        ]

    def micro_batch(self, groups: Sequence[Group]) -> tuple[rollout.Batch, rollout.Completions]:
        """Prompts and completions of some groups, padded to the longest of them."""
        batch = self.encode([group.example for group in groups])
        if not self.vision_is_trained:
            batch = replace(batch, features=torch.cat([group.features for group in groups]))
        length = max(int(group.mask.sum(-1).max()) for group in groups)
        tokens = torch.stack([fit(group.tokens, length, batch.vocabulary.pad) for group in groups])
        mask = torch.stack([fit(group.mask, length, False) for group in groups])
        return batch, rollout.Completions(tokens, mask, torch.zeros(mask.shape))

    def encode(self, examples: Sequence[Example]) -> rollout.Batch:
        """Prompts and images as the model's inputs, on its device."""
        prompts, images = [example.prompt for example in examples], [example.images for example in examples]
        return rollout.encode(self.processor, prompts, images, self.model.device, self.images)


def fit(rows: Tensor, length: int, value: float) -> Tensor:
    """(G, T) cut or padded to (G, length)."""
    return pad(rows[:, :length], (0, max(0, length - rows.shape[1])), value=value)
