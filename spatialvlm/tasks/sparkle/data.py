"""Sparkle's basic questions (arXiv 2410.16162): configurations of labelled nodes, rendered, or read from
files.

2,000 configurations give 34,000 questions: each of the 16 families once (`questions`), and one of them, in
turn, once more. All questions of a configuration share its image. There are two forms of the same functions:
`paper`, and `embedded` with larger glyphs and fewer nodes in 126 pixels, for a vision tower of 14-pixel
patches. Every configuration follows from (form, split, seed, number) alone; splits share none, and the choice
of capabilities changes none.

As files they are a data set of the hub that `datasets.load_dataset(folder)` reads too: a parquet file per
split, `train-00000-of-00001.parquet`. Rows of one configuration lie together and share their image's bytes in
the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from PIL import Image

from spatialvlm.errors import RowError, UserError, require_at_least, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.exclusion import usable_rows
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.sparkle.questions import (
    CAPABILITIES,
    FAMILIES,
    FEWEST_NODES,
    HINTS,
    TRIES,
    Question,
    check,
)
from spatialvlm.worlds.plane.nodes import PLANE, Configuration, Style, place, render

MADE = "made"  # in place of a path: questions rendered on access
CONFIGURATIONS = {"train": 2000, "validation": 50, "test": 200}  # of each split
SCATTERS = 100  # placements tried for a configuration


@dataclass(frozen=True)
class Form:
    """How configurations are made and rendered.

    Args:
        nodes: minimum and maximum number of nodes; every number between is equally likely.
        gap: minimum units between two nodes.
        style: of the images.
        grids: nodes along a side of the grids of shortest paths.
        inset: units from the border to the outermost nodes of grids; the radius where not given.
        tours: minimum and maximum number of nodes of tours.
    """

    nodes: tuple[int, int] = (5, 8)
    gap: float = 1.2
    style: Style = field(default_factory=Style)
    grids: tuple[int, ...] = (4, 5)
    inset: float | None = None
    tours: tuple[int, int] = (4, 8)

    def __post_init__(self) -> None:
        fewest, most = self.nodes
        if not FEWEST_NODES <= fewest <= most:
            raise UserError(
                f"nodes from {fewest} to {most}: the basic questions need {FEWEST_NODES} at least, and no "
                "more as the fewest than as the most"
            )
        if not self.gap >= 2 * self.style.radius:
            raise UserError(
                f"gap {self.gap}: nodes of radius {self.style.radius} overlap; it must be "
                f"{2 * self.style.radius} at least"
            )


FORMS = {
    "paper": Form(),
    "embedded": Form(  # grids' nodes lie in the middles of patches, of which there are 9 along a side
        nodes=(4, 5),
        gap=2.3,
        style=Style(width=126, radius=0.85, glyph=1.0, text="{}", edge=0.32),
        grids=(3, 4),
        inset=PLANE / 6,
        tours=(4, 5),
    ),
}


def load(
    path: str | Path = "paper",
    split: str = "test",
    limit: int | None = None,
    capabilities: Sequence[str] = CAPABILITIES,
    numbers: bool = True,
    configurations: int | None = None,
    pairs: int | None = None,
    seed: int = 0,
    form: Form | None = None,
    training: bool = False,
) -> LazyExamples:
    """Basic questions, rendered or read from files, with the family as task.

    Args:
        path: a name of `FORMS`, for questions rendered on access; or what `make_data/sparkle.py` wrote: its
            folder, a parquet file, or a hub id.
        split: train, validation or test.
        limit: maximum number of questions, the first ones.
        capabilities: those to load.
        numbers: whether to load families whose answer is a number; without them is the paper's ablation.
        configurations: number of rendered ones; `CONFIGURATIONS` by default.
        pairs: questions per rendered configuration; by default each family once, and one more.
        form: in place of the one that `path` names.
        training: rows that cannot be used are left out and counted (`files.exclusion`), not refused.

    Returns:
        Examples whose `meta` has `capability`, `answer_type`, `options` (labels that the question lists) and
        `nodes` (places by label).

    Raises:
        UserError: nothing there, an unknown split or capability, an invalid row; the message names it. In
            training, more than 1 % such rows.
    """
    require_at_least(1, limit=limit)
    if str(path) not in FORMS:
        families = chosen(capabilities, numbers)
        return read(path, split, check, FAMILIES.__contains__, families.__contains__, limit, training)
    made = series(str(path), split, capabilities, numbers, pairs, seed, form)
    questions = lru_cache(maxsize=64)(made)
    size = made.pairs * (configurations or CONFIGURATIONS[split])
    indices = range(size if limit is None else min(limit, size))
    return LazyExamples(lambda index: questions(index // made.pairs)[index % made.pairs], indices)


# ---- rendered


def scatter(name: str, form: Form, nodes: tuple[int, int]) -> Configuration:
    """The nodes that follow from a name, their number random within `nodes`."""
    rng = Random(name)
    points = place(rng.randint(*nodes), form.gap, form.style.radius, rng)
    return Configuration(name, {f"N{number}": point for number, point in enumerate(points, start=1)})


def configuration(name: str, form: Form) -> Configuration:
    """The first of a series that allows a question of every family.

    Raises:
        UserError: more nodes than fit, or so many, or so evenly placed, that some family never has one.
    """
    for attempt in range(SCATTERS):
        nodes = scatter(f"{name}-{attempt}", form, form.nodes)
        if all(_ask(nodes, family, 0) for family in FAMILIES):
            return nodes
    raise UserError(
        f"{SCATTERS} images of {form.nodes[0]} to {form.nodes[1]} nodes at least {form.gap} units apart "
        "hold none of which every family can ask a clear question; use fewer nodes or a smaller gap"
    )


def _ask(nodes: Configuration, family: str, turn: int) -> Question | None:
    return FAMILIES[family].ask(nodes, Random(f"{nodes.name}-{family}-{turn}"))


def chosen(capabilities: Sequence[str] = CAPABILITIES, numbers: bool = True) -> tuple[str, ...]:
    """The families of some capabilities, with or without those whose answer is a number.

    Raises:
        UserError: no capability, or an unknown one.
    """
    if not capabilities or set(capabilities) - set(CAPABILITIES):
        raise UserError(f"--capabilities {' '.join(capabilities)}: must be some of {', '.join(CAPABILITIES)}")
    return tuple(
        name
        for name, family in FAMILIES.items()
        if family.capability in capabilities and (numbers or not family.numbers)
    )


@dataclass(frozen=True)
class Series:
    """Makes the questions of a split from a configuration's number, in this process or another."""

    form_name: str
    form: Form
    split: str
    seed: int
    families: tuple[str, ...]
    pairs: int

    def __call__(self, index: int) -> list[Example]:
        """All questions of a configuration, with one image.

        Raises:
            UserError: it has fewer different questions, or its nodes do not fit.
        """
        name = f"sparkle-{self.form_name}-{self.split}-{self.seed}-{index}"
        nodes = configuration(name, self.form)
        image = render(nodes.points, self.form.style, Random(f"{name}-picture"))
        first = index % len(self.families)  # whose turn it is to have one more
        order = self.families[first:] + self.families[:first]
        questions: dict[str, tuple[str, Question]] = {}
        for turn in range(TRIES * self.pairs):
            family = order[turn % len(order)]
            question = _ask(nodes, family, turn // len(order))
            if question and question.question not in questions:
                questions[question.question] = family, question
            if len(questions) == self.pairs:
                break
        else:
            raise UserError(
                f"{name} has only {len(questions)} different questions of {len(order)} families; "
                "lower --pairs"
            )
        return [
            _example(f"{name}-{number}", nodes, image, family, question)
            for number, (family, question) in enumerate(questions.values())
        ]


def series(
    name: str,
    split: str,
    capabilities: Sequence[str] = CAPABILITIES,
    numbers: bool = True,
    pairs: int | None = None,
    seed: int = 0,
    form: Form | None = None,
) -> Series:
    """The series of a split's questions; arguments as of `load`.

    Raises:
        UserError: an unknown split or capability, less than one question per image.
    """
    families = chosen(capabilities, numbers)
    if split not in CONFIGURATIONS:
        raise UserError(f"Sparkle's questions have the splits {', '.join(CONFIGURATIONS)}, not {split!r}")
    require_at_least(1, pairs=pairs)
    return Series(name, form or FORMS[name], split, seed, families, pairs or len(families) + 1)


def _example(id: str, nodes: Configuration, image: Image.Image, family: str, question: Question) -> Example:
    kind = FAMILIES[family]
    return Example(
        id=id,
        images=(image,),
        question=question.question,
        answer=question.answer,
        task=family,
        prompt=f"{question.question} {HINTS[kind.answer_type]}",
        meta={
            "capability": kind.capability,
            "answer_type": kind.answer_type,
            "options": question.options,
            "nodes": dict(nodes.points),
        },
    )


# ---- files: writing

TEXTS = ("id", "question", "prompt", "answer", "task", "capability", "answer_type")
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
_STRING, _FLOAT = ({"dtype": dtype, "_type": "Value"} for dtype in ("string", "float64"))
_STRINGS = {"feature": _STRING, "_type": "List"}
_FEATURES = {
    "image": {"_type": "Image"},
    **dict.fromkeys((*TEXTS, "start", "end"), _STRING),
    "options": _STRINGS,
    "nodes": {"feature": {"label": _STRING, "x": _FLOAT, "y": _FLOAT}, "_type": "List"},
    "edges": {"feature": _STRINGS, "_type": "List"},
    "optimum": _FLOAT,
}
# What `datasets` writes, so that it decodes the images; written without it, which alone takes 100 MB.
SCHEMA = pa.schema(_COLUMNS, {"huggingface": json.dumps({"info": {"features": _FEATURES}})})
ROW_GROUP = 2000
DICTIONARY_BYTES = 2**27  # of a column chunk: an image is in it once, however many rows show it


def row(example: Example, png: bytes) -> rows.Row:
    """The row of a question, its image already encoded."""
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


def write(file: Path, made: Iterable[rows.Row]) -> None:
    """Write rows, group by group, in the hub's format."""
    rows.write_parquet(file, SCHEMA, made, ROW_GROUP, dictionary_pagesize_limit=DICTIONARY_BYTES)


# ---- files: reading


def read(
    path: str | Path,
    split: str,
    fault_of: Callable[[Example], str | None],
    known: Callable[[str], bool],
    wanted: Callable[[str], bool] = lambda task: True,
    limit: int | None = None,
    training: bool = False,
) -> LazyExamples:
    """Questions of some tasks, each row checked now, each example made on access.

    Args:
        path: a folder of this format, a parquet file, what `save_to_disk` wrote, or a hub id.
        fault_of: returns what is wrong with an example, or None.
        known: whether a row may have such a task.
        wanted: whether to load it; other rows are skipped.
        training: invalid rows and duplicates are left out and counted, not refused.

    Raises:
        UserError: nothing there, an invalid row, a duplicate id; the message names it. In training, more than
            1 % such rows.
    """
    files = sorted(Path(path).glob(f"{split}-*.parquet")) if Path(path).is_dir() else []
    table = rows.Rows([part for file in files for part in rows.read(file, split).tables])
    if not files:
        table = rows.read(path, split)
    folder = rows.beside(path)
    seen: dict[str, str] = {}

    def usable(number: int) -> bool:
        where, each = table[number]
        if not known(task := rows.text(each, "task", where)):
            message = f"{where}: 'task' {shown(task)} is none of this data set; correct or remove the row"
            raise RowError(message, "unknown 'task'")
        if not wanted(task):
            return False
        example = _from_row(where, each, folder)
        if fault := fault_of(example):
            raise RowError(f"{where}: {fault}; correct or remove the row", "answer does not follow")
        if example.id in seen:
            message = f"{where}: its id {example.id!r} is {seen[example.id]}'s; make ids unique"
            raise RowError(message, "duplicate id")
        seen[example.id] = where
        return True

    chosen = usable_rows(range(len(table)), usable, f"{path} {split}", limit, training)
    if not chosen.numbers:
        raise UserError(f"{path} has no row of split '{split}' with a task to load")
    facts = {"excluded": chosen.excluded} if training else {}
    return LazyExamples(lambda number: _from_row(*table[number], folder), chosen.numbers, kept=1, facts=facts)


def _from_row(where: str, each: rows.Row, folder: Path | None) -> Example:
    image = rows.as_image(rows.need(each, "image", where), where, folder)
    rows.require_files([image], where)
    texts = {name: rows.text(each, name, where) for name in TEXTS if name != "answer"}
    texts["answer"] = rows.as_word(rows.need(each, "answer", where), "answer", where).strip()
    nodes = _nodes(rows.need(each, "nodes", where), where)
    meta: dict[str, Any] = {name: texts[name] for name in ("capability", "answer_type")}
    options = rows.as_texts(each.get("options") or [], "options", where)
    meta |= {"options": tuple(options), "nodes": nodes}
    if each.get("optimum") is not None:
        if not (isinstance(each["optimum"], float | int) and 0 < each["optimum"] < math.inf):
            message = f"{where}: 'optimum' must be a length, not {shown(each['optimum'])}"
            raise RowError(message, "invalid 'optimum'")
        meta["optimum"] = float(each["optimum"])
    if each.get("edges") is not None:
        meta |= {name: rows.text(each, name, where) for name in ("start", "end")}
        edges = each["edges"] if isinstance(each["edges"], list) else [each["edges"]]
        for edge in (*edges, [meta["start"], meta["end"]]):
            if not isinstance(edge, list) or len(edge) != 2 or not all(label in [*nodes] for label in edge):
                message = f"{where}: 'edges', 'start' and 'end' must be among its nodes, not {shown(edge)}"
                raise RowError(message, "invalid 'edges'")
        meta["edges"] = [tuple(edge) for edge in each["edges"]]
    return Example(
        id=texts["id"],
        images=(image,),
        **{name: texts[name] for name in ("question", "answer", "task", "prompt")},
        meta=meta,
    )


def _nodes(listed: Any, where: str) -> dict[str, tuple[float, float]]:
    nodes: dict[str, tuple[float, float]] = {}
    listed = rows.list_in(listed) if isinstance(listed, str) else listed
    for node in listed if isinstance(listed, list) else [listed]:
        label, *point = (node.get(name) for name in ("label", "x", "y")) if isinstance(node, dict) else "?"
        on_plane = len(point) == 2 and all(
            isinstance(along, float | int) and 0 <= along <= PLANE for along in point
        )
        if not on_plane or not isinstance(label, str) or label in nodes:
            message = (
                f"{where}: 'nodes' must be different labels with x and y from 0 to {PLANE:g}, not "
                f"{shown(node)}"
            )
            raise RowError(message, "invalid 'nodes'")
        nodes[label] = (float(point[0]), float(point[1]))
    return nodes
