"""Reproduce GRPO against SFT on SAT: base, GRPO-v1, SFT and GRPO-v2 over several seeds, into RESULTS.md.

python model/reproduce_sat.py                          # embedded: three seeds, an hour on 2 CPU cores
python model/reproduce_sat.py --profile paper --workers 1
                                                       # the published runs, on a GPU: days
python model/reproduce_sat.py --seeds 0 --max_steps 4 --train_limit 64 --eval_limit 40 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time.
Finished commands are not run again; an interrupted one resumes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.papers import commands, sat
from spatialvlm.papers.commands import Job
from spatialvlm.reporting import comparison
from spatialvlm.run_folder import read_lines


@dataclass
class Args(commands.StudyArgs):
    profile: Literal["auto", "embedded", "paper"] = field(
        default="embedded", metadata={"help": "embedded model and rendered scenes, or as published"}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "one run of each arm per seed"}
    )
    balanced: bool = field(
        default=True, metadata={"help": "also train with closer and farther asked equally often"}
    )
    output_dir: str = field(default="results/reproduce_sat", metadata={"help": "folder of the study's runs"})
    max_steps: int | None = field(default=None, metadata={"help": "instead of the configurations' steps"})
    train_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations' training questions"}
    )
    eval_limit: int | None = field(default=None, metadata={"help": "test questions; all by default"})


def base_jobs(args: Args, folder: Path) -> list[Job]:
    """The base model's tests: greedy once, samples at every seed, both original and polarity-flipped."""
    jobs = {}
    for test in sat.TESTS:
        for seed in args.seeds:
            path = sat.base_folder(folder, test, seed)
            flags = ["--profile", args.profile, "--output_dir", str(path)]
            flags += ["--ood"] if test.endswith("ood") else []
            flags += ["--num_samples", "4", "--seed", str(seed)] if test.startswith("pass4") else []
            flags += commands.as_flags(limit=args.eval_limit)
            command = ("eval_paligemma_cvbench.py", *flags)
            jobs[path] = Job(f"base/{path.name}", command, (path / "summary.json",))
    return list(jobs.values())


def training_jobs(args: Args, folder: Path) -> list[Job]:
    """Every arm at every seed, and again with balanced polarity (but for the ablation)."""
    sizes = commands.as_flags(
        max_steps=args.max_steps, train_limit=args.train_limit, eval_limit=args.eval_limit
    )
    marks = [f"{part}/summary.json" for part in (*sat.TESTS.values(), "shuffled")]
    jobs = []
    for seed in args.seeds:
        for polarity in ("closer", "balanced") if args.balanced else ("closer",):
            for name, arm in sat.ARMS.items():
                if polarity == "balanced" and name == sat.UNFILTERED:
                    continue
                path = sat.run_folder(folder, arm, seed, polarity)
                flags = ["--polarity", polarity, "--full_test", "--test_base", "false", *sizes]
                jobs.append(commands.training(arm, path, args.profile, seed, flags, marks))
    return jobs


def facts(args: Args, questions: int, jobs: int, seconds: float) -> str:
    machine = f"{os.cpu_count()} CPU cores" if args.profile == "embedded" else "this machine"
    seeds = ", ".join(map(str, args.seeds))
    return (
        f"`python model/reproduce_sat.py` ({args.profile} profile, seeds {seeds}): {jobs} commands in "
        f"{seconds / 60:.0f} minutes on {machine}, {args.workers} at a time. {questions} questions, "
        "each task "
        "with equal weight in the Total. Intervals are 95 % and cover the choice of questions and the "
        "training "
        "seed (`spatialvlm/reporting/comparison.py`). Published figures are of PaliGemma 2 3B on "
        "photographs; "
        "ours are of the 5.5 million weights that the repository carries, on rendered scenes: what can be "
        "compared is which arm is ahead, not the level."
    )


def main(args: Args) -> None:
    if not args.seeds:
        raise UserError("--seeds needs at least one number")
    folder = Path(args.output_dir)
    jobs = [*training_jobs(args, folder), *base_jobs(args, folder)]
    seconds = commands.run([jobs], folder, args.workers)
    questions = comparison.questions(read_lines(folder / "base/greedy/predictions.jsonl"))
    closer = sat.load_scores(folder, args.seeds)
    balanced = sat.load_scores(folder, args.seeds, "balanced") if args.balanced else {}
    text = facts(args, len(questions.task_of), len(jobs), seconds)
    commands.write_section(args.results, "reproduce_sat", sat.section(closer, balanced, questions, text))


if __name__ == "__main__":
    cli.run(main, Args)
