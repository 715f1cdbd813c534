"""Measures in a room: gaps between boxes, bearings on the floor plan, floor area, boxes around points.

The definitions are those that reproduce VSI-Bench's own answers (`spatialvlm.tasks.vsi.vsi_100k verify`).
Lengths are metres, angles degrees; z points up.
"""

from __future__ import annotations

import math

import numpy as np
import shapely
from scipy.optimize import lsq_linear
from scipy.spatial import Delaunay, QhullError

from spatialvlm.worlds.rooms.annotation import Box

ALPHA = 5.0  # of the alpha shape, 1/m: what is narrower than some 40 cm is no gap (VSI-Bench's value)
SAMPLED = 10_000  # points that an area is taken from, as in VSI-Bench
ALIGNED = 1.01  # how much larger a box along the walls may be than the smallest one
THINNEST = 0.01  # metres: no side of a box is shorter, though a scanned sheet has no thickness


def gap(one: Box, other: Box) -> float:
    """Metres between the closest points of two boxes; 0 where they touch.

    A point of a box is its centre plus shares within 1/2 of its three sides, so the closest two are a least
    squares problem in six bounded unknowns, solved exactly.
    """
    sides = [_sides(box) for box in (one, other)]
    apart = np.subtract(other.centroid, one.centroid)
    found = lsq_linear(np.hstack([sides[0], -sides[1]]), apart, (-0.5, 0.5), method="bvls", tol=1e-12)
    return math.sqrt(2 * found.cost)


def between_centres(one: Box, other: Box) -> float:
    """Metres between two boxes' centres."""
    return math.dist(one.centroid, other.centroid)


def bearing(standing: Box, facing: Box, asked: Box) -> float:
    """Degrees from (-180, 180] that one turns on the floor plan, at `standing`'s centre and facing that of
    `facing`, to face `asked`'s; to the left is positive.
    """
    return float(bearings(standing, facing, np.array([asked.centroid]))[0])


def bearings(standing: Box, facing: Box, points: np.ndarray) -> np.ndarray:
    """As `bearing`, of (N, 3) points."""
    x, y = np.subtract(facing.centroid, standing.centroid)[:2]
    to_x, to_y = (points - np.array(standing.centroid))[:, :2].T
    return np.degrees(np.arctan2(x * to_y - y * to_x, x * to_x + y * to_y))


def corners(box: Box) -> np.ndarray:
    """(8, 3) corners."""
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return np.array(box.centroid) + signs @ _sides(box).T


def _sides(box: Box) -> np.ndarray:
    """(3, 3): the three sides as vectors, one a column."""
    return (np.reshape(box.normalized_axes, (3, 3)) * np.array(box.axes_lengths)[:, None]).T


def upright_box(points: np.ndarray) -> Box:
    """The smallest box around (N, 3) points among those that stand upright; that along x and y, which are the
    walls' directions, where it is as small but for `ALIGNED`: what is round has no direction of its own.
    """
    hull = shapely.get_coordinates(shapely.convex_hull(shapely.MultiPoint(points[:, :2])))
    edges = np.concatenate([[[1.0, 0.0]], np.diff(hull, axis=0)])
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    across = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (E, 2): one side lies along a hull's edge
    along = np.stack([-across[:, 1], across[:, 0]], axis=1)
    extents = [np.ptp(hull @ axis.T, axis=0) for axis in (across, along)]
    areas = extents[0] * extents[1]
    best = 0 if areas[0] <= ALIGNED * areas.min() else int(np.argmin(areas))
    axes = np.eye(3)
    axes[0, :2], axes[1, :2] = across[best], along[best]
    turned = points @ axes.T
    low, high = turned.min(0), turned.max(0)
    return Box.oriented((low + high) / 2 @ axes, np.maximum(high - low, THINNEST), axes.ravel())


def floor_area(points: np.ndarray, seed: int = 0) -> float:
    """Square metres of the alpha shape of (N, 2 or 3) points seen from above, holes filled, as VSI-Bench
    measures rooms (it calls `alphashape`, which gives the same area and takes some ten times as long).

    Args:
        seed: of the choice of `SAMPLED` points where there are more.

    Raises:
        ValueError: the points span no area.
    """
    flat = np.asarray(points, float)[:, :2]
    if len(flat) > SAMPLED:
        flat = flat[np.random.default_rng(seed).choice(len(flat), SAMPLED, replace=False)]
    try:
        triangles = Delaunay(flat).simplices
    except (QhullError, ValueError):
        raise ValueError(f"its {len(flat)} points span no area seen from above") from None
    a, b, c = (flat[triangles[:, corner]] for corner in range(3))
    sides = [np.linalg.norm(one - other, axis=1) for one, other in ((a, b), (b, c), (c, a))]
    doubled = np.abs(np.cross(np.c_[b - a, 0 * a[:, :1]], np.c_[c - a, 0 * a[:, :1]])[:, 2])
    with np.errstate(divide="ignore"):  # three points on a line: an endless radius, so not kept
        kept = triangles[np.prod(sides, axis=0) / (2 * doubled) < 1 / ALPHA]
    edges = np.sort(np.concatenate([kept[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    rim, used = np.unique(edges, axis=0, return_counts=True)
    rings = shapely.polygonize(shapely.linestrings(flat[rim[used == 1]]))
    area = shapely.union_all(shapely.get_parts(rings)).area
    if not area > 0:
        raise ValueError(f"its {len(flat)} points lie too far apart to be a floor")
    return float(area)
