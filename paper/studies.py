"""The three studies as figures, computed with the functions that write RESULTS.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from figures import claim, number, points, read_json, share

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.papers import sat, sparkle, vsi
from spatialvlm.reporting import comparison
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.cvbench import published as cvbench
from spatialvlm.tasks.sparkle.published import COMPOSITE
from spatialvlm.tasks.sparkle.questions import CAPABILITIES
from spatialvlm.tasks.vsi import published as vsi_published
from spatialvlm.tasks.vsi.questions import FAMILIES

# ---- paper A


def sat_study(folder: Path) -> dict:
    """Return the figures of `model/reproduce_sat.py`'s runs; {} if a run is missing."""
    seeds = sorted(int(path.name.rpartition("seed")[2]) for path in folder.glob("v2-seed*"))
    runs = {name: [sat.run_folder(folder, arm, seed) for seed in seeds] for name, arm in sat.ARMS.items()}
    tests = [
        run / part for each in runs.values() for run in each for part in (*sat.TESTS.values(), "shuffled")
    ]
    tests += [sat.base_folder(folder, test, seed) for test in sat.TESTS for seed in seeds]
    if not seeds or not _complete(folder, tests):
        return {}
    arms = sat.load_scores(folder, seeds)
    questions = comparison.questions(read_lines(folder / "base/greedy/predictions.jsonl"))
    short = {"base": "base"} | {name: arm.folder for name, arm in sat.ARMS.items()}
    study = _facts(folder) | {"questions": len(questions.task_of), "seeds": len(seeds)}
    study |= _training_facts(read_json(runs["GRPO-v2"][0] / "config.json"))
    for test in sat.TESTS:
        tasks = sat.FLIPPED if test.endswith("ood") else questions.tasks
        study[test] = {
            short[name]: {"name": name} | _by_task(getattr(arm, test), questions.of(*tasks))
            for name, arm in arms.items()
        }
    study["gap"] = {
        short[name]: {"name": name}
        | {task: points(comparison.mean(sat.gap(arm, part), part)) for task, part in flipped.items()}
        for flipped in [{task: questions.of(task) for task in sat.FLIPPED}]
        for name, arm in arms.items()
    }
    for test, reported in (("pass1", cvbench.PASS_AT_1), ("pass4", cvbench.PASS_AT_4)):
        study[f"published_{test}"] = {
            short[name]: dict(zip(cvbench.COLUMNS, (number(figure, 1) for figure in row), strict=True))
            for name, row in reported.items()
        }
    study["published_gap"] = {
        short[name]: {task: number(before - after, 1, sign=True) for task, (before, after) in tasks.items()}
        for name, tasks in cvbench.POLARITY.items()
    }
    shuffled = [sat.load_score(run / "shuffled") for run in runs["GRPO-v2"]]
    study["shuffled"] = share(comparison.mean(shuffled, questions))
    # What the paper takes for granted comes first: that either training helps at all.
    study["claims"] = {
        f"{short[name]}_above_base": claim(
            f"Pass@1, Total: {name} above base",
            comparison.mean(comparison.difference(arms[name].pass1, arms["base"].pass1), questions),
            cvbench.PASS_AT_1[name][-1] - cvbench.PASS_AT_1["base"][-1],
        )
        for name in ("SFT", "GRPO-v2")
    }
    study["claims"] |= {
        key: claim(each.text, each.difference, each.published)
        for key, each in sat.claims(arms, questions).items()
    }
    study["curves"] = {
        short[name]: {metric: _curve(runs[name], metric) for metric in ("reward", "informative")}
        for name in ("GRPO-v1", "GRPO-v2", sat.UNFILTERED)
    }
    return study


def _by_task(scores: Sequence[comparison.Score], questions: comparison.Questions) -> dict:
    by_task = {task: share(comparison.mean(scores, questions.of(task))) for task in questions.tasks}
    return by_task | {"Total": share(comparison.mean(scores, questions))}


def _training_facts(config: Mapping) -> dict:
    arguments = config["arguments"]
    names = ("max_steps", "num_generations", "train_limit")
    return {name: arguments[name] for name in names} | {"commit": (config["git_commit"] or "unknown")[:7]}


def _curve(runs: Sequence[Path], name: str) -> list[float]:
    """A metric by step, the mean over seeds."""
    columns = zip(*([row[name] for row in read_lines(run / "metrics.jsonl")] for run in runs), strict=True)
    return [round(fmean(values), 4) for values in columns]


# ---- paper B

VSI_OPEN = {  # folder: in words
    "v-beta0": "vanilla without a KL term",
    "v-beta1e-2": "vanilla with a larger KL weight",
    "v-mra": "MRA as reward",
    "v-held-out": "held-out families",
    "t": "think",
    "t-beta0": "think without a KL term",
    "t-beta1e-2": "think with a larger KL weight",
}
PUBLISHED_NAMES = {
    "base": "Qwen2-VL-2B",
    "sft": "2B + SFT",
    "dpo": "2B + DPO",
    "v": "vsGRPO-V 2B",
    "t": "vsGRPO-T 2B",
}


def vsi_study(folder: Path) -> dict:
    """Return the figures of `model/reproduce_vsi.py`'s runs, with open questions as far as trained.

    {} if a run is missing.
    """
    names = {"base": "base"} | {arm.folder: name for name, arm in vsi.ARMS.items()}
    shorts = [short for short in names if short != "base"]
    if not _complete(folder, [folder / "sft/base", *_tests(folder, shorts)]):
        return {}
    base = vsi.answers(folder / "sft/base")
    after = {"base": base} | {short: vsi.answers(folder / short / "trained") for short in shorts}
    shuffled = {short: vsi.answers(folder / short / "shuffled") for short in shorts}
    config = read_json(folder / "v/config.json")["arguments"]
    study = {"questions": len(base), "beta": f"{config['beta']:g}"}
    study |= {name: config[name] for name in ("max_steps", "num_generations", "num_frames", "seed")}
    study["ways"] = {short: {"name": names[short]} | _families(records) for short, records in after.items()}
    study["shuffled"] = {short: share(vsi.scores(shuffled[short])["mean"]) for short in shorts}
    pairs = [("v", "base"), ("sft", "base"), ("dpo", "base"), ("v", "sft"), ("v", "dpo")]
    study["claims"] = {
        f"{one}_above_{other}": claim(
            f"{names[one]} above {names[other]}",
            vsi.change(after[other], after[one]),
            _reported(one, other),
        )
        for one, other in pairs
    }
    study["looks"] = {
        short: claim(f"{names[short]}: own video above another's", vsi.change(shuffled[short], after[short]))
        for short in shorts
    }
    study["families"] = {
        name: claim(f"{vsi.SHORT[name]}: vsGRPO-V above SFT", vsi.change(after["sft"], after["v"], [name]))
        for name in FAMILIES
    }
    trained = [short for short in VSI_OPEN if _complete(folder, _tests(folder, [short]))]
    if trained:
        study["open"] = _open_questions(folder, trained, base, after["v"])
    return study


def _tests(folder: Path, shorts: Sequence[str]) -> list[Path]:
    return [folder / short / part for short in shorts for part in ("trained", "shuffled")]


def _families(records: Sequence[Mapping]) -> dict:
    return {vsi.SHORT.get(name, name): share(score) for name, score in vsi.scores(records).items()}


def _reported(one: str, other: str) -> float:
    first, second = (vsi_published.FIGURES[PUBLISHED_NAMES[name]][0] for name in (one, other))
    return first - second


def _open_questions(folder: Path, trained: Sequence[str], base: vsi.Answers, v: vsi.Answers) -> dict:
    """KL weights, thoughts, rewards and held-out families, as far as they were trained."""
    after = {short: vsi.answers(folder / short / "trained") for short in trained} | {"v": v, "base": base}
    study = {"ways": {}, "claims": {}}
    for short in ("v-beta0", "v", "v-beta1e-2", "t-beta0", "t", "t-beta1e-2"):
        if short not in after:
            continue
        beta = read_json(folder / short / "config.json")["arguments"]["beta"]
        name = f"{'T' if short.startswith('t') else 'V'}, KL weight {beta:g}"
        row = {"name": name, "mean": share(vsi.scores(after[short])["mean"])}
        for key, (first, last) in vsi.course(folder / short).items():
            row |= {f"{key}_first": _course_number(key, first), f"{key}_last": _course_number(key, last)}
        study["ways"][short] = row
    if "t" in after:
        study["thinking_base"] = share(vsi.scores(vsi.answers(folder / "t/base"))["mean"])
    for key, words, before, now, families in (
        ("kl_vanilla", "vanilla: a KL term above none", "v-beta0", "v", FAMILIES),
        ("kl_think", "think: a KL term above none", "t-beta0", "t", FAMILIES),
        ("v_above_t", "vsGRPO-V above vsGRPO-T", "t", "v", FAMILIES),
        ("mra", "MRA as reward above the relative error", "v", "v-mra", FAMILIES),
        ("held_out", "held-out families gain", "base", "v-held-out", vsi.HELD_OUT),
        ("kept", "beside them, families trained on gain", "base", "v-held-out", vsi.KEPT_FAMILIES),
    ):
        if before in after and now in after:
            reported = _reported("v", "t") if key == "v_above_t" else None
            difference = vsi.change(after[before], after[now], families)
            study["claims"][key] = claim(words, difference, reported)
    missing = [words for short, words in VSI_OPEN.items() if short not in trained]
    return study | ({"missing": ", ".join(missing)} if missing else {})


def _course_number(name: str, value: float) -> dict:
    if name in ("format", "empty_thoughts"):
        return number(100 * value, 0)
    return number(value, 3 if name == "kl" else 1)


# ---- paper C


def sparkle_study(folder: Path) -> dict:
    """Return the figures of `model/reproduce_sparkle.py`'s runs; {} if a run is missing."""
    names = {sparkle.BASE: sparkle.BASE} | {name: arm.folder for name, arm in sparkle.ARMS.items()}
    parts = [sparkle.test_folder(folder, name, b) for name in names.values() for b in sparkle.BLOCKS]
    if not _complete(folder, parts):
        return {}
    arms = sparkle.load_tests(folder, sparkle.ARMS)
    base = arms[sparkle.BASE]
    routes = base.summaries["composite"].get("routes")
    if not routes:
        path = sparkle.test_folder(folder, sparkle.BASE, "composite") / "summary.json"
        raise UserError(f"{path} has no routes; run eval_sparkle.py again")

    def rows(figures: Callable[[sparkle.Tested], dict], without: Sequence[str] = ()) -> dict:
        return {
            names[name].removeprefix("sparkle_"): {"name": name} | figures(arm)
            for name, arm in arms.items()
            if name not in without
        }

    def basic(arm: sparkle.Tested) -> dict:
        keys = {name: name for name in CAPABILITIES} | {"all": "mean_of_tasks"}
        scores = arm.summaries["basic"]["aggregates"]
        return {name: share(metrics.Estimate.of(scores[key])) for name, key in keys.items()}

    def composite(kind: str) -> Callable[[sparkle.Tested], dict]:
        return lambda arm: {
            task: share(metrics.Estimate.of(part[kind]))
            for task, part in arm.summaries["composite"]["routes"].items()
        }

    def changed(arm: sparkle.Tested) -> dict:
        change = sparkle.changes(base, arm)
        return {block: points(change[block]["mean_of_tasks"]) for block in sparkle.BLOCKS}

    study = _facts(folder) | {block: base.summaries[block]["n"] for block in sparkle.BLOCKS}
    study["chance"] = number(100 * sparkle.chance(base.summaries["basic"]), 1)
    study |= {"ways": rows(basic), "optimal": rows(composite("optimal")), "valid": rows(composite("valid"))}
    study["changes"] = rows(changed, without=[sparkle.BASE])
    study["claims"] = claims = {}
    for name in ("SFT", "GRPO"):
        key, change = name.lower(), sparkle.changes(base, arms[name])
        above = change["basic"]["mean_of_tasks"]
        claims[f"{key}_basic"] = claim(f"{name}: basic capabilities above base", above)
        claims[f"{key}_chance"] = claim(
            f"{name}: basic capabilities above the blind baseline",
            _above_chance(arms[name].summaries["basic"], CAPABILITIES),
        )
        above = change["composite"]["mean_of_tasks"]
        claims[f"{key}_composite"] = claim(f"{name}: composite tasks above base", above)
    for name in CAPABILITIES:
        claims[f"{name}_chance"] = claim(
            f"SFT, {name} alone: {name} above the blind baseline",
            _above_chance(arms[f"SFT, {name} alone"].summaries["basic"], (name,)),
        )
    by_task = sparkle.changes(base, arms["SFT"])["composite"]
    for task in routes:
        text = f"SFT: {task.replace('_', ' ')} above base"
        claims[f"sft_{task}"] = claim(text, by_task[task], _published_change(task))
    return study


def _above_chance(basic: Mapping, capabilities: Sequence[str]) -> metrics.Estimate:
    """Accuracy minus the blind baseline, an exact number, for one capability or all of them."""
    name = capabilities[0] if len(capabilities) == 1 else "mean_of_tasks"
    score = metrics.Estimate.of(basic["aggregates"][name])
    chance = sparkle.chance(basic, capabilities)
    low, high = score.interval
    return metrics.Estimate(score.value - chance, (low - chance, high - chance), score.n)


def _published_change(task: str) -> float | None:
    """The mean of the published changes of a task by SFT, in points, if there are any."""
    reported = [after - before for _, before, after in COMPOSITE.get(task, ())]
    return fmean(reported) if reported else None


# ---- all studies


def _facts(folder: Path) -> dict:
    """Number of commands of a study, and the minutes that they took."""
    commands = (folder / "commands.txt").read_text(encoding="utf-8").splitlines()
    seconds = sum(map(float, (folder / "seconds.txt").read_text(encoding="utf-8").split()))
    return {"commands": len(commands), "minutes": number(seconds / 60)}


def _complete(folder: Path, tests: Sequence[Path]) -> bool:
    """Whether a study is finished: its time is written last, and every test exists."""
    ended = (folder / "seconds.txt").is_file()
    return ended and all(
        (test / name).is_file() for test in tests for name in ("summary.json", "predictions.jsonl")
    )
