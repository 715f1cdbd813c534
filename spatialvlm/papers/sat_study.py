"""Paper A's study: base, GRPO-v1, SFT and GRPO-v2 on CV-Bench, in and out of distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.papers.study import Arm, Study, claims_section
from spatialvlm.reporting import comparison
from spatialvlm.reporting.comparison import Claim, Questions, Scores, claim, looking, mean, scores_table
from spatialvlm.tasks.cvbench import published

GRPO, SFT = "model/pali_sat_grpo.py", "model/pali_sat_sft.py"
ARMS = {
    "SFT": Arm("sft", SFT, "pali_sat_sft.yaml", base="base"),
    "GRPO-v1": Arm("v1", GRPO, "pali_sat_grpo_v1.yaml"),
    "GRPO-v2": Arm("v2", GRPO, "pali_sat_grpo_v2.yaml"),
}
BALANCED = {
    f"{name}, balanced": replace(
        arm, folder=f"{arm.folder}-balanced", flags=("--polarity", "balanced"), base=""
    )
    for name, arm in ARMS.items()
}
UNFILTERED = "GRPO-v2 without dynamic sampling"
ABLATIONS = {
    UNFILTERED: replace(ARMS["GRPO-v2"], folder="v2-unfiltered", flags=("--dynamic_sampling", "false"))
} | BALANCED
TESTS = PASS_1, _, PASS_4, _ = ("", "-ood", "-pass4", "-pass4-ood")
FLIPPED = ("Depth", "Distance")  # the tasks with a polarity to flip

Arms = Mapping[str, Scores]  # by name; "base" is the model before training


@dataclass(frozen=True)
class Answers:
    """The scores of all arms in each test, and the questions."""

    questions: Questions
    tests: Mapping[str, Arms]

    @classmethod
    def of(cls, study: Study) -> Answers:
        tests = {test: study.scores(test) for test in TESTS}
        return cls(comparison.questions(study.records()), tests)

    def gaps(self, test: str = PASS_1) -> dict[str, Scores]:
        """What flipping the polarity of some questions costs each arm."""
        flipped = self.tests[f"{test}-ood"]
        return {name: arm.minus(flipped[name]) for name, arm in self.tests[test].items()}


def polarity_table(answers: Answers, test: str, names: Mapping[str, str], reported: Mapping) -> str:
    """Format Depth and Distance as they are (ID), flipped (OOD), and the gap between them.

    Args:
        names: arms, and how to write them.
        reported: the paper's (ID, OOD) by arm and task.
    """
    rows = []
    gaps = answers.gaps(test)
    for name, text in names.items():
        cells, figures = [], []
        for task in FLIPPED:
            part = answers.questions.of(task)
            cells += [percent(mean(answers.tests[of][name].own, part)) for of in (test, f"{test}-ood")]
            cells.append(percent(mean(gaps[name].own, part), sign=True))
            if name in reported:
                before, after = reported[name][task]
                figures += [f"{before:.1f}", f"{after:.1f}", f"{before - after:+.1f}"]
        rows += [[text, *cells], *([[f"{text}, published", *figures]] if figures else [])]
    return markdown(["", *(f"{task} {kind}" for task in FLIPPED for kind in ("ID", "OOD", "gap"))], rows)


def claims(answers: Answers, suffix: str = "") -> dict[str, Claim]:
    """Return the paper's claims by a short name.

    Args:
        suffix: of the arms' names: of those trained with balanced polarity, `, balanced`.
    """
    questions, flipped = answers.questions, answers.questions.of(*FLIPPED)
    v1, v2, sft = (f"{name}{suffix}" for name in ("GRPO-v1", "GRPO-v2", "SFT"))
    one, four, gaps = answers.tests[PASS_1], answers.tests[PASS_4], answers.gaps()
    reported = {name: figures[-1] for name, figures in published.PASS_AT_1.items()}
    lost = {name: fmean(a - b for a, b in tasks.values()) for name, tasks in published.POLARITY.items()}

    def greedy(first: str, second: str) -> Claim:
        of = [name.removesuffix(suffix) for name in (first, second)]
        text = f"Pass@1, Total: {of[0]} above {of[1]}"
        return claim(text, one[first], one[second], questions, reported[of[0]] - reported[of[1]])

    found = {
        "sft_above_base": greedy(sft, "base"),
        "v2_above_base": greedy(v2, "base"),
        "v2_above_sft": greedy(v2, sft),
        "v2_above_v1": greedy(v2, v1),
        "sft_above_v2_pass4": claim(
            "Pass@4, Total: SFT above GRPO-v2",
            four[sft],
            four[v2],
            questions,
            published.PASS_AT_4["SFT"][-1] - published.PASS_AT_4["GRPO-v2"][-1],
        ),
        "gap": claim(
            "GRPO-v2's ID-OOD gap is smaller than SFT's (mean of Depth and Distance)",
            gaps[sft],
            gaps[v2],
            flipped,
            lost["SFT"] - lost["GRPO-v2"],
        ),
    }
    if not suffix and UNFILTERED in one:
        text = "Pass@1, Total: dynamic sampling above none, all else as in v2"
        found["filtering"] = claim(text, one[v2], one[UNFILTERED], questions)
    for name in (sft, v2):
        text = f"Pass@1, Total: {name.removesuffix(suffix)} with its images above shuffled ones"
        found[f"{'sft' if name == sft else 'v2'}_looks"] = claim(
            text, Scores(one[name].own), Scores(one[name].shuffled), questions
        )
    return found


def section(answers: Answers, facts: str) -> str:
    """Format the study in Markdown: tables, claims, and the same with balanced training polarity."""
    questions, one = answers.questions, answers.tests[PASS_1]
    names = {name: name for name in one if name not in BALANCED}
    shown = {test: {name: arms[name] for name in names} for test, arms in answers.tests.items()}
    by_task = {task: questions.of(task) for task in published.COLUMNS[:-1]} | {
        published.COLUMNS[-1]: questions
    }
    parts = [
        "## GRPO against SFT on SAT, tested on CV-Bench",
        f"{facts} {len(questions.task_of)} questions, each task with equal weight in the Total. Published "
        "figures are of PaliGemma 2 3B on photographs; ours are of the small weights that the repository "
        "carries, on rendered scenes: what can be compared is which arm is ahead, not the level.",
        "Pass@1, greedy, percent:",
        scores_table(shown[PASS_1], by_task, published.PASS_AT_1),
        "Pass@4, any of four samples at temperature 1.0 correct:",
        scores_table(shown[PASS_4], by_task, published.PASS_AT_4),
        "Pass@1 with the images above Pass@1 with images shuffled, in points:",
        scores_table(looking(shown[PASS_1]), by_task, sign=True),
        "In and out of distribution, greedy: OOD is the same questions, polarity-flipped (closer becomes far "
        "away, the answers swap):",
        polarity_table(answers, PASS_1, names, published.POLARITY),
        "The same, Pass@4:",
        polarity_table(answers, PASS_4, names, {}),
        *claims_section(claims(answers)),
        "v2 differs from v1 in dynamic sampling, and also in more LoRA layers, a higher rank and a smaller "
        "beta.",
    ]
    if balanced := {name: name.removesuffix(", balanced") for name in BALANCED if name in one}:
        parts += [
            "### With balanced polarity in training",
            "What the paper did not measure: in training, depth and distance are asked as closer and as "
            "farther equally often. The words still differ: training says *farther from*, the flipped test "
            "says *far away from*.",
            scores_table({text: one[name] for name, text in balanced.items()}, by_task),
            polarity_table(answers, PASS_1, balanced, {}),
        ]
        if len(balanced) == len(BALANCED):
            parts.append(comparison.claims_table(claims(answers, ", balanced").values()))
    return "\n\n".join(parts)
