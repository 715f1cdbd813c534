"""The grid of the description study: with and without image, by description, beside what was published.

Two grids over the same questions, one described along the camera's axes and one along the world's, tell by
paired differences what the order is worth. Questions that name a side (left, right, front, behind) are told
apart from the others, since the order bears on them alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from spatialvlm import disk
from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import percent, text_table
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.clevr.described import STYLES
from spatialvlm.tasks.clevr.published import DESCRIBED

DESCRIPTIONS = ("none", *STYLES)
IMAGES = ("image", "blank")
CELLS = {f"{image}-{style}": (image == "blank", style) for image in IMAGES for style in DESCRIPTIONS}
_SIDE = re.compile(r"\b(?:left|right|front|behind)\b")

Grid = Mapping[str, Sequence[Record]]  # a cell's name -> its records
Rows = list[tuple[str, dict[str, Estimate]]]


def read_grid(folder: str | Path) -> dict[str, list[Record]]:
    """The records of every cell. Raises UserError where one is not there whole."""
    found = {}
    for cell in CELLS:
        part = Path(folder, cell)
        if not (part / "summary.json").is_file():
            raise UserError(
                f"{folder} is no whole grid ({cell}/ has no summary); run it with --grid to its end"
            )
        found[cell] = read_lines(part / "predictions.jsonl")
    return found


def names_a_side(question: str) -> bool:
    return bool(_SIDE.search(question))


def grid_rows(grid: Grid) -> Rows:
    """Accuracy with the image, with a blank one, and the paired difference, by description; then the paired
    differences from no description."""
    rows: Rows = []
    for style in DESCRIPTIONS:
        image, blank = (grid[f"{each}-{style}"] for each in IMAGES)
        cells = {"image": metrics.accuracy(image), "blank": metrics.accuracy(blank)}
        rows.append((style, cells | {"blank - image": _difference(image, blank)}))
    for style in STYLES:
        gains = {each: _difference(grid[f"{each}-none"], grid[f"{each}-{style}"]) for each in IMAGES}
        rows.append((f"{style} - none", gains))
    return rows


def order_rows(world: Grid, camera: Grid, sides: Mapping[str, bool]) -> Rows:
    """Paired differences, camera - world: by cell, over all questions and by whether they name a side.

    Args:
        sides: by a question's id.

    Raises:
        UserError: the two grids are of different questions.
    """
    rows: Rows = []
    for cell in (f"{image}-{style}" for image in IMAGES for style in STYLES):
        cells = {"all": _difference(world[cell], camera[cell])}
        for name, side in (("naming a side", True), ("naming none", False)):
            parts = [[r for r in grid[cell] if sides[r["id"]] == side] for grid in (world, camera)]
            if parts[0]:
                cells[name] = _difference(*parts)
        rows.append((cell, cells))
    return rows


def _difference(before: Sequence[Record], after: Sequence[Record]) -> Estimate:
    try:
        return metrics.compare(before, after)["micro"]
    except ValueError:
        raise UserError("--against: that grid is of other questions; give one of the same data") from None


def table(title: str, columns: Sequence[str], rows: Rows) -> str:
    """Lines of percentages with their 95 % intervals; differences bear a sign."""
    lines = [(title, *columns)]
    for name, cells in rows:
        signs = [" - " in name or column not in IMAGES for column in columns]
        texts = [
            percent(cells[column], sign) if column in cells else ""
            for column, sign in zip(columns, signs, strict=True)
        ]
        lines.append((name, *texts))
    return text_table(lines, "<")


def grid_table(rows: Rows, n: int) -> str:
    published = "; ".join(f"{name} {value:.2f}" for name, value in DESCRIBED.items())
    return (
        f"{table(f'CLEVR, n = {n}', ('image', 'blank', 'blank - image'), rows)}\n"
        "percent, 95 % intervals; differences are paired\n"
        f"published (PaliGemma 2 3B mix-448, CoGenT ValB): {published}"
    )


def order_table(rows: Rows) -> str:
    return table("camera - world", ("all", "naming a side", "naming none"), rows)


def reader_line(verdicts: Sequence[tuple[str, bool]]) -> str:
    """What a perfect reader of the descriptions alone would say; `verdicts` are (verdict, names a side)."""

    lines = ["a perfect reader of the descriptions alone would say to"]
    for name, side in (("naming a side", True), ("naming none", False)):
        if part := Counter(verdict for verdict, named in verdicts if named == side):
            told = ", ".join(f"{n} {what}" for what, n in part.most_common())
            lines.append(f"  {name}, {part.total()} questions: {told}")
    return "\n".join(lines)


def write(folder: Path, **tables: Rows) -> None:
    """Writes the tables' estimates to grid.json, whole or not at all."""
    content = {
        name: {row: {column: cell.as_dict() for column, cell in cells.items()} for row, cells in rows}
        for name, rows in tables.items()
    }
    disk.write_json(folder / "grid.json", content | {"published": DESCRIBED})
