"""Gaps, bearings, floor areas and boxes, against other ways to measure them."""

import math

import alphashape
import numpy as np
import pytest
from boxed_rooms import turned
from scipy.spatial import cKDTree

from spatialvlm.tasks.vsi import scannet
from spatialvlm.worlds.rooms import annotation
from spatialvlm.worlds.rooms.annotation import Box


def test_gaps_of_boxes_are_those_of_points_all_over_them():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 25)] * 3), -1).reshape(-1, 3)
    for _ in range(6):
        boxes, clouds = [], []
        for _ in range(2):
            axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            boxes.append(Box.oriented(rng.uniform(-1.2, 1.2, 3), rng.uniform(0.2, 1, 3), axes.ravel()))
            clouds.append(np.array(boxes[-1].centroid) + grid * boxes[-1].axes_lengths @ axes)
        sampled = cKDTree(clouds[0]).query(clouds[1])[0].min()
        gap = annotation.gap(*boxes)
        assert gap <= sampled + 1e-9 and sampled - gap < 0.08  # no farther than the samples lie apart
        assert gap == pytest.approx(annotation.gap(*boxes[::-1]), abs=1e-9)
    one, other = Box.oriented((0, 0, 0), (1, 1, 1)), Box.oriented((3, 4.5, 0), (1, 1, 1))
    assert annotation.gap(one, other) == pytest.approx(math.hypot(2, 3.5))
    assert annotation.gap(one, Box.oriented((0.7, 0.3, 0), (1, 1, 1))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "place, angle", [((0, 2), 0), ((-1, 0), 90), ((1, 0), -90), ((-1, -1), 135), ((0, -1), 180)]
)
def test_bearings_are_positive_to_the_left(place, angle):
    here, ahead, there = (Box.oriented((x, y, 0), (0.1, 0.1, 0.1)) for x, y in ((0, 0), (0, 1), place))
    assert abs(annotation.bearing(here, ahead, there)) == pytest.approx(abs(angle))
    assert angle == 180 or annotation.bearing(here, ahead, there) == pytest.approx(angle)


def test_floor_areas_are_alphashapes():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (900, 2)) * [4, 3]
    ring = points[np.hypot(*(points - [2, 1.5]).T) > 0.8]  # a hole, which is filled
    island = ring[:200] * 0.3 + [9, 0]
    for cloud in (points, ring, np.concatenate([ring, island])):
        assert scannet.floor_area(cloud) == pytest.approx(alphashape.alphashape(cloud, scannet.ALPHA).area)


def test_the_floor_of_a_corner_room_leaves_out_its_corner():
    points = np.random.default_rng(2).uniform(0, 4, (30000, 3))
    points = points[(points[:, 0] < 2) | (points[:, 1] < 2)]
    assert scannet.floor_area(points) == pytest.approx(12, rel=0.02)


@pytest.mark.parametrize(
    "points, message",
    [
        (np.zeros((2, 3)), "its 2 points span no area"),
        (np.ones((50, 3)), "its 50 points span no area"),
        (np.linspace(0, 1, 50)[:, None] * [1, 2, 3], "span no area"),
        (np.array([[0, 0], [9, 0], [0, 9], [9, 9.5]]), "too far apart"),
    ],
)
def test_points_that_are_no_floor(points, message):
    with pytest.raises(ValueError, match=message):
        scannet.floor_area(points)


def test_boxes_around_points_stand_upright():
    box = Box.oriented((1, 2, 0.5), (0.6, 1.8, 1.0), turned(0.4).ravel())
    found = scannet.upright_box(annotation.corners(box))
    assert np.allclose(found.centroid, box.centroid)
    assert np.allclose(sorted(found.axes_lengths), sorted(box.axes_lengths))
    assert annotation.gap(found, Box.oriented((1, 5, 0.5), (1, 1, 1))) == pytest.approx(
        annotation.gap(box, Box.oriented((1, 5, 0.5), (1, 1, 1)))
    )
    angle = np.linspace(0, 2 * math.pi, 200)
    round_one = np.stack([np.cos(angle), np.sin(angle), angle], axis=1)
    assert np.allclose(np.reshape(scannet.upright_box(round_one).normalized_axes, (3, 3)), np.eye(3))
    sheet = scannet.upright_box(np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 2]]))
    assert np.allclose(sheet.axes_lengths, [1, scannet.THINNEST, 2])
