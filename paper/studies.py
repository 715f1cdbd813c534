"""The three studies as figures, computed with the functions that write RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from figures import claims, number, points, read_json, share

from spatialvlm.papers import sat_study as sat
from spatialvlm.papers import sparkle_study as sparkle
from spatialvlm.papers import vsi_study as vsi
from spatialvlm.papers.study import Study, columns
from spatialvlm.reporting.comparison import Questions, Scores, mean
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.cvbench import published as cvbench

# ---- paper A

SAT_TESTS = dict(zip(("pass1", "pass1_ood", "pass4", "pass4_ood"), sat.TESTS, strict=True))


def sat_study(folder: Path) -> dict:
    """Return the figures of `model/reproduce_sat.py`'s runs; {} if a run is missing."""
    runs = Study.found(folder, sat.ARMS, sat.ABLATIONS, sat.TESTS)
    if not runs:
        return {}
    answers = sat.Answers.of(runs)
    names = [name for name in answers.tests[sat.PASS_1] if name not in sat.BALANCED]
    short = {name: arm.folder for name, arm in runs.arms.items()} | {"base": "base"}
    flipped = {task: answers.questions.of(task) for task in sat.FLIPPED}
    study = _facts(runs) | {"questions": len(answers.questions.task_of)}
    study |= _training_facts(runs, "GRPO-v2", ("max_steps", "num_generations", "train_limit"))
    for key, test in SAT_TESTS.items():
        parts = flipped if test.endswith("ood") else columns(answers.questions, "Total")
        study[key] = _rows({name: answers.tests[test][name] for name in names}, parts, short)
    gaps = answers.gaps()
    study["gap"] = _rows({name: gaps[name] for name in names}, flipped, short, points)
    for key, reported in (("pass1", cvbench.PASS_AT_1), ("pass4", cvbench.PASS_AT_4)):
        study[f"published_{key}"] = {
            short[name]: dict(zip(cvbench.COLUMNS, (number(figure, 1) for figure in row), strict=True))
            for name, row in reported.items()
        }
    study["published_gap"] = {
        short[name]: {task: number(before - after, 1, sign=True) for task, (before, after) in tasks.items()}
        for name, tasks in cvbench.POLARITY.items()
    }
    study["shuffled"] = share(mean(answers.tests[sat.PASS_1]["GRPO-v2"].shuffled, answers.questions))
    study["claims"] = claims(sat.claims(answers))
    study["curves"] = {
        short[name]: {metric: _curve(runs.runs(name), metric) for metric in ("reward", "informative")}
        for name in names
        if name != "base" and runs.arms[name].script == sat.GRPO
    }
    return study


def _curve(runs: Sequence[Path], name: str) -> list[float]:
    """A metric by step, the mean over seeds."""
    steps = zip(*([row[name] for row in read_lines(run / "metrics.jsonl")] for run in runs), strict=True)
    return [round(fmean(values), 4) for values in steps]


# ---- paper B


def vsi_study(folder: Path) -> dict:
    """Return the figures of `model/reproduce_vsi.py`'s runs, with ablations as far as trained.

    {} if a run is missing.
    """
    runs = Study.found(folder, vsi.ARMS, vsi.ABLATIONS)
    if not runs:
        return {}
    arms, asked = runs.scores(), vsi.questions(runs.records())
    short = {vsi.BASE: "base"} | {name: arm.folder for name, arm in runs.arms.items()}
    by_family = {vsi.SHORT.get(name, name): part for name, part in columns(asked, "mean").items()}
    study = _facts(runs) | {"questions": len(asked.task_of)}
    study |= _training_facts(runs, vsi.V, ("max_steps", "num_generations", "num_frames", "beta"))
    study["beta"] = f"{study['beta']:g}"
    study["ways"] = _rows({name: arms[name] for name in (vsi.BASE, *vsi.ARMS)}, by_family, short)
    study["shuffled"] = {short[name]: share(mean(arms[name].shuffled, asked)) for name in short}
    study["claims"] = claims(vsi.claims(arms, asked))
    study["families"] = claims(vsi.by_family(arms, asked))
    study["courses"] = {}
    for name, arm in runs.arms.items():
        if arm.script == vsi.GRPO:
            row = {"name": name, "mean": share(mean(arms[name].own, asked))}
            for key, (first, last) in vsi.course(runs.runs(name)).items():
                row |= {f"{key}_first": _course_number(key, first), f"{key}_last": _course_number(key, last)}
            study["courses"][arm.folder] = row
    if vsi.BASE_T in arms:
        study["thinking_base"] = share(mean(arms[vsi.BASE_T].own, asked))
    if missing := [name for name in vsi.ABLATIONS if name not in runs.arms]:
        study["missing"] = "; ".join(missing)
    return study


def _course_number(name: str, value: float) -> dict:
    if name in ("format", "empty_thoughts"):
        return number(100 * value, 0)
    return number(value, 3 if name == "kl" else 1)


# ---- paper C


def sparkle_study(folder: Path) -> dict:
    """Return the figures of `model/reproduce_sparkle.py`'s runs; {} if a run is missing."""
    runs = Study.found(folder, sparkle.ARMS, sparkle.ABLATIONS, sparkle.TESTS)
    if not runs:
        return {}
    answers = sparkle.Answers.of(runs)
    short = {name: arm.folder for name, arm in runs.arms.items()} | {sparkle.BASE: "base"}
    names = (sparkle.BASE, *sparkle.ARMS)
    by_capability, by_route = sparkle.capabilities(answers), columns(answers.routes, "all")
    study = _facts(runs) | {"basic": len(answers.families.task_of), "composite": len(answers.routes.task_of)}
    study["chance"] = number(sparkle.blind(answers, by_capability)[-1], 1)
    for key, arms, parts in (
        ("ways", answers.basic, by_capability),
        ("optimal", answers.optimal, by_route),
        ("valid", answers.valid, by_route),
    ):
        study[key] = _rows({name: arms[name] for name in names}, parts, short)
    study["shuffled"] = {
        short[name]: share(mean(answers.basic[name].shuffled, answers.families)) for name in names
    }
    study["claims"] = claims(sparkle.claims(answers))
    return study


# ---- all studies


def _rows(
    arms: Mapping[str, Scores], parts: Mapping[str, Questions], short: Mapping[str, str], figure=share
) -> dict:
    return {
        short[name]: {"name": name} | {key: figure(mean(arm.own, part)) for key, part in parts.items()}
        for name, arm in arms.items()
    }


def _facts(runs: Study) -> dict:
    """Number of commands and seeds of a study, and the minutes that it took."""
    commands = (runs.folder / "commands.txt").read_text(encoding="utf-8").splitlines()
    seconds = sum(map(float, (runs.folder / "seconds.txt").read_text(encoding="utf-8").split()))
    return {"commands": len(commands), "minutes": number(seconds / 60), "seeds": len(runs.seeds)}


def _training_facts(runs: Study, name: str, arguments: Sequence[str]) -> dict:
    config = read_json(runs.runs(name)[0] / "config.json")
    found = {each: config["arguments"][each] for each in arguments}
    return found | {"commit": (config["git_commit"] or "unknown")[:7]}
