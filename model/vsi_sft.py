"""SFT on VSI-100k's questions: vsGRPO's first baseline, which learns from the right answers themselves.

python model/vsi_sft.py                                # GPU: Qwen2-VL 2B on VSI-100k; CPU: embedded, on rooms
python model/vsi_sft.py --config runs/vsgrpo_7b_sft.yaml
                                                       # another published run; any flag over it
python model/vsi_sft.py --resume                       # resumes the newest run
accelerate launch model/vsi_sft.py                     # several GPUs; runs/accelerate/ has more

The vanilla prompt asks, and the loss is on the answer and its end token alone. Same data, adapter, tests and
run folder as model/vsi_grpo.py.
Published: 4.4 GB model, 5.7 GB data (VSI-Bench); 20 GB of disk, 6 GB of memory, 9.0 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from spatialvlm import cli
from spatialvlm.models import loading
from spatialvlm.papers import vsi
from spatialvlm.papers.vsi import VSIArgs, VSIExperiment
from spatialvlm.training import loop, sft


@dataclass
class Args(VSIArgs, sft.SFTArgs):
    run_name: str = field(default="sft", metadata={"help": "first part of the run folder's name"})


def main(args: Args) -> None:
    args.check()
    train_set = vsi.training_set(args)
    model, processor = vsi.load_model(args)
    experiment = VSIExperiment("vsi_sft", args, model, "vanilla", train_set=train_set)
    train_set = vsi.with_prompt(train_set, "vanilla")
    base = experiment.test_base(model, processor)

    model = loop.add_adapter(model, args)
    trainer = sft.Trainer(model, processor, train_set, args)
    loop.train(trainer, experiment.log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "vsgrpo_2b_sft.yaml"))
