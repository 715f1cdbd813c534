"""GRPO on SAT-style questions: PaliGemma 2 learns spatial reasoning from right and wrong alone.

python model/pali_sat_grpo.py                          # GPU: PaliGemma 2 3B on SAT, as published (v2)
                                                       # CPU: on the embedded model and rendered scenes
python model/pali_sat_grpo.py --config runs/pali_sat_grpo_v1.yaml    # another published run; any flag over it
python model/pali_sat_grpo.py --answer_form natural    # embedded, in the paper's form: answers in words
python model/pali_sat_grpo.py --data path/to/clevr     # real CLEVR images, official folder form
python model/pali_sat_grpo.py --data sat.parquet       # SAT's own files
python model/pali_sat_grpo.py --resume                 # resumes the newest run
accelerate launch model/pali_sat_grpo.py               # several GPUs; runs/accelerate/ has more

Prints CV-Bench accuracy before and after with 95 % intervals, and below it the trained model with the images
shuffled among the questions: its blind baseline. Embedded: 3 to 7 minutes on 2 CPU cores.
Published: 6.1 GB model, 0.9 GB data (SAT, CV-Bench); 9 GB of disk, 4 GB of memory, 10.5 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.papers.sat import ExperimentArgs, SATExperiment, training_set
from spatialvlm.tasks.sat import reward as rewards
from spatialvlm.training import grpo, loop


@dataclass
class Args(ExperimentArgs, grpo.GRPOArgs):
    pass


def main(args: Args) -> None:
    args.check()
    if args.data == "sparkle":
        raise UserError("--data sparkle: python model/sparkle_grpo.py trains on Sparkle's questions")
    train_set = training_set(args)
    model, processor = loading.load(args, train_adapter=True)
    experiment = SATExperiment("pali_sat_grpo", args, model, train_set=train_set)
    base = experiment.test_base(model, processor)

    def reward(completion: str, example: Example) -> float:
        return rewards.accuracy(completion, example.answer)

    model = loop.add_adapter(model, args)
    trainer = grpo.Trainer(model, processor, train_set, reward, args)
    loop.train(trainer, experiment.log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "pali_sat_grpo_v2.yaml"))
