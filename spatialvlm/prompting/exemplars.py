"""Worked examples for k-shot prompting, with right scene graphs; never of a question that is tested on.

In the embedded profile they are questions of the rendered training split, whose scenes are no test's, and
their graphs are exact. Elsewhere a file is given: rows (jsonl, json or parquet) with `id`, `image` (a file
beside the rows, or several), `prompt` (the whole question as the model is shown it), `answer` and `graph`
(a JSON object, or the text of one).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.example import Example, open_image
from spatialvlm.files import rows
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Exemplar
from spatialvlm.prompting.views import scene_of, two_views
from spatialvlm.worlds.clevr import series
from spatialvlm.worlds.clevr.facts import matches
from spatialvlm.worlds.clevr.scenes import HEIGHT, WIDTH

SPLIT = "train"
LARGEST = 3  # objects in an example's graph: longer ones say no more, and fill a small model's window
_SAID = {"left": "left of", "front": "in front of"}  # one of each pair of opposite relations is enough
_BOXES = {"Depth": ("red", "blue"), "Distance": ("red", "blue", "green")}


def embedded(benchmark: str, shots: int, two_images: bool = False) -> tuple[Exemplar, ...]:
    """The first questions of the rendered training split whose graphs are small enough.

    Args:
        benchmark: `cvbench`, `sat`, `vsr` or `clevr`.
        two_images: questions about two pictures, whose graphs hold shifts.
    """
    makers = {
        "cvbench": series.cvbench,
        "sat": two_views if two_images else series.sat,
        "vsr": series.vsr,
        "clevr": series.clevr,
    }
    found: list[Exemplar] = []
    size = 0
    while len(found) < shots:
        size += 1
        example = makers[benchmark](SPLIT, size)[size - 1]
        value = shift_graph(example) if two_images else scene_graph(example)
        if len(value["objects"]) <= LARGEST:
            found.append(Exemplar(example, json.dumps(value)))
    return tuple(found)


def scene_graph(example: Example) -> dict[str, Any]:
    """The exact graph of a rendered scene: the objects that its question is about, and how they stand."""
    scene, meta = scene_of(example), example.meta
    chosen = meta.get("objects")
    if chosen is None:
        chosen = matches(scene, meta["filter"]) if "filter" in meta else range(len(scene["objects"]))
    boxes = dict(zip(chosen, _BOXES.get(example.task, ()), strict=False))
    objects = []
    for index in chosen:
        thing = scene["objects"][index]
        column, row, _ = thing["pixel_coords"]
        attributes = [thing[name] for name in ("size", "color", "material")]
        attributes += [f"{boxes[index]} box"] if index in boxes else []
        center = [round(column / WIDTH, 2), round(row / HEIGHT, 2)]
        objects.append(
            {"id": f"o{index + 1}", "name": thing["shape"], "attributes": attributes, "center": center}
        )
    relations = []
    for one, other in combinations(chosen, 2):
        for side, words in _SAID.items():
            for first, second in ((one, other), (other, one)):
                if first in scene["relationships"][side][second]:
                    relations.append([f"o{first + 1}", words, f"o{second + 1}"])
    return {"objects": objects, "relations": relations}


def shift_graph(example: Example) -> dict[str, Any]:
    """The exact graph of two views: every object with its shift."""
    things = scene_of(example)["objects"]
    names = [" ".join(thing[name] for name in ("size", "color", "material", "shape")) for thing in things]
    return {
        "objects": [
            {"id": f"o{number}", "name": name, "shift": shift}
            for number, (name, shift) in enumerate(zip(names, example.meta["shifts"], strict=True), start=1)
        ]
    }


def from_file(path: str | Path, shots: int, pictures: int | None = None) -> tuple[Exemplar, ...]:
    """The first `shots` rows of a file.

    Args:
        pictures: how many each must have; any number where None.

    Raises:
        UserError: nothing there, too few rows, an id twice, a row without a field or with a picture or a
            graph that is broken, or with another number of pictures; the message names the row.
    """
    table, folder = rows.read(path, SPLIT), rows.beside(path)
    if len(table) < shots:
        raise UserError(f"--exemplars {path} has {len(table)} rows, --shots {shots} needs as many; add rows")
    found = [_row(*table[number], folder, pictures) for number in range(shots)]
    ids = [exemplar.example.id for exemplar in found]
    if again := sorted({id for id in ids if ids.count(id) > 1}):
        raise UserError(f"--exemplars {path}: two rows have the id {again[0]!r}; make the ids unique")
    return tuple(found)


def _row(where: str, row: dict[str, Any], folder: Path | None, pictures: int | None) -> Exemplar:
    value = rows.need(row, "image", where)
    images = tuple(
        rows.picture(each, where, folder) for each in (value if isinstance(value, list | tuple) else [value])
    )
    if pictures not in (None, len(images)):
        raise UserError(
            f"{where} has {len(images)} picture(s), and {pictures} are needed; give other examples"
        )
    for image in images:
        open_image(image)
    prompt, answer, id = (rows.text(row, name, where) for name in ("prompt", "answer", "id"))
    said = rows.need(row, "graph", where)
    text = said if isinstance(said, str) else json.dumps(said)
    if graph.parse(text) is None:
        raise UserError(f"{where}: 'graph' is no JSON object or list; mend or remove the row")
    return Exemplar(Example(id, images, prompt, answer, task="exemplar", prompt=prompt), text)


class Apart:
    """Sees to it that no question is tested that is an example as well."""

    def __init__(self, exemplars: Sequence[Exemplar]):
        self.ids = {exemplar.example.id for exemplar in exemplars}
        self.pictures = {name for exemplar in exemplars for name in _pictures(exemplar.example)}

    def check(self, example: Example) -> None:
        """Raises UserError where an example has the id of this question, or one of its pictures."""
        if not self.ids:
            return
        if example.id in self.ids or example.meta.get("cluster") in self.ids:
            raise UserError(f"question {example.id!r} is one of the examples; take them from another split")
        if self.pictures & _pictures(example):
            raise UserError(
                f"question {example.id!r} has a picture of one of the examples; take them from another split"
            )


def _pictures(example: Example) -> set[str]:
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in example.open_images()}
