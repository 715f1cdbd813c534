"""Scan folders in ScanNet's real form, written from rendered rooms, for tests."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from plyfile import PlyData, PlyElement

from spatialvlm.worlds.rooms import rooms
from spatialvlm.worlds.rooms.furniture import Part
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
    scanned, name, angle = cloud(room, density), folder.name, 0.7
    alignment = np.eye(4)
    alignment[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    alignment[:3, 3] = 1.5, -2.5, -0.1
    back = np.linalg.inv(alignment)
    vertices = np.zeros(len(scanned.points), COLUMNS)
    for axis, values in zip("xyz", (scanned.points @ back[:3, :3].T + back[:3, 3]).T, strict=True):
        vertices[axis] = values
    for channel, values in zip(("red", "green", "blue"), scanned.colors.T, strict=True):
        vertices[channel] = values
    faces = np.zeros(40, [("vertex_indices", "i4", (3,))])
    faces["vertex_indices"] = np.arange(120).reshape(40, 3)
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, byte_order="<").write(str(folder / f"{name}_vh_clean_2.ply"))
    segments = 100 * scanned.instances + 7 * (np.arange(len(vertices)) % 2)
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


# ---- points on surfaces


@dataclass(frozen=True)
class Cloud:
    """Points on a room's surfaces.

    Args:
        points: (N, 3) float32, metres.
        colors: (N, 3) uint8, RGB.
        instances: (N,) int32; 0 on floor and walls, 1 on the room's first thing, and so on.
    """

    points: np.ndarray
    colors: np.ndarray
    instances: np.ndarray


def cloud(room: Room, density: float = 200.0) -> Cloud:
    """Random points on floor, walls and furniture, always the same for a room.

    Those that reach farthest of every part, and the room's corners, are among them, so that boxes around the
    points are exact.

    Args:
        density: points per square metre.
    """
    rng = np.random.default_rng(Random(f"{room.name}-cloud").getrandbits(64))
    groups = [(*_shell_points(room, density, rng), 0)]
    for number, thing in enumerate(room.things, 1):
        for part in thing.parts:
            points = np.concatenate([rooms.rim(part, thing.yaw), _surface_points(part, density, rng)])
            groups.append((thing.to_room(points), np.array(part.color), number))
    return Cloud(
        np.concatenate([points for points, _, _ in groups]).astype(np.float32),
        np.concatenate([np.broadcast_to(color, points.shape) for points, color, _ in groups]).astype(
            np.uint8
        ),
        np.concatenate([np.full(len(points), number, np.int32) for points, _, number in groups]),
    )


def _shell_points(room: Room, density: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    half = np.array([room.width / 2, room.depth / 2, room.height / 2])
    shell = Part((0.0, 0.0, room.height / 2), tuple(half.tolist()), room.floor)
    points = np.concatenate([rooms.rim(shell, 0.0), _surface_points(shell, density, rng)])
    points = points[points[:, 2] < room.height]  # scans seldom hold a ceiling
    colors = np.where(points[:, 2:] > 0, room.walls[0], room.floor)
    return points, colors


def _surface_points(part: Part, density: float, rng: np.random.Generator) -> np.ndarray:
    """Points all over a part, in its thing's axes."""
    centre, half = np.array(part.centre), np.array(part.half)
    if part.round:
        side, lid = 4 * math.pi * half[0] * half[2], math.pi * half[0] ** 2
        areas = np.array([side, lid, lid])
    else:
        areas = np.repeat(4 * np.array([half[1] * half[2], half[0] * half[2], half[0] * half[1]]), 2)
    counts = rng.poisson(areas * density)
    faces = np.repeat(np.arange(len(areas)), counts)
    unit = rng.uniform(-1, 1, (len(faces), 3))
    if part.round:
        angle = math.pi * unit[:, 0]
        radius = np.where(faces == 0, 1, np.sqrt((unit[:, 1] + 1) / 2))
        height = np.where(faces == 0, unit[:, 2], 2 * faces - 3)
        unit = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])
    else:
        unit[np.arange(len(faces)), faces // 2] = 2 * (faces % 2) - 1
    return centre + half * unit
