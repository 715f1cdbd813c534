"""eval_paligemma_vsr.py as a user runs it: embedded, and on rows with images in a folder."""

from __future__ import annotations

import json
import runpy
import sys

import pytest
from commands import ROOT, refused, run

from spatialvlm.models import loading
from spatialvlm.worlds.clevr import scenes

SCRIPT = "eval_paligemma_vsr.py"


@pytest.fixture
def rows(tmp_path):
    """A file of rows in VSR's form, and their images in train2017/ of a folder beside it."""
    (tmp_path / "coco/train2017").mkdir(parents=True)
    listed = []
    for number, relation in enumerate(("left of", "touching", "near", "atop")):
        name = f"{number:012d}.png"
        picture = scenes.render_scene(scenes.make("vsr-script", number), 48, 32).image
        picture.save(tmp_path / "coco/train2017" / name)
        caption = f"The cube is {relation} the sphere."
        listed.append(
            {"image": name, "image_link": "", "caption": caption, "label": number % 2, "relation": relation}
        )
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return file


def here(monkeypatch, *flags) -> None:
    """The script in this process, which spares starting another."""
    monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, flags)])
    runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")


@pytest.mark.slow
def test_embedded(tmp_path, monkeypatch):
    flags = ["--profile", "embedded", "--limit", "6", "--output_dir", "run"]
    printed = run(SCRIPT, *flags, folder=tmp_path)
    assert printed.startswith("profile: embedded") and "by relation" in printed
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["n"] == 6 and list(summary["tasks"]) == ["Projective", "Adjacency", "Proximity"]
    assert sum(part["n"] for part in summary["relations"].values()) == 6 and summary["trained_on"] == []
    monkeypatch.chdir(tmp_path)
    here(monkeypatch, *flags)  # again: nothing is left to do
    assert json.loads((tmp_path / "run/summary.json").read_text()) == summary


def test_rows_that_the_adapter_was_trained_on(rows, tmp_path, monkeypatch, capsys):
    model, _ = loading.load(loading.ModelArgs(profile="embedded"))
    loading.save_adapter(loading.add_lora(model, r=2), tmp_path / "trained/adapter")
    (tmp_path / "trained/config.json").write_text(json.dumps({"arguments": {"data": str(rows)}}))
    flags = ["--profile", "embedded", "--data", rows, "--image_folder", tmp_path / "coco"]
    flags += ["--adapter", tmp_path / "trained/adapter", "--rule", "official", "--num_samples", "2"]
    here(monkeypatch, *flags, "--output_dir", tmp_path / "run")
    printed = capsys.readouterr()
    assert "warning: 4 of the test's 4 pairs of image and caption are in the adapter's" in printed.err
    assert "counted as Unallocated: 'atop' (1)" in printed.err and "atop" in printed.out
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["trained_on"] == [{"data": str(rows), "pairs": 4}]
    assert list(summary["tasks"]) == ["Projective", "Topological", "Proximity", "Unallocated"]
    assert summary["rule"].startswith("official") and summary["num_samples"] == 2


def test_a_missing_image_and_a_wrong_label_are_one_line(rows, tmp_path, capsys):
    flags = ["--profile", "embedded", "--data", rows, "--image_folder"]
    assert "test.jsonl row 0: image" in refused(SCRIPT, *flags, tmp_path, capsys=capsys)
    rows.write_text(rows.read_text().replace('"label": 1', '"label": "maybe"', 1))
    assert "row 1: 'label' must be yes or no (1 or 0)" in refused(
        SCRIPT, *flags, tmp_path / "coco", capsys=capsys
    )
    assert "VSR has train, dev, test" in refused(
        SCRIPT, "--profile", "paper", "--split", "static", capsys=capsys
    )
