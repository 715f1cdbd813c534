"""Sparkle's questions as a data set of the hub: parquet files by split, and a card.

    train-00000-of-00001.parquet   validation-...   test-...   composite-...   README.md

`datasets.load_dataset(folder)` reads it, and so does `read`, which checks every row. Rows of one
configuration lie together and share their picture's bytes in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from spatialvlm.disk import disk_errors
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.worlds.plane.draw import PLANE

TEXTS = ("id", "question", "prompt", "answer", "task", "capability", "answer_type")
_NODE = {"label": {"dtype": "string", "_type": "Value"}}
_NODE |= {name: {"dtype": "float64", "_type": "Value"} for name in ("x", "y")}
_COLUMNS = {
    "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    **{name: pa.string() for name in TEXTS},
    "options": pa.list_(pa.string()),
    "nodes": pa.list_(pa.struct({"label": pa.string(), "x": pa.float64(), "y": pa.float64()})),
    "edges": pa.list_(pa.list_(pa.string())),
    "start": pa.string(),
    "end": pa.string(),
    "optimum": pa.float64(),
}
_STRINGS = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
_FEATURES = {
    "image": {"_type": "Image"},
    **{name: {"dtype": "string", "_type": "Value"} for name in (*TEXTS, "start", "end")},
    "options": _STRINGS,
    "nodes": {"feature": _NODE, "_type": "List"},
    "edges": {"feature": _STRINGS, "_type": "List"},
    "optimum": {"dtype": "float64", "_type": "Value"},
}
# What `datasets` writes, so that it decodes the pictures; without it here, which alone takes 100 MB.
SCHEMA = pa.schema(_COLUMNS, {"huggingface": json.dumps({"info": {"features": _FEATURES}})})
ROW_GROUP = 2000
_ROOM = 2**27  # bytes of a column chunk's dictionary: a picture is in it once, however many rows show it

Check = Callable[[Example], str | None]


def row(example: Example, png: bytes) -> rows.Row:
    """The row of a question, its picture already encoded."""
    meta = example.meta
    return {
        "image": {"bytes": png, "path": f"{example.id}.png"},
        **{name: getattr(example, name) for name in ("id", "question", "prompt", "answer", "task")},
        "capability": meta["capability"],
        "answer_type": meta["answer_type"],
        "options": list(meta.get("options", ())),
        "nodes": [{"label": label, "x": x, "y": y} for label, (x, y) in meta["nodes"].items()],
        "edges": [list(edge) for edge in meta["edges"]] if "edges" in meta else None,
        **{name: meta.get(name) for name in ("start", "end", "optimum")},
    }


def file_name(split: str) -> str:
    return f"{split}-00000-of-00001.parquet"


def write(file: Path, made: Iterator[rows.Row]) -> int:
    """Writes rows, group by group, in the hub's form; returns how many there were."""
    room = {"dictionary_pagesize_limit": _ROOM, "compression": "zstd"}
    written, held = 0, []
    with disk_errors(file), parquet.ParquetWriter(file, SCHEMA, **room) as writer:
        for each in made:
            held.append(each)
            if len(held) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(held, SCHEMA))
                written, held = written + len(held), []
        writer.write_table(pa.Table.from_pylist(held, SCHEMA))
    return written + len(held)


# ---- reading


def read(
    path: str | Path,
    split: str,
    check: Check,
    known: Callable[[str], bool],
    wanted: Callable[[str], bool] = lambda task: True,
    limit: int | None = None,
) -> Sequence[Example]:
    """Questions of some tasks, each of their rows checked now, and made when looked at.

    Args:
        path: a folder of this form, a parquet file, what `save_to_disk` wrote, or a hub id.
        check: what is wrong with an example, or None.
        known: whether a row may have such a task.
        wanted: whether it is one that is asked for; other rows are passed over.

    Raises:
        UserError: nothing there; a row that is not whole, or has another's id; the message names it.
    """
    files = sorted(Path(path).glob(f"{split}-*.parquet")) if Path(path).is_dir() else []
    table = rows.Rows([part for file in files for part in rows.read(file, split).tables])
    if not files:
        table = rows.read(path, split)
    chosen: list[int] = []
    seen: dict[str, str] = {}
    for number, (where, each) in enumerate(table):
        if limit is not None and len(chosen) >= limit:
            break
        if not known(task := rows.text(each, "task", where)):
            raise UserError(f"{where}: 'task' {task!r} is none of this data set; mend or remove the row")
        if not wanted(task):
            continue
        example = _example(where, each)
        if fault := check(example):
            raise UserError(f"{where}: {fault}; mend or remove the row")
        if example.id in seen:
            raise UserError(f"{where}: its id {example.id!r} is {seen[example.id]}'s; make ids unique")
        seen[example.id] = where
        chosen.append(number)
    if not chosen:
        raise UserError(f"{path} has no row of split '{split}' with a task that is asked for")
    return LazyExamples(lambda number: _example(*table[number]), chosen, kept=1)


def _example(where: str, each: rows.Row) -> Example:
    texts = {name: rows.text(each, name, where) for name in TEXTS}
    nodes = _nodes(rows.need(each, "nodes", where), where)
    meta: dict[str, Any] = {name: texts[name] for name in ("capability", "answer_type")}
    options = [] if each.get("options") is None else each["options"]
    if not isinstance(options, list) or not all(isinstance(label, str) for label in options):
        raise UserError(f"{where}: 'options' must be a list of labels, not {options!r}")
    meta |= {"options": tuple(options), "nodes": nodes}
    if each.get("optimum") is not None:
        if not (isinstance(each["optimum"], float | int) and 0 < each["optimum"] < math.inf):
            raise UserError(f"{where}: 'optimum' must be a length, not {each['optimum']!r}")
        meta["optimum"] = float(each["optimum"])
    if each.get("edges") is not None:
        meta |= {name: rows.text(each, name, where) for name in ("start", "end")}
        edges = each["edges"] if isinstance(each["edges"], list) else [each["edges"]]
        for edge in (*edges, [meta["start"], meta["end"]]):
            if not isinstance(edge, list) or len(edge) != 2 or not all(label in [*nodes] for label in edge):
                raise UserError(f"{where}: 'edges', 'start' and 'end' must be among its nodes, not {edge!r}")
        meta["edges"] = [tuple(edge) for edge in each["edges"]]
    return Example(
        id=texts["id"],
        images=(rows.picture(rows.need(each, "image", where), where),),
        **{name: texts[name] for name in ("question", "answer", "task", "prompt")},
        meta=meta,
    )


def _nodes(listed: Any, where: str) -> dict[str, tuple[float, float]]:
    nodes: dict[str, tuple[float, float]] = {}
    for node in listed if isinstance(listed, list) else [listed]:
        label, *place = (node.get(name) for name in ("label", "x", "y")) if isinstance(node, dict) else "?"
        on_plane = len(place) == 2 and all(
            isinstance(along, float | int) and 0 <= along <= PLANE for along in place
        )
        if not on_plane or not isinstance(label, str) or label in nodes:
            raise UserError(
                f"{where}: 'nodes' must be different labels with x and y from 0 to {PLANE:g}, not {node!r}"
            )
        nodes[label] = (float(place[0]), float(place[1]))
    return nodes


# ---- the card and the hub


def card(
    counts: Mapping[str, Mapping[str, int]], asks: Mapping[str, str], settings: Mapping[str, Any]
) -> str:
    """The README.md of the data set.

    Args:
        counts: questions by split and task.
        asks: what each task asks, in a line.
        settings: everything that it was made with.
    """
    size = sum(sum(tasks.values()) for tasks in counts.values())
    band = next(
        name
        for name, most in (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6))
        if size < most
    )
    files = "".join(f"      - split: {split}\n        path: {file_name(split)}\n" for split in counts)
    total = " | ".join(str(sum(counts[split].values())) for split in counts)
    table = "\n".join(
        f"| {task} | {words} | {' | '.join(str(counts[split].get(task, 0)) for split in counts)} |"
        for task, words in asks.items()
        if any(task in tasks for tasks in counts.values())
    )
    made = "\n".join(f"- `{name}`: {value}" for name, value in settings.items())
    return _CARD.format(
        band=band,
        files=files,
        splits=" | ".join(counts),
        rules="---|" * len(counts),
        table=table,
        total=total,
        made=made,
    )


_CARD = """---
license: apache-2.0
language: en
task_categories:
  - visual-question-answering
tags:
  - spatial-reasoning
  - synthetic
size_categories:
  - {band}
configs:
  - config_name: default
    data_files:
{files}---
# Nodes on a plane: basic spatial questions, paths and tours

Labelled nodes at random places of a 10 x 10 plane, drawn, and questions about them in three capabilities
(direction, distance, localization), after Sparkle (Tang et al., arXiv 2410.16162), which published neither
code nor the exact questions: the families are ours. `composite`, for tests only, asks for shortest paths
through grids and for shortest tours. Everything is made by rule: there is no person, photograph or published
data in it, and every answer is exact.

| task | asks | {splits} |
|---|---|{rules}
{table}
| all | | {total} |

Columns: `image`, `question`, `prompt` (the question and how to answer), `answer`, `task`, `capability`,
`answer_type`, `options` (labels that the question lists), `nodes` (label, x, y; units of the plane, y
upwards); of paths `edges`, `start` and `end`; of paths and tours `optimum`, the length of the shortest. Any
route of that length is right; `answer` is one of them.

No question lies near the border of a sector or cell, or between distances that are nearly the same. Labels
are given to places at random, and short lists of answers are equally frequent, so that the text alone gives
nothing away.

Made with:

{made}
"""


def push(folder: Path, name: str) -> None:
    """Sends a folder of this form, card and all, to the hub's data set `name`.

    Raises:
        UserError: the hub refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(name, repo_type="dataset", exist_ok=True)
        hub.upload_folder(folder_path=str(folder), repo_id=name, repo_type="dataset")
    except Exception as error:  # the hub's errors have no common ancestor
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--push_to_hub {name}: {reason}; log in with `hf auth login` and check the name. {folder} is "
            "whole"
        ) from None
    print(f"sent to https://huggingface.co/datasets/{name}", flush=True)
