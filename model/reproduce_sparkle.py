"""Sparkle in small: base, SFT, GRPO and each capability alone, on basic and composite tests, into RESULTS.md.

python model/reproduce_sparkle.py                      # embedded, on 2 CPU cores
python model/reproduce_sparkle.py --ablations all      # and the paper's further ablations
python model/reproduce_sparkle.py --profile paper --workers 1
                                                       # the paper's form, on a GPU
python model/reproduce_sparkle.py --sft_steps 4 --grpo_steps 2 --eval_limit 32 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time, each
with its share of the cores. What is done is not done again: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.models import loading
from spatialvlm.papers import sparkle
from spatialvlm.papers.commands import ROOT, Job, run, select
from spatialvlm.reporting import comparison
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.sparkle.published import COMPOSITE

BASE, BLOCKS = "base", ("basic", "composite")
WAYS = {  # name: the configuration, which is the folder's name as well
    "SFT": "sparkle_sft",
    "GRPO": "sparkle_grpo",
    "SFT, direction alone": "sparkle_sft_direction",
    "SFT, distance alone": "sparkle_sft_distance",
    "SFT, localization alone": "sparkle_sft_localization",
}
ABLATIONS = {  # the same, by the name that asks for it
    "without_numbers": "SFT, without numbers",
    "direction_distance": "SFT, without localization",
    "direction_localization": "SFT, without distance",
    "distance_localization": "SFT, without direction",
    "200": "SFT, 200 pictures",
    "500": "SFT, 500 pictures",
    "1000": "SFT, 1,000 pictures",
}


@dataclass
class Args:
    profile: Literal["auto", "embedded", "paper"] = field(
        default="embedded", metadata={"help": "which twin of the configurations"}
    )
    ablations: list[str] = field(
        default_factory=list, metadata={"help": f"also trained: all, or of {' '.join(ABLATIONS)}"}
    )
    seed: int = field(default=0, metadata={"help": "of all trainings"})
    sft_steps: int | None = field(default=None, metadata={"help": "instead of the configurations'"})
    grpo_steps: int | None = field(default=None, metadata={"help": "instead of the configuration's"})
    eval_limit: int = field(default=640, metadata={"help": "test questions of each block, at most"})
    workers: int = field(default=2, metadata={"help": "commands at a time; each has its share of the cores"})
    output_dir: str = field(default="results/reproduce_sparkle", metadata={"help": "where the runs go"})
    results: str = field(
        default=str(ROOT / "RESULTS.md"), metadata={"help": "the file to write the tables into"}
    )


def ways(args: Args, folder: Path) -> dict[str, str]:
    """The ways that are asked for, or were once, and their configurations' names."""
    asked = select("--ablations", args.ablations, ABLATIONS)
    further = {
        way: f"sparkle_sft_{name}"
        for name, way in ABLATIONS.items()
        if name in asked or (folder / f"sparkle_sft_{name}-tested/summary.json").is_file()
    }
    return WAYS | further


def training(args: Args, folder: Path, configs: Collection[str]) -> list[Job]:
    """One command a way; its own test is small, since all are tested alike after."""
    jobs = []
    for config in configs:
        kind = "grpo" if "grpo" in config else "sft"
        steps = args.grpo_steps if kind == "grpo" else args.sft_steps
        path = folder / config
        flags = [
            "--config",
            str(loading.config_for(f"{config}.yaml", args.profile)),
            "--seed",
            str(args.seed),
        ]
        flags += ["--test_base", "false", "--eval_limit", "32", "--output_dir", str(path), "--resume"]
        flags += ["--max_steps", str(steps)] if steps else []
        marks = path / "adapter/adapter_model.safetensors", path / "shuffled/summary.json"
        jobs.append(Job(config, (f"model/sparkle_{kind}.py", *flags), marks))
    return jobs


def tests(args: Args, folder: Path, configs: Collection[str]) -> list[Job]:
    """Basic and composite tests of the base model, and of every way."""
    jobs = []
    for name in (BASE, *configs):
        path = folder / f"{name}-tested"
        flags = ["--profile", args.profile, "--blocks", *BLOCKS, "--limit", str(args.eval_limit)]
        flags += ["--output_dir", str(path)]
        flags += [] if name == BASE else ["--adapter", str(folder / name / "adapter")]
        jobs.append(Job(path.name, ("eval_sparkle.py", *flags), (path / "summary.json",)))
    return jobs


def section(args: Args, folder: Path, trained: Mapping[str, str], commands: int, seconds: float) -> str:
    """The tables, from what the commands left."""
    summaries, records = {}, {}
    for way, name in {BASE: BASE, **trained}.items():
        parts = {block: folder / f"{name}-tested" / block for block in BLOCKS}
        summaries[way] = {
            block: json.loads((part / "summary.json").read_text()) for block, part in parts.items()
        }
        records[way] = {block: read_lines(part / "predictions.jsonl") for block, part in parts.items()}
    sizes = ", ".join(f"{summaries[BASE][block]['n']} {block} questions" for block in BLOCKS)
    machine = f"{os.cpu_count()} CPU cores" if args.profile == "embedded" else "this machine"
    changes = "; ".join(f"{task} {sparkle.published(task)}" for task in COMPOSITE)
    facts = (
        f"`python model/reproduce_sparkle.py` ({args.profile} profile, seed {args.seed}): {commands} "
        f"commands in {seconds / 60:.0f} minutes on {machine}, {args.workers} at a time. {sizes}, percent, "
        "95 % intervals over questions; one seed of training. Sparkle's own figures are of models a thousand "
        "times as large on other pictures, so the question is what carries over, not how high. Its "
        f"published changes: {changes}."
    )
    title = "## Sparkle: basic capabilities and what carries over"
    return f"{title}\n\n{facts}\n\n{sparkle.compared(summaries, records)}"


def main(args: Args) -> None:
    if args.eval_limit < 1:
        raise UserError(f"--eval_limit must be at least 1, not {args.eval_limit}")
    folder = Path(args.output_dir)
    trained = ways(args, folder)
    base, *others = tests(args, folder, trained.values())
    stages = [[*training(args, folder, trained.values()), base], others]
    seconds = run(stages, folder, args.workers)
    text = section(args, folder, trained, sum(map(len, stages)), seconds)
    results = Path(args.results)
    before = results.read_text(encoding="utf-8") if results.is_file() else "# Results\n"
    results.write_text(comparison.replace_section(before, "sparkle", text), encoding="utf-8")
    print(f"{text}\n\nwritten to {results}")


if __name__ == "__main__":
    cli.run(main, Args)
