"""make_data/vsi_100k.py as a command: from rendered rooms, annotation and scans; stopped and resumed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import scans
from boxed_rooms import made
from commands import ROOT, refused, run

from spatialvlm.files import rows
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.questions import PAPER
from spatialvlm.worlds import annotation

pytestmark = pytest.mark.slow

SCRIPT = "make_data/vsi_100k.py"


@pytest.fixture
def meta_info(tmp_path):
    """Annotation of 30 rooms, as a file."""
    file = tmp_path / "meta.json"
    file.write_text(json.dumps(annotation.to_meta_info(made(index) for index in range(30))))
    return file


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs the script in this process (a new one imports for seconds); gives what it prints."""
    import runpy

    monkeypatch.chdir(tmp_path)

    def started(*flags) -> str:
        monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, flags)])
        capsys.readouterr()
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return started


def test_rendered_rooms_and_their_frames(tmp_path):
    flags = ("--limit", "3", "--num_frames", "2", "--proportions", "available", "--output_dir", "data")
    printed = run(SCRIPT, *flags, "--validation_share", "0.3", folder=tmp_path)
    assert "written to data" in printed and "rows of scenes: train" in printed
    splits = {split: vsi.load(tmp_path / "data", split) for split in ("train", "validation")}
    scenes = {split: {example.meta["scene"] for example in examples} for split, examples in splits.items()}
    assert len(scenes["train"]) == 2 and len(scenes["validation"]) == 1
    assert not scenes["train"] & scenes["validation"]
    images = splits["train"][0].open_images()
    assert len(images) == 2 and images[0].size == (168, 112)
    assert images[0].tobytes() != images[1].tobytes()
    assert not (tmp_path / "data.partial").exists()


def test_annotation_in_the_papers_proportions(meta_info, tmp_path, here):
    flags = ("--data", meta_info, "--leave_out", "test.jsonl")
    (tmp_path / "test.jsonl").write_text('{"scene_name": "scene0003_01"}\n{"scene_name": "scene0077_00"}\n')
    printed = here(*flags, "--output_dir", "one")
    assert "1 of 30 scenes are left out" in printed and "one" in printed.splitlines()[-1]
    summary = json.loads((tmp_path / "one/summary.json").read_text())
    total = sum(summary["families"].values())
    assert total > 500 and summary["scenes"] == 29
    for name, count in summary["families"].items():
        assert abs(count - total * PAPER[name] / sum(PAPER.values())) <= 1
    table = [row for _, row in rows.read(tmp_path / "one", "train")]
    assert "scene0003_00" not in {row["scene_name"] for row in table}
    assert len(table) == summary["splits"]["train"]["rows"]

    here(*flags, "--output_dir", "two", "--workers", 1)
    here(*flags, "--output_dir", "other", "--seed", 1)
    for name in ("train.parquet", "validation.parquet", "meta_info.json", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one/train.parquet").read_bytes() != (tmp_path / "other/train.parquet").read_bytes()


def test_a_run_resumes_with_the_scans_read_before_a_stop(tmp_path, here, capsys):
    for index in (1, 2, 3):
        scans.write(tmp_path / f"scans/scene000{index}_00", scans.room(index), density=100)
    alignment = tmp_path / "scans/scene0003_00/scene0003_00.txt"
    whole = alignment.read_text()
    alignment.write_text("colorHeight = 968\n")
    flags = ("--data", "scans", "--proportions", "available", "--workers", 1)
    message = refused(SCRIPT, *flags, "--output_dir", "data", capsys=capsys)
    assert "scene0003_00.txt has no axisAlignment" in message
    assert not (tmp_path / "data").exists()
    kept = tmp_path / "data.partial/scans/scene0001_00.json"
    before = kept.stat().st_mtime_ns
    alignment.write_text(whole)

    message = refused(SCRIPT, *flags, "--output_dir", "data", "--seed", 5, capsys=capsys)
    assert "data.partial was begun with other arguments (seed was 0, now 5)" in message
    assert "data was not finished when it was stopped; resuming" in here(*flags, "--output_dir", "data")
    assert (tmp_path / "data/scans/scene0001_00.json").stat().st_mtime_ns == before  # not read again
    here(*flags, "--output_dir", "never_stopped")
    for name in ("train.parquet", "meta_info.json"):
        assert (tmp_path / "data" / name).read_bytes() == (tmp_path / "never_stopped" / name).read_bytes()


def test_frames_of_scenes_are_found(meta_info, tmp_path, here, capsys):
    from PIL import Image

    for index in range(30):
        folder = tmp_path / f"frames/scene{index:04}_00/color"
        folder.mkdir(parents=True)
        for number in (0, 1, 2, 10, 11):
            Image.new("RGB", (4, 3), (20 * number, 0, 0)).save(folder / f"{number}.jpg")
    flags = ("--data", meta_info, "--frames", "frames", "--num_frames", 3, "--output_dir", "data")
    here(*flags)
    example = vsi.load(tmp_path / "data")[0]
    assert [image.name for image in example.images] == ["0.jpg", "2.jpg", "11.jpg"]
    assert [image.size for image in example.open_images()] == [(4, 3)] * 3

    for image in folder.iterdir():
        image.unlink()
    message = refused(SCRIPT, *flags[:-1], "again", capsys=capsys)
    assert "--frames frames has no frames of scene scene0029_00" in message
    (tmp_path / "frames/scene0029_00.mp4").write_bytes(b"")
    here(*flags[:-1], "again")
    (video,) = {
        tuple(row["frames"]) for _, row in rows.read(tmp_path / "again", "train") if "0029" in row["id"]
    }
    assert video == ("../frames/scene0029_00.mp4",)


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--data", "gone"), "no such folder: gone"),
        (("--num_frames", 0), "--num_frames must be at least 1, not 0"),
        (("--validation_share", 1), "--validation_share must be from 0 to below 1"),
        (("--frames", "frames"), "leave out --frames"),
        (("--distance", "far"), "invalid choice: 'far'"),
        (("--output_dir", "."), "is there already"),
    ],
)
def test_flags_that_make_no_sense(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in refused(SCRIPT, *flags, capsys=capsys)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"object_bbox": {}, "object_counts": {}}, "scene 'scene0002_00' has no objects to ask about"),
        ({"room_size": 0}, "scene 'scene0002_00': 'room_size' must be an area above 0"),
    ],
)
def test_a_bad_scene_leaves_nothing_behind(meta_info, change, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = json.loads(meta_info.read_text())
    content["scene0002_00"].update(change)
    meta_info.write_text(json.dumps(content))
    assert message in refused(SCRIPT, "--data", meta_info, "--output_dir", "data", capsys=capsys)
    assert not (tmp_path / "data").exists()


def test_the_check_from_another_folder(meta_info, tmp_path):
    row = {"id": 0, "dataset": "scannet", "scene_name": "scene0002_00", "question_type": "object_counting"}
    label = next(label for label, count in made(2).object_counts.items() if count == 3)
    row |= {"question": f"How many {label}(s) are in this room?", "ground_truth": "3", "options": None}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    command = [sys.executable, "-m", "spatialvlm.tasks.vsi.verify", "--meta_info", "meta.json"]
    done = subprocess.run(
        [*command, "--questions", "test.jsonl", "--json"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert json.loads(done.stdout)["object_counting"] == {"n": 1, "answerable": 1, "agree": 1}
