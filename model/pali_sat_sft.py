"""SFT on SAT-style questions: PaliGemma 2 learns spatial reasoning from the right answers themselves.

python model/pali_sat_sft.py                           # GPU: PaliGemma 2 3B on SAT, as published
                                                       # CPU: on the embedded model and rendered scenes
python model/pali_sat_sft.py --answer_form natural     # embedded, in the paper's form: answers in words
python model/pali_sat_sft.py --data path/to/sat.parquet
                                                       # SAT's own files; a CLEVR folder works too
python model/pali_sat_sft.py --data ahmedheakl/clevr-cogent-r1
                                                       # CLEVR-CoGenT: thoughts, then the answer, in tags
python model/pali_sat_sft.py --resume                  # resumes the newest run
accelerate launch model/pali_sat_sft.py                # several GPUs; runs/accelerate/ has more

The loss is on the answer and its end token alone, and the prompt is read both ways, as PaliGemma was trained.
Same data, adapter, tests and run folder as model/pali_sat_grpo.py. Embedded: about 3 minutes on 2 CPU cores.
Thoughts of 300 tokens take more than a T4 has; there add --per_device_batch_size 4
--gradient_accumulation_steps 4. The test then allows answers of 256 tokens.
Published: 6.1 GB model, 0.9 GB data (SAT, CV-Bench); 9 GB of disk, 4 GB of memory, 9.7 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from spatialvlm import cli
from spatialvlm.errors import require_at_least
from spatialvlm.models import loading
from spatialvlm.papers.sat import ExperimentArgs, SATExperiment, training_set
from spatialvlm.tasks.clevr import thoughts
from spatialvlm.training import loop, sft


@dataclass
class Args(ExperimentArgs, sft.SFTArgs):
    run_name: str = field(default="sft", metadata={"help": "first part of the run folder's name"})
    eval_max_new_tokens: int | None = field(
        default=None,
        metadata={"help": "longest answer to the test, in tokens; 16, or 256 where thoughts are learnt"},
    )

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        require_at_least(1, eval_max_new_tokens=self.eval_max_new_tokens)


def main(args: Args) -> None:
    args.check()
    train_set = training_set(args, with_thoughts=True)
    model, processor = loading.load(args, train_adapter=True)
    longest = args.eval_max_new_tokens or (thoughts.MAX_NEW_TOKENS if thoughts.are_in(train_set) else 16)
    experiment = SATExperiment("pali_sat_sft", args, model, longest, train_set)
    base = experiment.test_base(model, processor)

    model = loop.add_adapter(model, args)
    trainer = sft.Trainer(model, processor, train_set, args)
    loop.train(trainer, experiment.log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "pali_sat_sft.yaml"))
