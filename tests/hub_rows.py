"""Rows of the published data sets, as small as can be, in the layout that they have on the hub."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import tiny
from PIL import Image
from pyarrow import parquet


@cache
def image(number: int, format: str = "png", mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> bytes:
    """An image of noise, another one for every number."""
    buffer = io.BytesIO()
    tiny.image(number).resize(size).convert(mode).save(buffer, format)
    return buffer.getvalue()


def as_parquet(rows: Sequence[dict], schema: pa.Schema | None = None, **options: Any) -> bytes:
    """The rows in one row group, as pandas writes them, with pages of a megabyte."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema)
    settings = {"row_group_size": max(1, len(rows)), "write_batch_size": 16} | options
    parquet.write_table(table, buffer, **settings)
    return buffer.getvalue()


def as_jsonl(rows: Sequence[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(configs: dict[str, dict[str, str]]) -> str:
    """A README whose head says which files a configuration's splits are."""
    lines = ["---", "configs:"]
    for name, splits in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", "# A data set", ""])


def sat_rows(count: int, column: str = "image_bytes", padding: int = 0, **changes: Any) -> list[dict]:
    """Rows of SAT, every fourth with two images; `padding` bytes follow each image."""
    made = []
    for number in range(count):
        content = [image(number % 7) + bytes(padding)] * (2 if number % 4 == 0 else 1)
        if column == "images":
            content = [{"bytes": each, "path": None} for each in content]
        answers = [f"the chair {number}", "the lamp"]
        made.append(
            {
                column: content,
                "question": f"What moved in {number}?",
                "answers": answers,
                "question_type": "obj_movement",
                "correct_answer": answers[0],
            }
            | changes
        )
    return made


SAT_SPLITS = {split: f"SAT_{split}.parquet" for split in ("train", "static", "val", "test")}


def sat(
    train: int = 24, padding: int = 0, others: int = 6, broken: int | None = None
) -> dict[str, bytes | str]:
    """`array/SAT`: one file per split, each one row group of plain bytes; a row to break, of all of them."""
    counts = dict.fromkeys(SAT_SPLITS, others) | {"train": train}
    files: dict[str, bytes | str] = {"README.md": card({"default": SAT_SPLITS})}
    for split, count in counts.items():
        rows = sat_rows(count, padding=padding)
        if broken is not None and broken < count:
            rows[broken]["image_bytes"] = [rows[broken]["image_bytes"][0][:300]]
        files[SAT_SPLITS[split]] = as_parquet(rows, compression="none", use_dictionary=["question_type"])
    return files


def sat_v2(count: int = 6) -> dict[str, bytes | str]:
    """`array/SAT-v2`: images as the hub's own records, files by the hub's own names."""
    shard = "data/{}-00000-of-00001.parquet"
    made = as_parquet(sat_rows(count, "images"))
    return {"README.md": "# SAT", **{shard.format(split): made for split in SAT_SPLITS}}


def cvbench_rows(tasks: Sequence[str], start: int = 0) -> list[dict]:
    two = ["bed", "lamp"]
    questions = {
        "Count": ("How many chairs are in the image?", ["2", "0", "1", "3"], "(C)", "COCO"),
        "Relation": ("Where is the lamp with respect to the bed?", ["left", "right"], "(A)", "ADE20K"),
        "Depth": ("Which object is closer to the camera, the bed or the lamp?", two, "(B)", "Omni3D"),
        "Distance": ("Which object is closer to the sink, the bed or the lamp?", two, "(A)", "Omni3D"),
    }
    made = []
    for number, task in enumerate(tasks, start):
        question, choices, answer, source = questions[task]
        lettered = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", choices, strict=False))
        made.append(
            {
                "idx": number,
                "type": "2D" if task in ("Count", "Relation") else "3D",
                "task": task,
                "image": {"bytes": image(number), "path": f"{number}.png"},
                "question": question,
                "choices": choices,
                "answer": answer,
                "prompt": f"{question} Select from the following choices.\n{lettered}",
                "source": source,
            }
        )
    return made


def cvbench(each: int = 2) -> dict[str, bytes | str]:
    """`nyu-visionx/CV-Bench`: two files, and configurations for both or one of them."""
    two, three = ("test_2d.parquet", "test_3d.parquet")
    configs = {"2D": {"test": two}, "3D": {"test": three}}
    head = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: test*.parquet\n"
    return {
        "README.md": head + card(configs).removeprefix("---\nconfigs:\n"),
        two: as_parquet(cvbench_rows(["Count", "Relation"] * each)),
        three: as_parquet(cvbench_rows(["Depth", "Distance"] * each, 2 * each)),
    }


def vsibench(scenes: dict[str, bytes]) -> dict[str, bytes | str]:
    """`nyu-visionx/VSI-Bench` with a question per scene (`scannet/scene0001_00`) and its videos."""
    rows, archives = [], {}
    for number, (scene, content) in enumerate(scenes.items()):
        source, name = scene.split("/")
        archives.setdefault(source, {})[f"{source}/{name}.mp4"] = content
        rows.append(
            {
                "id": number,
                "dataset": source,
                "scene_name": name,
                "question_type": "object_counting",
                "question": "How many chairs are in this room?",
                "ground_truth": "4",
                "options": None,
                "pruned": number % 2 == 0,
            }
        )
    files: dict[str, bytes | str] = {
        "README.md": card(
            {
                "full": {"test": "test.jsonl"},
                "debiased": {"test": "test_debiased.parquet"},
                "pruned": {"test": "test_pruned.parquet"},
            }
        ),
        "test.jsonl": as_jsonl(rows),
        "test_debiased.parquet": as_parquet([row for row in rows if not row["pruned"]]),
        "test_pruned.parquet": as_parquet([row for row in rows if row["pruned"]]),
        "pruned_ids.txt": "".join(f"{row['id']}\n" for row in rows if row["pruned"]),
    }
    for source, members in archives.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        files[f"{source}.zip"] = buffer.getvalue()
    return files


def vsr(link: str, count: int = 4) -> dict[str, bytes]:
    """`cambridgeltl/vsr_random`: three jsonl files, whose rows link to images (`link` with their number)."""
    rows = [
        {
            "image": f"{number:012}.jpg",
            "image_link": link.format(number),
            "caption": f"The cat is on the mat {number}.",
            "label": number % 2,
            "relation": "on",
            "vote_true_validator_id": "[1]",
        }
        for number in range(count)
    ]
    return {f"{split}.jsonl": as_jsonl(rows) for split in ("train", "dev", "test")}


def cogent(count: int = 6, problem: str = "How many items are there in the image?") -> dict[str, bytes | str]:
    """`MMInstruction/Clevr_CoGenT_ValB` and its like: two shards of the split `train`, RGBA images."""
    files: dict[str, bytes | str] = {"README.md": "# CLEVR"}
    for shard in range(2):
        rows = [
            {
                "image": {"bytes": image(number, mode="RGBA"), "path": None},
                "problem": problem,
                "solution": f"<answer> {number % 9} </answer>",
            }
            for number in range(shard * count // 2, (shard + 1) * count // 2)
        ]
        files[f"data/train-{shard:05}-of-00002.parquet"] = as_parquet(rows)
    return files


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))
