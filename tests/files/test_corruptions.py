"""Rows spoilt at random in every form of file: each ends in one line that names file and row, or is no fault.

DRILLS=500 pytest tests/files/test_corruptions.py        # as many in each form; a few by default, to be quick
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pandas
import pytest
import test_cvbench
import test_vsibench
import test_vsr
import tiny
from test_cvbench import png

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import Benchmark
from spatialvlm.evaluation.evaluate import Settings, gold_answers
from spatialvlm.tasks import predictions
from spatialvlm.tasks.registry import benchmark
from spatialvlm.tasks.vsi.scoring import VSIBENCH
from spatialvlm.tasks.vsr import data as vsr

CVBENCH, CLEVR, SUPERCLEVR, SAT, VSR = map(benchmark, ("cvbench", "clevr", "superclevr", "sat", "vsr"))
DRILLS = int(os.environ.get("DRILLS", "25"))
ROWS = 6

# ---- whole rows of each data set, and the columns that a score hangs on


def cvbench_row(n: int) -> dict:
    return test_cvbench.row(n, "Count" if n % 2 else "Depth", image=png(n))


def sat_row(n: int) -> dict:
    row = {"image_bytes": [png(n)], "question": f"What is near {n}?", "answers": ["the chair", "a, b"]}
    return row | {"question_type": "obj_movement", "correct_answer": "the chair"}


def clevr_row(n: int) -> dict:
    asked, answer = [("How many cubes are there?", n), ("Are there any cubes?", "yes")][n % 2]
    return {"image": png(n), "problem": asked, "solution": f"<answer> {answer} </answer>"}


def question_row(n: int) -> dict:
    asked, answer = [("How many cubes are there?", str(n)), ("Are there any cubes?", "yes")][n % 2]
    return {"question": asked, "answer": answer, "image_filename": f"CLEVR_val_{n}.png", "question_index": n}


def vehicle_row(n: int) -> dict:
    asked, answer = [("How many buses are there?", n), ("Are there any jets?", True)][n % 2]
    return {"question": asked, "answer": answer, "image_filename": f"CLEVR_val_{n}.png", "question_index": n}


def vsi_row(n: int) -> dict:
    return test_vsibench.row(n, test_vsibench.TYPES[n])


# ---- the forms


def parquet(folder: Path, rows: list[dict]) -> Path:
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        pandas.DataFrame(rows, columns=list(names)).to_parquet(folder / "test.parquet")
    except (ValueError, TypeError, OSError, OverflowError) as error:  # arrow cannot hold such a column at all
        pytest.skip(f"no such file can be: {error}")
    return folder / "test.parquet"


def jsonl(folder: Path, rows: list[dict]) -> Path:
    """Images as files beside the rows."""
    lines = []
    for n, row in enumerate(rows):
        plain = dict(row)
        for name, value in row.items():
            pictures = value if isinstance(value, list) else [value]
            if any(isinstance(each, bytes) for each in pictures):
                (folder / f"{n}.png").write_bytes(pictures[0])
                plain[name] = f"{n}.png" if value is pictures[0] else [f"{n}.png"]
        lines.append(json.dumps(plain) + "\n")
    (folder / "test.jsonl").write_text("".join(lines))
    return folder / "test.jsonl"


def pictures_beside(folder: Path, rows: list[dict]) -> Path:
    test_vsr.with_images(folder, range(ROWS))
    return jsonl(folder, rows)


def clevr_folder(folder: Path, rows: list[dict]) -> Path:
    (folder / "questions").mkdir()
    (folder / "images").mkdir()
    for n in range(ROWS):
        tiny.image(n).save(folder / "images" / f"CLEVR_val_{n}.png")
    (folder / "questions" / "CLEVR_val_questions.json").write_text(json.dumps({"questions": rows}))
    return folder


def vehicles_folder(folder: Path, rows: list[dict]) -> Path:
    (folder / "images").mkdir()
    for n in range(ROWS):
        tiny.image(n).save(folder / "images" / f"CLEVR_val_{n}.png")
    (folder / "questions.json").write_text(json.dumps({"questions": rows}))
    return folder


def load_vsr(path: str, split=None, limit=None):
    return vsr.load(path, "test", limit, image_folder=str(Path(path).parent))


Form = tuple[Benchmark, Callable, Callable, Callable, tuple[str, ...]]
CV = ("task", "image", "question", "choices", "answer", "prompt", "source")
FORMS: dict[str, Form] = {
    "cvbench-parquet": (CVBENCH, CVBENCH.load, cvbench_row, parquet, CV),
    "cvbench-jsonl": (CVBENCH, CVBENCH.load, cvbench_row, jsonl, CV),
    "sat-parquet": (SAT, SAT.load, sat_row, parquet, ("image_bytes", "question", "answers")),
    "sat-jsonl": (SAT, SAT.load, sat_row, jsonl, ("image_bytes", "question", "answers", "question_type")),
    "clevr-parquet": (CLEVR, CLEVR.load, clevr_row, parquet, ("image", "problem", "solution")),
    "clevr-folder": (CLEVR, CLEVR.load, question_row, clevr_folder, ("question", "answer", "image_filename")),
    "superclevr": (SUPERCLEVR, SUPERCLEVR.load, vehicle_row, vehicles_folder, ("question", "answer")),
    "vsr-jsonl": (VSR, load_vsr, test_vsr.row, pictures_beside, ("image", "caption", "label", "relation")),
    "vsibench-jsonl": (
        VSIBENCH,
        VSIBENCH.load,
        vsi_row,
        jsonl,
        ("question_type", "question", "ground_truth", "id"),
    ),
}  # fmt: skip

# ---- what may happen to a row


def spoil(rows: list[dict], names: tuple[str, ...], rng: Random) -> tuple[str, int]:
    """Spoils one field of one row, in place; what was done, and to which row."""
    number, name = rng.randrange(len(rows)), rng.choice(names)
    row, value = rows[number], rows[number][name]
    ways = ["gone", "null", "empty", "not a number", "a list", "a record"]
    if isinstance(value, str):
        ways += ["blank"]
    if name == "answer" and isinstance(value, str) and value.startswith("("):
        ways += ["beyond the choices"]
    if name in ("image", "image_bytes") and not isinstance(value, str):
        ways += ["truncated", "no image"]
    way = rng.choice(ways)
    if way == "gone":
        del row[name]
        return f"{name} {way}", number
    picture = value[0] if isinstance(value, list) else value
    spoilt = {
        "null": None,
        "empty": [] if isinstance(value, list) else b"" if isinstance(value, bytes) else "",
        "not a number": float("nan"),
        "a list": [[]],
        "a record": {"other": 1},
        "blank": "  ",
        "beyond the choices": "(G)",
        "truncated": picture[: len(picture) // 2] if isinstance(picture, bytes) else None,
        "no image": b"no image",
    }[way]
    if isinstance(value, list) and way in ("truncated", "no image"):
        spoilt = [spoilt]
    row[name] = spoilt
    return f"{name} {way}", number


def read(benchmark: Benchmark, load: Callable, path: Path) -> None:
    """All that an evaluation reads before it scores."""
    examples = load(str(path), split=None, limit=None)
    gold_answers(examples, Settings(benchmark.rules["strict"], batch_size=4), None)
    if benchmark is not VSIBENCH:  # whose images are videos, not read yet
        for example in examples:
            example.open_images()


@pytest.mark.parametrize("form", FORMS)
def test_whole_rows_are_read(form, tmp_path):
    benchmark, load, make, write, _ = FORMS[form]
    read(benchmark, load, write(tmp_path, [make(n) for n in range(ROWS)]))


@pytest.mark.parametrize("form", FORMS)
def test_a_spoilt_row_is_named(form, tmp_path):
    benchmark, load, make, write, names = FORMS[form]
    passed, impossible = [], 0
    for drill in range(DRILLS):
        rng, folder = Random(f"{form}-{drill}"), tmp_path / str(drill)
        folder.mkdir()
        rows = [make(n) for n in range(ROWS)]
        what, number = spoil(rows, names, rng)
        try:
            path = write(folder, rows)
        except pytest.skip.Exception:
            impossible += 1
            continue
        try:
            read(benchmark, load, path)
        except UserError as error:
            message = str(error)
            assert "\n" not in message, message
            column = write is parquet and "column" in message  # one that no row has
            named = f"row {number}" in message or f"/{number}.png" in message
            assert named or column, (what, number, message)
        else:
            passed.append(what)
    assert not passed, f"{len(passed)} of {DRILLS} passed unseen: {passed}"
    assert impossible < DRILLS / 2


@pytest.mark.parametrize("form", ["cvbench-jsonl", "vsibench-jsonl", "clevr-folder"])
def test_two_rows_of_one_id_are_named(form, tmp_path):
    benchmark, load, make, write, _ = FORMS[form]
    rows = [make(n) for n in range(ROWS)]
    for name in {"idx", "id", "question_index"} & rows[0].keys():
        rows[4][name] = rows[1][name]
    with pytest.raises(UserError, match=r"id|idx|question_index"):
        read(benchmark, load, write(tmp_path, rows))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_a_copy_cut_off_is_named(form, tmp_path):
    benchmark, load, make, write, _ = FORMS[form]
    whole = write(tmp_path, [make(n) for n in range(ROWS)])
    file = whole if whole.is_file() else next(whole.rglob("*.json"))
    content = file.read_bytes()
    for drill in range(10):
        file.write_bytes(content[: Random(drill).randrange(1, len(content) - 2)])
        try:
            read(benchmark, load, whole)
        except UserError as error:
            assert file.name in str(error) and "\n" not in str(error)
        else:
            assert file.suffix == ".jsonl" and file.read_bytes().endswith(b"}"), "whole lines alone may pass"


def test_spoilt_predictions_are_named(tmp_path):
    ids = [f"cvbench-{n}" for n in range(ROWS)]
    whole = [{"id": id, "prediction": "(A)"} for id in ids]
    for drill in range(DRILLS):
        rng, rows = Random(drill), copy.deepcopy(whole)
        what, number = spoil(rows, ("id", "prediction"), rng)
        if what in ("prediction empty", "prediction blank"):  # a model may say nothing: that is read as wrong
            continue
        with pytest.raises(UserError) as error:
            said = predictions.texts(str(jsonl(tmp_path, rows)), None, ids)
            raise AssertionError(f"{what} in row {number} passed: {said}")
        assert "row" in str(error.value) and "\n" not in str(error.value)
