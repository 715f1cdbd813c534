"""Questions answered a second: a plain evaluation loop (batch 10, one pass a sample) against ours.

python benchmarks/eval_throughput.py                          # embedded model, Pass@4: minutes on 2 CPU cores
python benchmarks/eval_throughput.py --num_samples 1          # greedy answers
python benchmarks/eval_throughput.py --shape paligemma2-3b    # for a GPU: the 3B shape, random weights
python benchmarks/eval_throughput.py --memory 1000 10000      # most memory held, by the number of questions

Plain is what the published notebook does: it opens and resizes the images of 10 questions, generates one
answer to each, and does all of that again for every further sample. Ours reads the prompt once for all
samples, puts prompts of one length together and, on a GPU, has worker processes read the images
(`--num_workers`). Images are 480 x 320 PNG files, as CLEVR's. Greedy answers must be the same first. Then
the ways take turns; the first round warms up and is not timed. `matrix share` is a way's own multiplications,
counted, over its time and the matrix rate measured in this run. With --memory each number of questions has a
process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Literal

from spatialvlm import cli  # before transformers, whose notices it hides
from spatialvlm.images import open_image

# isort: split
import torch
from step_profile import fractions, matrix_rate, synchronize
from torch.utils.flop_counter import FlopCounterMode
from workload import configuration
from workload import processor as word_processor

from spatialvlm import disk, run_folder
from spatialvlm.errors import require_at_least
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.tables import text_table
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.models import loading
from spatialvlm.models.shapes import random_model
from spatialvlm.worlds.clevr import scenes, series

PLAIN_BATCH = 10
IMAGES = 50  # different ones; questions take them in turn, and each is read again every time


@dataclass
class Args:
    shape: Literal["embedded", "paligemma2-3b"] = field(
        default="embedded", metadata={"help": "the embedded model, or the 3B shape with random weights"}
    )
    questions: int = field(default=200, metadata={"help": "questions of one timed round"})
    num_samples: int = field(default=4, metadata={"help": "answers per question (Pass@k); 1 = greedy"})
    rounds: int = field(default=3, metadata={"help": "timed rounds of each way"})
    batch_size: int = field(default=64, metadata={"help": "answers at a time, ours"})
    num_workers: int | None = field(
        default=None, metadata={"help": "processes that read images, ours; by device if not given"}
    )
    max_new_tokens: int = field(default=8, metadata={"help": "longest answer, in tokens"})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto",
        metadata={"help": "of the weights; auto = float32 on CPU, else bfloat16 where native, else float16"},
    )
    seed: int = field(default=0, metadata={"help": "of weights and sampling"})
    memory: list[int] = field(
        default_factory=list, metadata={"help": "measure memory instead, for these numbers of questions"}
    )
    output_dir: str = field(
        default="results/benchmarks", metadata={"help": "folder for the figures, eval_throughput.json"}
    )


def build(args: Args) -> tuple[torch.nn.Module, object]:
    if args.shape == "embedded":
        return loading.load(loading.ModelArgs(profile="embedded", dtype=args.dtype, seed=args.seed))
    config = configuration(args.shape, None, None)
    made = word_processor(config.get_text_config().vocab_size)
    config.image_token_id = made.image_token_id
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return random_model(config, loading.resolve_dtype(args.dtype, device), device).eval(), made


def questions(count: int, folder: Path) -> Sequence[Example]:
    """CV-Bench's form without boxes, each with an image file."""
    texts = [series.cvbench("test", IMAGES)[number] for number in range(IMAGES)]
    for number, example in enumerate(texts):
        scenes.render_scene(scenes.make(*example.meta["scene"]), 480, 320).image.save(
            folder / f"{number}.png"
        )

    def make(index: int) -> Example:
        number = index % IMAGES
        return replace(texts[number], id=f"q{index}", images=(folder / f"{number}.png",), meta={})

    return LazyExamples(make, range(count))


@torch.no_grad()
def plain(model, processor, examples: Sequence[Example], args: Args, num_samples: int) -> list[list[str]]:
    """The published notebook's loop, but for its faults: the last batch is kept, padding is on the left."""
    said: list[list[str]] = [[] for _ in examples]
    sampling = (
        {"do_sample": True, "temperature": 1.0, "top_k": 0} if num_samples > 1 else {"do_sample": False}
    )
    for _ in range(num_samples):
        for start in range(0, len(examples), PLAIN_BATCH):
            batch = examples[start : start + PLAIN_BATCH]
            images = [open_image(example.images[0]) for example in batch]
            prompts = [processor.image_token + example.prompt for example in batch]
            inputs = processor(
                images=images, text=prompts, padding="longest", padding_side="left", return_tensors="pt"
            ).to(model.device)
            inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            out = model.generate(**inputs, max_new_tokens=args.max_new_tokens, **sampling)
            answers = processor.tokenizer.batch_decode(
                out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            for index, text in enumerate(answers, start=start):
                said[index].append(text.strip())
    return said


def ours(model, processor, examples: Sequence[Example], args: Args, num_samples: int) -> list[list[str]]:
    workers = evaluate.default_workers(model.device) if args.num_workers is None else args.num_workers
    records = evaluate.predict(
        model,
        processor,
        examples,
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        num_samples=num_samples,
        num_workers=workers,
    )
    return [record["completions"] for record in records]


WAYS: dict[str, Callable] = {"plain": plain, "ours": ours}


def check_agreement(model, processor, examples: Sequence[Example], args: Args) -> dict[str, int]:
    """Greedy answers of both ways to up to 40 questions. Raises RuntimeError where they differ in float32."""
    some = examples[:40]
    answers = [way(model, processor, some, args, 1) for way in WAYS.values()]
    same = sum(one == other for one, other in zip(*answers, strict=True))
    print(f"greedy answers: {same} of {len(some)} the same")
    if model.dtype == torch.float32 and same < len(some):
        raise RuntimeError("plain and ours give different greedy answers: not the same computation")
    return {"same": same, "of": len(some)}


def measure(model, processor, examples: Sequence[Example], args: Args) -> tuple[dict[str, dict], float]:
    """(figures of each way, the machine's matrix rate)."""
    found: dict[str, dict] = {name: {"seconds": []} for name in WAYS}
    rate = matrix_rate(model)
    for turn in range(args.rounds + 1):
        for name, way in WAYS.items():
            if turn == 0:
                with FlopCounterMode(display=False) as counter:
                    way(model, processor, examples[:PLAIN_BATCH], args, args.num_samples)
                found[name]["flops"] = counter.get_total_flops() * len(examples) / PLAIN_BATCH
                continue
            synchronize(model.device)
            start = time.perf_counter()
            way(model, processor, examples, args, args.num_samples)
            synchronize(model.device)
            found[name]["seconds"].append(time.perf_counter() - start)
    for way in found.values():
        way["median"] = median(way["seconds"])
        way["questions_per_second"] = len(examples) / way["median"]
    rate = max(rate, matrix_rate(model))
    medians, flops = ({name: way[what] for name, way in found.items()} for what in ("median", "flops"))
    reached = fractions(medians, flops, rate)
    rows = [("way", "seconds", "least to most", "questions/s", "matrix share", "over plain")]
    for name, way in found.items():
        way["matrix_share"] = reached.get(name)
        way["speedup"] = found["plain"]["median"] / way["median"]
        spread = f"{min(way['seconds']):.2f} to {max(way['seconds']):.2f}"
        share = f"{reached[name]:.1%}" if reached else "-"
        rates = f"{way['questions_per_second']:.1f}", share, f"{way['speedup']:.2f}"
        rows.append((name, f"{way['median']:.2f}", spread, *rates))
    print(text_table(rows))
    return found, rate


def measure_memory(args: Args) -> dict[str, int]:
    """The most memory held by a process that answers so many questions, in bytes, by their number."""
    found = {}
    for count in args.memory:
        flags = ["--questions", count, "--num_samples", args.num_samples, "--rounds", 0]
        command = [sys.executable, __file__, *map(str, flags)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[str(count)] = json.loads(done.stdout.splitlines()[-1])["peak_memory_bytes"]
        print(f"{count:>8} questions: {found[str(count)] / 1e6:,.0f} MB", flush=True)
    return found


def main(args: Args) -> dict:
    require_at_least(
        1,
        questions=args.questions,
        num_samples=args.num_samples,
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
    )
    report = {"arguments": asdict(args), **run_folder.environment()}
    if args.memory:
        report["peak_memory_bytes"] = measure_memory(args)
    else:
        model, processor = build(args)
        with tempfile.TemporaryDirectory() as folder:
            examples = questions(args.questions, Path(folder))
            if args.rounds == 0:  # for measure_memory
                ours(model, processor, examples, args, args.num_samples)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                print(json.dumps({"peak_memory_bytes": peak}))
                return report
            report["agreement"] = check_agreement(model, processor, examples, args)
            report["ways"], report["matrix_flops_per_second"] = measure(model, processor, examples, args)
    path = Path(args.output_dir, "eval_throughput.json")
    disk.write_json(path, report)
    print(f"written to {path}")
    return report


if __name__ == "__main__":
    cli.run(main, Args)
