"""Scan folders in ScanNet's real form, written from rooms of boxes, for tests."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import boxed_rooms
import numpy as np
from plyfile import PlyData, PlyElement

from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box, SceneAnnotation

COLUMNS = [(name, "f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "alpha")]
FLOOR = Box.oriented((0, 0, -1), (9, 8, 0.01))  # under all boxes


def room(index: int) -> SceneAnnotation:
    """A room of boxes on a floor of which all of them lie."""
    return replace(boxed_rooms.made(index), room_size=math.prod(FLOOR.axes_lengths[:2]))


def write(folder: Path, room: SceneAnnotation, density: float = 2000.0) -> Path:
    """A scan folder: the mesh as a scanner holds it, turned and shifted, and what turns it upright; every
    object in two segments, numbered with gaps, as ScanNet's are; the floor is an object too.

    Args:
        density: points per square metre of a surface; corners come in addition, so that boxes are exact.
    """
    folder.mkdir(parents=True)
    name, angle, rng = folder.name, 0.7, np.random.default_rng(0)
    things = [("floor", FLOOR), *((label, box) for label, boxes in room.objects.items() for box in boxes)]
    clouds = [_surface(box, density, rng) for _, box in things]
    points = np.concatenate(clouds).astype(np.float32)
    alignment = np.eye(4)
    alignment[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    alignment[:3, 3] = 1.5, -2.5, -0.1
    back = np.linalg.inv(alignment)
    vertices = np.zeros(len(points), COLUMNS)
    for axis, values in zip("xyz", (points @ back[:3, :3].T + back[:3, 3]).T, strict=True):
        vertices[axis] = values
    faces = np.zeros(40, [("vertex_indices", "i4", (3,))])
    faces["vertex_indices"] = np.arange(120).reshape(40, 3)
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, byte_order="<").write(str(folder / f"{name}_vh_clean_2.ply"))
    instances = np.repeat(np.arange(len(things)), [len(cloud) for cloud in clouds])
    segments = 100 * instances + 7 * (np.arange(len(points)) % 2)
    groups = [
        {"id": number, "objectId": number, "segments": [100 * number, 100 * number + 7], "label": label}
        for number, (label, _) in enumerate(things)
    ]
    write_json(folder / f"{name}_vh_clean_2.0.010000.segs.json", {"segIndices": segments.tolist()})
    write_json(folder / f"{name}.aggregation.json", {"sceneId": f"scannet.{name}", "segGroups": groups})
    matrix = " ".join(f"{number:.6f}" for number in alignment.ravel())
    lines = [f"axisAlignment = {matrix} ", "colorHeight = 968", "sceneType = Bedroom / Hotel"]
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content))


def _surface(box: Box, density: float, rng: np.random.Generator) -> np.ndarray:
    """A box's corners, and random points on its sides, a little inside: no edge is rough."""
    sides = np.array(box.axes_lengths)
    faces = np.repeat(np.arange(6), rng.poisson(np.repeat(math.prod(sides) / sides, 2) * density))
    unit = rng.uniform(-0.5, 0.5, (len(faces), 3))
    unit[np.arange(len(faces)), faces // 2] = faces % 2 - 0.5
    axes = np.reshape(box.normalized_axes, (3, 3))
    return np.concatenate([annotation.corners(box), box.centroid + 0.999 * unit * sides @ axes])
