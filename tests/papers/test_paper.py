"""The paper: figures collected from runs, no number typed by hand, a PDF that builds from figures alone."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from scripts import commands

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.papers import sat_study, sparkle_study, vsi_study
from spatialvlm.papers.study import AFTER, BEFORE
from spatialvlm.reporting import comparison
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.cvbench import published
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES
from spatialvlm.tasks.vsi.questions import FAMILIES as ROOM_FAMILIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "paper"))

from collect import collect
from figures import claims, number, points, share, written

PAPER = commands.ROOT / "paper"
SOURCES = sorted(PAPER.glob("*.typ"))
FIGURES = PAPER / "figures.json"
CALLS = r"(?:n|short|verdict|has|arms|claims|accuracies|plot|find)"
NAMES = (  # what may have a digit in the text, longest first
    *("PaliGemma 2 3B", "PaliGemma 2", "Qwen2.5-VL", "Qwen2-VL 2B", "Qwen2-VL", "VSI-100k", "GRPO-v1"),
    *("GRPO-v2", "Pass\\@4", "3D", "v1 ", "v2 "),
)
LAYOUT = (
    r"-?\d+(?:\.\d+)?(?:pt|em|cm|fr)|width: \d+%|\(auto,\) \* \d+|size: \d+|numbering: \"1\.?\"|paper: \"a4\""
)
NUMBER_WORDS = (
    r"\b(?:three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|thousand|million|dozen)\b"
)


# ---- runs as the studies leave them, with answers drawn at random


def write(folder: Path, records: Sequence[dict], summary: dict | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "summary.json").write_text(json.dumps(summary or {}))


def write_training(folder: Path, rows: Sequence[dict], **arguments) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps({"arguments": arguments, "git_commit": "0123456789"}))


def write_facts(folder: Path) -> None:
    (folder / "commands.txt").write_text("python one.py\npython two.py\n")
    (folder / "seconds.txt").write_text("120\n60\n")


def sat_runs(folder: Path) -> Path:
    def answers(name: str, tasks: Sequence[str]) -> list[dict]:
        rng = Random(name)
        return [{"id": f"{t}-{i}", "task": t, "correct": rng.random() < 0.7} for t in tasks for i in range(6)]

    for name, arm in (sat_study.ARMS | {sat_study.UNFILTERED: UNFILTERED}).items():
        for seed in (0, 1):
            run = folder / f"{arm.folder}-seed{seed}"
            for stage in (*(BEFORE if name == "SFT" else ()), *AFTER):
                for test in sat_study.TESTS:
                    tasks = ("Depth", "Distance") if "ood" in test else published.COLUMNS[:-1]
                    write(run / f"{stage}{test}", answers(f"{run.name}{stage}{test}", tasks))
            rows = [{"reward": 0.5 + step / 10, "informative": 0.2} for step in range(3)]
            write_training(run, rows, max_steps=3, num_generations=4, train_limit=8)
    write_facts(folder)
    return folder


UNFILTERED = sat_study.ABLATIONS[sat_study.UNFILTERED]
UNTRAINED = "vsGRPO-T, beta 0.01"  # one of the ablations


def room_runs(folder: Path) -> Path:
    def answers(name: str) -> list[dict]:
        rng = Random(name)
        found = []
        for task in ROOM_FAMILIES:
            asked = "object_rel_direction_easy" if task == "object_rel_direction" else task
            for index in range(5):
                score = rng.randrange(11) / 10
                found.append({"id": f"{task}-{index}", "task": asked, "correct": score == 1, "score": score})
        return found

    for name, arm in (vsi_study.ARMS | vsi_study.ABLATIONS).items():
        run = folder / f"{arm.folder}-seed0"
        if name == UNTRAINED:
            continue
        for part in (*(BEFORE if arm.base else ()), *AFTER):
            write(run / part, answers(f"{run.name}-{part}"))
        habits = {"format": 0.5, "empty_thoughts": 0.25} if arm.folder.startswith("t") else {}
        rows = [{"completion_length": 4.0 + step, "kl": 0.01, **habits} for step in range(6)]
        arguments = {"max_steps": 6, "num_generations": 14, "num_frames": 4}
        write_training(run, rows, beta=1e-4, **arguments)
    write_facts(folder)
    return folder


def node_runs(folder: Path) -> Path:
    for arm in sparkle_study.ARMS.values():
        for part in (*(BEFORE if arm.base else ()), *AFTER):
            rng = Random(arm.folder + part)
            basic = [
                {"id": f"{name}-{i}", "task": name, "correct": rng.random() < 0.6}
                for name in FAMILIES
                for i in range(4)
            ]
            routes = [
                {
                    "id": f"{task}-{i}",
                    "task": task,
                    "correct": right,
                    "parsed": "N1 | optimal" if right else None,
                }
                for task in ("path_4x4", "path_5x5", "tour")
                for i, right in ((i, rng.random() < 0.3) for i in range(8))
            ]
            run = folder / f"{arm.folder}-seed0"
            write(run / part, basic, {"tasks": {name: {"chance": 0.25} for name in FAMILIES}})
            write(run / f"{part}-composite", routes)
    write_facts(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    sat_runs(folder / "reproduce_sat")
    room_runs(folder / "reproduce_vsi")
    node_runs(folder / "reproduce_sparkle")
    return folder


@pytest.fixture(scope="module")
def whole(runs) -> dict:
    """The figures where every study is there; measurements as the repository has them."""
    return json.loads(FIGURES.read_text()) | collect(runs)


# ---- collecting


def records(folder: Path) -> list[dict]:
    return read_lines(folder / "predictions.jsonl")


def test_shares_and_claims_are_those_of_the_reports(runs, whole):
    found = whole["sat"]
    run = runs / "reproduce_sat"
    asked = comparison.questions(records(run / "sft-seed0/trained"))
    v2 = [comparison.score(records(run / f"v2-seed{seed}/trained")) for seed in (0, 1)]
    assert found["pass1"]["v2"]["Total"]["share"] == pytest.approx(comparison.mean(v2, asked).value, abs=1e-6)
    assert found["seeds"] == 2 and found["questions"] == 24 and found["commands"] == 2
    assert written(found["minutes"])["text"] == "3"
    for part in (found, whole["vsi"], whole["sparkle"]):
        for key, each in part["claims"].items():
            low, high = each["difference"]["interval"]
            assert each["verdict"] == ("held" if low > 0 else "not held" if high < 0 else "undecided")
            assert ("shuffled" in each) == (not key.endswith("looks"))
    blind = [comparison.score(records(run / f"v2-seed{seed}/shuffled")) for seed in (0, 1)]
    sft = [comparison.score(records(run / f"sft-seed{seed}/shuffled")) for seed in (0, 1)]
    lead = comparison.mean(comparison.difference(blind, sft), asked).value
    assert found["claims"]["v2_above_sft"]["shuffled"]["points"] == pytest.approx(lead, abs=1e-6)
    gaps = [
        sum(r["correct"] for r in records(run / f"{arm}-seed{seed}/trained") if r["task"].startswith("D"))
        - sum(r["correct"] for r in records(run / f"{arm}-seed{seed}/trained-ood"))
        for arm in ("sft", "v2")
        for seed in (0, 1)
    ]
    smaller = (gaps[0] + gaps[1] - gaps[2] - gaps[3]) / 24
    assert found["claims"]["gap"]["difference"]["points"] == pytest.approx(smaller, abs=1e-6)


def test_families_and_capabilities_are_recomputed_by_hand(runs, whole):
    answers = records(runs / "reproduce_vsi/v-seed0/trained")
    counts = [record["score"] for record in answers if record["task"] == "object_counting"]
    assert whole["vsi"]["ways"]["v"]["count"]["share"] == pytest.approx(sum(counts) / len(counts), abs=1e-6)
    shuffled = records(runs / "reproduce_vsi/v-seed0/shuffled")
    gain = [one["score"] - other["score"] for one, other in zip(answers, shuffled, strict=True)]
    found = whole["vsi"]["claims"]["v_looks"]["difference"]
    assert found["points"] == pytest.approx(sum(gain) / len(gain), abs=1e-6) and found["n"] == 30
    basic = records(runs / "reproduce_sparkle/sft-seed0/trained")
    for capability in CAPABILITIES:  # every family has as many questions
        right = [record["correct"] for record in basic if FAMILIES[record["task"]].capability == capability]
        found = whole["sparkle"]["ways"]["sft"][capability]["share"]
        assert found == pytest.approx(sum(right) / len(right), abs=1e-6)
    found = whole["sparkle"]
    above = found["claims"]["sft_chance"]["difference"]
    assert above["points"] == pytest.approx(found["ways"]["sft"]["all"]["share"] - 0.25, abs=1e-5)
    assert written(found["chance"])["text"] == "25.0"
    alone = found["ways"]["sft_direction"]["direction"]["share"] - 0.25
    assert found["claims"]["sft_direction_chance"]["difference"]["points"] == pytest.approx(alone, abs=1e-5)
    assert written(found["claims"]["sft_path_5x5"]["published"])["text"] == "+26.5"
    assert found["claims"]["sft_paths"]["difference"]["n"] == 16
    kept = whole["vsi"]["courses"]
    assert written(kept["t"]["format_first"])["text"] == "50" and "format_first" not in kept["v"]
    assert written(whole["vsi"]["families"]["object_counting"]["published"])["text"] == "+24.0"


@pytest.mark.parametrize(
    ("study", "lost"),
    [
        ("sat", "reproduce_sat/v2-seed1/trained-ood/predictions.jsonl"),
        ("sat", "reproduce_sat/sft-seed0/base-shuffled/summary.json"),
        ("vsi", "reproduce_vsi/sft-seed0/base/predictions.jsonl"),
        ("sparkle", "reproduce_sparkle/grpo-seed0/shuffled-composite/summary.json"),
    ],
)
def test_a_study_that_is_not_whole_is_left_out(runs, tmp_path, study, lost):
    shutil.copytree(runs, tmp_path / "results")
    (tmp_path / "results" / lost).unlink()
    found = collect(tmp_path / "results")
    assert {"sat", "vsi", "sparkle"} - found.keys() == {study}


def test_ablations_are_left_out_alone(runs, tmp_path):
    for name in ("reproduce_vsi", "reproduce_sat"):
        shutil.copytree(runs / name, tmp_path / name)
    shutil.rmtree(tmp_path / "reproduce_vsi/v-mra-seed0")
    shutil.rmtree(tmp_path / "reproduce_sat/v2-unfiltered-seed1")
    found = collect(tmp_path)
    assert found["vsi"]["missing"] == f"{UNTRAINED}; vsGRPO-V, MRA as reward"
    assert "mra" not in found["vsi"]["claims"] and "kl_think" in found["vsi"]["claims"]
    assert "filtering" not in found["sat"]["claims"] and "v2-unfiltered" not in found["sat"]["pass1"]
    for arm in vsi_study.ABLATIONS.values():
        shutil.rmtree(tmp_path / f"reproduce_vsi/{arm.folder}-seed0", ignore_errors=True)
    found = collect(tmp_path)["vsi"]
    assert set(found["courses"]) == {"v"} and "v_above_sft" in found["claims"]


def test_no_study_is_refused(tmp_path):
    with pytest.raises(UserError, match="no study is there"):
        collect(tmp_path)


def test_spoilt_files_are_refused_by_name(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "results")
    spoilt = tmp_path / "results/reproduce_vsi/v-seed0/config.json"
    spoilt.write_text("{")
    with pytest.raises(UserError, match="config.json is no JSON"):
        collect(tmp_path / "results")


# ---- writing


def test_figures_are_written_as_the_tables_write_them():
    half = metrics.Estimate(0.5325, (0.501, 0.564), 800)
    assert written(share(half)) == {"text": "53.2 (50.1 to 56.4)", "short": "53.2", "n": "800"}
    lower = metrics.Estimate(-0.004, (-0.012, 0.004), 800)
    assert written(points(lower))["text"] == "−0.4 (−1.2 to +0.4)"
    found = claims({"a": comparison.Claim("a above b", lower, 3, 5.59, half)})["a"]
    assert found["verdict"] == "undecided" and found["seeds"] == 3
    assert written(found["published"])["text"] == "+5.6" and written(found["difference"])["n"] == "800"
    assert written(found["shuffled"])["text"] == "+53.2 (+50.1 to +56.4)"
    assert written(number(1.9e-6, "e"))["text"] == "2 · 10⁻⁶" and written(number(0.0, "e"))["text"] == "0"
    assert written(12345)["text"] == "12,345" and written("held")["short"] == "held"


# ---- no number by hand


def prose(text: str) -> str:
    """A source without comments, references to figures, layout, and names that have digits."""
    text = re.sub(r"(?<!:)//[^\n]*", "", text)
    text = re.sub(CALLS + r"\((?:\s*\"[^\"]*\",?)+", "(", text)
    text = re.sub(r'only: \([^)]*\)|font: "[^"]*"', "", text)
    text = re.sub(LAYOUT, "", text)
    for name in NAMES:
        text = text.replace(name, "")
    return text


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_number_is_typed_by_hand(source):
    left = prose(source.read_text(encoding="utf-8"))
    found = [line.strip() for line in left.splitlines() if re.search(r"\d", line)]
    assert not found
    assert not re.search(NUMBER_WORDS, left, re.I)


@pytest.mark.parametrize(
    "typed", ["rose by 3 points", "at 53.2 (", "of twelve runs", "in 95 % of", "in 95% of", "G4"]
)
def test_a_number_typed_by_hand_is_found(typed):
    left = prose(f'It {typed} after PaliGemma 2 3B, #n("sat.v1") and #text(size: 9pt)[x].')
    assert re.search(r"\d", left) or re.search(NUMBER_WORDS, left)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_reference_exists(source, whole):
    def has(figures: dict, path: str) -> bool:
        part = figures
        for key in path.split("."):
            if key not in part:
                return False
            part = part[key]
        return True

    text = source.read_text(encoding="utf-8")
    called = r"#?\b(?:n|short|verdict|has|arms|claims|accuracies|find)\("
    paths = re.findall(called + r'"([a-z]+\.[\w.-]*\w)"[,)]', text)
    committed = json.loads(FIGURES.read_text())
    optional = set(re.findall(r'#if has\("([a-z]+\.[\w.-]*\w)"\)', text))  # and what stands with it
    optional = {path for path in optional if not has(committed, path)}
    for path in paths:
        assert has(whole, path), path
        if path.split(".")[0] in committed and not optional:
            assert has(committed, path), path


# ---- building


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("typst", reason="typst is not installed (it is in requirements.txt)")
    import build

    return build


def test_the_command_builds_the_committed_paper(build, tmp_path):
    said = commands.run_here("paper/build.py", "--output_dir", str(tmp_path), folder=tmp_path)
    pdf = (tmp_path / "paper.pdf").read_bytes()
    assert str(tmp_path / "paper.pdf") in said
    assert pdf.startswith(b"%PDF") and 4 <= pages(pdf) <= 8
    assert pdf == (commands.ROOT / "paper.pdf").read_bytes(), "paper.pdf is old; run python paper/build.py"


def test_with_every_study_the_paper_keeps_its_length(build, whole):
    pdf = build.compiled(whole, "pdf")
    assert 4 <= pages(pdf) <= 8
    assert pdf == build.compiled(json.loads(json.dumps(whole)), "pdf")


def test_without_ablations_it_builds(build, whole):
    part = json.loads(json.dumps(whole))
    part["vsi"] |= {"missing": "think"}
    del part["vsi"]["thinking_base"], part["sat"]["claims"]["filtering"]
    for of in ("pass1", "pass1_ood", "curves"):
        del part["sat"][of]["v2-unfiltered"]
    assert build.compiled(part, "pdf").startswith(b"%PDF")


def test_without_studies_and_measurements_it_still_builds(build, whole):
    kept = {name: whole[name] for name in ("sparkle", "embedded", "readers", "method")}
    assert build.compiled(kept, "pdf").startswith(b"%PDF")


def test_a_missing_figure_is_named(build, whole):
    spoilt = json.loads(json.dumps(whole))
    del spoilt["sat"]["claims"]["gap"]
    with pytest.raises(UserError, match="figures.json has no sat.claims.gap"):
        build.compiled(spoilt, "pdf")


def test_missing_figures_are_refused(tmp_path, capsys):
    line = commands.refused("paper/build.py", "--figures", str(tmp_path / "none.json"), capsys=capsys)
    assert "no such file; collect the figures with --collect" in line
