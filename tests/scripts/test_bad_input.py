"""What a user can get wrong ends in one line that names it, and exit code 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import refused

from spatialvlm.data import scenes

TRAIN, TEST = "model/pali_sat_grpo.py", "eval_paligemma_clevr.py"


@pytest.fixture
def clevr(tmp_path) -> Path:
    """A small folder in CLEVR's official form."""
    folder = tmp_path / "clevr"
    for part in ("images", "scenes", "questions"):
        (folder / part).mkdir(parents=True)
    made = [scenes.make("bad-input", index) for index in range(3)]
    for index, scene in enumerate(made):
        scene["image_filename"], scene["image_index"] = f"CLEVR_val_{index:06d}.png", index
        scenes.picture(scene, 48, 32).image.save(folder / "images" / scene["image_filename"])
    (folder / "scenes/CLEVR_val_scenes.json").write_text(json.dumps({"scenes": made}))
    asked = [
        {
            "question": "How many things are there?",
            "answer": str(len(scene["objects"])),
            "image_filename": scene["image_filename"],
            "image_index": index,
            "question_index": index,
        }
        for index, scene in enumerate(made)
    ]
    (folder / "questions/CLEVR_val_questions.json").write_text(json.dumps({"questions": asked}))
    return folder


@pytest.mark.parametrize("script", [TRAIN, TEST])
def test_no_such_folder(script, tmp_path, capsys):
    line = refused(script, "--profile", "embedded", "--data", tmp_path / "gone", capsys=capsys)
    assert str(tmp_path / "gone") in line


def test_images_without_scenes(clevr, capsys):
    shutil.rmtree(clevr / "scenes")
    line = refused(TRAIN, "--profile", "embedded", "--data", clevr, capsys=capsys)
    assert str(clevr) in line and "scenes" in line


def test_a_scenes_file_that_is_not_json(clevr, capsys):
    (clevr / "scenes/CLEVR_val_scenes.json").write_text('{"scenes": [')
    line = refused(TRAIN, "--profile", "embedded", "--data", clevr, capsys=capsys)
    assert "CLEVR_val_scenes.json" in line and "JSON" in line


def test_a_row_without_an_answer(clevr, capsys):
    file = clevr / "questions/CLEVR_val_questions.json"
    content = json.loads(file.read_text())
    del content["questions"][1]["answer"]
    file.write_text(json.dumps(content))
    line = refused(TEST, "--profile", "embedded", "--data", clevr, capsys=capsys)
    assert file.name in line and "answer" in line and "1" in line


@pytest.mark.parametrize("script", [TRAIN, TEST])
def test_a_truncated_image(script, clevr, tmp_path, capsys):
    for image in (clevr / "images").iterdir():
        image.write_bytes(image.read_bytes()[:300])
    flags = ["--eval_limit", "4"] if script == TRAIN else []
    flags += ["--profile", "embedded", "--data", clevr, "--output_dir", tmp_path / "run"]
    line = refused(script, *flags, capsys=capsys)
    assert "CLEVR_val_00000" in line and "cannot be read" in line


def test_one_generation(capsys):
    line = refused(TRAIN, "--profile", "embedded", "--num_generations", "1", capsys=capsys)
    assert "--num_generations 1" in line


@pytest.mark.parametrize("script", [TRAIN, "eval_paligemma_cvbench.py"])
def test_a_hub_model_without_access(script, capsys):
    flags = ["--profile", "embedded", "--model", "google/paligemma2-3b-mix-224"]
    line = refused(script, *flags, capsys=capsys)
    assert "google/paligemma2-3b-mix-224" in line and "--model" in line


def test_a_model_that_is_no_paligemma(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    flags = ["--profile", "embedded", "--model", tmp_path]
    line = refused("eval_paligemma_cvbench.py", *flags, capsys=capsys)
    assert "gpt2" in line and "PaliGemma" in line


@pytest.mark.parametrize(
    "flag, value", [("--answer_form", "roman"), ("--polarity", "sideways"), ("--lorar", "3")]
)
def test_a_flag_that_makes_no_sense(flag, value, capsys):
    assert flag.lstrip("-") in refused(TRAIN, "--profile", "embedded", flag, value, capsys=capsys)
