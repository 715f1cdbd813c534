"""Evaluate: generate answers in batches, parse and score them, and keep it all in a run folder.

`run` is what the scripts call. Answers are greedy (Pass@1), or several samples per question (Pass@k). The
processes of a launch shard the questions. Records follow from model, question and seed alone: batch size,
padding and the number of processes change none in float32. A stopped run resumes where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from tqdm import tqdm

from spatialvlm import distributed
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation.ablations import blank_images, shuffle_images
from spatialvlm.evaluation.batches import Prepared, prepared
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Benchmark, Parsed, Rule, to_record
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.summary import summarize, table
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import context_length, rollout
from spatialvlm.models.features import Features
from spatialvlm.models.halving import Halving
from spatialvlm.models.loading import ModelArgs, weights_name
from spatialvlm.models.sharding import in_step
from spatialvlm.run_folder import DataSource, Run, fingerprint

MAY_DIFFER = ("output_dir", "run_name", "batch_size", "num_workers")  # arguments that change no score
SAMPLING_TEMPERATURE = 1.0  # of several samples per question, as published

Facts = Mapping[str, Any] | Callable[[list[Record]], Mapping[str, Any]]


class Gold(NamedTuple):
    """The right answers by id, in the order of the examples, and what is known of each prompt."""

    answers: dict[str, Parsed]
    lengths: list[int]  # in characters
    images: list[str | None]  # files' names, hashed: equal for questions about the same images


@dataclass
class Args(ModelArgs):
    """What every evaluation script takes."""

    FLAG_GROUP: ClassVar = "evaluation"

    data: str | None = field(
        default=None, metadata={"help": "hub id, file, folder, or 'embedded'; by profile where not given"}
    )
    split: str | None = field(
        default=None, metadata={"help": "split of the data set; its test split by default"}
    )
    limit: int | None = field(default=None, metadata={"help": "maximum number of questions"})
    batch_size: int = field(
        default=64, metadata={"help": "answers per batch and device; changes no float32 score"}
    )
    max_new_tokens: int = field(default=16, metadata={"help": "maximum length of an answer, in tokens"})
    num_workers: int | None = field(
        default=None,
        metadata={"help": "processes that decode images while the model runs; by device where not given"},
    )
    num_samples: int = field(
        default=1, metadata={"help": "1 = greedy Pass@1; k = k samples at temperature 1.0, and Pass@k"}
    )
    output_dir: str | None = field(
        default=None,
        metadata={"help": "run folder; results/<script>/<model>-<hash of the arguments> by default"},
    )
    rule: Literal["strict", "official", "paper", "lmms_eval"] = field(
        default="strict",
        metadata={
            "help": "who parses: ours, the benchmark's authors, the paper, or lmms-eval (docs/scoring.md)"
        },
    )
    shuffle_images: bool = field(
        default=False, metadata={"help": "ablation: each question gets the image of another one"}
    )
    blank_image: bool = field(
        default=False, metadata={"help": "ablation: grey images; what is still right the text gives away"}
    )

    def __post_init__(self) -> None:
        require_at_least(
            1,
            limit=self.limit,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
            num_samples=self.num_samples,
        )
        require_at_least(0, num_workers=self.num_workers)


@dataclass(frozen=True)
class Settings:
    """How to answer.

    Args:
        rule: parses completions and gold answers; an unparsed completion is wrong.
        batch_size: answers per batch, on each process.
        num_samples: 1 takes the likeliest tokens; k samples k answers at `temperature`, each from `seed`, the
            example's id and its number alone (the first of 4 is the first of 8).
        num_workers: processes that decode and preprocess images while the model runs.
        flag: which sets `batch_size`, for messages.
    """

    rule: Rule = STRICT_CHOICE
    batch_size: int = 64
    max_new_tokens: int = 16
    num_samples: int = 1
    temperature: float = SAMPLING_TEMPERATURE
    seed: int = 0
    num_workers: int = 0
    flag: str = "batch_size"

    @property
    def questions(self) -> int:
        """Questions per batch: memory scales with the number of answers."""
        return max(1, self.batch_size // self.num_samples)


# ---- into a run folder, or in memory


def run(
    model,
    processor,
    examples: Sequence[Example],
    benchmark: Benchmark,
    args: Args,
    facts: Facts | None = None,
    data: DataSource | None = None,
) -> tuple[list[Record], dict]:
    """Evaluate all examples into the run folder of `args` and print the table.

    Args:
        benchmark: its rules, of which `args.rule` names one, and its totals.
        facts: further entries of the summary, or a function of the records that returns them.
        data: where the examples come from, for config.json.

    Returns:
        (records in the order of `examples`, summary), the same on every process; the main one alone writes.

    Raises:
        UserError: as `predict`; a rule that the benchmark does not have; the folder holds another run or
            answers to other questions; a full disk.
    """
    if args.rule not in benchmark.rules:
        raise UserError(f"--rule {args.rule}: {benchmark.title} has {', '.join(benchmark.rules)}")
    if args.shuffle_images and args.blank_image:
        raise UserError("--shuffle_images and --blank_image are two ablations; give one")
    if args.shuffle_images:
        examples = shuffle_images(examples, args.seed)
    if args.blank_image:
        examples = blank_images(examples)
    settings = Settings(
        benchmark.rules[args.rule],
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        num_samples=args.num_samples,
        seed=args.seed,
        num_workers=default_workers(model.device) if args.num_workers is None else args.num_workers,
    )
    gold = gold_answers(examples, settings, benchmark.title)  # before there is a folder: bad rows leave none
    folder = distributed.on_main(lambda: open_run(model, args, benchmark.title, data))
    records, summary = answer_into(folder, model, processor, examples, gold, benchmark, settings, facts=facts)
    distributed.on_main(lambda: print(f"{table(summary)}\nwritten to {folder.folder}", flush=True))
    return records, summary


def answer_into(
    folder: Run,
    model,
    processor,
    examples: Sequence[Example],
    gold: Gold,
    benchmark: Benchmark,
    settings: Settings,
    progress: str | None = None,
    facts: Facts | None = None,
    interim_every: int | None = None,
    report: Callable[[dict], None] = lambda summary: None,
) -> tuple[list[Record], dict]:
    """Answer what the folder does not hold yet, batch by batch, and write the summary.

    What was generated earlier is parsed again by the present rule, by as many processes as there are now.

    Args:
        gold: the examples' (`gold_answers`).
        progress: name of the progress bar; the benchmark's where None.
        interim_every: answers after which the summary so far is written and handed to `report`.

    Returns and raises as `run`.
    """
    done = distributed.on_main(lambda: records_done(folder, examples, settings.rule, gold.answers))
    started, from_before = time.monotonic(), len(done)

    def summarized() -> tuple[list[Record], dict]:
        records = [done[id] for id in gold.answers if id in done]
        took = {
            "seconds": time.monotonic() - started,
            "peak_memory_bytes": max(distributed.agree(lambda: [peak_memory_bytes()])),
            "answers_from_before": from_before,
        }

        def write() -> dict:
            before = folder.summary()
            if from_before == len(examples) and before and before["n"] == from_before:
                took.update({name: before[name] for name in took})  # nothing was left to do
            summary = summarize(records, benchmark.aggregate, settings.rule, benchmark.title) | took
            summary |= (facts(records) if callable(facts) else facts) or {}
            folder.write_summary(summary)
            return summary

        return records, distributed.on_main(write)

    for batch in answer(model, processor, examples, gold, settings, done, progress or benchmark.title):
        distributed.on_main(lambda batch=batch: folder.add_predictions(batch))
        before = len(done)
        done |= {record["id"]: record for record in batch}
        due = interim_every and before // interim_every < len(done) // interim_every
        if due and len(done) < len(examples):
            _, summary = summarized()
            distributed.on_main(lambda summary=summary: report(summary))
    return summarized()


def predict(
    model,
    processor,
    examples: Sequence[Example],
    rule: Rule = STRICT_CHOICE,
    progress: str | None = None,
    **settings: Any,
) -> list[Record]:
    """Answer all examples in memory; the records, in their order, are the same on every process.

    Args:
        progress: name of a progress bar with running accuracy; none where None.
        settings: further `Settings` by name.

    Returns:
        One record per example (`benchmark.to_record`).

    Raises:
        UserError: no examples, two with one id, a gold answer that cannot be parsed, a broken image, too
            little memory.
    """
    chosen = Settings(rule, **settings)
    gold = gold_answers(examples, chosen, progress)
    batches = answer(model, processor, examples, gold, chosen, {}, progress)
    done = {record["id"]: record for batch in batches for record in batch}
    return [done[id] for id in gold.answers]


def default_workers(device: torch.device) -> int:
    """A GPU is kept fed by up to 8 processes; on a CPU the model itself takes all cores."""
    return min(8, os.cpu_count() or 1) if torch.device(device).type == "cuda" else 0


def open_run(model, args: Args, benchmark: str, data: DataSource | None = None) -> Run:
    """The run's folder: --output_dir, or results/<script>/<model>-<hash of the arguments>.

    The same command comes back to the same folder; other arguments, weights or data lead to another one.
    """
    weights = weights_name(model)
    config = asdict(args) | {
        "benchmark": benchmark,
        "weights": weights,
        "weights_state": fingerprint(weights),
        "adapter_state": fingerprint(args.adapter) if args.adapter else None,
        "data_state": fingerprint(args.data) if args.data else None,
    }
    decisive = {name: value for name, value in config.items() if name not in MAY_DIFFER}
    code = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:8]
    model_name = Path(args.adapter).resolve().parent.name if args.adapter else Path(weights).name
    folder = args.output_dir or Path("results", Path(sys.argv[0]).stem, f"{model_name}-{code}")
    return Run(folder, config, may_differ=MAY_DIFFER, facts={"model_device": str(model.device)}, data=data)


def records_done(folder: Run, examples: Sequence[Example], rule: Rule, gold: dict) -> dict[str, Record]:
    """What the folder holds already, parsed again. Raises UserError where it answers other questions."""
    index_of = {id: index for index, id in enumerate(gold)}
    done = {}
    for row in folder.predictions():
        example = examples[index_of[row["id"]]] if row["id"] in index_of else None
        if example is None or example.prompt != row["prompt"]:
            raise UserError(
                f"{folder.folder} holds answers to other questions (row {row['id']!r}); "
                "use another --output_dir, or delete the folder"
            )
        done[row["id"]] = to_record(example, row["completions"], rule, gold[row["id"]])
    if 0 < len(done) < len(gold):
        print(f"{folder.folder} has {len(done)} of {len(gold)} answers already; delete it to start again")
    return done


def peak_memory_bytes() -> int:
    """Peak memory of this process: on its CUDA device where it has one, else in all."""
    if distributed.state().device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ---- from examples to records


def gold_answers(examples: Sequence[Example], settings: Settings, progress: str | None) -> Gold:
    """Parse the right answers; each process its own shard, since examples may be rendered or opened here.

    Raises:
        UserError: no examples, two with one id, or a gold answer that cannot be parsed; it names the row.
    """
    prefetch(examples)

    def parse() -> list[tuple[int, str, Parsed, int, str | None]]:
        if not len(examples):
            raise UserError("there are no questions to evaluate; check --data, --split and --limit")
        rows = []
        shard = [
            index for batch in distributed.shards(range(len(examples)), settings.questions) for index in batch
        ]
        # A bar of its own, once it takes long.
        quiet = progress is None or not distributed.state().is_main_process
        for index in tqdm(shard, desc="questions", unit="q", delay=2, disable=quiet):
            example = examples[index]
            answer = settings.rule.gold(example)
            if answer is None:
                among = f" among {example.choices}" if example.choices else ""
                raise UserError(f"row {example.id!r}: gold answer {example.answer!r} cannot be parsed{among}")
            rows.append((index, example.id, answer, len(example.prompt), _files(example)))
        return rows

    rows = sorted(distributed.agree(parse), key=lambda row: row[0])

    def by_id() -> dict[str, Parsed]:
        answers, first = {}, {}
        for number, id, answer, *_ in rows:
            if first.setdefault(id, number) != number:
                raise UserError(
                    f"two rows have the id {id!r}, number {first[id]} and number {number} of the questions; "
                    "make the ids of the data unique"
                )
            answers[id] = answer
        return answers

    lengths, images = [row[3] for row in rows], [row[4] for row in rows]
    return Gold(distributed.on_main(by_id), lengths, images)


def _files(example: Example) -> str | None:
    """What examples with the same image files have in common; None for images in memory."""
    if not all(isinstance(image, Path) for image in example.images):
        return None
    return hashlib.sha256("\0".join(map(str, example.images)).encode()).hexdigest()[:16]


def by_length(
    todo: Sequence[int], lengths: Sequence[int], images: Sequence[str | None] | None = None
) -> list[int]:
    """Indices so that neighbours have the same images, or prompts of about one length: little is padded.

    The longest come first, so that what does not fit in memory is known at once.
    """
    first: dict[str | int, int] = {}  # of the questions about some images, and their longest prompt
    longest: dict[str | int, int] = {}

    def source(index: int) -> str | int:
        return index if images is None or images[index] is None else images[index]

    for place, index in enumerate(todo):
        first.setdefault(source(index), place)
        longest[source(index)] = max(longest.get(source(index), 0), lengths[index])
    return sorted(todo, key=lambda i: (-longest[source(i)], first[source(i)], -lengths[i]))


def answer(
    model,
    processor,
    examples: Sequence[Example],
    gold: Gold,
    settings: Settings,
    done: Mapping[str, Record],
    progress: str | None,
) -> Iterator[list[Record]]:
    """Records of the examples that are not done, on every process: the batches of all, round by round.

    Batches are those of one process, and so are their numbers to the last bit. Examples are looked up when
    needed, ahead of the model by worker processes where `settings` has some, and let go after.
    """
    todo = [index for index, id in enumerate(gold.answers) if id not in done]
    todo = by_length(todo, gold.lengths, gold.images)
    shards = distributed.shards(todo, settings.questions)
    workers = min(settings.num_workers, len(shards))
    batches = prepared(processor, examples, shards, workers, gold.images)
    halving, features = Halving(model, settings.flag, settings.batch_size), Features(model)
    right, answered = sum(record["correct"] for record in done.values()), len(done)
    quiet = progress is None or not distributed.state().is_main_process
    with tqdm(total=len(examples), initial=answered, desc=progress, unit="q", disable=quiet) as bar:
        for _ in shards:

            def records() -> list[Record]:
                with in_step(model):
                    batch = next(batches)
                    completions = (
                        _generate(model, processor, batch, settings, halving, features)
                        if batch.examples
                        else []
                    )
                return [
                    to_record(example, texts, settings.rule, gold.answers[example.id])
                    for example, texts in zip(batch.examples, completions, strict=True)
                ]

            found = distributed.agree(records)
            right, answered = right + sum(record["correct"] for record in found), answered + len(found)
            bar.set_postfix(accuracy=f"{100 * right / answered:.1f}", refresh=False)
            bar.update(len(found))
            yield found


def _generate(
    model, processor, batch: Prepared, settings: Settings, halving: Halving, features: Features
) -> list[list[str]]:
    """(B lists of `num_samples`) texts."""

    def generate(rows: Sequence[int]) -> list[list[str]]:
        part = batch.inputs if len(rows) == len(batch.examples) else batch.inputs.select(rows)
        chosen = [batch.examples[row] for row in rows]
        context_length.require_rows(model, part, chosen, settings.max_new_tokens)
        completions = rollout.sample(
            model,
            features.of(part, [batch.images[row] for row in rows]),
            settings.num_samples,
            settings.max_new_tokens,
            temperature=settings.temperature if settings.num_samples > 1 else 0,
            seeds=[Random(f"{settings.seed}-sample-{each.id}").getrandbits(62) for each in chosen],
        )
        return rollout.decode(processor, completions)

    try:
        return halving(generate, range(len(batch.examples)), each=settings.num_samples)
    except torch.OutOfMemoryError:
        questions = min(halving.batch_size // settings.num_samples, len(batch.examples))
        several = f"{questions} questions at a time; use a smaller --{halving.flag}"
        one = "one question at a time; use --load_in_4bit, smaller images or shorter answers"
        raise UserError(
            f"too little memory on {model.device} for {several if questions > 1 else one}"
        ) from None
