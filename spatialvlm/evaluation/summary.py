"""Scores of an evaluation's records: the summary that is written, and the table that is printed."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import Aggregate, Rule
from spatialvlm.evaluation.metrics import Estimate, Record


def summarize(records: Sequence[Record], aggregate: Aggregate, rule: Rule, benchmark: str) -> dict:
    """Scores of records: overall, by task (in order of appearance) and by the benchmark's own aggregates.

    All shares are fractions of 1, with 95 % intervals. `chance` is what answering without looking scores
    (`metrics.chance`), by task and, weighted by its questions, overall; unread answers count as wrong.

    Of k sampled answers a question, `accuracy`, `chance` and the aggregates `any_of_k ...` are the paper's
    Pass@k, the share of questions that any of the k answers gets right (Wilson's interval). `pass@1` to
    `pass@k`, of each task and before each aggregate's name, are the unbiased estimates from the same answers
    (`metrics.pass_at_k`, interval of `metrics.average`): `pass@1` is a single sample's accuracy, and `pass@k`
    equals any of k. `unread` counts answers. `sources` has the accuracy by source of the images, where there
    are any.
    """
    k = records[0].get("num_samples", 1)
    by_draws = {f"pass@{draws}": metrics.scored(records, draws) for draws in range(1, k + 1)} if k > 1 else {}
    tasks = {}
    for task, part in metrics.group(records).items():
        found = metrics.accuracy(part)
        tasks[task] = {"n": found.n, "accuracy": found.value, "interval": found.interval}
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
    """The summary in percent as lines of text: task, n, accuracy (or any of k), 95 % interval, chance.

    Of several samples a second table follows with the unbiased Pass@1, @2, @4, ... up to @k.
    """
    k = summary["num_samples"]
    prefix = f"any_of_{k} " if k > 1 else ""
    totals = {
        name.removeprefix(prefix): part
        for name, part in summary["aggregates"].items()
        if name.startswith(prefix)
    }
    rows = [
        (task, part["n"], part["accuracy"], part["interval"], f"{100 * part['chance']:.1f}")
        for task, part in summary["tasks"].items()
    ]
    rows += [(name, part["n"], part["value"], part["interval"], "") for name, part in totals.items()]
    title, score = summary["benchmark"], f"any of {k}" if k > 1 else "accuracy"
    width = max(len(name) for name in (title, *(row[0] for row in rows)))
    lines = [f"{title:<{width}}  {'n':>6}  {score:>8}  95 % interval  chance"]
    for name, n, value, interval, chance in rows:
        cells = f"{n:>6}  {100 * value:>8.1f}  {_percent(interval):>13}  {chance:>6}"
        lines.append(f"{name:<{width}}  {cells}".rstrip())
    if k > 1:
        lines += ["", *_unbiased(summary, list(totals), width)]
    answers = "" if k == 1 else f" answers, {k} a question"
    unread = f"unread, and counted wrong: {summary['unread']} of {summary['n'] * k}{answers}"
    return "\n".join([*lines, unread])


def _unbiased(summary: dict, totals: Sequence[str], width: int) -> list[str]:
    """Lines with Pass@1, 2, 4, ..., k of every task and total, from all answers."""
    k = summary["num_samples"]
    shown = [f"pass@{draws}" for draws in sorted({2**power for power in range(k.bit_length())} | {k})]
    lines = [f"{'unbiased':<{width}}" + "".join(f"  {name:>18}" for name in shown)]
    for name in (*summary["tasks"], *totals):
        part = summary["tasks"].get(name) or {
            score: summary["aggregates"][f"{score} {name}"] for score in shown
        }
        cells = [f"{100 * part[score]['value']:.1f} ({_percent(part[score]['interval'])})" for score in shown]
        lines.append(f"{name:<{width}}" + "".join(f"  {cell:>18}" for cell in cells))
    return lines


def _percent(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * low:.1f} - {100 * high:.1f}"
