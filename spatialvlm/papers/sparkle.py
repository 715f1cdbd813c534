"""Sparkle's training: what its SFT and GRPO share. Basic capabilities alone are trained on, and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar, Literal

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.registry import load_rows
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.data import MADE
from spatialvlm.tasks.sparkle.published import COMPOSITE
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES
from spatialvlm.tasks.sparkle.scoring import BASIC, with_vocabulary
from spatialvlm.training.experiment import Experiment, RunArgs

# By profile. At 224 pixels the labels are too small; ours has learnt to read them where `labels` is there.
MODELS = {
    "paper": "google/paligemma2-3b-mix-448",
    "embedded": str(loading.LABELS),
}


@dataclass
class SparkleArgs(RunArgs):
    """Data, tests and the run folder; the defaults are the published ones."""

    BY_PROFILE: ClassVar = {"model": MODELS}
    data: str = field(
        default=MADE,
        metadata={"help": "made = in --form, as they are looked at; or a folder of make_data/sparkle.py"},
    )
    form: Literal["paper", "embedded"] = field(
        default="paper",
        metadata={"help": "of questions that are made; embedded = larger glyphs, fewer nodes"},
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
        metadata={"help": "pictures trained on, of those that are made"},
    )
    train_limit: int = field(default=34_000, metadata={"help": "training questions, at most"})
    eval_data: str = field(
        default=MADE, metadata={"help": "test questions, of all capabilities: made, or a folder as --data"}
    )
    run_name: str = field(default="all", metadata={"help": "first part of the run folder's name"})

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        sparkle.chosen(self.capabilities, self.numbers)
        if self.configurations < 1:
            raise UserError(f"--configurations must be at least 1, not {self.configurations}")
        if self.data != MADE and self.configurations != sparkle.CONFIGURATIONS["train"]:
            raise UserError(
                f"--configurations {self.configurations} is of questions that are made, and --data has its "
                "own; give one of the two (make_data/sparkle.py --configurations makes such a folder)"
            )
        if self.eval_limit is not None and self.eval_limit < 2 * len(FAMILIES):
            raise UserError(
                f"--eval_limit {self.eval_limit}: the test needs two pictures, that is {2 * len(FAMILIES)} "
                "questions, so that images can be shuffled among them"
            )
        loading.fill_defaults(self, "model")


def training_set(args: SparkleArgs) -> Sequence[Example]:
    """Basic questions as `args` ask for them.

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
    )
    if args.data != MADE:  # a single file is read whatever its name says of the split
        tested = {example.id for example in test_set(args)}
        if both := next((example.id for example in found if example.id in tested), None):
            raise UserError(
                f"--data {args.data}: its question {both!r} is one of the test; give the training split"
            )
    return _in_memory(found, args)


def test_set(args: SparkleArgs) -> Sequence[Example]:
    """The basic questions of the test split, each family once a picture, whatever is trained on."""
    return _in_memory(with_vocabulary(load_rows(test_data(args))), args)


def test_data(args: SparkleArgs) -> DataSource:
    path = args.form if args.eval_data == MADE else args.eval_data
    rows = {"path": path, "split": "test", "limit": args.eval_limit, "pairs": len(FAMILIES)}
    return DataSource("sparkle", rows)


def _in_memory(examples: Sequence[Example], args: SparkleArgs) -> Sequence[Example]:
    """The embedded form's pictures are 40 kB each and are made once; the paper's are made when looked at."""
    return list(examples) if args.form == "embedded" else examples


class SparkleExperiment(Experiment):
    """Tested on the basic questions, with a row of the table for each capability."""

    def __init__(self, script: str, args: SparkleArgs, model) -> None:
        super().__init__(
            script,
            args,
            model,
            test_set(args),
            BASIC,
            group=lambda task: FAMILIES[task].capability,
            test_data=test_data(args),
        )


# ---- tables


Summary = Mapping  # what evaluate.run returns, of composite with `routes` added
ROUTES = ("optimal", "exact", "valid")


def chance(basic: Summary, capabilities: Sequence[str] = tuple(CAPABILITIES)) -> float:
    """What answers without looking score, the mean over some capabilities' families."""
    tasks = basic["tasks"].items()
    return fmean(part["chance"] for name, part in tasks if FAMILIES[name].capability in capabilities)


def blocks(summaries: Mapping[str, Summary]) -> str:
    """Everything that was evaluated, block by block, composite beside the published changes.

    Args:
        summaries: by block: `basic`, `composite`, `real`.
    """
    tables = {"basic": _basic, "composite": _composite, "real": _real}
    parts = [f"{name}\n\n{tables[name](summary)}" for name, summary in summaries.items()]
    notes = "Percent, 95 % intervals; chance is what answers without looking score."
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
        rows += [
            _row(f"- {name}s", found)
            for name in ("pair", "set")
            if (found := summary["aggregates"].get(f"{task} {name}"))
        ]
    return markdown(("", "n", "accuracy", "chance"), rows)


def _row(name: str, part: Mapping, chance: float | None = None) -> list[str]:
    shown = "" if chance is None else f"{100 * chance:.1f}"
    return [name, str(part["n"]), percent(Estimate.of(part)), shown]


def _composite(summary: Summary) -> str:
    rows = []
    for task, found in summary["routes"].items():
        scores = [percent(Estimate.of(found[name])) for name in ROUTES]
        rows.append([task, str(found["optimal"]["n"]), *scores, _length(found), published(task)])
    return markdown(("", "n", *ROUTES, "length", "published"), rows)


def published(task: str) -> str:
    """The published changes of a task: `InternVL2-8B 13.5 to 40.0`; empty where there is none."""
    return ", ".join(f"{model} {before} to {after}" for model, before, after in COMPOSITE.get(task, ()))


def _length(found: Mapping) -> str:
    if "length_ratio" not in found:
        return "none valid"
    part = Estimate.of(found["length_ratio"])
    return f"{part.value:.2f} ({part.interval[0]:.2f} to {part.interval[1]:.2f}), n {part.n}"


def compared(ways: Mapping[str, Mapping[str, Summary]], records: Mapping[str, Mapping[str, Sequence]]) -> str:
    """Ways of training side by side: basic by capability, composite by task, and what changed from the first.

    Args:
        ways: the summaries of each way, by block `basic` and `composite`; the first is the model untrained.
        records: of each way, by block.
    """
    first, *trained = ways
    names = (*CAPABILITIES, "mean_of_tasks")
    rows = [[way, *_figures(found["basic"]["aggregates"], names)] for way, found in ways.items()]
    blind = [
        chance(ways[first]["basic"], chosen) for chosen in (*((name,) for name in CAPABILITIES), CAPABILITIES)
    ]
    rows.append(["answers without looking", *(f"{100 * value:.1f}" for value in blind)])
    parts = ["Basic, each the mean over its families:", markdown(("", *CAPABILITIES, "all families"), rows)]
    tasks = list(ways[first]["composite"]["routes"])
    for name, words in (("optimal", "any shortest path or tour"), ("valid", "paths and tours of any length")):
        rows = []
        for way, found in ways.items():
            routes = found["composite"]["routes"]
            rows.append([way, *(percent(Estimate.of(routes[task][name])) for task in tasks)])
        parts += [f"Composite, never trained on; {name}, {words}:", markdown(("", *tasks), rows)]
    rows = []
    for way in trained:
        changes = [
            metrics.compare(records[first][block], records[way][block]) for block in ("basic", "composite")
        ]
        rows.append([way, *(percent(change["mean_of_tasks"], sign=True) for change in changes)])
    header = ("", "basic, all families", "composite (optimal), all tasks")
    parts += [f"Change from {first}, question by question, in points:", markdown(header, rows)]
    return "\n\n".join(parts)


def _figures(aggregates: Mapping, names: Sequence[str]) -> list[str]:
    return [percent(Estimate.of(aggregates[name])) for name in names]
