"""VSI-Bench as vsGRPO reports it (arXiv 2504.00883), in percent, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spatialvlm.evaluation.tables import interval, text_table
from spatialvlm.tasks.vsi.scoring import TASKS

# The mean of the eight tasks, then each. T, O and V: think, observe and vanilla prompts, in training and test
COLUMNS = ("Avg", "Count", "AbsDist", "ObjSize", "Room", "RelDist", "RelDir", "Route", "Order")
FIGURES = {
    "Qwen2-VL-2B": (23.3, 21.4, 3.4, 32.3, 31.1, 26.7, 27.7, 24.7, 18.9),
    "2B + SFT": (29.6, 29.6, 23.5, 47.4, 33.5, 26.9, 28.3, 28.8, 18.6),
    "2B + DPO": (23.9, 21.7, 3.7, 34.8, 32.4, 27.1, 28.5, 24.2, 18.6),
    "vsGRPO-T 2B": (29.6, 35.0, 28.2, 34.7, 25.2, 28.0, 38.5, 28.5, 18.7),
    "vsGRPO-O 2B": (31.2, 34.6, 22.5, 44.8, 33.7, 29.4, 41.8, 26.8, 15.8),
    "vsGRPO-V 2B": (35.4, 53.6, 29.0, 52.7, 43.4, 28.1, 30.9, 26.8, 18.9),
    "Qwen2-VL-7B": (32.2, 39.4, 25.0, 25.8, 43.2, 32.6, 30.9, 27.8, 32.6),
    "7B + SFT": (38.1, 44.7, 27.6, 46.1, 50.4, 34.0, 35.7, 33.0, 33.4),
    "7B + DPO": (32.6, 39.1, 25.2, 26.5, 44.2, 32.6, 30.9, 29.3, 33.3),
    "vsGRPO-V 7B": (40.7, 59.9, 29.6, 50.8, 48.3, 35.4, 35.6, 34.0, 31.5),
}


def measured(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Scores in percent by `COLUMNS`; None for tasks without questions.

    With several samples per question, any of them may be right.
    """
    k = summary["num_samples"]
    prefix = f"any_of_{k} " if k > 1 else ""
    values = {name: part["value"] for name, part in summary["aggregates"].items()}
    fractions = [values.get(f"{prefix}{name}") for name in ("official", *TASKS)]
    return {
        column: None if fraction is None else 100 * fraction
        for column, fraction in zip(COLUMNS, fractions, strict=True)
    }


def comparison(summary: Mapping[str, Any], name: str) -> str:
    """Format accuracy by source, and the measured row below the published ones.

    Args:
        name: of the measured row.
    """
    sources = [("source", "n", "accuracy", "95 % interval")]
    for source, part in summary["sources"].items():
        figures = f"{100 * part['accuracy']:.1f}", interval(part["interval"])
        sources.append((source, str(part["n"]), *figures))
    rows = [("VSI-Bench", *COLUMNS)]
    for model, values in (FIGURES | {name: measured(summary).values()}).items():
        rows.append((model, *("-" if value is None else f"{value:.1f}" for value in values)))
    note = "percent; published by vsGRPO, but for the last row"
    return "\n".join(["", text_table(sources), "", text_table(rows), note])
