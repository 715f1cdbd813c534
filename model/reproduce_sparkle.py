"""Reproduce Sparkle in small: base, SFT, GRPO, each capability alone, basic and composite, into RESULTS.md.

python model/reproduce_sparkle.py                      # embedded, on 2 CPU cores
python model/reproduce_sparkle.py --seeds 0 1 2        # intervals that cover the seed of the training too
python model/reproduce_sparkle.py --ablations all      # and the paper's further ablations
python model/reproduce_sparkle.py --profile paper --workers 1
                                                       # the paper's form, on a GPU
python model/reproduce_sparkle.py --max_steps 2 --eval_limit 32 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time.
Finished commands are not run again; an interrupted one resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spatialvlm import cli
from spatialvlm.papers import commands, sparkle_study
from spatialvlm.papers.study import Study, StudyArgs


@dataclass
class Args(StudyArgs):
    output_dir: str = field(
        default="results/reproduce_sparkle", metadata={"help": "folder of the study's runs"}
    )


def main(args: Args) -> None:
    study = Study.of(args, sparkle_study.ARMS, sparkle_study.ABLATIONS, sparkle_study.TESTS)
    seconds = study.run(args, ["--full_test", "true"])
    facts = study.facts("model/reproduce_sparkle.py", args, seconds)
    text = sparkle_study.section(sparkle_study.Answers.of(study), facts)
    commands.write_section(args.results, "sparkle", text)


if __name__ == "__main__":
    cli.run(main, Args)
