"""Paper C's study: base, SFT, GRPO and each capability alone, and what basic capabilities carry over to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import fmean

from spatialvlm.evaluation.metrics import Record
from spatialvlm.papers.sparkle import chance, published_changes
from spatialvlm.papers.study import AFTER, SUMMARY, Arm, Study, claims_section, columns
from spatialvlm.reporting import comparison
from spatialvlm.reporting.comparison import Claim, Questions, Scores, claim, looking, scores_table
from spatialvlm.reporting.runs import json_object
from spatialvlm.tasks.sparkle import scoring
from spatialvlm.tasks.sparkle.published import COMPOSITE
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES

BASE = "base"
TESTS = BASIC, ROUTES = ("", "-composite")


def _sft(folder: str, *flags: str, base: str = "") -> Arm:
    return Arm(folder, "model/sparkle_sft.py", "sparkle_sft.yaml", flags, base)


ARMS = {
    "SFT": _sft("sft", base=BASE),
    "GRPO": Arm("grpo", "model/sparkle_grpo.py", "sparkle_grpo.yaml"),
    **{f"SFT, {name} alone": _sft(f"sft_{name}", "--capabilities", name) for name in CAPABILITIES},
}
ABLATIONS = {
    "SFT, without numbers": _sft("without_numbers", "--numbers", "false"),
    **{
        f"SFT, without {name}": _sft(
            f"without_{name}", "--capabilities", *(other for other in CAPABILITIES if other != name)
        )
        for name in CAPABILITIES
    },
    **{
        f"SFT, {size:,} images": _sft(f"{size}_images", "--configurations", str(size))
        for size in (200, 500, 1000)
    },
}

Arms = Mapping[str, Scores]  # by name; "base" is the model before training


def valid(record: Record) -> float:
    """Return 1 for a path or tour of any length, else 0."""
    return float(scoring.ratio(record["parsed"]) is not None)


@dataclass(frozen=True)
class Answers:
    """The scores of all arms by test, with those of valid routes, the questions, and the blind baseline."""

    basic: Arms
    optimal: Arms
    valid: Arms
    families: Questions
    routes: Questions
    summary: Mapping  # of the basic test

    @classmethod
    def of(cls, study: Study) -> Answers:
        run = study.runs(next(iter(study.arms)))[0]
        return cls(
            study.scores(BASIC),
            study.scores(ROUTES),
            study.scores(ROUTES, valid),
            comparison.questions(study.records(BASIC)),
            comparison.questions(study.records(ROUTES)),
            json_object(run / AFTER[0] / SUMMARY),
        )

    def of_capabilities(self, *names: str) -> Questions:
        """The basic questions about some capabilities; of all where none is named."""
        names = names or tuple(CAPABILITIES)
        return self.families.of(*(f for f in self.families.tasks if FAMILIES[f].capability in names))

    def blind(self) -> Scores:
        """The blind baseline (answers without the image), with every question's that of its family."""
        by_family = {family: part["chance"] for family, part in self.summary["tasks"].items()}
        score = {id: by_family[family] for id, family in self.families.task_of.items()}
        seeds = len(self.basic[BASE].own)
        return Scores([score] * seeds, [score] * seeds)


def claims(answers: Answers) -> dict[str, Claim]:
    """Return the paper's claims by a short name: of SFT, GRPO, each capability alone, then the ablations."""
    basic, optimal, routes = answers.basic, answers.optimal, answers.routes
    paths, tour = routes.of(*(task for task in routes.tasks if task != "tour")), routes.of("tour")
    found = {}
    for name, arm in ARMS.items():
        alone = [capability for capability in CAPABILITIES if name == f"SFT, {capability} alone"]
        what, part = (alone or ["basic capabilities"])[0], answers.of_capabilities(*alone)
        key = arm.folder
        found[f"{key}_basic"] = claim(f"{name}: {what} above base", basic[name], basic[BASE], part)
        text = f"{name}: {what} above the blind baseline"
        found[f"{key}_chance"] = claim(text, basic[name], answers.blind(), part)
        text = f"{name}: {what} with its images above shuffled ones"
        found[f"{key}_looks"] = claim(text, Scores(basic[name].own), Scores(basic[name].shuffled), part)
        for short, words, of in (("paths", "shortest paths", paths), ("tour", "tours", tour)):
            if of.task_of:
                text = f"{name}: carries over to {words}, above base"
                found[f"{key}_{short}"] = claim(text, optimal[name], optimal[BASE], of)
    for task in (task for task in routes.tasks if task in COMPOSITE):
        text = f"SFT: carries over to {task.replace('_', ' ')}, above base"
        gain = fmean(after - before for _, before, after in COMPOSITE[task])
        found[f"sft_{task}"] = claim(text, optimal["SFT"], optimal[BASE], routes.of(task), gain)
    for name, arm in ABLATIONS.items():
        if name in basic:
            text = f"SFT on all above {name}: basic capabilities"
            found[f"above_{arm.folder}"] = claim(text, basic["SFT"], basic[name], answers.families)
            text = f"SFT on all above {name}: paths and tours"
            found[f"above_{arm.folder}_routes"] = claim(text, optimal["SFT"], optimal[name], routes)
    return found


def capabilities(answers: Answers) -> dict[str, Questions]:
    """Return the basic questions of each capability, and all."""
    parts = {name: answers.of_capabilities(name) for name in CAPABILITIES}
    return {name: part for name, part in parts.items() if part.task_of} | {"all": answers.families}


def blind(answers: Answers, names: Collection[str]) -> list[float]:
    """Return the blind baseline in percent by capability, and over all."""
    parts = [chance(answers.summary, (name,)) for name in names if name in CAPABILITIES]
    return [100 * value for value in (*parts, chance(answers.summary))]


def section(answers: Answers, facts: str) -> str:
    """Format the study in Markdown."""
    by_capability, by_route = capabilities(answers), columns(answers.routes, "all")
    changes = "; ".join(f"{task} {published_changes(task)}" for task in COMPOSITE)
    parts = [
        "## Sparkle: basic capabilities and what carries over",
        f"{facts} {len(answers.families.task_of)} basic questions, {len(answers.routes.task_of)} composite "
        "ones, families and tasks with equal weight. Sparkle's own figures are of models a thousand times as "
        "large on other images, so the question is what carries over, not the level. Its published changes: "
        f"{changes}.",
        "Basic, each the mean over its families:",
        scores_table(answers.basic, by_capability, last={"blind baseline": blind(answers, by_capability)}),
        "Basic, with the images above the same with images shuffled, in points:",
        scores_table(looking(answers.basic), by_capability, sign=True),
        "Composite, never trained on; optimal, any shortest path or tour:",
        scores_table(answers.optimal, by_route),
        "Composite, never trained on; valid, paths and tours of any length:",
        scores_table(answers.valid, by_route),
        *claims_section(claims(answers)),
        "Published: the mean change of the paper's models by SFT on basic capabilities.",
    ]
    return "\n\n".join(parts)
