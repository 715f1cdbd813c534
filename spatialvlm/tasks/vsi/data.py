"""VSI-Bench (Yang et al., "Thinking in Space", arXiv 2412.14171): 5,130 questions about videos of rooms.

Rows hold `id, dataset, scene_name, question_type, question, ground_truth, options`; `options` are lettered
("A. left") or null, where a number is asked for. `load` reads the text; an example's image is the path of the
video in the benchmark's own layout (`scannet/scene0277_02.mp4`), which cannot be opened as a picture, so that
no model can be asked without frames unnoticed. `vsibench_videos.with_frames` puts the frames there.

VSI-Bench-Debiased (Brown et al., arXiv 2511.04655) are the questions that its authors did not prune; the
hub's `pruned_ids.txt` names those that they did, and its newer files say it in a column `pruned`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.tasks.vsi import prompts as vsi_prompts
from spatialvlm.tasks.vsi.prompts import Mode
from spatialvlm.worlds.clevr.questions import LETTERS

HUB_ID = "nyu-visionx/VSI-Bench"
DIRECTIONS = ("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard")
CHOICE_TYPES = ("object_rel_distance", *DIRECTIONS, "route_planning", "obj_appearance_order")
NUMBER_TYPES = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")
COLUMNS = ("id", "dataset", "scene_name", "question_type", "question", "ground_truth")  # and `options`

Subset = Literal["full", "debiased", "pruned"]
PRUNED_IDS = "pruned_ids.txt"

FRAMES = "These are frames of a video."  # as the authors' evaluation begins (lmms_eval/tasks/vsibench)


def load(
    path: str | Path = HUB_ID,
    split: str = "test",
    limit: int | None = None,
    subset: Subset = "full",
    mode: Mode = "vanilla",
    pruned_ids: str | Path | None = None,
) -> list[Example]:
    """The questions in their order; `answer` is a letter or a number as the benchmark writes it, `task` the
    question type, `choices` the options without their letters.

    Args:
        path: a parquet, jsonl or json file or a folder of those, with the hub's own columns; or a hub id,
            whose `test.jsonl` is read.
        limit: at most this many questions. They lie sorted by type and are taken evenly from first to last,
            so that all types stay in.
        subset: all, those of VSI-Bench-Debiased, or those that it leaves out.
        mode: how it is asked for the answer; `vanilla` is the benchmark's own way.
        pruned_ids: a file of the ids that VSI-Bench-Debiased leaves out, one a line. Where it is not given,
            the rows' column `pruned` says it, or `pruned_ids.txt` beside them or on the hub.

    Raises:
        UserError: nothing at `path`, a column that is missing, a row whose fields do not fit together, two
            rows of one id, a subset that cannot be told from the files; the message names it.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    seen: dict[str, str] = {}
    examples = []
    table = read(path, split)
    is_pruned = _pruning(table, path, pruned_ids) if subset != "full" else None
    for where, row in table:
        example = _example(where, row, mode)
        if example.id in seen:
            raise UserError(f"{where} has the id {row['id']!r} of {seen[example.id]}; remove one of them")
        seen[example.id] = where
        if is_pruned is None or is_pruned(where, row) == (subset == "pruned"):
            examples.append(example)
    if not examples:
        raise UserError(f"{path} has no VSI-Bench row" + (f" of the subset {subset}" if seen else ""))
    size = min(limit or len(examples), len(examples))
    return [examples[number * len(examples) // size] for number in range(size)]


def read(path: str | Path = HUB_ID, split: str = "test") -> rows.Rows:
    """The rows as they are; of a hub id its `<split>.jsonl`. Raises UserError where there are none."""
    return rows.read(rows.hub_file(path, f"{split}.jsonl") if rows.on_hub(path) else path, split)


def scenes(path: str | Path = HUB_ID) -> set[str]:
    """The scenes that the rows ask about: not to be trained on by who wants to test on them.

    Raises:
        UserError: nothing there, or a row without a scene.
    """
    return {rows.text(row, "scene_name", where) for where, row in read(path)}


def prompt(question: str, choices: Sequence[str] | None = None, mode: Mode = "vanilla") -> str:
    """A question as the authors' evaluation puts it, with lettered options, or for a number; `mode` changes
    its last line alone."""
    lines = [FRAMES, question]
    if choices is not None:
        options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
        lines += ["Options:", *options]
    return vsi_prompts.evaluation("\n".join(lines), mode, letters=choices is not None)


def _pruning(table: rows.Rows, path: str | Path, given: str | Path | None) -> Callable[[str, rows.Row], bool]:
    """Tells of a row whether VSI-Bench-Debiased leaves it out."""
    beside = rows.beside(path)
    file = Path(given) if given else beside / PRUNED_IDS if beside else None
    if given and not file.is_file():
        raise UserError(f"--pruned_ids {file} is no file; give the hub's {PRUNED_IDS}")
    if not given and len(table) and "pruned" in table[0][1]:
        return _pruned
    if file is None:
        file = rows.hub_file(path, PRUNED_IDS)
    if not file.is_file():
        raise UserError(
            f"--subset: the rows of {path} have no column 'pruned' and {file} is not there; give the hub's "
            f"{PRUNED_IDS} with --pruned_ids"
        )
    named = {line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
    if not named & {str(row.get("id")) for _, row in table}:
        raise UserError(f"{file} names no id that {path} has; give both of one version")
    return lambda where, row: str(row["id"]) in named


def _pruned(where: str, row: rows.Row) -> bool:
    if type(row.get("pruned")) is not bool:
        raise UserError(f"{where}: 'pruned' must be true or false, not {row.get('pruned')!r}; mend the row")
    return row["pruned"]


def _example(where: str, row: rows.Row, mode: Mode) -> Example:
    if "options" not in row:
        raise UserError(f"{where} has no column 'options'; VSI-Bench's own columns are needed")
    for name in COLUMNS:
        value = rows.need(row, name, where)
        if name not in ("id", "ground_truth") and not (isinstance(value, str) and value.strip()):
            raise UserError(f"{where}: '{name}' must be a text, not {value!r}; mend or remove the row")
    if type(row["id"]) not in (int, str):
        raise UserError(f"{where}: 'id' must be a whole number or a text, not {row['id']!r}")
    kind = row["question_type"]
    if kind not in CHOICE_TYPES + NUMBER_TYPES:
        known = ", ".join(CHOICE_TYPES + NUMBER_TYPES)
        raise UserError(f"{where}: 'question_type' {kind!r} is none of VSI-Bench's: {known}")
    if kind in CHOICE_TYPES:
        choices = _choices(row["options"], where)
        answer = _letter(row["ground_truth"], len(choices), where)
    else:
        if row["options"] is not None:
            raise UserError(f"{where}: {kind} asks for a number, but 'options' are {row['options']!r}")
        choices, answer = None, _number(row["ground_truth"], where)
    return Example(
        id=f"vsibench-{row['id']}",
        images=(Path(row["dataset"], f"{row['scene_name']}.mp4"),),
        question=row["question"],
        answer=answer,
        task=kind,
        choices=choices,
        prompt=prompt(row["question"], choices, mode),
        meta={"source": row["dataset"], "scene": row["scene_name"]},
    )


def _choices(options: Any, where: str) -> tuple[str, ...]:
    """Options without the letters that they must begin with, in order."""
    if not isinstance(options, list | tuple) or not 2 <= len(options) <= len(LETTERS):
        raise UserError(f"{where}: 'options' must be a list of two or more, not {options!r}")
    for letter, option in zip(LETTERS, options, strict=False):
        if not isinstance(option, str) or not option.startswith(f"{letter}. ") or not option[3:].strip():
            raise UserError(f"{where}: option {option!r} must begin with '{letter}. ' and say something")
    return tuple(option[3:].strip() for option in options)


def _letter(value: Any, count: int, where: str) -> str:
    if value not in tuple(LETTERS[:count]):
        raise UserError(f"{where}: 'ground_truth' {value!r} is not the letter of one of its {count} options")
    return value


def _number(value: Any, where: str) -> str:
    """A number above 0, relative to which an error can be measured, as text."""
    try:
        number = float(value) if isinstance(value, str | int | float) and value is not True else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"{where}: 'ground_truth' must be a number above 0, not {value!r}; mend the row")
    return str(value)
