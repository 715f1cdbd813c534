"""The cost of a GRPO step and of an evaluation, as sections of RESULTS.md.

python benchmarks/grpo_step.py --profile_step             # first: writes its figures to results/benchmarks/
python tools/measured.py                                  # then: both sections, with memory planned again
python benchmarks/eval_throughput.py                      # likewise for evaluation, with the file named:
python tools/measured.py --throughput results/benchmarks/eval_throughput.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import memory

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.evaluation.tables import markdown
from spatialvlm.models import loading
from spatialvlm.reporting.comparison import replace_section

ROOT = Path(__file__).resolve().parents[1]
PLANNED = {  # row of the table -> published configuration, and changes to it
    "GRPO-v1": ("pali_sat_grpo_v1.yaml", {}),
    "GRPO-v2": ("pali_sat_grpo_v2.yaml", {}),
    "GRPO-v2, G = 14": ("pali_sat_grpo_v2.yaml", {"num_generations": 14}),
    "GRPO-v2, G = 14, checkpointing": (
        "pali_sat_grpo_v2.yaml",
        {"num_generations": 14, "gradient_checkpointing": True},
    ),
    "GRPO-v2, 4 bit": ("pali_sat_grpo_v2.yaml", {"load_in_4bit": True}),
    "SFT": ("pali_sat_sft.yaml", {}),
    "SFT, no checkpointing": ("pali_sat_sft.yaml", {"gradient_checkpointing": False}),
}
PLAIN_TRL_OURS = """\
*plain* is one row per completion with `generate`, as in the published scripts; *trl* is GRPOTrainer with the
smallest subclass that corrects its masks; *ours* computes the prompt once per group. All three compute the
same thing, which is checked first."""
PLAIN_LOOP = """\
`python benchmarks/eval_throughput.py`. *plain* opens and resizes the images of 10 questions, generates, and
does all of that again for every sample, as the published notebook does; *ours* computes a prompt once for all
samples, and batches prompts of equal length."""
HOW_PLANNED = """\
Planned; measured so far at GRPO-v2's one setting ("On a GPU", above). PaliGemma 2 3B in float16, 256 image
tokens and 80 of text, the longest completions; the step itself runs on tensors without content and every
byte is counted (`python tools/memory.py --config runs/...`). On the CPU the plan agrees with measured peaks
within 10 % (tests/tools/test_memory.py). A card needs 0.6 GiB more for the CUDA context. Below, every
configuration in runs/ and every evaluation as it is by default (`python tools/memory.py --all`): images and
video frames with the most pixels."""


@dataclass
class Args:
    benchmark: list[str] = field(
        default_factory=lambda: ["results/benchmarks/grpo_step.json"],
        metadata={"help": "JSON files of benchmarks/grpo_step.py"},
    )
    throughput: list[str] = field(
        default_factory=list,
        metadata={"help": "JSON files of benchmarks/eval_throughput.py; writes only that section"},
    )
    results: str = field(
        default=str(ROOT / "RESULTS.md"), metadata={"help": "Markdown file that gets the sections"}
    )


def speed(report: Mapping) -> str:
    """Format one run of the benchmark: command, medians, ratios, and the phases of our step."""
    arguments, versions = report["arguments"], report["versions"]
    load = " to ".join(f"{report[when][0]:.1f}" for when in ("load_before", "load_after"))
    dtype, rate = report["dtype"].removeprefix("torch."), report["matrix_flops_per_second"] / 1e9
    libraries = ", ".join(f"{name} {versions.get(name, 'none')}" for name in ("torch", "transformers", "trl"))
    parts = [
        f"`python benchmarks/{' '.join(report['command'])}`: {report['device']}, {report['threads']} "
        f"threads, {dtype}, {rate:,.0f} GFLOP/s in a large matrix product; {libraries}; load {load}. "
        f"{arguments['prompts']} prompts per step, {arguments['completion_length']} tokens per completion, "
        f"medians of {arguments['steps']} interleaved steps."
    ]
    rows = []
    for result in report["results"]:
        for name, way in result["ways"].items():
            seconds = way["seconds"]
            rows.append(
                [
                    str(result["num_generations"]),
                    name,
                    f"{way['median']:.3f} ({min(seconds):.3f} to {max(seconds):.3f})",
                    f"{way['completion_tokens_per_second']:.0f}",
                    _fraction(way["matrix_share"]),
                    f"{way['peak_memory_bytes'] / 1e9:.2f}" if "peak_memory_bytes" in way else "-",
                    f"**{result['ratios'][name]:.2f}**" if "ratios" in result else "-",
                ]
            )
    header = ["G", "method", "seconds per step", "tokens/s", "of the matrix rate", "peak, GB", "over ours"]
    parts.append(markdown(header, rows))
    found = [
        f"G = {result['num_generations']}: "
        + "; ".join(
            f"{name} {', '.join(f'{what} {value:.0e}' for what, value in differences.items())}"
            for name, differences in result["agreement"].items()
        )
        for result in report["results"]
    ]
    parts.append("Differences on the same completions, before timing. " + ". ".join(found) + ".")
    parts += [_profile(result) for result in report["results"] if "profile" in result]
    return "\n\n".join(parts)


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _profile(result: Mapping) -> str:
    phases, floor = result["profile"]["phases"], result["profile"]["floor"]
    total = sum(phases.values())
    rows = [
        [
            phase,
            f"{seconds:.3f}",
            f"{100 * seconds / total:.0f} %",
            f"{floor[phase]:.3f}" if phase in floor else "-",
        ]
        for phase, seconds in phases.items()
    ]
    rows.append(["all", f"{total:.3f}", "100 %", f"{sum(floor.values()):.3f}" if floor else "-"])
    title = (
        f"Our step at G = {result['num_generations']}; the floor is its multiplications at the matrix rate:"
    )
    return f"{title}\n\n" + markdown(["phase", "seconds", "fraction", "floor"], rows)


def plans() -> dict[str, memory.Plan]:
    """Plan the published runs at the 3B shape in float16, as on a T4 or V100."""
    found = {}
    for row, (config, changes) in PLANNED.items():
        args = memory.parsed(memory.script_of(config), "--config", str(loading.RUNS / config))
        found[row] = memory.plan(replace(args, dtype="float16", device="cuda", **changes))
    return found


def memory_section(planned: Mapping[str, memory.Plan]) -> str:
    """Format gigabytes by phase for each plan, and whether it fits the cards."""
    names = ("evaluation", "sampling", "reference", "forward", "backward", "update")
    rows = []
    for row, made in planned.items():
        totals = made.totals
        cells = [f"{totals[phase] / 1e9:.2f}" if phase in totals else "-" for phase in names]
        step, most = made.highest("evaluation")[1], made.highest()[1]
        fits = ["yes" if most + memory.CUDA_CONTEXT <= size * 2**30 else "no" for size in (14.56, 15.77)]
        rows.append([row, *cells, f"**{step / 1e9:.2f}**", *fits])
    header = ["GB", *names, "highest of a step", "fits a T4", "fits a V100"]
    return markdown(header, rows)


def all_section() -> str:
    """Format the highest moment of every configuration and evaluation, and the cards that hold it."""
    rows = []
    for name, made in memory.planned():
        phase, peak = made.highest()
        fits = ["yes" if fits else "no" for fits in memory.fitting(peak).values()]
        rows.append([f"`{name}`", phase, f"{peak / 1e9:.1f}", *fits])
    return markdown(["configuration, or script by default", "highest in", "GB", *memory.CARDS], rows)


def throughput(report: Mapping) -> str:
    """Format one run of the evaluation benchmark: speed of both methods, or memory by size."""
    arguments = report["arguments"]
    if "peak_memory_bytes" in report:
        held = (f"{int(n):,}: {held / 1e6:,.0f} MB" for n, held in report["peak_memory_bytes"].items())
        return f"Peak memory of an evaluation, by number of questions: {', '.join(held)}."
    rows = [
        [
            name,
            f"{way['median']:.2f} ({min(way['seconds']):.2f} to {max(way['seconds']):.2f})",
            f"{way['questions_per_second']:.1f}",
            _fraction(way["matrix_share"]),
            f"**{way['speedup']:.2f}**",
        ]
        for name, way in report["ways"].items()
    ]
    k, same = arguments["num_samples"], report["agreement"]
    facts = (
        f"{report['device']}, the {arguments['shape']} model, {arguments['questions']} questions, "
        f"{'greedy' if k == 1 else f'{k} samples each'}, medians of {arguments['rounds']} interleaved "
        f"rounds; greedy answers: {same['same']} of {same['of']} the same with both."
    )
    header = ["method", "seconds", "questions/s", "of the matrix rate", "over plain"]
    return f"{facts}\n\n{markdown(header, rows)}"


def section(title: str, facts: str, parts: Sequence[str]) -> str:
    return "\n\n".join([f"## {title}", facts, *parts])


def _reports(names: Sequence[str], flag: str) -> dict[str, dict]:
    """Load the files, by their names in words."""
    found = {}
    for name in names:
        if not Path(name).is_file():
            raise UserError(f"--{flag} {name}: no such file; run the benchmark first")
        found[Path(name).stem.replace("_", " ")] = json.loads(Path(name).read_text(encoding="utf-8"))
    return found


def main(args: Args) -> None:
    if args.throughput:
        parts = [throughput(report) for report in _reports(args.throughput, "throughput").values()]
        found = {"throughput": section("Evaluation speed", PLAIN_LOOP, parts)}
    else:
        steps = _reports(args.benchmark, "benchmark").items()
        parts = [f"### {name}\n\n{speed(report)}" for name, report in steps]
        found = {
            "speed": section("A GRPO step, three methods", PLAIN_TRL_OURS, parts),
            "memory": section(
                "Memory of the published runs", HOW_PLANNED, [memory_section(plans()), all_section()]
            ),
        }
    path = Path(args.results)
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Results\n"
    for name, content in found.items():
        text = replace_section(text, name, content)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    cli.run(main, Args)
