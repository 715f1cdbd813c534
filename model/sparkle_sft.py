"""SFT on Sparkle's basic spatial capabilities: directions, distances and places of labelled nodes.

python model/sparkle_sft.py                            # GPU: PaliGemma 2 3B, the paper's form
                                                       # CPU: embedded, larger glyphs, fewer nodes
python model/sparkle_sft.py --capabilities direction   # ablations: one capability alone, or two
python model/sparkle_sft.py --numbers false            # ... without questions answered by a number
python model/sparkle_sft.py --configurations 200       # ... fewer images
python model/sparkle_sft.py --config runs/sparkle_qwen2vl_sft.yaml
                                                       # another model
python model/sparkle_sft.py --data results/sparkle_data/paper-0
                                                       # questions of make_data/sparkle.py
python model/sparkle_sft.py --resume                   # resumes the newest run

Prints accuracy on the basic test before and after, by capability, with 95 % intervals. Composite tasks are
never trained on: eval_sparkle.py --adapter <run folder>/adapter tests them.
Published: 6.1 GB model, 0 GB data (rendered); 7 GB of disk, 4 GB of memory, 11.9 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from spatialvlm import cli
from spatialvlm.models import loading
from spatialvlm.papers.sparkle import SparkleArgs, SparkleExperiment, training_set
from spatialvlm.training import loop, sft


@dataclass
class Args(SparkleArgs, sft.SFTArgs):
    run_name: str = field(default="sft", metadata={"help": "first part of the run folder's name"})
    learning_rate: float = field(default=1e-4, metadata={"help": "learning rate of AdamW"})


def main(args: Args) -> None:
    args.check()
    train_set = training_set(args)
    model, processor = loading.load(args, train_adapter=True)
    experiment = SparkleExperiment("sparkle_sft", args, model, train_set)
    base = experiment.test_base(model, processor)

    model = loop.add_adapter(model, args)
    trainer = sft.Trainer(model, processor, train_set, args)
    loop.train(trainer, experiment.log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "sparkle_sft.yaml"))
