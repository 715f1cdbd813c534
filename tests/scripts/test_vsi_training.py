"""vsGRPO's three training scripts on the embedded model and rendered rooms, and what they refuse."""

from __future__ import annotations

import json

import pytest
from commands import refused, run, run_here

from spatialvlm.evaluation import evaluate

pytestmark = pytest.mark.slow

SMALL = "--profile embedded --max_steps 2 --train_limit 12 --eval_limit 12 --eval_batch_size 6"
GRPO = ["--prompts_per_device", "1", "--num_generations", "3"]
LONG = ["--max_completion_length", "24"]


@pytest.mark.parametrize(
    ("script", "flags", "metrics"),
    [
        (
            "vsi_grpo",
            [*GRPO, "--prompt", "think", *LONG, "--reward", "mra"],
            {"reward", "format", "empty_thoughts"},
        ),
        ("vsi_sft", ["--per_device_batch_size", "2", "--families", "object_counting"], {"loss", "tokens"}),
        ("vsi_dpo", ["--per_device_batch_size", "2"], {"loss", "margin", "preferred"}),
    ],
    ids=["grpo", "sft", "dpo"],
)
def test_it_trains_and_prints_the_table_by_family(script, flags, metrics, tmp_path, monkeypatch):
    """One as a user starts it; the others the quicker way, and their tests as on a GPU: with workers."""
    started, workers, prepared = run if script == "vsi_grpo" else run_here, [], evaluate.prepared
    monkeypatch.setattr(evaluate, "default_workers", lambda device: 2)
    monkeypatch.setattr(evaluate, "prepared", lambda *all: workers.append(all[3]) or prepared(*all))
    printed = started(f"model/{script}.py", *SMALL.split(), *flags, "--output_dir", "run", folder=tmp_path)
    assert printed.startswith("profile: embedded") and workers == ([] if started is run else [2] * 4)
    for family in ("object_counting", "object_rel_direction", "room_size_estimation", "Total"):
        assert family in printed
    assert "images shuffled" in printed and "_easy" not in printed
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2] and metrics <= set(steps[0])
    assert (tmp_path / "run/adapter/adapter_model.safetensors").exists()
    for part in ("base", "base-shuffled", "trained", "shuffled"):
        rows = [
            json.loads(line) for line in (tmp_path / f"run/{part}/predictions.jsonl").read_text().splitlines()
        ]
        assert len(rows) == 12 and all(0 <= row["score"] <= 1 for row in rows)
        request = "think step by step" if "think" in flags else "Please answer the question"
        assert all(request in row["prompt"] for row in rows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--families", "doors"], "--families must be some of object_counting"),
        (["--num_frames", "0"], "--num_frames must be at least 1"),
        (["--max_pixels", "100"], "--min_pixels 3136 must be between"),
        (["--eval_frames", "videos"], "--eval_frames is for VSI-Bench"),
        (["--prompt", "think"], "--max_completion_length 14: the tags of --prompt think"),
        (["--data", "nowhere/at/all"], "nowhere/at/all"),
        (["--beta", "-1"], "--beta must be at least 0, not -1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_makes_no_sense_is_refused_in_one_line(flags, message, capsys):
    assert message in refused("model/vsi_grpo.py", "--profile", "embedded", *flags, capsys=capsys)
