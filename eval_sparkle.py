"""Evaluate on Sparkle's three tests: basic capabilities, composite tasks, photographs.

python eval_sparkle.py                                     # GPU: PaliGemma 2, the paper's form; CPU: embedded
python eval_sparkle.py --blocks composite --limit 100      # shortest paths and tours alone
python eval_sparkle.py --adapter results/sparkle_sft/all-embedded-seed0/adapter
python eval_sparkle.py --data results/sparkle_data/paper-0 # questions of make_data/sparkle.py
python eval_sparkle.py --whatsup ../whatsup --coco ../coco/val2017 --gqa ../gqa/images
                                                           # the real photographs
accelerate launch eval_sparkle.py                          # sharded over all GPUs

basic: directions, distances and places of labelled nodes, 16 families. composite: shortest paths through
grids and tours, never trained on; optimal, exact and valid are counted apart. real: What'sUp's captions, one
by one, by pairs and by sets, and those over COCO and GQA; where --whatsup is not given, sets of rendered
scenes in the same form. Each block has its own run folder within that of the whole. Prints all with 95 %
intervals beside chance, and composite beside the published changes.
Published: 6.1 GB model, 0 GB data (rendered); 7 GB of disk, 4 GB of memory, 10.7 GB on the GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.papers import sparkle as report
from spatialvlm.papers.sparkle import MODELS, ROUTE_TOKENS
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.registry import load_rows
from spatialvlm.tasks.sparkle.questions import FAMILIES
from spatialvlm.tasks.sparkle.scoring import BASIC, COMPOSITE, routes_by_task, with_vocabulary
from spatialvlm.tasks.whatsup import scoring as whatsup_scoring

BENCHMARKS = {"basic": BASIC, "composite": COMPOSITE, "real": whatsup_scoring.BENCHMARK}


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {"data": {"paper": "paper", "embedded": "embedded"}, "model": MODELS}
    data: str | None = field(
        default=None,
        metadata={
            "help": "rendered questions (paper or embedded), a folder of make_data/sparkle.py, or a hub id"
        },
    )
    batch_size: int = field(
        default=16, metadata={"help": "answers per batch and device; changes no float32 score"}
    )
    blocks: list[str] = field(
        default_factory=lambda: list(BENCHMARKS), metadata={"help": "some of basic, composite, real"}
    )
    route_tokens: int | None = field(
        default=None, metadata={"help": "maximum length of composite's answers, in tokens; 64, embedded: 48"}
    )
    whatsup: str | None = field(
        default=None, metadata={"help": "folder of What'sUp's files; rendered scenes where not given"}
    )
    coco: str | None = field(
        default=None, metadata={"help": "folder of COCO's val2017 images; <whatsup>/val2017 by default"}
    )
    gqa: str | None = field(
        default=None, metadata={"help": "folder of GQA's images; <whatsup>/vg_images by default"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.blocks or set(self.blocks) - set(BENCHMARKS):
            raise UserError(f"--blocks {' '.join(self.blocks)}: must be some of {', '.join(BENCHMARKS)}")
        if (self.coco or self.gqa) and not self.whatsup:
            raise UserError("--coco and --gqa are folders of images; give the captions' with --whatsup")
        require_at_least(1, route_tokens=self.route_tokens)
        for block in self.blocks:
            if self.rule not in BENCHMARKS[block].rules:
                rules = ", ".join(BENCHMARKS[block].rules)
                raise UserError(f"--rule {self.rule}: block {block} has {rules}; leave it out of --blocks")


def source(block: str, args: Args) -> DataSource:
    """Where a block's questions come from; each basic family is asked once per rendered image."""
    if block == "real":
        rows = {"path": args.whatsup or "embedded", "limit": args.limit, "coco": args.coco, "gqa": args.gqa}
        return DataSource("whatsup", rows)
    rows = {"path": args.data, "limit": args.limit}
    if block == "composite":
        return DataSource("sparkle_composite", rows)
    return DataSource("sparkle", rows | {"split": args.split or "test", "pairs": len(FAMILIES)})


def questions(block: str, args: Args) -> Sequence[Example]:
    examples = load_rows(source(block, args))
    return with_vocabulary(examples) if block == "basic" else examples


def main(args: Args) -> dict[str, dict]:
    loading.fill_defaults(args, "data", "model")
    args.route_tokens = args.route_tokens or ROUTE_TOKENS["embedded" if args.data == "embedded" else "paper"]
    tests = {block: questions(block, args) for block in args.blocks}  # bad rows end before weights load
    model, processor = loading.load(args)
    whole = distributed.on_main(lambda: evaluate.open_run(model, args, "Sparkle"))
    summaries = {}
    for block, examples in tests.items():
        tokens = args.route_tokens if block == "composite" else args.max_new_tokens
        data = (args.whatsup or "embedded") if block == "real" else args.data
        part = replace(args, output_dir=str(whole.folder / block), data=data, max_new_tokens=tokens)
        facts = routes if block == "composite" and args.num_samples == 1 else None
        benchmark, origin = BENCHMARKS[block], source(block, args)
        _, summaries[block] = evaluate.run(model, processor, examples, benchmark, part, facts, origin)

    def finish() -> None:
        total = {"benchmark": "Sparkle", "n": 0, "aggregates": {}, "tasks": {}}
        for block, each in summaries.items():
            total["n"] += each["n"]
            total["aggregates"] |= {f"{block} {name}": score for name, score in each["aggregates"].items()}
            total["tasks"] |= each["tasks"]
        whole.write_summary(total)
        if args.num_samples == 1:
            print(f"\n{report.blocks(summaries)}\n\nwritten to {whole.folder}", flush=True)

    distributed.on_main(finish)
    return summaries


def routes(records: list[Record]) -> dict:
    """Optimal, exact, valid and length of each composite task, for the summary."""
    by_task = routes_by_task(records)
    return {
        "routes": {task: {name: e.as_dict() for name, e in each.items()} for task, each in by_task.items()}
    }


if __name__ == "__main__":
    cli.run(main, Args)
