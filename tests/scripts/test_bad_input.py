"""What a user can get wrong ends in one line that names it, and exit code 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import refused

from spatialvlm.worlds.clevr import scenes

TRAIN, SFT, TEST = "model/pali_sat_grpo.py", "model/pali_sat_sft.py", "eval_paligemma_clevr.py"


@pytest.fixture
def clevr(tmp_path) -> Path:
    """A small folder in CLEVR's official form."""
    folder = tmp_path / "clevr"
    for part in ("images", "scenes", "questions"):
        (folder / part).mkdir(parents=True)
    made = [scenes.make("bad-input", index) for index in range(3)]
    for index, scene in enumerate(made):
        scene["image_filename"], scene["image_index"] = f"CLEVR_val_{index:06d}.png", index
        scenes.render_scene(scene, 48, 32).image.save(folder / "images" / scene["image_filename"])
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


@pytest.mark.parametrize("script", [TRAIN, SFT, TEST])
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


@pytest.mark.parametrize("script", [TRAIN, SFT, TEST])
def test_a_truncated_image(script, clevr, tmp_path, capsys):
    for image in (clevr / "images").iterdir():
        image.write_bytes(image.read_bytes()[:300])
    flags = ["--eval_limit", "4"] if script != TEST else []
    flags += ["--profile", "embedded", "--data", clevr, "--output_dir", tmp_path / "run"]
    line = refused(script, *flags, capsys=capsys)
    assert "CLEVR_val_00000" in line and "cannot be read" in line


@pytest.mark.parametrize(
    ("script", "flag", "value"),
    [
        (TRAIN, "--num_generations", "1"),
        (TRAIN, "--sampling_batch_size", "0"),
        (SFT, "--per_device_batch_size", "0"),
        (SFT, "--lora_dropout", "1"),
        (SFT, "--learning_rate", "nan"),
    ],
)
def test_an_invalid_number(script, flag, value, capsys):
    line = refused(script, "--profile", "embedded", flag, value, capsys=capsys)
    assert flag in line and value in line


def test_balanced_polarity_of_rows_that_are_as_they_are(tmp_path, capsys):
    flags = ["--profile", "embedded", "--polarity", "balanced", "--data", tmp_path / "sat.parquet"]
    assert "--polarity balanced" in refused(SFT, *flags, capsys=capsys)


@pytest.mark.parametrize("what", ["gone", "gone/checkpoint-3"])
def test_nothing_to_resume(tmp_path, what, capsys):
    line = refused(TRAIN, "--profile", "embedded", "--resume", tmp_path / what, capsys=capsys)
    assert str(tmp_path / what) in line and "--resume" in line


def test_a_run_of_other_arguments_is_not_gone_on_with(tmp_path, capsys):
    before = {"arguments": {"beta": 0.5, "learning_rate": 2e-4, "max_steps": 60}}
    (tmp_path / "config.json").write_text(json.dumps(before))
    flags = ["--profile", "embedded", "--output_dir", tmp_path, "--resume"]
    line = refused(TRAIN, *flags, capsys=capsys)
    assert "beta was 0.5, now 0.01" in line and "learning_rate" not in line and "max_steps" not in line


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
