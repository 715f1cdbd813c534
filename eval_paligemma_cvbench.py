"""Evaluate on CV-Bench: multiple-choice questions about counts and relations (2D), depth and distance (3D).

python eval_paligemma_cvbench.py                     # GPU: PaliGemma 2, 2,638 photographs; CPU: embedded, 800
python eval_paligemma_cvbench.py --shuffle_images    # control: what the text alone gives away
python eval_paligemma_cvbench.py --ood               # closer becomes far away in Depth and Distance
python eval_paligemma_cvbench.py --adapter results/pali_sat_grpo/v2/adapter
python eval_paligemma_cvbench.py --data ../clevr     # the same form over CLEVR's real images and scenes

Prints accuracy by task with 95 % intervals beside chance, and three totals: the benchmark's own (official),
the mean of the four tasks (the paper's Total), and over all questions (micro). Answers are greedy (Pass@1).
"""

from dataclasses import dataclass, field

from spatialvlm import cli, evaluate, models
from spatialvlm.data import cvbench
from spatialvlm.data.rendered import drawn


@dataclass
class Args(evaluate.Args):
    ood: bool = field(
        default=False, metadata={"help": "turn closer into far away and swap the answers (Depth, Distance)"}
    )


def main(args: Args) -> dict:
    profile, _ = models.resolve_profile(args)
    args.data = args.data or {"paper": cvbench.HUB_ID, "embedded": "embedded"}[profile]
    examples = drawn(cvbench.load(args.data, split=args.split or "test", limit=args.limit))
    if args.ood:
        examples = cvbench.flip_polarity(examples)
    model, processor = models.load(args)
    return evaluate.run(model, processor, examples, evaluate.read_choice, cvbench.aggregate, args, "CV-Bench")


if __name__ == "__main__":
    cli.run(main, Args)
