"""Evaluation: generate in batches, read the answers, score and record them, go on after a stop.

Answers are greedy (Pass@1), or several samples a question (Pass@k). Several processes of one launch share the
questions out (`spatialvlm.processes`). Records follow from model, question and seed: batch size, padding and
the number of processes change none.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

import torch
from tqdm import tqdm

from spatialvlm import answers, processes, rollout
from spatialvlm.cli import UserError
from spatialvlm.controls import shuffle_images
from spatialvlm.example import Example
from spatialvlm.metrics import Record
from spatialvlm.models import ModelArgs
from spatialvlm.results import Run, fingerprint
from spatialvlm.summary import Aggregate, Reader, micro_and_mean, summarize, table

__all__ = [
    "Aggregate",
    "Args",
    "Reader",
    "answer_into",
    "micro_and_mean",
    "open_run",
    "peak_memory_bytes",
    "predict",
    "read_choice",
    "read_free",
    "run",
    "summarize",
    "table",
]

MAY_DIFFER = ("output_dir", "run_name", "batch_size")  # arguments that change no score
SAMPLING_TEMPERATURE = 1.0  # of several samples a question, as published


@dataclass
class Args(ModelArgs):
    """What every evaluation script takes."""

    data: str | None = field(
        default=None, metadata={"help": "hub id, file, folder, or 'embedded'; by profile where not given"}
    )
    split: str | None = field(
        default=None, metadata={"help": "split of the data set; its test split by default"}
    )
    limit: int | None = field(default=None, metadata={"help": "evaluate at most this many questions"})
    batch_size: int = field(default=64, metadata={"help": "questions at a time, a device; changes no score"})
    max_new_tokens: int = field(default=16, metadata={"help": "longest answer, in tokens"})
    num_samples: int = field(
        default=1, metadata={"help": "1 = greedy Pass@1; k = k samples at temperature 1.0, and Pass@k"}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/<script>/<run_name> where not given"}
    )
    run_name: str | None = field(default=None, metadata={"help": "made from the arguments where not given"})
    shuffle_images: bool = field(
        default=False, metadata={"help": "control: each question gets the image of another one"}
    )

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "max_new_tokens", "num_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")


def read_choice(text: str, example: Example) -> str | None:
    """The letter of the choice that a text answers with (`answers.choice`)."""
    return answers.choice(text, example.choices)


def read_free(text: str, example: Example) -> str | int | float | None:
    """Yes or no, a number or a word, by what `meta["vocabulary"]` holds (`answers.one_of`)."""
    return answers.one_of(text, example.meta["vocabulary"])


# ---- from examples to records


@dataclass(frozen=True)
class _Settings:
    """How to answer: as `predict` says."""

    reader: Reader
    batch_size: int
    max_new_tokens: int
    num_samples: int
    temperature: float
    seed: int


def predict(
    model,
    processor,
    examples: Sequence[Example],
    reader: Reader = read_choice,
    batch_size: int = 64,
    max_new_tokens: int = 16,
    progress: str | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[Record]:
    """Answers to all examples, in their order, in memory; all of them on every process of a launch.

    Args:
        reader: reads completion and gold answer alike; None is unread, and wrong.
        progress: the name of a progress bar with running accuracy; none where None.
        num_samples: 1 takes the likeliest tokens; k samples k answers at `temperature`, each drawn from
            `seed`, the example's id and its number alone (the first of 4 is the first of 8).

    Returns:
        One record an example: id, task, prompt, completions (`num_samples`), parsed, gold, correct,
        `num_choices` of a lettered question or `vocabulary_size` of a free one, and `source` and `images_of`
        where its meta has them. Of several samples, parsed is the list of what each says, correct whether any
        of them is right (the paper's Pass@k), and `num_correct` of `num_samples` are.

    Raises:
        UserError: no examples, two of one id, a gold answer that cannot be read, a broken image, too little
            memory.
    """
    settings = _Settings(reader, batch_size, max_new_tokens, num_samples, temperature, seed)
    gold = _gold_answers(examples, settings, progress)
    rounds = _answer(model, processor, examples, range(len(examples)), gold, settings)
    return [record for part in _with_progress(rounds, [], len(examples), progress) for record in part]


def _answer(
    model, processor, examples: Sequence[Example], todo: Sequence[int], gold: dict, settings: _Settings
) -> Iterator[list[Record]]:
    """Records of examples[todo], in order, on every process: the batches of all processes, round by round.

    Batches are those of one process, and so are their numbers to the last bit. Examples are looked up when
    needed and let go after.
    """
    for indices in processes.deal(todo, settings.batch_size):

        def records(indices: Sequence[int] = indices) -> list[Record]:
            batch = [examples[index] for index in indices]
            completions = _generate(model, processor, batch, settings) if batch else []
            return [
                _record(example, texts, settings.reader, gold)
                for example, texts in zip(batch, completions, strict=True)
            ]

        yield processes.agree(records)


def _generate(model, processor, batch: Sequence[Example], settings: _Settings) -> list[list[str]]:
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


def _record(example: Example, completions: list[str], reader: Reader, gold: dict) -> Record:
    parsed = [reader(text, example) for text in completions]
    num_correct = sum(answer == gold[example.id] for answer in parsed)
    record = {
        "id": example.id,
        "task": example.task,
        "prompt": example.prompt,
        "completions": completions,
        "parsed": parsed if len(completions) > 1 else parsed[0],
        "gold": gold[example.id],
        "correct": num_correct > 0,
    }
    if len(completions) > 1:
        record |= {"num_correct": num_correct, "num_samples": len(completions)}
    if example.choices:
        record["num_choices"] = len(example.choices)
    elif "vocabulary" in example.meta:
        record["vocabulary_size"] = len(example.meta["vocabulary"])
    return record | {name: example.meta[name] for name in ("source", "images_of") if name in example.meta}


def _gold_answers(examples: Sequence[Example], settings: _Settings, progress: str | None) -> dict:
    """Gold answers by id, in order, read as the model's are; UserError names a row where that fails.

    Each process reads those of its own batches, since examples may be made here, or opened.
    """

    def read() -> list[tuple[int, str, str | int | float]]:
        if not len(examples):
            raise UserError("there are no questions to evaluate; check --data, --split and --limit")
        found = []
        mine = [index for part in processes.deal(range(len(examples)), settings.batch_size) for index in part]
        # A bar of its own, once it takes long.
        quiet = progress is None or not processes.state().is_main_process
        for index in tqdm(mine, desc="questions", unit="q", delay=2, disable=quiet):
            example = examples[index]
            answer = settings.reader(example.answer, example)
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


def _with_progress(
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


# ---- from records to a run folder


def run(
    model,
    processor,
    examples: Sequence[Example],
    reader: Reader,
    aggregate: Aggregate,
    args: Args,
    benchmark: str,
) -> dict:
    """Evaluates all examples, writes the run folder, prints a table and returns the summary.

    A run that was stopped goes on where it was, with as many processes as there are then; what it had
    generated is read anew by the present reader. The main process alone writes and prints; the summary is
    the same on all.

    Args:
        reader: as in `predict`.
        aggregate: the benchmark's own totals of all records, by name.
        benchmark: its name, for the table and the summary.

    Raises:
        UserError: as `predict`; the folder holds another run or answers to other questions; a full disk.
    """
    if args.shuffle_images:
        examples = shuffle_images(examples, args.seed)
    settings = _Settings(
        reader, args.batch_size, args.max_new_tokens, args.num_samples, SAMPLING_TEMPERATURE, args.seed
    )
    gold = _gold_answers(examples, settings, benchmark)  # before there is a folder: bad rows leave none
    folder = processes.on_main(lambda: open_run(model, args, benchmark))
    _, summary = _answer_into(
        folder, model, processor, examples, gold, settings, aggregate, benchmark, benchmark
    )
    processes.on_main(lambda: print(f"{table(summary)}\nwritten to {folder.folder}", flush=True))
    return summary


def answer_into(
    folder: Run,
    model,
    processor,
    examples: Sequence[Example],
    aggregate: Aggregate,
    benchmark: str,
    batch_size: int = 64,
    num_samples: int = 1,
    seed: int = 0,
    progress: str | None = None,
) -> list[Record]:
    """`predict` into a run folder: what it holds already stays, the rest is added batch by batch.

    Lettered choices are read. Writes the summary too; returns all records, on every process.
    """
    settings = _Settings(read_choice, batch_size, 16, num_samples, SAMPLING_TEMPERATURE, seed)
    gold = _gold_answers(examples, settings, progress)
    return _answer_into(folder, model, processor, examples, gold, settings, aggregate, benchmark, progress)[0]


def _answer_into(
    folder: Run,
    model,
    processor,
    examples: Sequence[Example],
    gold: dict,
    settings: _Settings,
    aggregate: Aggregate,
    benchmark: str,
    progress: str | None,
) -> tuple[list[Record], dict]:
    """(all records in the order of `examples`, the summary), both written to the folder."""
    done = processes.on_main(lambda: _records_done(folder, examples, settings.reader, gold))
    todo = [index for index, id in enumerate(gold) if id not in done]
    started = time.monotonic()
    rounds = _answer(model, processor, examples, todo, gold, settings)
    for records in _with_progress(rounds, list(done.values()), len(gold), progress):
        processes.on_main(lambda records=records: folder.add_predictions(records))
        done |= {record["id"]: record for record in records}
    measured = {
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": max(processes.agree(lambda: [peak_memory_bytes()])),
        "answers_from_before": len(gold) - len(todo),
    }
    records = [done[id] for id in gold]

    def write() -> dict:
        before = (
            None if todo else folder.summary()
        )  # nothing was left to do: what it took is what it took then
        took = {name: before[name] for name in measured} if before else measured
        summary = summarize(records, aggregate, settings.reader, benchmark) | took
        folder.write_summary(summary)
        return summary

    return records, processes.on_main(write)


def open_run(model, args: Args, benchmark: str) -> Run:
    """The run's folder: --output_dir, or results/<script>/<run name>, which follows from the arguments.

    The same command comes back to the same folder; other arguments, weights or data lead to another one.
    """
    weights = getattr(model.config, "_name_or_path", "") or type(model).__name__
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
    name = args.run_name or f"{model_name}-{code}"
    folder = args.output_dir or Path("results", Path(sys.argv[0]).stem, name)
    return Run(folder, config, may_differ=MAY_DIFFER, facts={"model_device": str(model.device)})


def _records_done(folder: Run, examples: Sequence[Example], reader: Reader, gold: dict) -> dict[str, Record]:
    index_of = {id: index for index, id in enumerate(gold)}
    done = {}
    for row in folder.predictions():
        example = examples[index_of[row["id"]]] if row["id"] in index_of else None
        if example is None or example.prompt != row["prompt"]:
            raise UserError(
                f"{folder.folder} holds answers to other questions (row {row['id']!r}); "
                "use another --output_dir or --run_name, or delete the folder"
            )
        done[row["id"]] = _record(example, row["completions"], reader, gold)
    if 0 < len(done) < len(gold):
        print(f"{folder.folder} has {len(done)} of {len(gold)} answers already; delete it to start again")
    return done


def peak_memory_bytes() -> int:
    """The most memory this process has held: on its CUDA device where it has one, else in all."""
    if processes.state().device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
