"""Questions about two images of one rendered scene, between which the camera moves sideways."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.worlds.clevr import render, scenes
from spatialvlm.worlds.clevr.facts import Scene
from spatialvlm.worlds.clevr.questions import sat_prompt
from spatialvlm.worlds.clevr.series import HEIGHT, SPLITS, WIDTH

STEP = (1.2, 2.0)  # minimum and maximum camera movement, in the unit of `3d_coords`
OBJECTS = (3, 5)  # minimum and maximum number in a scene
STILL = 8.0  # columns of 480 within which an object counts as not shifted
QUESTION = "Did the camera move to its left or to its right between the first and the second image?"


def two_views(split: str, limit: int, seed: int = 0) -> Sequence[Example]:
    """`limit` questions in SAT's form: which way did the camera move?

    The camera keeps looking at the centre of the scene. `meta["shifts"]` has each object's shift in the
    image: -1 to the left, 1 to the right, 0 for less than `STILL` columns of 480.
    """
    if split not in SPLITS:
        raise UserError(f"the embedded data has the splits {', '.join(SPLITS)}, not {split!r}")

    def make(index: int) -> Example:
        series = f"two_views-{split}-{seed}"
        rng = Random(f"{series}-{index}")
        place = [series, index, *OBJECTS]
        before = scenes.make(*place)
        side, step = rng.choice(("left", "right")), rng.uniform(*STEP)
        moved = np.add(before["camera"], step * np.array(before["directions"][side]))
        after = before | {"camera": moved.tolist()}
        choices = ["left", "right"]
        rng.shuffle(choices)
        return Example(
            id=f"{series}-{index}",
            images=tuple(scenes.render_scene(scene, WIDTH, HEIGHT).image for scene in (before, after)),
            question=QUESTION,
            answer=side,
            task="ego_movement",
            choices=tuple(choices),
            prompt=sat_prompt(QUESTION, choices, "natural"),
            meta={"answer_form": "natural", "scene": place, "shifts": _shifts(before, after)},
        )

    return LazyExamples(make, range(limit))


def _shifts(before: Scene, after: Scene) -> list[int]:
    """Direction in which each object's centre moves along the image's columns: -1, 0 or 1."""
    first, second = (
        render.project(scenes.view(scene), np.array([thing["3d_coords"] for thing in scene["objects"]]))[:, 0]
        for scene in (before, after)
    )
    return [0 if abs(shift) < STILL else int(np.sign(shift)) for shift in second - first]
