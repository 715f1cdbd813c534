"""Annotation of a room: floor area, counts of objects by label, and their boxes with measures between them.

The format on disk is VSI-Bench's (`*_meta_info*.json`, vision-x-nyu/thinking-in-space): `{scene:
{"room_size",
"object_counts", "object_bbox": {label: [{"centroid", "axesLengths", "normalizedAxes", "min", "max"}]}}}`.
Lengths are metres, areas square metres, angles degrees; z points up. The measures are those that reproduce
VSI-Bench's own answers (`python -m spatialvlm.tasks.vsi.verify`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from spatialvlm import text_files
from spatialvlm.errors import UserError

Vector = tuple[float, float, float]
WORLD_AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_UNIT = 1e-3  # how far the axes may be from orthonormal


@dataclass(frozen=True)
class Box:
    """A box in any orientation.

    Args:
        centroid: its centre.
        axes_lengths: its three sides, full lengths.
        normalized_axes: the directions of the three sides, one after the other (nine numbers).
        minimum, maximum: corners of the upright box around it, along the world's axes.
    """

    centroid: Vector
    axes_lengths: Vector
    normalized_axes: tuple[float, ...]
    minimum: Vector
    maximum: Vector

    @classmethod
    def oriented(
        cls, centroid: Sequence[float], lengths: Sequence[float], axes: Sequence[float] = WORLD_AXES
    ) -> Box:
        """A box by its centre, its sides and their directions; along the world's axes by default."""
        centre, rows = np.asarray(centroid, float), np.asarray(axes, float).reshape(3, 3)
        reach = (np.abs(rows) * np.asarray(lengths, float)[:, None]).sum(0) / 2
        return cls(
            _vector(centre),
            _vector(lengths),
            _vector(rows.ravel()),
            _vector(centre - reach),
            _vector(centre + reach),
        )

    @classmethod
    def from_json(cls, row: Any, where: str) -> Box:
        """Raises UserError where a field is missing, is not finite, or does not fit the others."""
        box = cls(
            centroid=_numbers(row, "centroid", 3, where),
            axes_lengths=_numbers(row, "axesLengths", 3, where),
            normalized_axes=_numbers(row, "normalizedAxes", 9, where),
            minimum=_numbers(row, "min", 3, where),
            maximum=_numbers(row, "max", 3, where),
        )
        axes = np.reshape(box.normalized_axes, (3, 3))
        if min(box.axes_lengths) <= 0:
            raise UserError(f"{where}: 'axesLengths' must be above 0, not {[*box.axes_lengths]}")
        if np.abs(axes @ axes.T - np.eye(3)).max() > _UNIT:
            raise UserError(f"{where}: 'normalizedAxes' are no three unit vectors at right angles")
        if any(low > high for low, high in zip(box.minimum, box.maximum, strict=True)):
            raise UserError(f"{where}: 'min' {[*box.minimum]} lies beyond 'max' {[*box.maximum]}")
        return box

    def to_json(self) -> dict[str, list[float]]:
        return {
            "centroid": [*self.centroid],
            "axesLengths": [*self.axes_lengths],
            "normalizedAxes": [*self.normalized_axes],
            "min": [*self.minimum],
            "max": [*self.maximum],
        }


@dataclass(frozen=True)
class SceneAnnotation:
    """A room with its objects.

    Args:
        scene: its name, unique in its data set.
        room_size: floor area in square metres; None where unknown.
        object_counts: number of objects by label; in VSI-Bench's annotation not always one per box.
        objects: the boxes of each label.
        dataset: `scannet`, `rooms`, ...
    """

    scene: str
    room_size: float | None
    object_counts: dict[str, int]
    objects: dict[str, tuple[Box, ...]]
    dataset: str = "scannet"


# ---- measures


def gap(one: Box, other: Box) -> float:
    """Metres between the closest points of two boxes; 0 where they touch.

    A point of a box is its centre plus fractions, within 1/2, of its three sides; so the closest two are a
    least squares problem in six bounded unknowns, solved exactly.
    """
    sides = [_sides(box) for box in (one, other)]
    apart = np.subtract(other.centroid, one.centroid)
    closest = lsq_linear(np.hstack([sides[0], -sides[1]]), apart, (-0.5, 0.5), method="bvls", tol=1e-12)
    return math.sqrt(2 * closest.cost)


def between_centres(one: Box, other: Box) -> float:
    """Metres between two boxes' centres."""
    return math.dist(one.centroid, other.centroid)


def bearing(standing: Box, facing: Box, target: Box) -> float:
    """Degrees in (-180, 180] to turn on the floor plan, to the left being positive.

    One stands at `standing`'s centre, faces that of `facing`, and turns towards that of `target`.
    """
    return float(bearings(standing, facing, np.array([target.centroid]))[0])


def bearings(standing: Box, facing: Box, points: np.ndarray) -> np.ndarray:
    """`bearing` of (N, 3) points."""
    x, y = np.subtract(facing.centroid, standing.centroid)[:2]
    to_x, to_y = (points - np.array(standing.centroid))[:, :2].T
    return np.degrees(np.arctan2(x * to_y - y * to_x, x * to_x + y * to_y))


def corners(box: Box) -> np.ndarray:
    """The corners, (8, 3)."""
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return np.array(box.centroid) + signs @ _sides(box).T


def _sides(box: Box) -> np.ndarray:
    """(3, 3): the three sides as vectors, one per column."""
    return (np.reshape(box.normalized_axes, (3, 3)) * np.array(box.axes_lengths)[:, None]).T


# ---- files


def from_meta_info(content: Any, where: str = "annotation") -> dict[str, SceneAnnotation]:
    """Read scenes, by name, from the content of a JSON file.

    Args:
        where: name of the file in messages.

    Raises:
        UserError: an incomplete scene, label or box, a number that is not finite, a room size that is not
            above 0, a count that is no whole number from 1 on; the message names it.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f"{where} holds no scenes; it should be VSI-Bench's meta info, scenes by name")
    return {scene: _scene(scene, row, f"{where} scene {scene!r}") for scene, row in content.items()}


def to_meta_info(annotations: Iterable[SceneAnnotation]) -> dict[str, Any]:
    """Write scenes as the content of such a JSON file."""
    return {
        annotation.scene: {
            "room_size": annotation.room_size,
            "object_counts": dict(annotation.object_counts),
            "object_bbox": {
                label: [box.to_json() for box in boxes] for label, boxes in annotation.objects.items()
            },
            "dataset": annotation.dataset,
        }
        for annotation in annotations
    }


def read(path: str | Path) -> dict[str, SceneAnnotation]:
    """Read the scenes of a file; raises UserError as `from_meta_info`, and where it is no JSON file."""
    return from_meta_info(text_files.json_value(path), str(path))


def _scene(scene: str, row: Any, where: str) -> SceneAnnotation:
    if not isinstance(row, dict):
        raise UserError(f"{where} is no record with named fields")
    for name in ("object_counts", "object_bbox"):
        if not isinstance(row.get(name), Mapping):
            raise UserError(f"{where} has no '{name}'; correct or remove the scene")
    size = row.get("room_size")
    if size is not None and not (_is_number(size) and size > 0):
        raise UserError(f"{where}: 'room_size' must be an area above 0, not {size!r}")
    for label, count in row["object_counts"].items():
        if type(count) is not int or count < 1:
            raise UserError(f"{where}: the count of {label!r} must be a whole number above 0, not {count!r}")
    objects = {}
    for label, listed in row["object_bbox"].items():
        if not isinstance(listed, list) or not listed:
            raise UserError(f"{where}: 'object_bbox' of {label!r} must be a list of boxes, not {listed!r}")
        if label not in row["object_counts"]:
            raise UserError(f"{where}: {label!r} has boxes, but no count")
        boxes = [Box.from_json(box, f"{where} {label} {number}") for number, box in enumerate(listed)]
        objects[label] = tuple(boxes)
    return SceneAnnotation(
        scene, size, dict(row["object_counts"]), objects, dataset=str(row.get("dataset", "scannet"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(row: Any, name: str, count: int, where: str) -> tuple[float, ...]:
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, list | tuple) or len(value) != count or not all(map(_is_number, value)):
        raise UserError(f"{where}: '{name}' must be {count} finite numbers, not {value!r}")
    return tuple(map(float, value))


def _vector(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(float, values))
