"""Rooms are what their annotation says: labels name one object, boxes hold what is rendered."""

from collections import Counter

import numpy as np
import pytest

from spatialvlm.files import video
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.worlds.annotation import corners
from spatialvlm.worlds.clevr import render, rooms, scenes
from spatialvlm.worlds.clevr.facts import Scene


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    return [rooms.make("rooms-for-tests", index) for index in range(40)]


def named(label: str, scene: Scene) -> list[int]:
    """The objects that have all that a label says, by its words alone."""
    words = set(label.split()) - {"thing"}
    return [
        index
        for index, thing in enumerate(scene["objects"])
        if words <= {thing["color"], thing["material"], thing["shape"]}
    ]


def test_a_label_names_as_many_objects_as_it_has_boxes(made):
    for scene in made:
        annotation = rooms.annotation(scene)
        for label, boxes in annotation.objects.items():
            assert [rooms.box(scene["objects"][index]) for index in named(label, scene)] == [*boxes]
            assert annotation.object_counts[label] == len(boxes)
            assert (len(boxes) > 1) == label.endswith(" thing"), label
        counted = Counter(thing[name] for thing in scene["objects"] for name in ("color", "material"))
        several = {label for label, count in annotation.object_counts.items() if count > 1}
        assert several == {f"{value} thing" for value, count in counted.items() if count > 1}
        single, kept = vsi_questions._unambiguous(annotation)
        assert {*single, *kept} == {*annotation.objects}  # no label ends another one


def test_every_object_is_named_that_another_does_not_equal_but_for_its_size(made):
    for scene in made:
        kinds = Counter((t["color"], t["material"], t["shape"]) for t in scene["objects"])
        annotation = rooms.annotation(scene)
        alone = sum(count == 1 for count in annotation.object_counts.values())
        assert alone == sum(count == 1 for count in kinds.values())


def test_nearly_every_room_allows_questions_of_all_families(made):
    allowed = Counter()
    for scene in made:
        for family, questions in vsi_questions.candidates(rooms.annotation(scene)).items():
            allowed[family] += bool(questions)
    assert set(allowed) == set(vsi_questions.FAMILIES)
    assert min(allowed.values()) >= 0.8 * len(made), allowed


def test_boxes_hold_what_is_rendered_and_little_more(made):
    """Every pixel, put back into the room by its depth, lies in the box of what it is said to show."""
    for scene in made[:6]:
        view = scenes.view(scene)
        rays, reach, ids = render.visibility(scene, view, 240, 160)
        points = view.position + np.moveaxis(rays * reach, 0, -1)
        for index, thing in enumerate(scene["objects"]):
            box = rooms.box(thing)
            local = (points[ids == index] - box.centroid) @ np.reshape(box.normalized_axes, (3, 3)).T
            excess = np.abs(local) - np.array(box.axes_lengths) / 2
            assert excess.max() < 0.02 * render.RADIUS[thing["size"]]
            assert (np.abs(excess).min(1) < 0.02).mean() > 0.95 or thing["shape"] != "cube"
            np.testing.assert_allclose(np.ptp(corners(box), axis=0), np.ptp(render.corners(thing), axis=0))


def test_floor_area_and_name(made):
    scene = made[7]
    annotation = rooms.annotation(scene)
    assert annotation.room_size == scene["floor"][0] * scene["floor"][1]
    assert annotation.scene == "rooms-for-tests_000007"
    assert rooms.annotation(rooms.make("rooms-for-tests", 7)) == annotation


def test_a_film_begins_with_the_rooms_own_view_and_goes_around_it(made):
    film = rooms.Film(made[0], 84, 56)
    (only,) = video.frames(film, 1).images
    assert only == scenes.render_scene(made[0], 84, 56).image
    frames = [np.asarray(image, float) for image in video.frames(film, 16).images]
    assert len(frames) == rooms.FRAMES == len(film)
    for index, frame in enumerate(frames):  # one frame is like no other
        assert min(np.abs(frame - other).mean() for other in frames[:index] + frames[index + 1 :]) > 3
    with pytest.raises(IndexError):
        film[rooms.FRAMES]
