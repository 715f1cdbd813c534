"""The comparison's driver: its commands, its tables from their predictions, one line where one fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import refused, run

pytestmark = pytest.mark.slow

SCRIPT = "model/reproduce_sat.py"
TASKS = ("Count", "Relation", "Depth", "Distance")
SHARES = {"base": 0.25, "v1": 0.5, "sft": 0.75, "v2": 1.0, "v2-unfiltered": 0.5}
TESTS = ("", "-ood", "-pass4", "-pass4-ood")


def leave(folder: Path, share: float) -> None:
    """A test's part of a run folder, finished: of every task's eight questions a fraction is right."""
    folder.mkdir(parents=True)
    rows = [
        {"id": f"{task}{number}", "task": task, "correct": number < 8 * share}
        for task in TASKS
        for number in range(8)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text("{}")


@pytest.fixture
def finished(tmp_path):
    """An output folder in which every command of two seeds has been run."""
    folder = tmp_path / "runs"
    for way in ("v1", "sft", "v2", "v2-unfiltered", "v1-balanced", "sft-balanced", "v2-balanced"):
        for each in (folder / f"{way}-seed{seed}" for seed in range(2)):
            for test in TESTS:
                leave(each / f"trained{test}", SHARES[way.removesuffix("-balanced")])
                leave(each / f"shuffled{test}", {"v2": 0.5}.get(way, 0.25))
                if way == "sft":
                    leave(each / f"base{test}", SHARES["base"])
                    leave(each / f"base-shuffled{test}", 0.25)
    return folder


def test_tables_and_verdicts_from_finished_runs(finished, tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\nwritten by hand\n")
    flags = ["--seeds", "0", "1", "--output_dir", finished, "--results", results, "--ablations", "all"]
    printed = run(SCRIPT, *flags, folder=tmp_path)
    text = results.read_text()
    assert "written by hand" in text and text.split("<!-- reproduce_sat -->")[1].strip()[:20] in printed
    row = next(line for line in text.splitlines() if line.startswith("| Pass@1, Total: GRPO-v2 above SFT"))
    _, _, published, here, sizes, shuffled, verdict, _ = (cell.strip() for cell in row.split("|"))
    assert published == "+5.6" and here.startswith("+25.0 (+") and sizes == "32, 2"
    assert shuffled.startswith("+25.0 (") and verdict == "**held**"  # with the images and without
    assert text.count("| GRPO-v2, published") == 3 and "balanced polarity" in text
    commands = (finished / "commands.txt").read_text().splitlines()
    assert len(commands) == 2 * 7 == len(set(commands))
    v1 = next(command for command in commands if "v1-balanced-seed1" in command)
    for flag in ("pali_sat_grpo_v1.yaml", "--seed 1", "--polarity balanced", "--full_test", "--resume"):
        assert flag in v1
    assert sum("--test_base true" in command for command in commands) == 2
    assert run(SCRIPT, *flags, folder=tmp_path) and results.read_text() == text  # nothing is done twice
    assert run(SCRIPT, *flags[:-2], folder=tmp_path) and results.read_text() == text  # nor forgotten


def test_a_command_that_fails_is_told_in_one_line(finished, tmp_path, capsys):
    (finished / "v2-seed1/shuffled/summary.json").unlink()
    (finished / "v2-seed1/config.json").write_text("{")
    flags = ["--seeds", 0, 1, "--output_dir", finished, "--results", tmp_path / "RESULTS.md"]
    line = refused(SCRIPT, *flags, capsys=capsys)
    assert "v2-seed1 ended with code 2" in line and "damaged" in line and "v2-seed1.log" in line
    assert not (tmp_path / "RESULTS.md").exists()
    assert "--workers" in refused(SCRIPT, "--workers", "0", capsys=capsys)
    assert "--seeds needs numbers, each once" in refused(SCRIPT, "--seeds", "0", "0", capsys=capsys)
    line = refused(SCRIPT, "--ablations", "none", capsys=capsys)
    assert "--ablations none: must be all, or some of sft-balanced" in line
