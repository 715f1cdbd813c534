"""Scenes of CLEVR's world in CLEVR's own scenes-JSON form, and their images.

`make(seed, index)` gives the scene with that number, always the same; `render_scene(scene)` renders it.
Sizes, colours, camera, lamps and the rules of placing are those of the CLEVR generator (Johnson et al.,
CVPR 2017, `image_generation/render_images.py`); the renderer is our own (`render.py`).
"""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import Any

import numpy as np

from spatialvlm.worlds.clevr import render
from spatialvlm.worlds.clevr.facts import HEIGHT, VALUES, WIDTH, Scene, relationships
from spatialvlm.worlds.clevr.render import COLORS, LAMP_POSITION, LAMPS, RADIUS, Rendered

SHAPES, MATERIALS, SIZES = VALUES["shape"], VALUES["material"], ("large", "small")
SIDES = ("right", "behind", "above", "below", "left", "front")
CAMERA = (7.48113, -6.50764, 5.34367)
CAMERA_JITTER, LAMP_JITTER = 0.5, 1.0
MINIMUM_DISTANCE, MARGIN = 0.25, 0.4  # between surfaces; between centres along each of the four directions
MINIMUM_PIXELS = 200  # visible at 480 x 320
GROUND = 6.0  # the side of the square on which objects' centres lie
FLOOR = (4.0, 6.6)  # least and greatest side of a floor, in scene units; one this large is seen whole
CHECK_SCALE = 2  # visibility is counted at 240 x 160


def make(
    seed: str | int, index: int, min_objects: int = 3, max_objects: int = 10, with_floor: bool = False
) -> Scene:
    """Scene number `index` of the series `seed`.

    Beside what CLEVR's scenes have there are `camera`, `lights`, and for every object `bbox` (of its visible
    part, [x0, y0, x1, y1]) and `visible_pixels`, both at 480 x 320. With a floor there is `floor`, its sides
    along x and y in scene units; all objects stand on it.

    Raises:
        ValueError: object counts that CLEVR's ground has no room for.
    """
    if not 1 <= min_objects <= max_objects <= 10:
        raise ValueError(f"1 <= min_objects <= max_objects <= 10, not {min_objects} and {max_objects}")
    rng = random.Random(f"{seed}-{index}")
    count = rng.randint(min_objects, max_objects)
    while True:
        position = [c + rng.uniform(-CAMERA_JITTER, CAMERA_JITTER) for c in CAMERA]
        view = render.camera(np.array(position))
        floor = [rng.uniform(*FLOOR), rng.uniform(*FLOOR)] if with_floor else None
        objects = _place(rng, count, view, floor)
        if objects is None:
            continue
        lights = {n: [c + rng.uniform(-LAMP_JITTER, LAMP_JITTER) for c in LAMP_POSITION[n]] for n in LAMPS}
        scene: Scene = {
            "image_index": index,
            "image_filename": f"{seed}_{index:06d}.png",
            "split": str(seed),
            "objects": objects,
            "directions": _directions(view),
            "camera": position,
            "lights": lights,
        }
        if floor:
            scene["floor"] = floor
        if _measure(scene, view):
            scene["relationships"] = relationships(scene)
            return scene


def _directions(view: render.Camera) -> dict[str, list[float]]:
    right, _, forward = view.axes
    behind = np.array([forward[0], forward[1], 0.0])
    behind /= np.linalg.norm(behind)
    ways = {"right": right, "behind": behind, "above": np.array([0.0, 0.0, 1.0])}
    ways |= {"left": -right, "front": -behind, "below": np.array([0.0, 0.0, -1.0])}
    return {side: [float(c) for c in ways[side]] for side in SIDES}


def _place(
    rng: random.Random, count: int, view: render.Camera, floor: list[float] | None
) -> list[dict[str, Any]] | None:
    """Objects apart from each other in every direction; None after 50 tries for one."""
    ways = _directions(view)
    objects: list[dict[str, Any]] = []
    for _ in range(count):
        for _ in range(50):
            size, shape = rng.choice(SIZES), rng.choice(SHAPES)
            radius = RADIUS[size]
            x, y = (
                rng.uniform(-side / 2, side / 2)
                for side in ([side - 2 * radius for side in floor] if floor else [GROUND] * 2)
            )
            if all(_apart(x, y, radius, other, ways) for other in objects):
                break
        else:
            return None
        objects.append(
            {
                "shape": shape,
                "size": size,
                "material": rng.choice(MATERIALS),
                "color": rng.choice(tuple(COLORS)),
                "rotation": rng.uniform(0, 360),
                "3d_coords": [x, y, radius],
            }
        )
    pixels = render.project(view, np.array([o["3d_coords"] for o in objects]))
    for thing, (column, row, depth) in zip(objects, pixels, strict=True):
        thing["pixel_coords"] = [int(round(column)), int(round(row)), float(depth)]
    return objects


def _apart(x: float, y: float, radius: float, other: dict[str, Any], ways: dict[str, list[float]]) -> bool:
    dx, dy = x - other["3d_coords"][0], y - other["3d_coords"][1]
    if math.hypot(dx, dy) - radius - RADIUS[other["size"]] < MINIMUM_DISTANCE:
        return False
    return all(abs(dx * ways[side][0] + dy * ways[side][1]) >= MARGIN for side in ("right", "behind"))


def _measure(scene: Scene, view: render.Camera) -> bool:
    """Fill in each object's visible part; False where one is hidden too much, as CLEVR refuses it."""
    _, _, ids = render.visibility(scene, view, WIDTH // CHECK_SCALE, HEIGHT // CHECK_SCALE)
    for k, thing in enumerate(scene["objects"]):
        rows, columns = np.nonzero(ids == k)
        if len(rows) * CHECK_SCALE**2 < MINIMUM_PIXELS:
            return False
        thing["visible_pixels"] = int(len(rows) * CHECK_SCALE**2)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        thing["bbox"] = [int(c) * CHECK_SCALE for c in box]
    return True


def view(scene: Scene) -> render.Camera:
    """The scene's camera.

    For a scene without one (an official file) it is found from `pixel_coords`, which fix it to well under a
    pixel since CLEVR's camera always looks at the origin.
    """
    if "camera" in scene:
        return render.camera(np.array(scene["camera"]))
    points = np.array([o["3d_coords"] for o in scene["objects"]], float)
    pixels = np.array([o["pixel_coords"] for o in scene["objects"]], float)
    return render.camera(np.array(_solve(tuple(map(tuple, points)), tuple(map(tuple, pixels)))))


@lru_cache(maxsize=4096)
def _solve(points: tuple, pixels: tuple) -> tuple[float, ...]:
    from scipy.optimize import least_squares

    target = np.array(pixels)

    def residual(position: np.ndarray) -> np.ndarray:
        # a pixel is known to half a pixel, a distance to far better than a hundredth
        return ((render.project(render.camera(position), np.array(points)) - target) * [1, 1, 100]).ravel()

    return tuple(least_squares(residual, CAMERA).x)


def boxes(scene: Scene) -> list[list[float]]:
    """Each object's box [x0, y0, x1, y1] at 480 x 320.

    It bounds the visible part in our scenes, the projected outline, cut at the frame, in official ones.
    """
    if all("bbox" in thing for thing in scene["objects"]):
        return [list(thing["bbox"]) for thing in scene["objects"]]
    camera = view(scene)
    edges = [render.outline(camera, thing) for thing in scene["objects"]]
    return [np.clip(edge, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist() for edge in edges]


def render_scene(scene: Scene, width: int = WIDTH, height: int = HEIGHT, samples: int = 2) -> Rendered:
    """Render any scene of this form; without `lights` they stand where CLEVR's do before jitter."""
    lit = scene if "lights" in scene else {**scene, "lights": LAMP_POSITION}
    return render.render(lit, view(scene), width, height, samples)
