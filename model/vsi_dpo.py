"""DPO on VSI-100k's questions: vsGRPO's second baseline, the right answer against the same one changed.

python model/vsi_dpo.py                                # GPU: Qwen2-VL 2B on VSI-100k; CPU: embedded, on rooms
python model/vsi_dpo.py --config runs/vsgrpo_7b_dpo.yaml
                                                       # another published run; any flag over it
python model/vsi_dpo.py --resume                       # resumes the newest run
accelerate launch model/vsi_dpo.py                     # several GPUs; runs/accelerate/ has more

The vanilla prompt asks. The wrong answer is another word that could have been the answer, or the right number
more than 20 % off (spatialvlm/tasks/vsi/vsi_100k.py). Same data, adapter, tests and run folder as
model/vsi_grpo.py.
Published: 4.4 GB model, 5.7 GB data (VSI-Bench); 20 GB of disk, 6 GB of memory, 9.0 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from spatialvlm import cli
from spatialvlm.models import loading
from spatialvlm.papers import vsi
from spatialvlm.papers.vsi import VSIArgs, VSIExperiment
from spatialvlm.tasks.vsi import vsi_100k
from spatialvlm.training import dpo, loop


@dataclass
class Args(VSIArgs, dpo.DPOArgs):
    run_name: str = field(default="dpo", metadata={"help": "first part of the run folder's name"})


def main(args: Args) -> None:
    args.check()
    train_set = vsi.training_set(args)
    model, processor = vsi.load_model(args)
    experiment = VSIExperiment("vsi_dpo", args, model, "vanilla", train_set=train_set)
    train_set = vsi.with_prompt(train_set, "vanilla")
    base = experiment.test_base(model, processor)

    model = loop.add_adapter(model, args)
    rejected = partial(vsi_100k.rejected, seed=args.seed)
    trainer = dpo.Trainer(model, processor, train_set, rejected, args)
    loop.train(trainer, experiment.log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "vsgrpo_2b_dpo.yaml"))
