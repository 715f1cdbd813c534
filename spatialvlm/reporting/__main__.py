"""One HTML file to look at results: tables, plots, and every test item with each run's answer.

python -m spatialvlm.reporting results/eval_paligemma_cvbench -o report.html
python -m spatialvlm.reporting results/pali_sat_grpo/v2-embedded-seed0 results/pali_sat_sft

Takes run folders, or folders of them. The file needs no network and no other file. Images are loaded from the
data that the runs record, or rendered again; where they are not available the items are shown without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from spatialvlm import cli
from spatialvlm.disk import disk_errors, whole
from spatialvlm.reporting import explorer, plots, runs, tables


@dataclass
class Args:
    runs: list[str] = field(metadata={"help": "run folders, or folders of them; the flag may be left out"})
    output: str = field(default="report.html", metadata={"help": "HTML file to write", "aliases": ["-o"]})
    title: str = field(default="Spatial reasoning results", metadata={"help": "heading of the page"})
    images: bool = field(default=True, metadata={"help": "with the items' images"})


def page(loaded: runs.Runs, title: str, images: bool = True) -> tuple[str, explorer.Explorer]:
    """Return the HTML, and the content of its explorer."""
    explored = explorer.explore(loaded.tests, images)
    parts = {
        "title": escape(title),
        "style": _file("page.css"),
        "notes": "".join(f'<p class="note warning">{escape(note)}</p>' for note in _notes(loaded, explored)),
        "tables": tables.html(loaded.tests) or '<p class="note">No finished test.</p>',
        "plots": plots.html(loaded.tests, loaded.trainings) or '<p class="note">Nothing to plot.</p>',
        "data": explorer.script_text(explored.data()),
        "script": _file("page.js"),
        "images": explorer.image_blocks(explored.images),
    }
    text, rest = "", _file("page.html")
    while "{{" in rest:  # one pass, so that inserted text is never taken for a placeholder
        before, _, rest = rest.partition("{{")
        name, _, rest = rest.partition("}}")
        text += before + parts[name]
    return text + rest, explored


def _notes(loaded: runs.Runs, explored: explorer.Explorer) -> list[str]:
    missing = [f"{count:,} items. {reason}" for reason, count in explored.missing.items()]
    return [*loaded.unfinished, *missing]


def _file(name: str) -> str:
    return (files("spatialvlm.reporting") / "page" / name).read_text(encoding="utf-8")


def main(args: Args) -> None:
    loaded = runs.load(args.runs)
    html, explored = page(loaded, args.title, args.images)
    output = Path(args.output)
    with disk_errors(output), whole(output) as aside:
        aside.write_text(html, encoding="utf-8", errors="replace")  # halves of surrogate pairs
    for note in _notes(loaded, explored):
        print(note)
    print(
        f"{len(loaded.tests)} tests, {len(loaded.trainings)} trainings, {len(explored.items):,} items, "
        f"{len(explored.images):,} images; {output.stat().st_size / 1e6:.1f} MB written to {output}"
    )


def flags(argv: Sequence[str]) -> list[str]:
    """Return `RUN RUN -o file` as the flags that the parser knows."""
    return ["--runs", *argv] if argv[:1] and not argv[0].startswith("-") else list(argv)


if __name__ == "__main__":
    cli.run(main, Args, flags(sys.argv[1:]))
