"""ScanNet's scan folders: they give the questions of the room they hold, and what is broken is named."""

import json
import math
import re
import shutil

import alphashape
import numpy as np
import pytest
import scans
from boxed_rooms import turned
from plyfile import PlyData, PlyElement
from pytest import approx

from spatialvlm.errors import UserError
from spatialvlm.tasks.vsi import scannet
from spatialvlm.tasks.vsi.questions import candidates, targets
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box


def test_scans_give_the_rooms_own_questions_and_answers(tmp_path):
    same = 0
    for index in (2, 3, 5):  # none of whose boxes lies nearly along the axes
        own = scans.room(index)
        scan = scannet.read(scans.write(tmp_path / own.scene, own))
        assert scan.object_counts == own.object_counts and scan.scene == own.scene
        assert scan.room_size == approx(own.room_size, rel=0.03)
        for label, boxes in own.objects.items():
            for box, found in zip(boxes, scan.objects[label], strict=True):
                assert found.centroid == approx(box.centroid, abs=1e-4)
                assert sorted(found.axes_lengths) == approx(sorted(box.axes_lengths), abs=1e-4)
        asked, expected = candidates(scan), candidates(own)
        for name, listed in expected.items():
            if name != "room_size_estimation":  # its last digit is that of the points sampled
                said = [(each.question, each.answer) for each in asked[name]]
                assert said == [(each.question, each.answer) for each in listed]
                same += len(said)
    assert same > 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return scans.write(tmp_path_factory.mktemp("made") / "scene0000_00", scans.room(0), density=100)


@pytest.fixture(scope="module")
def read_once(made):
    return scannet.read(made)


@pytest.fixture
def scan(made, tmp_path):
    """A copy, which the test may change."""
    return shutil.copytree(made, tmp_path / made.name)


def file(scan, end: str):
    return scan / f"{scan.name}{end}"


def changed(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def group(number: int, **fields):
    return lambda content: content["segGroups"][number].update(fields)


def test_labels_are_made_clean(scan, tmp_path):
    changed(file(scan, scannet.OBJECTS), group(1, label="TrashCan "))
    changed(file(scan, scannet.OBJECTS), group(2, label="REMOVE"))
    table = tmp_path / "labels.tsv"
    table.write_text("id\traw_category\tcategory\n1\tTrashcan\ttrash can\n2\tlamp\tfloor lamp\n3\todd\t\n")
    before, after = scannet.read(scan), scannet.read(scan, scannet.read_label_map(table))
    assert before.object_counts["trashcan"] == after.object_counts["trash can"] == 1
    assert not {"remove", "floor"} & set(before.object_counts) and "trashcan" not in after.objects
    things = sum(scans.room(0).object_counts.values())
    assert sum(map(len, before.objects.values())) == sum(after.object_counts.values()) == things - 1


def again(*entries: int, **fields):
    """Lists some of the objects a second time, with other fields."""

    def change(content):
        groups = content["segGroups"]
        for number in entries or range(len(groups)):
            groups.append(groups[number] | {"id": len(groups), "objectId": len(groups)} | fields)

    return change


def reversed_again(content):
    for entry in [*content["segGroups"]]:
        content["segGroups"].append(entry | {"segments": entry["segments"][::-1] * 2})


@pytest.mark.parametrize(
    "change",
    [
        again(),  # as in scene0217_00: all of them under ids of their own
        lambda content: content["segGroups"].extend([*content["segGroups"]]),  # under the same ids
        reversed_again,
        lambda content: (again()(content), again()(content)),
        again(1, 3),
        again(1, label=" FLOOR"),  # a wall or a floor is no thing, whatever else its segments are
    ],
)
def test_an_object_that_is_listed_twice_is_one(scan, read_once, change):
    before = json.loads(file(scan, scannet.OBJECTS).read_text())
    changed(file(scan, scannet.OBJECTS), change)
    assert len(json.loads(file(scan, scannet.OBJECTS).read_text())["segGroups"]) > len(before["segGroups"])
    assert scannet.read(scan) == read_once


@pytest.mark.parametrize("id", [1, 99])
def test_another_object_of_the_same_label_stays(scan, read_once, id):
    """By its segments alone: its id may be another's."""
    first, second, *_ = scans.room(0).objects
    changed(file(scan, scannet.OBJECTS), group(2, label=first, objectId=id))
    after = scannet.read(scan)
    assert after.object_counts[first] == read_once.object_counts[first] + (first != second)
    assert len(set(after.objects[first])) == after.object_counts[first]


def test_entries_that_share_segments_are_one_object_above_half(scan, read_once):
    """Five segments alike in size: 4 of the 5 are the object; 3 of 5 and 3 of 5, one shared, are two."""
    content = json.loads(file(scan, scannet.SEGMENTS).read_text())
    content["segIndices"] = [
        5000 + number % 5 if segment // 100 == 1 else segment
        for number, segment in enumerate(content["segIndices"])
    ]
    file(scan, scannet.SEGMENTS).write_text(json.dumps(content))
    label = next(iter(scans.room(0).objects))
    counts = []
    for listed in (
        (range(5), range(4)),
        (range(4), range(1, 5)),
        (range(3), range(2, 5)),
        (range(2), range(5)),  # a part first
        (range(2), range(2, 5), range(5)),  # two parts, and then the whole
    ):
        entries = [{"label": label, "segments": [5000 + n for n in of]} for of in listed]
        changed(file(scan, scannet.OBJECTS), lambda c, entries=entries: c.update(segGroups=entries))
        found = scannet.read(scan)
        counts.append(found.object_counts[label])
        assert len(found.objects[label]) == found.object_counts[label]
    assert counts == [1, 1, 2, 1, 1]
    assert scannet.read(scan).objects[label] == read_once.objects[label][:1]


def test_the_published_scan_that_lists_all_twice(real_data):
    scan = scannet.read(real_data / "field_cases/t1-objects-twice/scene0217_00")
    expected = {"bed": 2, "stool": 2, "bookshelf": 1, "trash bin": 1}
    assert scan.object_counts == expected | dict.fromkeys(("plant", "lamp", "chair", "table"), 1)
    assert {label: len(boxes) for label, boxes in scan.objects.items()} == scan.object_counts
    available = {name: len(listed) for name, listed in candidates(scan).items()}
    assert sum(targets(1, available, "available").values()) == 38  # 5 where objects count twice


@pytest.mark.parametrize("end", [scannet.MESH, scannet.SEGMENTS, scannet.OBJECTS, ".txt"])
def test_a_missing_or_broken_file_is_named(scan, end):
    whole = file(scan, end).read_bytes()
    file(scan, end).write_bytes(whole[: len(whole) // 2] if end != ".txt" else b"colorHeight = 968\n")
    broken = {".txt": "has no axisAlignment", scannet.MESH: "cannot be read as a mesh"}
    broken = broken.get(end, "line 1 is not JSON")
    with pytest.raises(UserError, match=f"{re.escape(f'{scan.name}{end}')} {broken}"):
        scannet.read(scan)
    file(scan, end).unlink()
    with pytest.raises(
        UserError, match=f"scan .*scene0000_00 has no {re.escape(f'{scan.name}{end}')}; fetch"
    ):
        scannet.read(scan)


@pytest.mark.parametrize(
    "words",
    [
        "1 0 0",
        "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 nan",
        "x " * 16,
        "0 " * 16,
        "1,0 0,0 0,0 0,0 0,0 1,0 0,0 0,0 0,0 0,0 1,0 0,0 0,0 0,0 0,0 1,0",  # 32 numbers, with English commas
        "2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1",  # rooms of twice the size
        "1 0 0 0 0 -1 0 0 0 0 1 0 0 0 0 1",  # left is right
        "1 0 0 0 0 1 0 0 0 0 1 0 1.5 -2.5 -0.1 1",  # written column by column
        "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\naxisAlignment = 1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1",
    ],
)
def test_an_axis_alignment_that_is_none_is_named(scan, words):
    file(scan, ".txt").write_text(f"axisAlignment = {words}\n")
    message = "axisAlignment in scene0000_00.txt must be 16 numbers that turn and shift, not"
    with pytest.raises(UserError, match=message):
        scannet.read(scan)


def rewritten(change):
    """Changes a file's bytes."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def as_json(change):
    return lambda path: changed(path, change)


def every(field: str, change):
    return as_json(
        lambda content: [each.update({field: change(each[field])}) for each in content["segGroups"]]
    )


def indices(change):
    return as_json(lambda content: content.update(segIndices=[*map(change, content["segIndices"])]))


def as_mesh(order: str = "<", text: bool = False, columns=None, faces=None):
    """Writes the mesh in another of PLY's forms."""

    def change(path):
        vertex = PlyData.read(str(path), mmap=False)["vertex"].data
        if columns:
            vertex, old = np.zeros(len(vertex), columns), vertex
            for name in vertex.dtype.names:
                vertex[name] = old[name]
        elements = [PlyElement.describe(vertex, "vertex")]
        if faces is not None:
            listed = np.empty(len(faces), [("vertex_index", object)])
            listed["vertex_index"] = faces
            elements.insert(0, PlyElement.describe(listed, "face", val_types={"vertex_index": "u4"}))
        PlyData(elements, text, "=" if text else order).write(str(path))

    return change


@pytest.mark.parametrize(
    "end, change",
    [
        (scannet.OBJECTS, rewritten(lambda text: b"\xef\xbb\xbf" + text)),
        (scannet.OBJECTS, rewritten(lambda text: text.decode().encode("utf-16"))),
        (scannet.SEGMENTS, rewritten(lambda text: b"\xef\xbb\xbf" + text + b"\r\n\r\n")),
        (scannet.OBJECTS, every("segments", lambda numbers: [*map(str, numbers)])),
        (scannet.OBJECTS, every("segments", lambda numbers: [*map(float, numbers)])),
        (scannet.OBJECTS, every("label", lambda label: f"  {label.upper()}\t")),
        (scannet.OBJECTS, as_json(lambda content: content.pop("sceneId"))),
        (scannet.OBJECTS, as_json(lambda content: content.update(sceneId="SCENE0000_00"))),
        (scannet.SEGMENTS, indices(str)),
        (scannet.SEGMENTS, indices(float)),
        (".txt", rewritten(lambda text: text.replace(b"\n", b"\r\n"))),
        (".txt", rewritten(lambda text: b"\xef\xbb\xbf" + text)),
        (".txt", rewritten(lambda text: text.decode().encode("utf-16"))),
        (".txt", rewritten(lambda text: b"\t " + text.replace(b"axisAlignment = ", b"AXISALIGNMENT :  "))),
        (".txt", rewritten(lambda text: text.replace(b"= ", b'= "', 1).replace(b" \n", b'"\n', 1))),
        (".txt", rewritten(lambda text: text + text)),
        (scannet.MESH, as_mesh(text=True)),
        (scannet.MESH, as_mesh(">")),
        (scannet.MESH, as_mesh(columns=[("red", "u1"), ("z", "f8"), ("y", "f4"), ("x", "f4")])),
        (scannet.MESH, as_mesh(faces=[np.arange(3), np.arange(4)])),
    ],
)
def test_a_scan_written_otherwise_is_the_same(scan, read_once, end, change):
    change(file(scan, end))
    found = scannet.read(scan)
    assert (found.object_counts, found.objects) == (read_once.object_counts, read_once.objects)
    assert found.room_size == approx(read_once.room_size)


LABELS = "id\traw_category\tcategory\tcount\n1\twall\twall\t9\n2\ttrashcan\ttrash can\t3\n"


@pytest.mark.parametrize(
    "content",
    [
        LABELS,
        LABELS.replace("\n", "\r\n"),
        LABELS.replace("\n", "\r"),
        "\ufeff" + LABELS,
        LABELS.encode("utf-16"),
        LABELS.replace("raw_category", "RAW_Category"),
        LABELS.replace("\t", " \t  "),
        LABELS.replace("count\n", 'count\n0\t"tv\ttv\t1\n\n'),  # a quote that none closes, a blank line
        LABELS.replace("count\n", "count\n0\tflat\t\t1\n5\n"),  # no label, and a line that is cut off
        LABELS.replace("trashcan", '"trashcan"').replace("trash can", '"trash  can"'),
        LABELS.replace("\t3\n", "\t3\tmore\n"),
        LABELS + LABELS,
        "category\tcategory\traw_category\n" + "trash can\tbin\ttrashcan\nwall\twall\twall\n",
    ],
)
def test_a_label_map_written_otherwise_is_the_same(tmp_path, content):
    table = tmp_path / "labels.tsv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = scannet.read_label_map(table)
    assert found["trashcan"] == "trash can" and found["wall"] == "wall"
    assert found.keys() <= {"trashcan", "wall", '"tv', "raw_category"}


def test_quotes_that_spreadsheets_double(tmp_path):
    (tmp_path / "labels.tsv").write_text(LABELS + '3\t"12"" screen"\t"monitor"\t1\n4\t9" box\tbox\t1\n')
    found = scannet.read_label_map(tmp_path / "labels.tsv")
    assert found['12" screen'] == "monitor" and found['9" box'] == "box"


@pytest.mark.parametrize(
    "end, change, message",
    [
        (scannet.OBJECTS, group(1, segments=[]), r"object 1 \(\w.*\) has no 'segments'"),
        (scannet.OBJECTS, group(1, segments=None), "object 1 .* has no 'segments'"),
        (scannet.OBJECTS, group(1, segments=[100, 9999]), "object 1 .*: its segment 9999 has no vertex in"),
        (
            scannet.OBJECTS,
            group(1, segments=["7a"]),
            "object 1 .*: 'segments' must be whole numbers, not '7a'",
        ),
        (scannet.OBJECTS, group(1, segments=[100.5]), "object 1 .*: 'segments' must be .*, not 100.5"),
        (scannet.OBJECTS, group(1, segments=[True]), "object 1 .*: 'segments' must be .*, not True"),
        (scannet.OBJECTS, group(1, segments=[10**30]), "object 1 .*: 'segments' must be whole numbers, not"),
        (scannet.OBJECTS, lambda c: c.update(sceneId="scannet.scene0001_00"), "is of another scan"),
        (scannet.SEGMENTS, lambda c: c.update(sceneId="scene0001_00"), "is of another scan"),
        (scannet.OBJECTS, group(1, segments=[[1], 2]), "'segments' must be whole numbers, not .1."),
        (
            scannet.SEGMENTS,
            lambda c: c["segIndices"].__setitem__(0, None),
            "'segIndices' must be whole numbers",
        ),
        (scannet.OBJECTS, group(2, label=""), "object 2 has no 'label'"),
        (
            scannet.OBJECTS,
            lambda content: content["segGroups"].clear(),
            r"has no object \('segGroups' is empty\)",
        ),
        (scannet.OBJECTS, lambda content: content.clear(), "has no object"),
        (
            scannet.OBJECTS,
            lambda content: content["segGroups"].__delitem__(slice(1, None)),
            "has no object but walls",
        ),
        (scannet.SEGMENTS, lambda content: content["segIndices"].pop(), "vertices, but .* 'segIndices'"),
        (scannet.SEGMENTS, lambda content: content.clear(), "but no 'segIndices'"),
    ],
)
def test_a_scan_that_is_not_whole_is_named(scan, end, change, message):
    changed(file(scan, end), change)
    with pytest.raises(UserError, match=f"scene0000_00.*{message}.*; fetch the scan again"):
        scannet.read(scan)


def with_vertices(scan, change) -> None:
    mesh = PlyData.read(str(file(scan, scannet.MESH)), mmap=False)
    change(mesh["vertex"])
    mesh.write(str(file(scan, scannet.MESH)))


def test_a_vertex_that_is_no_number_is_named(scan):
    with_vertices(scan, lambda vertex: vertex["y"].__setitem__(17, np.nan))
    with pytest.raises(
        UserError, match="scene0000_00: vertex 17 of scene0000_00_vh_clean_2.ply is not finite"
    ):
        scannet.read(scan)


def test_an_empty_mesh_and_one_without_a_floor_are_named(scan):
    def lined_up(vertex):
        vertex["x"], vertex["y"] = 0, 0

    with_vertices(scan, lined_up)
    with pytest.raises(UserError, match="scene0000_00 has no floor: its .* points span no area"):
        scannet.read(scan)
    with_vertices(scan, lambda vertex: setattr(vertex, "data", vertex.data[:0]))
    with pytest.raises(UserError, match="scene0000_00_vh_clean_2.ply has no vertex"):
        scannet.read(scan)


def test_folders_that_hold_no_scan_are_named(scan, tmp_path):
    (tmp_path / "notes").mkdir()
    assert scannet.scans(tmp_path) == [scan]
    with pytest.raises(UserError, match="notes holds no scan"):
        scannet.scans(tmp_path / "notes")
    with pytest.raises(UserError, match="no such folder"):
        scannet.scans(tmp_path / "gone")
    for text, message in (
        (None, "cannot be read"),
        ("", "has no columns"),
        ("a\tb\n1\t2\n", "has no columns"),
        (LABELS.replace("\t", ","), "has no columns"),
        (LABELS.splitlines()[0], "holds no label"),
        (LABELS + "7\ttrashcan\tbin\t1\n", "line 4: 'trashcan' is 'bin', and 'trash can' further up"),
    ):
        if text is not None:
            (tmp_path / "labels.tsv").write_text(text)
        with pytest.raises(UserError, match=f"labels.tsv {message}"):
            scannet.read_label_map(tmp_path / "labels.tsv")


# ---- boxes and areas of points


def test_floor_areas_are_alphashapes():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (900, 2)) * [4, 3]
    ring = points[np.hypot(*(points - [2, 1.5]).T) > 0.8]  # a hole, which is filled
    island = ring[:200] * 0.3 + [9, 0]
    for cloud in (points, ring, np.concatenate([ring, island])):
        assert scannet.floor_area(cloud) == approx(alphashape.alphashape(cloud, scannet.ALPHA).area)


def test_the_floor_of_a_corner_room_leaves_out_its_corner():
    points = np.random.default_rng(2).uniform(0, 4, (30000, 3))
    points = points[(points[:, 0] < 2) | (points[:, 1] < 2)]
    assert scannet.floor_area(points) == approx(12, rel=0.02)


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
    around = scannet.upright_box(annotation.corners(box))
    assert np.allclose(around.centroid, box.centroid)
    assert np.allclose(sorted(around.axes_lengths), sorted(box.axes_lengths))
    assert annotation.gap(around, Box.oriented((1, 5, 0.5), (1, 1, 1))) == approx(
        annotation.gap(box, Box.oriented((1, 5, 0.5), (1, 1, 1)))
    )
    angle = np.linspace(0, 2 * math.pi, 200)
    round_one = np.stack([np.cos(angle), np.sin(angle), angle], axis=1)
    assert np.allclose(np.reshape(scannet.upright_box(round_one).normalized_axes, (3, 3)), np.eye(3))
    sheet = scannet.upright_box(np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 2]]))
    assert np.allclose(sheet.axes_lengths, [1, scannet.THINNEST, 2])
