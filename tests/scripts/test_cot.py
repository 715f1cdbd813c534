"""eval_cot.py as a user runs it: on the embedded model, against a server, stopped, and with wrong flags."""

from __future__ import annotations

import base64
import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from chat_server import in_turn, last_text, serving
from commands import ROOT, refused, run
from PIL import Image

from spatialvlm.papers import prompting_study
from spatialvlm.reporting.tables import PROMPTING

pytestmark = pytest.mark.slow


def here(flags: list[str], monkeypatch) -> dict:
    """Runs the script in this process; its summary. SystemExit where it refuses."""
    monkeypatch.setattr(sys, "argv", ["eval_cot.py", *flags])
    runpy.run_path(str(ROOT / "eval_cot.py"), run_name="__main__")
    return json.loads(Path(flags[flags.index("--output_dir") + 1], "summary.json").read_text())


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_the_embedded_model_writes_its_run_folder_and_goes_on(tmp_path, monkeypatch, capsys):
    flags = [
        "--profile",
        "embedded",
        "--strategy",
        "scene_graph",
        "--limit",
        "4",
        "--max_new_tokens",
        "8",
        "--output_dir",
        "run",
    ]
    printed = run("eval_cot.py", *flags, folder=tmp_path)
    assert printed.startswith("profile: embedded")
    assert "graph broken: " in printed and "> paper A" in printed and "8 requests" in printed
    before, summary = rows(tmp_path / "run"), json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["n"] == 4 and summary["strategy"]["name"] == "scene_graph"
    assert summary["strategy"]["requests"] == 8
    assert summary["strategy"]["notes"]["graph_broken"] == sum(r["notes"]["graph_broken"] for r in before)
    kept = (tmp_path / "run/predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/predictions.jsonl").write_text("".join(kept[:2]) + kept[2][:30])  # stopped while writing
    monkeypatch.chdir(tmp_path)
    resumed = here(flags, monkeypatch)
    assert "2 of 4 answers already" in capsys.readouterr().out
    assert sorted(rows(tmp_path / "run"), key=lambda r: r["id"]) == sorted(before, key=lambda r: r["id"])
    assert resumed["strategy"] == summary["strategy"] and resumed["tasks"] == summary["tasks"]


def against(base_url: str, folder: Path, *flags: str) -> list[str]:
    given = f"--profile embedded --strategy scene_graph --limit 6 --base_url {base_url} --model m"
    given += f" --concurrency 1 --max_attempts 2 --price_in 1 --price_out 10 --output_dir {folder}"
    return [*given.split(), *flags]


GRAPH = '{"objects": [], "relations": []}'


def test_a_stopped_study_repeats_no_request_and_counts_its_cost(tmp_path, monkeypatch, capsys):
    """The server refuses the key after seven requests; with the same command the study goes on."""
    limit = [7]

    def behave(_, request) -> str:
        limit[0] -= 1
        return "answer" if limit[0] >= 0 else "401"

    def say(request) -> str:
        return "<answer>A</answer>" if "<answer>" in last_text(request) else GRAPH

    with serving(behave, say) as (state, base_url):
        with pytest.raises(SystemExit) as stop:
            here(against(base_url, tmp_path / "run"), monkeypatch)
        assert stop.value.code == 2
        assert "set OPENAI_API_KEY" in capsys.readouterr().err
        assert len(rows(tmp_path / "run")) == 3
        assert sum(state.answered.values()) == 7
        limit[0] = 100
        summary = here(against(base_url, tmp_path / "run"), monkeypatch)
        assert set(state.answered.values()) == {1} and sum(state.answered.values()) == 12
        repeated = [key for key, came in state.came.items() if came > 1]
        assert len(repeated) == 1  # the one that was refused
        first = json.loads((tmp_path / "run/summary.json").read_text())
        here(against(base_url, tmp_path / "run"), monkeypatch)
        assert sum(state.came.values()) == 13
        assert json.loads((tmp_path / "run/summary.json").read_text()) == first
    assert summary["strategy"]["requests"] == 12 and summary["session"]["answered"] == 5
    assert summary["strategy"]["cost"] == pytest.approx(12 * (100 * 1 + 10 * 10) / 1e6)
    assert summary["unread"] == 0 and summary["n"] == 6
    right = sum(row["gold"] == "A" for row in rows(tmp_path / "run")) / 6
    assert summary["aggregates"]["micro"]["value"] == pytest.approx(right)
    assert "measured  m              scene_graph, n = 6" in capsys.readouterr().out


def test_a_depth_map_of_distances_is_sent_with_near_objects_bright(tmp_path, monkeypatch, capsys):
    """A map of 16 bits was white throughout, whatever it held; and one that is missing was named too late."""
    millimetres = np.linspace(500, 5000, 64 * 64).reshape(64, 64).astype(np.uint16)
    (tmp_path / "depth").mkdir()
    Image.fromarray(millimetres).save(tmp_path / "depth/cvbench-0.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    row = {"idx": 0, "type": "3D", "task": "Depth", "image": "one.png", "question": "Which is closer?"}
    row |= {"choices": ["a", "b"], "answer": "(A)", "prompt": "Which is closer?", "source": "Omni3D"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    flags = ["--strategy", "depth_map", "--data", str(tmp_path / "rows.jsonl")]
    with serving(in_turn()) as (state, base_url):
        depth = ["--depth", str(tmp_path / "depth")]
        here(against(base_url, tmp_path / "run", *flags, *depth), monkeypatch)
        for request in state.requests:
            _, sent = [part["image_url"]["url"] for part in request["messages"][0]["content"][:2]]
            grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2]))))[..., 0]
            assert np.abs(grey - 255 * (5000.0 - millimetres) / 4500).max() <= 1
        assert len(state.requests) == 2
        with pytest.raises(SystemExit):
            here(against(base_url, tmp_path / "other", *flags, "--depth", str(tmp_path)), monkeypatch)
        assert "--depth of question cvbench-0: image" in capsys.readouterr().err
        assert len(state.requests) == 2 and not (tmp_path / "other").exists()


def test_cut_off_replies_and_broken_graphs_are_counted(tmp_path, monkeypatch, capsys):
    with serving(lambda *_: "long", lambda request: '{"objects": [') as (_, base_url):
        summary = here(against(base_url, tmp_path / "run"), monkeypatch)
    assert summary["strategy"]["cut_off"] == 12
    assert summary["strategy"]["notes"] == {"graph_source": {"raw": 6}, "graph_broken": 6}
    assert summary["unread"] == 6 and summary["aggregates"]["micro"]["value"] == 0
    assert "cut off: 12 replies" in capsys.readouterr().out


def test_another_strategy_does_not_go_into_the_same_folder(tmp_path, monkeypatch, capsys):
    with serving(in_turn()) as (_, base_url):
        here(against(base_url, tmp_path / "run"), monkeypatch)
        with pytest.raises(SystemExit):
            here(against(base_url, tmp_path / "run", "--strategy", "confidence"), monkeypatch)
    assert "strategy was 'scene_graph', now 'confidence'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--strategy magic", "--strategy 'magic': there are direct, think"),
        ("--shots -1", "--shots must be at least 0"),
        ("--limit 0", "--limit must be at least 1"),
        ("--strategy think --shots 2", "takes no examples"),
        ("--strategy kshot_split --shots 0", "needs --shots of 1 or more"),
        ("--strategy kshot_split --data gone.parquet", "give a file with --exemplars"),
        ("--strategy kshot_split --exemplars gone.jsonl", "gone.jsonl"),
        ("--base_url http://localhost:1/v1", "--base_url needs --model"),
        ("--base_url localhost --model m", "is no address"),
        ("--base_url http://localhost:1/v1 --model m --adapter a", "are for local models"),
        ("--strategy depth_map --depth gone --limit 1", "--depth gone: no such folder"),
        ("--strategy optical_flow --limit 1", "takes questions about 2 image"),
        ("--split nowhere --limit 1", "has the splits"),
    ],
    ids=lambda value: value.split(" --limit")[0] if value.startswith("--") else "",
)
def test_wrong_flags_end_in_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in refused("eval_cot.py", "--profile", "embedded", *flags.split(), capsys=capsys)
    assert not (tmp_path / "results").exists()


def test_published_totals_are_over_all_questions():
    """Two direct rows and their totals: tasks weighted by CV-Bench's 788, 650, 600 and 600 questions."""
    for model, strategy, _, figures in PROMPTING["cvbench"]:
        if strategy == "direct":
            weighted = sum(f * n for f, n in zip(figures[:4], (788, 650, 600, 600), strict=True)) / 2638
            assert weighted == pytest.approx(figures[4], abs=0.02), model


def test_a_measured_row_stands_above_the_published_ones():
    tasks = {"Count": {"accuracy": 0.5}, "Depth": {"accuracy": 0.25}}
    summary = {"n": 8, "tasks": tasks, "aggregates": {"micro": {"value": 0.375}}}
    summary["strategy"] = {"name": "kshot_split", "shots": 4}
    lines = prompting_study.beside("cvbench", "tiny", summary).splitlines()
    assert lines[1].split()[-5:] == ["50.00", "-", "25.00", "-", "37.50"]
    assert [line for line in lines if line.startswith("> ")][0].split()[-1] == "77.31"
    assert len(lines) == 2 + len(PROMPTING["cvbench"])
    summary["aggregates"] = {"official": {"value": 0.5}}
    assert prompting_study.beside("sat", "tiny", summary).splitlines()[1].endswith("50.00")
