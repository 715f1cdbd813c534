"""Scores of an evaluation's records: the summary that is written, and the table that is printed."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import Aggregate, Rule
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import interval, percent, text_table


def summarize(records: Sequence[Record], aggregate: Aggregate, rule: Rule, benchmark: str) -> dict:
    """Score records: overall, by task (in order of appearance) and by the benchmark's own aggregates.

    All scores are fractions, with 95 % intervals. `chance` is the blind baseline (`metrics.chance`), by task
    and, weighted by its questions, overall. The entry "unread" counts unparsed answers, which are wrong;
    `sources` has the accuracy by source of the images, where there are any.

    With k sampled answers per question, `accuracy`, `chance` and the aggregates `any_of_k ...` are the
    paper's Pass@k, the fraction of questions that any of the k answers gets right (Wilson's interval).
    `pass@1` to `pass@k`, of each task and before each aggregate's name, are the unbiased estimates from the
    same answers (`metrics.pass_at_k`, interval of `metrics.average`): `pass@1` is a single sample's accuracy,
    and `pass@k` equals any of k.
    """
    k = records[0].get("num_samples", 1)
    by_draws = {f"pass@{draws}": metrics.scored(records, draws) for draws in range(1, k + 1)} if k > 1 else {}
    tasks = {}
    for task, part in metrics.group(records).items():
        score = metrics.accuracy(part)
        tasks[task] = {"n": score.n, "accuracy": score.value, "interval": score.interval}
        tasks[task]["chance"] = metrics.chance(part, k, rule.score)
    for draws, (name, scored) in enumerate(by_draws.items(), start=1):
        for task, part in metrics.group(scored).items():
            tasks[task][name] = _score(metrics.accuracy(part)) | {
                "chance": metrics.chance(part, draws, rule.score)
            }
    aggregates = aggregate(records)
    if k > 1:
        aggregates = {f"any_of_{k} {name}": found for name, found in aggregates.items()}
    for draws, scored in by_draws.items():
        aggregates |= {f"{draws} {name}": found for name, found in aggregate(scored).items()}
    return {
        "benchmark": benchmark,
        "rule": str(rule),
        "n": len(records),
        "num_samples": k,
        "unread": sum((record["parsed"] if k > 1 else [record["parsed"]]).count(None) for record in records),
        "chance": sum(part["chance"] * part["n"] for part in tasks.values()) / len(records),
        "aggregates": {name: _score(found) | {"n": found.n} for name, found in aggregates.items()},
        "tasks": tasks,
        **_by_source(records),
    }


def _by_source(records: Sequence[Record]) -> dict:
    """Accuracy by where the images come from, for records that say so."""
    known = [record for record in records if "source" in record]
    found = {name: metrics.accuracy(part) for name, part in metrics.group(known, "source").items()}
    scores = {name: {"n": e.n, "accuracy": e.value, "interval": e.interval} for name, e in found.items()}
    return {"sources": scores} if scores else {}


def _score(estimate: Estimate) -> dict:
    return {"value": estimate.value, "interval": estimate.interval}


def table(summary: dict) -> str:
    """Format a summary in percent: task, n, accuracy (or any of k), 95 % interval, chance.

    With several samples per question, a second table has the unbiased Pass@1, @2, @4, ... up to @k.
    """
    k = summary["num_samples"]
    prefix = f"any_of_{k} " if k > 1 else ""
    totals = {
        name.removeprefix(prefix): part
        for name, part in summary["aggregates"].items()
        if name.startswith(prefix)
    }
    rows = [(summary["benchmark"], "n", f"any of {k}" if k > 1 else "accuracy", "95 % interval", "chance")]
    for name, part in [*summary["tasks"].items(), *totals.items()]:
        estimate = Estimate.of(part)
        chance = f"{100 * part['chance']:.1f}" if "chance" in part else ""
        rows.append(
            (name, str(estimate.n), f"{100 * estimate.value:.1f}", interval(estimate.interval), chance)
        )
    parts = [text_table(rows)]
    if k > 1:
        parts += ["", _unbiased(summary, list(totals))]
    answers = "" if k == 1 else f" answers, {k} per question"
    unparsed = f"unparsed, and counted as wrong: {summary['unread']} of {summary['n'] * k}{answers}"
    return "\n".join([*parts, unparsed])


def _unbiased(summary: dict, totals: Sequence[str]) -> str:
    """Pass@1, 2, 4, ..., k of every task and total, from all answers."""
    k = summary["num_samples"]
    shown = [f"pass@{draws}" for draws in sorted({2**power for power in range(k.bit_length())} | {k})]
    rows = [("unbiased", *shown)]
    for name in (*summary["tasks"], *totals):
        part = summary["tasks"].get(name)
        scores = [part[score] if part else summary["aggregates"][f"{score} {name}"] for score in shown]
        rows.append((name, *(percent(Estimate(each["value"], each["interval"], 0)) for each in scores)))
    return text_table(rows)
