"""Sparkle's tables: basic, composite and real tests, each figure with its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.papers.published_sparkle import COMPOSITE
from spatialvlm.reporting.comparison import markdown, percent
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES

Summary = Mapping  # what evaluate.run returns, of composite with `routes` added
ROUTES = ("optimal", "exact", "valid")


def estimate(part: Mapping) -> Estimate:
    """An aggregate's or a task's figure, as a summary has it."""
    return Estimate(part.get("value", part.get("accuracy")), tuple(part["interval"]), part["n"])


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
    return [name, str(part["n"]), percent(estimate(part)), shown]


def _composite(summary: Summary) -> str:
    rows = []
    for task, found in summary["routes"].items():
        scores = [percent(estimate(found[name])) for name in ROUTES]
        rows.append([task, str(found["optimal"]["n"]), *scores, _length(found), published(task)])
    return markdown(("", "n", *ROUTES, "length", "published"), rows)


def published(task: str) -> str:
    """The published changes of a task: `InternVL2-8B 13.5 to 40.0`; empty where there is none."""
    return ", ".join(f"{model} {before} to {after}" for model, before, after in COMPOSITE.get(task, ()))


def _length(found: Mapping) -> str:
    if "length_ratio" not in found:
        return "none valid"
    part = estimate(found["length_ratio"])
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
            rows.append([way, *(percent(estimate(routes[task][name])) for task in tasks)])
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
    return [percent(estimate(aggregates[name])) for name in names]
