"""Frames for VSI-Bench's questions: from videos, folders of images and the hub's archives; decoded once."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import videos
from huggingface_hub import constants
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.files import video
from spatialvlm.tasks.vsi import data as vsibench


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spatialvlm"


def asked(*scenes: tuple[str, str]) -> list[Example]:
    """A question about each of these scenes."""
    return [
        Example(
            f"vsibench-{number}",
            (Path(source, f"{scene}.mp4"),),
            "How many?",
            "4",
            "object_counting",
            meta={"source": source, "scene": scene},
        )
        for number, (source, scene) in enumerate(scenes)
    ]


def greys(example: Example) -> list[int]:
    """The numbers of `videos.write`'s frames, read from their pixels."""
    return [round((float(np.asarray(image).mean()) - 20) / 16) for image in example.open_images()]


def shown(examples, folder, num_frames: int = 4) -> list[Example]:
    return vsibench.with_frames(examples, folder, num_frames, vsibench.HUB_ID)


@pytest.mark.parametrize("place", ["scannet/scene0001_00.mp4", "scene0001_00.mp4"])
def test_a_video_is_sampled_from_first_to_last(tmp_path, place):
    videos.write(tmp_path / "videos" / place, frames=12, rate=4)
    (made,) = shown(asked(("scannet", "scene0001_00")), tmp_path / "videos")
    assert isinstance(made.images, Video) and greys(made) == [0, 3, 7, 11]
    assert made.images.interval == pytest.approx(11 / 4 / 3)  # 11 steps of a quarter second, in 3


def test_a_video_shorter_than_asked_for_is_shown_whole(tmp_path):
    videos.write(tmp_path / "scannet/scene0001_00.mp4", frames=3)
    (made,) = shown(asked(("scannet", "scene0001_00")), tmp_path, num_frames=16)
    assert greys(made) == [0, 1, 2] and made.images.interval == pytest.approx(0.25)


def test_a_folder_of_images_is_taken_as_it_lies(tmp_path, cache):
    folder = tmp_path / "arkitscenes/41069021"
    folder.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (8, 8), (20 + 16 * number,) * 3).save(folder / f"{number}.png")
    (made,) = shown(asked(("arkitscenes", "41069021")), tmp_path)
    assert greys(made) == [0, 3, 7, 11] and all(frame.parent == folder for frame in made.images)
    assert made.images.interval == 0.5 and not cache.exists()  # nobody knows how fast they were taken


def test_a_scene_is_decoded_once(tmp_path, monkeypatch):
    scenes = [("scannet", f"scene000{number}_00") for number in (1, 2, 1, 1)]
    for _, scene in set(scenes):
        videos.write(tmp_path / f"scannet/{scene}.mp4")
    opened, decode = [], video.frames
    monkeypatch.setattr(video, "frames", lambda file, *rest: opened.append(file) or decode(file, *rest))
    first = shown(asked(*scenes), tmp_path)
    assert len(opened) == 2 and first[0].images is first[2].images
    again = shown(asked(*scenes), tmp_path)
    assert len(opened) == 2 and [each.images for each in again] == [each.images for each in first]
    shown(asked(*scenes), tmp_path, num_frames=2)  # other frames
    videos.write(tmp_path / "scannet/scene0001_00.mp4", frames=8)  # another video of that name
    assert greys(shown(asked(*scenes), tmp_path)[0]) == [0, 2, 4, 7]


def test_many_videos_are_decoded_by_several_processes(tmp_path):
    scenes = [("scannetpp", f"{number:02}") for number in range(4)]
    for number, (_, scene) in enumerate(scenes):
        videos.write(tmp_path / f"scannetpp/{scene}.mp4", frames=3 + number)
    made = shown(asked(*scenes), tmp_path, num_frames=2)
    assert [greys(each) for each in made] == [[0, 2], [0, 3], [0, 4], [0, 5]]


def test_what_is_missing_or_broken_is_named(tmp_path):
    scene = ("scannet", "scene0001_00")
    with pytest.raises(
        UserError, match="no video of scene scannet/scene0001_00: neither scannet/scene0001_00"
    ):
        shown(asked(scene), tmp_path)
    file = tmp_path / "scannet/scene0001_00.mp4"
    content = videos.write(file).read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="scene0001_00.mp4 cannot be read"):
        shown(asked(scene), tmp_path)
    file.unlink()
    (tmp_path / "scannet/scene0001_00").mkdir()
    with pytest.raises(UserError, match="scene0001_00 holds no image"):
        shown(asked(scene), tmp_path)
    with pytest.raises(UserError, match="--num_frames must be at least 1"):
        shown(asked(scene), tmp_path, num_frames=0)


# ---- the hub, as its cache holds it


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """The hub's cached files of VSI-Bench."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repo = tmp_path / "hub" / "datasets--nyu-visionx--VSI-Bench"
    commit = "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    return repo / "snapshots" / commit


def test_the_hubs_archives_are_unpacked_scene_by_scene(tmp_path, hub, cache):
    scene = ("scannet", "scene0001_00")
    made = videos.write(tmp_path / "scene0001_00.mp4")
    with zipfile.ZipFile(hub / "scannet.zip", "w") as archive:
        archive.write(made, "scannet/scene0001_00.mp4")
        archive.writestr("scannet/other.mp4", b"not wanted")
    (made,) = shown(asked(scene), None)
    assert greys(made) == [0, 3, 7, 11]
    assert [file.name for file in (cache / "vsibench/scannet").iterdir()] == ["scene0001_00.mp4"]
    with pytest.raises(UserError, match="scannet.zip holds no video of scene scannet/scene0002_00"):
        shown(asked(("scannet", "scene0002_00")), None)
    (hub / "scannet.zip").unlink()
    assert greys(shown(asked(scene), None)[0]) == [0, 3, 7, 11]  # it is here already


def test_a_damaged_archive_and_one_that_is_not_to_be_had(hub):
    (hub / "scannet.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match="scannet.zip is no whole archive"):
        shown(asked(("scannet", "scene0001_00")), None)
    with pytest.raises(UserError, match="from the hub arkitscenes.zip cannot be downloaded"):
        shown(asked(("arkitscenes", "41069021")), None)


def test_the_hubs_rows_and_list_of_pruned_ids(hub):
    row = '{"id": %d, "dataset": "scannet", "scene_name": "s", "question_type": "object_counting", '
    row += '"question": "How many?", "ground_truth": "4", "options": null}'
    (hub / "test.jsonl").write_text("\n".join(row % number for number in range(3)))
    (hub / "pruned_ids.txt").write_text("1\n")
    assert len(vsibench.load()) == 3
    assert [each.id for each in vsibench.load(subset="debiased")] == ["vsibench-0", "vsibench-2"]
    assert vsibench.scenes() == {"s"}
