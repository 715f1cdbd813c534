"""Time and memory of describing CLEVR: files of 15,000 scenes and 150,000 questions, made and merged.

python benchmarks/merge_descriptions.py                             # from 40 rendered scenes
python benchmarks/merge_descriptions.py --data ../clevr             # from the scenes of an official folder

The big files are the small ones many times over, each copy with its colours exchanged in scenes, questions
and answers alike (seeded), so that every question keeps its right answer. Then a process of its own runs
`merge_clevr_w_depth_desc.py --no_images` on them; its time and its peak memory are printed and written to
summary.json. Takes two to three minutes.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from spatialvlm import cli
from spatialvlm.disk import disk_errors
from spatialvlm.errors import UserError
from spatialvlm.tasks.clevr import described
from spatialvlm.worlds.clevr import scenes
from spatialvlm.worlds.clevr.facts import VALUES, Scene
from spatialvlm.worlds.clevr.official_questions import FAMILIES, clevr

SCRIPT = Path(__file__).resolve().parents[1] / "clevr_desc/merge_clevr_w_depth_desc.py"
COLORS = VALUES["color"]
SCENES, QUESTIONS = 40, 10  # rendered ones that copies are made of, and questions each


@dataclass
class Args:
    data: str | None = field(default=None, metadata={"help": "official folder to make copies of"})
    scenes: int = field(default=15_000, metadata={"help": "scenes in the big files"})
    format: str = field(default="parquet", metadata={"help": "parquet or jsonl"})
    seed: int = field(default=0, metadata={"help": "of the exchanged colours"})
    output_dir: str = field(
        default="results/merge_descriptions", metadata={"help": "where summary.json goes"}
    )


def originals(args: Args) -> list[tuple[Scene, list[tuple[str, str]]]]:
    """Scenes, each with its questions and answers."""
    found: dict[str, tuple[Scene, list[tuple[str, str]]]] = {}
    if args.data:
        for example in described.load(args.data, images=False):
            scene = example.meta["described_scene"]
            found.setdefault(scene["image_filename"], (scene, []))[1].append(
                (example.question, example.answer)
            )
        return list(found.values())
    made = []
    for number in range(SCENES):
        scene, asked = scenes.make("benchmark", number), []
        for turn in range(QUESTIONS):
            question = clevr(scene, Random(f"{number}-{turn}"), FAMILIES[turn % len(FAMILIES)])
            asked += [(question.question, question.answer)] if question else []
        made.append((scene, asked))
    return made


def copies(args: Args) -> Iterator[tuple[Scene, list[tuple[str, str]]]]:
    """That many scenes, each an original in other colours."""
    known = originals(args)
    pattern = re.compile(rf"\b({'|'.join(COLORS)})\b")
    for number in range(args.scenes):
        scene, asked = known[number % len(known)]
        other = dict(zip(COLORS, Random(f"{args.seed}-{number}").sample(COLORS, len(COLORS)), strict=True))
        objects = [{**thing, "color": other[thing["color"]]} for thing in scene["objects"]]
        name = f"CLEVR_val_{number:06d}.png"
        scene = {**scene, "objects": objects, "image_filename": name, "image_index": number}
        yield (
            scene,
            [
                tuple(pattern.sub(lambda found, other=other: other[found[1]], text) for text in pair)
                for pair in asked
            ],
        )


def write(folder: Path, args: Args) -> int:
    """Writes scenes/ and questions/ in the official form; returns the number of questions."""
    for part in ("scenes", "questions"):
        (folder / part).mkdir(parents=True)
    index = 0
    with (
        (folder / "scenes/CLEVR_val_scenes.json").open("w") as scene_file,
        (folder / "questions/CLEVR_val_questions.json").open("w") as question_file,
    ):
        scene_file.write('{"info": {"split": "val"}, "scenes": [')
        question_file.write('{"info": {"split": "val"}, "questions": [')
        for number, (scene, asked) in enumerate(copies(args)):
            scene_file.write(", " * (number > 0) + json.dumps(scene))
            for text, answer in asked:
                row = {"question": text, "answer": answer, "image_filename": scene["image_filename"]}
                row |= {"question_index": index, "image_index": scene["image_index"], "split": "val"}
                row["program"] = [{"function": "scene", "inputs": [], "value_inputs": []}] * 12  # as heavy
                question_file.write(", " * (index > 0) + json.dumps(row))
                index += 1
        scene_file.write("]}")
        question_file.write("]}")
    return index


def main(args: Args) -> dict:
    if args.scenes < 1 or args.format not in ("parquet", "jsonl"):
        raise UserError("--scenes must be at least 1, and --format parquet or jsonl")
    with tempfile.TemporaryDirectory() as scratch:
        questions = write(Path(scratch, "clevr"), args)
        sizes = {file.name: file.stat().st_size for file in sorted(Path(scratch, "clevr").rglob("*.json"))}
        flags = ["--data", f"{scratch}/clevr", "--no_images", "--format", args.format]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *flags, "--output_dir", f"{scratch}/out"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - started
        written = sum(file.stat().st_size for file in Path(scratch, "out").iterdir())
    unit = 1 if sys.platform == "darwin" else 1024
    summary = {
        "scenes": args.scenes,
        "questions": questions,
        "file_bytes": sizes,
        "format": args.format,
        "written_bytes": written,
        "seconds": seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit,
        "said": done.stdout.splitlines()[-1],
    }
    folder = Path(args.output_dir)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
