"""Recompute VSI-Bench's answers from annotation, and print how many agree: a check of our geometry.

python -m spatialvlm.tasks.vsi.verify --meta_info scannet_meta_info_val.json --questions test.jsonl

By question type, it prints the number of questions, how many the annotation can answer (every object named
has a box, and only one for size and direction), and how many of those get the benchmark's own answer. Numbers
agree within the benchmark's rounding: sizes 1 cm, rooms 0.1 square metres, and distances 0.1 m, since it
measured those between points some 5 cm apart. Objects of several instances are as close as their closest.
Appearance order and routes are not in the annotation. Questions about other scenes are counted apart.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.files import rows
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi.questions import TEMPLATES, direction
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import SceneAnnotation

SIZE, ROOM, DISTANCE = 1.0, 0.1, 0.1  # centimetres, square metres, metres
ROUNDED = 1e-6  # of the numbers' own floating point
UNKNOWN = "unknown_scene"


@dataclass
class Args:
    meta_info: str = field(metadata={"help": "annotation in VSI-Bench's form, *_meta_info*.json"})
    questions: str = field(
        metadata={"help": "VSI-Bench's rows: hub id, parquet, jsonl or json file, or folder"}
    )
    json: bool = field(default=False, metadata={"help": "print JSON: {type: {n, answerable, agree}}"})


def verify(meta_info: str, questions: str) -> dict[str, dict[str, int]]:
    """`{type: {"n", "answerable", "agree"}}`, and the same under `UNKNOWN` for scenes without annotation.

    Raises:
        UserError: a file that is not there or not whole, or no question of an annotated scene.
    """
    scenes = annotation.read(meta_info)
    vsibench.load(questions)  # raises where a row is not whole
    kinds = {name: 0 for name in (*vsibench.NUMBER_TYPES, *vsibench.CHOICE_TYPES)}
    counts = {kind: {"n": 0, "answerable": 0, "agree": 0} for kind in (*kinds, UNKNOWN)}
    for _, row in vsibench.read(questions):
        scene = scenes.get(row["scene_name"])
        kind = row["question_type"] if scene else UNKNOWN
        agrees = _agrees(row, scene) if scene else None
        counts[kind]["n"] += 1
        counts[kind]["answerable"] += agrees is not None
        counts[kind]["agree"] += agrees is True
    if not sum(count["n"] for kind, count in counts.items() if kind != UNKNOWN):
        raise UserError(
            f"{questions} has no question about a scene of {meta_info}; give two that belong together"
        )
    return {kind: count for kind, count in counts.items() if count["n"] or kind == UNKNOWN}


def _agrees(row: rows.Row, scene: SceneAnnotation) -> bool | None:
    """Whether the annotation gives the row's own answer; None where it gives none."""
    kind, labels = row["question_type"], _labels(row)
    if labels is None:
        return None
    boxes = [scene.objects.get(label, ()) for label in labels]
    if kind == "room_size_estimation":
        return None if scene.room_size is None else _near(scene.room_size, row["ground_truth"], ROOM)
    if kind == "object_counting":
        count = scene.object_counts.get(labels[0])
        return None if count is None else float(row["ground_truth"]) == count
    if not all(boxes):
        return None
    if kind == "object_abs_distance":
        one, other = boxes
        return _near(_closest(one, other), row["ground_truth"], DISTANCE)
    if kind == "object_rel_distance":
        target, *others = boxes
        apart = [_closest(target, listed) for listed in others]
        return labels[1 + apart.index(min(apart))] == _right_option(row)
    if any(len(listed) > 1 for listed in boxes):
        return None
    single = [listed[0] for listed in boxes]
    if kind == "object_size_estimation":
        return _near(100 * max(single[0].axes_lengths), row["ground_truth"], SIZE)
    standing, facing, goal = single
    return direction(kind, annotation.bearing(standing, facing, goal)) == _right_option(row)


def _labels(row: rows.Row) -> tuple[str, ...] | None:
    """The objects that a question names, in its template's order; None of a question worded otherwise."""
    pattern = _PATTERNS.get(row["question_type"])
    match = pattern.fullmatch(row["question"].strip()) if pattern else None
    return tuple(match[name] for name in sorted(match.groupdict())) if match else None


def _pattern(template: str) -> re.Pattern:
    """`{0}` stands for any label; where it comes again, for the same."""
    text = re.escape(template.strip())
    text = re.sub(r"\\\{(\d)\\\}", r"(?P<label\1>[^,]+?)", text)
    return re.compile("".join(_once(text)))


def _once(text: str) -> Iterator[str]:
    seen = set()
    for part in re.split(r"(\(\?P<label\d>\[\^,\]\+\?\))", text):
        yield f"(?P={part[4:10]})" if part in seen else part
        if part.startswith("(?P"):
            seen.add(part)


_PATTERNS = {kind: _pattern(template) for kind, template in TEMPLATES.items()}


def _right_option(row: rows.Row) -> str:
    options = rows.as_texts(row["options"], "options", "row")
    return options[ord(row["ground_truth"]) - ord("A")][3:].strip()


def _closest(one: tuple, other: tuple) -> float:
    return min(annotation.gap(box, another) for box in one for another in other)


def _near(value: float, true: str, tolerance: float) -> bool:
    return abs(value - float(true)) <= tolerance + ROUNDED


def table(counts: dict[str, dict[str, int]]) -> str:
    lines = [f"{'VSI-Bench':<28}{'n':>6}{'answerable':>12}{'agree':>7}{'%':>8}"]
    for kind, count in counts.items():
        if kind != UNKNOWN:
            percent = f"{100 * count['agree'] / count['answerable']:.1f}" if count["answerable"] else "-"
            lines.append(f"{kind:<28}{count['n']:>6}{count['answerable']:>12}{count['agree']:>7}{percent:>8}")
    return "\n".join([*lines, f"of scenes without annotation: {counts[UNKNOWN]['n']}"])


def main(args: Args) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries print: stdout is for the result alone
        counts = verify(args.meta_info, args.questions)
    print(json.dumps(counts, indent=2) if args.json else table(counts))


if __name__ == "__main__":
    cli.run(main, Args)
