"""Evaluate on CLEVR: short free answers to questions about existence, counts, comparisons and attributes.

python eval_paligemma_clevr.py                               # GPU: PaliGemma 2, CoGenT ValB; CPU: embedded
python eval_paligemma_clevr.py --data ../clevr               # an official folder: images, scenes, questions
python eval_paligemma_clevr.py --data ../clevr --form free   # our own short questions over those real scenes
python eval_paligemma_clevr.py --data ../clevr --shuffle_images    # control: what the text gives away
python eval_paligemma_clevr.py --num_samples 4               # Pass@4 of samples at temperature 1.0
accelerate launch eval_paligemma_clevr.py                    # shared out over all GPUs

Prints accuracy by family with 95 % intervals beside chance, which is the better of two ways not to look: a
uniform guess among the answers that the family allows, and its commonest answer in this very test. Answers
are greedy, or sampled with --num_samples. The embedded model takes seconds for 400 questions on 2 CPU cores.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from spatialvlm import cli, evaluate, models, processes
from spatialvlm.data import clevr, rendered
from spatialvlm.data.scene_facts import VALUES
from spatialvlm.example import Example

HUB_ID = "MMInstruction/Clevr_CoGenT_ValB"
EMBEDDED_SIZE = 800  # questions over rendered scenes, where no limit is given
YES_NO, COUNTS = ("yes", "no"), tuple(str(count) for count in range(11))
SIDES = {"lateral": ("left", "right"), "sagittal": ("front", "behind"), "image y": ("above", "below")}


@dataclass
class Args(evaluate.Args):
    form: Literal["official", "free"] = field(
        default="official", metadata={"help": "the official questions, or our own short ones over the scenes"}
    )


def load(args: Args) -> Sequence[Example]:
    if args.data == "embedded":
        make = rendered.free if args.form == "free" else rendered.clevr
        return make(args.split or "test", args.limit or EMBEDDED_SIZE)
    make = clevr.load_free if args.form == "free" else clevr.load
    return make(args.data, split=args.split, limit=args.limit)


def vocabulary(example: Example) -> tuple[str, ...]:
    """The answers that a question allows, by its family: what the answer is read against."""
    family = example.task
    if family == "relation":
        return SIDES[example.meta["axis"]]
    if family in ("depth", "distance"):  # "Which is closer to the camera, the red cube or the sphere?"
        return re.search(r", the (.+?) or the (.+?)\?$", example.question).groups()
    if family == "attribute" or family.startswith("query_"):
        return VALUES[example.meta.get("attribute") or family.removeprefix("query_")]
    if example.answer in YES_NO:
        return YES_NO
    return COUNTS if example.answer.isdecimal() else sum(VALUES.values(), ())


def with_vocabulary(examples: Sequence[Example]) -> Sequence[Example]:
    def make(index: int) -> Example:
        example = examples[index]
        return replace(example, meta={**example.meta, "vocabulary": vocabulary(example)})

    return rendered.LazyExamples(make, range(len(examples)))


def main(args: Args) -> dict:
    profile, _ = models.resolve_profile(args)
    args.data = args.data or {"paper": HUB_ID, "embedded": "embedded"}[profile]
    examples = load(args)
    model, processor = models.load(args)
    if processes.state().num_processes == 1:  # several draw their shares as they go
        examples = rendered.drawn(examples)
    examples = with_vocabulary(examples)
    return evaluate.run(
        model, processor, examples, evaluate.read_free, evaluate.micro_and_mean, args, "CLEVR"
    )


if __name__ == "__main__":
    cli.run(main, Args)
