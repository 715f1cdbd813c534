"""Evaluate on CLEVR with the scene described in the prompt, with its image or a blank one.

python eval_paligemma_clevr_new.py                                    # image and structured description
python eval_paligemma_clevr_new.py --description nlp --blank_image    # sentences and a blank image
python eval_paligemma_clevr_new.py --grid                      # all 2 x 4, beside the published figures
python eval_paligemma_clevr_new.py --grid --world_axes --against results/.../grid    # the wrong order
python eval_paligemma_clevr_new.py --profile paper --grid --data ../CLEVR_CoGenT_v1.0 --split valB
accelerate launch eval_paligemma_clevr_new.py --grid --data ...       # sharded over all GPUs

Prints accuracy by family with 95 % intervals beside chance; with --grid one table of all cells, with paired
differences. `--data` is CLEVR's official folder (its images need not be there with --blank_image), what
clevr_desc/merge_clevr_w_depth_desc.py wrote, or rendered scenes. The published model of this study is
PaliGemma 2 3B mix-448. The paper's exact words around a description are not known; `--wording` has two of
ours: `before` ("Description: ...", newline, "Question: ...") and `after` (an instruction, the question, then
the description). Without a description the prompt is the question alone.

The embedded model was never trained on descriptions or on prompts so long, and scores near chance with them;
its grid of 400 questions takes five to eight minutes on 2 CPU cores. A stopped grid resumes when its command
is given again.
Published: 6.1 GB model, 0 GB data (your CLEVR folder); 7 GB of disk, 4 GB of memory, 12.9 GB on the GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError
from spatialvlm.evaluation import evaluate
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import context_length, loading
from spatialvlm.papers import descriptions as report
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.clevr import described
from spatialvlm.tasks.clevr.scoring import BENCHMARK

SHORTER = "use --description ordered, the shortest, a smaller --max_new_tokens, or leave that scene out"


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {
        "data": {"paper": None, "embedded": "embedded"},
        "model": {"paper": "google/paligemma2-3b-mix-448", "embedded": str(loading.EMBEDDED)},
    }
    batch_size: int = field(
        default=16, metadata={"help": "answers per batch and device; changes no float32 score"}
    )
    description: Literal["none", "structured", "ordered", "nlp"] = field(
        default="structured", metadata={"help": "the scene as a list, as an ordered list, or in sentences"}
    )
    wording: Literal["before", "after"] = field(
        default="before", metadata={"help": "description before the question, or after an instruction and it"}
    )
    grid: bool = field(
        default=False,
        metadata={"help": "all cells: image and blank image, with no description and each of the three"},
    )
    world_axes: bool = field(
        default=False, metadata={"help": "sides along the world's x and y: the published, wrong order"}
    )
    against: str | None = field(
        default=None, metadata={"help": "folder of another grid to compare with --grid, of the other axes"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid and (self.blank_image or self.shuffle_images):
            raise UserError("--grid has its own blank images; leave out --blank_image and --shuffle_images")
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
    model, processor = loading.load(args)
    prefetch(examples)
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
    examples = described.prompted(examples, args.description, args.wording)
    _, summary = evaluate.run(model, processor, examples, BENCHMARK, args, data=source(args))
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
    """Evaluate every cell as the script alone would, in one run folder; print the tables, write grid.json."""
    overall = replace(args, against=None)
    folder = distributed.on_main(lambda: evaluate.open_run(model, overall, BENCHMARK.title)).folder
    records, summaries = {}, {}
    for cell, (blank, style) in report.CELLS.items():
        cell_args = replace(
            overall, grid=False, description=style, blank_image=blank, output_dir=str(folder / cell)
        )
        prompted = described.prompted(examples, style, args.wording)
        records[cell], summaries[cell] = evaluate.run(
            model, processor, prompted, BENCHMARK, cell_args, data=source(cell_args)
        )
    processes = distributed.state()
    shard = examples[processes.process_index :: processes.num_processes]
    facts = distributed.agree(lambda: facts_of(shard))

    def write_tables() -> None:
        tables = {"grid": report.grid_rows(records)}
        print(f"\n{report.grid_table(tables['grid'], len(facts))}")
        if any(verdict != described.UNKNOWN for _, verdict, _ in facts):
            print(report.reader_line([fact[1:] for fact in facts]))
        if other:
            world, camera = (records, other) if args.world_axes else (other, records)
            tables["camera - world"] = report.order_rows(world, camera, {id: side for id, _, side in facts})
            print(f"\n{report.order_table(tables['camera - world'])}")
        report.write(folder, **tables)
        print(f"written to {folder}", flush=True)

    distributed.on_main(write_tables)
    return summaries


def facts_of(shard: Sequence[Example]) -> list[tuple[str, str, bool]]:
    """(id, what the description answers, whether the question names a side) of each example."""
    return [
        (example.id, described.verdict(example), report.names_a_side(example.question)) for example in shard
    ]


if __name__ == "__main__":
    cli.run(main, Args)
