"""One GRPO step in three ways, side by side: one row per completion (plain), trl's GRPOTrainer (trl), ours.

python benchmarks/grpo_step.py                          # small PaliGemma 2, G = 4 and 14: minutes on a CPU
python benchmarks/grpo_step.py --profile_step           # and where our step's time goes
python benchmarks/grpo_step.py --shape qwen2-vl-small --num_generations 14   # videos of 8 frames; without trl
python benchmarks/grpo_step.py --shape paligemma2-3b    # for a GPU: the 3B shape, random weights, bfloat16
python benchmarks/grpo_step.py --shape paligemma2-3b --ways plain ours --dtype float16
python benchmarks/grpo_step.py --shape paligemma2-3b --decoder_layers 1 --vision_layers 1 --prompts 1
                                                        # that path on a CPU: 3B's width, one layer each

A step is sampling, rewards, reference, policy, backward and update, with GRPO-v2's settings (LoRA r 16 on the
decoder's linear layers, beta 0.01, one prompt a pass), on the same prompts (256 image tokens, 22 to 51 of
text), the same model, and the same number of completions of the same length. `workload.py` says how that is
brought about, and that dropout is 0. First the ways must agree on log-probabilities, loss and gradient of the
same completions, in float32 within 1e-5. Then they take turns (plain, trl, ours, plain, ...); the first round
warms up and is not timed. Timings on a machine with other work mean little: the load is written down.

`matrix share` is a way's own multiplications, counted, over its time and the matrix rate measured before and
after (a dash for trl's on a GPU, whose fused output layer cannot be counted, and for all where one is beyond
the rate: the machine was disturbed). `peak` is of the GPU's memory during
a step, the optimizer states of all ways included (0.2 GB each at the 3B shape). `step_profile.py` explains
the floor.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Literal

from spatialvlm import cli  # before transformers, whose notices it hides

# isort: split
import qwen_workload
import torch
from step_profile import fractions, matrix_rate, needed_flops, profile, synchronize
from torch.utils.flop_counter import FlopCounterMode
from ways import Ours, Plain, Way, agreement
from workload import Workload, configuration, make

from spatialvlm import disk, run_folder
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation.tables import text_table
from spatialvlm.models import loading
from spatialvlm.models.qwen import ChatProcessor

TOLERANCE = 1e-5  # in float32


@dataclass
class Args:
    shape: Literal["small", "paligemma2-3b", "qwen2-vl-small"] = field(
        default="small", metadata={"help": "of the model; small has 5.9 million weights in 3B's proportions"}
    )
    num_generations: list[int] = field(
        default_factory=lambda: [4, 14], metadata={"help": "completions per prompt; several are done in turn"}
    )
    ways: list[str] = field(
        default_factory=list,
        metadata={"help": "which of plain, trl, ours; all by default, but for Qwen's trl"},
    )
    steps: int = field(default=5, metadata={"help": "timed steps of each way"})
    prompts: int = field(default=8, metadata={"help": "prompts per step"})
    prompts_per_pass: int = field(default=1, metadata={"help": "prompts of one scoring pass"})
    completion_length: int = field(default=8, metadata={"help": "tokens of every completion"})
    decoder_layers: int | None = field(default=None, metadata={"help": "fewer than the shape has"})
    vision_layers: int | None = field(default=None, metadata={"help": "fewer than the shape has"})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto",
        metadata={"help": "of the weights; auto = float32 on CPU, else bfloat16 where native, else float16"},
    )
    profile_step: bool = field(default=False, metadata={"help": "say where our step's time goes"})
    output_dir: str = field(
        default="results/benchmarks", metadata={"help": "folder for the figures, grpo_step.json"}
    )
    seed: int = field(default=0, metadata={"help": "of weights, prompts and sampling"})


def trl_version() -> str:
    try:
        return version("trl")
    except PackageNotFoundError:
        return "none"


def check(args: Args) -> None:
    """Raise UserError naming the first invalid flag."""
    qwen = args.shape == "qwen2-vl-small"
    args.ways = args.ways or ["plain", *["trl"] * (not qwen), "ours"]
    if qwen and ("trl" in args.ways or args.profile_step):
        raise UserError("--shape qwen2-vl-small goes with --ways plain ours and without --profile_step")
    names = ("steps", "prompts", "prompts_per_pass", "decoder_layers", "vision_layers")
    require_at_least(1, **{name: getattr(args, name) for name in names})
    require_at_least(2, completion_length=args.completion_length)
    if bad := [number for number in args.num_generations if number < 2]:
        raise UserError(f"--num_generations {bad[0]}: a group needs at least 2 completions")
    if args.prompts % args.prompts_per_pass:
        raise UserError(
            f"--prompts {args.prompts} is no multiple of --prompts_per_pass {args.prompts_per_pass}"
        )
    if bad := [way for way in args.ways if way not in ("plain", "trl", "ours")]:
        raise UserError(f"--ways {bad[0]}: must be plain, trl or ours")
    if "trl" in args.ways and not (found := trl_version()).startswith("1.16."):
        raise UserError(
            f"--ways trl is written for trl 1.16, and {found} is here: pip install trl==1.16.0, or leave it "
            "out with --ways plain ours"
        )
    if args.profile_step and "ours" not in args.ways:
        raise UserError("--profile_step is about our step: add ours to --ways")


def build(name: str, work: Workload, num_generations: int) -> Way:
    if name == "trl":
        from trl_way import Trl  # where trl is not installed, the other ways run without it

        return Trl(work, num_generations)
    plain = qwen_workload.Plain if isinstance(work.processor, ChatProcessor) else Plain
    return {"plain": plain, "ours": Ours}[name](work, num_generations)


def checked_agreement(ways: dict[str, Way], work: Workload, num_generations: int) -> dict:
    """The differences, printed. Raises RuntimeError where the ways do not compute the same (float32)."""
    found = agreement(ways, work, num_generations)
    for name, difference in found.items():
        print(f"{name}: " + ", ".join(f"{what} {value:.1e}" for what, value in difference.items()))
    worst = max(value for difference in found.values() for value in difference.values())
    if work.model.dtype == torch.float32 and not worst <= TOLERANCE:
        raise RuntimeError(f"the ways differ by {worst:.1e}, more than {TOLERANCE}: not the same computation")
    return found


def measure(ways: dict[str, Way], work: Workload, steps: int) -> dict[str, dict]:
    """Seconds of every timed step, multiplications of one, and its peak of GPU memory, of each way."""
    device = work.model.device
    found = {name: {"seconds": []} for name in ways}
    for turn in range(steps + 1):
        for name, way in ways.items():
            if turn == 0:
                # trl's fused output layer on a GPU, torch.addmm(..., out_dtype, out=), breaks the counter.
                counter = FlopCounterMode(display=False)
                countable = name != "trl" or device.type != "cuda"
                with counter if countable else nullcontext():
                    way.step()
                found[name]["flops"] = counter.get_total_flops() if countable else None
                continue
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            synchronize(device)
            start = time.perf_counter()
            way.step()
            synchronize(device)
            found[name]["seconds"].append(time.perf_counter() - start)
            if device.type == "cuda":
                peak = torch.cuda.max_memory_allocated(device)
                found[name]["peak_memory_bytes"] = max(peak, found[name].get("peak_memory_bytes", 0))
    return found


def compare(args: Args, work: Workload, num_generations: int) -> dict:
    """Everything about one number of completions per prompt, printed and returned."""
    print(f"\nG = {num_generations}, {args.prompts} prompts, {args.completion_length} tokens per completion")
    ways = {name: build(name, work, num_generations) for name in args.ways}
    result = {"num_generations": num_generations, "agreement": checked_agreement(ways, work, num_generations)}
    rate = matrix_rate(work.model)
    result["ways"] = found = measure(ways, work, args.steps)
    result["matrix_flops_per_second"] = rate = max(rate, matrix_rate(work.model))
    tokens = args.prompts * num_generations * args.completion_length
    for way in found.values():
        way["median"] = median(way["seconds"])
        way["completion_tokens_per_second"] = tokens / way["median"]
    medians, flops = ({name: way[what] for name, way in found.items()} for what in ("median", "flops"))
    reached = fractions(medians, flops, rate)
    for name, way in found.items():
        way["matrix_share"] = reached.get(name)
    if not reached:
        print("no fraction of the matrix rate and no floor: a method was faster than the rate measured here")
    if "ours" in found:
        result["ratios"] = {name: way["median"] / found["ours"]["median"] for name, way in found.items()}
    rows = [("way", "seconds", "least to most", "tokens/s", "matrix share", "peak GB", "over ours")]
    for name, way in found.items():
        spread = f"{min(way['seconds']):.3f} to {max(way['seconds']):.3f}"
        peak = f"{way['peak_memory_bytes'] / 1e9:.2f}" if "peak_memory_bytes" in way else "-"
        ratio = f"{result['ratios'][name]:.2f}" if "ratios" in result else "-"
        figures = f"{way['median']:.3f}", spread, f"{way['completion_tokens_per_second']:.0f}"
        share = "-" if way["matrix_share"] is None else f"{way['matrix_share']:.1%}"
        rows.append((name, *figures, share, peak, ratio))
    print(text_table(rows))
    if args.profile_step:
        needed = needed_flops(work, num_generations).items()
        floor = {phase: flops / rate for phase, flops in needed} if reached else {}
        phases = profile(ways["ours"], args.steps)
        result["profile"] = {"phases": phases, "floor": floor}
        print(f"\n{'our step':<36}{'seconds':>9}{'share':>8}{'floor':>9}")
        total = sum(phases.values())
        for phase, seconds in phases.items():
            least = f"{floor[phase]:.3f}" if phase in floor else "-"
            print(f"{phase:<36}{seconds:>9.3f}{seconds / total:>8.1%}{least:>9}")
        least = f"{sum(floor.values()):.3f}" if floor else "-"
        print(f"{'all':<36}{total:>9.3f}{1:>8.1%}{least:>9}")
    return result


def main(args: Args) -> dict:
    check(args)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = loading.resolve_dtype(args.dtype, device)
    layers = {"decoder_layers": args.decoder_layers, "vision_layers": args.vision_layers}
    step = {
        name: getattr(args, name) for name in ("prompts", "prompts_per_pass", "completion_length", "seed")
    }
    step |= {"dtype": dtype, "device": device}
    if args.shape == "qwen2-vl-small":
        work = qwen_workload.make(**layers, **step)
    else:
        work = make(configuration(args.shape, **layers), **step)
    facts = {"dtype": str(dtype), "threads": torch.get_num_threads(), "load_before": os.getloadavg()}
    load = f"load {facts['load_before'][0]:.1f}"
    print(f"{run_folder.environment()['device']}, {dtype}, {load}")
    found = [compare(args, work, number) for number in args.num_generations]
    rate = max(result["matrix_flops_per_second"] for result in found)
    print(f"\nmatrix rate: {rate / 1e9:,.0f} GFLOP/s")
    report = {"arguments": asdict(args), **run_folder.environment(), **facts, "matrix_flops_per_second": rate}
    report |= {"load_after": os.getloadavg(), "results": found}
    path = Path(args.output_dir, "grpo_step.json")
    disk.write_json(path, report)
    print(f"\nwritten to {path}")
    return report


if __name__ == "__main__":
    cli.run(main, Args)
