"""Scan folders in ScanNet's real form, written from rendered rooms, for tests."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from spatialvlm.worlds.rooms import rooms
from spatialvlm.worlds.rooms.render import Room

ROUND = ("lamp", "plant", "stool", "trash bin")
COLUMNS = [(name, "f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "alpha")]


def room(index: int) -> Room:
    """A rendered room whose round things stand along the walls, as a box around their points does: they look
    the same at any angle.
    """
    made = rooms.make("test", 0, index)
    things = [replace(thing, yaw=0.0) if thing.label in ROUND else thing for thing in made.things]
    return replace(made, things=tuple(things))


def write(folder: Path, room: Room, density: float = 2000.0) -> Path:
    """A scan folder: the mesh as a scanner holds it, turned and shifted, and what turns it upright; every
    object in two segments, numbered with gaps, as ScanNet's are; floor and walls are an object too.
    """
    folder.mkdir(parents=True)
    cloud, name, angle = rooms.cloud(room, density), folder.name, 0.7
    alignment = np.eye(4)
    alignment[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    alignment[:3, 3] = 1.5, -2.5, -0.1
    back = np.linalg.inv(alignment)
    vertices = np.zeros(len(cloud.points), COLUMNS)
    for axis, values in zip("xyz", (cloud.points @ back[:3, :3].T + back[:3, 3]).T, strict=True):
        vertices[axis] = values
    for channel, values in zip(("red", "green", "blue"), cloud.colors.T, strict=True):
        vertices[channel] = values
    faces = np.zeros(40, [("vertex_indices", "i4", (3,))])
    faces["vertex_indices"] = np.arange(120).reshape(40, 3)
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, byte_order="<").write(str(folder / f"{name}_vh_clean_2.ply"))
    segments = 100 * cloud.instances + 7 * (np.arange(len(vertices)) % 2)
    labels = ["floor", *(thing.label for thing in room.things)]
    groups = [
        {"id": number, "objectId": number, "segments": [100 * number, 100 * number + 7], "label": label}
        for number, label in enumerate(labels)
    ]
    write_json(folder / f"{name}_vh_clean_2.0.010000.segs.json", {"segIndices": segments.tolist()})
    write_json(folder / f"{name}.aggregation.json", {"sceneId": f"scannet.{name}", "segGroups": groups})
    matrix = " ".join(f"{number:.6f}" for number in alignment.ravel())
    lines = [f"axisAlignment = {matrix} ", "colorHeight = 968", "sceneType = Bedroom / Hotel"]
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content))
