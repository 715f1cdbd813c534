"""Render rooms by analytic ray casting of boxes and upright cylinders, as CLEVR's scenes (`clevr.render`).

A room is a shell (floor, ceiling, four walls) around furniture. Geometry is sampled on a finer grid, and
only pixels on an outline are shaded more than once. Light comes from one lamp under the ceiling, with soft
shadows, from a window's direction, and from everywhere. Vectors are stored component first, (3, N), in
float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from spatialvlm.worlds.clevr.render import Camera, Rendered
from spatialvlm.worlds.rooms.furniture import Color, Thing

FIELD_OF_VIEW = 80.0  # degrees across: wider than ScanNet's 58, so that a few frames show a room
ASPECT = 4 / 3  # of every frame, as in ScanNet
TILE = 0.5  # metres; the floor's checks show depth and scale
SKIRTING = 0.1  # metres of darker wall above the floor
CEILING = (245, 245, 242)
LAMP_RADIUS = 0.2  # metres: sets how soft shadows are
NEAR = 0.05  # metres in front of the camera, from which on things are visible
# brightness of a facing surface; the lamp's is at half the room's height
LAMP, WINDOW, AMBIENT = 1.05, 0.28, 0.42
BEAM = 1e-6  # added to components of rays that are zero, which slabs divide by


Point = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """The position of an upright camera, and the point at the centre of its view."""

    position: Point
    target: Point


@dataclass(frozen=True)
class Room:
    """A rectangular room around the z axis, its floor at z = 0. Lengths are metres.

    Args:
        name: unique in its series; `rooms.named` recomputes the room from it.
        width, depth, height: along x, y and z.
        things: the furniture.
        path: the camera's poses, in the order of its frames.
        floor: the colour of the floor.
        walls: the colours of the walls towards +x, -x, +y and -y.
        lamp: where the lamp hangs.
        window: the direction that daylight comes from.
    """

    name: str
    width: float
    depth: float
    height: float
    things: tuple[Thing, ...]
    path: tuple[Pose, ...]
    floor: Color
    walls: tuple[Color, Color, Color, Color]
    lamp: Point
    window: Point


class Solid:
    """The arrays of a room that rays need, made once: P parts of all furniture, then the shell's surfaces."""

    def __init__(self, room: Room) -> None:
        parts = [(part, number) for number, thing in enumerate(room.things) for part in thing.parts]
        self.owner = np.array([number for _, number in parts] + [-1] * 11, np.int16)
        self.centre = _table([part.centre for part, _ in parts], 3)  # (P, 3), in the thing's axes
        self.half = _table([part.half for part, _ in parts], 3)
        self.round = np.array([part.round for part, _ in parts], bool)
        turns = [
            (math.cos(room.things[number].yaw), math.sin(room.things[number].yaw)) for _, number in parts
        ]
        self.turn = _table(turns, 2)  # (P, 2)
        self.place = _table([(*room.things[number].position, 0) for _, number in parts], 3)
        dark = [tuple(0.6 * c for c in wall) for wall in room.walls]
        shell = [room.floor, tuple(0.82 * c for c in room.floor), CEILING, *room.walls, *dark]
        self.color = (np.array([part.color for part, _ in parts] + shell, np.float32) / 255) ** 2.2
        self.first = np.flatnonzero(np.diff(self.owner[: len(parts)], prepend=-2))
        self.ends = np.append(self.first[1:], len(parts))
        corners = [thing.to_room(_corners(*thing.bounds)) for thing in room.things]
        self.corners = _table(corners, 8, 3)  # (K, 8, 3)
        self.middle = self.corners.mean(1)
        self.reach = np.linalg.norm(self.corners - self.middle[:, None], axis=2).max(1)  # (K,)
        self.bounds = np.float32(
            [[-room.width / 2, -room.depth / 2, 0], [room.width / 2, room.depth / 2, room.height]]
        )
        self.lamp = np.float32(room.lamp)
        self.window = np.float32(room.window) / np.linalg.norm(room.window).astype(np.float32)

    def local(self, thing: int, vectors: np.ndarray, is_point: bool) -> np.ndarray:
        """Vectors (3, N) in the axes of a thing."""
        part = self.first[thing]
        cosine, sine = self.turn[part]
        x, y, z = vectors - self.place[part][:, None] if is_point else vectors
        return np.stack([cosine * x + sine * y, cosine * y - sine * x, z])

    def meet(self, thing: int, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, ...]:
        """Where rays from (3, 1 or N) along (3, N), in a thing's axes, enter and leave each of its parts.

        Returns:
            Near, far and gap (P, N), in lengths of the ray: far < near where it misses; the gap is its depth
            inside the outline, negative outside.
        """
        where = slice(self.first[thing], self.ends[thing])
        centre, half, is_round = self.centre[where], self.half[where], self.round[where]
        ray = np.where(np.abs(ray) < BEAM, np.float32(BEAM), ray)
        near = far = None
        for axis in (0, 1, 2):
            inverse = 1 / ray[axis]
            middle = (centre[:, axis, None] - origin[axis]) * inverse
            spread = half[:, axis, None] * np.abs(inverse)
            if axis < 2 and is_round.any():  # the mantle stands for both
                middle[is_round], spread[is_round] = _mantle(centre[is_round], half[is_round], origin, ray)
            enter, leave = middle - spread, np.add(middle, spread, out=middle)
            near = enter if near is None else np.maximum(near, enter, out=near)
            far = leave if far is None else np.minimum(far, leave, out=far)
        return near, far, (far - near) / 2


def _mantle(centre: np.ndarray, half: np.ndarray, origin: np.ndarray, ray: np.ndarray) -> tuple:
    """The middle and half the length, (P, N) each, of rays' paths through infinite upright cylinders.

    The half length is negative by how far a ray misses.
    """
    x, y = origin[0] - centre[:, :1], origin[1] - centre[:, 1:2]
    square = ray[0] ** 2 + ray[1] ** 2
    along = (x * ray[0] + y * ray[1]) / square
    left = half[:, :1] ** 2 - (x * x + y * y - square * along**2)
    return -along, np.sign(left) * np.sqrt(np.abs(left) / square)


def _table(values: list, *shape: int) -> np.ndarray:
    """(N, *shape) float32, of no values too: a room may be empty."""
    return np.array(values, np.float32).reshape(-1, *shape)


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array(
        [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    )


@lru_cache(maxsize=16)
def _solid(room: Room) -> Solid:
    return Solid(room)


def camera(pose: Pose) -> Camera:
    """The camera of a pose."""
    forward = np.subtract(pose.target, pose.position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return Camera(np.array(pose.position), np.stack([right, np.cross(right, forward), forward]))


def visibility(room: Room, pose: Pose, width: int, height: int) -> tuple[np.ndarray, ...]:
    """The surface visible at each pixel centre.

    Returns:
        Rays (3, H, W), of length 1 along the camera's axis; distance along that axis (H, W) in metres;
        surface (H, W) int16, an index into a `Solid`'s parts and shell.
    """
    solid, view = _solid(room), camera(pose)
    across = math.tan(math.radians(FIELD_OF_VIEW) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * across
    y = (1 - (np.arange(height) + 0.5) / height * 2) * across / ASPECT
    right, up, forward = view.axes[:, :, None, None]
    rays = (right * x[None, None, :] + up * y[None, :, None] + forward).astype(np.float32)
    origin = view.position.astype(np.float32)[:, None]
    depth, surface = _shell(solid, origin, rays.reshape(3, -1))
    depth, surface = depth.reshape(height, width), surface.reshape(height, width)
    for thing, corners in enumerate(solid.corners):
        window = _window((corners - view.position) @ view.axes.T, across, width, height)
        if window is None:
            continue
        part = rays[(slice(None), *window)]
        start, ray = solid.local(thing, origin, True), solid.local(thing, part.reshape(3, -1), False)
        near, far, _ = solid.meet(thing, start, ray)
        near = np.where((far > near) & (near > NEAR), near, np.inf)
        which = near.argmin(0)
        near = np.take_along_axis(near, which[None], 0).reshape(part.shape[1:])
        which = which.reshape(part.shape[1:]) + solid.first[thing]
        closer = near < depth[window]
        depth[window] = np.where(closer, near, depth[window])
        surface[window] = np.where(closer, which, surface[window])
    return rays, depth, surface


def in_frame(pose: Pose, points: np.ndarray) -> np.ndarray:
    """(N,) bool: which of the points (N, 3) lie within the frame, whether or not something hides them."""
    view, across = camera(pose), math.tan(math.radians(FIELD_OF_VIEW) / 2)
    x, y, depth = ((points - view.position) @ view.axes.T).T
    return (depth > NEAR) & (np.abs(x) < across * depth) & (np.abs(y) * ASPECT < across * depth)


def seen(room: Room, pose: Pose, width: int, height: int) -> np.ndarray:
    """(H, W) int16: the index of the thing visible at each pixel centre, -1 for the room itself."""
    return _solid(room).owner[visibility(room, pose, width, height)[2]]


def _window(corners: np.ndarray, across: float, width: int, height: int) -> tuple[slice, slice] | None:
    """Rows and columns in which a thing can be visible; corners (8, 3) are in the camera's axes."""
    if corners[:, 2].max() < NEAR:
        return None
    if corners[:, 2].min() < NEAR:  # beside the camera: its outline has no end in the image
        return np.s_[0:height, 0:width]
    columns = (corners[:, 0] / corners[:, 2] / across + 1) / 2 * width
    rows = (1 - corners[:, 1] / corners[:, 2] / across * ASPECT) / 2 * height
    top, bottom = max(int(rows.min()) - 1, 0), min(int(rows.max()) + 2, height)
    left, right = max(int(columns.min()) - 1, 0), min(int(columns.max()) + 2, width)
    return np.s_[top:bottom, left:right] if top < bottom and left < right else None


def _shell(solid: Solid, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) to floor, ceiling or wall along rays (3, N) from inside, and which surface it is."""
    rays = np.where(np.abs(rays) < BEAM, np.float32(BEAM), rays)
    low, high = solid.bounds[0][:, None], solid.bounds[1][:, None]
    reach = np.where(rays > 0, high - origin, low - origin) / rays
    axis = reach.argmin(0)
    distance = np.take_along_axis(reach, axis[None], 0)[0]
    x, y, z = origin + distance * rays
    check = (np.floor(x / TILE) + np.floor(y / TILE)).astype(np.int16) & 1
    floor = np.where(rays[2] < 0, check, 2)
    wall = np.where(axis == 0, rays[0] < 0, 2 + (rays[1] < 0)) + 3 + 4 * (z < SKIRTING)
    surface = np.where(axis == 2, floor, wall) + len(solid.centre)
    return distance, surface.astype(np.int16)


def _normals(solid: Solid, points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """The directions (3, N) that surfaces face at points (3, N) on them."""
    normals = np.zeros_like(points)
    shell = surface - len(solid.centre)
    normals[2] = np.where(shell < 2, 1, -1)
    for number, (x, y) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
        some = (shell == 3 + number) | (shell == 7 + number)
        normals[:, some] = np.float32([x, y, 0])[:, None]
    some = np.flatnonzero(shell < 0)
    part = surface[some]
    cosine, sine = solid.turn[part].T
    x, y, z = points[:, some] - solid.place[part].T
    inside = np.stack([cosine * x + sine * y, cosine * y - sine * x, z]) - solid.centre[part].T
    ratio = inside / solid.half[part].T
    ratio[0] = np.where(solid.round[part], np.hypot(ratio[0], ratio[1]), ratio[0])
    ratio[1] = np.where(solid.round[part], 0, ratio[1])
    axis = np.abs(ratio).argmax(0)
    local = np.where(np.arange(3)[:, None] == axis, np.sign(ratio), 0).astype(np.float32)
    side = solid.round[part] & (axis == 0)
    rim = inside[:2] / solid.half[part, 0]
    local[:2] = np.where(side, rim, local[:2])
    normals[:, some] = np.stack(
        [cosine * local[0] - sine * local[1], sine * local[0] + cosine * local[1], local[2]]
    )
    return normals


def _lit(solid: Solid, points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """The fraction (N,) of the lamp that is visible from points (3, N): 0 in full shadow."""
    toward = solid.lamp[:, None] - points
    distance = np.sqrt((toward**2).sum(0))
    toward /= distance
    light = np.ones(points.shape[1], np.float32)
    for thing, (middle, reach) in enumerate(zip(solid.middle, solid.reach, strict=True)):
        relative = middle[:, None] - points
        along = (relative * toward).sum(0)
        beside = (relative**2).sum(0) - along**2
        some = np.flatnonzero((beside < (reach + LAMP_RADIUS) ** 2) & (along > -reach) & (along < distance))
        if not len(some):
            continue
        start, ray = solid.local(thing, points[:, some], True), solid.local(thing, toward[:, some], False)
        near, far, gap = solid.meet(thing, start, ray)
        blur = np.maximum(near, 0.02) * LAMP_RADIUS / distance[some] + 0.01
        own = surface[some] == np.arange(solid.first[thing], solid.ends[thing])[:, None]
        shade = np.where((far > 1e-3) & ~own, np.clip(0.5 + gap / (2 * blur), 0, 1), 0)
        light[some] *= 1 - shade.max(0)
    return light


def _shade(solid: Solid, points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Linear RGB (3, N) of surface points (3, N); nothing shines, so it is the same from everywhere."""
    normals = _normals(solid, points, surface)
    toward = solid.lamp[:, None] - points
    square = (toward**2).sum(0)
    facing = np.maximum((toward * normals).sum(0) / np.sqrt(square), 0)
    fall = 1 / (
        0.5 + 0.5 * square / (solid.lamp[2] / 2) ** 2
    )  # gentler than a bare lamp's: walls give light back
    window = np.maximum((solid.window[:, None] * normals).sum(0), 0)
    power = LAMP * facing * fall * _lit(solid, points, surface) + WINDOW * window
    return solid.color[surface].T * (power + AMBIENT * (0.85 + 0.15 * normals[2]))


def render(room: Room, pose: Pose, width: int, height: int, samples: int = 2) -> Rendered:
    """Render the view of a pose; the frame is always 4:3, squeezed into width x height.

    `samples` x `samples` rays per pixel find outlines; pixels inside one surface are shaded once. `depth` is
    in metres, `objects` the index of the visible thing, -1 for the room itself.
    """
    solid = _solid(room)
    rays, depth, surface = visibility(room, pose, width * samples, height * samples)

    def blocks(a: np.ndarray) -> np.ndarray:  # (..., H * s, W * s) -> (..., H * W, s * s)
        a = a.reshape(*a.shape[:-2], height, samples, width, samples).swapaxes(-3, -2)
        return a.reshape(*a.shape[:-4], height * width, samples * samples)

    rays, depth, surface = blocks(rays), blocks(depth), blocks(surface)
    edge = (surface != surface[:, :1]).any(1)
    weight = np.where(edge[:, None], 1 / samples**2, 0).astype(np.float32).repeat(samples**2, 1)
    weight[~edge, -1] = 1
    pixel, sample = np.nonzero(weight)
    points = np.float32(pose.position)[:, None] + depth[pixel, sample] * rays[:, pixel, sample]
    color = _shade(solid, points, surface[pixel, sample])
    linear = np.stack([np.bincount(pixel, c * weight[pixel, sample], height * width) for c in color], -1)
    encoded = np.clip(linear, 0, 1)
    encoded = np.where(encoded <= 0.0031308, 12.92 * encoded, 1.055 * encoded ** (1 / 2.4) - 0.055)  # sRGB
    image = (encoded * 255 + 0.5).astype(np.uint8).reshape(height, width, 3)
    objects = solid.owner[surface[:, -1]]
    return Rendered(
        Image.fromarray(image), depth[:, -1].reshape(height, width), objects.reshape(height, width)
    )
