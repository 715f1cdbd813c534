"""Training that is killed, at any moment, and goes on: it ends as one that was never stopped, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import processes
import pytest
from processes import KillAt, finish

pytestmark = pytest.mark.slow

GRPO, SFT = "model/pali_sat_grpo.py", "model/pali_sat_sft.py"
SMALL = "--profile embedded --max_steps 8 --save_steps 2 --train_limit 16 --log_completions_steps 3"
SMALL += " --eval_limit 12 --eval_batch_size 4 --run_name drill --output_dir run"
FLAGS = {
    GRPO: f"{SMALL} --prompts_per_device 2 --num_generations 2 --max_resamples 2".split(),
    SFT: f"{SMALL} --per_device_batch_size 2".split(),
}
# In the order of a run's life: each kill comes after the one before.
CHOSEN: dict[str, list[processes.Point]] = {
    GRPO: [
        ("os.rename", "run/config.json", 0),  # before there is a run
        ("open", "base/predictions.jsonl", 1),  # while testing the base model
        ("open", "optimizer.safetensors", 0),  # in the middle of the first checkpoint
        ("open", "completions.jsonl", 1),
        ("open", "metrics.jsonl", 4),
        ("os.rename", ".checkpoint-4.partial", 0),  # all written, and not yet called a checkpoint
        ("open", "manifest.json", 1),
        ("os.rename", "checkpoint-2", 0),  # the oldest, about to be removed
        ("os.rename", "adapter.partial", 0),
        ("open", "trained/predictions.jsonl", 1),  # while testing the trained model
        ("os.rename", "trained/summary.json", 0),
        ("open", "shuffled/predictions.jsonl", 2),
    ],
    SFT: [
        ("open", "trainer.json", 0),
        ("open", "metrics.csv", 2),
        ("os.rename", ".checkpoint-6.partial", 0),
        ("open", "trained/predictions.jsonl", 2),
    ],
}


@pytest.fixture(scope="module")
def start():
    """Starts a script in a folder."""

    def start(script: str, folder: Path, *flags: str, point: processes.Point | None = None):
        folder.mkdir(exist_ok=True)
        flags = [*FLAGS[script], "--output_dir", str(folder / "run"), *flags]
        logs = (folder / "log", folder / "log")
        return processes.start(script, *flags, folder=folder, logs=logs, prepare=point and KillAt(*point))

    return start


def outcome(folder: Path) -> dict:
    """All that a run leaves behind, apart from the clock, the memory and the machine."""
    run = folder / "run"
    found = {str(file.relative_to(run)): file.read_bytes() for file in run.glob("**/predictions.jsonl")}
    found |= {str(file.relative_to(run)): file.read_bytes() for file in run.glob("**/*.safetensors")}
    found["completions"] = (
        (run / "completions.jsonl").read_bytes() if (run / "completions.jsonl").exists() else b""
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + len(rows)
    for file in run.glob("**/summary.json"):
        summary = json.loads(file.read_text())
        found[str(file.relative_to(run))] = {n: v for n, v in summary.items() if n not in UNSTEADY}
    return found


UNSTEADY = ("seconds", "peak_memory_bytes", "answers_from_before")


@pytest.fixture(scope="module", params=[GRPO, SFT], ids=["grpo", "sft"])
def whole(request, start, tmp_path_factory):
    """(script, what a run that was never stopped leaves behind, its seconds)."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(request.param, folder), folder)
    began = time.monotonic()
    again = tmp_path_factory.mktemp("again")
    finish(start(request.param, again), again)
    seconds = time.monotonic() - began
    found = outcome(folder)
    assert found == outcome(again), "the same command gives the same run"
    expected = {"checkpoint-6/adapter_model.safetensors", "checkpoint-8/optimizer.safetensors", "metrics"}
    expected |= {"adapter/adapter_model.safetensors", "base/predictions.jsonl", "trained/summary.json"}
    assert expected <= found.keys() and len(found["metrics"]) == 8
    return request.param, found, seconds


def test_killed_at_chosen_points(whole, start, tmp_path):
    script, expected, _ = whole
    for point in CHOSEN[script]:
        process = start(script, tmp_path, "--resume", point=point)
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, (point, (tmp_path / "log").read_text()[-2000:])
    finish(start(script, tmp_path, "--resume"), tmp_path)
    assert outcome(tmp_path) == expected


def test_killed_at_random_moments(whole, start, tmp_path):
    """Runs are killed again and again, each start after a random share of a whole run's time, ten times."""
    script, expected, seconds = whole
    rng, kills, runs = random.Random(script), 0, 1
    while kills < (10 if script == GRPO else 4):
        folder = tmp_path / str(runs)
        process = start(script, folder, "--resume")
        process.join(rng.uniform(0, 0.8) * seconds)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:
            finish(process, folder)
            runs += 1
    finish(start(script, folder, "--resume"), folder)
    for folder in tmp_path.iterdir():
        assert outcome(folder) == expected


def test_lines_torn_by_a_power_cut(start, tmp_path, whole):
    script, expected, _ = whole
    process = start(script, tmp_path, "--resume", point=("os.rename", ".checkpoint-6.partial", 0))
    process.join(300)
    for name in ("metrics.jsonl", "metrics.csv", "base/predictions.jsonl"):
        file = tmp_path / "run" / name
        file.write_bytes(file.read_bytes()[:-9])
    finish(start(script, tmp_path, "--resume"), tmp_path)
    assert outcome(tmp_path) == expected
