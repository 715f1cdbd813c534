"""Evaluation: answers into a run folder with their scores; one that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from spatialvlm import distributed
from spatialvlm.errors import UserError
from spatialvlm.evaluation.ablations import blank_images, shuffle_images
from spatialvlm.evaluation.benchmark import Benchmark, Rule
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.predict import Settings, answer, by_length, gold_answers, to_record, with_progress
from spatialvlm.evaluation.summary import summarize, table
from spatialvlm.example import Example
from spatialvlm.models.loading import ModelArgs
from spatialvlm.run_folder import Run, fingerprint

MAY_DIFFER = ("output_dir", "run_name", "batch_size", "num_workers")  # arguments that change no score
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
    batch_size: int = field(default=64, metadata={"help": "answers at a time, a device; changes no score"})
    max_new_tokens: int = field(default=16, metadata={"help": "longest answer, in tokens"})
    num_workers: int | None = field(
        default=None,
        metadata={"help": "processes that read images while the model runs; by device where not given"},
    )
    num_samples: int = field(
        default=1, metadata={"help": "1 = greedy Pass@1; k = k samples at temperature 1.0, and Pass@k"}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/<script>/<run_name> where not given"}
    )
    run_name: str | None = field(default=None, metadata={"help": "made from the arguments where not given"})
    rule: Literal["strict", "official", "paper", "lmms_eval"] = field(
        default="strict",
        metadata={
            "help": "who reads: ours, the benchmark's authors, the paper, or lmms-eval (spatialvlm/tasks)"
        },
    )
    shuffle_images: bool = field(
        default=False, metadata={"help": "control: each question gets the image of another one"}
    )
    blank_image: bool = field(
        default=False, metadata={"help": "control: blank images; what is still right the text gives away"}
    )

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "max_new_tokens", "num_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if self.num_workers is not None and self.num_workers < 0:
            raise UserError(f"--num_workers {self.num_workers}: must not be negative")


# ---- from records to a run folder


def run(
    model,
    processor,
    examples: Sequence[Example],
    benchmark: Benchmark,
    args: Args,
    facts: Mapping[str, Any] | None = None,
) -> dict:
    """Evaluates all examples, writes the run folder, prints a table and returns the summary.

    A run that was stopped goes on where it was, with as many processes as there are then; what it had
    generated is read anew by the present reader. The main process alone writes and prints; the summary is
    the same on all.

    Args:
        benchmark: its rules, of which `args.rule` names one, and its totals.
        facts: what else the summary is to say.

    Raises:
        UserError: as `predict`; a rule that the benchmark does not have; the folder holds another run or
            answers to other questions; a full disk.
    """
    if args.rule not in benchmark.rules:
        raise UserError(f"--rule {args.rule}: {benchmark.title} has {', '.join(benchmark.rules)}")
    if args.shuffle_images and args.blank_image:
        raise UserError("--shuffle_images and --blank_image are two controls; give one")
    if args.shuffle_images:
        examples = shuffle_images(examples, args.seed)
    if args.blank_image:
        examples = blank_images(examples)
    rule, sizes = benchmark.rules[args.rule], (args.batch_size, args.max_new_tokens, args.num_samples)
    workers = default_workers(model.device) if args.num_workers is None else args.num_workers
    settings = Settings(rule, *sizes, SAMPLING_TEMPERATURE, args.seed, workers)
    known = gold_answers(examples, settings, benchmark.title)  # before there is a folder: bad rows leave none
    folder = distributed.on_main(lambda: open_run(model, args, benchmark.title))
    _, summary = _answer_into(
        folder, model, processor, examples, known, settings, benchmark, benchmark.title, facts
    )
    distributed.on_main(lambda: print(f"{table(summary)}\nwritten to {folder.folder}", flush=True))
    return summary


def answer_into(
    folder: Run,
    model,
    processor,
    examples: Sequence[Example],
    benchmark: Benchmark,
    batch_size: int = 64,
    num_samples: int = 1,
    seed: int = 0,
    progress: str | None = None,
    rule: str = "strict",
    max_new_tokens: int = 16,
) -> list[Record]:
    """`predict` into a run folder: what it holds already stays, the rest is added batch by batch.

    The benchmark's `rule` reads. Writes the summary too; returns all records, on every process.
    """
    sizes = batch_size, max_new_tokens, num_samples
    settings = Settings(benchmark.rules[rule], *sizes, SAMPLING_TEMPERATURE, seed)
    known = gold_answers(examples, settings, progress)
    return _answer_into(folder, model, processor, examples, known, settings, benchmark, progress)[0]


def _answer_into(
    folder: Run,
    model,
    processor,
    examples: Sequence[Example],
    known: tuple[dict, list[int]],
    settings: Settings,
    benchmark: Benchmark,
    progress: str | None,
    facts: Mapping[str, Any] | None = None,
) -> tuple[list[Record], dict]:
    """(all records in the order of `examples`, the summary), both written to the folder."""
    gold, lengths = known
    done = distributed.on_main(lambda: records_done(folder, examples, settings.rule, gold))
    todo = by_length([index for index, id in enumerate(gold) if id not in done], lengths)
    started = time.monotonic()
    rounds = answer(model, processor, examples, todo, gold, settings)
    for records in with_progress(rounds, list(done.values()), len(gold), progress):
        distributed.on_main(lambda records=records: folder.add_predictions(records))
        done |= {record["id"]: record for record in records}
    measured = {
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": max(distributed.agree(lambda: [peak_memory_bytes()])),
        "answers_from_before": len(gold) - len(todo),
    }
    records = [done[id] for id in gold]

    def write() -> dict:
        before = (
            None if todo else folder.summary()
        )  # nothing was left to do: what it took is what it took then
        took = {name: before[name] for name in measured} if before else measured
        summary = (
            summarize(records, benchmark.aggregate, settings.rule, benchmark.title) | dict(facts or {}) | took
        )
        folder.write_summary(summary)
        return summary

    return records, distributed.on_main(write)


def default_workers(device: torch.device) -> int:
    """A GPU is kept fed by up to 8 processes; on a CPU the model itself takes all cores."""
    return min(8, os.cpu_count() or 1) if torch.device(device).type == "cuda" else 0


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


def records_done(folder: Run, examples: Sequence[Example], rule: Rule, gold: dict) -> dict[str, Record]:
    """What the folder holds already, read anew. Raises UserError where it answers other questions."""
    index_of = {id: index for index, id in enumerate(gold)}
    done = {}
    for row in folder.predictions():
        example = examples[index_of[row["id"]]] if row["id"] in index_of else None
        if example is None or example.prompt != row["prompt"]:
            raise UserError(
                f"{folder.folder} holds answers to other questions (row {row['id']!r}); "
                "use another --output_dir or --run_name, or delete the folder"
            )
        done[row["id"]] = to_record(example, row["completions"], rule, gold[row["id"]])
    if 0 < len(done) < len(gold):
        print(f"{folder.folder} has {len(done)} of {len(gold)} answers already; delete it to start again")
    return done


def peak_memory_bytes() -> int:
    """The most memory this process has held: on its CUDA device where it has one, else in all."""
    if distributed.state().device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
