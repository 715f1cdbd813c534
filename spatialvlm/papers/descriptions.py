"""Paper A's description study: accuracy with and without image by description, beside the published figures.

Two grids over the same questions, described along the camera's or along the world's axes, show by paired
differences what the order is worth, separately for questions that name a side (left, right, front, behind).
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
    """Load the records of every cell. Raises UserError if one is not complete."""
    for cell in CELLS:
        if not Path(folder, cell, "summary.json").is_file():
            raise UserError(f"{folder} is no complete grid ({cell}/ has no summary); finish it with --grid")
    return {cell: read_lines(Path(folder, cell, "predictions.jsonl")) for cell in CELLS}


def names_a_side(question: str) -> bool:
    return bool(_SIDE.search(question))


def grid_rows(grid: Grid) -> Rows:
    """Return accuracy with the image, with a blank one, and paired differences, by description."""
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
    """Return paired differences, camera - world, by cell and by whether a question names a side.

    Args:
        world: the grid described along the world's axes.
        camera: the grid described along the camera's axes.
        sides: whether a question names a side, by its id.

    Raises:
        UserError: the two grids have different questions.
    """
    rows: Rows = []
    for cell in (f"{image}-{style}" for image in IMAGES for style in STYLES):
        cells = {"all": _difference(world[cell], camera[cell])}
        for name, side in (("naming a side", True), ("naming none", False)):
            before, after = ([r for r in g[cell] if sides[r["id"]] == side] for g in (world, camera))
            if before:
                cells[name] = _difference(before, after)
        rows.append((cell, cells))
    return rows


def _difference(before: Sequence[Record], after: Sequence[Record]) -> Estimate:
    try:
        return metrics.compare(before, after)["micro"]
    except ValueError:
        raise UserError("--against: that grid has other questions; give one of the same data") from None


def table(title: str, columns: Sequence[str], rows: Rows) -> str:
    """Format percentages with their 95 % intervals; differences have a sign."""
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
    """Format what a perfect reader of the descriptions alone would answer.

    Args:
        verdicts: (verdict, whether the question names a side) of every question.
    """
    lines = ["a perfect reader of the descriptions alone would say to"]
    for name, side in (("naming a side", True), ("naming none", False)):
        if part := Counter(verdict for verdict, named in verdicts if named == side):
            counts = ", ".join(f"{n} {verdict}" for verdict, n in part.most_common())
            lines.append(f"  {name}, {part.total()} questions: {counts}")
    return "\n".join(lines)


def write(folder: Path, **tables: Rows) -> None:
    """Write the tables' estimates to grid.json."""
    content = {
        name: {row: {column: cell.as_dict() for column, cell in cells.items()} for row, cells in rows}
        for name, rows in tables.items()
    }
    disk.write_json(folder / "grid.json", content | {"published": DESCRIBED})
