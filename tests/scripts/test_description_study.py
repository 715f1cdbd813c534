"""The description study's two scripts: merged, answered, the grid, and what is refused."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import sys
from pathlib import Path

import datasets
import hub_rows
import pytest
from commands import ROOT, refused, run
from PIL import Image

from spatialvlm.papers.descriptions import CELLS
from spatialvlm.worlds.clevr import scenes

pytestmark = pytest.mark.slow

MERGE, ASK = "clevr_desc/merge_clevr_w_depth_desc.py", "eval_paligemma_clevr_new.py"
EMBEDDED = ("--profile", "embedded")


@pytest.fixture
def clevr(tmp_path) -> Path:
    """A small folder in CLEVR's official form."""
    folder = tmp_path / "clevr"
    for part in ("images", "scenes", "questions"):
        (folder / part).mkdir(parents=True)
    made, asked = [scenes.make("described", index) for index in range(3)], []
    for index, scene in enumerate(made):
        name = f"CLEVR_valB_{index:06d}.png"
        scene["image_filename"], scene["image_index"] = name, index
        scenes.render_scene(scene, 48, 32).image.save(folder / "images" / name)
        row = {"question": "How many things are there?", "answer": str(len(scene["objects"]))}
        asked.append(row | {"image_filename": name, "question_index": index, "split": "valB"})
    (folder / "scenes/CLEVR_valB_scenes.json").write_text(json.dumps({"scenes": made}))
    (folder / "questions/CLEVR_valB_questions.json").write_text(json.dumps({"questions": asked}))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """stdout of a script with flags, in this process (a new one imports for seconds) and a new folder."""
    monkeypatch.chdir(tmp_path)

    def started(script: str, *flags) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        capsys.readouterr()
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return capsys.readouterr().out

    return started


def test_rendered_scenes_are_merged_and_asked_about(tmp_path):
    printed = run(MERGE, "--limit", "4", "--output_dir", "merged", folder=tmp_path)
    assert "4 questions written to merged/test.parquet" in printed and "4 the gold answer" in printed
    flags = ("--data", "merged", "--description", "ordered", "--blank_image", "--output_dir", "run")
    run(ASK, *EMBEDDED, *flags, folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and all(row["prompt"].startswith("Description: From left to") for row in rows)


def test_an_official_folder_is_merged_with_depth_and_asked_about_as_it_is(clevr, tmp_path, here):
    flags = ("--data", "clevr", "--depth", "rendered", "--format", "jsonl", "--world_axes")
    printed = here(MERGE, *flags)
    out = tmp_path / "results/merge_clevr_w_depth_desc/clevr-valB-world"
    assert "clevr-valB-world/valB.jsonl" in printed
    rows = [json.loads(line) for line in (out / "valB.jsonl").read_text().splitlines()]
    assert [row["axes"] for row in rows] == ["world"] * 3 and (out / rows[0]["depth"]).is_file()
    assert (out / rows[2]["image"]).resolve() == (clevr / "images/CLEVR_valB_000002.png").resolve()

    shutil.rmtree(clevr / "images")
    flags = ("--description", "nlp", "--blank_image", "--wording", "after", "--world_axes")
    for data, name in (("clevr", "direct"), (out, "merged")):
        here(ASK, *EMBEDDED, "--data", data, *flags, "--output_dir", name)
    direct, merged = ((tmp_path / name / "predictions.jsonl").read_text() for name in ("direct", "merged"))
    assert "Question: How many things are there?\\nDescription: There are" in direct
    prompts = [[json.loads(line)["prompt"] for line in text.splitlines()] for text in (direct, merged)]
    assert sorted(prompts[0]) == sorted(prompts[1])


def test_the_grid_goes_on_and_stands_against_another(clevr, tmp_path, here):
    flags = (*EMBEDDED, "--grid", "--data", "clevr")
    printed = here(ASK, *flags, "--output_dir", "camera")
    table = printed[printed.index("CLEVR, n = 3") :]
    assert "published" in table and "52.25" in table and "naming none, 3 questions: 3 the gold" in table
    for cell in CELLS:
        assert json.loads((tmp_path / "camera" / cell / "summary.json").read_text())["n"] == 3
    content = json.loads((tmp_path / "camera/grid.json").read_text())
    assert content["published"]["image, none"] == 47.05 and len(content["grid"]) == 7

    shutil.rmtree(tmp_path / "camera/blank-nlp")  # as a stop leaves it
    (tmp_path / "camera/grid.json").unlink()
    assert here(ASK, *flags, "--output_dir", "camera").endswith(table)

    world = ("--world_axes", "--against", "camera", "--output_dir", "world")
    printed = here(ASK, *flags, *world)
    assert "camera - world" in printed and "naming a side" in printed
    assert "camera - world" in json.loads((tmp_path / "world/grid.json").read_text())


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--profile", "paper"), "give --data"),
        ((*EMBEDDED, "--against", "x"), "--against compares two grids; give --grid"),
        ((*EMBEDDED, "--grid", "--blank_image"), "--grid has its own blank images"),
        ((*EMBEDDED, "--grid", "--num_samples", "4"), "--grid compares greedy answers"),
        ((*EMBEDDED, "--grid", "--against", "gone"), "gone is no complete grid"),
        ((*EMBEDDED, "--data", "gone"), "no such file or folder: gone"),
    ],
)
def test_flags_that_make_no_sense(flags, message, capsys):
    assert message in refused(ASK, *flags, capsys=capsys)


def test_a_prompt_that_is_too_long_is_told_before_anything_is_answered(clevr, tmp_path, capsys):
    flags = (*EMBEDDED, "--data", clevr, "--description", "nlp", "--max_new_tokens", 900)
    line = refused(ASK, *flags, "--output_dir", tmp_path / "run", capsys=capsys)
    assert "clevr-valB-" in line and "and the model has room for" in line and "--description ordered" in line
    assert not (tmp_path / "run").exists()


def depth_rows(folder: Path, *paths: str | None) -> Path:
    """Rows of `image, depth, prompt` with images of another data set, and the paths that they have."""
    rows = []
    for level, path in enumerate(paths):
        buffer = io.BytesIO()
        Image.new("RGB", (48, 32), "red").save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": path}
        rows.append({"image": image, "depth": image | {"path": None}, "prompt": f"scene {level}"})
    datasets.Dataset.from_list(rows).to_parquet(folder / "depth.parquet")
    return folder / "depth.parquet"


def test_depth_maps_without_names_are_refused_before_the_scenes_are_read(clevr, tmp_path, capsys):
    (clevr / "scenes/CLEVR_valB_scenes.json").write_text("{broken")
    flags = ("--data", clevr, "--depth", depth_rows(tmp_path, None, None), "--output_dir", tmp_path / "out")
    line = refused(MERGE, *flags, capsys=capsys)
    assert "depth.parquet row 0 bears no name of an image" in line and "CLEVR_valB_000000.png" in line
    assert "give --depth a folder of depth maps called like the images" in line
    assert not (tmp_path / "out").exists()


def test_depth_maps_of_the_hub_are_refused_for_their_names(clevr, hub, capsys):
    """With the splits that erkam/clevr-with-depth has; CoGenT's valB goes by its validation."""
    name = "erkam/clevr-with-depth"
    rows = [{"image": {"bytes": hub_rows.image(1), "path": None}, "prompt": "a scene"}]
    rows[0]["depth"] = rows[0]["image"]
    shard = "data/{}-00000-of-00001.parquet"
    hub.add(
        name, {shard.format(split): hub_rows.as_parquet(rows) for split in ("train", "validation", "test")}
    )
    line = refused(MERGE, "--data", clevr, "--depth", name, capsys=capsys)
    assert f"{name} val row 0 bears no name of an image" in line and "give --depth a folder of depth" in line


def test_depth_maps_with_names_are_joined(clevr, tmp_path, here):
    depth_rows(tmp_path, "CLEVR_valB_000002.png", "CLEVR_valB_000000.png")
    printed = here(MERGE, "--data", "clevr", "--depth", "depth.parquet", "--output_dir", "out")
    assert "depth maps for 2 of 3 scenes" in printed
    depths = datasets.Dataset.from_parquet("out/valB.parquet")["depth"]
    assert [each and each.getpixel((0, 0)) for each in depths] == [(255, 0, 0), None, (255, 0, 0)]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--depth", "erkam/clevr-with-depth"), "rendered scenes have depth maps of their own"),
        (("--format", "hub"), "--format hub needs --push_to_hub"),
        (("--push_to_hub", "me/x", "--format", "jsonl"), "leave out --format jsonl"),
        (("--no_images", "--depth", "rendered"), "leave out --depth"),
        (("--data", "gone"), "--data gone: no CLEVR folder"),
    ],
)
def test_merging_flags_that_make_no_sense(flags, message, capsys):
    assert message in refused(MERGE, *flags, capsys=capsys)


def test_a_bad_scene_leaves_nothing(clevr, tmp_path, capsys):
    file = clevr / "scenes/CLEVR_valB_scenes.json"
    content = json.loads(file.read_text())
    del content["scenes"][1]["objects"][0]["color"]
    file.write_text(json.dumps(content))
    line = refused(MERGE, "--data", clevr, "--output_dir", tmp_path / "out", capsys=capsys)
    assert f"{file} scene 1 object 0 has no 'color'" in line
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()
