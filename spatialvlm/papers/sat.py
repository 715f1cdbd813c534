"""Train on SAT's questions, test on CV-Bench: what GRPO and SFT of paper A share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.example import Example
from spatialvlm.reporting.comparison import Questions, Score, difference, mean, verdict
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench import published
from spatialvlm.tasks.cvbench.scoring import BENCHMARK
from spatialvlm.tasks.sat import data as sat
from spatialvlm.training.experiment import Experiment, RunArgs
from spatialvlm.worlds.clevr import series


@dataclass
class ExperimentArgs(RunArgs):
    """Data, tests and the run folder; the defaults are the published ones."""

    data: str = field(
        default="array/SAT",
        metadata={"help": "SAT rows (hub id, file, folder), a CLEVR folder, or 'embedded'"},
    )
    train_limit: int = field(default=15_000, metadata={"help": "training questions"})
    answer_form: Literal["natural", "letter", "mixed"] = field(
        default="natural", metadata={"help": "what is learnt to say: the choice's text, its letter, or both"}
    )
    polarity: Literal["closer", "balanced"] = field(
        default="closer",
        metadata={"help": "of depth and distance (rendered and CLEVR); balanced asks for farther as often"},
    )
    eval_data: str = field(default=cvbench.HUB_ID, metadata={"help": "CV-Bench rows, or 'embedded'"})
    full_test: bool = field(
        default=False,
        metadata={"help": "also Pass@4 at temperature 1.0, and Depth and Distance turned (OOD)"},
    )
    run_name: str = field(default="v2", metadata={"help": "first part of the run folder's name"})


def training_set(args: ExperimentArgs) -> Sequence[Example]:
    """SAT's questions as `args` ask for them."""
    if args.data == "embedded":
        return series.sat(
            "train", args.train_limit, args.seed, args.answer_form, args.polarity, share_scenes=True
        )
    if clevr.is_official_folder(args.data):
        return clevr.load_sat(args.data, args.train_limit, args.answer_form, args.polarity, seed=args.seed)
    if args.polarity != "closer":
        raise UserError("--polarity balanced is for rendered and CLEVR scenes; SAT's rows are as they are")
    return sat.load(args.data, "train", args.train_limit, args.answer_form, seed=args.seed)


class SATExperiment(Experiment):
    """Tested on CV-Bench; with `--full_test` in three more ways."""

    def __init__(self, script: str, args, model) -> None:
        rows = {"path": args.eval_data, "limit": args.eval_limit}
        test_set = cvbench.load(**rows)
        super().__init__(script, args, model, test_set, BENCHMARK, test_data=DataSource("cvbench", rows))

    def test(self, name: str, model, processor) -> list[Record]:
        """Greedy answers to the test, in the run folder's part `name`; with `--full_test` the others too."""
        records = super().test(name, model, processor)
        if self.args.full_test:
            rows = {**self.test_data.arguments, "flipped": True}
            flipped = DataSource("cvbench", rows)
            turned = [e for e in cvbench.flip_polarity(self.test_set) if e.task in cvbench.TASKS_3D]
            self.part(f"{name}-ood", model, processor, turned, data=flipped)
            self.part(f"{name}-pass4", model, processor, self.test_set, num_samples=4)
            self.part(f"{name}-pass4-ood", model, processor, turned, num_samples=4, data=flipped)
        return records


# ---- tables


TURNED = ("Depth", "Distance")  # the tasks whose polarity can be turned
UNFILTERED = "GRPO-v2 without dynamic sampling"


@dataclass(frozen=True)
class Way:
    """What one way of training scored: a list of scores, one a seed, for each test."""

    pass1: Sequence[Score]
    pass1_ood: Sequence[Score]
    pass4: Sequence[Score]
    pass4_ood: Sequence[Score]


Ways = Mapping[str, Way]  # name of the way -> its scores; "base" is the model before training


def accuracy_table(ways: Ways, asked: Questions, test: str, figures: Mapping[str, Sequence[float]]) -> str:
    """CV-Bench by task and in total, measured above published, one way under the other."""
    rows = []
    for name, way in ways.items():
        scores = getattr(way, test)
        cells = [percent(mean(scores, asked.of(task))) for task in published.COLUMNS[:-1]]
        rows.append([name, *cells, percent(mean(scores, asked))])
        if name in figures:
            rows.append([f"{name}, published", *(f"{figure:.1f}" for figure in figures[name])])
    return markdown(["", *published.COLUMNS], rows)


def gap(way: Way, asked: Questions, tasks: Sequence[str]) -> tuple[Sequence[Score], Questions]:
    """As asked minus turned, on the tasks given: what turning the question costs, in greedy answers."""
    asked = asked.of(*tasks)
    as_asked = [{id: one[id] for id in asked.task_of} for one in way.pass1]
    return difference(as_asked, way.pass1_ood), asked


def polarity_table(ways: Ways, asked: Questions, test: str, beside: Mapping[str, Mapping]) -> str:
    """Depth and Distance as asked (ID), turned (OOD), and the gap between them; `beside` as published."""
    rows = []
    for name, way in ways.items():
        cells, figures = [], []
        for task in TURNED:
            part = asked.of(task)
            as_asked, turned = (mean(getattr(way, kind), part) for kind in (test, f"{test}_ood"))
            pairs = difference(
                [{id: one[id] for id in part.task_of} for one in getattr(way, test)],
                [{id: one[id] for id in part.task_of} for one in getattr(way, f"{test}_ood")],
            )
            cells += [percent(as_asked), percent(turned), percent(mean(pairs, part), sign=True)]
            if name in beside:
                before, after = beside[name][task]
                figures += [f"{before:.1f}", f"{after:.1f}", f"{before - after:+.1f}"]
        rows.append([name, *cells])
        if figures:
            rows.append([f"{name}, published", *figures])
    return markdown(["", *(f"{task} {kind}" for task in TURNED for kind in ("ID", "OOD", "gap"))], rows)


def claims(ways: Ways, asked: Questions) -> list[tuple[str, Estimate, float | None, str]]:
    """(claim, the difference that it says is above 0, the published one in points, verdict)."""
    v2, sft = ways["GRPO-v2"], ways["SFT"]
    one, four = published.PASS_AT_1, published.PASS_AT_4
    turned = asked.of(*TURNED)
    narrower = difference(gap(sft, asked, TURNED)[0], gap(v2, asked, TURNED)[0])
    figures = {
        name: sum(before - after for before, after in published.POLARITY[name].values()) / len(TURNED)
        for name in ("SFT", "GRPO-v2")
    }
    found = [
        (
            "Pass@1, Total: GRPO-v2 above SFT",
            mean(difference(v2.pass1, sft.pass1), asked),
            one["GRPO-v2"][-1] - one["SFT"][-1],
        ),
        (
            "Pass@4, Total: SFT above GRPO-v2",
            mean(difference(sft.pass4, v2.pass4), asked),
            four["SFT"][-1] - four["GRPO-v2"][-1],
        ),
        (
            "ID-OOD gap, mean of Depth and Distance: SFT's above GRPO-v2's",
            mean(narrower, turned),
            figures["SFT"] - figures["GRPO-v2"],
        ),
        (
            "Pass@1, Total: GRPO-v2 above GRPO-v1",
            mean(difference(v2.pass1, ways["GRPO-v1"].pass1), asked),
            one["GRPO-v2"][-1] - one["GRPO-v1"][-1],
        ),
    ]
    if UNFILTERED in ways:
        alone = mean(difference(v2.pass1, ways[UNFILTERED].pass1), asked)
        found.append(("Pass@1, Total: dynamic sampling above none, all else as in v2", alone, None))
    return [(claim, estimate, figure, verdict(estimate)) for claim, estimate, figure in found]


def claims_table(ways: Ways, asked: Questions) -> str:
    rows = [
        [claim, percent(estimate, sign=True), "-" if figure is None else f"{figure:+.1f}", f"**{word}**"]
        for claim, estimate, figure, word in claims(ways, asked)
    ]
    return markdown(["claim", "difference, points", "published", "here"], rows)


def section(ways: Ways, balanced: Ways, asked: Questions, facts: str) -> str:
    """The comparison in Markdown: tables, verdicts, and the same with the training's polarity balanced."""
    parts = [
        "## GRPO against SFT on SAT, tested on CV-Bench",
        facts,
        "Pass@1, greedy, percent:",
        accuracy_table(ways, asked, "pass1", published.PASS_AT_1),
        "Pass@4, any of four samples at temperature 1.0 right:",
        accuracy_table(ways, asked, "pass4", published.PASS_AT_4),
        "In and out of distribution, greedy: OOD is the same questions with the polarity turned (closer "
        "becomes far away, the answers swap):",
        polarity_table(ways, asked, "pass1", published.POLARITY),
        "The same, Pass@4:",
        polarity_table(ways, asked, "pass4", {}),
        "### What of the paper's claims shows here",
        "Held: the whole interval of the difference is above 0. Not held: the whole of it is below. "
        "Undecided: it has 0 inside.",
        claims_table(ways, asked),
        "v2 differs from v1 in dynamic sampling, and in more LoRA layers, a higher rank, a smaller beta as "
        "well; the last row changes dynamic sampling alone.",
    ]
    if balanced:
        parts += [
            "### With the training's polarity balanced",
            "What the paper did not measure: in training, depth and distance are asked as closer and as "
            "farther equally often. The words still differ: training says *farther from*, the turned test "
            "says *far away from*.",
            accuracy_table({"base": ways["base"], **balanced}, asked, "pass1", {}),
            polarity_table({"base": ways["base"], **balanced}, asked, "pass1", {}),
            claims_table(balanced, asked),
        ]
    return "\n\n".join(parts)
