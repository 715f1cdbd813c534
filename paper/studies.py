"""The three studies as figures, computed with the functions that write RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from figures import claim, number, points, read_json, share

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.papers import sat, sparkle, vsi
from spatialvlm.reporting import comparison
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.cvbench import published as cvbench_published
from spatialvlm.tasks.sparkle.published import COMPOSITE
from spatialvlm.tasks.sparkle.questions import CAPABILITIES
from spatialvlm.tasks.vsi import published as vsi_published
from spatialvlm.tasks.vsi.questions import FAMILIES

# ---- paper A

SAT_WAYS = {"GRPO-v1": "v1", "SFT": "sft", "GRPO-v2": "v2", sat.UNFILTERED: "v2-unfiltered"}
SAT_TESTS = {"pass1": "trained", "pass1_ood": "trained-ood", "pass4": "trained-pass4"}
SAT_TESTS["pass4_ood"] = "trained-pass4-ood"
SAT_CLAIMS = (
    "v2_above_sft",
    "sft_above_v2_pass4",
    "gap",
    "v2_above_v1",
    "filtering",
)  # as sat.claims has them


def sat_study(folder: Path) -> dict:
    """`model/reproduce_sat.py`'s runs: tables, claims and courses; {} where a run is missing."""
    seeds = sorted(int(path.name.rpartition("seed")[2]) for path in folder.glob("v2-seed*"))
    runs = {way: [folder / f"{short}-seed{seed}" for seed in seeds] for way, short in SAT_WAYS.items()}
    tests = [run / test for way in runs.values() for run in way for test in (*SAT_TESTS.values(), "shuffled")]
    base = {
        "pass1": ["greedy"] * len(seeds),
        "pass1_ood": ["greedy-ood"] * len(seeds),
        "pass4": [f"pass4-seed{seed}" for seed in seeds],
        "pass4_ood": [f"pass4-seed{seed}-ood" for seed in seeds],
    }
    tests += [folder / "base" / name for names in base.values() for name in names]
    if not seeds or not _whole(folder, tests):
        return {}
    ways = {"base": sat.Way(**{test: _scores(folder / "base", names) for test, names in base.items()})}
    ways |= {
        way: sat.Way(**{test: _scores("", [run / name for run in found]) for test, name in SAT_TESTS.items()})
        for way, found in runs.items()
    }
    asked = comparison.questions(read_lines(folder / "base/greedy/predictions.jsonl"))
    short = {"base": "base"} | SAT_WAYS
    found = _facts(folder) | {"questions": len(asked.task_of), "seeds": len(seeds)}
    found |= _training_facts(read_json(runs["GRPO-v2"][0] / "config.json"))
    for test in SAT_TESTS:
        tasks = sat.TURNED if test.endswith("ood") else asked.tasks
        found[test] = {
            short[name]: {"name": name} | _by_task(getattr(way, test), asked.of(*tasks))
            for name, way in ways.items()
        }
    found["gap"] = {
        short[name]: {"name": name}
        | {task: points(comparison.mean(*sat.gap(way, asked, [task]))) for task in sat.TURNED}
        for name, way in ways.items()
    }
    for test, figures in (("pass1", cvbench_published.PASS_AT_1), ("pass4", cvbench_published.PASS_AT_4)):
        found[f"published_{test}"] = {
            short[name]: dict(zip(cvbench_published.COLUMNS, (number(v, 1) for v in row), strict=True))
            for name, row in figures.items()
        }
    found["published_gap"] = {
        short[name]: {task: number(before - after, 1, sign=True) for task, (before, after) in tasks.items()}
        for name, tasks in cvbench_published.POLARITY.items()
    }
    found["shuffled"] = share(
        comparison.mean(_scores("", [run / "shuffled" for run in runs["GRPO-v2"]]), asked)
    )
    # What the paper takes for granted comes first: that either training helps at all.
    found["claims"] = {
        f"{short[name]}_above_base": claim(
            f"Pass@1, Total: {name} above base",
            comparison.mean(comparison.difference(ways[name].pass1, ways["base"].pass1), asked),
            cvbench_published.PASS_AT_1[name][-1] - cvbench_published.PASS_AT_1["base"][-1],
        )
        for name in ("SFT", "GRPO-v2")
    }
    found["claims"] |= {
        key: claim(words, difference, reported)
        for key, (words, difference, reported, _) in zip(SAT_CLAIMS, sat.claims(ways, asked), strict=True)
    }
    found["curves"] = {
        SAT_WAYS[way]: {name: _course(runs[way], name) for name in ("reward", "informative")}
        for way in ("GRPO-v1", "GRPO-v2", sat.UNFILTERED)
    }
    return found


def _scores(folder: str | Path, names: Sequence[str | Path]) -> list[comparison.Score]:
    return [comparison.score(read_lines(Path(folder, name, "predictions.jsonl"))) for name in names]


def _by_task(scores: Sequence[comparison.Score], asked: comparison.Questions) -> dict:
    found = {task: share(comparison.mean(scores, asked.of(task))) for task in asked.tasks}
    return found | {"Total": share(comparison.mean(scores, asked))}


def _training_facts(config: Mapping) -> dict:
    arguments = config["arguments"]
    names = ("max_steps", "num_generations", "train_limit")
    return {name: arguments[name] for name in names} | {"commit": (config["git_commit"] or "unknown")[:7]}


def _course(runs: Sequence[Path], name: str) -> list[float]:
    """A metric by step, the mean over seeds."""
    columns = zip(*([row[name] for row in read_lines(run / "metrics.jsonl")] for run in runs), strict=True)
    return [round(fmean(values), 4) for values in columns]


# ---- paper B

VSI_WAYS = {"SFT": "sft", "DPO": "dpo", "vsGRPO-V": "v"}
VSI_OPEN = {  # folder: in words
    "v-beta0": "vanilla without a KL term",
    "v-beta1e-2": "vanilla with a larger KL weight",
    "v-mra": "MRA as reward",
    "v-held-out": "held-out families",
    "t": "think",
    "t-beta0": "think without a KL term",
    "t-beta1e-2": "think with a larger KL weight",
}
HELD_OUT = ("object_rel_direction", "object_size_estimation")
PUBLISHED_MEAN = {
    "base": "Qwen2-VL-2B",
    "sft": "2B + SFT",
    "dpo": "2B + DPO",
    "v": "vsGRPO-V 2B",
    "t": "vsGRPO-T 2B",
}


def vsi_study(folder: Path) -> dict:
    """`model/reproduce_vsi.py`'s runs by family, claims, and what the paper leaves open where it was asked;
    {} where a run is missing."""
    shorts = tuple(VSI_WAYS.values())
    if not _whole(folder, [folder / "sft/base", *_tests(folder, shorts)]):
        return {}
    trained = {short: vsi.answers(folder / short / "trained") for short in shorts}
    shuffled = {short: vsi.answers(folder / short / "shuffled") for short in shorts}
    base = vsi.answers(folder / "sft/base")
    names = {"base": "base"} | {short: way for way, short in VSI_WAYS.items()}
    config = read_json(folder / "v/config.json")["arguments"]
    found = {"questions": len(base), "beta": f"{config['beta']:g}"}
    found |= {name: config[name] for name in ("max_steps", "num_generations", "num_frames", "seed")}
    found["ways"] = {
        short: {"name": names[short]} | _families(records)
        for short, records in {"base": base, **trained}.items()
    }
    found["shuffled"] = {short: share(vsi.scores(shuffled[short])["mean"]) for short in shorts}
    after = {"base": base, **trained}
    pairs = [("v", "base"), ("sft", "base"), ("dpo", "base"), ("v", "sft"), ("v", "dpo")]
    found["claims"] = {
        f"{one}_above_{other}": claim(
            f"{names[one]} above {names[other]}",
            vsi.change(after[other], after[one]),
            _reported(one, other),
        )
        for one, other in pairs
    }
    found["looks"] = {
        short: claim(f"{names[short]}: own video above another's", vsi.change(shuffled[short], after[short]))
        for short in shorts
    }
    found["families"] = {
        name: claim(
            f"{vsi.SHORT[name]}: vsGRPO-V above SFT",
            vsi.change(after["sft"], after["v"], [name]),
        )
        for name in FAMILIES
    }
    there = [short for short in VSI_OPEN if _whole(folder, _tests(folder, [short]))]
    if there:
        found["open"] = _open_questions(folder, there, base, trained["v"])
    return found


def _tests(folder: Path, shorts: Sequence[str]) -> list[Path]:
    return [folder / short / part for short in shorts for part in ("trained", "shuffled")]


def _families(records: Sequence[Mapping]) -> dict:
    return {vsi.SHORT.get(name, name): share(found) for name, found in vsi.scores(records).items()}


def _reported(one: str, other: str) -> float:
    first, second = (vsi_published.FIGURES[PUBLISHED_MEAN[name]][0] for name in (one, other))
    return first - second


def _open_questions(folder: Path, there: Sequence[str], base: vsi.Answers, v: vsi.Answers) -> dict:
    """KL weights, thoughts, rewards and held-out families, as far as they were trained."""
    after = {short: vsi.answers(folder / short / "trained") for short in there} | {
        "v": v,
        "base": base,
    }
    found = {"ways": {}, "claims": {}}
    for short in ("v-beta0", "v", "v-beta1e-2", "t-beta0", "t", "t-beta1e-2"):
        if short not in after:
            continue
        beta = read_json(folder / short / "config.json")["arguments"]["beta"]
        name = f"{'T' if short.startswith('t') else 'V'}, KL weight {beta:g}"
        row = {"name": name, "mean": share(vsi.scores(after[short])["mean"])}
        course = vsi.steps(folder / short, ("format", "empty_thoughts", "completion_length", "kl"), last=5)
        for key, (first, last) in course.items():
            row |= {f"{key}_first": _habit(key, first), f"{key}_last": _habit(key, last)}
        found["ways"][short] = row
    if "t" in after:
        found["thinking_base"] = share(vsi.scores(vsi.answers(folder / "t/base"))["mean"])
    kept = [name for name in FAMILIES if name not in HELD_OUT]
    for key, words, before, now, families in (
        ("kl_vanilla", "vanilla: a KL term above none", "v-beta0", "v", FAMILIES),
        ("kl_think", "think: a KL term above none", "t-beta0", "t", FAMILIES),
        ("v_above_t", "vsGRPO-V above vsGRPO-T", "t", "v", FAMILIES),
        ("mra", "MRA as reward above the relative error", "v", "v-mra", FAMILIES),
        ("held_out", "held-out families gain", "base", "v-held-out", HELD_OUT),
        ("kept", "beside them, families trained on gain", "base", "v-held-out", kept),
    ):
        if before in after and now in after:
            reported = _reported("v", "t") if key == "v_above_t" else None
            found["claims"][key] = claim(words, vsi.change(after[before], after[now], families), reported)
    missing = [words for short, words in VSI_OPEN.items() if short not in there]
    return found | ({"missing": ", ".join(missing)} if missing else {})


def _habit(name: str, value: float) -> dict:
    if name.startswith(("format", "empty")):
        return number(100 * value, 0)
    return number(value, 3 if name.startswith("kl") else 1)


# ---- paper C

SPARKLE_WAYS = {
    "base": "base",
    "SFT": "sparkle_sft",
    "GRPO": "sparkle_grpo",
    "SFT, direction alone": "sparkle_sft_direction",
    "SFT, distance alone": "sparkle_sft_distance",
    "SFT, localization alone": "sparkle_sft_localization",
}


def sparkle_study(folder: Path) -> dict:
    """`model/reproduce_sparkle.py`'s runs: basic by capability, composite by task, and what carried over; {}
    where a run is missing."""
    parts = {
        way: {block: folder / f"{name}-tested" / block for block in ("basic", "composite")}
        for way, name in SPARKLE_WAYS.items()
    }
    if not _whole(folder, [path for way in parts.values() for path in way.values()]):
        return {}
    summaries = {
        way: {block: read_json(path / "summary.json") for block, path in blocks.items()}
        for way, blocks in parts.items()
    }
    records = {
        way: {block: read_lines(path / "predictions.jsonl") for block, path in blocks.items()}
        for way, blocks in parts.items()
    }
    routes = summaries["base"]["composite"].get("routes")
    if not routes:
        raise UserError(f"{parts['base']['composite']}/summary.json has no routes; run eval_sparkle.py again")
    found = _facts(folder) | {block: summaries["base"][block]["n"] for block in ("basic", "composite")}
    found["chance"] = number(100 * sparkle.chance(summaries["base"]["basic"]), 1)
    found["ways"] = {
        name.removeprefix("sparkle_"): {"name": way}
        | {key: share(sparkle.estimate(summaries[way]["basic"]["aggregates"][key])) for key in CAPABILITIES}
        | {"all": share(sparkle.estimate(summaries[way]["basic"]["aggregates"]["mean_of_tasks"]))}
        for way, name in SPARKLE_WAYS.items()
    }
    for kind in ("optimal", "valid"):
        found[kind] = {
            name.removeprefix("sparkle_"): {"name": way}
            | {
                task: share(sparkle.estimate(part[kind]))
                for task, part in summaries[way]["composite"]["routes"].items()
            }
            for way, name in SPARKLE_WAYS.items()
        }
    changes = {
        way: {b: metrics.compare(records["base"][b], records[way][b]) for b in ("basic", "composite")}
        for way in SPARKLE_WAYS
        if way != "base"
    }
    found["changes"] = {
        SPARKLE_WAYS[way].removeprefix("sparkle_"): {"name": way}
        | {block: points(change["mean_of_tasks"]) for block, change in both.items()}
        for way, both in changes.items()
    }
    found["claims"] = {}
    for way in ("SFT", "GRPO"):
        key, (basic, composite) = way.lower(), changes[way].values()
        found["claims"] |= {
            f"{key}_basic": claim(f"{way}: basic capabilities above base", basic["mean_of_tasks"]),
            f"{key}_chance": claim(
                f"{way}: basic capabilities above answers without looking",
                _over_chance(summaries[way]["basic"], CAPABILITIES),
            ),
            f"{key}_composite": claim(f"{way}: composite tasks above base", composite["mean_of_tasks"]),
        }
    for name in CAPABILITIES:
        found["claims"][f"{name}_chance"] = claim(
            f"SFT, {name} alone: {name} above answers without looking",
            _over_chance(summaries[f"SFT, {name} alone"]["basic"], (name,)),
        )
    for task in routes:
        difference, reported = changes["SFT"]["composite"][task], _published_change(task)
        found["claims"][f"sft_{task}"] = claim(
            f"SFT: {task.replace('_', ' ')} above base", difference, reported
        )
    return found


def _over_chance(basic: Mapping, capabilities: Sequence[str]) -> metrics.Estimate:
    """The mean over the capabilities' families above what answers without looking score on them, which is a
    number without chance. One capability, or all of them."""
    name = capabilities[0] if len(capabilities) == 1 else "mean_of_tasks"
    found = sparkle.estimate(basic["aggregates"][name])
    chance = sparkle.chance(basic, capabilities)
    low, high = found.interval
    return metrics.Estimate(found.value - chance, (low - chance, high - chance), found.n)


def _published_change(task: str) -> float | None:
    """The mean of the published changes of a task by SFT, in points; None where there is none."""
    reported = [after - before for _, before, after in COMPOSITE.get(task, ())]
    return fmean(reported) if reported else None


# ---- what all have


def _facts(folder: Path) -> dict:
    """How many commands the study is, and the minutes that they took."""
    commands = (folder / "commands.txt").read_text(encoding="utf-8").splitlines()
    seconds = sum(map(float, (folder / "seconds.txt").read_text(encoding="utf-8").split()))
    return {"commands": len(commands), "minutes": number(seconds / 60)}


def _whole(folder: Path, tests: Sequence[Path]) -> bool:
    """Whether a study has ended: its time is written last, and every test is there."""
    ended = (folder / "seconds.txt").is_file()
    return ended and all(
        (test / name).is_file() for test in tests for name in ("summary.json", "predictions.jsonl")
    )
