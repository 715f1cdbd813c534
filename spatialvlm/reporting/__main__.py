"""One HTML file to look at results: tables, plots, and every test item with each run's answer.

python -m spatialvlm.reporting results/eval_paligemma_cvbench -o report.html
python -m spatialvlm.reporting results/pali_sat_grpo/v2-embedded-seed0 results/pali_sat_sft

Takes run folders, or folders of them. The file needs no network and no other file. Pictures are read from the
data that the runs name, or rendered again; where they are not to be had the items are shown without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from spatialvlm import cli
from spatialvlm.reporting import explorer, plots, reading, tables
from spatialvlm.run_folder import disk_errors


@dataclass
class Args:
    runs: list[str] = field(metadata={"help": "run folders, or folders of them; may stand without the flag"})
    output: str = field(default="report.html", metadata={"help": "the file to write", "aliases": ["-o"]})
    title: str = field(default="Spatial reasoning results", metadata={"help": "heading of the page"})
    images: bool = field(default=True, metadata={"help": "false leaves the pictures out"})


def page(found: reading.Found, title: str, images: bool = True) -> tuple[str, explorer.Explorer]:
    """(the HTML, what the explorer in it holds)."""
    explored = explorer.explore(found.tests, images)
    notes = [*found.unfinished]
    notes += [f"{count:,} items. {reason}" for reason, count in explored.missing.items()]
    parts = {
        "title": escape(title),
        "style": _file("page.css"),
        "notes": "".join(f'<p class="note warning">{escape(note)}</p>' for note in notes),
        "tables": tables.html(found.tests) or '<p class="note">No finished test.</p>',
        "plots": plots.html(found.tests, found.trainings) or '<p class="note">Nothing to plot.</p>',
        "data": explorer.script_text(explored.data()),
        "script": _file("page.js"),
        "images": explorer.image_blocks(explored.pictures),
    }
    text, rest = "", _file("page.html")
    while "{{" in rest:  # once through, so that what is filled in is never read as a place
        before, _, rest = rest.partition("{{")
        name, _, rest = rest.partition("}}")
        text += before + parts[name]
    return text + rest, explored


def _file(name: str) -> str:
    return (files("spatialvlm.reporting") / "page" / name).read_text(encoding="utf-8")


def main(args: Args) -> None:
    found = reading.read(args.runs)
    html, explored = page(found, args.title, args.images)
    output = Path(args.output)
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(f".{output.name}.tmp")
        temporary.write_text(html, encoding="utf-8", errors="replace")  # halves of surrogate pairs
        temporary.replace(output)
    for line in found.unfinished:
        print(line)
    for reason, count in explored.missing.items():
        print(f"{count:,} items. {reason}")
    print(
        f"{len(found.tests)} tests, {len(found.trainings)} trainings, {len(explored.items):,} items, "
        f"{len(explored.pictures):,} pictures; {output.stat().st_size / 1e6:.1f} MB written to {output}"
    )


def flags(argv: Sequence[str]) -> list[str]:
    """`RUN RUN -o file` as the flags that the parser knows."""
    return ["--runs", *argv] if argv[:1] and not argv[0].startswith("-") else list(argv)


if __name__ == "__main__":
    cli.run(main, Args, flags(sys.argv[1:]))
