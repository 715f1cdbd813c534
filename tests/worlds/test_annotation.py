"""Annotation of rooms: VSI-Bench's format on disk, errors by name, and measures of boxes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from boxed_rooms import made
from scipy.spatial import cKDTree

from spatialvlm.errors import UserError
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box


def test_annotation_goes_through_its_form_on_disk(tmp_path):
    rooms = [made(0), replace(made(1), room_size=None, dataset="rooms")]
    file = tmp_path / "meta_info.json"
    file.write_text(json.dumps(annotation.to_meta_info(rooms)))
    assert annotation.read(file) == {room.scene: room for room in rooms}


def test_vsibenchs_own_annotation_is_read_and_written_as_it_was(real_data):
    content = json.loads((real_data / "vsi/scannet_meta_info_val.json").read_text())
    scenes = annotation.from_meta_info(content)
    assert len(scenes) == 88
    for scene, row in annotation.to_meta_info(scenes.values()).items():
        assert all(content[scene][name] == value for name, value in row.items())
    for boxes in (boxes for scene in scenes.values() for boxes in scene.objects.values()):
        for box in boxes:  # which side of the matrix the axes are, and what min and max are
            again = Box.oriented(box.centroid, box.axes_lengths, box.normalized_axes)
            assert np.allclose([again.minimum, again.maximum], [box.minimum, box.maximum])


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("room_size",), 0, "scene 'scene0000_00': 'room_size' must be an area above 0, not 0"),
        (("room_size",), math.nan, "'room_size' must be an area above 0, not nan"),
        (("object_counts",), None, "has no 'object_counts'"),
        (("object_bbox",), [], "has no 'object_bbox'"),
        (("object_counts", "bed"), 0, "the count of 'bed' must be a whole number above 0, not 0"),
        (("object_counts", "bed"), 1.5, "not 1.5"),
        (("object_bbox", "bed"), [], "'object_bbox' of 'bed' must be a list of boxes"),
        (("object_bbox", "ghost"), [{}], "'ghost' has boxes, but no count"),
        (("object_bbox", "bed", 0, "centroid"), [0, 0], "bed 0: 'centroid' must be 3 finite numbers"),
        (("object_bbox", "bed", 0, "centroid"), [0, math.nan, 0], "'centroid' must be 3 finite numbers"),
        (("object_bbox", "bed", 0, "axesLengths"), [1, 1, 0], "'axesLengths' must be above 0"),
        (("object_bbox", "bed", 0, "normalizedAxes"), [1.0] * 9, "no three unit vectors at right angles"),
        (("object_bbox", "bed", 0, "min"), [9, 9, 9], "'min' .* lies beyond 'max'"),
    ],
)
def test_annotation_that_is_not_whole_is_named(path, value, message):
    room = replace(
        made(0), object_counts={"bed": 1}, objects={"bed": made(0).objects[next(iter(made(0).objects))]}
    )
    content = annotation.to_meta_info([room])
    place = content[room.scene]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(UserError, match=message):
        annotation.from_meta_info(content, "file.json")


def test_files_that_are_no_annotation_are_named(tmp_path):
    for text, message in (("{", "is not JSON"), ("{}", "holds no scenes"), ('{"a": 1}', "is no record")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match=message):
            annotation.read(tmp_path / "bad.json")
    with pytest.raises(UserError, match="gone.json cannot be read"):
        annotation.read(tmp_path / "gone.json")


# ---- measures


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
