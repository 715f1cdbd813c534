"""Reproduce Sparkle in small: base, SFT, GRPO and each capability alone, basic and composite, into
RESULTS.md.

python model/reproduce_sparkle.py                      # embedded, on 2 CPU cores
python model/reproduce_sparkle.py --ablations all      # and the paper's further ablations
python model/reproduce_sparkle.py --profile paper --workers 1
                                                       # the paper's form, on a GPU
python model/reproduce_sparkle.py --sft_steps 4 --grpo_steps 2 --eval_limit 32 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time.
Finished commands are not run again; an interrupted one resumes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spatialvlm import cli
from spatialvlm.errors import require_at_least
from spatialvlm.papers import commands, sparkle
from spatialvlm.papers.commands import Arm, Job
from spatialvlm.papers.sparkle import ABLATIONS, ARMS, BASE, BLOCKS
from spatialvlm.tasks.sparkle.published import COMPOSITE

NAMES = {arm.folder.removeprefix("sparkle_sft_"): name for name, arm in ABLATIONS.items()}


@dataclass
class Args(commands.StudyArgs):
    profile: Literal["auto", "embedded", "paper"] = field(
        default="embedded", metadata={"help": "embedded model and form, or as published"}
    )
    ablations: list[str] = field(
        default_factory=list, metadata={"help": f"further arms: all, or some of {' '.join(NAMES)}"}
    )
    seed: int = field(default=0, metadata={"help": "of all trainings"})
    output_dir: str = field(
        default="results/reproduce_sparkle", metadata={"help": "folder of the study's runs"}
    )
    sft_steps: int | None = field(default=None, metadata={"help": "instead of the configurations' steps"})
    grpo_steps: int | None = field(default=None, metadata={"help": "instead of the configuration's steps"})
    eval_limit: int = field(default=640, metadata={"help": "maximum test questions per block"})


def arms(args: Args, folder: Path) -> dict[str, Arm]:
    """All arms with the ablations that are selected, or were trained earlier."""
    selected = commands.select("--ablations", args.ablations, NAMES)
    ablations = {
        name: ABLATIONS[name]
        for short, name in NAMES.items()
        if short in selected
        or (sparkle.test_folder(folder, ABLATIONS[name].folder) / "summary.json").is_file()
    }
    return ARMS | ablations


def training(args: Args, folder: Path, trained: Iterable[Arm]) -> list[Job]:
    """One command per arm; its own test is small, since all arms are tested alike afterwards."""
    jobs = []
    for arm in trained:
        steps = args.grpo_steps if "grpo" in arm.script else args.sft_steps
        flags = ["--test_base", "false", "--eval_limit", "32", *commands.as_flags(max_steps=steps)]
        marks = ("adapter/adapter_model.safetensors", "shuffled/summary.json")
        jobs.append(commands.training(arm, folder / arm.folder, args.profile, args.seed, flags, marks))
    return jobs


def test_job(args: Args, folder: Path, name: str) -> Job:
    """Basic and composite tests of the base model, or of an arm."""
    path = sparkle.test_folder(folder, name)
    flags = ["--profile", args.profile, "--blocks", *BLOCKS, "--limit", str(args.eval_limit)]
    flags += ["--output_dir", str(path)]
    flags += [] if name == BASE else ["--adapter", str(folder / name / "adapter")]
    return Job(path.name, ("eval_sparkle.py", *flags), (path / "summary.json",))


def section(args: Args, folder: Path, trained: Mapping[str, Arm], jobs: int, seconds: float) -> str:
    """The tables, from the commands' run folders."""
    tested = sparkle.load_tests(folder, trained)
    sizes = ", ".join(f"{tested[BASE].summaries[block]['n']} {block} questions" for block in BLOCKS)
    machine = f"{os.cpu_count()} CPU cores" if args.profile == "embedded" else "this machine"
    changes = "; ".join(f"{task} {sparkle.published_changes(task)}" for task in COMPOSITE)
    facts = (
        f"`python model/reproduce_sparkle.py` ({args.profile} profile, seed {args.seed}): {jobs} "
        f"commands in {seconds / 60:.0f} minutes on {machine}, {args.workers} at a time. {sizes}, percent, "
        "95 % intervals over questions; one seed of training. Sparkle's own figures are of models a thousand "
        "times as large on other images, so the question is what carries over, not the level. Its published "
        f"changes: {changes}."
    )
    title = "## Sparkle: basic capabilities and what carries over"
    return f"{title}\n\n{facts}\n\n{sparkle.arms_tables(tested)}"


def main(args: Args) -> None:
    require_at_least(1, eval_limit=args.eval_limit)
    folder = Path(args.output_dir)
    trained = arms(args, folder)
    first = [*training(args, folder, trained.values()), test_job(args, folder, BASE)]
    tests = [test_job(args, folder, arm.folder) for arm in trained.values()]
    seconds = commands.run([first, tests], folder, args.workers)
    text = section(args, folder, trained, len(first) + len(tests), seconds)
    commands.write_section(args.results, "sparkle", text)


if __name__ == "__main__":
    cli.run(main, Args)
