"""Paper A: training on SAT, tests on CV-Bench, and the study of GRPO against SFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.example import Example
from spatialvlm.files.rows import read as read_rows
from spatialvlm.models import loading
from spatialvlm.papers.commands import Arm
from spatialvlm.reporting import comparison
from spatialvlm.reporting.cards import write_adapter_card
from spatialvlm.reporting.comparison import Questions, Score, difference, mean, verdict
from spatialvlm.run_folder import DataSource, read_lines
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import thoughts
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench import published
from spatialvlm.tasks.cvbench.scoring import BENCHMARK
from spatialvlm.tasks.sat import data as sat
from spatialvlm.training.experiment import Experiment, RunArgs
from spatialvlm.worlds.clevr import series


@dataclass
class ExperimentArgs(RunArgs):
    """Data, tests and the run folder, by default as published."""

    FLAG_GROUP: ClassVar = "data"

    data: str = field(
        default="array/SAT",
        metadata={"help": "SAT rows (hub id, file, folder), a CLEVR folder, or 'embedded'"},
    )
    train_limit: int = field(default=15_000, metadata={"help": "training questions"})
    answer_form: Literal["natural", "letter", "mixed"] = field(
        default="natural", metadata={"help": "target of training: the choice's text, its letter, or a mix"}
    )
    polarity: Literal["closer", "balanced"] = field(
        default="closer",
        metadata={
            "help": "of depth and distance (rendered and CLEVR); balanced: half of them ask for farther"
        },
    )
    eval_data: str = field(default=cvbench.HUB_ID, metadata={"help": "CV-Bench rows, or 'embedded'"})
    full_test: bool = field(
        default=False,
        metadata={"help": "also Pass@4 at temperature 1.0, and Depth and Distance polarity-flipped (OOD)"},
    )
    run_name: str = field(default="v2", metadata={"help": "first part of the run folder's name"})


def training_set(args: ExperimentArgs, with_thoughts: bool = False) -> Sequence[Example]:
    """Load the training questions that `args` describe.

    Args:
        with_thoughts: whether rows with thoughts can be learnt.

    Raises:
        UserError: besides the loaders', rows with thoughts where they cannot be.
    """
    loading.require_device(args)
    if args.data == "embedded":
        return series.sat(
            "train", args.train_limit, args.seed, args.answer_form, args.polarity, share_scenes=True
        )
    if clevr.is_official_folder(args.data):
        return clevr.load_sat(args.data, args.train_limit, args.answer_form, args.polarity, seed=args.seed)
    if args.polarity != "closer":
        raise UserError("--polarity balanced is for rendered and CLEVR scenes; SAT's rows are as they are")
    if thoughts.lie_at(args.data):
        if not with_thoughts:
            _, row = read_rows(args.data, "train")[0]
            raise UserError(
                f"--data {args.data}: SAT's rows have image_bytes or images, question, answers, question_type"
                f" and correct_answer, these {', '.join(row)}; rows with thoughts: model/pali_sat_sft.py"
            )
        return thoughts.load(args.data, limit=args.train_limit)
    form = args.answer_form
    return sat.load(args.data, "train", args.train_limit, form, seed=args.seed, training=True)


class SATExperiment(Experiment):
    """Tested on CV-Bench; with `--full_test` also Pass@4 and polarity-flipped."""

    def __init__(
        self, script: str, args, model, max_new_tokens: int = 16, train_set: Sequence[Example] = ()
    ) -> None:
        source = {"path": args.eval_data, "limit": args.eval_limit}
        test_set = cvbench.load(**source)
        super().__init__(
            script,
            args,
            model,
            test_set,
            BENCHMARK,
            write_adapter_card,
            max_new_tokens,
            test_data=DataSource("cvbench", source),
            train_set=train_set,
        )

    def test(self, name: str, model, processor) -> list[Record]:
        """Answer the test greedily, in the run folder's part `name`; with `--full_test` the others too."""
        records = super().test(name, model, processor)
        if self.args.full_test:
            source = {**self.test_data.arguments, "flipped": True}
            flipped = DataSource("cvbench", source)
            questions = [e for e in cvbench.flip_polarity(self.test_set) if e.task in cvbench.TASKS_3D]
            self.part(f"{name}-ood", model, processor, questions, data=flipped)
            self.part(f"{name}-pass4", model, processor, self.test_set, num_samples=4)
            self.part(f"{name}-pass4-ood", model, processor, questions, num_samples=4, data=flipped)
        return records


# ---- arms of the study

GRPO, SFT = "model/pali_sat_grpo.py", "model/pali_sat_sft.py"
UNFILTERED = "GRPO-v2 without dynamic sampling"
ARMS = {
    "GRPO-v1": Arm("v1", GRPO, "pali_sat_grpo_v1.yaml"),
    "SFT": Arm("sft", SFT, "pali_sat_sft.yaml"),
    "GRPO-v2": Arm("v2", GRPO, "pali_sat_grpo_v2.yaml"),
    UNFILTERED: Arm("v2-unfiltered", GRPO, "pali_sat_grpo_v2.yaml", ("--dynamic_sampling", "false")),
}
TESTS = {  # of a trained model -> part of its run folder
    "pass1": "trained",
    "pass1_ood": "trained-ood",
    "pass4": "trained-pass4",
    "pass4_ood": "trained-pass4-ood",
}
FLIPPED = ("Depth", "Distance")  # the tasks with a polarity to flip


@dataclass(frozen=True)
class Scores:
    """The scores of one arm, one per seed, for each test."""

    pass1: Sequence[Score]
    pass1_ood: Sequence[Score]
    pass4: Sequence[Score]
    pass4_ood: Sequence[Score]


Arms = Mapping[str, Scores]  # by name; "base" is the model before training


def run_folder(folder: Path, arm: Arm, seed: int, polarity: str = "closer") -> Path:
    return folder / f"{arm.folder}{'-balanced' if polarity == 'balanced' else ''}-seed{seed}"


def base_folder(folder: Path, test: str, seed: int) -> Path:
    """The base model's test; the greedy one is the same for all seeds."""
    name = "greedy" if test.startswith("pass1") else f"pass4-seed{seed}"
    return folder / "base" / f"{name}{'-ood' if test.endswith('ood') else ''}"


def load_scores(folder: Path, seeds: Sequence[int], polarity: str = "closer") -> dict[str, Scores]:
    """Load the scores of every arm that was trained at all seeds, and of the base model."""
    folders = {}
    if polarity == "closer":
        folders["base"] = {test: [base_folder(folder, test, seed) for seed in seeds] for test in TESTS}
    for name, arm in ARMS.items():
        runs = [run_folder(folder, arm, seed, polarity) for seed in seeds]
        if all(run.is_dir() for run in runs):
            folders[name] = {test: [run / part for run in runs] for test, part in TESTS.items()}
    return {
        name: Scores(**{test: [load_score(each) for each in parts] for test, parts in tests.items()})
        for name, tests in folders.items()
    }


def load_score(folder: Path) -> Score:
    return comparison.score(read_lines(folder / "predictions.jsonl"))


# ---- tables


@dataclass(frozen=True)
class Claim:
    """A claim of the paper that a difference is above 0.

    Args:
        text: the claim in words.
        difference: as measured.
        published: the paper's difference in points, if it reports one.
    """

    text: str
    difference: Estimate
    published: float | None = None


def accuracy_table(
    arms: Arms, questions: Questions, test: str, reported: Mapping[str, Sequence[float]]
) -> str:
    """Format CV-Bench by task and in total, each arm above its published row."""
    rows = []
    for name, arm in arms.items():
        scores = getattr(arm, test)
        cells = [percent(mean(scores, questions.of(task))) for task in published.COLUMNS[:-1]]
        rows.append([name, *cells, percent(mean(scores, questions))])
        if name in reported:
            rows.append([f"{name}, published", *(f"{figure:.1f}" for figure in reported[name])])
    return markdown(["", *published.COLUMNS], rows)


def gap(scores: Scores, questions: Questions, test: str = "pass1") -> list[Score]:
    """Return what flipping the polarity of some questions costs, per seed and question."""
    original = [{id: score[id] for id in questions.task_of} for score in getattr(scores, test)]
    flipped = [{id: score[id] for id in questions.task_of} for score in getattr(scores, f"{test}_ood")]
    return difference(original, flipped)


def polarity_table(arms: Arms, questions: Questions, test: str, reported: Mapping[str, Mapping]) -> str:
    """Format Depth and Distance as they are (ID), flipped (OOD), and the gap between them."""
    rows = []
    for name, arm in arms.items():
        cells, figures = [], []
        for task in FLIPPED:
            part = questions.of(task)
            cells += [percent(mean(getattr(arm, kind), part)) for kind in (test, f"{test}_ood")]
            cells.append(percent(mean(gap(arm, part, test), part), sign=True))
            if name in reported:
                before, after = reported[name][task]
                figures += [f"{before:.1f}", f"{after:.1f}", f"{before - after:+.1f}"]
        rows.append([name, *cells])
        if figures:
            rows.append([f"{name}, published", *figures])
    return markdown(["", *(f"{task} {kind}" for task in FLIPPED for kind in ("ID", "OOD", "gap"))], rows)


def claims(arms: Arms, questions: Questions) -> dict[str, Claim]:
    """Return the paper's claims by a short name, and the effect of dynamic sampling if it was trained."""
    v1, v2, sft = arms["GRPO-v1"], arms["GRPO-v2"], arms["SFT"]
    one = {name: figures[-1] for name, figures in published.PASS_AT_1.items()}
    four = {name: figures[-1] for name, figures in published.PASS_AT_4.items()}
    gaps = {
        name: sum(before - after for before, after in published.POLARITY[name].values()) / len(FLIPPED)
        for name in ("SFT", "GRPO-v2")
    }
    flipped = questions.of(*FLIPPED)
    found = {
        "v2_above_sft": Claim(
            "Pass@1, Total: GRPO-v2 above SFT",
            mean(difference(v2.pass1, sft.pass1), questions),
            one["GRPO-v2"] - one["SFT"],
        ),
        "sft_above_v2_pass4": Claim(
            "Pass@4, Total: SFT above GRPO-v2",
            mean(difference(sft.pass4, v2.pass4), questions),
            four["SFT"] - four["GRPO-v2"],
        ),
        "gap": Claim(
            "ID-OOD gap, mean of Depth and Distance: SFT's above GRPO-v2's",
            mean(difference(gap(sft, flipped), gap(v2, flipped)), flipped),
            gaps["SFT"] - gaps["GRPO-v2"],
        ),
        "v2_above_v1": Claim(
            "Pass@1, Total: GRPO-v2 above GRPO-v1",
            mean(difference(v2.pass1, v1.pass1), questions),
            one["GRPO-v2"] - one["GRPO-v1"],
        ),
    }
    if UNFILTERED in arms:
        found["filtering"] = Claim(
            "Pass@1, Total: dynamic sampling above none, all else as in v2",
            mean(difference(v2.pass1, arms[UNFILTERED].pass1), questions),
        )
    return found


def claims_table(arms: Arms, questions: Questions) -> str:
    rows = []
    for claim in claims(arms, questions).values():
        reported = "-" if claim.published is None else f"{claim.published:+.1f}"
        measured = percent(claim.difference, sign=True)
        rows.append([claim.text, measured, reported, f"**{verdict(claim.difference)}**"])
    return markdown(["claim", "difference, points", "published", "here"], rows)


def section(arms: Arms, balanced: Arms, questions: Questions, facts: str) -> str:
    """Format the study in Markdown: tables, verdicts, and the same with balanced training polarity."""
    parts = [
        "## GRPO against SFT on SAT, tested on CV-Bench",
        facts,
        "Pass@1, greedy, percent:",
        accuracy_table(arms, questions, "pass1", published.PASS_AT_1),
        "Pass@4, any of four samples at temperature 1.0 correct:",
        accuracy_table(arms, questions, "pass4", published.PASS_AT_4),
        "In and out of distribution, greedy: OOD is the same questions, polarity-flipped (closer becomes far "
        "away, the answers swap):",
        polarity_table(arms, questions, "pass1", published.POLARITY),
        "The same, Pass@4:",
        polarity_table(arms, questions, "pass4", {}),
        "### Which of the paper's claims hold here",
        "Held: the whole interval of the difference is above 0. Not held: the whole interval is below 0. "
        "Undecided: it contains 0.",
        claims_table(arms, questions),
        "v2 differs from v1 in dynamic sampling, and also in more LoRA layers, a higher rank and a smaller "
        "beta; the last row changes dynamic sampling alone.",
    ]
    if balanced:
        with_base = {"base": arms["base"], **balanced}
        parts += [
            "### With balanced polarity in training",
            "What the paper did not measure: in training, depth and distance are asked as closer and as "
            "farther equally often. The words still differ: training says *farther from*, the flipped test "
            "says *far away from*.",
            accuracy_table(with_base, questions, "pass1", {}),
            polarity_table(with_base, questions, "pass1", {}),
            claims_table(balanced, questions),
        ]
    return "\n\n".join(parts)
