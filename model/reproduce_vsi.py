"""Reproduce vsGRPO in small: base, SFT, DPO and vsGRPO-V by family of questions, into RESULTS.md.

python model/reproduce_vsi.py                          # embedded: rendered rooms, three trainings
python model/reproduce_vsi.py --seeds 0 1 2            # intervals that cover the seed of the training too
python model/reproduce_vsi.py --ablations all          # also KL weights, thoughts, rewards, held-out families
python model/reproduce_vsi.py --max_steps 2 --eval_limit 24 --train_limit 24 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time.
Finished commands are not run again; an interrupted one resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.papers import commands, vsi_study
from spatialvlm.papers.study import Study, StudyArgs
from spatialvlm.tasks.vsi.questions import FAMILIES


@dataclass
class Args(StudyArgs):
    output_dir: str = field(default="results/reproduce_vsi", metadata={"help": "folder of the study's runs"})


def main(args: Args) -> None:
    if args.eval_limit is not None and args.eval_limit < len(FAMILIES):
        raise UserError(f"--eval_limit must be at least {len(FAMILIES)}, a question of each family")
    study = Study.of(args, vsi_study.ARMS, vsi_study.ABLATIONS)
    seconds = study.run(args)
    text = vsi_study.section(study, study.facts("model/reproduce_vsi.py", args, seconds))
    commands.write_section(args.results, "vsi", text)


if __name__ == "__main__":
    cli.run(main, Args)
