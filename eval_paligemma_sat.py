"""Evaluate on SAT: multiple-choice questions about movement, perspective and position, one or two images.

python eval_paligemma_sat.py                         # GPU: PaliGemma 2, the 150 real questions; CPU: embedded
python eval_paligemma_sat.py --adapter results/pali_sat_grpo/v2-embedded-seed0/adapter --answer_form letter
python eval_paligemma_sat.py --split val --limit 1000          # synthetic questions, once each
python eval_paligemma_sat.py --split static --max_images 1     # the synthetic ones that training samples
python eval_paligemma_sat.py --data SAT_test.parquet --blank_image     # what the text gives away
accelerate launch eval_paligemma_sat.py              # sharded over all GPUs

On the test split every question is evaluated in each order of its choices (--circular false: once), as SAT's
authors do: 300 items, whose mean is `official`. `both_orders`, which is ours, is the fraction of questions
correct in both. Accuracy by question type stands above the totals. Two images make a prompt of 512 image
tokens at 224 pixels. The embedded model, with one image per question, takes about a minute on 2 CPU cores.
Published: 6.1 GB model, 0.1 GB data (SAT's test); 7 GB of disk, 4 GB of memory, 10.8 GB on the GPU.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spatialvlm import cli
from spatialvlm.errors import require_at_least
from spatialvlm.evaluation import evaluate
from spatialvlm.files.lazy import facts_of
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.sat.scoring import BENCHMARK


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {"data": {"paper": sat.HUB_ID, "embedded": "embedded"}}
    batch_size: int = field(default=32, metadata={"help": "answers per batch and device; changes no score"})
    max_new_tokens: int = field(default=24, metadata={"help": "maximum length of an answer, in tokens"})
    circular: bool | None = field(
        default=None,
        metadata={"help": "every order of the choices; by default on the test split alone"},
    )
    max_images: int = field(
        default=2, metadata={"help": "maximum number of images per question; others are left out"}
    )
    answer_form: Literal["natural", "letter"] = field(
        default="natural",
        metadata={"help": "form of the answer in the prompt: the choice's text (paper A), or its letter"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, max_images=self.max_images)


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    args.split = args.split or "test"
    args.circular = args.split == "test" if args.circular is None else args.circular
    named = ("split", "limit", "answer_form", "max_images", "circular", "seed")
    rows = {"path": args.data} | {name: getattr(args, name) for name in named}
    examples = sat.load_test(**rows)
    model, processor = loading.load(args)
    which = facts_of(examples)  # SAT or SAT-v2
    data = DataSource("sat", rows, which)
    _, summary = evaluate.run(model, processor, examples, BENCHMARK, args, which, data)
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
