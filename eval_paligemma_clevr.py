"""Evaluate on CLEVR: short free answers to questions about existence, counts, comparisons and attributes.

python eval_paligemma_clevr.py                               # GPU: PaliGemma 2, CoGenT ValB; CPU: embedded
python eval_paligemma_clevr.py --data MMInstruction/Clevr_CoGenT_ValA      # or MMInstruction/SuperClevr_Val
python eval_paligemma_clevr.py --data ../clevr               # an official folder: images, scenes, questions
python eval_paligemma_clevr.py --data ../superclevr --split val    # Super-CLEVR's: images, questions.json
python eval_paligemma_clevr.py --data ../clevr --form free   # our own short questions over those real scenes
python eval_paligemma_clevr.py --data ../clevr --shuffle_images    # ablation: what the text gives away
python eval_paligemma_clevr.py --num_samples 4               # Pass@4 of samples at temperature 1.0
accelerate launch eval_paligemma_clevr.py                    # sharded over all GPUs

Super-CLEVR's one file of questions is split by its images' numbers: 0 to 19,999 train, to 24,999 val, to
29,999 test, which is the default.
Prints accuracy by family with 95 % intervals beside chance, the better of two blind baselines: a uniform
guess among the answers that the family allows, and its most common answer in this very test; and close_call,
the fraction of the wrong counts that are off by exactly one. Answers are greedy, or sampled with
--num_samples. The embedded model takes about a minute for 800 questions on 2 CPU cores.
Published: 6.1 GB model, 0.8 GB data (CoGenT ValB); 8 GB of disk, 4 GB of memory, 11.2 GB on the GPU.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spatialvlm import cli
from spatialvlm.evaluation import evaluate
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr.scoring import benchmark

HUB_ID = "MMInstruction/Clevr_CoGenT_ValB"


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {"data": {"paper": HUB_ID, "embedded": "embedded"}}
    split: str | None = field(
        default=None,
        metadata={
            "help": "train, val or test; by default val of a folder, test of Super-CLEVR's and of rendered "
            "scenes, and of rows train, the hub's only one"
        },
    )
    form: Literal["official", "free"] = field(
        default="official",
        metadata={"help": "the official questions, or our own short ones over the same scenes"},
    )


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    rows = {"path": args.data, "split": args.split, "limit": args.limit, "form": args.form}
    examples = clevr.load(**rows)
    model, processor = loading.load(args)
    data = DataSource("clevr", rows)
    _, summary = evaluate.run(model, processor, examples, benchmark(args.data), args, data=data)
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
