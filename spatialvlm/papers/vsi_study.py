"""Paper B's study: base, SFT, DPO and vsGRPO by family of questions, and what the paper leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.tables import markdown
from spatialvlm.papers.study import Arm, Study, claims_section, columns
from spatialvlm.reporting import comparison
from spatialvlm.reporting.comparison import Claim, Questions, Scores, claim, looking, mean, scores_table
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.vsi.published import FIGURES
from spatialvlm.tasks.vsi.questions import FAMILIES, family
from spatialvlm.tasks.vsi.scoring import TASKS

HELD_OUT = ("object_rel_direction", "object_size_estimation")
KEPT = tuple(name for name in FAMILIES if name not in HELD_OUT)
V, T, SFT, DPO = "vsGRPO-V", "vsGRPO-T", "SFT", "DPO"
BASE, BASE_T = "base", "base, think"
GRPO = "model/vsi_grpo.py"
ARMS = {
    SFT: Arm("sft", "model/vsi_sft.py", "vsgrpo_2b_sft.yaml", base=BASE),
    DPO: Arm("dpo", "model/vsi_dpo.py", "vsgrpo_2b_dpo.yaml"),
    V: Arm("v", GRPO, "vsgrpo_2b_v.yaml"),
}
_THINK = Arm("t", GRPO, "vsgrpo_2b_t.yaml")
ABLATIONS = {  # thoughts first, since they take longest
    T: replace(_THINK, base=BASE_T),
    f"{T}, beta 0": replace(_THINK, folder="t-beta0", flags=("--beta", "0")),
    f"{T}, beta 0.01": replace(_THINK, folder="t-beta1e-2", flags=("--beta", "0.01")),
    f"{V}, beta 0": replace(ARMS[V], folder="v-beta0", flags=("--beta", "0")),
    f"{V}, beta 0.01": replace(ARMS[V], folder="v-beta1e-2", flags=("--beta", "0.01")),
    f"{V}, MRA as reward": replace(ARMS[V], folder="v-mra", flags=("--reward", "mra")),
    f"{V}, four families": replace(ARMS[V], folder="v-held-out", flags=("--families", *KEPT)),
}
PUBLISHED = {BASE: "Qwen2-VL-2B", SFT: "2B + SFT", DPO: "2B + DPO", V: "vsGRPO-V 2B", T: "vsGRPO-T 2B"}
SHORT = {
    "object_counting": "count",
    "object_abs_distance": "absolute distance",
    "object_rel_distance": "relative distance",
    "object_rel_direction": "relative direction",
    "object_size_estimation": "object size",
    "room_size_estimation": "room size",
}
LOOKED = 0.15  # by how much a family's score must be above that with images shuffled to be called seen
COURSES = {
    "format": "format",
    "empty_thoughts": "empty thoughts",
    "completion_length": "tokens",
    "kl": "KL",
}
LAST = 5  # steps that the end of a course is averaged over

Arms = Mapping[str, Scores]


def questions(records: Sequence[Record]) -> Questions:
    """Return the questions with their families as tasks, those of `FAMILIES` first and in their order."""
    found = comparison.questions([record | {"task": family(record["task"])} for record in records])
    tasks = dict.fromkeys([*(name for name in FAMILIES if name in found.tasks), *found.tasks])
    return Questions({id: task for task in tasks for id in found.of(task).task_of})


def claims(arms: Arms, asked: Questions) -> dict[str, Claim]:
    """Return the paper's claims by a short name, and what it leaves open, as far as the arms are trained."""

    def above(first: str, second: str, text: str = "", part: Questions = asked) -> Claim | None:
        if first not in arms or second not in arms:
            return None
        reported = None
        if {first, second} <= PUBLISHED.keys():
            reported = FIGURES[PUBLISHED[first]][0] - FIGURES[PUBLISHED[second]][0]
        return claim(text or f"{first} above {second}", arms[first], arms[second], part, reported)

    found = {
        "v_above_base": above(V, BASE),
        "sft_above_base": above(SFT, BASE),
        "dpo_above_base": above(DPO, BASE),
        "v_above_sft": above(V, SFT),
        "v_above_dpo": above(V, DPO),
        "sft_above_dpo": above(SFT, DPO),
        "v_above_t": above(V, T),
        "kl_vanilla": above(V, f"{V}, beta 0", "vanilla: a KL weight of 0.0001 above none"),
        "kl_think": above(T, f"{T}, beta 0", "think: a KL weight of 0.0001 above none"),
        "kl_large": above(V, f"{V}, beta 0.01", "vanilla: a KL weight of 0.0001 above 0.01"),
        "kl_large_think": above(T, f"{T}, beta 0.01", "think: a KL weight of 0.0001 above 0.01"),
        "base_above_think": above(BASE, BASE_T, "base: vanilla prompt above think"),
        "mra": above(f"{V}, MRA as reward", V, "MRA as reward above the relative error"),
        "held_out": above(f"{V}, four families", BASE, "held-out families gain", asked.of(*HELD_OUT)),
        "kept": above(f"{V}, four families", BASE, "beside them, families trained on gain", asked.of(*KEPT)),
    }
    looks = {
        f"{key}_looks": claim(f"{name} with its images above shuffled ones", Scores(arms[name].own),
                              Scores(arms[name].shuffled), asked)
        for key, name in (("sft", SFT), ("dpo", DPO), ("v", V))
    }  # fmt: skip
    return {key: each for key, each in found.items() if each} | looks


def by_family(arms: Arms, asked: Questions) -> dict[str, Claim]:
    """Return vsGRPO-V above SFT in each family, beside the paper's difference in the same task."""
    reported = {
        task: FIGURES[PUBLISHED[V]][column] - FIGURES[PUBLISHED[SFT]][column]
        for column, task in enumerate(TASKS, start=1)
    }
    return {
        task: claim(f"{SHORT.get(task, task)}: {V} above {SFT}", arms[V], arms[SFT], asked.of(task),
                    reported.get(task))
        for task in asked.tasks
    }  # fmt: skip


def seen(arms: Arms, asked: Questions) -> str:
    """Say in which families an arm's score is at least 15 points above that with images shuffled."""
    lines = []
    for name, arm in looking(arms).items():
        tasks = [task for task in asked.tasks if mean(arm.own, asked.of(task)).value >= LOOKED]
        names = ", ".join(SHORT.get(task, task) for task in tasks)
        lines.append(f"{name} {len(tasks)} of {len(asked.tasks)}{f' ({names})' if names else ''}")
    return f"Families with at least {100 * LOOKED:.0f} points by looking: {'; '.join(lines)}."


def course(folders: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """Return the metrics of `COURSES`, the mean over trainings: at the first step, and over the last ones."""
    runs = [read_lines(folder / "metrics.jsonl") for folder in folders]
    return {
        name: (fmean(rows[0][name] for rows in runs), fmean(r[name] for rows in runs for r in rows[-LAST:]))
        for name in COURSES
        if name in runs[0][0]
    }


def courses_table(study: Study) -> str:
    """Format format, empty thoughts, length and KL of GRPO's trainings: first step to last steps."""

    def cell(name: str, pair: tuple[float, float] | None) -> str:
        if pair is None:
            return ""
        if name == "completion_length":
            return f"{pair[0]:.1f} to {pair[1]:.1f}"
        return f"{pair[1]:.3f}" if name == "kl" else f"{100 * pair[0]:.0f} % to {100 * pair[1]:.0f} %"

    rows = []
    for name, arm in study.arms.items():
        if arm.script == GRPO:
            measured = course(study.runs(name))
            rows.append([name, *(cell(column, measured.get(column)) for column in COURSES)])
    return markdown(("", *COURSES.values()), rows)


def section(study: Study, facts: str) -> str:
    """Format the study in Markdown."""
    arms, asked = study.scores(), questions(study.records())
    by_task = {SHORT.get(name, name): part for name, part in columns(asked, "mean").items()}
    parts = [
        "## vsGRPO on rooms of CLEVR's world",
        f"{facts} {len(asked.task_of)} questions over rooms of CLEVR's world of the test split (five to "
        "eight objects on a floor, one view each), in VSI-100k's six families and without options: words by "
        "exact match, numbers by their mean relative accuracy. The paper's figures are of Qwen2-VL on videos "
        "of real rooms: what can be compared is which arm is ahead.",
        scores_table(arms, by_task),
        "With the images above the same with images shuffled, in points:",
        scores_table(looking(arms), by_task, sign=True),
        seen(arms, asked),
        *claims_section(claims(arms, asked)),
        "Published: the average of VSI-Bench's eight tasks, Qwen2-VL 2B. Held out: "
        f"{', '.join(SHORT[name] for name in HELD_OUT)}. By family:",
        comparison.claims_table(by_family(arms, asked).values()),
        "GRPO's trainings: completions of the first step, and the mean of the last five.",
        courses_table(study),
    ]
    if missing := [name for name in ABLATIONS if name not in study.arms]:
        parts.append(f"Not trained here: {'; '.join(missing)} (`--ablations all`).")
    return "\n\n".join(parts)
