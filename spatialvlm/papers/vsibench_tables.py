"""VSI-Bench's scores by source of the videos, and beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spatialvlm.papers import published
from spatialvlm.tasks.vsi.scoring import TASKS


def measured(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Percent by the columns of the published table; None of what was not asked. Of several samples a
    question, any of which may be right."""
    k = summary["num_samples"]
    prefix = f"any_of_{k} " if k > 1 else ""
    found = {name: part["value"] for name, part in summary["aggregates"].items()}
    shares = [found.get(f"{prefix}{name}") for name in ("official", *TASKS)]
    return {
        column: None if share is None else 100 * share
        for column, share in zip(published.VSIBENCH_COLUMNS, shares, strict=True)
    }


def comparison(summary: Mapping[str, Any], name: str) -> str:
    """Accuracy by source, and the published rows above what was measured, as lines of text.

    Args:
        name: of the measured row.
    """
    lines = ["", f"{'source':<14}{'n':>6}  accuracy  95 % interval"]
    for source, part in summary["sources"].items():
        low, high = part["interval"]
        lines.append(
            f"{source:<14}{part['n']:>6}  {100 * part['accuracy']:>8.1f}  {100 * low:.1f} - {100 * high:.1f}"
        )
    lines += ["", f"{'VSI-Bench':<14}" + "".join(f"{column:>9}" for column in published.VSIBENCH_COLUMNS)]
    lines += [_row(model, row) for model, row in published.VSIBENCH.items()]
    lines.append(_row(name, measured(summary).values()))
    return "\n".join([*lines, "percent; published by vsGRPO, but for the last row"])


def _row(name: str, values: Any) -> str:
    return f"{name:<14}" + "".join(f"{'-' if value is None else f'{value:.1f}':>9}" for value in values)
