"""Paper A's prompting study, in percent, and a measured row beside it.

CV-Bench's totals here are over all questions (micro), unlike those of the paper's training tables, which are
means of the four tasks: 788, 650, 600 and 600 questions give 60.54 and 53.76 for the two direct rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spatialvlm.papers.published import CVBENCH_COLUMNS

QWEN, LLAMA = "Qwen2.5-VL-7B", "Llama-4-Scout"

# (model, strategy as here, the paper's name of the row) -> figures
Row = tuple[str, str, str, tuple[float, ...]]
CVBENCH: tuple[Row, ...] = (
    (QWEN, "direct", "direct", (50.76, 63.23, 66.33, 64.67, 60.54)),
    (QWEN, "scene_graph", "scene graph", (64.21, 73.69, 66.17, 69.00, 68.08)),
    (LLAMA, "direct", "direct", (54.35, 55.08, 74.00, 31.33, 53.76)),
    (LLAMA, "scene_graph", "scene graph", (67.64, 74.92, 89.17, 73.50, 75.66)),
    (LLAMA, "kshot_split", "4-shot split", (68.12, 75.88, 90.25, 74.42, 77.31)),
    (LLAMA, "kshot_conversational", "4-shot conversational", (68.45, 76.42, 91.02, 75.17, 77.69)),
    (LLAMA, "depth_map", "+ depth maps", (46.97, 59.11, 89.38, 71.29, 70.95)),
    (LLAMA, "program_of_thought", "+ program-of-thought", (49.12, 54.37, 65.84, 36.91, 51.56)),
    (LLAMA, "chain_of_symbols", "+ chain-of-symbols", (46.58, 51.43, 60.12, 33.87, 48.25)),
    (LLAMA, "visualization_of_thought", "+ visualization-of-thought", (47.39, 50.11, 58.63, 35.24, 47.84)),
    (LLAMA, "confidence", "+ confidence", (66.31, 74.01, 88.02, 71.84, 74.38)),
    (LLAMA, "alignment", "+ coordinate-object alignment", (67.12, 73.44, 87.55, 72.20, 74.57)),
)
SAT: tuple[Row, ...] = (
    (LLAMA, "direct", "none (val)", (69.42,)),
    (LLAMA, "optical_flow", "optical flow (val)", (70.41,)),
    (LLAMA, "scene_graph", "scene graph (val)", (74.40,)),
    (LLAMA, "optical_flow", "5-shot conversational + optical flow (val)", (77.66,)),
)
CLEVR: tuple[Row, ...] = (
    (LLAMA, "direct", "direct (CoGenT ValB)", (68.47,)),
    (LLAMA, "describe", "describe (CoGenT ValB)", (70.66,)),
    (QWEN, "direct", "direct (CoGenT ValB)", (61.30,)),
    (QWEN, "describe", "describe (CoGenT ValB)", (72.70,)),
)
VSR: tuple[Row, ...] = (
    (LLAMA, "direct", "direct (val)", (68.82,)),
    (LLAMA, "scene_graph", "scene graph (val)", (78.14,)),
    (QWEN, "direct", "direct (val)", (66.81,)),
    (QWEN, "scene_graph", "scene graph (val)", (70.28,)),
)
PUBLISHED = {"cvbench": CVBENCH, "sat": SAT, "clevr": CLEVR, "vsr": VSR}


def beside(benchmark: str, model: str, summary: Mapping[str, Any]) -> str:
    """The measured row above the paper's rows, in percent; `>` marks those of the same strategy.

    The measured total is over all questions (of SAT's test: over all items).
    """
    columns = CVBENCH_COLUMNS if benchmark == "cvbench" else ("Total",)
    strategy = summary["strategy"]
    measured = [f"{100 * _score(summary, name):.2f}" if _has(summary, name) else "-" for name in columns]
    shots = f" ({strategy['shots']} shots)" if strategy["shots"] else ""
    rows = [("  measured", model, f"{strategy['name']}{shots}, n = {summary['n']}", measured)]
    for published_model, name, title, figures in PUBLISHED[benchmark]:
        mark = "> " if name == strategy["name"] else "  "
        rows.append((f"{mark}paper A", published_model, title, [f"{figure:.2f}" for figure in figures]))
    rows.insert(0, ("  percent", "model", "strategy", list(columns)))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True))
        + "".join(f"{cell:>10}" for cell in row[3])
        for row in rows
    )


def _has(summary: Mapping[str, Any], column: str) -> bool:
    return column == "Total" or column in summary["tasks"]


def _score(summary: Mapping[str, Any], column: str) -> float:
    if column != "Total":
        return summary["tasks"][column]["accuracy"]
    return summary["aggregates"]["official" if "micro" not in summary["aggregates"] else "micro"]["value"]
