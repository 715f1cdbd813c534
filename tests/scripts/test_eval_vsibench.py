"""eval_vsibench.py as a user runs it: rendered rooms, the benchmark's rows with their videos, its errors."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import tiny_chat
import videos
from commands import ROOT, refused, run
from PIL import Image
from pyarrow import Table, parquet

pytestmark = pytest.mark.slow

SCRIPT = "eval_vsibench.py"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs the script in this process, which spares starting another; gives (summary, what it printed)."""

    def run_here(name: str, *flags) -> tuple[dict, str]:
        words = ["--profile", "embedded", "--output_dir", tmp_path / name, *flags]
        monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, words)])
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
        return json.loads((tmp_path / name / "summary.json").read_text()), capsys.readouterr().out

    return run_here


def benchmark(folder: Path) -> list:
    """Flags: five questions in the benchmark's columns about a video and a folder of images."""
    kinds = {
        "object_counting": ("4", None),
        "object_abs_distance": ("1.5", None),
        "object_rel_direction_easy": ("B", ["A. left", "B. right"]),
        "route_planning": ("C", ["A. Turn Back", "B. Turn Left", "C. Turn Right"]),
        "obj_appearance_order": ("A", ["A. bed, tv", "B. tv, bed"]),
    }
    listed = [
        {
            "id": number,
            "dataset": ("scannet", "arkitscenes")[number % 2],
            "scene_name": ("scene0001_00", "41069021")[number % 2],
            "question_type": kind,
            "question": f"Question {number}?",
            "ground_truth": truth,
            "options": options,
            "pruned": number < 2,
        }
        for number, (kind, (truth, options)) in enumerate(kinds.items())
    ]
    parquet.write_table(Table.from_pylist(listed), folder / "test.parquet")
    videos.write(folder / "videos/scannet/scene0001_00.mp4", frames=12)
    (folder / "videos/arkitscenes/41069021").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 24), (80 * number,) * 3).save(
            folder / f"videos/arkitscenes/41069021/{number}.png"
        )
    return ["--data", folder / "test.parquet", "--frames", folder / "videos", "--num_frames", 4]


def test_rendered_rooms(tmp_path):
    flags = ["--profile", "embedded", "--limit", "12", "--output_dir", "run"]
    printed = run(SCRIPT, *flags, folder=tmp_path)
    assert printed.startswith("profile: embedded")
    for said in ("object_rel_direction", "micro", "rooms", "vsGRPO-V 2B", "rendered"):
        assert said in printed
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["n"] == summary["sources"]["rooms"]["n"] == 12
    assert summary["frames"] == {"requested": 1, "min": 1, "max": 1, "mean": 1.0}
    assert summary["published"]["vsGRPO-V 2B"]["Avg"] == 35.4
    assert summary["rule"].startswith("strict")


def test_rooms_in_words(here):
    summary, printed = here("run", "--form", "words", "--limit", "6", "--rule", "lmms_eval")
    assert summary["n"] == 6 and summary["rule"].startswith("lmms_eval")
    assert "held_out" not in summary["aggregates"] and "object_counting" in summary["tasks"]


def test_the_benchmarks_rows_with_videos_and_folders(tmp_path, here):
    flags = benchmark(tmp_path)
    summary, printed = here("run", *flags, "--rule", "official")
    assert {name: part["n"] for name, part in summary["sources"].items()} == {"scannet": 3, "arkitscenes": 2}
    assert summary["frames"] == {"requested": 4, "min": 3, "max": 4, "mean": 3.6}
    assert "measured" in printed and "scannet" in printed
    answers = (tmp_path / "run/predictions.jsonl").read_text().splitlines()
    assert len(answers) == 5

    (tmp_path / "run/predictions.jsonl").write_text("\n".join(answers[:2]) + "\n")  # as if it was killed
    again, printed = here("run", *flags, "--rule", "official")
    assert "2 of 5 answers already" in printed and again["answers_from_before"] == 2
    assert again["tasks"] == summary["tasks"]

    debiased, _ = here("debiased", *flags, "--subset", "debiased")
    pruned, _ = here("pruned", *flags, "--subset", "pruned")
    assert (debiased["n"], pruned["n"]) == (3, 2) and debiased["subset"] == "debiased"


def test_thoughts_first(tmp_path, here):
    summary, _ = here("run", *benchmark(tmp_path), "--prompt", "think", "--max_new_tokens", "4")
    assert "<answer>" in summary["rule"] and summary["prompt_mode"] == "think"
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "run/predictions.jsonl").open()]
    assert len(prompts) == 5 and all("Let's think step by step" in prompt for prompt in prompts)


def test_a_qwen_is_shown_a_video(tmp_path, here):
    """It takes small frames and the time between them; other frames give other answers."""
    model = tiny_chat.save_model(tmp_path / "qwen", "qwen2_5_vl")
    flags = [*benchmark(tmp_path), "--model", model, "--min_pixels", 64, "--max_pixels", 1024]
    summary, _ = here("run", *flags, "--max_new_tokens", 4)
    assert summary["n"] == 5 and summary["frames"]["max"] == 4
    said = (tmp_path / "run/predictions.jsonl").read_text()
    here("fewer", *flags, "--max_new_tokens", 4, "--num_frames", 1)
    assert (tmp_path / "fewer/predictions.jsonl").read_text() != said


def test_bad_input_ends_in_one_line(tmp_path, capsys):
    profile, flags = ["--profile", "embedded"], benchmark(tmp_path)

    def message(*words) -> str:
        return refused(SCRIPT, *profile, "--output_dir", tmp_path / "never", *words, capsys=capsys)

    assert "no video of scene arkitscenes/41069021" in message(*flags[:2], "--frames", tmp_path / "nothing")
    (tmp_path / "videos/scannet/scene0001_00.mp4").write_bytes(b"no video")
    assert "scene0001_00.mp4 cannot be read" in message(*flags)
    assert "--subset" in message(*flags, "--subset", "small")
    assert "--pruned_ids tells subsets apart" in message(*flags, "--pruned_ids", "x")
    assert "leave them out for rendered rooms" in message("--subset", "debiased")
    assert "VSI-Bench has options" in message(*flags, "--form", "words")
    assert "--num_frames must be at least 1" in message("--num_frames", "0")
    assert "--min_pixels 9 must be between 1 and --max_pixels" in message(
        "--min_pixels", 9, "--max_pixels", 8
    )
    assert "the model has room for 1,024" in message("--limit", "8", "--max_new_tokens", "1000")
    assert not (tmp_path / "never").exists()
