"""GRPO on SAT-style questions: PaliGemma 2 learns spatial reasoning from right and wrong alone.

python model/pali_sat_grpo.py                          # GPU: PaliGemma 2 3B on SAT, as published (v2)
                                                       # CPU: the embedded model on rendered scenes
python model/pali_sat_grpo.py --answer_form natural    # the paper's form: answers in words
python model/pali_sat_grpo.py --data path/to/clevr     # real CLEVR images, official folder form
python model/pali_sat_grpo.py --data path/to/sat.parquet
                                                       # SAT's own files
accelerate launch model/pali_sat_grpo.py               # several GPUs

Prints CV-Bench accuracy before and after with 95 % intervals, and below it the trained model with the images
shuffled among the questions: what it scores without looking. Embedded: 4 to 7 minutes on 2 CPU cores.
Published settings need a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from accelerate import PartialState

from spatialvlm import cli, evaluate, grpo, metrics, models, rewards
from spatialvlm.controls import shuffle_images
from spatialvlm.data import clevr, cvbench, rendered, sat
from spatialvlm.example import Example
from spatialvlm.metrics import Record
from spatialvlm.results import Run, fresh_folder

# What the profiles differ in besides model and data: the small model needs larger steps, and fewer.
EMBEDDED = {
    "data": "embedded",
    "eval_data": "embedded",
    "answer_form": "letter",
    "train_limit": 4_000,
    "learning_rate": 2e-4,
    "max_steps": 60,
    "prompts_per_device": 16,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 6,
}
PAPER = {"data": "array/SAT", "train_limit": 15_000, "eval_data": cvbench.HUB_ID, "answer_form": "natural"}


@dataclass
class Args(models.ModelArgs, grpo.GRPOArgs):
    data: str | None = field(
        default=None, metadata={"help": "SAT rows (hub id, file, folder), a CLEVR folder, or 'embedded'"}
    )
    train_limit: int | None = field(default=None, metadata={"help": "training questions; by profile"})
    answer_form: Literal["natural", "letter", "mixed"] | None = field(
        default=None, metadata={"help": "natural (the choice's text), letter, or mixed; by profile"}
    )
    polarity: Literal["closer", "balanced"] = field(
        default="closer", metadata={"help": "of depth and distance; balanced asks for farther as often"}
    )
    eval_data: str | None = field(default=None, metadata={"help": "CV-Bench rows, or 'embedded'; by profile"})
    eval_limit: int | None = field(default=None, metadata={"help": "test questions; all where not given"})
    eval_batch_size: int = field(default=64, metadata={"help": "test questions at a time"})
    output_dir: str | None = field(default=None, metadata={"help": "run folder; results/pali_sat_grpo/..."})
    # None = by profile: the published figure of GRPOArgs, or the embedded one above
    learning_rate: float | None = field(default=None, metadata={"help": "of AdamW; by profile"})
    max_steps: int | None = field(default=None, metadata={"help": "optimizer steps; by profile"})
    prompts_per_device: int | None = field(default=None, metadata={"help": "prompts of one forward pass"})
    gradient_accumulation_steps: int | None = field(default=None, metadata={"help": "passes a step"})
    max_completion_length: int | None = field(default=None, metadata={"help": "tokens of a completion"})


def fill_in(args: Args) -> None:
    """Gives what the user left open its profile's value."""
    profile, _ = models.resolve_profile(args)
    published = {f.name: f.default for f in fields(grpo.GRPOArgs)}
    for name, value in (published | PAPER | (EMBEDDED if profile == "embedded" else {})).items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def training_examples(args: Args) -> Sequence[Example]:
    if args.data == "embedded":
        return rendered.sat(
            "train", args.train_limit, args.seed, args.answer_form, args.polarity, share_scenes=True
        )
    if clevr.is_official_folder(args.data):
        return clevr.load_sat(args.data, args.train_limit, args.answer_form, args.polarity, seed=args.seed)
    return sat.load(args.data, "train", args.train_limit, args.answer_form, seed=args.seed)


def test(name: str, model, processor, examples: Sequence[Example], folder: Path, args: Args) -> list[Record]:
    """Greedy answers to the test, written to the run folder's part `name`."""
    started = time.monotonic()
    records = evaluate.predict(
        model, processor, examples, batch_size=args.eval_batch_size, progress=f"test, {name}"
    )
    run = Run(folder / name, asdict(args) | {"evaluated": name})
    run.add_predictions(records)
    summary = evaluate.summarize(records, cvbench.aggregate, evaluate.read_choice, "cvbench")
    seconds = time.monotonic() - started
    run.write_summary(summary | {"seconds": seconds, "peak_memory_bytes": evaluate.peak_memory_bytes()})
    return records


def comparison(base: list[Record], trained: list[Record], shuffled: list[Record]) -> str:
    """The paper's table: accuracy by task and their mean (the paper's Total), base against trained."""

    def rows(records: list[Record]) -> dict[str, metrics.Estimate]:
        return metrics.by_task(records) | {"Total": metrics.mean_of_tasks(records)}

    def percent(estimate: metrics.Estimate, sign: str = "") -> str:
        low, high = estimate.interval
        return f"{100 * estimate.value:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"

    gains = metrics.compare(base, trained)
    gains["Total"] = gains["mean_of_tasks"]
    before, after, blind = rows(base), rows(trained), rows(shuffled)
    line = "{:<10}{:>6}  {:<22}{:<22}{:<25}"
    lines = [line.format("CV-Bench", "n", "base", "trained", "difference").rstrip()]
    for task in before:
        cells = percent(before[task]), percent(after[task]), percent(gains[task], "+")
        lines.append(line.format(task, before[task].n, *cells).rstrip())
    lines += ["", line.format("images shuffled", "", "", "trained", "").rstrip()]
    lines += [line.format(task, blind[task].n, "", percent(blind[task]), "").rstrip() for task in blind]
    return "\n".join([*lines, "percent, 95 % intervals; Total is the mean of the four tasks"])


def main(args: Args) -> None:
    fill_in(args)
    args.check()
    train_set = training_examples(args)
    test_set = cvbench.load(args.eval_data, limit=args.eval_limit)
    model, processor = models.load(args, train_adapter=True)
    main_process = PartialState().is_main_process
    folder = fresh_folder(args.output_dir or f"results/pali_sat_grpo/{args.answer_form}-seed{args.seed}")
    train_set = rendered.drawn(train_set)
    if main_process:
        run = Run(folder, asdict(args))
        test_set = rendered.drawn(test_set)
        base = test("base", model, processor, test_set, folder, args)

    if not args.adapter:
        model = models.add_lora(
            model, args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules, args.lora_scope
        )
    log = (lambda row: run.log(**row)) if main_process else None
    grpo.train(model, processor, train_set, rewards.accuracy, args, log)
    if not main_process:
        return
    models.save_adapter(model, folder / "adapter")

    trained = test("trained", model, processor, test_set, folder, args)
    shuffled = test("shuffled", model, processor, shuffle_images(test_set, args.seed), folder, args)
    print(f"\n{comparison(base, trained, shuffled)}\nwritten to {folder}")


if __name__ == "__main__":
    cli.run(main, Args)
