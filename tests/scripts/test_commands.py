"""The commands that README names, on the embedded model, as processes of their own from another folder."""

from __future__ import annotations

import csv
import io
import json

import datasets
import pytest
from commands import refused, run, run_fresh, run_here
from processes import together

from spatialvlm.worlds.clevr import series

pytestmark = pytest.mark.slow


def test_grpo_trains_and_writes_its_run_folder(tmp_path):
    flags = "--profile embedded --max_steps 2 --train_limit 32 --eval_limit 16 --prompts_per_device 4"
    printed = run_fresh("model/pali_sat_grpo.py", *flags.split(), "--output_dir", "run", folder=tmp_path)
    assert printed.startswith("profile: embedded")
    assert "images shuffled" in printed and "Total" in printed
    folder = tmp_path / "run"
    assert (folder / "adapter/adapter_model.safetensors").exists()
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2] and {"reward", "kl", "informative"} <= set(steps[0])
    assert len(list(csv.DictReader((folder / "metrics.csv").open()))) == 2
    for part in ("base", "trained", "shuffled"):
        assert len((folder / part / "predictions.jsonl").read_text().splitlines()) == 16
        assert json.loads((folder / part / "summary.json").read_text())["n"] == 16

    again = run("model/pali_sat_grpo.py", *flags.split(), "--output_dir", "run", folder=tmp_path)
    told = "run holds a run, which --resume would continue: this one goes to run-2\n"
    assert told in again  # nothing is overwritten
    assert again.replace(told, "").replace("run-2", "run") == printed  # same seed, same numbers

    adapter = ["--adapter", folder / "adapter", "--limit", "16", "--output_dir", "tested"]
    run("eval_paligemma_cvbench.py", "--profile", "embedded", *adapter, folder=tmp_path)
    tested = json.loads((tmp_path / "tested/summary.json").read_text())
    trained = json.loads((folder / "trained/summary.json").read_text())
    assert tested["tasks"] == trained["tasks"]


def test_clevr_on_official_images(real_data, tmp_path):
    flags = ["--profile", "embedded", "--data", real_data / "clevr", "--output_dir", "run"]
    printed = run("eval_paligemma_clevr.py", *flags, folder=tmp_path)
    for family in ("exist", "count", "compare_integer", "query_color", "chance"):
        assert family in printed
    assert len((tmp_path / "run/predictions.jsonl").read_text().splitlines()) == 400


def test_grpo_trains_on_official_images(real_data, tmp_path):
    flags = "--profile embedded --max_steps 1 --eval_limit 8 --prompts_per_device 4 --output_dir run"
    run("model/pali_sat_grpo.py", *flags.split(), "--data", real_data / "clevr", folder=tmp_path)
    assert (tmp_path / "run/adapter/adapter_model.safetensors").exists()


def test_sft_learns_thoughts_and_answers_and_grpo_refuses_them(tmp_path, capsys):
    rows, count = [], 120
    for example in series.clevr("train", 4):
        example.open_images()[0].save(buffer := io.BytesIO(), "PNG")
        answer = {"thinking": f"I look. {example.answer}.", "solution": f"<answer>{example.answer}</answer>"}
        rows.append(
            {"image": {"bytes": buffer.getvalue(), "path": None}, "problem": example.question} | answer
        )
    rows = rows * (count // 4)
    rows[5] = rows[5] | {"thinking": ""}
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "thoughts.parquet")
    flags = (
        "--profile embedded --data thoughts.parquet --max_steps 2 --per_device_batch_size 4 --eval_limit 4"
    )
    printed = run_here("model/pali_sat_sft.py", *flags.split(), "--output_dir", "run", folder=tmp_path)
    assert "images shuffled" in printed and (tmp_path / "run/adapter/adapter_model.safetensors").exists()
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    # Tags, thoughts and answer are some 25 tokens of the embedded model's; an answer alone is 2.
    assert [row["step"] for row in steps] == [1, 2] and all(row["tokens"] > 4 * 20 for row in steps)
    data = json.loads((tmp_path / "run/config.json").read_text())["data"]
    assert data["path"] == "thoughts.parquet" and data["excluded"] == {"no thoughts": 1}
    flags = ("--profile", "embedded", "--data", tmp_path / "thoughts.parquet")
    line = refused("model/pali_sat_grpo.py", *flags, capsys=capsys)
    assert "rows with thoughts: model/pali_sat_sft.py" in line


def test_stderr_has_the_progress_and_no_notice_of_a_library(tmp_path):
    flags = ["--profile", "embedded", "--limit", "4", "--output_dir", "run"]
    done = together("eval_paligemma_cvbench.py", tuple(flags), tmp_path, [{}])
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    assert done.returncode == 0 and all(line.startswith(("CV-Bench:", "rendering")) for line in lines), lines
