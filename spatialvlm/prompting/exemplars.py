"""What strategies show besides the question: worked examples with their scene graphs, and depth maps.

Examples never come from a tested question. In the embedded profile they are questions of the rendered
training split, with exact graphs. Elsewhere a file is given: rows (jsonl, json or parquet) with `id`, `image`
(a file beside the rows, or a list of them), `prompt` (the whole question as the model is shown it), `answer`
and `graph` (a JSON object, or its text).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.images import open_depth, open_image
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Exemplar
from spatialvlm.worlds.clevr import scenes, series
from spatialvlm.worlds.clevr.facts import Scene, matches
from spatialvlm.worlds.clevr.two_views import two_views

SPLIT = "train"
MAX_OBJECTS = 3  # in an example's graph: longer ones say no more, and fill a small model's context
_RELATIONS = {"left": "left of", "front": "in front of"}  # one of each pair of opposites is enough
_BOXES = {"Depth": ("red", "blue"), "Distance": ("red", "blue", "green")}


# ---- worked examples


def embedded(benchmark: str, shots: int, two_images: bool = False) -> tuple[Exemplar, ...]:
    """The first questions of the rendered training split whose graphs are small enough.

    Args:
        benchmark: `cvbench`, `sat`, `vsr` or `clevr`.
        two_images: take questions about two images, whose graphs hold shifts.
    """
    make = two_views if two_images else getattr(series, benchmark)
    found: list[Exemplar] = []
    size = 0
    while len(found) < shots:
        size += 1
        example = make(SPLIT, size)[size - 1]
        value = shift_graph(example) if two_images else scene_graph(example)
        if len(value["objects"]) <= MAX_OBJECTS:
            found.append(Exemplar(example, json.dumps(value)))
    return tuple(found)


def scene_graph(example: Example) -> dict[str, Any]:
    """The exact graph of a rendered scene: the objects that its question is about, and their relations."""
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
        center = [round(column / scenes.WIDTH, 2), round(row / scenes.HEIGHT, 2)]
        objects.append(
            {"id": f"o{index + 1}", "name": thing["shape"], "attributes": attributes, "center": center}
        )
    relations = [
        [f"o{first + 1}", words, f"o{second + 1}"]
        for one, other in combinations(chosen, 2)
        for side, words in _RELATIONS.items()
        for first, second in ((one, other), (other, one))
        if first in scene["relationships"][side][second]
    ]
    return {"objects": objects, "relations": relations}


def shift_graph(example: Example) -> dict[str, Any]:
    """The exact graph of two views: every object with its shift."""
    shifts = zip(scene_of(example)["objects"], example.meta["shifts"], strict=True)
    return {
        "objects": [
            {
                "id": f"o{number}",
                "name": " ".join(thing[name] for name in ("size", "color", "material", "shape")),
                "shift": shift,
            }
            for number, (thing, shift) in enumerate(shifts, start=1)
        ]
    }


def from_file(path: str | Path, shots: int, images: int | None = None) -> tuple[Exemplar, ...]:
    """The first `shots` rows of a file.

    Args:
        images: number of images that each must have; any number where None.

    Raises:
        UserError: no such file, too few rows, a repeated id, a row without a field, with a broken image or
            graph, or with another number of images; the message names the row.
    """
    table, folder = rows.read(path, SPLIT), rows.beside(path)
    if len(table) < shots:
        raise UserError(f"--exemplars {path} has {len(table)} rows, --shots {shots} needs as many; add rows")
    found = [_from_row(*table[number], folder, images) for number in range(shots)]
    ids = [exemplar.example.id for exemplar in found]
    if repeated := sorted({id for id in ids if ids.count(id) > 1}):
        raise UserError(f"--exemplars {path}: two rows have the id {repeated[0]!r}; make the ids unique")
    return tuple(found)


def _from_row(where: str, row: dict[str, Any], folder: rows.Folder | None, images: int | None) -> Exemplar:
    value = rows.need(row, "image", where)
    files = value if isinstance(value, list | tuple) else [value]
    opened = tuple(rows.as_image(each, where, folder) for each in files)
    if images not in (None, len(opened)):
        raise UserError(f"{where} has {len(opened)} image(s), and {images} are needed; give other examples")
    for image in opened:
        open_image(image)  # a broken one is named before the study begins
    prompt, answer, id = (rows.text(row, name, where) for name in ("prompt", "answer", "id"))
    value = rows.need(row, "graph", where)
    text = value if isinstance(value, str) else json.dumps(value)
    if graph.parse(text) is None:
        raise UserError(f"{where}: 'graph' is no JSON object or list; correct or remove the row")
    return Exemplar(Example(id, opened, prompt, answer, task="exemplar", prompt=prompt), text)


class Overlap:
    """Check that no tested question is also a worked example."""

    def __init__(self, exemplars: Sequence[Exemplar]):
        self.ids = {exemplar.example.id for exemplar in exemplars}
        self.images = {digest for exemplar in exemplars for digest in _digests(exemplar.example)}

    def check(self, example: Example) -> None:
        """Raise UserError where an example has the id of this question, or one of its images."""
        if not self.ids:
            return
        if example.id in self.ids or example.meta.get("cluster") in self.ids:
            raise UserError(f"question {example.id!r} is one of the examples; take them from another split")
        if self.images & _digests(example):
            raise UserError(
                f"question {example.id!r} has an image of one of the examples; take them from another split"
            )


def _digests(example: Example) -> set[str]:
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in example.open_images()}


# ---- depth maps


def depth_maps(
    folder: str | Path | None, examples: Sequence[Example] = ()
) -> Callable[[Example], Image.Image]:
    """Return a function from an example to its depth map, grey in RGB, near objects bright (`open_depth`).

    Args:
        folder: holds `<id>.png` for every question, with `_` for `/` in the id (one for all orders of a SAT
            question's choices); where None, the map is rendered.
        examples: whose files are checked now.

    Raises:
        UserError: no such folder, a file is missing or broken; on a call also a scene that is not rendered.
    """
    if folder is None:
        return rendered_depth
    if not Path(folder).is_dir():
        raise UserError(f"--depth {folder}: no such folder")

    def file(example: Example) -> Path:
        return Path(folder) / f"{example.meta.get('cluster', example.id).replace('/', '_')}.png"

    for example in examples:
        rows.checked_file(file(example), f"--depth of question {example.id}")
    return lambda example: open_depth(file(example))


def rendered_depth(example: Example) -> Image.Image:
    """The renderer's depth buffer, scaled from nearest (255) to farthest (0)."""
    depth = scenes.render_scene(scene_of(example), series.WIDTH, series.HEIGHT, samples=1).depth
    near, far = float(depth.min()), float(depth.max())
    grey = np.rint(255 * (far - depth) / max(far - near, 1e-6)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def scene_of(example: Example) -> Scene:
    """The scene of a rendered question. Raises UserError for a question about any other image."""
    place = example.meta.get("scene")
    if not isinstance(place, list):
        raise UserError(
            f"question {example.id!r} is not of a rendered scene; give its depth map with --depth"
        )
    return scenes.make(*place)
