"""eval_paligemma_sat.py as a user runs it: embedded, and on rows with one and two images."""

from __future__ import annotations

import io
import json
import runpy
import sys

import pytest
from commands import ROOT, refused, run
from pyarrow import Table, parquet

from spatialvlm.worlds.clevr import scenes

SCRIPT = "eval_paligemma_sat.py"


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    scenes.render_scene(scenes.make("sat-script", number), 48, 32).image.save(buffer, "PNG")
    return buffer.getvalue()


def as_parquet(folder, count: int, **changed):
    listed = [
        {
            "image_bytes": [png(number)] * (1 + number % 2),
            "question": "Is the cube to the left or right of the sphere?",
            "answers": ["left", "right"],
            "question_type": ("perspective", "ego_movement")[number % 2],
            "correct_answer": "left",
        }
        | changed
        for number in range(count)
    ]
    parquet.write_table(Table.from_pylist(listed), folder / "SAT_test.parquet")
    return folder / "SAT_test.parquet"


@pytest.mark.slow
def test_embedded(tmp_path):
    flags = ["--profile", "embedded", "--limit", "4", "--answer_form", "letter", "--output_dir", "run"]
    printed = run(SCRIPT, *flags, folder=tmp_path)
    assert printed.startswith("profile: embedded") and "official" in printed
    lines = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) >= 8  # in every order
    assert {line["prompt"].split(".")[0] for line in lines} == {"Answer with the letter"}


def test_one_and_two_images_in_both_orders(tmp_path, monkeypatch):
    def here(name: str, *flags: str) -> dict:
        """The summary of a run in this process, which spares starting another."""
        words = ["--data", tmp_path / "SAT_test.parquet", "--output_dir", tmp_path / name, *flags]
        monkeypatch.setattr(sys, "argv", [SCRIPT, "--profile", "embedded", *map(str, words)])
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
        return json.loads((tmp_path / name / "summary.json").read_text())

    as_parquet(tmp_path, 4)
    both = here("both")
    assert {task: part["n"] for task, part in both["tasks"].items()} == {"perspective": 4, "ego_movement": 4}
    assert list(both["aggregates"]) == ["official", "mean_of_tasks", "both_orders"]
    once = here("once", "--circular", "false", "--max_images", "1")
    assert once["n"] == 2 and list(once["aggregates"]) == ["micro", "mean_of_tasks"]


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    data = as_parquet(tmp_path, 2, correct_answer="right")
    line = refused(SCRIPT, "--profile", "embedded", "--data", data, capsys=capsys)
    assert "SAT_test.parquet row 0: 'correct_answer' 'right'" in line
    assert "--max_images" in refused(SCRIPT, "--profile", "embedded", "--max_images", "0", capsys=capsys)
    assert "answer_form" in refused(SCRIPT, "--answer_form", "mixed", capsys=capsys)
    gone = tmp_path / "gone.parquet"
    assert "gone.parquet" in refused(SCRIPT, "--profile", "embedded", "--data", gone, capsys=capsys)
