"""Builds paper.pdf from paper/figures.json: no run folder, no model and no network is needed.

python paper/build.py                              # paper.pdf, from the figures that the repository carries
python paper/build.py --collect                    # collects the figures from results/ first
python paper/build.py --output_dir build --pages   # elsewhere, and every page as a PNG beside it

The text is paper.typ and the files that it includes. It has no number of its own: each is a reference into
figures.json, written with its interval by paper/figures.py. The same figures give the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import typst
from figures import read_json, texts
from plots import draw

from spatialvlm import cli
from spatialvlm.errors import UserError

HERE = Path(__file__).resolve().parent
PIXELS_PER_INCH = 100


@dataclass
class Args:
    collect: bool = field(default=False, metadata={"help": "collect the figures from run folders first"})
    results: str = field(
        default=str(HERE.parent / "results"), metadata={"help": "folder of the studies, for --collect"}
    )
    figures: str = field(
        default=str(HERE / "figures.json"),
        metadata={"help": "JSON file of the figures, written by --collect"},
    )
    output_dir: str = field(default=str(HERE.parent), metadata={"help": "where paper.pdf goes"})
    pages: bool = field(default=False, metadata={"help": "also write page-1.png, page-2.png, ..."})


def compiled(figures: dict, form: str) -> bytes | list[bytes]:
    """Compile the paper as `pdf` (one file) or `png` (one per page).

    Raises:
        UserError: the text refers to a missing figure, or has another fault.
    """
    inputs = {"figures": json.dumps(texts(figures), ensure_ascii=False)}
    inputs |= {f"plot-{name}": svg for name, svg in draw(figures).items()}
    try:
        return typst.compile(
            str(HERE / "paper.typ"),
            root=str(HERE),
            ignore_system_fonts=True,
            format=form,
            ppi=PIXELS_PER_INCH,
            sys_inputs=inputs,
        )
    except typst.TypstError as error:
        raise UserError(f"paper.typ: {' '.join(str(error).split())}") from None


def main(args: Args) -> Path:
    path, output = Path(args.figures), Path(args.output_dir)
    if args.collect:
        from collect import collect  # loads runs, which building the paper does not need

        found = json.dumps(collect(Path(args.results)), indent=1, ensure_ascii=False)
        path.write_text(found + "\n", encoding="utf-8")
    if not path.is_file():
        raise UserError(f"--figures {path}: no such file; collect the figures with --collect")
    figures = dict(read_json(path))
    output.mkdir(parents=True, exist_ok=True)
    paper = output / "paper.pdf"
    paper.write_bytes(compiled(figures, "pdf"))
    if args.pages:
        pages = compiled(figures, "png")
        for number, page in enumerate([pages] if isinstance(pages, bytes) else pages, start=1):
            (output / f"page-{number}.png").write_bytes(page)
    print(f"written to {paper}")
    return paper


if __name__ == "__main__":
    cli.run(main, Args)
