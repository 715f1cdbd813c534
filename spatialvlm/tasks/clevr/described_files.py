"""Described questions as files: rows, depth maps, and a folder that is there whole or not at all.

A row has what the hub's CLEVR rows have (`image`, `problem`, `solution`: `clevr.load` reads it) and more, see
`SCHEMA`. Parquet holds images as bytes, each once a row group, since its dictionaries are given room;
jsonl holds paths relative to its folder. `depth` is an image of 16 bits in thousandths of the scene's unit
where our renderer makes it, and as it was found where it comes from a data set.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from spatialvlm.disk import disk_errors
from spatialvlm.errors import UserError, first_line
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.images import open_image
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr.described import STYLES
from spatialvlm.worlds.clevr import render, scenes
from spatialvlm.worlds.clevr.facts import Scene

TEXTS = ("id", "question", "answer", "problem", "solution", *(f"description_{style}" for style in STYLES))
TEXTS += ("described_answer", "axes", "image_filename", "family", "split")
_PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_COLUMNS = {name: pa.string() for name in TEXTS} | {"question_index": pa.int64()}
_COLUMNS |= {"image": _PICTURE, "depth": _PICTURE}
_FEATURES = {name: {"dtype": "string", "_type": "Value"} for name in TEXTS}
_FEATURES |= {"question_index": {"dtype": "int64", "_type": "Value"}}
_FEATURES |= {name: {"_type": "Image"} for name in ("image", "depth")}
# What `datasets` writes, so that it decodes the images; without it here, which alone takes 100 MB.
SCHEMA = pa.schema(_COLUMNS, {"huggingface": json.dumps({"info": {"features": _FEATURES}})})
ROW_GROUP, HELD_BYTES = 1000, 2**26  # rows, or bytes of images, written at a time
SAME_PICTURE = 3.0  # grey levels of 256: one image resized differs by 0.1, two CLEVR images by 6 or more
DEPTH_UNIT = 1000  # levels of a rendered depth map to the scene's unit
NAMES = (  # what joining depth maps needs, and how to give it
    "depth maps are joined by the images' names: give --depth a folder of depth maps called like the images "
    "(CLEVR_val_000000.png), or rows whose 'image' or 'depth' has such a path, or 'rendered'"
)


def row(example: Example, axes: str, image: Any, depth: Any) -> rows.Row:
    """The row of a question that `described.load` gave.

    Args:
        image, depth: as the file form holds images: `{"bytes", "path"}`, a path, or None.
    """
    meta = example.meta
    return {
        "id": example.id,
        "image": image,
        "depth": depth,
        "question": example.question,
        "answer": example.answer,
        "problem": example.question,
        "solution": f"<answer> {example.answer} </answer>",
        **{f"description_{style}": meta["descriptions"][style] for style in STYLES},
        "described_answer": meta["described_answer"],
        "axes": axes,
        "image_filename": meta["image_filename"],
        "question_index": meta["question_index"],
        "family": example.task,
        "split": meta["split"],
    }


# ---- depth


def render_depth(scene: Scene, width: int, height: int) -> Image.Image:
    """The distance along the camera's axis of what each pixel's centre sees: 16 bits, thousandths of a unit.

    A scene without a camera (an official one) gets the one that its `pixel_coords` fix; beyond 65.5 units all
    is 65,535.

    Raises:
        UserError: an official scene without `pixel_coords` or `rotation`.
    """
    for number, thing in enumerate(scene["objects"]):
        for field in ("pixel_coords", "rotation"):
            if field not in thing:
                spot = f"scene of {scene['image_filename']} object {number}"
                raise UserError(
                    f"{spot} has no '{field}', which a depth map is drawn from; leave out --depth"
                )
    view = scenes.view(scene)
    rays, reach, _ = render.visibility(scene, view, width, height)
    along = reach * np.tensordot(view.axes[2].astype(np.float32), rays, 1)
    return Image.fromarray(np.clip(along * DEPTH_UNIT + 0.5, 0, 65535).astype(np.uint16))


def check_depths(path: str, split: str, questions: str, images: Path) -> None:
    """Check that the depth maps of a data set can be given to scenes, before any scene is read.

    Args:
        split: of the depth data set.
        questions: split of the questions, which is in the images' names.
        images: the official folder.

    Raises:
        UserError: nothing there; or the first row bears no name of an image, and its image is not the first
            of the questions' split.
    """
    if _depth_files(path):
        return
    for where, each in islice(rows.read(path, split), 1):
        if _name_of(each) is None:
            _check_same_image(each, where, clevr.image_file(images, f"CLEVR_{questions}_000000.png"))


def find_depths(
    path: str, split: str, wanted: Mapping[str, int | None], images: Path, folder: Path
) -> dict[str, Path]:
    """Depth maps by image name, as files.

    They come from a folder of depth maps called like the images, or from rows of `image, depth`
    (`erkam/clevr-with-depth`). A row goes by the file name of its image or depth map where it has one of
    CLEVR's, else by its number, which is the scene's `image_index`; then its image must be the folder's.

    Args:
        wanted: the scenes' `image_index` by image name.
        images: the official folder with the images that rows' own are compared to.
        folder: where to put the depth maps of rows, as PNG.

    Raises:
        UserError: no row or file fits, a row's image is not the scene's, or a broken image.
    """
    by_number = {index: name for name, index in wanted.items() if index is not None}
    named = _depth_files(path)
    found = {name: named[name] for name in wanted if name in named}
    folder.mkdir(parents=True, exist_ok=True)
    for number, (where, each) in enumerate([] if named else rows.read(path, split)):
        name = _name_of(each)
        if name is None and (name := by_number.get(number)) is not None:
            _check_same_image(each, where, clevr.image_file(images, name))
        if name not in wanted:
            continue
        if name in found:
            raise UserError(f"{where}: a depth map of {name} was there before; remove one")
        depth = rows.as_image(rows.need(each, "depth", where), f"{where} depth", rows.beside(path))
        found[name] = folder / f"{Path(name).stem}.png"
        save_image(depth, found[name])
    if not found:
        kind = "file" if named else "row"
        raise UserError(
            f"--depth {path} (split {split}) has no {kind} of the {len(wanted)} scenes asked about"
        )
    return found


def _depth_files(path: str) -> dict[str, Path]:
    """The images in a folder that are called like CLEVR's, by its names; none where it holds rows."""
    if not Path(path).is_dir() or any(next(Path(path).rglob(f"*{end}"), None) for end in rows.SUFFIXES):
        return {}
    named = ((_clevr_name(file.name), file) for file in sorted(Path(path).rglob("*.png")))
    return {name: file for name, file in named if name is not None}


def _name_of(each: rows.Row) -> str | None:
    """CLEVR's name of a row's image, where the path of the image or of its depth map bears one."""
    for image in (each.get("image"), each.get("depth")):
        path = image.get("path") if isinstance(image, dict) else image
        path = getattr(image, "filename", None) if isinstance(image, Image.Image) else path
        if isinstance(path, str) and (name := _clevr_name(Path(path).name)):
            return name
    return None


def _clevr_name(file_name: str) -> str | None:
    found = re.search(r"CLEVR_\w+_\d{6}", file_name)
    return f"{found[0]}.png" if found else None


def _check_same_image(each: rows.Row, where: str, image: Path) -> None:
    """Raise UserError unless a row without a name shows an image of the official folder."""
    if not image.is_file():
        raise UserError(
            f"{where} bears no name of an image, and {image}, to compare it to, is not there; {NAMES}"
        )
    theirs = rows.as_image(rows.need(each, "image", where), where)
    small = [np.asarray(open_image(each).resize((48, 32)), float) for each in (theirs, image)]
    if (apart := np.abs(small[0] - small[1]).mean()) > SAME_PICTURE:
        raise UserError(
            f"{where} bears no name of an image, and its image is not {image.name} (mean difference "
            f"{apart:.1f} of 255); {NAMES}"
        )


def save_image(image: Image.Image | Path, file: Path) -> None:
    """Write an image as PNG in its own mode. Raises UserError: broken, or levels that PNG cannot hold."""
    name = image if isinstance(image, Path) else getattr(image, "filename", "") or "in memory"
    try:
        with Image.open(image) if isinstance(image, Path) else image as opened:
            levels = opened.getextrema() if opened.mode in ("I", "F") else (0, 0)
            if opened.mode == "F" or not 0 <= levels[0] <= levels[1] <= 65535:
                raise UserError(
                    f"image {name} holds levels from {levels[0]:,} to {levels[1]:,} ({opened.mode}), and PNG "
                    "whole ones from 0 to 65,535; scale it, such as to thousandths"
                )
            opened.save(file, "PNG")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"image {name} cannot be read ({error}); replace it or remove its row") from None


# ---- files


def write_parquet(file: Path, made: Iterator[rows.Row]) -> None:
    """Rows as the hub's parquet, row group by row group, with images that `datasets` decodes."""
    room = {"dictionary_pagesize_limit": 2 * HELD_BYTES, "compression": "zstd"}  # an image once a row group
    with disk_errors(file), parquet.ParquetWriter(file, SCHEMA, **room) as writer:
        held, size = [], 0
        for each in made:
            held.append(each)
            size += sum(len(each[name]["bytes"]) for name in ("image", "depth") if each[name])
            if len(held) == ROW_GROUP or size >= HELD_BYTES:
                writer.write_table(pa.Table.from_pylist(held, SCHEMA))
                held, size = [], 0
        if held:
            writer.write_table(pa.Table.from_pylist(held, SCHEMA))


def write_jsonl(file: Path, made: Iterator[rows.Row]) -> None:
    with disk_errors(file), file.open("w", encoding="utf-8") as opened:
        for each in made:
            opened.write(json.dumps(each) + "\n")


class Images:
    """Images in the form that a file holds them in: bytes in parquet, paths beside jsonl.

    Args:
        folder: where the rows are written now.
        final: where they will lie, which paths are relative to.
        embed: bytes, not paths.
    """

    def __init__(self, folder: Path, final: Path, embed: bool) -> None:
        self.folder, self.final, self.embed = folder, final, embed
        self._last: dict[str, tuple[str, Any]] = {}

    def hold(self, kind: str, name: str, make: Callable[[], Image.Image | Path | None]) -> Any:
        """The image `name` of a kind (images, depth), or None; the last one of a kind is not made again.

        A file that lies outside the folder stays there for paths; it must be whole in either form.
        """
        if self._last.get(kind, ("",))[0] != name:
            image = make()
            self._last[kind] = name, image and self._held(kind, name, image)
        return self._last[kind][1]

    def _held(self, kind: str, name: str, image: Image.Image | Path) -> Any:
        if isinstance(image, Path):
            open_image(image)  # a broken one must not get into a data set
        if self.embed:
            if isinstance(image, Path):
                return {"bytes": image.read_bytes(), "path": name}
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return {"bytes": buffer.getvalue(), "path": name}
        if isinstance(image, Path) and self.folder not in image.parents:
            return os.path.relpath(image, self.final)
        file = self.folder / kind / name
        file.parent.mkdir(exist_ok=True)
        if isinstance(image, Image.Image):
            image.save(file, "PNG")
        return str(file.relative_to(self.folder))


def push(file: Path, name: str, split: str) -> None:
    """Sends a parquet file's rows to the hub's data set `name`, as its split, in a stream.

    Raises:
        UserError: the hub refuses; the file stays where it is.
    """
    import datasets

    table = datasets.load_dataset("parquet", data_files={split: str(file)}, split=split, streaming=True)
    try:
        table.push_to_hub(name, split=split)
    except Exception as error:  # the hub's errors have no common ancestor
        reason = first_line(error)
        raise UserError(
            f"--push_to_hub {name}: {reason}; log in with `hf auth login` and check the name. {file} is whole"
        ) from None
    print(f"sent to https://huggingface.co/datasets/{name}, split {split}", flush=True)
