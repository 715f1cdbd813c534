"""What some strategies look at beside the picture: depth maps, and two views of one rendered scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example, open_image
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.worlds.clevr import render, scenes
from spatialvlm.worlds.clevr.facts import Scene
from spatialvlm.worlds.clevr.questions import sat_prompt
from spatialvlm.worlds.clevr.series import HEIGHT, SPLITS, WIDTH

STEP = (1.2, 2.0)  # how far the camera moves between two views, in the unit of `3d_coords`
OBJECTS = (3, 5)  # least and most in a scene of two views
STILL = 8.0  # columns of 480 within which an object counts as not shifted


# ---- depth maps


def depth_maps(folder: str | Path | None) -> Callable[[Example], Image.Image]:
    """Gives the depth map of an example, grey in RGB, near things bright.

    Args:
        folder: holds `<id>.png` for every question, `/` in the id as `_` (SAT's turned questions share one);
            where None, the map is that of the rendered scene.

    Raises:
        UserError: the folder is not there; when asked for one, the file is missing or broken, or the example
            is not of a rendered scene.
    """
    if folder is None:
        return rendered_depth
    if not Path(folder).is_dir():
        raise UserError(f"--depth {folder}: no such folder")

    def from_file(example: Example) -> Image.Image:
        name = example.meta.get("cluster", example.id).replace("/", "_")
        return open_image(Path(folder) / f"{name}.png")

    return from_file


def rendered_depth(example: Example) -> Image.Image:
    """The depth map out of the renderer's depth buffer, scaled from nearest (255) to farthest (0)."""
    depth = scenes.picture(scene_of(example), WIDTH, HEIGHT, samples=1).depth
    near, far = float(depth.min()), float(depth.max())
    grey = np.rint(255 * (far - depth) / max(far - near, 1e-6)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def scene_of(example: Example) -> Scene:
    """The scene of a rendered question. Raises UserError for a question about another picture."""
    place = example.meta.get("scene")
    if not isinstance(place, list):
        raise UserError(
            f"question {example.id!r} is not of a rendered scene; give its depth map with --depth"
        )
    return scenes.make(*place)


# ---- two views


def two_views(split: str, limit: int, seed: int = 0) -> Sequence[Example]:
    """`limit` questions in SAT's form about two pictures of a scene: which way did the camera move?

    The camera keeps looking at the middle of the scene. `meta["shifts"]` has each object's shift in the
    picture: -1 to the left, 1 to the right, 0 for less than `STILL` columns of 480.
    """
    if split not in SPLITS:
        raise UserError(f"the embedded data has the splits {', '.join(SPLITS)}, not {split!r}")

    def make(index: int) -> Example:
        series = f"two_views-{split}-{seed}"
        rng = Random(f"{series}-{index}")
        place = [series, index, *OBJECTS]
        before = scenes.make(*place)
        side, step = rng.choice(("left", "right")), rng.uniform(*STEP)
        after = before | {
            "camera": [
                at + step * along
                for at, along in zip(before["camera"], before["directions"][side], strict=True)
            ]
        }
        choices = ["left", "right"]
        rng.shuffle(choices)
        question = "Did the camera move to its left or to its right between the first and the second image?"
        return Example(
            id=f"{series}-{index}",
            images=tuple(scenes.picture(scene, WIDTH, HEIGHT).image for scene in (before, after)),
            question=question,
            answer=side,
            task="ego_movement",
            choices=tuple(choices),
            prompt=sat_prompt(question, choices, "natural"),
            meta={"answer_form": "natural", "scene": place, "shifts": shifts(before, after)},
        )

    return LazyExamples(make, range(limit))


def shifts(before: Scene, after: Scene) -> list[int]:
    """How each object's middle moves along the picture's columns from one scene to the other: -1, 0 or 1."""
    columns = [
        render.project(scenes.view(scene), np.array([thing["3d_coords"] for thing in scene["objects"]]))[:, 0]
        for scene in (before, after)
    ]
    moved = columns[1] - columns[0]
    return [0 if abs(by) < STILL else int(np.sign(by)) for by in moved]
