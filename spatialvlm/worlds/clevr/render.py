"""A vectorised analytic ray caster for CLEVR's world: spheres, cubes and cylinders on a grey ground,
which may have a rectangular floor on it.

Every intersection has a closed form, so an image costs a few hundred numpy calls: geometry is sampled on a
finer grid, and only the pixels on an outline are shaded more than once. Lamps are where CLEVR's own Blender
scene has them; their strengths and the ground's grey were fitted to the ground pixels of published images
(camera recovered from `pixel_coords`). Vectors are stored component first, (3, N), in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from spatialvlm.worlds.clevr.facts import HEIGHT, WIDTH, Scene

FOCAL = 525.0  # pixels at 480 x 320: Blender's 35 mm lens on a 32 mm sensor
RADIUS = {"large": 0.7, "small": 0.35}
# half edges in radii: CLEVR's cubes are rounded off, which takes this much
CUBE = np.float32([0.94, 0.94, 0.98])
COLORS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
LAMPS = ("key", "fill", "back")
LAMP_POSITION = {"key": (6.45, -2.91, 4.26), "fill": (-4.67, -4.01, 3.01), "back": (-1.17, 2.65, 5.82)}
LAMP_POWER = {"key": (12.5, 11.7, 10.2), "fill": (2.7, 2.9, 3.7), "back": (5.5, 5.5, 5.5)}  # RGB
LAMP_RADIUS = 0.45  # how wide a lamp is: sets how soft its shadow is
SUN = np.float32([0.4, -0.23, 0.89])
SUN_POWER, SUN_RADIUS = 0.235, 0.06
AMBIENT, GROUND_ALBEDO, WORLD = 0.085, 0.45, 0.02
FLOOR_ALBEDO = (0.62, 0.5, 0.36)  # of a scene's floor: wood
GROUND, FLOOR = -1, -2  # in place of an object's index
THING_DIRECT, THING_AMBIENT = 0.47, 0.18  # how rubber answers lamps and ambient light, from the same fit


@dataclass(frozen=True)
class Rendered:
    """An image of a scene.

    Args:
        image: RGB, `width` x `height`.
        depth: (height, width) float32, distance along the camera's axis, the unit of `3d_coords`.
        objects: (height, width) int16, the index of the object seen, -1 for the ground.
    """

    image: Image.Image
    depth: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class Camera:
    position: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3): rows right, up, forward


def camera(position: np.ndarray) -> Camera:
    """CLEVR's camera: anywhere, looking at the origin, upright."""
    position = np.asarray(position, np.float64)
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return Camera(position, np.stack([right, np.cross(right, forward), forward]))


def project(view: Camera, points: np.ndarray) -> np.ndarray:
    """World points (N, 3) as `pixel_coords` (N, 3): column, row and distance along the camera's axis."""
    right, up, ahead = ((np.asarray(points, np.float64) - view.position) @ view.axes.T).T
    return np.stack([WIDTH / 2 + FOCAL * right / ahead, HEIGHT / 2 - FOCAL * up / ahead, ahead], 1)


def corners(thing: dict[str, Any]) -> np.ndarray:
    """The eight corners (8, 3) of a box around an object, turned with it."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    angle = thing["rotation"] if thing["shape"] == "cube" else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    half = RADIUS[thing["size"]] * (signs * (CUBE if thing["shape"] == "cube" else 1))
    return np.array(thing["3d_coords"]) + half @ turn.T


def outline(view: Camera, thing: dict[str, Any]) -> np.ndarray:
    """The object's box in the 480 x 320 frame, [x0, y0, x1, y1], whether or not something hides it."""
    radius, centre = RADIUS[thing["size"]], np.array(thing["3d_coords"])
    if thing["shape"] == "cube":
        points = corners(thing)
    else:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
        if thing["shape"] == "cylinder":
            points = np.concatenate([ring + [0, 0, 1], ring - [0, 0, 1]]) * radius + centre
        else:
            right, up, _ = view.axes
            points = centre + radius * (ring[:, :1] * right + ring[:, 1:2] * up)
    pixels = project(view, points)[:, :2]
    return np.concatenate([pixels.min(0), pixels.max(0)])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.sqrt(_dot(a, a))


def _local(thing: dict[str, Any], v: np.ndarray) -> np.ndarray:
    """A vector in the axes of a cube, which is turned about z by `rotation` radians.

    The CLEVR generator samples 0 to 360, calls it degrees and hands it to Blender, which takes radians: the
    official images agree with radians.
    """
    c, s = np.float32(np.cos(thing["rotation"])), np.float32(np.sin(thing["rotation"]))
    return np.stack([c * v[0] + s * v[1], c * v[1] - s * v[0], v[2]])


def meet(thing: dict[str, Any], origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where rays (origin (3, N) or (3, 1), unit direction (3, N)) enter and leave an object.

    Returns near, far (N,) along the ray and gap (N,): how deep inside the outline the ray passes, in world
    units; negative where it misses. The gap makes shadows soft without sampling the lamp.
    """
    radius = np.float32(RADIUS[thing["size"]])
    relative = origin - np.float32(thing["3d_coords"])[:, None]
    if thing["shape"] == "sphere":
        b = _dot(relative, direction)
        miss = np.maximum(_dot(relative, relative) - b * b, 0)
        half = np.sqrt(np.maximum(radius * radius - miss, 0))
        return -b - half, -b + half, radius - np.sqrt(miss)
    if thing["shape"] == "cube":
        relative, direction = _local(thing, relative), _local(thing, direction)
    direction = np.where(np.abs(direction) < 1e-7, np.float32(1e-7), direction)
    inverse = 1 / direction[2]
    top = radius * CUBE[2] if thing["shape"] == "cube" else radius
    low, high = (-radius - relative[2]) * inverse, (top - relative[2]) * inverse
    near, far = np.minimum(low, high), np.maximum(low, high)
    if thing["shape"] == "cube":
        for k in (0, 1):
            inverse, half = 1 / direction[k], radius * CUBE[k]
            low, high = (-half - relative[k]) * inverse, (half - relative[k]) * inverse
            near = np.maximum(near, np.minimum(low, high))
            far = np.minimum(far, np.maximum(low, high))
        return near, far, (far - near) / 2
    a = direction[0] ** 2 + direction[1] ** 2
    b = (relative[0] * direction[0] + relative[1] * direction[1]) / a
    miss = np.maximum(relative[0] ** 2 + relative[1] ** 2 - a * b * b, 0)
    half = np.sqrt(np.maximum(radius * radius - miss, 0) / a)
    near, far = np.maximum(near, -b - half), np.minimum(far, half - b)
    return near, far, np.minimum(radius - np.sqrt(miss), (far - near) / 2)


def _normal(thing: dict[str, Any], points: np.ndarray) -> np.ndarray:
    """Outward normals (3, N); a cube's edges are rounded, as in CLEVR's models, in the normals alone."""
    radius = np.float32(RADIUS[thing["size"]])
    q = points - np.float32(thing["3d_coords"])[:, None]
    if thing["shape"] == "sphere":
        return q / radius
    if thing["shape"] == "cube":
        q = _local(thing, q)
        n = np.sign(q) * np.clip((np.abs(q) / (radius * CUBE[:, None]) - 0.88) / 0.12, 0, 1) ** 2
        n[2] = np.maximum(n[2], 0)  # the ground hides the lower edges
        n = _unit(n + 1e-6)
        return _local({"rotation": -thing["rotation"]}, n)
    rim = np.sqrt(q[0] ** 2 + q[1] ** 2) / radius
    side = np.clip((rim - 0.93) / 0.07, 0, 1) ** 2
    cap = np.sign(q[2]) * np.clip((np.abs(q[2]) / radius - 0.93) / 0.07, 0, 1) ** 2
    return _unit(
        np.stack([q[0] / (rim * radius + 1e-6) * side, q[1] / (rim * radius + 1e-6) * side, cap + 1e-6])
    )


def _lit(scene: Scene, points: np.ndarray, ids: np.ndarray, toward: np.ndarray, distance, soft) -> np.ndarray:
    """The fraction (N,) of a lamp visible from points, 0 in full shadow.

    `toward` (3, N) is the unit direction to the lamp, `soft` (N,) the angle it fills.
    """
    light = np.ones(points.shape[1], np.float32)
    for k, thing in enumerate(scene["objects"]):
        centre, bound = np.float32(thing["3d_coords"])[:, None], 1.75 * RADIUS[thing["size"]]
        relative = centre - points
        along = _dot(relative, toward)
        near_ray = (
            (_dot(relative, relative) - along * along < (bound + 0.12) ** 2) & (along > -bound) & (ids != k)
        )
        some = np.flatnonzero(near_ray & (along < distance))
        if not len(some):
            continue
        _, far, gap = meet(thing, points[:, some], toward[:, some])
        blur = np.maximum(along[some], 0.05) * soft[some] + 0.01
        light[some] *= 1 - np.clip(0.5 + gap / (2 * blur), 0, 1) * (far > 1e-3)
    return light


def _lamp(scene: Scene, name: str, points: np.ndarray) -> tuple:
    """A lamp seen from points (3, N): unit direction, distance, strength and the angle it fills."""
    if name == "sun":
        toward = np.repeat(SUN[:, None] / np.linalg.norm(SUN), points.shape[1], 1)
        return toward, 1e3, np.float32(SUN_POWER), np.full(points.shape[1], SUN_RADIUS, np.float32)
    position = np.float32(scene["lights"][name])[:, None]
    toward = position - points
    distance = np.sqrt(_dot(toward, toward))
    toward = toward / distance
    emitted = np.maximum(_dot(toward, position) / np.linalg.norm(position), 0)  # a disc facing the origin
    strength = np.float32(LAMP_POWER[name])[:, None] * (emitted / distance**2)
    return toward, distance, strength, LAMP_RADIUS / distance


def _shade(
    scene: Scene, eye: np.ndarray, points: np.ndarray, normals: np.ndarray, ids: np.ndarray, bounce: bool
) -> np.ndarray:
    """Linear RGB (3, N) of surface points seen along unit directions `eye` (3, N)."""
    things = scene["objects"]
    # floor, then ground: last
    metal = np.array([t["material"] == "metal" for t in things] + [False] * 2)[ids]
    albedo = [np.array(COLORS[t["color"]]) / 255 for t in things] + [FLOOR_ALBEDO, [GROUND_ALBEDO] * 3]
    albedo = np.array(albedo, np.float32)[ids].T
    reflected = eye - 2 * _dot(eye, normals) * normals
    direct = np.zeros_like(points)
    shine = np.zeros_like(points)
    for name in (*LAMPS, "sun"):
        toward, distance, strength, soft = _lamp(scene, name, points)
        visible = _lit(scene, points, ids, toward, distance, soft)
        direct += strength * (np.maximum(_dot(toward, normals), 0) * visible)
        glance = np.maximum(_dot(reflected, toward), 0)
        shine += strength * (
            visible * np.where(metal, 5.0 * glance**120 + 0.3 * glance**14, 0.05 * glance**14)
        )
    up = 0.75 + 0.25 * normals[2]
    power = np.where(ids >= 0, THING_DIRECT * direct + THING_AMBIENT * up, direct + AMBIENT * up)
    color = albedo * power + np.where((ids >= 0) & ~metal, shine, 0)
    some = np.flatnonzero(metal)
    if len(some):
        tint = 0.02 + 0.98 * albedo[:, some]
        mirror = power[:, some]
        if bounce:
            mirror = _trace(scene, points[:, some] + 1e-3 * normals[:, some], reflected[:, some])
        color[:, some] = 0.08 * color[:, some] + tint * (0.95 * mirror + 0.9 * shine[:, some])
    return color


def _trace(scene: Scene, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Linear RGB (3, N) that single reflected rays bring back."""
    nearest = np.where(direction[2] < -1e-3, -origin[2] / np.minimum(direction[2], -1e-3), np.float32(1e4))
    nearest = np.where(nearest > 40, np.float32(1e4), nearest)
    ids = np.full(origin.shape[1], -1)
    for k, thing in enumerate(scene["objects"]):
        near, _, gap = meet(thing, origin, direction)
        closer = (gap > 0) & (near > 1e-3) & (near < nearest)
        nearest, ids = np.where(closer, near, nearest), np.where(closer, k, ids)
    color = np.full((3, origin.shape[1]), WORLD, np.float32)
    hit = np.flatnonzero(nearest < 1e4)
    if len(hit):
        points = origin[:, hit] + nearest[hit] * direction[:, hit]
        seen = _with_floor(scene, points, ids[hit]) if "floor" in scene else ids[hit]
        color[:, hit] = _shade(scene, direction[:, hit], points, _normals(scene, points, seen), seen, False)
    return color


def _with_floor(scene: Scene, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """What is seen (...) at points (3, ...), with `FLOOR` where the ground there is the scene's floor."""
    across, along = scene["floor"]  # its two sides, in the middle of the ground
    on_floor = (2 * np.abs(points[0]) < across) & (2 * np.abs(points[1]) < along)
    return np.where((ids == GROUND) & on_floor, FLOOR, ids)


def _normals(scene: Scene, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
    normals = np.zeros_like(points)
    normals[2] = 1
    for k, thing in enumerate(scene["objects"]):
        some = np.flatnonzero(ids == k)
        if len(some):
            normals[:, some] = _normal(thing, points[:, some])
    return normals


def visibility(scene: Scene, view: Camera, width: int, height: int) -> tuple[np.ndarray, ...]:
    """What each pixel centre sees: unit rays (3, H, W), distance along them, and the object's index, `GROUND`
    or `FLOOR` (H, W).
    """
    x = ((np.arange(width) + 0.5) * (WIDTH / width) - WIDTH / 2) / FOCAL
    y = (HEIGHT / 2 - (np.arange(height) + 0.5) * (HEIGHT / height)) / FOCAL
    right, up, forward = view.axes[:, :, None, None]
    rays = (right * x[None, None, :] + up * y[None, :, None] + forward).astype(np.float32)
    rays = _unit(rays)
    origin = view.position.astype(np.float32)[:, None]
    reach = np.where(rays[2] < -1e-3, -origin[2] / np.minimum(rays[2], -1e-3), np.float32(1e3)).astype(
        np.float32
    )
    ids = np.full((height, width), -1, np.int16)
    for k, thing in enumerate(scene["objects"]):
        x0, y0, x1, y1 = outline(view, thing) * np.tile([width / WIDTH, height / HEIGHT], 2)
        window = np.s_[max(int(y0) - 1, 0) : max(int(y1) + 2, 0), max(int(x0) - 1, 0) : max(int(x1) + 2, 0)]
        part = rays[(slice(None), *window)]
        if not part.size:
            continue
        near, _, gap = meet(thing, origin, part.reshape(3, -1))
        near, gap = near.reshape(part.shape[1:]), gap.reshape(part.shape[1:])
        closer = (gap > 0) & (near < reach[window])
        reach[window] = np.where(closer, near, reach[window])
        ids[window] = np.where(closer, k, ids[window])
    if "floor" in scene:
        ids = _with_floor(scene, origin[..., None] + reach * rays, ids)
    return rays, reach, ids


def render(
    scene: Scene, view: Camera, width: int = WIDTH, height: int = HEIGHT, samples: int = 2
) -> Rendered:
    """Render a scene that has `lights`; the frame is always CLEVR's 3:2, squeezed into width x height.

    `samples` x `samples` rays per pixel find outlines; pixels inside one surface are shaded once.
    """
    rays, reach, ids = visibility(scene, view, width * samples, height * samples)

    def blocks(a: np.ndarray) -> np.ndarray:  # (..., H * s, W * s) -> (..., H * W, s * s)
        a = a.reshape(*a.shape[:-2], height, samples, width, samples).swapaxes(-3, -2)
        return a.reshape(*a.shape[:-4], height * width, samples * samples)

    rays, reach, ids = blocks(rays), blocks(reach), blocks(ids)
    edge = (ids != ids[:, :1]).any(1)
    weight = np.where(edge[:, None], 1 / samples**2, 0).astype(np.float32).repeat(samples**2, 1)
    weight[~edge, -1] = 1
    pixel, sample = np.nonzero(weight)
    eye, distance, seen = rays[:, pixel, sample], reach[pixel, sample], ids[pixel, sample]
    points = view.position.astype(np.float32)[:, None] + distance * eye
    color = _shade(scene, eye, points, _normals(scene, points, seen), seen, True)
    linear = np.stack([np.bincount(pixel, c * weight[pixel, sample], height * width) for c in color], -1)
    encoded = np.clip(linear, 0, 1)
    encoded = np.where(encoded <= 0.0031308, 12.92 * encoded, 1.055 * encoded ** (1 / 2.4) - 0.055)  # sRGB
    image = (encoded * 255 + 0.5).astype(np.uint8).reshape(height, width, 3)
    depth = (reach * np.tensordot(view.axes[2].astype(np.float32), rays, 1))[:, -1]
    seen = np.maximum(ids[:, -1], GROUND).reshape(height, width)
    return Rendered(Image.fromarray(image), depth.reshape(height, width), seen)
