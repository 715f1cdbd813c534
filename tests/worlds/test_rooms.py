"""Rooms are what their annotation says: images, boxes, points and questions agree."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scans
import shapely
from plyfile import PlyData, PlyElement

from spatialvlm.errors import UserError
from spatialvlm.files import video
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi import scannet
from spatialvlm.worlds import annotation
from spatialvlm.worlds.rooms import render, rooms
from spatialvlm.worlds.rooms.furniture import KINDS
from spatialvlm.worlds.rooms.render import Room


@pytest.fixture(scope="module")
def made() -> list[Room]:
    return [rooms.make("test", 0, index) for index in range(16)]


def test_a_room_is_a_function_of_its_numbers(made):
    assert rooms.make("test", 0, 7) == made[7] == rooms.named(made[7].name)
    others = [rooms.make("train", 0, 7), rooms.make("test", 1, 7), made[8]]
    assert len({room.name for room in (made[7], *others)}) == 4
    assert all(room.things != made[7].things for room in others)
    first, again = (np.asarray(rooms.Film(made[7], 64, 48)[2]) for _ in range(2))
    assert (first == again).all()


def test_object_counts(made):
    counts = Counter(len(room.things) for room in made)
    assert set(counts) <= set(range(4, 11)) and len(counts) >= 5
    assert len(rooms.make("train", 0, 3, 6, 6).things) == 6
    for room in made:
        of = Counter(thing.label for thing in room.things)
        assert all(count <= KINDS[label].most for label, count in of.items())
    assert len({thing.label for room in made for thing in room.things}) == len(KINDS)


@pytest.mark.parametrize("counts", [(0, 4), (5, 4), (4, 11)])
def test_object_counts_that_no_room_has(counts):
    with pytest.raises(ValueError, match="min_objects"):
        rooms.make("test", 0, 0, *counts)


@pytest.mark.parametrize("name", ["scene0251_00", "room-test-0", "room-test-0-1", "room-dev-0-000001"])
def test_a_name_that_no_room_has(name):
    with pytest.raises(UserError):
        rooms.named(name)


def test_things_stand_apart_and_inside(made):
    for room in made:
        plan = [shapely.Polygon(thing.footprint()) for thing in room.things]
        inside = shapely.box(-room.width / 2, -room.depth / 2, room.width / 2, room.depth / 2)
        assert all(inside.contains(shape) for shape in plan)
        for one, other in itertools.combinations(plan, 2):
            assert one.distance(other) >= rooms.GAP - 1e-9
        assert all(thing.height < room.height for thing in room.things)


def test_furniture_at_walls_has_its_back_to_one(made):
    for room in made:
        for thing in room.things:
            if KINDS[thing.label].at_wall:
                behind = thing.to_room(np.array([[0.0, thing.bounds[1][1] + 0.03, 0.5]]))[0]
                assert (np.abs(behind[:2]) > [room.width / 2, room.depth / 2]).sum() == 1


def test_the_camera_goes_through_the_room_and_sees_every_object(made):
    for room in made:
        assert 8 <= len(room.path) <= 32
        for pose in room.path:
            x, y, z = pose.position
            assert abs(x) < room.width / 2 - 0.3 and abs(y) < room.depth / 2 - 0.3 and 1.2 < z < room.height
            under = [
                thing.height
                for thing in room.things
                if shapely.Polygon(thing.footprint()).distance(shapely.Point(x, y)) < 0.3
            ]
            assert all(height < z - 0.3 for height in under)
        steps = np.diff([pose.position for pose in room.path], axis=0)
        assert np.linalg.norm(steps, axis=1).max() < 2  # it walks, and does not jump
        poses = [room.path[index] for index in video.uniform(len(room.path), rooms.KEY_FRAMES)]
        seen = np.max([shares_at(room, pose, 120, 90) for pose in poses], axis=0)
        assert (seen > 0.8 * rooms.SEEN).all()


def shares_at(room: Room, pose: render.Pose, width: int, height: int) -> np.ndarray:
    seen = render.seen(room, pose, width, height)
    return np.array([(seen == number).mean() for number in range(len(room.things))])


def test_images_agree_with_the_geometry(made):
    """Every pixel, put back into the room by its depth, lies on the surface of what it is said to show."""
    for room in made[:6]:
        pose = room.path[3]
        drawn, view = render.render(room, pose, 160, 120, samples=1), render.camera(pose)
        across = np.tan(np.radians(render.FIELD_OF_VIEW) / 2)
        x, y = np.meshgrid((np.arange(160) + 0.5) / 80 - 1, (1 - (np.arange(120) + 0.5) / 60) * 3 / 4)
        rays = np.stack([x * across, y * across, np.ones_like(x)], -1) @ view.axes
        points = view.position + rays * drawn.depth[..., None]
        shell = points[drawn.objects < 0]
        sides = np.stack(
            [np.abs(np.abs(shell[:, :2]) - [room.width / 2, room.depth / 2]).min(1), shell[:, 2]]
        )
        sides = np.concatenate([np.abs(sides), np.abs(shell[:, 2] - room.height)[None]])
        assert sides.min(0).max() < 1e-3
        for number, thing in enumerate(room.things):
            own = points[drawn.objects == number] - [*thing.position, 0]
            if len(own):
                assert (
                    np.min([off_surface(part, own @ thing.axes.T) for part in thing.parts], axis=0).max()
                    < 1e-3
                )


def off_surface(part, points: np.ndarray) -> np.ndarray:
    """How far (N,) points (N, 3) in a thing's axes are from a part's surface, to a factor."""
    away = np.abs(points - part.centre) - part.half
    if part.round:
        away = np.stack([np.hypot(*(points - part.centre)[:, :2].T) - part.half[0], away[:, 2]], 1)
    return np.abs(away.max(1))


def test_the_nearest_thing_is_the_one_seen(made):
    for room in made[:6]:
        pose = room.path[0]
        depths = [render.visibility(replace(room, things=(t,)), pose, 80, 60)[1] for t in room.things]
        _, depth, _ = render.visibility(room, pose, 80, 60)
        assert np.array_equal(depth, np.min(depths, axis=0))


def test_things_cast_shadows(made):
    changes = []
    for room in made[:6]:
        bare = replace(room, things=())
        lit = {}
        for name, each in (("full", room), ("bare", bare)):
            drawn = [render.render(each, pose, 80, 60, samples=1) for pose in room.path[::4]]
            lit[name] = np.stack([np.asarray(image.image, int).sum(-1) for image in drawn])
            lit[f"{name} objects"] = np.stack([image.objects for image in drawn])
        changes.append((lit["full"] - lit["bare"])[lit["full objects"] < 0])
    change = np.concatenate(changes)
    assert change.max() <= 0  # furniture takes light from floor and walls, and gives none
    assert (change < -30).mean() > 0.01


def test_kinds_differ_in_colour(made):
    """What a model can tell kinds by: no two have nearly the same mean colour where they are lit."""
    pixels: dict[str, list[np.ndarray]] = {label: [] for label in KINDS}
    for room in made:
        for index in video.uniform(len(room.path), rooms.KEY_FRAMES):
            drawn = render.render(room, room.path[index], 64, 48, samples=1)
            for number, thing in enumerate(room.things):
                pixels[thing.label].append(np.asarray(drawn.image)[drawn.objects == number])
    mean = {label: np.concatenate(seen).mean(0) for label, seen in pixels.items()}
    for one, other in itertools.combinations(KINDS, 2):
        assert np.abs(mean[one] - mean[other]).max() > 25, (one, other)


def test_boxes_are_exact(made):
    """The annotation's boxes are the smallest ones around the points, found from the points alone."""
    for room in made:
        cloud, listed = scans.cloud(room), []
        for number, thing in enumerate(room.things, 1):
            box = rooms.box(thing)
            own = cloud.points[cloud.instances == number].astype(float)
            np.testing.assert_allclose(own.min(0), box.minimum, atol=1e-5)
            np.testing.assert_allclose(own.max(0), box.maximum, atol=1e-5)
            found = scannet.upright_box(own)
            np.testing.assert_allclose(found.centroid, box.centroid, atol=1e-5)
            np.testing.assert_allclose(sorted(found.axes_lengths), sorted(box.axes_lengths), atol=1e-5)
            listed.append((thing.label, box))
        told = rooms.annotation(room)
        assert Counter(listed) == Counter((k, box) for k, boxes in told.objects.items() for box in boxes)
        assert told.object_counts == Counter(thing.label for thing in room.things)


def test_annotation_is_vsi_benchs(made):
    told = [rooms.annotation(room) for room in made]
    written = json.loads(json.dumps(annotation.to_meta_info(told)))
    assert list(annotation.from_meta_info(written).values()) == told
    for room, each in zip(made, told, strict=True):
        assert each.room_size == room.width * room.depth


def test_floor_area_is_that_of_the_points(made):
    area = scannet.floor_area(scans.cloud(made[0], density=100).points)
    assert area == pytest.approx(rooms.annotation(made[0]).room_size, rel=2e-3)


def test_points_lie_on_surfaces_as_dense_as_asked(made):
    room = made[2]
    cloud = scans.cloud(room, density=300)
    assert len(cloud.points) == len(cloud.colors) == len(cloud.instances)
    assert np.array_equal(cloud.points, scans.cloud(room, density=300).points)
    shell = cloud.points[cloud.instances == 0]
    floor = shell[shell[:, 2] == 0]
    assert len(floor) == pytest.approx(300 * room.width * room.depth, rel=0.05)
    for number, thing in enumerate(room.things, 1):
        own = (cloud.points[cloud.instances == number] - [*thing.position, 0]) @ thing.axes.T
        assert np.min([off_surface(part, own) for part in thing.parts], axis=0).max() < 1e-5


def test_a_scan_of_a_room_gives_the_rooms_own_questions(made, tmp_path):
    asked = Counter()
    for room in made[:6]:
        read = scannet.read(write_scan(room, tmp_path / room.name))
        ours, theirs = (vsi_questions.candidates(each) for each in (rooms.annotation(room), read))
        assert {name: [(q.question, q.answer) for q in listed] for name, listed in ours.items()} == {
            name: [(q.question, q.answer) for q in listed] for name, listed in theirs.items()
        }
        asked += Counter({name: len(listed) for name, listed in ours.items()})
    assert set(asked) == set(vsi_questions.FAMILIES) and asked.total() > 50


def write_scan(room: Room, folder: Path) -> Path:
    """A room in the files of a ScanNet scan, lying askew as raw scans do."""
    folder.mkdir()
    cloud = scans.cloud(room)
    turn = np.array([[0.6, -0.8, 0, 1.5], [0.8, 0.6, 0, -2], [0, 0, 1, 0.3], [0, 0, 0, 1]])
    raw = (cloud.points - turn[:3, 3]) @ turn[:3, :3]
    vertices = np.array([tuple(point) for point in raw], [(axis, "f4") for axis in "xyz"])
    corners = np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))])
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(corners, "face")]
    PlyData(elements).write(str(folder / f"{folder.name}{scannet.MESH}"))
    groups = [
        {"id": number, "objectId": number, "label": thing.label, "segments": [number + 1]}
        for number, thing in enumerate(room.things)
    ]
    contents = {
        ".txt": f"axisAlignment = {' '.join(map(str, turn.ravel()))}\n",
        scannet.SEGMENTS: json.dumps({"segIndices": cloud.instances.tolist()}),
        scannet.OBJECTS: json.dumps({"segGroups": groups}),
    }
    for end, text in contents.items():
        (folder / f"{folder.name}{end}").write_text(text)
    return folder
