"""GRPO on Sparkle's basic spatial capabilities: the same questions as SFT's, learnt from rewards alone.

python model/sparkle_grpo.py                           # GPU: PaliGemma 2 3B, the paper's form; CPU: embedded
python model/sparkle_grpo.py --capabilities distance   # ablations, as of model/sparkle_sft.py
python model/sparkle_grpo.py --config runs/sparkle_qwen2vl_grpo.yaml
                                                       # another model
python model/sparkle_grpo.py --resume                  # resumes the newest run

The paper trains by SFT; whether rewards carry over to composite tasks as well is the next question, which it
does not ask. A completion is worth what its answer scores if it is nothing but an answer (`rewards_sparkle`).
Prints accuracy on the basic test before and after; eval_sparkle.py --adapter tests paths and tours.
Published: 6.1 GB model, 0 GB data (rendered); 7 GB of disk, 4 GB of memory, 12.0 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from spatialvlm import cli
from spatialvlm.models import loading
from spatialvlm.papers.sparkle import SparkleArgs, SparkleExperiment, training_set
from spatialvlm.tasks.sparkle import reward as rewards_sparkle
from spatialvlm.training import grpo, loop


@dataclass
class Args(SparkleArgs, grpo.GRPOArgs):
    run_name: str = field(default="grpo", metadata={"help": "first part of the run folder's name"})


def main(args: Args) -> None:
    args.check()
    train_set = training_set(args)
    model, processor = loading.load(args, train_adapter=True)
    experiment = SparkleExperiment("sparkle_grpo", args, model, train_set)
    base = experiment.test_base(model, processor)

    model = loop.add_adapter(model, args)
    trainer = grpo.Trainer(model, processor, train_set, rewards_sparkle.basic, args)
    loop.train(trainer, experiment.log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "sparkle_grpo.yaml"))
