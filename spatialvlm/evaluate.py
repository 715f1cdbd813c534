"""Evaluation: generate greedily in batches, read the answers, score and record them, go on after a stop."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from spatialvlm import answers, metrics, rollout
from spatialvlm.cli import UserError
from spatialvlm.controls import shuffle_images
from spatialvlm.example import Example
from spatialvlm.metrics import Estimate, Record
from spatialvlm.models import ModelArgs
from spatialvlm.results import Run, fingerprint

Reader = Callable[[str, Example], str | int | float | None]
Aggregate = Callable[[Sequence[Record]], dict[str, Estimate]]

MAY_DIFFER = ("output_dir", "run_name", "batch_size")  # arguments that change no score


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
    batch_size: int = field(default=64, metadata={"help": "questions at a time; changes no score"})
    max_new_tokens: int = field(default=16, metadata={"help": "longest answer, in tokens"})
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/<script>/<run_name> where not given"}
    )
    run_name: str | None = field(default=None, metadata={"help": "made from the arguments where not given"})
    shuffle_images: bool = field(
        default=False, metadata={"help": "control: each question gets the image of another one"}
    )

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "max_new_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")


def read_choice(text: str, example: Example) -> str | None:
    """The letter of the choice that a text answers with (`answers.choice`)."""
    return answers.choice(text, example.choices)


def read_free(text: str, example: Example) -> str | int | float | None:
    """Yes or no, a number or a word, by what `meta["vocabulary"]` holds (`answers.one_of`)."""
    return answers.one_of(text, example.meta["vocabulary"])


# ---- from examples to records


def predict(
    model,
    processor,
    examples: Sequence[Example],
    reader: Reader = read_choice,
    batch_size: int = 64,
    max_new_tokens: int = 16,
    progress: str | None = None,
) -> list[Record]:
    """Greedy answers to all examples, in their order, in memory.

    Args:
        reader: reads completion and gold answer alike; None is unread, and wrong.
        progress: the name of a progress bar with running accuracy; none where None.

    Returns:
        One record an example: id, task, prompt, completions (one), parsed, gold, correct, `num_choices` of a
        lettered question or `vocabulary_size` of a free one, and `source` and `images_of` where its meta has
        them.

    Raises:
        UserError: no examples, two of one id, a gold answer that cannot be read, a broken image, too little
            memory.
    """
    gold = _gold_answers(examples, reader, progress)
    todo = range(len(examples))
    batches = _predict_batches(model, processor, examples, todo, reader, gold, batch_size, max_new_tokens)
    return [record for batch in _with_progress(batches, [], len(examples), progress) for record in batch]


def _predict_batches(
    model,
    processor,
    examples: Sequence[Example],
    todo: Sequence[int],
    reader: Reader,
    gold: dict,
    batch_size: int,
    max_new_tokens: int,
) -> Iterator[list[Record]]:
    """Records of examples[todo], batch by batch. Examples are looked up when needed and let go after."""
    for start in range(0, len(todo), batch_size):
        part = [examples[index] for index in todo[start : start + batch_size]]
        texts = _generate(model, processor, part, max_new_tokens)
        yield [_record(example, [text], reader, gold) for example, text in zip(part, texts, strict=True)]


def _generate(model, processor, examples: Sequence[Example], max_new_tokens: int) -> list[str]:
    prompts, images = [example.prompt for example in examples], [example.images for example in examples]
    try:
        batch = rollout.encode(processor, prompts, images, device=model.device)
        completions = rollout.sample(model, batch, 1, max_new_tokens, temperature=0)
    except torch.OutOfMemoryError:
        raise UserError(
            f"too little memory on {model.device} for {len(examples)} questions at a time; "
            "use a smaller --batch_size"
        ) from None
    return [group[0] for group in rollout.decode(processor, completions)]


def _record(example: Example, completions: list[str], reader: Reader, gold: dict) -> Record:
    parsed = reader(completions[0], example)
    record = {
        "id": example.id,
        "task": example.task,
        "prompt": example.prompt,
        "completions": completions,
        "parsed": parsed,
        "gold": gold[example.id],
        "correct": parsed == gold[example.id],
    }
    if example.choices:
        record["num_choices"] = len(example.choices)
    elif "vocabulary" in example.meta:
        record["vocabulary_size"] = len(example.meta["vocabulary"])
    return record | {name: example.meta[name] for name in ("source", "images_of") if name in example.meta}


def _gold_answers(examples: Sequence[Example], reader: Reader, progress: str | None) -> dict:
    """Gold answers by id, in order, read as the model's are; UserError names a row where that fails."""
    if not len(examples):
        raise UserError("there are no questions to evaluate; check --data, --split and --limit")
    gold: dict = {}
    # A bar of its own, once it takes long: examples are made here, or opened.
    for example in tqdm(examples, desc="questions", unit="q", delay=2, disable=progress is None):
        if example.id in gold:
            raise UserError(f"two rows have the id {example.id!r}; make the ids of the data unique")
        gold[example.id] = reader(example.answer, example)
        if gold[example.id] is None:
            among = f" among {example.choices}" if example.choices else ""
            raise UserError(f"row {example.id!r}: gold answer {example.answer!r} cannot be read{among}")
    return gold


def _with_progress(
    batches: Iterator[list[Record]], done: Sequence[Record], total: int, name: str | None
) -> Iterator[list[Record]]:
    right = sum(record["correct"] for record in done)
    with tqdm(total=total, initial=len(done), desc=name, unit="q", disable=name is None) as bar:
        answered = len(done)
        for batch in batches:
            right, answered = right + sum(record["correct"] for record in batch), answered + len(batch)
            bar.set_postfix(accuracy=f"{100 * right / answered:.1f}", refresh=False)
            bar.update(len(batch))
            yield batch


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

    A run that was stopped goes on where it was; what it had generated is read anew by the present reader.

    Args:
        reader: as in `predict`.
        aggregate: the benchmark's own totals of all records, by name.
        benchmark: its name, for the table and the summary.

    Raises:
        UserError: as `predict`; the folder holds another run or answers to other questions; a full disk.
    """
    if args.shuffle_images:
        examples = shuffle_images(examples, args.seed)
    gold = _gold_answers(examples, reader, benchmark)
    folder = open_run(model, args, benchmark)
    done = _records_done(folder, examples, reader, gold)
    if done:
        print(f"{folder.folder} has {len(done)} of {len(gold)} answers already; delete it to start again")
    todo = [index for index, id in enumerate(gold) if id not in done]
    started = time.monotonic()
    batches = _predict_batches(
        model, processor, examples, todo, reader, gold, args.batch_size, args.max_new_tokens
    )
    for batch in _with_progress(batches, list(done.values()), len(gold), benchmark):
        folder.add_predictions(batch)
        done |= {record["id"]: record for record in batch}
    summary = summarize([done[id] for id in gold], aggregate, reader, benchmark)
    summary |= {
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": peak_memory_bytes(),
        "answers_from_before": len(gold) - len(todo),
    }
    folder.write_summary(summary)
    print(f"{table(summary)}\nwritten to {folder.folder}")
    return summary


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
    return done


# ---- the summary


def summarize(records: Sequence[Record], aggregate: Aggregate, reader: Reader, benchmark: str) -> dict:
    """Scores of records: overall, by task (in order of appearance) and by the benchmark's own aggregates.

    All shares are fractions of 1, with 95 % intervals. `chance` is what answering without looking scores
    (`metrics.chance`), by task and, weighted by its questions, overall; unread answers count as wrong.
    """
    groups = metrics.group(records)
    chances = {task: metrics.chance(part) for task, part in groups.items()}
    return {
        "benchmark": benchmark,
        "rule": (reader.__doc__ or reader.__name__).splitlines()[0],
        "n": len(records),
        "unread": sum(record["parsed"] is None for record in records),
        "chance": sum(chances[task] * len(part) for task, part in groups.items()) / len(records),
        "aggregates": {
            name: {"value": estimate.value, "interval": estimate.interval}
            for name, estimate in aggregate(records).items()
        },
        "tasks": {
            task: {"n": part.n, "accuracy": part.value, "interval": part.interval, "chance": chances[task]}
            for task, part in metrics.by_task(records).items()
        },
    }


def micro_and_mean(records: Sequence[Record]) -> dict[str, Estimate]:
    """Totals where a benchmark has no formula of its own: every question alike, and every task alike."""
    return {"micro": metrics.accuracy(records), "mean_of_tasks": metrics.mean_of_tasks(records)}


def table(summary: dict) -> str:
    """The summary in percent as lines of text: task, n, accuracy, 95 % interval, chance."""
    rows = [
        (task, part["n"], part["accuracy"], part["interval"], f"{100 * part['chance']:.1f}")
        for task, part in summary["tasks"].items()
    ]
    rows += [
        (name, summary["n"], part["value"], part["interval"], "")
        for name, part in summary["aggregates"].items()
    ]
    title = summary["benchmark"]
    width = max(len(name) for name in (title, *(row[0] for row in rows)))
    lines = [f"{title:<{width}}  {'n':>6}  accuracy  95 % interval  chance"]
    for name, n, value, (low, high), chance in rows:
        interval = f"{100 * low:.1f} - {100 * high:.1f}"
        lines.append(f"{name:<{width}}  {n:>6}  {100 * value:>8.1f}  {interval:>13}  {chance:>6}".rstrip())
    return "\n".join([*lines, f"unread, and counted wrong: {summary['unread']} of {summary['n']}"])


def peak_memory_bytes() -> int:
    """The most memory this process has held: on the CUDA device where there is one, else in all."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
