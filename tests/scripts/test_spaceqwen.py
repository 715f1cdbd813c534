"""The counting script on the embedded model and a tiny Qwen2.5-VL; killed and resumed; its refusals."""

import csv
import json
import runpy
import signal
import sys

import processes
import pytest
from commands import ROOT, refused, run
from processes import KillAt
from tiny_chat import save_model

pytestmark = pytest.mark.slow

SCRIPT = "Spaceqwen_evaluation/test_spaceqwen_vqa_batch.py"


def inside(*flags) -> None:
    """The script in this process, which is quicker."""
    before = sys.argv
    sys.argv = [SCRIPT, *map(str, flags)]
    try:
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
    finally:
        sys.argv = before


def predictions(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def summary(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def same_scores(first, second) -> bool:
    names = ("n", "unread", "aggregates", "tasks", "counting", "threshold")
    return [summary(first)[name] for name in names] == [summary(second)[name] for name in names]


def test_embedded_counts_by_data_set(tmp_path, monkeypatch, capsys):
    flags = "--profile embedded --counting_only --samples 6 --threshold 2 --interim_every 10 --batch_size 4"
    printed = run(SCRIPT, *flags.split(), "--output_dir", "run", folder=tmp_path)
    first, _, table = printed.partition("\n")
    assert first.startswith("profile: embedded") and "published" not in table
    assert "12 of 24 questions" in printed and "24 of 24 questions" in printed
    for name in ("CLEVR", "SAT", "CV-Bench", "PixMo-Count", "within 2", "close-call"):
        assert name in printed
    found = summary(tmp_path / "run")
    assert (found["n"], found["questions"], found["threshold"]) == (24, 24, 2)
    rows = predictions(tmp_path / "run")
    assert len({row["id"] for row in rows}) == 24
    for source, part in found["counting"].items():
        mine = [row for row in rows if row["source"] == source]
        assert part["accuracy"]["n"] == len(mine) == 6
        assert part["accuracy"]["value"] == sum(row["correct"] for row in mine) / 6
        wrong = [row for row in mine if not row["correct"]]
        assert part.get("close_call", {"n": 0})["n"] == len(wrong)
        assert len(part["within"]["interval"]) == 2
    table = list(csv.DictReader((tmp_path / "run/summary.csv").open()))
    assert {"close_call", "within", "CLEVR", "PixMo-Count"} <= {row["name"] for row in table}

    monkeypatch.chdir(tmp_path)
    inside(*flags.split(), "--output_dir", "run")
    again = capsys.readouterr().out
    assert "24 of 24" in again and "12 of 24" not in again and predictions(tmp_path / "run") == rows
    assert summary(tmp_path / "run") == found


def test_all_kinds_of_clevr_questions(real_data, tmp_path, capsys):
    flags = ["--profile", "embedded", "--dataset", "CLEVR", "--data", real_data / "clevr", "--samples", "30"]
    inside(*flags, "--start_sample", "10", "--output_dir", tmp_path / "run")
    printed = capsys.readouterr().out
    tasks = summary(tmp_path / "run")["tasks"]
    assert sum(part["n"] for part in tasks.values()) == 30 and 0 < tasks["CLEVR"]["n"] < 30 and len(tasks) > 3
    assert all(name in printed for name in (*tasks, "mean_of_tasks", "within 1"))


def test_a_chat_model_counts_the_same_in_any_batches(tmp_path):
    save_model(tmp_path, "qwen2_5_vl")
    flags = f"--profile embedded --model {tmp_path} --samples 3 --dataset clevr pixmo --max_new_tokens 6"
    for size in ("1", "4"):
        inside(*flags.split(), "--batch_size", size, "--output_dir", tmp_path / f"by{size}")
    one, four = predictions(tmp_path / "by1"), predictions(tmp_path / "by4")
    assert one == four and len(one) == 6
    assert all("between <answer> and </answer>" in row["prompt"] for row in one)
    assert len({row["completions"][0] for row in one}) > 3


KILLS = [
    ("open", "predictions.jsonl", 3),
    ("open", ".summary.json.partial", 0),  # while interim results are written
    ("os.rename", "summary.csv", 1),
]


def test_killed_and_resumed_with_nothing_lost_or_doubled(tmp_path):
    words = "--profile embedded --counting_only --dataset clevr pixmo --samples 6 --batch_size 1"
    words += " --interim_every 2"
    flags = [*words.split(), "--output_dir", str(tmp_path / "cut")]
    logs = (tmp_path / "log", tmp_path / "log")
    kept: list[dict] = []
    for point in KILLS:
        process = processes.start(SCRIPT, *flags, folder=tmp_path, logs=logs, prepare=KillAt(*point))
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, (point, (tmp_path / "log").read_text()[-2000:])
        with (tmp_path / "cut/predictions.jsonl").open("a") as file:
            file.write('{"id": "torn in tw')  # as a kill amid a write leaves it
        rows = predictions_before_tear(tmp_path / "cut")
        assert rows[: len(kept)] == kept
        kept = rows
    assert 4 <= len(kept) < 12
    inside(*flags)
    inside(*words.split(), "--output_dir", tmp_path / "whole")
    assert predictions(tmp_path / "cut") == predictions(tmp_path / "whole")
    assert same_scores(tmp_path / "cut", tmp_path / "whole")
    assert summary(tmp_path / "cut")["answers_from_before"] == len(kept)


def predictions_before_tear(folder) -> list[dict]:
    *whole, _ = (folder / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in whole]


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--dataset vsr", "--dataset vsr: must be among clevr, sat, cvbench, pixmo"),
        ("--data rows.parquet", "--data rows.parquet is one data set; name it with --dataset"),
        ("--dataset sat --data nowhere.parquet", "nowhere.parquet"),
        ("--samples 0", "--samples must be at least 1"),
        ("--start_sample -1", "--start_sample must be at least 0"),
        ("--threshold -1", "--threshold must be at least 0"),
        ("--dataset pixmo --split dev", "splits train, validation, test"),
        ("--dataset clevr --samples 1 --model nowhere/at/all", "no such folder"),
    ],
)
def test_what_cannot_be_is_refused(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(SCRIPT, "--profile", "embedded", *flags.split(), capsys=capsys)
    assert not (tmp_path / "results").exists()


def test_a_folder_with_other_answers_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--profile", "embedded", "--dataset", "pixmo", "--samples", "1", "--output_dir", "run"]
    inside(*flags)
    assert "samples was 1, now 2" in refused(SCRIPT, *flags, "--samples", "2", capsys=capsys)
