"""Evaluate on CV-Bench: multiple-choice questions about counts and relations (2D), depth and distance (3D).

python eval_paligemma_cvbench.py                     # GPU: PaliGemma 2, 2,638 photographs; CPU: embedded, 800
python eval_paligemma_cvbench.py --shuffle_images    # ablation: what the text alone gives away
python eval_paligemma_cvbench.py --ood               # polarity-flipped: closer becomes far away
python eval_paligemma_cvbench.py --num_samples 4 --adapter results/pali_sat_grpo/v2-embedded-seed0/adapter
                                                     # Pass@4
python eval_paligemma_cvbench.py --data ../clevr     # CLEVR's images, questions in this form
accelerate launch eval_paligemma_cvbench.py          # sharded over all GPUs
torchrun --nproc_per_node 2 eval_paligemma_cvbench.py                 # or over processes on the CPU

Prints accuracy by task with 95 % intervals beside chance, and three totals: the benchmark's own (official),
the mean of the four tasks (the paper's Total), and over all questions (micro). Answers are greedy (Pass@1).
With --num_samples k they are k samples at temperature 1.0; the table has the fraction of questions that any
of the k answers correctly (the paper's Pass@k) beside the chance of k guesses, then unbiased Pass@1 to
Pass@k. The embedded model takes about a minute for 800 questions on 2 CPU cores.
Published: 6.1 GB model, 0.4 GB data (CV-Bench); 7 GB of disk, 4 GB of memory, 11.2 GB on the GPU.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from spatialvlm import cli
from spatialvlm.evaluation import evaluate
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench.scoring import BENCHMARK


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {"data": {"paper": cvbench.HUB_ID, "embedded": "embedded"}}
    ood: bool = field(
        default=False,
        metadata={"help": "polarity-flipped: closer becomes far away, the answers swap (Depth, Distance)"},
    )


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    rows = {"path": args.data, "split": args.split or "test", "limit": args.limit, "flipped": args.ood}
    examples = cvbench.load(**rows)
    model, processor = loading.load(args)
    data = DataSource("cvbench", rows)
    _, summary = evaluate.run(model, processor, examples, BENCHMARK, args, data=data)
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
