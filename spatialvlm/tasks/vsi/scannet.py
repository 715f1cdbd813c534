"""ScanNet (Dai et al., CVPR 2017): scan folders as they are downloaded, read into annotation of rooms.

A scan's folder holds `<scan>.txt` (with `axisAlignment`), `<scan>_vh_clean_2.ply` (the mesh),
`<scan>_vh_clean_2.0.010000.segs.json` (the segment of every vertex) and `<scan>.aggregation.json` (the
segments of every object). `scannetv2-labels.combined.tsv` turns annotators' words into cleaner labels
(`trash can`, not `trashcan`). Only labels of things are kept: walls, floors, ceilings and what has no name
have no questions. Some aggregations list their objects twice (all of scene0217_00's): an entry with the label
of an earlier one that shares more than `SAME` of the smaller's vertices is the same object, whatever its id.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from plyfile import PlyData, PlyElementParseError, PlyParseError
from scipy.spatial import Delaunay, QhullError

from spatialvlm import text_files
from spatialvlm.errors import UserError
from spatialvlm.worlds.annotation import Box, SceneAnnotation

MESH, SEGMENTS, OBJECTS = "_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"
NO_THINGS = frozenset(("wall", "floor", "ceiling", "object", "objects", "unknown", "misc", "remove", "stuff"))
LABEL_COLUMNS = ("raw_category", "category")
ALPHA = 5.0  # of the alpha shape, 1/m: what is narrower than some 40 cm is no gap (VSI-Bench's value)
SAMPLED = 10_000  # points that an area is taken from, as in VSI-Bench
ALIGNED = 1.01  # how much larger a box along the walls may be than the smallest one
SAME = 0.5  # fraction of the smaller one's vertices above which two entries of a label are one object
THINNEST = 0.01  # metres: no side of a box is shorter, though a scanned sheet has no thickness
_FETCH = "fetch the scan again, or move its folder away"


def scans(folder: str | Path) -> list[Path]:
    """The scan folders in a folder, by name: those that hold an aggregation or a mesh.

    Raises:
        UserError: no such folder, or no scan in it.
    """
    if not Path(folder).is_dir():
        raise UserError(f"no such folder: {folder}")
    folders = [
        place
        for place in sorted(Path(folder).iterdir())
        if any((place / f"{place.name}{end}").is_file() for end in (MESH, OBJECTS))
    ]
    if not folders:
        raise UserError(
            f"{folder} holds no scan; ScanNet's are folders like scene0000_00/ with its files in them"
        )
    return folders


def read_label_map(path: str | Path) -> dict[str, str]:
    """Labels by the annotators' words, from `scannetv2-labels.combined.tsv`.

    A quote is one more character of a word, but where it surrounds a whole field, as spreadsheets write it.

    Raises:
        UserError: a file that cannot be read or lacks a column, two labels of one word; the message names the
            line.
    """
    found: dict[str, str] = {}
    columns: list[int] = []
    for line, text in enumerate(text_files.read(path).split("\n"), 1):
        fields = [_unquoted(field.strip()) for field in text.split("\t")]
        if not columns:
            names = [field.casefold() for field in fields]
            if not set(LABEL_COLUMNS) <= set(names):
                raise UserError(
                    f"--label_map {path} has no columns {' and '.join(LABEL_COLUMNS)}; "
                    "give scannetv2-labels.combined.tsv"
                )
            columns = [names.index(name) for name in LABEL_COLUMNS]
            continue
        if len(fields) <= max(columns) or not all(fields[column] for column in columns):
            continue  # words that have no label, and blank lines
        word, label = (_one_space(fields[column]) for column in columns)
        if found.setdefault(word, label) != label:
            raise UserError(
                f"--label_map {path} line {line}: {word!r} is {label!r}, and {found[word]!r} further up; "
                "remove one of the lines"
            )
    if not found:
        raise UserError(f"--label_map {path} holds no label; give scannetv2-labels.combined.tsv")
    return found


def _unquoted(field: str) -> str:
    quoted = len(field) > 1 and field[0] == field[-1] == '"'
    return field[1:-1].replace('""', '"').strip() if quoted else field


def _one_space(text: str) -> str:
    return " ".join(text.split())


def read(folder: str | Path, label_map: Mapping[str, str] | None = None) -> SceneAnnotation:
    """Read a scan: upright boxes around its objects' vertices, and the floor area of all vertices.

    Args:
        label_map: as `read_label_map` returns it; without it the annotators' words stay as they are.

    Raises:
        UserError: a missing or broken file or one of another scan, no axis alignment, a vertex that is not
            finite, an object without segments or with unknown ones, no object at all, no floor; the message
            names the scan.
    """
    folder = Path(folder)
    scan, where = folder.name, f"scan {folder}"
    points = _vertices(_file(folder, MESH), where)
    points = points @ (turn := _axis_alignment(_file(folder, ".txt"), where))[:3, :3].T + turn[:3, 3]
    segments = _json(folder, SEGMENTS).get("segIndices")
    if not isinstance(segments, list) or len(segments) != len(points):
        count = len(segments) if isinstance(segments, list) else "no"
        raise UserError(f"{where}: its mesh has {len(points)} vertices, but {count} 'segIndices'; {_FETCH}")
    groups = _json(folder, OBJECTS).get("segGroups")
    if not isinstance(groups, list) or not groups:
        raise UserError(f"{where} has no object ('segGroups' is empty); {_FETCH}")
    objects: dict[str, list[np.ndarray]] = {}  # the vertices of each object, by label
    vertices = _Vertices(_whole(segments, "segIndices", where))
    words = {word.casefold(): label for word, label in (label_map or {}).items()} | dict(label_map or {})
    for number, group in enumerate(groups):
        label, chosen = _object(group, vertices, f"{where} object {number}")
        label = _one_space(words.get(label, words.get(label.casefold(), label))).lower()
        if label not in NO_THINGS:
            listed = objects.setdefault(label, [])
            same = [place for place, other in enumerate(listed) if _is_same(chosen, other)]
            if same:  # the largest of them, where the first was
                listed[same[0]] = max([*(listed[place] for place in same), chosen], key=len)
                listed[:] = [other for place, other in enumerate(listed) if place not in same[1:]]
            else:
                listed.append(chosen)
    if not objects:
        raise UserError(f"{where} has no object but walls, floors and the like; {_FETCH}")
    try:
        area = floor_area(points)
    except ValueError as error:
        raise UserError(f"{where} has no floor: {error}; {_FETCH}") from None
    return SceneAnnotation(
        scan,
        area,
        {label: len(listed) for label, listed in objects.items()},
        {label: tuple(upright_box(points[chosen]) for chosen in listed) for label, listed in objects.items()},
    )


class _Vertices:
    """An index of vertices by segment."""

    def __init__(self, segments: np.ndarray) -> None:
        self.order = np.argsort(segments, kind="stable")
        self.segments = segments[self.order]

    def of(self, wanted: np.ndarray) -> np.ndarray:
        """Those in the wanted segments. Raises KeyError with the first segment that has none."""
        starts, ends = (np.searchsorted(self.segments, wanted, side) for side in ("left", "right"))
        if len(empty := wanted[starts == ends]):
            raise KeyError(int(empty[0]))
        return np.concatenate([self.order[start:end] for start, end in zip(starts, ends, strict=True)])


def _object(group: Any, vertices: _Vertices, where: str) -> tuple[str, np.ndarray]:
    """(label, numbers of the vertices, each once) of an object."""
    label = group.get("label") if isinstance(group, dict) else None
    if not isinstance(label, str) or not label.strip():
        raise UserError(f"{where} has no 'label'; {_FETCH}")
    where = f"{where} ({label})"
    wanted = group.get("segments")
    if not isinstance(wanted, list) or not wanted:
        raise UserError(f"{where} has no 'segments'; {_FETCH}")
    try:
        return _one_space(label), vertices.of(np.unique(_whole(wanted, "segments", where)))
    except KeyError as error:
        raise UserError(f"{where}: its segment {error} has no vertex in the mesh; {_FETCH}") from None


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two entries of a label are the same object, by their vertices."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common > SAME * min(len(one), len(other))


def _whole(numbers: list[Any], name: str, where: str) -> np.ndarray:
    """Whole numbers, also as other programs write them: 7.0, "7"."""
    try:
        if {type(number) for number in numbers} == {int}:
            return np.array(numbers, np.int64)
        return np.array([_whole_number(number) for number in numbers], np.int64)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: '{name}' must be whole numbers, not {error}; {_FETCH}") from None


def _whole_number(value: Any) -> int:
    if type(value) is int:
        return value
    try:
        number = float(value) if isinstance(value, str | float) else math.nan
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise ValueError(repr(value))
    return int(number)


def _file(folder: Path, end: str) -> Path:
    file = folder / f"{folder.name}{end}"
    if not file.is_file():
        raise UserError(f"scan {folder} has no {file.name}; {_FETCH}")
    return file


def _json(folder: Path, end: str) -> dict:
    """The record in a scan's file, which must be the scan's."""
    file = _file(folder, end)
    content = text_files.json_value(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} is no record with named fields; {_FETCH}")
    id = content.get("sceneId", folder.name)  # "scannet.scene0000_00", or without the data set
    if str(id).rpartition(".")[2].casefold() != folder.name.casefold():
        raise UserError(f"{file} is of another scan ('sceneId' is {id!r}); {_FETCH}")
    return content


def _axis_alignment(file: Path, where: str) -> np.ndarray:
    """(4, 4): what turns and shifts vertices so that z points up and walls lie along x and y."""
    found = re.findall(r"^[ \t]*axisAlignment\s*[=:](.*)$", text_files.read(file), re.M | re.I)
    if not found:
        raise UserError(
            f"{where}: {file.name} has no axisAlignment (ScanNet's test scans have none); {_FETCH}"
        )
    matrices = [_matrix(line) for line in found]
    if any(matrix is None or (matrix != matrices[0]).any() for matrix in matrices):
        wrong = next((line for line, each in zip(found, matrices, strict=True) if each is None), found[-1])
        raise UserError(
            f"{where}: axisAlignment in {file.name} must be 16 numbers that turn and shift, not "
            f"{wrong.strip()!r}; {_FETCH}"
        )
    return matrices[0]


def _matrix(text: str) -> np.ndarray | None:
    """(4, 4) of 16 numbers that turn and shift; None where they are none, or scale, mirror or shear."""
    try:
        numbers = [float(word) for word in re.split(r"[,;\s]+", text.strip().strip("\"'[]() "))]
        matrix = np.reshape(numbers, (4, 4))
    except ValueError:
        return None
    turn = matrix[:3, :3]
    is_rotation = np.allclose(turn @ turn.T, np.eye(3), atol=0.01) and np.linalg.det(turn) > 0
    return matrix if is_rotation and np.isfinite(matrix).all() and (matrix[3] == (0, 0, 0, 1)).all() else None


def _vertices(file: Path, where: str) -> np.ndarray:
    """(N, 3) float64 vertices of a mesh; its faces are ignored."""
    triangles = {"face": {"vertex_indices": 3}}  # so that they need not be read one by one
    try:
        try:
            vertex = PlyData.read(str(file), known_list_len=triangles)["vertex"]
        except PlyElementParseError:  # other faces than ScanNet's
            vertex = PlyData.read(str(file))["vertex"]
        points = np.stack([np.asarray(vertex[axis], float) for axis in "xyz"], axis=1)
    except (OSError, PlyParseError, ValueError, KeyError) as error:
        raise UserError(f"{where}: {file.name} cannot be read as a mesh ({error}); {_FETCH}") from None
    if not len(points):
        raise UserError(f"{where}: {file.name} has no vertex; {_FETCH}")
    if len(broken := np.flatnonzero(~np.isfinite(points).all(axis=1))):
        raise UserError(f"{where}: vertex {broken[0]} of {file.name} is not finite; {_FETCH}")
    return points


# ---- boxes and areas of points


def upright_box(points: np.ndarray) -> Box:
    """The smallest upright box around (N, 3) points.

    Where the box along x and y, the walls' directions, is as small but for `ALIGNED`, it is that one: a round
    thing has no direction of its own.
    """
    hull = shapely.get_coordinates(shapely.convex_hull(shapely.MultiPoint(points[:, :2])))
    edges = np.concatenate([[[1.0, 0.0]], np.diff(hull, axis=0)])
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    across = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (E, 2): one side lies along a hull's edge
    along = np.stack([-across[:, 1], across[:, 0]], axis=1)
    extents = [np.ptp(hull @ axis.T, axis=0) for axis in (across, along)]
    areas = extents[0] * extents[1]
    best = 0 if areas[0] <= ALIGNED * areas.min() else int(np.argmin(areas))
    axes = np.eye(3)
    axes[0, :2], axes[1, :2] = across[best], along[best]
    turned = points @ axes.T
    low, high = turned.min(0), turned.max(0)
    return Box.oriented((low + high) / 2 @ axes, np.maximum(high - low, THINNEST), axes.ravel())


def floor_area(points: np.ndarray, seed: int = 0) -> float:
    """Square metres of the alpha shape of (N, 2 or 3) points seen from above, holes filled.

    So VSI-Bench measures rooms; its `alphashape` gives the same area and takes some ten times as long.

    Args:
        seed: of the sample of `SAMPLED` points where there are more.

    Raises:
        ValueError: the points span no area.
    """
    flat = np.asarray(points, float)[:, :2]
    if len(flat) > SAMPLED:
        flat = flat[np.random.default_rng(seed).choice(len(flat), SAMPLED, replace=False)]
    try:
        triangles = Delaunay(flat).simplices
    except (QhullError, ValueError):
        raise ValueError(f"its {len(flat)} points span no area seen from above") from None
    a, b, c = (flat[triangles[:, corner]] for corner in range(3))
    sides = [np.linalg.norm(one - other, axis=1) for one, other in ((a, b), (b, c), (c, a))]
    doubled = np.abs(np.cross(np.c_[b - a, 0 * a[:, :1]], np.c_[c - a, 0 * a[:, :1]])[:, 2])
    with np.errstate(divide="ignore"):  # three points on a line: an endless radius, so not kept
        kept = triangles[np.prod(sides, axis=0) / (2 * doubled) < 1 / ALPHA]
    edges = np.sort(np.concatenate([kept[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    rim, used = np.unique(edges, axis=0, return_counts=True)
    rings = shapely.polygonize(shapely.linestrings(flat[rim[used == 1]]))
    area = shapely.union_all(shapely.get_parts(rings)).area
    if not area > 0:
        raise ValueError(f"its {len(flat)} points lie too far apart to be a floor")
    return float(area)
