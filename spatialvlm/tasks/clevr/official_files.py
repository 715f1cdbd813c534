"""CLEVR's scenes and questions files read one item at a time, every scene checked.

An official file is one JSON list of up to hundreds of megabytes. Of a scene only what a description or a
depth map needs is kept, as text, so that memory grows by some 2 kB a scene.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO

import ijson
from tqdm import tqdm

from spatialvlm import text_files
from spatialvlm.errors import UserError, shown
from spatialvlm.files import rows
from spatialvlm.worlds.clevr.facts import VALUES, Scene

_KEPT = ("size", "color", "material", "shape", "rotation", "3d_coords", "pixel_coords")


class Scenes(Mapping[str, Scene]):
    """The scenes of some files by image name, checked; held as text of some 2 kB, and parsed when asked for.

    Raises:
        UserError: a file that is not whole, a scene that `check_scene` refuses, two of one name.
    """

    def __init__(self, files: Sequence[Path], progress: bool = False) -> None:
        self._texts: dict[str, str] = {}
        for file in files:
            for where, scene in stream(file, "scenes", progress):
                check_scene(scene, where)
                name = intern(scene["image_filename"])
                if name in self._texts:
                    raise UserError(
                        f"{where}: a scene of 'image_filename' {name!r} was there before; remove one"
                    )
                objects = [{key: thing[key] for key in _KEPT if key in thing} for thing in scene["objects"]]
                kept = {"image_filename": name, "objects": objects, "directions": scene["directions"]}
                kept |= {"image_index": scene.get("image_index")}
                try:
                    self._texts[name] = json.dumps(kept)
                except RecursionError:
                    raise UserError(f"{where} is nested too deeply; fetch the file again") from None

    def __getitem__(self, name: str) -> Scene:
        return json.loads(self._texts[name])

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)


def stream(file: Path, key: str, progress: bool = False) -> Iterator[tuple[str, Any]]:
    """(a name for messages, the item) of the list `key` of a JSON file, one item in memory at a time.

    Raises:
        UserError: no such file, one that is not JSON to its end, or one without that list.
    """
    number = -1
    try:
        with (
            file.open("rb") as opened,
            tqdm(
                total=file.stat().st_size,
                desc=file.name,
                unit="B",
                unit_scale=True,
                delay=1,
                dynamic_ncols=True,
                disable=not progress,
            ) as bar,
        ):
            encoding = _encoding(opened.read(64), file)
            opened.seek(0)
            content = opened if encoding == "utf-8" else _InUtf8(opened, encoding)
            for number, item in enumerate(ijson.items(content, f"{key}.item", use_float=True)):
                bar.update(opened.tell() - bar.n)
                yield f"{file} {key.removesuffix('s')} {number}", item
    except (ijson.JSONError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file} is not JSON after {key} {number} ({reason}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None
    if number < 0:
        raise UserError(f"{file} holds no '{key}'; it should be a CLEVR {key} file")


class _InUtf8:
    """A file of another encoding in UTF-8, which alone ijson reads."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self.reader = codecs.getreader(encoding)(file)

    def read(self, size: int) -> bytes:
        return self.reader.read(size).encode()


def _encoding(content: bytes, file: Path) -> str:
    """The encoding of a file by its beginning. Raises UserError where it is no text."""
    if reason := text_files.no_text(content):
        raise UserError(f"{file} {reason}")
    return json.detect_encoding(content)


def check_scene(scene: Any, where: str) -> None:
    """Raises UserError, naming scene and field, unless all that a description needs is there and sound."""
    text(scene, "image_filename", where)
    things = rows.need(scene, "objects", where)
    if not isinstance(things, list):
        raise UserError(f"{where}: 'objects' must be a list, not {shown(things)}")
    for number, thing in enumerate(things):
        spot = f"{where} object {number}"
        for field, values in VALUES.items():
            value = rows.need(thing, field, spot)
            if value not in values:
                raise UserError(f"{spot}: '{field}' is {shown(value)}, not one of {', '.join(values)}")
        _vector(thing, "3d_coords", spot)
    ways = rows.need(scene, "directions", where)
    right, left, behind, front = (
        _vector(ways, side, f"{where} directions") for side in ("right", "left", "behind", "front")
    )
    for way, back, side in ((right, left, "right"), (behind, front, "behind")):
        if abs(math.hypot(*way) - 1) > 1e-3 or math.dist(way, [-c for c in back]) > 1e-3:
            raise UserError(
                f"{where} directions: '{side}' is {way}; it must be of length 1 and the other way from {back}"
            )


def check_places(scene: Scene, where: str) -> None:
    """Raises UserError, naming the field, unless a checked scene has `pixel_coords` and `relationships`."""
    things = scene["objects"]
    for number, thing in enumerate(things):
        _vector(thing, "pixel_coords", f"{where} object {number}")
    sides = rows.need(scene, "relationships", where)
    for side in ("right", "left", "behind", "front"):
        listed = sides.get(side) if isinstance(sides, dict) else None
        if not isinstance(listed, list) or len(listed) != len(things) or not all(map(_is_list, listed)):
            raise UserError(
                f"{where}: 'relationships' must list, per object, those to its '{side}', not {shown(listed)}"
            )
        if wrong := [
            each for of in listed for each in of if type(each) is not int or not 0 <= each < len(things)
        ]:
            raise UserError(f"{where}: 'relationships' name object {shown(wrong[0])} of {len(things)}")


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _vector(holder: Any, field: str, where: str) -> list[float]:
    value = rows.need(holder, field, where)
    numbers = isinstance(value, list) and all(type(c) in (int, float) and math.isfinite(c) for c in value)
    if not numbers or len(value) != 3:
        raise UserError(f"{where}: '{field}' must be three numbers, not {shown(value)}")
    return value


def text(row: rows.Row, field: str, where: str) -> str:
    """A field that must be a text. Raises UserError naming row and field."""
    return rows.as_text(rows.need(row, field, where), field, where)
