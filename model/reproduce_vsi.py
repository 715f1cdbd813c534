"""vsGRPO in small: base, SFT, DPO and vsGRPO-V by family of questions, and open questions, into RESULTS.md.

python model/reproduce_vsi.py                          # embedded: rooms, three trainings, on 2 CPU cores
python model/reproduce_vsi.py --open_questions all     # also KL weights, thoughts, rewards, held-out families
python model/reproduce_vsi.py --max_steps 2 --eval_limit 24 --train_limit 24 --results /dev/null

Every figure comes from a command of its own (`commands.txt` in the output folder), several at a time, each
with its share of the cores. What is done is not done again: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.models import loading
from spatialvlm.papers import vsi
from spatialvlm.papers.commands import ROOT, Job, run, select
from spatialvlm.reporting import comparison
from spatialvlm.tasks.vsi.questions import FAMILIES

V, T = "vsgrpo_2b_v", "vsgrpo_2b_t"
HELD_OUT = ("object_rel_direction", "object_size_estimation")
KEPT = [name for name in FAMILIES if name not in HELD_OUT]
WAYS = {  # name: (folder, script, configuration, further flags)
    "SFT": ("sft", "vsi_sft", "vsgrpo_2b_sft", ()),
    "DPO": ("dpo", "vsi_dpo", "vsgrpo_2b_dpo", ()),
    "vsGRPO-V": ("v", "vsi_grpo", V, ()),
}
OPEN = {  # likewise; thoughts first, since they take longest
    "T, beta 0.0001": ("t", "vsi_grpo", T, ()),
    "T, beta 0": ("t-beta0", "vsi_grpo", T, ("--beta", "0")),
    "T, beta 0.01": ("t-beta1e-2", "vsi_grpo", T, ("--beta", "0.01")),
    "V, beta 0": ("v-beta0", "vsi_grpo", V, ("--beta", "0")),
    "V, beta 0.01": ("v-beta1e-2", "vsi_grpo", V, ("--beta", "0.01")),
    "V, MRA as reward": ("v-mra", "vsi_grpo", V, ("--reward", "mra")),
    "V, four families": ("v-held-out", "vsi_grpo", V, ("--families", *KEPT)),
}
SHORTS = [way[0] for way in OPEN.values()]


@dataclass
class Args:
    open_questions: list[str] = field(
        default_factory=list,
        metadata={"help": f"what the paper leaves open, also trained: all, or of {' '.join(SHORTS)}"},
    )
    seed: int = field(default=0, metadata={"help": "of all trainings"})
    max_steps: int | None = field(
        default=None, metadata={"help": "instead of the configurations', to try it"}
    )
    train_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations', to try it"}
    )
    eval_limit: int | None = field(
        default=None, metadata={"help": "test questions; as configured by default"}
    )
    workers: int = field(default=2, metadata={"help": "commands at a time; each has its share of the cores"})
    output_dir: str = field(default="results/reproduce_vsi", metadata={"help": "where the runs go"})
    results: str = field(
        default=str(ROOT / "RESULTS.md"), metadata={"help": "the file to write the tables into"}
    )


def jobs(args: Args, folder: Path) -> list[Job]:
    """One command a way. The first run with each prompt tests the untrained model too."""
    sizes = {"max_steps": args.max_steps, "train_limit": args.train_limit, "eval_limit": args.eval_limit}
    found = []
    asked = select("--open_questions", args.open_questions, SHORTS)
    for short, script, config, more in (*WAYS.values(), *(way for way in OPEN.values() if way[0] in asked)):
        path = folder / short
        flags = ["--config", str(loading.config_for(f"{config}.yaml", "embedded")), "--seed", str(args.seed)]
        flags += [*more, "--test_base", str(short in ("sft", "t")).lower()]
        flags += ["--output_dir", str(path), "--resume"]
        flags += [word for name, value in sizes.items() if value for word in (f"--{name}", str(value))]
        marks = tuple(path / part / "summary.json" for part in ("trained", "shuffled"))
        found.append(Job(short, (f"model/{script}.py", *flags), marks))
    return found


def section(args: Args, folder: Path, seconds: float) -> str:
    """The tables, from what the commands left, this time or before."""
    after = {
        way: vsi.answers(folder / short / "trained")
        for way, (short, *_) in OPEN.items()
        if (folder / short / "shuffled/summary.json").is_file()
    }
    commands = len(WAYS) + len(after)
    base = vsi.answers(folder / "sft/base")
    trained = {way: vsi.answers(folder / short / "trained") for way, (short, *_) in WAYS.items()}
    shuffled = {way: vsi.answers(folder / short / "shuffled") for way, (short, *_) in WAYS.items()}
    facts = (
        f"`python model/reproduce_vsi.py` (embedded profile, seed {args.seed}): {commands} commands in "
        f"{seconds / 60:.0f} minutes on {os.cpu_count()} CPU cores, {args.workers} at a time. {len(base)} "
        "questions over rendered rooms of the test split, four frames "
        "each, in VSI-100k's form: words by exact match, numbers by their mean relative accuracy; percent, "
        "95 % intervals over questions; one seed of training. The untrained model has learnt to see "
        "furniture, and of these questions only the form of the answer (spatialvlm/embedded/rooms). The "
        "paper's figures are of Qwen2-VL on videos of real rooms: what can be compared is which way is ahead."
    )
    parts = [
        "## vsGRPO on rendered rooms",
        facts,
        vsi.ways_table({"base": base, **trained}),
        vsi.gains_table(base, trained, shuffled),
    ]
    if after:
        parts += open_questions(folder, {"V, beta 0.0001": trained["vsGRPO-V"], **after}, base)
    return "\n\n".join(parts)


def open_questions(folder: Path, ways: dict[str, vsi.Answers], base: vsi.Answers) -> list[str]:
    """What the paper leaves open, as far as its trainings have been made."""
    published = ways["V, beta 0.0001"]
    vanilla = {way: records for way, records in ways.items() if way.startswith("V, beta")}
    thinking = {way: records for way, records in ways.items() if way.startswith("T")}
    course = {way: folder / (OPEN[way][0] if way in OPEN else "v") for way in (*vanilla, *thinking)}
    parts = ["### What the paper leaves open"]
    if missing := [way for way in OPEN if way not in ways]:
        parts.append(f"Not trained here: {'; '.join(missing)}.")
    parts += [
        "Is the KL term needed, and do thoughts become empty? Scores after training, then the course of the "
        "trainings: the first step's completions, and the mean of the last five steps.",
        vsi.ways_table(vanilla),
    ]
    if (folder / "t/base/predictions.jsonl").is_file() and thinking:
        parts.append(vsi.ways_table({"T, base": vsi.answers(folder / "t/base"), **thinking}))
    parts.append(vsi.habits_table(course))
    if mra := ways.get("V, MRA as reward"):
        gain = percent(vsi.change(published, mra), sign=True)
        parts += [
            "Which reward of numbers does better on mean relative accuracy? The change of the mean from the "
            f"relative error's to MRA's: {gain} points.",
            vsi.ways_table({"relative error": published, "MRA": mra}),
        ]
    if kept := ways.get("V, four families"):
        rows = []
        for name, families in (("the four trained on", KEPT), ("the two held out", HELD_OUT)):
            gains = [vsi.change(base, records, families) for records in (published, kept)]
            rows.append([name, *(percent(gain, sign=True) for gain in gains)])
        parts += [
            "Do families that are held out gain? Gains over the untrained model, in points; held out: "
            f"{', '.join(vsi.SHORT[name] for name in HELD_OUT)}.",
            markdown(("", "trained on all six", "trained on four"), rows),
        ]
    return parts


def main(args: Args) -> None:
    for name in ("max_steps", "train_limit"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if args.eval_limit is not None and args.eval_limit < len(FAMILIES):
        raise UserError(f"--eval_limit must be at least {len(FAMILIES)}, a question of each family")
    folder = Path(args.output_dir)
    todo = jobs(args, folder)
    seconds = run([todo], folder, args.workers)
    text = section(args, folder, seconds)
    results = Path(args.results)
    before = results.read_text(encoding="utf-8") if results.is_file() else "# Results\n"
    results.write_text(comparison.replace_section(before, "vsi", text), encoding="utf-8")
    print(f"{text}\n\nwritten to {results}")


if __name__ == "__main__":
    cli.run(main, Args)
