"""Paper A's prompting study: a measured row beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spatialvlm.evaluation.tables import text_table
from spatialvlm.reporting.tables import PROMPTING
from spatialvlm.tasks.cvbench.published import COLUMNS


def beside(benchmark: str, model: str, summary: Mapping[str, Any]) -> str:
    """Format the measured row above the paper's rows, in percent; `>` marks those of the same strategy.

    Totals are over all questions (SAT's test: over all items), unlike those of the paper's training tables,
    which are means of the four tasks.
    """
    columns = COLUMNS if benchmark == "cvbench" else ("Total",)
    strategy = summary["strategy"]
    measured = [f"{100 * _score(summary, name):.2f}" if _has(summary, name) else "-" for name in columns]
    shots = f" ({strategy['shots']} shots)" if strategy["shots"] else ""
    rows = [("  measured", model, f"{strategy['name']}{shots}, n = {summary['n']}", measured)]
    for published_model, name, title, figures in PROMPTING[benchmark]:
        mark = "> " if name == strategy["name"] else "  "
        rows.append((f"{mark}paper A", published_model, title, [f"{figure:.2f}" for figure in figures]))
    rows.insert(0, ("  percent", "model", "strategy", list(columns)))
    return text_table([(*row[:3], *row[3]) for row in rows], "<<<>")


def _has(summary: Mapping[str, Any], column: str) -> bool:
    return column == "Total" or column in summary["tasks"]


def _score(summary: Mapping[str, Any], column: str) -> float:
    if column != "Total":
        return summary["tasks"][column]["accuracy"]
    return summary["aggregates"]["official" if "micro" not in summary["aggregates"] else "micro"]["value"]
