"""Evaluate on CLEVR with the scene described in the prompt, with the image or with a blank one.

python eval_paligemma_clevr_new.py                                # image and structured description
python eval_paligemma_clevr_new.py --description nlp --no_image   # sentences and a blank image
python eval_paligemma_clevr_new.py --grid                         # all 2 x 4, beside the published figures
python eval_paligemma_clevr_new.py --grid --world_axes --against results/.../grid    # the wrong order
python eval_paligemma_clevr_new.py --profile paper --grid --data ../CLEVR_CoGenT_v1.0 --split valB
accelerate launch eval_paligemma_clevr_new.py --grid --data ...   # shared out over all GPUs

`--data` is CLEVR's official folder, described as it is read; what clevr_desc/merge_clevr_w_depth_desc.py
wrote; or rendered scenes. The published model of this study is PaliGemma 2 3B mix-448. The paper's exact
words around a description are not known; `--wording` has two of ours: `before` ("Description: ...", newline,
"Question: ...") and `after` (an instruction, the question, then the description). Without a description the
prompt is the question alone. The embedded model was never trained on descriptions or on prompts so long, and
does not read them; its grid of 400 questions takes five to eight minutes on two CPU cores. A grid that was
stopped goes on when its command is given again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError
from spatialvlm.evaluation import evaluate
from spatialvlm.example import Example
from spatialvlm.models import context_length, loading
from spatialvlm.papers import descriptions as report
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.clevr import described
from spatialvlm.tasks.clevr.scoring import BENCHMARK, with_vocabulary

SHORTER = "use --description ordered, the shortest, a smaller --max_new_tokens, or leave that scene out"


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {
        "data": {"paper": None, "embedded": "embedded"},
        "model": {"paper": "google/paligemma2-3b-mix-448", "embedded": str(loading.EMBEDDED)},
    }
    description: Literal["none", "structured", "ordered", "nlp"] = field(
        default="structured", metadata={"help": "the scene as a list, as an ordered list, or in sentences"}
    )
    no_image: bool = field(
        default=False, metadata={"help": "a blank image; the folder's own need not be there"}
    )
    wording: Literal["before", "after"] = field(
        default="before", metadata={"help": "description before the question, or after an instruction and it"}
    )
    grid: bool = field(
        default=False, metadata={"help": "image and blank image, with no description and each of the three"}
    )
    world_axes: bool = field(
        default=False, metadata={"help": "sides along the world's x and y: the published, wrong order"}
    )
    against: str | None = field(
        default=None, metadata={"help": "with --grid: the folder of another grid, of the world's axes or not"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.blank_image = self.blank_image or self.no_image
        if self.grid and (self.blank_image or self.shuffle_images):
            raise UserError("--grid has its own blank images; leave out --no_image and the controls")
        if self.grid and self.num_samples > 1:
            raise UserError("--grid compares greedy answers; leave out --num_samples")
        if self.against and not self.grid:
            raise UserError("--against compares two grids; give --grid")


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    if args.data is None:
        raise UserError(
            "no data set with descriptions is published; give --data: CLEVR's official folder (CoGenT's, "
            "with --split valB), or what clevr_desc/merge_clevr_w_depth_desc.py wrote"
        )
    other = report.read_grid(args.against) if args.against else None
    examples = described.load(**rows(args))
    examples = with_vocabulary(examples)
    model, processor = loading.load(args)
    styles = report.DESCRIPTIONS if args.grid else (args.description,)
    processes = distributed.state()
    shard = examples[processes.process_index :: processes.num_processes]

    def check_context() -> list:
        for style in styles:
            prompts = described.prompted(shard, style, args.wording)
            context_length.check(model, processor, prompts, args.max_new_tokens, SHORTER)
        return []

    distributed.agree(check_context)
    if args.grid:
        return grid(model, processor, examples, args, other)
    asked = described.prompted(examples, args.description, args.wording)
    _, summary = evaluate.run(model, processor, asked, BENCHMARK, args, data=source(args))
    return summary


def rows(args: Args) -> dict[str, Any]:
    axes = "world" if args.world_axes else "camera"
    images = not args.blank_image
    return {"path": args.data, "split": args.split, "limit": args.limit, "axes": axes, "images": images}


def source(args: Args) -> DataSource:
    """Where the questions with their descriptions come from."""
    prompt = {"style": args.description, "wording": args.wording}
    return DataSource("clevr_described", rows(args) | prompt)


def grid(model, processor, examples: Sequence[Example], args: Args, other: report.Grid | None) -> dict:
    """Every cell into a part of one run folder, each as the script alone would do it; then the tables."""
    overall = replace(args, against=None)
    folder = distributed.on_main(lambda: evaluate.open_run(model, overall, BENCHMARK.title)).folder
    summaries = {}
    for cell, (blank, style) in report.CELLS.items():
        part = replace(
            overall, grid=False, description=style, blank_image=blank, output_dir=str(folder / cell)
        )
        asked = described.prompted(examples, style, args.wording)
        summaries[cell] = evaluate.run(model, processor, asked, BENCHMARK, part, data=source(part))
    facts = distributed.agree(lambda: facts_of(examples, args))
    distributed.on_main(lambda: tell(folder, facts, args, other))
    return summaries


def tell(folder: Path, facts: list[tuple[str, str, bool]], args: Args, other: report.Grid | None) -> None:
    """Prints the tables and writes them to grid.json."""
    mine = report.read_grid(folder)
    tables = {"grid": report.grid_rows(mine)}
    print(f"\n{report.grid_table(tables['grid'], len(facts))}")
    if any(verdict != described.UNKNOWN for _, verdict, _ in facts):
        print(report.reader_line([fact[1:] for fact in facts]))
    if other:
        world, camera = (mine, other) if args.world_axes else (other, mine)
        tables["camera - world"] = report.order_rows(world, camera, {id: side for id, _, side in facts})
        print(f"\n{report.order_table(tables['camera - world'])}")
    report.write(folder, **tables)
    print(f"written to {folder}", flush=True)


def facts_of(examples: Sequence[Example], args: Args) -> list[tuple[str, str, bool]]:
    """(id, what the description answers, whether the question names a side) of this process's share."""
    mine = [i for part in distributed.deal(range(len(examples)), args.batch_size) for i in part]
    shown = ((examples[i], examples[i].question) for i in mine)
    return [(example.id, described.verdict(example), report.names_a_side(text)) for example, text in shown]


if __name__ == "__main__":
    cli.run(main, Args)
