"""The comparison of GRPO and SFT on SAT: base, GRPO-v1, SFT and GRPO-v2 over several seeds, into RESULTS.md.

python model/reproduce_sat.py                          # embedded: three seeds, an hour on 2 CPU cores
python model/reproduce_sat.py --profile paper --workers 1
                                                       # the published runs, on a GPU: days
python model/reproduce_sat.py --seeds 0 --max_steps 4 --train_limit 64 --eval_limit 40 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time, each
with its share of the cores. What is done is not done again: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.models import loading
from spatialvlm.papers import sat
from spatialvlm.papers.commands import ROOT, Job, run
from spatialvlm.reporting import comparison
from spatialvlm.run_folder import read_lines

GRPO, SFT = "model/pali_sat_grpo.py", "model/pali_sat_sft.py"
WAYS = {  # name: (folder, script, configuration, further flags)
    "GRPO-v1": ("v1", GRPO, "pali_sat_grpo_v1.yaml", ()),
    "SFT": ("sft", SFT, "pali_sat_sft.yaml", ()),
    "GRPO-v2": ("v2", GRPO, "pali_sat_grpo_v2.yaml", ()),
    sat.UNFILTERED: ("v2-unfiltered", GRPO, "pali_sat_grpo_v2.yaml", ("--dynamic_sampling", "false")),
}
PARTS = {"pass1": "trained", "pass1_ood": "trained-ood", "pass4": "trained-pass4"}
PARTS["pass4_ood"] = "trained-pass4-ood"


@dataclass
class Args:
    profile: Literal["auto", "embedded", "paper"] = field(
        default="embedded", metadata={"help": "which twin of the configurations"}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "one run of each way a seed"}
    )
    balanced: bool = field(
        default=True, metadata={"help": "also train with closer and farther asked equally often"}
    )
    workers: int = field(default=2, metadata={"help": "commands at a time; each has its share of the cores"})
    output_dir: str = field(default="results/reproduce_sat", metadata={"help": "where the runs go"})
    results: str = field(
        default=str(ROOT / "RESULTS.md"), metadata={"help": "the file to write the tables into"}
    )
    max_steps: int | None = field(
        default=None, metadata={"help": "instead of the configurations', to try it"}
    )
    train_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations', to try it"}
    )
    eval_limit: int | None = field(default=None, metadata={"help": "test questions; all where not given"})


def base_jobs(args: Args, folder: Path) -> list[Job]:
    """The base model's tests: greedy once, samples for every seed, both as asked and turned."""
    jobs = []
    for turned in (False, True):
        for seed in (None, *args.seeds):
            name = f"{'greedy' if seed is None else f'pass4-seed{seed}'}{'-ood' if turned else ''}"
            flags = ["--profile", args.profile, "--output_dir", str(folder / "base" / name)]
            flags += ["--ood"] if turned else []
            flags += [] if seed is None else ["--num_samples", "4", "--seed", str(seed)]
            flags += ["--limit", str(args.eval_limit)] if args.eval_limit else []
            command = ("eval_paligemma_cvbench.py", *flags)
            jobs.append(Job(f"base/{name}", command, (folder / "base" / name / "summary.json",)))
    return jobs


def training_jobs(args: Args, folder: Path) -> list[Job]:
    """Every way at every seed, and all but the ablation once more with balanced polarity."""
    sizes = {"max_steps": args.max_steps, "train_limit": args.train_limit, "eval_limit": args.eval_limit}
    jobs = []
    for seed in args.seeds:
        for polarity in ("closer", "balanced")[: 1 + args.balanced]:
            for way, (short, script, config, more) in WAYS.items():
                if polarity == "balanced" and way == sat.UNFILTERED:
                    continue
                path = run_folder(folder, short, polarity, seed)
                flags = [
                    "--config",
                    str(loading.config_for(config, args.profile)),
                    "--seed",
                    str(seed),
                    *more,
                ]
                flags += ["--polarity", polarity, "--full_test", "--test_base", "false"]
                flags += ["--output_dir", str(path), "--resume"]
                flags += [word for n, value in sizes.items() if value for word in (f"--{n}", str(value))]
                marks = tuple(path / part / "summary.json" for part in (*PARTS.values(), "shuffled"))
                jobs.append(Job(path.name, (script, *flags), marks))
    return jobs


def run_folder(folder: Path, short: str, polarity: str, seed: int) -> Path:
    return folder / f"{short}{'-balanced' if polarity == 'balanced' else ''}-seed{seed}"


def collect(args: Args, folder: Path, polarity: str) -> dict[str, sat.Way]:
    """The scores of each way at every seed, from the runs' predictions."""

    def part(runs: Sequence[Path]) -> list[comparison.Score]:
        return [comparison.score(read_lines(run / "predictions.jsonl")) for run in runs]

    found = {}
    if polarity == "closer":
        samples = [f"pass4-seed{seed}" for seed in args.seeds]
        names = {"pass1": ["greedy"] * len(args.seeds), "pass4": samples}
        tests = {
            f"{test}{o}": [f"{n}{'-ood' if o else ''}" for n in names[test]]
            for test in names
            for o in ("", "_ood")
        }
        found["base"] = sat.Way(**{test: part([folder / "base" / n for n in tests[test]]) for test in tests})
    for way, (short, *_) in WAYS.items():
        runs = [run_folder(folder, short, polarity, seed) for seed in args.seeds]
        if all(run.is_dir() for run in runs):
            found[way] = sat.Way(**{test: part([run / PARTS[test] for run in runs]) for test in PARTS})
    return found


def facts(args: Args, asked: comparison.Questions, jobs: int, seconds: float) -> str:
    machine = f"{os.cpu_count()} CPU cores" if args.profile == "embedded" else "this machine"
    seeds = ", ".join(map(str, args.seeds))
    return (
        f"`python model/reproduce_sat.py` ({args.profile} profile, seeds {seeds}): {jobs} commands in "
        f"{seconds / 60:.0f} minutes on {machine}, {args.workers} at a time. {len(asked.task_of)} questions, "
        "each task alike in the Total. Intervals are 95 % and hold the choice of questions and the training "
        "seed (`spatialvlm/reporting/comparison.py`). Published figures are of PaliGemma 2 3B on "
        "photographs; ours are of the 5.5 million weights that the repository carries, on rendered scenes: "
        "what can be compared is which way is ahead, not how high."
    )


def main(args: Args) -> None:
    if not args.seeds:
        raise UserError("--seeds needs at least one number")
    folder = Path(args.output_dir)
    jobs = [*training_jobs(args, folder), *base_jobs(args, folder)]
    seconds = run([jobs], folder, args.workers)
    asked = comparison.questions(read_lines(folder / "base/greedy/predictions.jsonl"))
    balanced = collect(args, folder, "balanced") if args.balanced else {}
    section = sat.section(
        collect(args, folder, "closer"), balanced, asked, facts(args, asked, len(jobs), seconds)
    )
    results = Path(args.results)
    before = results.read_text(encoding="utf-8") if results.is_file() else "# Results\n"
    results.write_text(comparison.replace_section(before, "reproduce_sat", section), encoding="utf-8")
    print(f"{section}\n\nwritten to {results}")


if __name__ == "__main__":
    cli.run(main, Args)
