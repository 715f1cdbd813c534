"""Figures as text: a fraction in percent with its interval, and tables of aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.evaluation.metrics import Estimate


def percent(estimate: Estimate, sign: bool = False) -> str:
    """Format a fraction as `73.2 (70.8 to 75.4)`; with `sign` a difference, `+3.1 (-0.4 to +6.6)`."""
    # Rounded first, since two orders of one float sum may differ in how 16.25 is shown.
    value = 100 * round(estimate.value, 6)
    return f"{value:{'+' if sign else ''}.1f} ({interval(estimate.interval, sign)})"


def interval(ends: Sequence[float], sign: bool = False) -> str:
    """Format an interval of a fraction as `70.8 to 75.4`; with `sign` of a difference, `-0.4 to +6.6`."""
    if not sign:  # Student's interval does not know that fractions end at 0 and 1
        ends = [min(max(end, 0), 1) for end in ends]
    return " to ".join(f"{100 * round(end, 6):{'+' if sign else ''}.1f}" for end in ends)


def text_table(rows: Sequence[Sequence[str]], align: str = "<>") -> str:
    """Align columns, two spaces apart; a row without cells is a blank line, missing last cells are empty.

    Args:
        align: `<` or `>` per column; the last one holds for all further columns.
    """
    count = max(map(len, rows))
    align = align.ljust(count, align[-1])
    table = [[*row, *[""] * (count - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in table
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with aligned columns."""
    table = [list(header), ["---"] * len(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    table[1] = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    )
