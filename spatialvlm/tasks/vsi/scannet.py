"""ScanNet (Dai et al., CVPR 2017): scan folders as they are downloaded, read into annotation of rooms.

A scan's folder holds `<scan>.txt` (with `axisAlignment`), `<scan>_vh_clean_2.ply` (the mesh),
`<scan>_vh_clean_2.0.010000.segs.json` (the segment of every vertex) and `<scan>.aggregation.json` (the
segments of every object). `scannetv2-labels.combined.tsv` turns annotators' words into cleaner labels
(`trash can`, not `trashcan`). Only labels of things are kept: walls, floors, ceilings and what has no name
have no questions. Some aggregations list their objects twice (all of scene0217_00's): an entry with the label
of an earlier one and more than `SAME` of the vertices of both is the same object, whatever its id.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from plyfile import PlyData, PlyParseError
from scipy.spatial import Delaunay, QhullError

from spatialvlm.errors import UserError
from spatialvlm.worlds.rooms.annotation import Box, SceneAnnotation

MESH, SEGMENTS, OBJECTS = "_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"
NO_THINGS = frozenset(("wall", "floor", "ceiling", "object", "objects", "unknown", "misc", "remove", "stuff"))
LABEL_COLUMNS = ("raw_category", "category")
ALPHA = 5.0  # of the alpha shape, 1/m: what is narrower than some 40 cm is no gap (VSI-Bench's value)
SAMPLED = 10_000  # points that an area is taken from, as in VSI-Bench
ALIGNED = 1.01  # how much larger a box along the walls may be than the smallest one
SAME = 0.5  # intersection over union of vertices above which two entries of a label are one object
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

    Raises:
        UserError: a file that is not there, or lacks a column.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--label_map {path} cannot be read ({error})") from None
    if not table or any(not table[0].get(name) for name in LABEL_COLUMNS):
        raise UserError(
            f"--label_map {path} has no columns {' and '.join(LABEL_COLUMNS)}; "
            "give scannetv2-labels.combined.tsv"
        )
    return {row["raw_category"].strip(): row["category"].strip() for row in table if row["category"]}


def read(folder: str | Path, label_map: Mapping[str, str] | None = None) -> SceneAnnotation:
    """Read a scan: upright boxes around its objects' vertices, and the floor area of all vertices.

    Args:
        label_map: as `read_label_map` returns it; without it the annotators' words stay as they are.

    Raises:
        UserError: a missing or broken file, no axis alignment, a vertex that is not finite, an object without
            segments, no object at all, no floor; the message names the scan.
    """
    folder = Path(folder)
    scan, where = folder.name, f"scan {folder}"
    points = _vertices(_file(folder, MESH), where)
    points = points @ (turn := _axis_alignment(_file(folder, ".txt"), where))[:3, :3].T + turn[:3, 3]
    segments = _json(_file(folder, SEGMENTS)).get("segIndices")
    if not isinstance(segments, list) or len(segments) != len(points):
        count = len(segments) if isinstance(segments, list) else "no"
        raise UserError(f"{where}: its mesh has {len(points)} vertices, but {count} 'segIndices'; {_FETCH}")
    _check_whole(segments, "segIndices", where)
    groups = _json(_file(folder, OBJECTS)).get("segGroups")
    if not isinstance(groups, list) or not groups:
        raise UserError(f"{where} has no object ('segGroups' is empty); {_FETCH}")
    objects: dict[str, list[np.ndarray]] = {}  # the vertices of each object, by label
    vertices = _Vertices(np.array(segments))
    for number, group in enumerate(groups):
        label, chosen = _object(group, vertices, f"{where} object {number}")
        label = (label_map or {}).get(label, label).strip().lower()
        if label not in NO_THINGS:
            listed = objects.setdefault(label, [])
            if not any(_is_same(chosen, other) for other in listed):
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
        starts, ends = (np.searchsorted(self.segments, wanted, side) for side in ("left", "right"))
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
    _check_whole(wanted, "segments", where)
    chosen = vertices.of(np.unique(wanted))
    if not len(chosen):
        raise UserError(f"{where}: none of its {len(wanted)} 'segments' has a vertex in the mesh; {_FETCH}")
    return label.strip(), chosen


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two entries of a label are the same object, by their vertices."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common > SAME * (len(one) + len(other) - common)


def _check_whole(numbers: list[Any], name: str, where: str) -> None:
    if wrong := [number for number in numbers if type(number) is not int]:
        raise UserError(f"{where}: '{name}' must be whole numbers, not {wrong[0]!r}; {_FETCH}")


def _file(folder: Path, end: str) -> Path:
    file = folder / f"{folder.name}{end}"
    if not file.is_file():
        raise UserError(f"scan {folder} has no {file.name}; {_FETCH}")
    return file


def _json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); {_FETCH}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no record with named fields; {_FETCH}")
    return content


def _axis_alignment(file: Path, where: str) -> np.ndarray:
    """(4, 4): what turns and shifts vertices so that z points up and walls lie along x and y."""
    match = re.search(r"^axisAlignment\s*=\s*(.*)$", file.read_text(encoding="utf-8", errors="replace"), re.M)
    if match is None:
        raise UserError(
            f"{where}: {file.name} has no axisAlignment (ScanNet's test scans have none); {_FETCH}"
        )
    try:
        numbers = [float(word) for word in match[1].split()]
    except ValueError:
        numbers = []
    if len(numbers) != 16 or not all(map(math.isfinite, numbers)):
        raise UserError(
            f"{where}: axisAlignment in {file.name} must be 16 numbers, not {match[1]!r}; {_FETCH}"
        )
    return np.reshape(numbers, (4, 4))


def _vertices(file: Path, where: str) -> np.ndarray:
    """(N, 3) float64 vertices of a mesh; its faces are ignored."""
    triangles = {"face": {"vertex_indices": 3}}  # so that they need not be read one by one
    try:
        vertex = PlyData.read(str(file), known_list_len=triangles)["vertex"]
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
