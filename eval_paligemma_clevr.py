"""Evaluate on CLEVR: short free answers to questions about existence, counts, comparisons and attributes.

python eval_paligemma_clevr.py                               # GPU: PaliGemma 2, CoGenT ValB; CPU: embedded
python eval_paligemma_clevr.py --data MMInstruction/Clevr_CoGenT_ValA      # or MMInstruction/SuperClevr_Val
python eval_paligemma_clevr.py --data ../clevr               # an official folder: images, scenes, questions
python eval_paligemma_clevr.py --data ../superclevr          # Super-CLEVR's: images, questions.json
python eval_paligemma_clevr.py --data ../clevr --form free   # our own short questions over those real scenes
python eval_paligemma_clevr.py --data ../clevr --shuffle_images    # control: what the text gives away
python eval_paligemma_clevr.py --num_samples 4               # Pass@4 of samples at temperature 1.0
accelerate launch eval_paligemma_clevr.py                    # shared out over all GPUs

Prints accuracy by family with 95 % intervals beside chance, which is the better of two ways not to look: a
uniform guess among the answers that the family allows, and its commonest answer in this very test; and
close_call, the share of the wrong counts that are off by exactly one. Answers are greedy, or sampled with
--num_samples. The embedded model takes seconds for 400 questions on 2 CPU cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spatialvlm import cli
from spatialvlm.evaluation import evaluate
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr.scoring import benchmark, with_vocabulary
from spatialvlm.worlds.clevr import series

HUB_ID = "MMInstruction/Clevr_CoGenT_ValB"
EMBEDDED_SIZE = 800  # questions over rendered scenes, where no limit is given


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {"data": {"paper": HUB_ID, "embedded": "embedded"}}
    form: Literal["official", "free"] = field(
        default="official", metadata={"help": "the official questions, or our own short ones over the scenes"}
    )


def load(args: Args) -> Sequence[Example]:
    if args.data == "embedded":
        make = series.free if args.form == "free" else series.clevr
        return make(args.split or "test", args.limit or EMBEDDED_SIZE)
    make = clevr.load_free if args.form == "free" else clevr.load
    return make(args.data, split=args.split, limit=args.limit)


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    examples = load(args)
    model, processor = loading.load(args)
    examples = with_vocabulary(examples)
    _, summary = evaluate.run(model, processor, examples, benchmark(args.data), args)
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
