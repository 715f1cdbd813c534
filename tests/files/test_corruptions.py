"""Rows and files spoilt at random in every form that is read: the right value, or a line that names the row.

DRILLS=500 pytest -s tests/files/test_corruptions.py     # as many in each form, counted; a few by default
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random

import pandas
import pytest
import test_cvbench
import test_vsibench
import test_vsr
import test_whatsup
import tiny
from boxed_rooms import made as room
from test_cvbench import png

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import Benchmark
from spatialvlm.evaluation.evaluate import Settings, gold_answers
from spatialvlm.example import Example, open_image
from spatialvlm.prompting import exemplars
from spatialvlm.tasks import predictions
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import described, thoughts
from spatialvlm.tasks.counting import pixmo
from spatialvlm.tasks.registry import benchmark
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import vsi_100k
from spatialvlm.tasks.vsi.questions import candidates
from spatialvlm.tasks.vsi.scoring import VSIBENCH
from spatialvlm.tasks.vsr import data as vsr
from spatialvlm.tasks.whatsup import data as whatsup
from spatialvlm.worlds.clevr import scenes

CVBENCH, CLEVR, SUPERCLEVR, SAT, VSR = map(benchmark, ("cvbench", "clevr", "superclevr", "sat", "vsr"))
DRILLS = int(os.environ.get("DRILLS", "15"))
ROWS = 6
Rows = list  # of records, or of What'sUp's lists

# ---- whole rows of each data set


def cvbench_row(n: int) -> dict:
    return test_cvbench.row(n, "Count" if n % 2 else "Depth", image=png(n))


def sat_row(n: int) -> dict:
    row = {"image_bytes": [png(n)], "question": f"What is near {n}?", "answers": ["the chair", "a, b"]}
    return row | {"question_type": "obj_movement", "correct_answer": "the chair"}


def clevr_row(n: int) -> dict:
    asked, answer = [("How many cubes are there?", n), ("Are there any cubes?", "yes")][n % 2]
    return {"image": png(n), "problem": asked, "solution": f"<answer> {answer} </answer>"}


def question_row(n: int) -> dict:
    asked, answer, last = [
        ("How many cubes are there?", str(n), "count"),
        ("Are there any cubes?", "yes", "exist"),
    ][n % 2]
    program = [{"function": "scene", "inputs": []}, {"function": last, "inputs": [0]}]
    row = {"question": asked, "answer": answer, "image_filename": f"CLEVR_val_{n:06}.png"}
    return row | {"question_index": n, "program": program, "split": "val"}


def vehicle_row(n: int) -> dict:
    asked, answer = [("How many buses are there?", n), ("Are there any jets?", True)][n % 2]
    return {"question": asked, "answer": answer, "image_filename": f"CLEVR_val_{n}.png", "question_index": n}


def r1v_row(n: int) -> dict:
    return {"image_path": png(n), "question": "How many buses are there?", "ground_truth": n}


def thoughts_row(n: int) -> dict:
    row = {"image": png(n), "problem": "How many cubes are there?", "thinking": f"I see {n}."}
    return row | {"solution": f"<answer> {n} </answer>"}


def vsi_row(n: int) -> dict:
    return test_vsibench.row(n, test_vsibench.TYPES[n])


@cache
def vsi_100k_rows() -> list[dict]:
    found = []
    for name, listed in candidates(room(0)).items():
        found += [vsi_100k.row(room(0), listed[0], 0, ["0.png", "1.png"], "centers")] if listed else []
        assert name
    return found[:ROWS]


@cache
def sparkle_rows() -> list[dict]:
    made = sparkle.load("embedded", "test", limit=ROWS)
    return [sparkle.row(example, png(n)) for n, example in enumerate(made)]


def pixmo_row(n: int) -> dict:
    row = {"image_url": f"http://127.0.0.1:9/{n}.png", "image_sha256": hashlib.sha256(png(n)).hexdigest()}
    return row | {"count": n, "label": "people", "points": [{"x": 1.0, "y": 2.0}]}


@cache
def scene_rows() -> list[dict]:
    made = [scenes.make("drills", number, 4, 4) for number in range(3)]
    return [scene | {"image_filename": f"CLEVR_val_{n:06}.png"} for n, scene in enumerate(made)]


def merged_row(n: int) -> dict:
    row = {
        "id": f"clevr-val-{n}",
        "question": "How many cubes are there?",
        "answer": str(n),
        "axes": "camera",
    }
    row |= {"image": png(n), "family": "count", "split": "val", "described_answer": str(n)}
    row |= {f"description_{style}": f"There are {n} cubes." for style in described.STYLES}
    return row | {"image_filename": f"CLEVR_val_{n:06}.png", "question_index": n}


def exemplar_row(n: int) -> dict:
    row = {"id": f"example-{n}", "image": png(n), "prompt": f"What is {n}?", "answer": "(A)"}
    return row | {"graph": {"objects": [{"id": n}]}}


def prediction_row(n: int) -> dict:
    return {"id": f"cvbench-{n}", "prediction": f"({'ABC'[n % 3]})"}


# ---- files


def parquet(folder: Path, rows: Rows) -> Path | None:
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        pandas.DataFrame(rows, columns=list(names)).to_parquet(folder / "test.parquet")
    except (ValueError, TypeError, OSError, OverflowError):
        return None  # arrow cannot hold such a column at all
    return folder / "test.parquet"


def jsonl(folder: Path, rows: Rows) -> Path:
    """Images as files beside the rows."""
    lines = []
    for n, row in enumerate(rows):
        plain = dict(row)
        for name, value in row.items():
            value = value["bytes"] if isinstance(value, dict) and value.get("bytes") else value
            pictures = value if isinstance(value, list) else [value]
            if any(isinstance(each, bytes) for each in pictures):
                (folder / f"{n}.png").write_bytes(pictures[0])
                plain[name] = f"{n}.png" if value is pictures[0] else [f"{n}.png"]
        lines.append(dumps(plain) + "\n")
    (folder / "test.jsonl").write_text("".join(lines))
    return folder / "test.jsonl"


def dumps(value: object) -> str:
    """JSON also of what is nested deeper than Python writes, and of numbers longer than it converts."""
    return json.dumps(value).replace('"DEEP"', "[" * 3000 + "]" * 3000).replace('"LONG"', "9" * 5000)


def with_images(folder: Path, names: Sequence[str], form: str = "PNG") -> None:
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tiny.image(n).save(folder / name, form)


def beside(write: Callable[[Path, Rows], Path], names: Sequence[str]) -> Callable[[Path, Rows], Path]:
    def written(folder: Path, rows: Rows) -> Path:
        with_images(folder, names)
        return write(folder, rows)

    return written


def official(file: str, key: str, names: Sequence[str]) -> Callable[[Path, Rows], Path]:
    """A folder with images and one JSON file, whose list `key` are the rows."""

    def written(folder: Path, rows: Rows) -> Path:
        with_images(folder, [f"images/{name}" for name in names])
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(dumps({"info": {}, key: rows}))
        return folder

    return written


def described_folder(folder: Path, rows: Rows) -> Path:
    questions = [question_row(n) | {"answer": "3"} for n in (0, 2, 4)]
    for n, row in enumerate(questions):
        row["image_filename"] = f"CLEVR_val_{n:06}.png"
    (folder / "questions").mkdir()
    (folder / "questions/CLEVR_val_questions.json").write_text(json.dumps({"questions": questions}))
    return official("scenes/CLEVR_val_scenes.json", "scenes", CLEVR_NAMES)(folder, rows)


def controlled_file(folder: Path, rows: Rows) -> Path:
    names = [row["image_path"].removeprefix("data/") for row in CONTROLLED]
    with_images(folder, names, "JPEG")
    (folder / "controlled_images_dataset.json").write_text(dumps(rows))
    return folder


def coco_file(folder: Path, rows: Rows) -> Path:
    with_images(folder, [f"val2017/{n:012}.jpg" for n in range(ROWS)], "JPEG")
    (folder / "coco_qa_two_obj.json").write_text(dumps(rows))
    return folder


def pixmo_file(folder: Path, rows: Rows) -> Path:
    for n in range(ROWS):
        (folder / hashlib.sha256(png(n)).hexdigest()).write_bytes(png(n))
    return jsonl(folder, rows)


CLEVR_NAMES = [f"CLEVR_val_{n:06}.png" for n in range(ROWS)]
CONTROLLED = test_whatsup.TABLES["controlled_images_dataset.json"]
COCO = [[n, f"A bear above {n} logs", f"A bear below {n} logs"] for n in range(ROWS)]

# ---- what is read of them


def contents(examples: Sequence[Example], images: bool = True) -> list:
    """All that an example says, to be compared."""
    return [
        (e.id, e.question, e.answer, e.choices, e.task, e.prompt)
        + (tuple(open_image(image).tobytes() for image in e.images) if images else ())
        for e in examples
    ]


def evaluated(
    benchmark: Benchmark, load: Callable | None = None, images: bool = True
) -> Callable[[Path], list]:
    """Reads all that an evaluation reads before it scores."""

    def read(path: Path) -> list:
        examples = (load or benchmark.load)(str(path))
        gold_answers(examples, Settings(benchmark.rules["strict"], batch_size=4), None)
        return contents(examples, images)

    return read


def read_thoughts(path: Path) -> list:
    return contents(thoughts.load(path))


def read_whatsup(path: Path) -> list:
    return contents(whatsup.load(path))


def read_pixmo(path: Path) -> list:
    return contents(pixmo.load(path, cache=path.parent))


def read_exemplars(path: Path) -> list:
    found = exemplars.from_file(path, ROWS)
    return [(contents([each.example]), json.loads(each.graph)) for each in found]


def read_predictions(path: Path) -> list:
    return sorted(predictions.texts(str(path), None, [f"cvbench-{n}" for n in range(ROWS)]).items())


@dataclass(frozen=True)
class Form:
    """A form of file: how it is read and written, its whole rows, and the columns that a score hangs on."""

    read: Callable[[Path], list]
    rows: Callable[[], Rows]
    write: Callable[[Path, Rows], Path]
    names: tuple[str, ...]

    def file(self, path: Path) -> Path:
        """The file of the rows."""
        return path if path.is_file() else max(path.rglob("*.json"), key=lambda each: "scene" in each.name)


def of(row: Callable[[int], dict]) -> Callable[[], Rows]:
    return lambda: [row(n) for n in range(ROWS)]


CV = ("task", "image", "question", "choices", "answer", "prompt", "source", "idx")
SAT_NAMES = ("image_bytes", "question", "answers", "question_type", "correct_answer")
VSR_NAMES = ("image", "caption", "label", "relation")
VSI_NAMES = ("question_type", "question", "ground_truth", "id", "options", "scene_name", "dataset")
VSI_100K = ("id", "question", "answer", "family", "question_type", "frames", "labels", "scene_name")
SCENE = ("image_filename", "objects", "directions", "relationships")
SPARKLE = ("id", "question", "prompt", "answer", "task", "options", "nodes", "image", "capability")
questions_file = official("questions/CLEVR_val_questions.json", "questions", CLEVR_NAMES)
scenes_file = official("scenes/CLEVR_val_scenes.json", "scenes", CLEVR_NAMES)
vehicles_file = official("questions.json", "questions", [f"CLEVR_val_{n}.png" for n in range(ROWS)])
read_vsr = evaluated(VSR, lambda path: vsr.load(path, "test", image_folder=Path(path).parent))
read_vsibench = evaluated(VSIBENCH, images=False)
read_vsi_100k = evaluated(vsi_100k.BENCHMARK)
read_sparkle = evaluated(benchmark("sparkle"))
vsr_names = [f"{n:012d}.png" for n in range(ROWS)]
frames = ["0.png", "1.png"]
FORMS: dict[str, Form] = {
    "cvbench-parquet": Form(evaluated(CVBENCH), of(cvbench_row), parquet, CV),
    "cvbench-jsonl": Form(evaluated(CVBENCH), of(cvbench_row), jsonl, CV),
    "sat-parquet": Form(evaluated(SAT, SAT.load), of(sat_row), parquet, SAT_NAMES),
    "sat-jsonl": Form(evaluated(SAT, SAT.load), of(sat_row), jsonl, SAT_NAMES),
    "clevr-parquet": Form(evaluated(CLEVR), of(clevr_row), parquet, ("image", "problem", "solution")),
    "clevr-jsonl": Form(evaluated(CLEVR), of(clevr_row), jsonl, ("image", "problem", "solution")),
    "clevr-folder": Form(evaluated(CLEVR), of(question_row), questions_file, tuple(question_row(0))),
    "clevr-scenes": Form(lambda path: contents(clevr.load_free(path)), scene_rows, scenes_file, SCENE),
    "clevr-described": Form(lambda path: contents(described.load(path)), scene_rows, described_folder, SCENE),
    "clevr-merged": Form(lambda p: contents(described.load(p)), of(merged_row), jsonl, tuple(merged_row(0))),
    "clevr-thoughts": Form(read_thoughts, of(thoughts_row), jsonl, tuple(thoughts_row(0))),
    "superclevr-folder": Form(evaluated(SUPERCLEVR), of(vehicle_row), vehicles_file, tuple(vehicle_row(0))),
    "superclevr-jsonl": Form(evaluated(SUPERCLEVR), of(r1v_row), jsonl, tuple(r1v_row(0))),
    "vsr-jsonl": Form(read_vsr, of(test_vsr.row), beside(jsonl, vsr_names), VSR_NAMES),
    "vsr-parquet": Form(read_vsr, of(test_vsr.row), beside(parquet, vsr_names), VSR_NAMES),
    "vsibench-jsonl": Form(read_vsibench, of(vsi_row), jsonl, VSI_NAMES),
    "vsibench-parquet": Form(read_vsibench, of(vsi_row), parquet, VSI_NAMES),
    "vsi-100k-jsonl": Form(read_vsi_100k, vsi_100k_rows, beside(jsonl, frames), VSI_100K),
    "vsi-100k-parquet": Form(read_vsi_100k, vsi_100k_rows, beside(parquet, frames), VSI_100K),
    "sparkle-parquet": Form(read_sparkle, sparkle_rows, parquet, SPARKLE),
    "whatsup-sets": Form(read_whatsup, lambda: CONTROLLED, controlled_file, tuple(CONTROLLED[0])),
    "whatsup-coco": Form(read_whatsup, lambda: COCO, coco_file, (0, 1, 2)),
    "pixmo": Form(read_pixmo, of(pixmo_row), pixmo_file, pixmo.COLUMNS),
    "worked-examples": Form(read_exemplars, of(exemplar_row), jsonl, tuple(exemplar_row(0))),
    "predictions": Form(read_predictions, of(prediction_row), jsonl, ("id", "prediction")),
}  # fmt: skip

# ---- what may happen to a row


def ways(value: object, of_json: bool) -> dict[str, object]:
    """What may become of a value: worthless, or the same in another type."""
    found: dict[str, object] = {"null": None, "a record": {"other": 1}, "a list": [[]], "NaN": float("nan")}
    found |= {"empty": [] if isinstance(value, list) else b"" if isinstance(value, bytes) else ""}
    if of_json:
        found |= {"nested deeply": "DEEP", "5,000 digits": "LONG"}
    if isinstance(value, str):
        found |= {"blank": " \n", "half a character": f"{value}\ud83d", "a list of it": [value, value, value]}
        if value.replace(".", "", 1).isdecimal():
            found |= {"a number": float(value)}
        if value.startswith("("):
            found |= {"beyond the choices": "(G)"}
    if isinstance(value, bool):
        found |= {"0 or 1": int(value), "a float": float(value), "a text": str(value)}
    elif isinstance(value, int):
        found |= {"a float": float(value), "a text": str(value), "a float as text": f"{value}.0"}
        found |= {"a half": value + 0.5, "infinite": float("inf")}
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        found |= {"JSON": json.dumps(value), "Python's text": str(value), "a null in it": [*value[:-1], None]}
        found |= {"numpy's text": "[" + " ".join(f"'{each}'" for each in value) + "]"}
    picture = value[0] if isinstance(value, list) and value else value
    if isinstance(picture, dict) and isinstance(picture.get("bytes"), bytes):
        picture = picture["bytes"]
    if isinstance(picture, bytes):
        spoilt = {"truncated": picture[: len(picture) // 2], "no image": b"no image"}
        spoilt |= {"base64": b64encode(picture).decode(), "broken base64": "iVBOR" * 900}
        found |= {way: [each] if isinstance(value, list) else each for way, each in spoilt.items()}
    return found


# Texts of any content may be these; no program could know what was meant.
QUESTIONS = ("question", "problem", "caption", "prompt")  # in which an image token is taken off
ANYTHING = {"blank", "empty", "half a character", "beyond the choices", "a list", "a record"}
FREE = {
    ("predictions", "prediction"): ANYTHING - {"a list", "a record"},
    ("worked-examples", "answer"): {"beyond the choices"},
    ("worked-examples", "graph"): ANYTHING,
    ("vsi-100k-jsonl", "frames"): {"empty"},
    ("vsi-100k-parquet", "frames"): {"empty"},
}


def spoil(name: str, rows: Rows, rng: Random) -> tuple[str, int | None]:
    """Spoils one field of one row, in place; or, as pandas does, of all rows. What was done, and to which."""
    form, whole_column = FORMS[name], "parquet" in name and rng.random() < 0.5
    number, column = rng.randrange(len(rows)), rng.choice(form.names)
    if isinstance(rows[0], dict) and rng.random() < 0.1:
        del rows[number][column]
        return f"{column} gone", number
    free = FREE.get((name, column), set())
    way = rng.choice([way for way in ways(rows[number][column], "parquet" not in name) if way not in free])
    if column in QUESTIONS and rng.random() < 0.2:
        rows[number][column] = f"<image>{rows[number][column]}"
        return f"{column} image token", number
    for row in rows if whole_column else [rows[number]]:
        row[column] = ways(row[column], "parquet" not in name).get(way, row[column])
    return f"{column} {way}", None if whole_column else number


# ---- what may happen to a file

BEFORE_A_RECORD = {
    "nested deeply": '"drill": ' + "[" * 5000 + "]" * 5000 + ", ",
    "5,000 digits": '"drill": ' + "9" * 5000 + ", ",
    "a name twice": '"drill": 1, "drill": 2, ',
    "a NaN": '"drill": NaN, ',
    "1e400": '"drill": 1e400, ',
    "a lone quote": '"',
    "a comma": ", ",
    "a byte 0": "\0",
    "a comment": "// from here on\n",
}


def spoil_text(text: str, rng: Random) -> tuple[str, bytes]:
    """What was done to a text file, and its bytes."""
    at = rng.choice([n for n, character in enumerate(text) if character in "{[" or text[0] == "0"])
    letter = rng.choice([n for n, character in enumerate(text) if character in "eaio0"])
    mark = rng.choice([n for n, character in enumerate(text) if character in '{}":[]' or character.isdigit()])
    quote = rng.choice([n for n, character in enumerate(text) if character in '{}"'] or [mark])
    changed = {way: (text[: at + 1] + new + text[at + 1 :]).encode() for way, new in BEFORE_A_RECORD.items()}
    changed |= {
        "byte order mark": text.encode("utf-8-sig"),
        "UTF-16": text.encode("utf-16"),
        "UTF-16, the other order": text.encode("utf-16-be"),
        "UTF-32": text.encode("utf-32"),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "CR alone": text.replace("\n", "\r").encode(),
        "blank lines": text.replace("\n", "\n\n \n").encode(),
        "Latin-1": text[:letter].encode() + b"\xe9" + text[letter + 1 :].encode(),
        "half UTF-16": text[:at].encode() + text[at:].encode("utf-16-le"),
        "cut off": text.encode()[: rng.randrange(1, len(text) - 1)],
        "empty": b"",
        "a mark gone": (text[:quote] + text[quote + 1 :]).encode(),
        "gzip": b"\x1f\x8b" + text.encode(),
        "zeros after it": text.encode() + bytes(100),
        "a web page": b"<!DOCTYPE html><html><title>404</title></html>",
    }
    way = rng.choice(list(changed))
    return way, changed[way]


# ---- the drills


def outcome(form: Form, path: Path, whole: list, named: Callable[[str], bool]) -> str:
    """`right` or `refused`; anything else is a fault."""
    try:
        found = form.read(path)
    except UserError as error:
        message = str(error)
        fine = "\n" not in message and len(message) < 2000 and named(message)
        return "refused" if fine else f"named badly: {message[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "right" if found == whole else "silent"


def report(name: str, outcomes: Sequence[tuple[str, str]]) -> None:
    """Print the counts, and fail where one drill ended otherwise."""
    counts = Counter(
        result if result in ("right", "refused", "silent") else "fault" for _, result in outcomes
    )
    print(
        f"\n{name}: {len(outcomes)} tried, "
        + ", ".join(f"{counts[key]} {key}" for key in ("right", "refused", "silent", "fault"))
    )
    bad = {f"{what}: {result}" for what, result in outcomes if result not in ("right", "refused")}
    assert not bad, "\n".join(sorted(bad))


@pytest.mark.parametrize("name", FORMS)
def test_a_spoilt_row_is_read_right_or_named(name, tmp_path):
    form = FORMS[name]
    (tmp_path / "whole").mkdir()
    whole = form.read(form.write(tmp_path / "whole", copy.deepcopy(form.rows())))
    outcomes, folder = [], tmp_path / "spoilt"
    for drill in range(DRILLS):
        rng = Random(f"{name}-{drill}")
        path = None
        while path is None:  # a table that can be
            rows = copy.deepcopy(form.rows())
            what, number = spoil(name, rows, rng)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            path = form.write(folder, rows)
        file = form.file(path).name
        outcomes.append((what, outcome(form, path, whole, partial(names_row, name, number, file))))
    report(name, outcomes)


def names_row(form: str, number: int | None, file: str, message: str) -> bool:
    """Whether a message names the row, or where all are spoilt or none can be read, the file."""
    if number is None or "is not JSON" in message:
        return file in message
    places = [f"{kind} {number}" for kind in ("row", "scene", "question")]
    column = "parquet" in form and "column" in message  # one that no row has
    return column or any(each in message for each in [*places, f"/{number}.png", f"line {number + 1} "])


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if "parquet" not in name])
def test_a_spoilt_text_file_is_read_right_or_named(name, tmp_path):
    form = FORMS[name]
    path = form.write(tmp_path, copy.deepcopy(form.rows()))
    whole, file = form.read(path), form.file(path)
    text, outcomes = file.read_text(), []
    for drill in range(DRILLS):
        what, content = spoil_text(text, Random(f"{name}-text-{drill}"))
        file.write_bytes(content)
        result = outcome(form, path, whole, lambda message: file.name in message)
        if what == "cut off" and result == "silent" and content.rstrip().endswith(b"}"):
            continue  # whole rows alone are a file
        outcomes.append((what, result))
    report(f"{name}, text", outcomes)


@pytest.mark.parametrize("name", [name for name in FORMS if "parquet" in name])
def test_a_parquet_file_that_a_copy_cut_off_is_named(name, tmp_path):
    form = FORMS[name]
    path = form.write(tmp_path, copy.deepcopy(form.rows()))
    content = path.read_bytes()
    for drill in range(10):
        path.write_bytes(content[: Random(drill).randrange(1, len(content) - 2)])
        with pytest.raises(UserError, match="test.parquet .*cannot be read"):
            form.read(path)


def test_spoilt_lists_of_ids_are_read_right_or_named(tmp_path):
    path, outcomes = jsonl(tmp_path, [vsi_row(n) for n in range(ROWS)]), []
    text = "0\n2\n3\n"

    def pruned(path: Path) -> list:
        return contents(vsibench.load(path, subset="pruned"), images=False)

    (tmp_path / "pruned_ids.txt").write_text(text)
    form = Form(pruned, of(vsi_row), jsonl, ())
    whole = pruned(path)
    for drill in range(DRILLS):
        what, content = spoil_text(text, Random(f"pruned-{drill}"))
        if what in ("cut off", "a mark gone", "a comma"):
            continue  # fewer ids are a list too
        (tmp_path / "pruned_ids.txt").write_bytes(content)
        outcomes.append((what, outcome(form, path, whole, lambda message: "pruned_ids.txt" in message)))
    report("pruned_ids", outcomes)


def test_spoilt_files_of_the_hub_are_read_right_or_named(hub, tmp_path):
    form, outcomes = FORMS["cvbench-jsonl"], []
    text = form.write(tmp_path, form.rows()).read_text()
    images = {file.name: file.read_bytes() for file in tmp_path.glob("*.png")}
    whole = form.read(tmp_path / "test.jsonl")
    for drill in range(DRILLS // 3):
        what, content = spoil_text(text, Random(f"hub-{drill}"))
        commit = hub.add("owner/rows", images | {"test.jsonl": content})
        place = f"owner/rows@{commit}"
        result = outcome(
            form, place, whole, lambda message, place=place: place in message or "test.jsonl" in message
        )
        if not (what == "cut off" and result == "silent" and content.rstrip().endswith(b"}")):
            outcomes.append((what, result))
    report("hub", outcomes)


@pytest.mark.parametrize("name", ["cvbench-jsonl", "vsibench-jsonl", "clevr-folder"])
def test_two_rows_of_one_id_are_named(name, tmp_path):
    form = FORMS[name]
    rows = form.rows()
    for column in {"idx", "id", "question_index"} & rows[0].keys():
        rows[4][column] = rows[1][column]
    with pytest.raises(UserError, match=r"id|idx|question_index"):
        form.read(form.write(tmp_path, rows))
