"""Train, and test on a benchmark before and after: what the training scripts share, from folder to table.

A script opens an `Experiment`, tests the model it starts from, trains, and tests again. Each test has its own
part of the run folder and is resumed where it stopped; training resumes from its newest checkpoint
(`--resume`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from spatialvlm import distributed
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation import evaluate, metrics
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.evaluation.benchmark import Benchmark
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.tables import percent, text_table
from spatialvlm.example import Example
from spatialvlm.files.lazy import facts_of
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource, Run, fingerprint, fresh_folder, newest_folder
from spatialvlm.training import tracking
from spatialvlm.training.checkpoints import PREFIX, Checkpoints
from spatialvlm.training.loop import Trainer

NEWEST = "newest"
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
MAY_DIFFER = (  # what changes no number of a run
    "output_dir",
    "resume",
    "save_steps",
    "save_total_limit",
    "report_to",
    "log_completions_steps",
    "eval_batch_size",
)


@dataclass
class RunArgs(loading.ModelArgs):
    """Data, tests and the run folder; a paper's own defaults are in its subclass."""

    data: str = field(
        default="embedded", metadata={"help": "training rows (hub id, file, folder), or 'embedded'"}
    )
    train_limit: int = field(default=1000, metadata={"help": "training questions"})
    eval_data: str = field(default="embedded", metadata={"help": "test rows, or 'embedded'"})
    eval_limit: int | None = field(default=None, metadata={"help": "test questions; all if not given"})
    eval_batch_size: int = field(default=32, metadata={"help": "answers to the test per batch and device"})
    test_base: bool = field(default=True, metadata={"help": "test the model before it is trained, too"})
    run_name: str = field(default="run", metadata={"help": "first part of the run folder's name"})
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/<script>/<run_name>-<profile>-seed<seed>"}
    )
    resume: str | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": NEWEST,
            "help": "resume the newest run of this name, or a run folder or checkpoint",
        },
    )
    save_steps: int = field(default=50, metadata={"help": "steps from one checkpoint to the next"})
    save_total_limit: int = field(default=2, metadata={"help": "number of newest checkpoints to keep"})
    report_to: Literal["none", "trackio", "wandb", "tensorboard"] = field(
        default="none", metadata={"help": "tracker for metrics beside the run folder"}
    )
    log_completions_steps: int = field(
        default=20, metadata={"help": "steps from one sample of completions to the next"}
    )

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()  # the trainer's, which comes after in a script's Args
        require_at_least(
            1,
            train_limit=self.train_limit,
            eval_limit=self.eval_limit,
            eval_batch_size=self.eval_batch_size,
            save_steps=self.save_steps,
            save_total_limit=self.save_total_limit,
            log_completions_steps=self.log_completions_steps,
        )


class Experiment:
    """A run's folder, tests and logs, on every process; only the main one writes.

    Args:
        script: the name of the script, for the run folder.
        args: all arguments (`RunArgs` and the trainer's).
        model: for what its results depend on.
        test_set: the questions of the test.
        benchmark: parses and scores the answers to them, strictly, and names the table.
        write_card: writes the card of the adapter in a run folder; none is written if None.
        max_new_tokens: longest answer to the test.
        group: maps a task to its row in the table; each task has its own if None.
        test_data: where the questions of the test come from, for config.json.
        train_set: the training questions, whose `facts` go into config.json (`data`).

    Raises:
        UserError: a run to resume that is not there, or was made with other arguments.
    """

    def __init__(
        self,
        script: str,
        args,
        model,
        test_set: Sequence[Example],
        benchmark: Benchmark,
        write_card: Callable[[Path], object] | None = None,
        max_new_tokens: int = 16,
        group: Callable[[str], str] | None = None,
        test_data: DataSource | None = None,
        train_set: Sequence[Example] = (),
    ) -> None:
        self.test_data = test_data
        self.test_set, self.benchmark = test_set, benchmark
        self.max_new_tokens, self.group, self.write_card = max_new_tokens, group, write_card
        self.args = args
        self.main = distributed.state().is_main_process
        self.processes = distributed.state().num_processes
        weights = loading.weights_name(model)
        arguments = asdict(args) | {
            "weights_state": fingerprint(weights),
            "data_state": fingerprint(args.data),
            "eval_data_state": fingerprint(args.eval_data),
            "processes": self.processes,
        }
        self.folder = distributed.on_main(lambda: _folder(script, args))
        data = {"path": args.data, "revision": arguments["data_state"]} | facts_of(train_set)
        run = distributed.on_main(lambda: Run(self.folder, arguments, MAY_DIFFER, {"data": data}))
        self.run = run if self.main else None
        self.checkpoints = Checkpoints(
            self.run, arguments, args.save_steps, args.save_total_limit, MAY_DIFFER
        )
        self.resume: Path | None = None
        if args.resume is not None:
            self.resume = self.checkpoints.newest(_checkpoint(args.resume) or self.folder)
            step = self.checkpoints.restore(self.resume)
            if self.main:
                print(f"resuming {self.folder} after step {step}", flush=True)
        self.tracker = tracking.Tracker(args.report_to, self.folder, arguments)

    def log(self, row: dict[str, float], trainer: Trainer) -> None:
        """Write a step's metrics and, now and then, samples of completions with their rewards."""
        self.run.log(**row)
        self.tracker.log(row)
        due = row["step"] == 1 or row["step"] % self.args.log_completions_steps == 0
        if due and (samples := trainer.samples()):
            self.run.add_completions([{"step": row["step"], **sample} for sample in samples])
            tracking.show(row["step"], samples[0])

    # ---- tests

    @cached_property
    def shuffled_set(self) -> Sequence[Example]:
        """The questions of the test with images of other questions, the same for all arms of a seed."""
        return shuffle_images(self.test_set, self.args.seed)

    def test_base(self, model, processor) -> Answered | None:
        """Test the model before training, with its images and with others, if `--test_base`."""
        if not self.args.test_base:
            return None
        own = self.test("base", model, processor, self.test_set)
        return Answered(own, self.test("base-shuffled", model, processor, self.shuffled_set))

    def test(self, name: str, model, processor, examples: Sequence[Example]) -> list[Record]:
        """Greedy answers to the test, in the run folder's part `name`."""
        return self.part(name, model, processor, examples)

    def part(
        self,
        name: str,
        model,
        processor,
        examples: Sequence[Example],
        num_samples: int = 1,
        data: DataSource | None = None,
        benchmark: Benchmark | None = None,
        max_new_tokens: int | None = None,
    ) -> list[Record]:
        """Answers to `examples`, in the run folder's part `name`; what is None is as in the test."""
        arguments = asdict(self.args) | {"evaluated": name, "processes": self.processes}
        data, benchmark = data or self.test_data, benchmark or self.benchmark
        folder = distributed.on_main(lambda: Run(self.folder / name, arguments, MAY_DIFFER, data=data))
        settings = evaluate.Settings(
            benchmark.rules["strict"],
            batch_size=self.args.eval_batch_size,
            max_new_tokens=max_new_tokens or self.max_new_tokens,
            num_samples=num_samples,
            seed=self.args.seed,
            num_workers=evaluate.default_workers(model.device),
            flag="eval_batch_size",
        )
        progress = f"test, {name}"
        gold = evaluate.gold_answers(examples, settings, progress)
        records, _ = evaluate.answer_into(
            folder, model, processor, examples, gold, benchmark, settings, progress
        )
        return records

    def finish(self, base: Answered | None, model, processor) -> None:
        """Save the adapter, test the trained model with its images and with others, and print the table."""
        loading.save_adapter(model, self.folder / "adapter")
        own = self.test("trained", model, processor, self.test_set)
        trained = Answered(own, self.test("shuffled", model, processor, self.shuffled_set))
        self.tracker.finish()
        if self.main:
            tracking.plot(self.run)
            if self.write_card:
                self.write_card(self.folder)
            print(
                f"\n{comparison(base, trained, self.benchmark.title, self.group)}\nwritten to {self.folder}"
            )


class Answered(NamedTuple):
    """A model's answers to the test: with the questions' own images, and with those of other questions."""

    own: list[Record]
    shuffled: list[Record]


def comparison(
    base: Answered | None, trained: Answered, title: str, group: Callable[[str], str] | None = None
) -> str:
    """The paper's table: accuracy by task and their mean (the paper's Total), base against trained.

    Args:
        title: of the table.
        group: a task's row; each task has its own where None.
    """
    columns = ("trained",) if base is None else ("base", "trained", "difference")
    lines = [(title, "n", *columns)]
    lines += _rows(base and base.own, trained.own, group)
    tasks = len(lines) - 2
    lines += [(), ("images shuffled",), *_rows(base and base.shuffled, trained.shuffled, group)]
    number = NUMBERS[tasks] if tasks < len(NUMBERS) else str(tasks)
    note = f"percent, 95 % intervals; Total is the mean of the {number} tasks"
    return f"{text_table(lines, '<><')}\n{note}"


def _rows(
    base: list[Record] | None, trained: list[Record], group: Callable[[str], str] | None
) -> list[tuple[str, ...]]:
    """Rows of the table by task, then the Total."""

    def regrouped(records: list[Record]) -> list[Record]:
        return [record | {"task": group(record["task"])} for record in records] if group else records

    def scores(records: list[Record]) -> dict[str, metrics.Estimate]:
        return metrics.by_task(records) | {"Total": metrics.mean_of_tasks(records)}

    trained = regrouped(trained)
    after = scores(trained)
    if base is None:
        return [(task, str(part.n), percent(part)) for task, part in after.items()]
    base = regrouped(base)
    before, gains = scores(base), metrics.compare(base, trained)
    gains["Total"] = gains["mean_of_tasks"]
    return [
        (task, str(part.n), percent(before[task]), percent(part), percent(gains[task], sign=True))
        for task, part in after.items()
    ]


# ---- which folder


def _folder(script: str, args) -> Path:
    profile, _ = loading.resolve_profile(args)
    folder = args.output_dir or f"results/{script}/{args.run_name}-{profile}-seed{args.seed}"
    if args.resume is None:
        fresh = fresh_folder(folder)
        if fresh != Path(folder):
            print(
                f"{folder} holds a run, which --resume would continue: this one goes to {fresh}", flush=True
            )
        return fresh
    if args.resume == NEWEST:
        return newest_folder(folder)
    path = Path(args.resume)
    path = path.parent if path.name.startswith(PREFIX) else path
    if not (path / "config.json").is_file():
        raise UserError(
            f"--resume {args.resume}: there is no run; give a run folder or one of its checkpoints"
        )
    return path


def _checkpoint(resume: str) -> Path | None:
    path = Path(resume)
    if path.name.startswith(PREFIX) and not path.is_dir():
        raise UserError(f"--resume {resume}: no such checkpoint")
    return path if path.name.startswith(PREFIX) else None
