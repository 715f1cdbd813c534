"""Evaluate on VSI-Bench: 5,130 questions about videos of rooms, of eight kinds, in letters and numbers.

python eval_vsibench.py                          # GPU: Qwen2-VL-2B, the hub's videos; CPU: embedded, rooms
python eval_vsibench.py --prompt think           # thoughts first; or observe: an observation first
python eval_vsibench.py --form words             # rendered rooms in VSI-100k's form: words, no options
python eval_vsibench.py --subset debiased        # VSI-Bench-Debiased; pruned: what it leaves out
python eval_vsibench.py --data test.jsonl --frames ../videos --num_frames 32 --rule official
python eval_vsibench.py --adapter results/vsi_grpo/2b_v-paper-seed0/adapter
accelerate launch eval_vsibench.py               # sharded over all GPUs

Prints scores by type with 95 % intervals beside chance, the official mean of the eight tasks, the means of
the six that VSI-100k trains and of the two that it holds out, scores by source of the videos, and the
published table. Numbers score their mean relative accuracy. A Qwen gets a video, a PaliGemma several images.
Videos lie in the benchmark's layout, `<data set>/<scene>.mp4`, or as folders of images,
`<data set>/<scene>/`; the hub's are fetched (5.7 GB) where --frames is not given.

With --prompt think or observe every rule parses what stands in the last <answer> of a text, or all of it
where there is none. VSI-Bench-Debiased follows from the column `pruned` of the hub's newer files, or from its
list of ids, `pruned_ids.txt`.
Published: 4.4 GB model, 5.7 GB data (VSI-Bench); 19 GB of disk, 6 GB of memory, 8.9 GB on the GPU.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation import evaluate
from spatialvlm.files.lazy import prefetch
from spatialvlm.models import context_length, loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.registry import load_rows
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import published
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsi.data import Mode, Subset
from spatialvlm.tasks.vsi.scoring import TAGGED, VSIBENCH

NEW_TOKENS = {"paper": {"short": 16, "long": 512}, "embedded": {"short": 16, "long": 128}}

SHORTER = "use fewer or smaller frames (--num_frames; Qwen: --max_pixels), or a smaller --max_new_tokens"


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {
        "data": {"paper": vsibench.HUB_ID, "embedded": "embedded"},
        "model": {"paper": "Qwen/Qwen2-VL-2B-Instruct", "embedded": str(loading.EMBEDDED)},
        "num_frames": {"paper": 16, "embedded": 1},
    }
    batch_size: int = field(
        default=16, metadata={"help": "answers per batch and device; changes no float32 score"}
    )
    max_new_tokens: int | None = field(
        default=None,
        metadata={
            "help": "maximum length of an answer, in tokens; 16, think and observe: 512 (embedded: 128)"
        },
    )
    prompt: Mode = field(
        default="vanilla", metadata={"help": "the answer alone, or after thoughts or an observation"}
    )
    subset: Subset = field(default="full", metadata={"help": "of the benchmark's questions"})
    pruned_ids: str | None = field(
        default=None, metadata={"help": "the hub's pruned_ids.txt, where the rows do not say what is pruned"}
    )
    form: Literal["options", "words"] | None = field(
        default=None, metadata={"help": "of questions over rendered rooms; options where not given"}
    )
    frames: str | None = field(
        default=None, metadata={"help": "folder of the videos; the hub's are fetched where not given"}
    )
    num_frames: int | None = field(
        default=None, metadata={"help": "frames per video, from first to last; 16, embedded: 1"}
    )
    min_pixels: int = field(
        default=4 * 28 * 28, metadata={"help": "minimum number of pixels per frame (Qwen)"}
    )
    max_pixels: int = field(
        default=128 * 28 * 28, metadata={"help": "maximum number of pixels per frame (Qwen)"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, num_frames=self.num_frames)
        if not 1 <= self.min_pixels <= self.max_pixels:
            raise UserError(f"--min_pixels {self.min_pixels} must be between 1 and --max_pixels")
        if self.pruned_ids and self.subset == "full":
            raise UserError("--pruned_ids tells subsets apart; give --subset debiased or pruned with it")

    def fill(self) -> None:
        """Set what was not given, by profile."""
        profile = loading.fill_defaults(self, "data", "model", "num_frames")
        tokens = NEW_TOKENS[profile]["short" if self.prompt == "vanilla" else "long"]
        self.max_new_tokens = self.max_new_tokens or tokens
        rooms = self.data == "embedded"
        if rooms and (self.frames or self.subset != "full"):
            raise UserError(
                "--frames and --subset are VSI-Bench's; leave them out for rendered rooms, or give --data"
            )
        if not rooms and self.form:
            raise UserError("--form is of rendered rooms; VSI-Bench has options: leave it out")


def source(args: Args) -> DataSource:
    """Where the questions and their frames come from."""
    rows = {"split": args.split or "test", "num_frames": args.num_frames, "mode": args.prompt}
    if args.data == "embedded":
        rooms = {"limit": args.limit or vsi_rooms.QUESTIONS, "form": args.form or "options"}
        return DataSource("vsi_rooms", rows | rooms)
    rows |= {"path": args.data, "limit": args.limit, "subset": args.subset}
    return DataSource("vsibench", rows | {"pruned_ids": args.pruned_ids, "folder": args.frames})


def main(args: Args) -> dict:
    args.fill()
    data = source(args)
    examples = load_rows(data)  # invalid rows and missing videos are reported before the model loads
    model, processor = loading.load(args, pixels=(args.min_pixels, args.max_pixels))
    prefetch(examples)
    processes = distributed.state()
    shard = examples[processes.process_index :: processes.num_processes]

    def frames_shown() -> list[int]:
        context_length.check(model, processor, shard, args.max_new_tokens, SHORTER)
        return [len(example.images) for example in shard]

    shown = Counter(distributed.agree(frames_shown))
    frames = {"requested": args.num_frames, "min": min(shown), "max": max(shown)}
    frames["mean"] = sum(number * count for number, count in shown.items()) / len(examples)
    facts = {"frames": frames, "subset": args.subset, "prompt_mode": args.prompt}
    facts["published"] = {
        name: dict(zip(published.COLUMNS, row, strict=True)) for name, row in published.FIGURES.items()
    }
    benchmark = VSIBENCH if args.prompt == "vanilla" else TAGGED
    _, summary = evaluate.run(model, processor, examples, benchmark, args, facts, data)
    name = "rendered" if args.data == "embedded" else "measured"
    distributed.on_main(lambda: print(published.comparison(summary, name), flush=True))
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
