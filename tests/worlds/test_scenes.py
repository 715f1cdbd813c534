"""Scenes follow the CLEVR generator's rules, and their images show what the scene says."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from spatialvlm.worlds.clevr import facts, render, scenes


@pytest.fixture(scope="module")
def made() -> list[dict]:
    return [scenes.make("tests", index) for index in range(40)]


@pytest.fixture(scope="module")
def official(real_data) -> list[dict]:
    return json.loads((real_data / "clevr/scenes/CLEVR_train_scenes.json").read_text())["scenes"]


def test_an_item_is_a_function_of_seed_and_index(made):
    assert scenes.make("tests", 17) == made[17]
    assert scenes.make("tests", 17)["objects"] != scenes.make("others", 17)["objects"]
    first, again = (np.asarray(scenes.render_scene(made[3], 96, 64).image) for _ in range(2))
    assert (first == again).all()


def test_object_counts_cover_three_to_ten(made):
    counts = {len(scene["objects"]) for scene in made}
    assert counts <= set(range(3, 11)) and len(counts) >= 6
    assert len(scenes.make("tests", 0, 5, 5)["objects"]) == 5
    with pytest.raises(ValueError, match="min_objects"):
        scenes.make("tests", 0, 8, 4)


def test_placing_rules(made):
    for scene in made:
        ways = [np.array(scene["directions"][side][:2]) for side in ("right", "behind")]
        for a, b in itertools.combinations(scene["objects"], 2):
            gap = np.array(a["3d_coords"][:2]) - np.array(b["3d_coords"][:2])
            radii = render.RADIUS[a["size"]] + render.RADIUS[b["size"]]
            assert np.linalg.norm(gap) >= radii + scenes.MINIMUM_DISTANCE
            assert all(abs(gap @ way) >= scenes.MARGIN - 1e-9 for way in ways)
        assert all(thing["visible_pixels"] >= scenes.MINIMUM_PIXELS for thing in scene["objects"])


def test_form_is_the_official_one(made, official):
    for ours, theirs in ((made[0], official[0]), (made[0]["objects"][0], official[0]["objects"][0])):
        assert set(theirs) <= set(ours)
        assert json.loads(json.dumps(ours)) == ours
    assert set(made[0]["directions"]) == set(official[0]["directions"])


def test_relationships_agree_with_official_ones(official):
    for scene in official:
        ours = facts.relationships(scene)
        for side, lists in scene["relationships"].items():
            assert [sorted(row) for row in ours[side]] == [sorted(row) for row in lists]


def test_camera_of_an_official_scene_is_found(official):
    for scene in official:
        points = np.array([thing["3d_coords"] for thing in scene["objects"]])
        seen = np.array([thing["pixel_coords"] for thing in scene["objects"]])
        found = render.project(scenes.view(scene), points)
        assert np.abs(found[:, :2] - seen[:, :2]).max() < 1.0  # official pixels are whole numbers
        assert np.abs(found[:, 2] - seen[:, 2]).max() < 0.05


def test_boxes_hold_the_object_and_no_more(made, official):
    for scene in [*made, *official]:
        for thing, (x0, y0, x1, y1) in zip(scene["objects"], scenes.boxes(scene), strict=True):
            assert 0 <= x0 < x1 <= 480 and 0 <= y0 < y1 <= 320
            assert x1 - x0 <= 4.2 * render.FOCAL * render.RADIUS[thing["size"]] / thing["pixel_coords"][2]
    for scene in official:  # nothing hides there: a projected outline is around the centre
        for thing, (x0, y0, x1, y1) in zip(scene["objects"], scenes.boxes(scene), strict=True):
            column, row, _ = thing["pixel_coords"]
            assert x0 < column < x1 and y0 < row < y1


def test_depth_and_objects_agree_with_the_geometry():
    """Every visible object pixel, put back into space by its depth, lies on the object's surface."""
    scene = scenes.make("tests", 5)
    drawn, view = scenes.render_scene(scene, 480, 320, samples=1), scenes.view(scene)
    rows, columns = np.nonzero(drawn.objects >= 0)
    x = (columns + 0.5 - 240) / render.FOCAL
    y = (160 - rows - 0.5) / render.FOCAL
    rays = np.stack([x, y, np.ones_like(x)], 1) @ view.axes
    points = view.position + rays * drawn.depth[rows, columns][:, None]
    for k, thing in enumerate(scene["objects"]):
        own = points[drawn.objects[rows, columns] == k] - np.array(thing["3d_coords"])
        radius = render.RADIUS[thing["size"]]
        if thing["shape"] == "sphere":
            assert np.abs(np.linalg.norm(own, axis=1) - radius).max() < 1e-3
        else:
            assert np.abs(own[:, 2]).max() < radius + 1e-3
            assert np.linalg.norm(own[:, :2], axis=1).max() < radius * math.sqrt(2)
    ground = drawn.objects < 0
    assert np.isfinite(drawn.depth[ground]).all()


def test_hidden_objects_are_behind(made):
    """Where two outlines overlap, the nearer surface is the one seen."""
    for scene in made[:10]:
        view = scenes.view(scene)
        whole = render.visibility(scene, view, 240, 160)
        for k in range(len(scene["objects"])):
            alone = render.visibility({**scene, "objects": scene["objects"][k : k + 1]}, view, 240, 160)
            covered = (alone[2] == 0) & (whole[2] != k)
            assert (whole[1][covered] <= alone[1][covered] + 1e-5).all()


def test_colors_materials_and_shadows_are_drawn():
    thing = {"shape": "sphere", "size": "large", "rotation": 0.0, "3d_coords": [0.0, 0.0, 0.7]}

    def draw(**attributes) -> render.Rendered:
        scene = {"objects": [thing | attributes], "camera": list(scenes.CAMERA)}
        return scenes.render_scene(scene, 120, 80)

    def look(**attributes) -> np.ndarray:
        return np.asarray(draw(**attributes).image, float)

    for color in render.COLORS:
        seen = look(color=color, material="rubber")[36:42, 57:63].mean((0, 1))
        linear = (seen / 255) ** 2.2
        best = min(
            render.COLORS,
            key=lambda name: np.linalg.norm(
                linear / linear.sum() - np.array(render.COLORS[name]) / sum(render.COLORS[name])
            ),
        )
        assert best == color
    matte, shiny = look(color="red", material="rubber"), look(color="red", material="metal")
    on = draw(color="red", material="rubber").objects == 0
    assert shiny[on][:, 0].std() > 1.5 * matte[on][:, 0].std()  # a mirror is darker and brighter than rubber
    empty = np.asarray(
        scenes.render_scene({"objects": [], "camera": list(scenes.CAMERA)}, 120, 80).image, float
    )
    assert (empty - matte)[~on].max() > 8  # the ground is darker where the sphere keeps the light off
