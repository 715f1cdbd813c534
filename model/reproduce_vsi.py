"""Reproduce vsGRPO in small: base, SFT, DPO and vsGRPO-V by family, and open questions, into RESULTS.md.

python model/reproduce_vsi.py                          # embedded: rooms, three trainings, on 2 CPU cores
python model/reproduce_vsi.py --open_questions all     # also KL weights, thoughts, rewards, held-out families
python model/reproduce_vsi.py --max_steps 2 --eval_limit 24 --train_limit 24 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time.
Finished commands are not run again; an interrupted one resumes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from spatialvlm import cli
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.papers import commands, vsi
from spatialvlm.papers.vsi import ARMS, OPEN_ARMS
from spatialvlm.tasks.vsi.questions import FAMILIES

FOLDERS = [arm.folder for arm in OPEN_ARMS.values()]
PUBLISHED = "V, beta 0.0001"  # vsGRPO-V, among the open questions


@dataclass
class Args(commands.StudyArgs):
    open_questions: list[str] = field(
        default_factory=list,
        metadata={"help": f"further arms, which the paper leaves open: all, or some of {' '.join(FOLDERS)}"},
    )
    seed: int = field(default=0, metadata={"help": "of all trainings"})
    output_dir: str = field(default="results/reproduce_vsi", metadata={"help": "folder of the study's runs"})
    max_steps: int | None = field(default=None, metadata={"help": "instead of the configurations' steps"})
    train_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations' training questions"}
    )
    eval_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations' test questions"}
    )


def jobs(args: Args, folder: Path) -> list[commands.Job]:
    """One command per arm. The first run with each prompt tests the untrained model too."""
    sizes = commands.as_flags(
        max_steps=args.max_steps, train_limit=args.train_limit, eval_limit=args.eval_limit
    )
    selected = commands.select("--open_questions", args.open_questions, FOLDERS)
    arms = [*ARMS.values(), *(arm for arm in OPEN_ARMS.values() if arm.folder in selected)]
    marks = ("trained/summary.json", "shuffled/summary.json")
    return [
        commands.training(
            arm,
            folder / arm.folder,
            "embedded",
            args.seed,
            ["--test_base", str(arm.folder in ("sft", "t")).lower(), *sizes],
            marks,
        )
        for arm in arms
    ]


def section(args: Args, folder: Path, seconds: float) -> str:
    """The tables, from the runs that are complete."""
    further = {
        name: vsi.answers(folder / arm.folder / "trained")
        for name, arm in OPEN_ARMS.items()
        if (folder / arm.folder / "shuffled/summary.json").is_file()
    }
    base = vsi.answers(folder / "sft/base")
    trained = {name: vsi.answers(folder / arm.folder / "trained") for name, arm in ARMS.items()}
    shuffled = {name: vsi.answers(folder / arm.folder / "shuffled") for name, arm in ARMS.items()}
    facts = (
        f"`python model/reproduce_vsi.py` (embedded profile, seed {args.seed}): {len(ARMS) + len(further)} "
        f"commands in {seconds / 60:.0f} minutes on {os.cpu_count()} CPU cores, {args.workers} at a time. "
        f"{len(base)} questions over rendered rooms of the test split, four frames each, in VSI-100k's form: "
        "words by exact match, numbers by their mean relative accuracy; percent, 95 % intervals over "
        "questions; one seed of training. The untrained model has learnt to see furniture, and of these "
        "questions only the form of the answer (spatialvlm/embedded/rooms). The paper's figures are of "
        "Qwen2-VL on videos of real rooms: what can be compared is which arm is ahead."
    )
    parts = [
        "## vsGRPO on rendered rooms",
        facts,
        vsi.arms_table({"base": base, **trained}),
        vsi.gains_table(base, trained, shuffled),
    ]
    if further:
        parts += open_questions(folder, {PUBLISHED: trained["vsGRPO-V"], **further}, base)
    return "\n\n".join(parts)


def open_questions(folder: Path, arms: dict[str, vsi.Answers], base: vsi.Answers) -> list[str]:
    """What the paper leaves open, as far as its arms are trained."""
    published = arms[PUBLISHED]
    vanilla = {name: records for name, records in arms.items() if name.startswith("V, beta")}
    thinking = {name: records for name, records in arms.items() if name.startswith("T")}
    folders = {PUBLISHED: folder / "v"} | {name: folder / arm.folder for name, arm in OPEN_ARMS.items()}
    parts = ["### What the paper leaves open"]
    if missing := [name for name in OPEN_ARMS if name not in arms]:
        parts.append(f"Not trained here: {'; '.join(missing)}.")
    parts += [
        "Is the KL term needed, and do thoughts become empty? Scores after training, then the course of the "
        "trainings: the first step's completions, and the mean of the last five steps.",
        vsi.arms_table(vanilla),
    ]
    if (folder / "t/base/predictions.jsonl").is_file() and thinking:
        parts.append(vsi.arms_table({"T, base": vsi.answers(folder / "t/base"), **thinking}))
    parts.append(vsi.courses_table({name: folders[name] for name in (*vanilla, *thinking)}))
    if mra := arms.get("V, MRA as reward"):
        parts += [
            "Which reward of numbers does better on mean relative accuracy? The change of the mean from the "
            f"relative error's to MRA's: {percent(vsi.change(published, mra), sign=True)} points.",
            vsi.arms_table({"relative error": published, "MRA": mra}),
        ]
    if kept := arms.get("V, four families"):
        rows = []
        for name, families in (
            ("the four trained on", vsi.KEPT_FAMILIES),
            ("the two held out", vsi.HELD_OUT),
        ):
            gains = [vsi.change(base, records, families) for records in (published, kept)]
            rows.append([name, *(percent(gain, sign=True) for gain in gains)])
        parts += [
            "Do held-out families gain? Gains over the untrained model, in points; held out: "
            f"{', '.join(vsi.SHORT[name] for name in vsi.HELD_OUT)}.",
            markdown(("", "trained on all six", "trained on four"), rows),
        ]
    return parts


def main(args: Args) -> None:
    require_at_least(1, max_steps=args.max_steps, train_limit=args.train_limit)
    if args.eval_limit is not None and args.eval_limit < len(FAMILIES):
        raise UserError(f"--eval_limit must be at least {len(FAMILIES)}, a question of each family")
    folder = Path(args.output_dir)
    seconds = commands.run([jobs(args, folder)], folder, args.workers)
    commands.write_section(args.results, "vsi", section(args, folder, seconds))


if __name__ == "__main__":
    cli.run(main, Args)
