"""From examples to records: generate in batches, read the answers, compare with the gold ones.

Answers are greedy (Pass@1), or several samples a question (Pass@k). Several processes of one launch share the
questions out (`spatialvlm.processes`). Records follow from model, question and seed: batch size, padding and
the number of processes change none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from tqdm import tqdm

from spatialvlm import processes, rollout
from spatialvlm.cli import UserError
from spatialvlm.example import Example
from spatialvlm.metrics import Record
from spatialvlm.scoring import STRICT_CHOICE, Parsed, Rule
from spatialvlm.sharding import in_step


@dataclass(frozen=True)
class Settings:
    """How to answer: as `predict` says."""

    rule: Rule
    batch_size: int
    max_new_tokens: int
    num_samples: int
    temperature: float
    seed: int

    @property
    def questions(self) -> int:
        """How many are answered at a time: memory goes with the number of answers."""
        return max(1, self.batch_size // self.num_samples)


def predict(
    model,
    processor,
    examples: Sequence[Example],
    rule: Rule = STRICT_CHOICE,
    batch_size: int = 64,
    max_new_tokens: int = 16,
    progress: str | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[Record]:
    """Answers to all examples, in their order, in memory; all of them on every process of a launch.

    Args:
        rule: reads completions and gold answers; None is unread, and wrong.
        progress: the name of a progress bar with running accuracy; none where None.
        batch_size: answers at a time, on each process.
        num_samples: 1 takes the likeliest tokens; k samples k answers at `temperature`, each drawn from
            `seed`, the example's id and its number alone (the first of 4 is the first of 8).

    Returns:
        One record an example: id, task, prompt, completions (`num_samples`), parsed, gold, correct,
        `num_choices` of a lettered question or `vocabulary_size` of a free one, and `source` and `images_of`
        where its meta has them. Of several samples, parsed is the list of what each says, correct whether any
        of them is right (the paper's Pass@k), and `num_correct` of `num_samples` are. Where answers can be
        partly right (`Rule.score`), `scores` has each sample's and `score` the best.

    Raises:
        UserError: no examples, two of one id, a gold answer that cannot be read, a broken image, too little
            memory.
    """
    settings = Settings(rule, batch_size, max_new_tokens, num_samples, temperature, seed)
    gold = gold_answers(examples, settings, progress)
    rounds = answer(model, processor, examples, range(len(examples)), gold, settings)
    return [record for part in with_progress(rounds, [], len(examples), progress) for record in part]


def answer(
    model, processor, examples: Sequence[Example], todo: Sequence[int], gold: dict, settings: Settings
) -> Iterator[list[Record]]:
    """Records of examples[todo], in order, on every process: the batches of all processes, round by round.

    Batches are those of one process, and so are their numbers to the last bit. Examples are looked up when
    needed and let go after.
    """
    for indices in processes.deal(todo, settings.questions):

        def records(indices: Sequence[int] = indices) -> list[Record]:
            batch = [examples[index] for index in indices]
            with in_step(model):
                completions = _generate(model, processor, batch, settings) if batch else []
            return [
                to_record(example, texts, settings.rule, gold[example.id])
                for example, texts in zip(batch, completions, strict=True)
            ]

        yield processes.agree(records)


def _generate(model, processor, batch: Sequence[Example], settings: Settings) -> list[list[str]]:
    """(B lists of `num_samples`) texts."""
    prompts, images = [example.prompt for example in batch], [example.images for example in batch]
    try:
        completions = rollout.sample(
            model,
            rollout.encode(processor, prompts, images, device=model.device),
            settings.num_samples,
            settings.max_new_tokens,
            temperature=settings.temperature if settings.num_samples > 1 else 0,
            seeds=[Random(f"{settings.seed}-sample-{example.id}").getrandbits(62) for example in batch],
        )
    except torch.OutOfMemoryError:
        raise UserError(
            f"too little memory on {model.device} for {len(batch)} questions at a time; "
            "use a smaller --batch_size"
        ) from None
    return rollout.decode(processor, completions)


def to_record(example: Example, completions: list[str], rule: Rule, gold: Parsed) -> Record:
    parsed = [rule.read(text, example) for text in completions]
    scores = [rule.score_of(answer, gold) for answer in parsed]
    num_correct = sum(score == 1 for score in scores)
    record = {
        "id": example.id,
        "task": example.task,
        "prompt": example.prompt,
        "completions": completions,
        "parsed": parsed if len(completions) > 1 else parsed[0],
        "gold": gold,
        "correct": num_correct > 0,
    }
    if rule.score:
        record |= {"scores": scores, "score": max(scores)}
    if len(completions) > 1:
        record |= {"num_correct": num_correct, "num_samples": len(completions)}
    if example.choices:
        record["num_choices"] = len(example.choices)
    elif "vocabulary" in example.meta:
        record["vocabulary_size"] = len(example.meta["vocabulary"])
    return record | {name: example.meta[name] for name in ("source", "images_of") if name in example.meta}


def gold_answers(examples: Sequence[Example], settings: Settings, progress: str | None) -> dict:
    """Gold answers by id, in order, read as the model's are; UserError names a row where that fails.

    Each process reads those of its own batches, since examples may be made here, or opened.
    """

    def read() -> list[tuple[int, str, str | int | float]]:
        if not len(examples):
            raise UserError("there are no questions to evaluate; check --data, --split and --limit")
        found = []
        mine = [index for part in processes.deal(range(len(examples)), settings.questions) for index in part]
        # A bar of its own, once it takes long.
        quiet = progress is None or not processes.state().is_main_process
        for index in tqdm(mine, desc="questions", unit="q", delay=2, disable=quiet):
            example = examples[index]
            answer = settings.rule.gold(example)
            if answer is None:
                among = f" among {example.choices}" if example.choices else ""
                raise UserError(f"row {example.id!r}: gold answer {example.answer!r} cannot be read{among}")
            found.append((index, example.id, answer))
        return found

    rows = sorted(processes.agree(read), key=lambda row: row[0])

    def by_id() -> dict:
        gold = {}
        for _, id, answer in rows:
            if id in gold:
                raise UserError(f"two rows have the id {id!r}; make the ids of the data unique")
            gold[id] = answer
        return gold

    return processes.on_main(by_id)


def with_progress(
    rounds: Iterator[list[Record]], done: Sequence[Record], total: int, name: str | None
) -> Iterator[list[Record]]:
    right, answered = sum(record["correct"] for record in done), len(done)
    quiet = name is None or not processes.state().is_main_process
    with tqdm(total=total, initial=answered, desc=name, unit="q", disable=quiet) as bar:
        for part in rounds:
            right, answered = right + sum(record["correct"] for record in part), answered + len(part)
            bar.set_postfix(accuracy=f"{100 * right / answered:.1f}", refresh=False)
            bar.update(len(part))
            yield part
