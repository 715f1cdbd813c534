"""Reproduce GRPO against SFT on SAT: base, GRPO-v1, SFT and GRPO-v2 over several seeds, into RESULTS.md.

python model/reproduce_sat.py                          # embedded: three seeds, half an hour on 2 CPU cores
python model/reproduce_sat.py --ablations all          # also without dynamic sampling, and balanced polarity
python model/reproduce_sat.py --profile paper --workers 1
                                                       # the published runs, on a GPU: days
python model/reproduce_sat.py --seeds 0 --max_steps 4 --train_limit 64 --eval_limit 40 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time.
Finished commands are not run again; an interrupted one resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spatialvlm import cli
from spatialvlm.papers import commands, sat_study
from spatialvlm.papers.study import Study, StudyArgs


@dataclass
class Args(StudyArgs):
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "one run of each arm per seed"}
    )
    output_dir: str = field(default="results/reproduce_sat", metadata={"help": "folder of the study's runs"})


def main(args: Args) -> None:
    study = Study.of(args, sat_study.ARMS, sat_study.ABLATIONS, sat_study.TESTS)
    seconds = study.run(args, ["--full_test", "true"])
    facts = study.facts("model/reproduce_sat.py", args, seconds)
    text = sat_study.section(sat_study.Answers.of(study), facts)
    commands.write_section(args.results, "reproduce_sat", text)


if __name__ == "__main__":
    cli.run(main, Args)
