"""What is known of a room in three dimensions: floor area, how many objects of each label, and their boxes.

The form on disk is VSI-Bench's (`*_meta_info*.json`, vision-x-nyu/thinking-in-space): `{scene: {"room_size",
"object_counts", "object_bbox": {label: [{"centroid", "axesLengths", "normalizedAxes", "min", "max"}]}}}`.
Lengths are metres, areas square metres; z points up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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
        return cls(*map(_vector, (centre, lengths, rows.ravel(), centre - reach, centre + reach)))

    @classmethod
    def from_json(cls, row: Any, where: str) -> Box:
        """Raises UserError where a field is missing, is not finite, or does not fit the others."""
        names = ("centroid", "axesLengths", "normalizedAxes", "min", "max")
        fields = [_numbers(row, name, 9 if name == "normalizedAxes" else 3, where) for name in names]
        box = cls(*fields)
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
        room_size: floor area in square metres; None where it is not known.
        object_counts: how many there are of each label; in VSI-Bench's annotation not always one a box.
        objects: the boxes of each label.
        points: (N, 3) points of the room's surfaces; None where there are none.
        dataset: `scannet`, `rooms`, ...
    """

    scene: str
    room_size: float | None
    object_counts: dict[str, int]
    objects: dict[str, tuple[Box, ...]]
    points: np.ndarray | None = field(default=None, compare=False, repr=False)
    dataset: str = "scannet"


def from_meta_info(content: Any, where: str = "annotation") -> dict[str, SceneAnnotation]:
    """The scenes of VSI-Bench's annotation (`content` is what its JSON file holds), by name; without points.

    Args:
        where: what to call the file in messages.

    Raises:
        UserError: a scene, label or box that is not whole, a number that is not finite, a room size that is
            not above 0, a count that is no whole number from 1 on; the message names it.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f"{where} holds no scenes; it should be VSI-Bench's meta info, scenes by name")
    return {scene: _scene(scene, row, f"{where} scene {scene!r}") for scene, row in content.items()}


def to_meta_info(annotations: Iterable[SceneAnnotation]) -> dict[str, Any]:
    """VSI-Bench's annotation of these scenes, ready for `json.dump`; points are not part of it."""
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
    """`from_meta_info` of a file. Raises UserError where it is not there or is not JSON too."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); give VSI-Bench's meta info, a JSON file") from None
    return from_meta_info(content, str(path))


def _scene(scene: str, row: Any, where: str) -> SceneAnnotation:
    if not isinstance(row, dict):
        raise UserError(f"{where} is no record with named fields")
    for name in ("object_counts", "object_bbox"):
        if not isinstance(row.get(name), Mapping):
            raise UserError(f"{where} has no '{name}'; mend or remove the scene")
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
