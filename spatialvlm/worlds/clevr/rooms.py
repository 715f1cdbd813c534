"""Rooms in CLEVR's world: scenes on a bounded floor, their annotation, and a camera's path around them.

A scene's unit is taken for a metre. `make(series, index)` gives the room with that number, always the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from PIL import Image

from spatialvlm.worlds.annotation import WORLD_AXES, Box, SceneAnnotation
from spatialvlm.worlds.clevr import render, scenes
from spatialvlm.worlds.clevr.facts import Scene, describe, single_out
from spatialvlm.worlds.clevr.series import HEIGHT, WIDTH

OBJECTS = (5, 8)  # minimum and maximum number in a room
FRAMES = 8  # of a camera's path, a full circle
COUNTED = ("color", "material")  # attributes that each name a category of things to be counted


def make(series: str, index: int) -> Scene:
    """Room number `index` of a series."""
    return scenes.make(series, index, *OBJECTS, with_floor=True)


def name(scene: Scene) -> str:
    """A room's name: its series and its number."""
    return f"{scene['split']}_{scene['image_index']:06d}"


def annotation(scene: Scene) -> SceneAnnotation:
    """The annotation of a room in VSI-Bench's format, exactly.

    A label that fits one object names its shape, and what else singles it out, but never its size, which
    is asked about: `red cube`, `sphere`. A label that fits several names a colour or a material alone:
    `metal thing`. No label ends another one.
    """
    rng = Random(name(scene))
    objects: dict[str, tuple[Box, ...]] = {}
    for index, thing in enumerate(scene["objects"]):
        conditions = single_out(scene, index, rng, without=("size",))
        if conditions is not None:
            objects[describe(conditions | {"shape": thing["shape"]})] = (box(thing),)
    for attribute in COUNTED:
        for value, count in sorted(Counter(thing[attribute] for thing in scene["objects"]).items()):
            if count > 1:
                objects[describe({attribute: value})] = tuple(
                    box(thing) for thing in scene["objects"] if thing[attribute] == value
                )
    return SceneAnnotation(
        scene=name(scene),
        room_size=math.prod(scene["floor"]),
        object_counts={label: len(boxes) for label, boxes in objects.items()},
        objects=objects,
        dataset="rooms",
    )


def box(thing: dict[str, Any]) -> Box:
    """The box of an object along its own axes; a cube is turned about z."""
    radius, lengths, axes = render.RADIUS[thing["size"]], [1.0] * 3, WORLD_AXES
    if thing["shape"] == "cube":
        cosine, sine = math.cos(thing["rotation"]), math.sin(thing["rotation"])
        lengths, axes = render.CUBE.tolist(), (cosine, sine, 0.0, -sine, cosine, 0.0, 0.0, 0.0, 1.0)
    return Box.oriented(thing["3d_coords"], [2 * radius * length for length in lengths], axes)


class Film(Sequence[Image.Image]):
    """The frames of a camera's path around a room, each rendered on access; first the room's own view."""

    def __init__(self, scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.scene, self.width, self.height = scene, width, height

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> Image.Image:
        angle = 2 * math.pi * range(FRAMES)[index] / FRAMES
        x, y, z = self.scene["camera"]
        turned = [x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle), z]
        return scenes.render_scene(self.scene | {"camera": turned}, self.width, self.height).image
