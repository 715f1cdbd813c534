"""eval_sparkle.py, model/sparkle_sft.py, sparkle_grpo.py and reproduce_sparkle.py, as users run them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import tiny
from commands import refused, run

from spatialvlm.files.lazy import facts_of
from spatialvlm.papers.sparkle import SparkleArgs, training_set
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.whatsup.data import RELATIONS

pytestmark = pytest.mark.slow

EVAL, SFT, GRPO = "eval_sparkle.py", "model/sparkle_sft.py", "model/sparkle_grpo.py"
REPRODUCE = "model/reproduce_sparkle.py"
SMALL = ["--profile", "embedded", "--configurations", "2", "--eval_limit", "32"]
SMALL += ["--max_steps", "2"]


def test_sft_trains_and_eval_tests_its_adapter(tmp_path):
    flags = [*SMALL, "--test_base", "false", "--per_device_batch_size", "2", "--output_dir", "run"]
    printed = run(SFT, *flags, "--capabilities", "distance", "--numbers", "false", folder=tmp_path)
    assert printed.startswith("profile: embedded")
    for row in ("Sparkle basic", "direction", "distance", "localization", "images shuffled"):
        assert row in printed, row
    asked = json.loads((tmp_path / "run/config.json").read_text())["arguments"]
    assert asked["capabilities"] == ["distance"] and asked["numbers"] is False
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2

    flags = ["--profile", "embedded", "--adapter", "run/adapter", "--limit", "16", "--output_dir", "tested"]
    flags += ["--route_tokens", "8", "--data", "embedded"]
    printed = run(EVAL, *flags, folder=tmp_path)
    for row in ("- distance_order", "path_4x4_removed", "- sets", "GLM-4V 16.5 to 36.5", "Sparkle composite"):
        assert row in printed, row
    whole = json.loads((tmp_path / "tested/summary.json").read_text())
    assert whole["n"] == 48 and len(whole["tasks"]) == 16 + 5 + 1
    for block in ("basic", "composite", "real"):
        summary = json.loads((tmp_path / "tested" / block / "summary.json").read_text())
        assert (
            summary["n"]
            == 16
            == len((tmp_path / "tested" / block / "predictions.jsonl").read_text().splitlines())
        )
        for name, score in summary["aggregates"].items():
            assert whole["aggregates"][f"{block} {name}"] == score
    routes = json.loads((tmp_path / "tested/composite/summary.json").read_text())["routes"]
    assert set(routes) == set(summary_tasks(tmp_path / "tested/composite"))
    assert all({"optimal", "exact", "valid"} <= set(part) for part in routes.values())


def summary_tasks(folder: Path) -> list[str]:
    return list(json.loads((folder / "summary.json").read_text())["tasks"])


def sparkle_tasks() -> set[str]:
    return {item.task for item in sparkle_composite.load("embedded", 32)}


def test_grpo_learns_from_the_same_questions(tmp_path):
    flags = [*SMALL[:-1], "1", "--prompts_per_device", "2", "--max_resamples", "0", "--full_test", "true"]
    run(GRPO, *flags, "--output_dir", "run", folder=tmp_path)
    for part in ("base", "base-shuffled", "trained", "shuffled"):
        for test, tasks in (("", set(sparkle.FAMILIES)), ("-composite", sparkle_tasks())):
            rows = read_lines(tmp_path / f"run/{part}{test}/predictions.jsonl")
            assert len(rows) == 32 and {row["task"] for row in rows} == tasks
            assert all(("images_of" in row) == ("shuffled" in part) for row in rows)
    (row,) = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert -0.2 <= row["reward"] <= 1
    said = [json.loads(line) for line in (tmp_path / "run/completions.jsonl").read_text().splitlines()]
    assert {sample["step"] for sample in said} == {1}
    assert (tmp_path / "run/adapter/adapter_model.safetensors").exists()


# ---- the comparison's driver, over runs that are there already


def leave(folder: Path, share: float) -> None:
    """A run's tests as it leaves them, a fraction of each task's four questions correct."""
    from spatialvlm.evaluation.summary import summarize
    from spatialvlm.tasks.sparkle.scoring import BASIC, COMPOSITE

    tasks = {"": (list(sparkle.FAMILIES), BASIC), "-composite": (["path_4x4", "tour"], COMPOSITE)}
    for test, (names, benchmark) in tasks.items():
        rows = []
        for task in names:
            for number in range(4):
                right = number < 4 * share
                parsed = "N1 -> N2 | optimal" if right else "N1 -> N2 | valid, 1.5 times the shortest"
                row = {"id": f"{task}{number}", "task": task, "correct": right, "score": float(right)}
                rows.append(row | {"parsed": parsed, "gold": "N1 -> N2"})
        part = folder.with_name(f"{folder.name}{test}")
        part.mkdir(parents=True)
        summary = summarize(rows, benchmark.aggregate, benchmark.rules["strict"], benchmark.title)
        (part / "summary.json").write_text(json.dumps(summary))
        (part / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def finish(folder: Path, way: str, share: float) -> None:
    leave(folder / f"{way}-seed0/trained", share)
    leave(folder / f"{way}-seed0/shuffled", 0.25)


@pytest.fixture
def finished(tmp_path):
    """An output folder in which all has been run: base has a quarter right, SFT all, others half."""
    folder = tmp_path / "runs"
    for way in ("sft", "grpo", "sft_direction", "sft_distance", "sft_localization"):
        finish(folder, way, 1.0 if way == "sft" else 0.5)
    for part in ("base", "base-shuffled"):
        leave(folder / "sft-seed0" / part, 0.25)
    return folder


def test_the_comparison_of_finished_runs(finished, tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\nwritten by hand\n")
    flags = ["--output_dir", finished, "--results", results]
    printed = run(REPRODUCE, *flags, folder=tmp_path)
    text = results.read_text()
    assert "written by hand" in text and text.split("<!-- sparkle -->")[1].strip()[:40] in printed
    rows = [line for line in text.splitlines() if line.startswith("| SFT  ")]
    assert len(rows) == 4 and rows[0].count(" 100.0 (") == 4 and rows[0].count(" 25.0 (") == 1
    assert rows[1].count("+75.0 (") == 4  # by looking
    base = [line for line in text.splitlines() if line.startswith("| base  ")]
    assert len(base) == 4 and base[3].count(" 100.0 (") == 4  # valid routes
    claims = {line.split("|")[1].strip(): line for line in text.splitlines() if "**" in line}
    paths = claims["SFT: carries over to path 4x4, above base"]
    assert "+17.2" in paths and "+75.0 (" in paths and "| 4, 1 " in paths and "+0.0 (" in paths
    assert "**held**" in claims["GRPO: basic capabilities above base"]
    assert "**held**" in claims["SFT, distance alone: distance with its images above shuffled ones"]
    assert "**not held**" in claims["GRPO: basic capabilities above the blind baseline"]
    commands = (finished / "commands.txt").read_text().splitlines()
    assert len(commands) == len(set(commands)) == 5
    grpo = next(line for line in commands if "sparkle_grpo.py" in line)
    for flag in ("runs/embedded/sparkle_grpo.yaml", "--test_base false", "--full_test true", "--resume"):
        assert flag in grpo
    assert run(REPRODUCE, *flags, folder=tmp_path) and results.read_text() == text  # nothing is done twice
    blind = next(line for line in text.splitlines() if line.startswith("| blind baseline"))
    assert [cell.strip() for cell in blind.split("|")[2:6]] == ["100.0"] * 4  # all gold answers are alike

    finish(finished, "200_images", 0.5)  # an ablation that was run once stays in the tables
    run(REPRODUCE, *flags, folder=tmp_path)
    text = results.read_text()
    assert text.count("| SFT, 200 images ") == 4 and "SFT on all above SFT, 200 images: basic" in text
    commands = (finished / "commands.txt").read_text().splitlines()
    assert len(commands) == 6 and "--configurations 200" in commands[-1]


# ---- what is refused


def whatsup_folder(folder: Path, captions: int = 4, content: bytes | None = None) -> Path:
    """A set of What'sUp's, its first row with so many captions, its first image with these bytes."""
    texts = {
        said: f"A mug{words}a table" for said, words in RELATIONS.items() if said not in ("front", "behind")
    }
    rows = []
    for said, right in texts.items():
        (folder / "controlled_images").mkdir(exist_ok=True)
        image = folder / f"controlled_images/mug_{said}_table.jpeg"
        tiny.image(len(rows)).save(image)
        others = [text for text in texts.values() if text != right]
        rows.append(
            {"image_path": f"data/controlled_images/{image.name}", "caption_options": [right, *others]}
        )
    rows[0]["caption_options"] = rows[0]["caption_options"][:captions]
    if content is not None:
        (folder / "controlled_images/mug_left_table.jpeg").write_bytes(content)
    (folder / "controlled_images_dataset.json").write_text(json.dumps(rows))
    return folder


REAL = ["--profile", "embedded", "--blocks", "real"]


def test_one_caption_is_no_choice(tmp_path, capsys):
    folder = whatsup_folder(tmp_path, captions=1)
    line = refused(EVAL, *REAL, "--whatsup", folder, "--output_dir", tmp_path / "run", capsys=capsys)
    assert "controlled_images_dataset.json row 0: the captions of 'caption_options' must be 4 texts" in line
    assert not (tmp_path / "run").exists()


def test_an_image_that_is_missing(tmp_path, capsys):
    folder = whatsup_folder(tmp_path)
    (folder / "controlled_images/mug_on_table.jpeg").unlink()
    line = refused(EVAL, *REAL, "--whatsup", folder, "--output_dir", tmp_path / "run", capsys=capsys)
    assert "mug_on_table.jpeg is missing" in line and not (tmp_path / "run").exists()


def test_an_image_that_is_cut_off(tmp_path, capsys):
    whole = whatsup_folder(tmp_path) / "controlled_images/mug_left_table.jpeg"
    folder = whatsup_folder(tmp_path, content=whole.read_bytes()[:400])
    line = refused(EVAL, *REAL, "--whatsup", folder, "--output_dir", tmp_path / "run", capsys=capsys)
    assert "mug_left_table.jpeg cannot be read" in line
    assert not (tmp_path / "run/real/summary.json").exists()


@pytest.mark.parametrize(
    "script, flags, message",
    [
        (EVAL, ["--blocks", "basics"], "--blocks basics: must be some of basic, composite, real"),
        (EVAL, ["--limit", "0"], "--limit must be at least 1"),
        (EVAL, ["--route_tokens", "0"], "--route_tokens must be at least 1"),
        (EVAL, ["--coco", "somewhere"], "give the captions' with --whatsup"),
        (EVAL, ["--data", "./nowhere"], "no such file or folder: ./nowhere"),
        (EVAL, ["--rule", "paper"], "--rule paper: block real has strict"),
        (SFT, ["--capabilities", "vision"], "--capabilities vision: must be some of direction, distance"),
        (SFT, ["--configurations", "0"], "--configurations must be at least 1"),
        (
            SFT,
            ["--data", "somewhere", "--configurations", "200"],
            "is for rendered questions, and --data",
        ),
        (SFT, ["--eval_limit", "16"], "--eval_limit 16: the test needs two images"),
        (SFT, ["--data", "./nowhere"], "no such file or folder: ./nowhere"),
        (GRPO, ["--capabilities", "direction", "vision"], "must be some of direction, distance"),
        (GRPO, ["--num_generations", "1"], "--num_generations 1"),
        (
            "model/pali_sat_grpo.py",
            ["--data", "sparkle"],
            "model/sparkle_grpo.py trains on Sparkle's questions",
        ),
        (REPRODUCE, ["--workers", "0"], "--workers must be at least 1"),
        (REPRODUCE, ["--ablations", "pairs"], "--ablations pairs: must be all, or some of 1000_images"),
        (REPRODUCE, ["--eval_limit", "0"], "--eval_limit must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(script, flags, message, tmp_path, capsys):
    assert message in refused(script, *flags, "--output_dir", tmp_path / "run", capsys=capsys)
    assert not (tmp_path / "run").exists()


def test_test_questions_are_not_trained_on(tmp_path, capsys):
    """A single file is read whatever its name says."""
    example = sparkle.load("embedded", "test")[0]
    buffer = io.BytesIO()
    example.images[0].save(buffer, "PNG")
    sparkle.write(tmp_path / "rows.parquet", iter([sparkle.row(example, buffer.getvalue())]))
    flags = [*SMALL[:2], "--eval_limit", "32", "--data", tmp_path / "rows.parquet"]
    line = refused(SFT, *flags, "--output_dir", tmp_path / "run", capsys=capsys)
    assert f"its question '{example.id}' is one of the test" in line and not (tmp_path / "run").exists()


def test_rows_left_out_are_known_to_the_run(tmp_path):
    rows = []
    for example in sparkle.load("embedded", "train", limit=102):
        example.images[0].save(buffer := io.BytesIO(), "PNG")
        rows.append(sparkle.row(example, buffer.getvalue()))
    rows[3]["answer"] = ""
    sparkle.write(tmp_path / "rows.parquet", iter(rows))
    args = SparkleArgs(data=str(tmp_path / "rows.parquet"), form="embedded", eval_limit=32)
    assert facts_of(training_set(args)) == {"excluded": {"no 'answer'": 1}}


def test_composite_items_are_not_trained_on():
    """Even where a folder holds them beside the training rows, they are of another split."""
    tasks = {example.task for example in sparkle.load("embedded", "train", limit=34)}
    assert not tasks & {example.task for example in sparkle_composite.load("embedded", limit=10)}
