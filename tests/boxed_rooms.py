"""Rooms of boxes, for tests: quickly made, and other ones for every number."""

from __future__ import annotations

import math

import numpy as np

from spatialvlm.worlds.annotation import Box, SceneAnnotation

LABELS = "bed sofa lamp chair door table fridge sink plant shelf desk stove".split()  # noqa: SIM905


def turned(angle: float) -> np.ndarray:
    return np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )


def made(index: int, singles: int = 9) -> SceneAnnotation:
    """A room of boxes anywhere in 6 x 5 metres: some labels once, two of them more often."""
    rng = np.random.default_rng([5, index])

    def box() -> Box:
        place = rng.uniform([-3, -2.5, 0], [3, 2.5, 1])
        return Box.oriented(place, rng.uniform(0.2, 1.2, 3), turned(rng.uniform(0, 7)).ravel())

    labels = rng.permutation(LABELS)[: singles + 2].tolist()
    counts = {label: 1 for label in labels[:singles]} | {labels[-1]: 3, labels[-2]: 2}
    objects = {label: tuple(box() for _ in range(count)) for label, count in counts.items()}
    return SceneAnnotation(f"scene{index:04}_00", float(rng.uniform(10, 60)), counts, objects)
