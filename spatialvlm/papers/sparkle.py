"""Paper C, Sparkle: training on basic capabilities, tests on them and on composite tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar, Literal

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.reporting.cards import write_adapter_card
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.registry import load_rows
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle import published
from spatialvlm.tasks.sparkle.data import MADE
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES
from spatialvlm.tasks.sparkle.scoring import BASIC, COMPOSITE, with_vocabulary
from spatialvlm.training.experiment import Experiment, RunArgs

# By profile. At 224 pixels the labels are too small; ours has learnt them with its adapter `labels`.
MODELS = {
    "paper": "google/paligemma2-3b-mix-448",
    "embedded": str(loading.LABELS),
}


ROUTE_TOKENS = {"paper": 64, "embedded": 48}  # of the longest answer to a composite question


@dataclass
class SparkleArgs(RunArgs):
    """Data, tests and the run folder, by default as published."""

    FLAG_GROUP: ClassVar = "data"
    BY_PROFILE: ClassVar = {"model": MODELS}
    data: str = field(
        default=MADE,
        metadata={"help": "made (rendered in --form on access), or a folder of make_data/sparkle.py"},
    )
    form: Literal["paper", "embedded"] = field(
        default="paper",
        metadata={"help": "of rendered questions; embedded has larger glyphs and fewer nodes"},
    )
    capabilities: list[str] = field(
        default_factory=lambda: list(CAPABILITIES),
        metadata={"help": "basic capabilities trained on: direction, distance, localization"},
    )
    numbers: bool = field(
        default=True, metadata={"help": "with the families whose answer is a number (false: the ablation)"}
    )
    configurations: int = field(
        default=sparkle.CONFIGURATIONS["train"],
        metadata={"help": "rendered training images"},
    )
    train_limit: int = field(default=34_000, metadata={"help": "maximum number of training questions"})
    eval_data: str = field(
        default=MADE, metadata={"help": "test questions of all capabilities: made, or a folder as --data"}
    )
    full_test: bool = field(
        default=False, metadata={"help": "also shortest paths and tours, rendered in --form"}
    )
    run_name: str = field(default="all", metadata={"help": "first part of the run folder's name"})

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        sparkle.chosen(self.capabilities, self.numbers)
        require_at_least(1, configurations=self.configurations)
        if self.data != MADE and self.configurations != sparkle.CONFIGURATIONS["train"]:
            raise UserError(
                f"--configurations {self.configurations} is for rendered questions, and --data has its own; "
                "give one of the two (make_data/sparkle.py --configurations makes such a folder)"
            )
        if self.eval_limit is not None and self.eval_limit < 2 * len(FAMILIES):
            raise UserError(
                f"--eval_limit {self.eval_limit}: the test needs two images, that is {2 * len(FAMILIES)} "
                "questions, so that images can be shuffled among them"
            )
        loading.fill_defaults(self, "model")


def training_set(args: SparkleArgs) -> Sequence[Example]:
    """Load the basic questions that `args` describe.

    Raises:
        UserError: as `sparkle.load`; a file's question is one of the test.
    """
    found = sparkle.load(
        args.form if args.data == MADE else args.data,
        "train",
        args.train_limit,
        args.capabilities,
        args.numbers,
        args.configurations,
        seed=args.seed,
        training=True,
    )
    if args.data != MADE:  # a single file is loaded whatever split its name says
        tested = {example.id for example in test_set(args)}
        if both := next((example.id for example in found if example.id in tested), None):
            raise UserError(
                f"--data {args.data}: its question {both!r} is one of the test; give the training split"
            )
        return found  # which knows what was left out
    return _in_memory(found, args)


def test_set(args: SparkleArgs) -> Sequence[Example]:
    """Load the basic questions of the test split, one of each family per image."""
    return _in_memory(with_vocabulary(load_rows(test_data(args))), args)


def test_data(args: SparkleArgs) -> DataSource:
    path = args.form if args.eval_data == MADE else args.eval_data
    rows = {"path": path, "split": "test", "limit": args.eval_limit, "pairs": len(FAMILIES)}
    return DataSource("sparkle", rows)


def _in_memory(examples: Sequence[Example], args: SparkleArgs) -> Sequence[Example]:
    """The embedded form's images are 40 kB each and rendered once; the paper's are rendered on access."""
    return list(examples) if args.form == "embedded" else examples


class SparkleExperiment(Experiment):
    """Tested on the basic questions, one row of the table per capability; `--full_test`: composite too."""

    def __init__(self, script: str, args: SparkleArgs, model, train_set: Sequence[Example] = ()) -> None:
        super().__init__(
            script,
            args,
            model,
            test_set(args),
            BASIC,
            write_adapter_card,
            group=lambda task: FAMILIES[task].capability,
            test_data=test_data(args),
            train_set=train_set,
        )

    def test(self, name: str, model, processor, examples: Sequence[Example]) -> list[Record]:
        """Greedy answers to the basic questions, in the run folder's part `name`; composite's beside it."""
        records = super().test(name, model, processor, examples)
        if self.args.full_test:
            rows = {"path": self.args.form, "limit": self.args.eval_limit}
            source = DataSource("sparkle_composite", rows)
            items = load_rows(source)
            if examples is self.shuffled_set:
                items = shuffle_images(items, self.args.seed)
            tokens = ROUTE_TOKENS[self.args.form]
            self.part(f"{name}-composite", model, processor, items, 1, source, COMPOSITE, tokens)
        return records


# ---- tables

Summary = Mapping  # what evaluate.run returns; composite with `routes` added
ROUTES = ("optimal", "exact", "valid")


def chance(basic: Summary, capabilities: Sequence[str] = tuple(CAPABILITIES)) -> float:
    """Return the blind baseline (answers without the image), averaged over the capabilities' families."""
    tasks = basic["tasks"].items()
    return fmean(part["chance"] for name, part in tasks if FAMILIES[name].capability in capabilities)


def blocks(summaries: Mapping[str, Summary]) -> str:
    """Format an evaluation block by block (`basic`, `composite`, `real`), beside published changes."""
    tables = {"basic": _basic, "composite": _composite, "real": _real}
    parts = [f"{name}\n\n{tables[name](summary)}" for name, summary in summaries.items()]
    notes = "Percent, 95 % intervals; chance is the blind baseline (answers without the image)."
    if "composite" in summaries:
        notes += (
            " Optimal: any shortest path or tour. Exact: the one reference. Length: of valid ones, as a "
            "multiple of the shortest. Published: Sparkle's models before and after training on basic "
            "capabilities alone, in the paper's own form."
        )
    return "\n\n".join([*parts, notes])


def _basic(summary: Summary) -> str:
    rows = []
    for capability in CAPABILITIES:
        tasks = [name for name in summary["tasks"] if FAMILIES[name].capability == capability]
        if not tasks:
            continue
        blind = chance(summary, (capability,))
        rows.append(_row(f"{capability}, mean", summary["aggregates"][capability], blind))
        rows += [
            _row(f"- {name}", summary["tasks"][name], summary["tasks"][name]["chance"]) for name in tasks
        ]
    rows.append(_row("all questions", summary["aggregates"]["micro"], summary["chance"]))
    return markdown(("", "n", "accuracy", "chance"), rows)


def _real(summary: Summary) -> str:
    rows = []
    for task, part in summary["tasks"].items():
        rows.append(_row(task, part, part["chance"]))
        groups = {name: summary["aggregates"].get(f"{task} {name}") for name in ("pair", "set")}
        rows += [_row(f"- {name}s", group) for name, group in groups.items() if group]
    return markdown(("", "n", "accuracy", "chance"), rows)


def _row(name: str, part: Mapping, chance: float | None = None) -> list[str]:
    shown = "" if chance is None else f"{100 * chance:.1f}"
    return [name, str(part["n"]), percent(Estimate.of(part)), shown]


def _composite(summary: Summary) -> str:
    rows = []
    for task, part in summary["routes"].items():
        scores = [percent(Estimate.of(part[name])) for name in ROUTES]
        rows.append([task, str(part["optimal"]["n"]), *scores, _length(part), published_changes(task)])
    return markdown(("", "n", *ROUTES, "length", "published"), rows)


def published_changes(task: str) -> str:
    """Format the published changes of a task: `InternVL2-8B 13.5 to 40.0`; empty if there are none."""
    return ", ".join(
        f"{model} {before} to {after}" for model, before, after in published.COMPOSITE.get(task, ())
    )


def _length(routes: Mapping) -> str:
    if "length_ratio" not in routes:
        return "none valid"
    part = Estimate.of(routes["length_ratio"])
    return f"{part.value:.2f} ({part.interval[0]:.2f} to {part.interval[1]:.2f}), n {part.n}"
