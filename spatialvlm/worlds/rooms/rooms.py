"""Rendered rooms: furniture between four walls, a camera's path through it, and its exact annotation.

`make(split, seed, index)` gives the room with those numbers, always the same; `Film` its frames, `annotation`
its boxes and floor area in VSI-Bench's format. Lengths are metres, z points up, the floor lies at z = 0.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.files.video import uniform
from spatialvlm.worlds.annotation import Box, SceneAnnotation
from spatialvlm.worlds.clevr.series import SPLITS
from spatialvlm.worlds.rooms import furniture, render
from spatialvlm.worlds.rooms.furniture import KINDS, Part, Thing
from spatialvlm.worlds.rooms.render import Pose, Room

WIDTH, HEIGHT = 168, 126  # 4:3 at the height of the embedded model's images
GAP, WALL_GAP = 0.2, 0.1  # metres between things; between things and walls
ALONE = 0.85  # probability that a kind of furniture occurs only once
FRAMES = (8, 32)
KEY_FRAMES = 4  # spread over the path; together they show every object
SEEN = 0.01  # fraction of a frame's pixels that an object needs in one of the key frames
CHECK_WIDTH, CHECK_HEIGHT = 64, 48  # at which that is counted
RIM = 64  # points around a cylinder's edge
CLEARANCE = 0.35  # metres between the camera and walls or tall things
FLOORS = ((176, 158, 134), (150, 136, 122), (190, 178, 160))
WALLS = ((224, 218, 204), (206, 214, 220), (216, 222, 206), (224, 206, 198), (210, 206, 222))


def make(split: str, seed: int, index: int, min_objects: int = 4, max_objects: int = 10) -> Room:
    """Room number `index` of a split's series `seed`; no two splits share a room.

    Raises:
        UserError: an unknown split.
        ValueError: numbers of objects that do not fit.
    """
    if split not in SPLITS:
        raise UserError(f"rendered rooms have the splits {', '.join(SPLITS)}, not {split!r}")
    if not 1 <= min_objects <= max_objects <= 10:
        raise ValueError(f"1 <= min_objects <= max_objects <= 10, not {min_objects} and {max_objects}")
    name = f"room-{split}-{seed}-{index:06d}"
    rng = Random(name)
    labels = _labels(rng, rng.randint(min_objects, max_objects))
    while True:
        width, depth, height = rng.uniform(3.4, 6.5), rng.uniform(3.4, 6.5), rng.uniform(2.4, 2.8)
        things = _place(rng, labels, width, depth)
        if things is None:
            continue
        angle = rng.uniform(0, 2 * math.pi)
        empty = Room(
            name=name,
            width=width,
            depth=depth,
            height=height,
            things=things,
            path=(),
            floor=rng.choice(FLOORS),
            walls=tuple(rng.sample(WALLS, 4)),
            lamp=(rng.uniform(-0.15, 0.15) * width, rng.uniform(-0.15, 0.15) * depth, height - 0.1),
            window=(math.cos(angle), math.sin(angle), 0.5),
        )
        for _ in range(12):
            path = _path(rng, empty)
            if path and _sees_all(empty, path):
                return replace(empty, path=path)


def named(name: str) -> Room:
    """The room of that name, with its usual number of objects; raises UserError for another name."""
    match = re.fullmatch(r"room-([a-z]+)-(-?\d+)-(\d{6,})", name)
    if not match:
        raise UserError(f"{name!r} is no rendered room; their names are like room-test-0-000017")
    return make(match[1], int(match[2]), int(match[3]))


def _labels(rng: Random, count: int) -> list[str]:
    """Kinds of furniture, most of them once, since questions of direction need single things."""
    labels: list[str] = []
    for label in rng.sample(tuple(KINDS), len(KINDS)):
        most = min(KINDS[label].most, count - len(labels))
        labels += [label] * (1 if most < 2 or rng.random() < ALONE else rng.randint(2, most))
        if len(labels) == count:
            return labels
    raise AssertionError(f"{len(KINDS)} kinds of furniture are enough for {count} objects")


def _place(rng: Random, labels: Sequence[str], width: float, depth: float) -> tuple[Thing, ...] | None:
    """Things apart from each other and inside the walls, those at walls first; None after 40 tries."""
    parts = [(label, furniture.build(label, rng)) for label in labels]
    parts.sort(key=lambda item: not KINDS[item[0]].at_wall)
    things: list[Thing] = []
    for label, built in parts:
        for _ in range(40):
            thing = _stand(rng, label, built, width, depth)
            corners = thing.footprint()
            if (np.abs(corners) > [width / 2 - 0.01, depth / 2 - 0.01]).any():
                continue
            grown = thing.footprint(GAP)
            if not any(_overlap(grown, other.footprint()) for other in things):
                things.append(thing)
                break
        else:
            return None
    return tuple(things)


def _stand(rng: Random, label: str, parts: tuple[Part, ...], width: float, depth: float) -> Thing:
    """A thing somewhere: with its back to one of the walls, or anywhere at any angle."""
    if not KINDS[label].at_wall:
        x, y = (rng.uniform(-0.5, 0.5) * (side - 2 * WALL_GAP) for side in (width, depth))
        # a round thing has no direction of its own; its box lies along the walls
        yaw = 0.0 if all(part.round for part in parts) else rng.uniform(0, 2 * math.pi)
        return Thing(label, (x, y), yaw, parts)
    side = rng.randrange(4)  # the wall towards +y, -x, -y, +x
    away, along = (depth, width) if side % 2 == 0 else (width, depth)
    turned = Thing(label, (0.0, 0.0), side * math.pi / 2, parts)
    back = turned.bounds[1][1]
    x, y = rng.uniform(-0.5, 0.5) * along, away / 2 - back - 0.02
    place = turned.to_room(np.array([[x, y, 0.0]]))[0]
    return Thing(label, (float(place[0]), float(place[1])), turned.yaw, parts)


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two rectangles (4, 2) meet: no side of either separates them."""
    for a, b in ((first, second), (second, first)):
        for side in (a[1] - a[0], a[2] - a[1]):
            if (a @ side).max() < (b @ side).min() or (b @ side).max() < (a @ side).min():
                return False
    return True


def _path(rng: Random, room: Room) -> tuple[Pose, ...] | None:
    """A walk round the room looking in, or a turn on the spot looking out; None where something is in the
    way.

    Both are about three quarters of a circle.
    """
    count, sweep = rng.randint(*FRAMES), math.radians(rng.uniform(250, 320)) * rng.choice((-1, 1))
    start, height, inward = rng.uniform(0, 2 * math.pi), rng.uniform(1.35, 1.7), rng.random() < 0.7
    reach = rng.uniform(0.45, 0.78) if inward else rng.uniform(0.0, 0.25)
    half = np.array([room.width / 2, room.depth / 2])
    centre = half * [rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)]
    poses = []
    for angle in start + sweep * np.linspace(0, 1, count):
        outward = np.array([math.cos(angle), math.sin(angle)])
        position = centre + half * reach * outward
        target = centre - 0.25 * half * outward if inward else position + 2.5 * outward
        low = 0.35 if inward else 0.6
        shaken = [*target + [rng.gauss(0, 0.03), rng.gauss(0, 0.03)], low + rng.gauss(0, 0.03)]
        poses.append(Pose((*position.tolist(), height + rng.gauss(0, 0.01)), tuple(map(float, shaken))))
    return tuple(poses) if all(_clear(room, pose) for pose in poses) else None


def _clear(room: Room, pose: Pose) -> bool:
    """Whether a camera is away from walls and from everything that reaches up to it."""
    x, y, z = pose.position
    if abs(x) > room.width / 2 - CLEARANCE or abs(y) > room.depth / 2 - CLEARANCE:
        return False
    for thing in room.things:
        low, high = thing.bounds
        inside = thing.axes @ [x - thing.position[0], y - thing.position[1], z]
        if (inside > low - CLEARANCE).all() and (inside < high + CLEARANCE).all():
            return False
    return True


def _sees_all(room: Room, path: Sequence[Pose]) -> bool:
    seen = np.zeros(len(room.things))
    for number in uniform(len(path), KEY_FRAMES):
        seen = np.maximum(seen, fractions(room, path[number]))
    return bool((seen >= SEEN).all())


def fractions(room: Room, pose: Pose) -> np.ndarray:
    """(K,): the fraction of a frame's pixels that shows each thing; 0 where its middle is outside."""
    objects = render.seen(room, pose, CHECK_WIDTH, CHECK_HEIGHT)
    seen = np.bincount(objects.ravel() + 1, minlength=len(room.things) + 1)[1:] / objects.size
    return seen * render.in_frame(pose, np.array([thing.middle for thing in room.things]))


class Film(Sequence[Image.Image]):
    """The frames of a room's camera path, each rendered on access."""

    def __init__(self, room: Room, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.room, self.width, self.height = room, width, height

    def __len__(self) -> int:
        return len(self.room.path)

    def __getitem__(self, index: int) -> Image.Image:
        return render.render(self.room, self.room.path[index], self.width, self.height).image


def annotation(room: Room) -> SceneAnnotation:
    """The annotation of a room in VSI-Bench's format, exactly."""
    objects: dict[str, tuple[Box, ...]] = {}
    for thing in room.things:
        objects[thing.label] = (*objects.get(thing.label, ()), box(thing))
    return SceneAnnotation(
        scene=room.name,
        room_size=room.width * room.depth,
        object_counts=dict(Counter(thing.label for thing in room.things)),
        objects=objects,
        dataset="rooms",
    )


def box(thing: Thing) -> Box:
    """The box of a thing along its own axes.

    `minimum` and `maximum` are those of its surface in the room; where the thing is turned they can lie
    closer than the box's corners.
    """
    low, high = thing.bounds
    ends = np.concatenate([thing.to_room(rim(part, thing.yaw)) for part in thing.parts])
    return Box(
        centroid=tuple(thing.middle.tolist()),
        axes_lengths=tuple((high - low).tolist()),
        normalized_axes=tuple(thing.axes.ravel().tolist()),
        minimum=tuple(ends.min(0).tolist()),
        maximum=tuple(ends.max(0).tolist()),
    )


def rim(part: Part, yaw: float) -> np.ndarray:
    """Points of a part, in its thing's axes, that reach farthest along the thing's axes and the room's."""
    centre, half = np.array(part.centre), np.array(part.half)
    if part.round:
        # so many that no turned box around them is smaller by a hundredth
        angle = np.add.outer([0.0, -yaw], np.linspace(0, 2 * math.pi, RIM, endpoint=False)).ravel()
        flat = np.column_stack([np.cos(angle), np.sin(angle)])
    else:
        flat = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return np.concatenate(
        [centre + half * np.column_stack([flat, np.full(len(flat), end)]) for end in (-1, 1)]
    )
