"""From examples to records: generate in batches, read the answers, compare with the gold ones.

Answers are greedy (Pass@1), or several samples a question (Pass@k). Several processes of one launch share the
questions out (`spatialvlm.distributed`). Records follow from model, question and seed: batch size, padding
and the number of processes change none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from tqdm import tqdm

from spatialvlm import distributed
from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Parsed, Rule
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.prepare import Prepared, prepared
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import rollout
from spatialvlm.models.sharding import in_step


@dataclass(frozen=True)
class Settings:
    """How to answer: as `predict` says."""

    rule: Rule
    batch_size: int
    max_new_tokens: int
    num_samples: int
    temperature: float
    seed: int
    num_workers: int = 0

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
    num_workers: int = 0,
) -> list[Record]:
    """Answers to all examples, in their order, in memory; all of them on every process of a launch.

    Args:
        rule: reads completions and gold answers; None is unread, and wrong.
        progress: the name of a progress bar with running accuracy; none where None.
        batch_size: answers at a time, on each process.
        num_samples: 1 takes the likeliest tokens; k samples k answers at `temperature`, each drawn from
            `seed`, the example's id and its number alone (the first of 4 is the first of 8).
        num_workers: processes that decode and preprocess while the model runs (`prepare.prepared`).

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
    settings = Settings(rule, batch_size, max_new_tokens, num_samples, temperature, seed, num_workers)
    gold, lengths = gold_answers(examples, settings, progress)
    rounds = answer(model, processor, examples, by_length(range(len(examples)), lengths), gold, settings)
    found = {
        record["id"]: record for part in with_progress(rounds, [], len(gold), progress) for record in part
    }
    return [found[id] for id in gold]


def by_length(todo: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Indices so that neighbours have prompts of about one length, and little is padded; the longest first,
    so that what does not fit in memory is known at once."""
    return sorted(todo, key=lambda index: -lengths[index])


def answer(
    model, processor, examples: Sequence[Example], todo: Sequence[int], gold: dict, settings: Settings
) -> Iterator[list[Record]]:
    """Records of examples[todo], in order, on every process: the batches of all processes, round by round.

    Batches are those of one process, and so are their numbers to the last bit. Examples are looked up when
    needed, ahead of the model by worker processes where `settings` has some, and let go after.
    """
    shares = distributed.deal(todo, settings.questions)
    batches = prepared(processor, examples, shares, min(settings.num_workers, len(shares)))
    for _ in shares:

        def records() -> list[Record]:
            with in_step(model):
                batch = next(batches)
                completions = _generate(model, processor, batch, settings) if batch.examples else []
            return [
                to_record(example, texts, settings.rule, gold[example.id])
                for example, texts in zip(batch.examples, completions, strict=True)
            ]

        yield distributed.agree(records)


def _generate(model, processor, batch: Prepared, settings: Settings) -> list[list[str]]:
    """(B lists of `num_samples`) texts."""
    try:
        completions = rollout.sample(
            model,
            batch.inputs.to(model.device),
            settings.num_samples,
            settings.max_new_tokens,
            temperature=settings.temperature if settings.num_samples > 1 else 0,
            seeds=[Random(f"{settings.seed}-sample-{e.id}").getrandbits(62) for e in batch.examples],
        )
    except torch.OutOfMemoryError:
        raise UserError(
            f"too little memory on {model.device} for {len(batch.examples)} questions at a time; "
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
    kept = ("source", "images_of", "cluster")
    return record | {name: example.meta[name] for name in kept if name in example.meta}


def gold_answers(
    examples: Sequence[Example], settings: Settings, progress: str | None
) -> tuple[dict[str, Parsed], list[int]]:
    """(gold answers by id, in order; the length of each prompt, pictures apart).

    They are read as the model's are; UserError names a row where that fails.

    Each process reads those of its own batches, since examples may be made here, or opened.
    """

    prefetch(examples)

    def read() -> list[tuple[int, str, Parsed, int]]:
        if not len(examples):
            raise UserError("there are no questions to evaluate; check --data, --split and --limit")
        found = []
        mine = [
            index for part in distributed.deal(range(len(examples)), settings.questions) for index in part
        ]
        # A bar of its own, once it takes long.
        quiet = progress is None or not distributed.state().is_main_process
        for index in tqdm(mine, desc="questions", unit="q", delay=2, disable=quiet):
            example = examples[index]
            answer = settings.rule.gold(example)
            if answer is None:
                among = f" among {example.choices}" if example.choices else ""
                raise UserError(f"row {example.id!r}: gold answer {example.answer!r} cannot be read{among}")
            found.append((index, example.id, answer, len(example.prompt)))
        return found

    rows = sorted(distributed.agree(read), key=lambda row: row[0])

    def by_id() -> dict:
        gold = {}
        for _, id, answer, _ in rows:
            if id in gold:
                raise UserError(f"two rows have the id {id!r}; make the ids of the data unique")
            gold[id] = answer
        return gold

    return distributed.on_main(by_id), [length for *_, length in rows]


def with_progress(
    rounds: Iterator[list[Record]], done: Sequence[Record], total: int, name: str | None
) -> Iterator[list[Record]]:
    right, answered = sum(record["correct"] for record in done), len(done)
    quiet = name is None or not distributed.state().is_main_process
    with tqdm(total=total, initial=answered, desc=name, unit="q", disable=quiet) as bar:
        for part in rounds:
            right, answered = right + sum(record["correct"] for record in part), answered + len(part)
            bar.set_postfix(accuracy=f"{100 * right / answered:.1f}", refresh=False)
            bar.update(len(part))
            yield part
