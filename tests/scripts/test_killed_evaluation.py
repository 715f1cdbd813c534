"""An evaluation killed at random moments keeps every finished answer, doubles none, and ends the same."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import processes
import pytest
import test_cvbench
from processes import finish

pytestmark = pytest.mark.slow

KILLS, QUESTIONS = 10, 12
FLAGS = "--profile embedded --batch_size 2 --num_samples 2 --num_workers 1"
UNSTEADY = ("seconds", "peak_memory_bytes", "answers_from_before")


@pytest.fixture
def start(tmp_path):
    """Starts the script in a folder."""
    rows = [test_cvbench.row(n, ("Count", "Depth")[n % 2]) for n in range(QUESTIONS)]
    data = test_cvbench.as_parquet(tmp_path, rows)

    def start(folder: Path):
        folder.mkdir(exist_ok=True)
        flags = [*FLAGS.split(), "--data", str(data), "--output_dir", str(folder / "run")]
        logs = (folder / "log", folder / "log")
        return processes.start("eval_paligemma_cvbench.py", *flags, folder=folder, logs=logs)

    return start


def whole_lines(folder: Path) -> list[str]:
    file = folder / "run" / "predictions.jsonl"
    text = file.read_text() if file.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def summary(folder: Path) -> dict:
    found = json.loads((folder / "run" / "summary.json").read_text())
    return {name: value for name, value in found.items() if name not in UNSTEADY}


def test_killed_at_random_moments(start, tmp_path):
    whole = tmp_path / "whole"
    finish(start(whole), whole)
    began = time.monotonic()
    again = tmp_path / "again"
    finish(start(again), again)
    seconds = time.monotonic() - began
    assert whole_lines(again) == whole_lines(whole) and len(whole_lines(whole)) == QUESTIONS

    rng, kills, runs, unfinished = random.Random(0), 0, 0, 0
    while kills < KILLS:
        folder = tmp_path / f"killed-{runs}"
        before = whole_lines(folder)
        process = start(folder)
        process.join(rng.uniform(0.2, 1.0) * seconds)
        if not process.is_alive():
            finish(process, folder)
            assert whole_lines(folder) == whole_lines(whole) and summary(folder) == summary(whole)
            runs += 1
            continue
        process.kill()
        process.join()
        kills += 1
        after = whole_lines(folder)
        assert after[: len(before)] == before, "a finished answer is lost"
        ids = [json.loads(line)["id"] for line in after]
        assert len(set(ids)) == len(ids), "an answer is doubled"
        unfinished += len(after) < QUESTIONS
    assert unfinished > KILLS // 2, "most kills must come before the end"
    finish(start(folder), folder)
    assert whole_lines(folder) == whole_lines(whole) and summary(folder) == summary(whole)
