"""vsGRPO's study over finished runs: its tables follow from their predictions, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import refused, run_here

from spatialvlm.tasks.vsi.questions import FAMILIES

SCRIPT = "model/reproduce_vsi.py"
# What each run gets right of the four questions of a family, all families alike but for those named.
RIGHT = {"sft": 3, "dpo": 1, "v": 4, "v-beta0": 2, "v-beta1e-2": 4, "v-mra": 3, "v-held-out": 2}
RIGHT |= {"t": 2, "t-beta0": 1, "t-beta1e-2": 3}
TYPES = {"object_rel_direction": ("object_rel_direction_easy", "object_rel_direction_hard")}


def write_part(folder: Path, right: int) -> None:
    folder.mkdir(parents=True)
    rows = []
    for family in FAMILIES:
        for number in range(4):
            kinds = TYPES.get(family, (family,))
            score = float(number < right)
            row = {"id": f"{family}-{number}", "task": kinds[number % len(kinds)], "correct": score == 1}
            row |= {"prompt": "?", "completions": ["1"], "parsed": 1.0, "gold": 1.0}
            rows.append(row | {"score": score, "scores": [score]})
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text("{}")


@pytest.fixture
def finished(tmp_path):
    for name, right in RIGHT.items():
        run = tmp_path / "runs" / f"{name}-seed0"
        write_part(run / "trained", right)
        write_part(run / "shuffled", 1)
        if name in ("sft", "t"):
            write_part(run / "base", 1)
            write_part(run / "base-shuffled", 1)
        steps = [{"step": n, "completion_length": 3.0, "kl": 0.01 * n} for n in range(1, 8)]
        if name.startswith("t"):
            steps = [row | {"format": row["step"] / 7, "empty_thoughts": 0.25} for row in steps]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    return tmp_path / "runs"


def test_tables_follow_from_the_predictions(finished, tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\nwritten by hand\n")
    flags = ["--output_dir", finished, "--results", results, "--ablations", "all"]
    printed = run_here(SCRIPT, *flags, folder=tmp_path)
    text = results.read_text()
    assert "written by hand" in text and text.split("<!-- vsi -->")[1].strip()[:40] in printed
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    first = {row[0]: row for row in rows if len(row) == 9}  # the table of scores, with images shuffled
    means = {name: row[7].split()[0] for name, row in first.items() if name}
    assert means | {"base": "25.0", "SFT": "75.0", "DPO": "25.0", "vsGRPO-V": "100.0"} == means
    assert [cell.split()[0] for cell in first["vsGRPO-T"][1:]] == ["50.0"] * 7 + ["25.0"]
    claims = {row[0]: row for row in rows if len(row) == 6}
    assert claims["vsGRPO-V above SFT"][1:3] == ["+5.8", "+25.0 (+1.3 to +48.7)"]
    assert claims["vsGRPO-V above SFT"][3] == "24, 1" and claims["vsGRPO-V above SFT"][5] == "**held**"
    assert claims["vsGRPO-V above SFT"][4].startswith("+0.0 (-")
    assert claims["DPO above base"][5] == "**undecided**"
    assert claims["think: a KL weight of 0.0001 above 0.01"][5] == "**not held**"
    assert claims["MRA as reward above the relative error"][2].startswith("-25.0 (")
    assert claims["held-out families gain"][3] == "8, 1" and claims["count: vsGRPO-V above SFT"][1] == "+24.0"
    assert "SFT 6 of 6 (count, " in text and "DPO 0 of 6;" in text
    course = next(
        line for line in text.splitlines() if line.startswith("| vsGRPO-T, beta 0 ") and "%" in line
    )
    assert "14 % to 71 %" in course and "25 % to 25 %" in course
    commands = (finished / "commands.txt").read_text().splitlines()
    assert len(commands) == len(set(commands)) == 10
    assert sum("--test_base true" in command for command in commands) == 2
    assert run_here(SCRIPT, *flags, folder=tmp_path) and results.read_text() == text


def test_only_what_has_been_trained_is_told(finished, tmp_path):
    flags = ["--output_dir", finished, "--results", tmp_path / "R.md"]
    shutil.rmtree(finished / "v-mra-seed0")
    text = run_here(SCRIPT, *flags, folder=tmp_path)
    assert "9 commands" in text and "Not trained here: vsGRPO-V, MRA as reward" in text
    assert "MRA as reward above" not in text
    for name in set(RIGHT) - {"sft", "dpo", "v"}:
        shutil.rmtree(finished / f"{name}-seed0", ignore_errors=True)
    text = run_here(SCRIPT, *flags, folder=tmp_path)
    assert "vsGRPO-T, beta 0" not in text.split("Not trained here")[0] and "3 commands" in text


def test_sizes_that_make_no_sense(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--eval_limit must be at least 6" in refused(SCRIPT, "--eval_limit", "4", capsys=capsys)
    assert "--max_steps must be at least 1, not 0" in refused(SCRIPT, "--max_steps", "0", capsys=capsys)
    line = refused(SCRIPT, "--ablations", "x", capsys=capsys)
    assert "--ablations x: must be all, or some of t, t-beta0" in line and " dpo" not in line
