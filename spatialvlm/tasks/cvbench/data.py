"""CV-Bench (Tong et al., arXiv 2406.16860): 2,638 multiple-choice questions about real photographs.

Count and Relation are its 2D half (photographs of ADE20K and COCO), Depth and Distance its 3D half (Omni3D),
with the objects asked about in coloured boxes. The same form over rendered scenes and over CLEVR's real ones
comes through here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError, require_at_least, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.lazy import LazyExamples, mapped
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.worlds.clevr.questions import CVBENCH_TASKS, flip_polarity_text

HUB_ID = "nyu-visionx/CV-Bench"
TASKS_2D, TASKS_3D = ("Count", "Relation"), ("Depth", "Distance")
HALVES = {"2D": TASKS_2D, "3D": TASKS_3D}  # the hub's configurations of one file each
EMBEDDED_SIZE = 800  # questions of the embedded test, where no limit is given
SOURCES = ("ADE20K", "COCO", "Omni3D")
COLUMNS = ("task", "image", "question", "choices", "answer", "prompt", "source")


def load(
    path: str | Path = HUB_ID,
    split: str = "test",
    limit: int | None = None,
    tasks: Sequence[str] | None = None,
    flipped: bool = False,
    need_images: bool = True,
) -> Sequence[Example]:
    """CV-Bench's questions in their order, answers as the benchmark has them: `(C)`.

    Args:
        path: a hub id (`owner/name`, or `owner/name@revision`); a parquet, jsonl or json file, a folder of
            those, or a data set written by `save_to_disk`, with the hub's own columns; `embedded` for
            rendered scenes; or a CLEVR folder with `images/` and `scenes/`.
        limit: at most this many questions. Of rows, which lie sorted by task, they are taken evenly from
            first to last, so that all tasks stay in.
        tasks: only these of Count, Relation, Depth and Distance.
        flipped: with Depth and Distance polarity-flipped (`flip_polarity`).
        need_images: whether an image's file must be there; False where answers are there already.

    Returns: Examples that are made when looked at; `meta["source"]` is ADE20K, COCO or Omni3D, and absent for
    embedded and CLEVR scenes.

    Raises:
        UserError: nothing at `path`, a column that is missing, a row whose fields do not fit together; the
            message names it.
    """
    if flipped:
        return flip_polarity(load(path, split, limit, tasks, need_images=need_images))
    if unknown := set(tasks or ()) - set(CVBENCH_TASKS):
        raise UserError(
            f"CV-Bench has the tasks {', '.join(CVBENCH_TASKS)}, not {', '.join(sorted(unknown))}"
        )
    require_at_least(1, limit=limit)
    if str(path) == "embedded":
        from spatialvlm.worlds.clevr import series

        return _only(tasks, series.cvbench(split, limit or EMBEDDED_SIZE))
    if (Path(path) / "scenes").is_dir():
        return _only(tasks, clevr.load_cvbench(path, limit))
    half = next((name for name, of in HALVES.items() if tasks and set(tasks) <= set(of)), None)
    table = rows.read(path, split, half)
    numbers: Sequence[int] = range(len(table))
    if tasks:  # a row of no task is refused below
        left_out = {name.lower() for name in CVBENCH_TASKS if name not in tasks}
        numbers = [
            number for number in numbers if str(table[number][1].get("task")).strip().lower() not in left_out
        ]
    if not numbers:
        raise UserError(f"{path} has no CV-Bench row{f' of task {tasks}' if tasks else ''}")
    size = min(limit or len(numbers), len(numbers))
    chosen = [numbers[number * len(numbers) // size] for number in range(size)]
    folder = rows.beside(path)
    for number in chosen:
        _check(*table[number], folder, need_images)

    def make(number: int) -> Example:
        return _example(number, *table[number], folder)

    return LazyExamples(make, chosen, kept=1)  # decoded photographs are not to pile up


def _only(tasks: Sequence[str] | None, examples: Sequence[Example]) -> Sequence[Example]:
    return [example for example in examples if example.task in tasks] if tasks else examples


def _check(where: str, row: dict[str, Any], folder: rows.Folder | None, need_images: bool) -> None:
    """Raises UserError where a row is not whole, before anything is computed from the others."""
    if missing := [name for name in COLUMNS if name not in row]:
        raise UserError(f"{where} has no column '{missing[0]}'; CV-Bench's own columns are needed")
    for name in ("task", "question", "answer", "prompt", "source"):
        rows.text(row, name, where)
    image = rows.as_image(rows.need(row, "image", where), where, folder)
    if need_images:
        rows.require_files([image], where)
    for name, known in (("task", CVBENCH_TASKS), ("source", SOURCES)):
        rows.as_known(row[name], known, name, where)
    if "idx" in row:
        rows.as_id(rows.need(row, "idx", where), "idx", where)
    choices = rows.as_texts(rows.need(row, "choices", where), "choices", where)
    rows.as_letter(row["answer"], len(choices), "answer", where)
    if len(choices) < 2:
        raise UserError(f"{where}: 'choices' must be two or more, not {shown(choices)}")


def _example(index: int, where: str, row: dict[str, Any], folder: rows.Folder | None) -> Example:
    choices = tuple(rows.as_texts(row["choices"], "choices", where))
    return Example(
        id=f"cvbench-{rows.as_id(row.get('idx', index), 'idx', where)}",
        images=(rows.as_image(row["image"], where, folder),),
        question=row["question"],
        answer=f"({rows.as_letter(row['answer'], len(choices), 'answer', where)})",
        task=rows.as_known(row["task"], CVBENCH_TASKS, "task", where),
        choices=choices,
        prompt=row["prompt"],
        meta={"source": rows.as_known(row["source"], SOURCES, "source", where)},
    )


def flip_polarity(examples: Sequence[Example]) -> Sequence[Example]:
    """The out-of-distribution twin of the test: closer becomes far away, and the answers swap.

    That is of Depth and Distance, whose questions have two choices ("Which object is closer to" becomes
    "Which object is far away from"); the other tasks stay as they are.

    Raises:
        UserError: a Depth or Distance question that is worded otherwise, or has other than two choices.
    """

    def flip(example: Example) -> Example:
        if example.task not in TASKS_3D:
            return example
        swapped = {"(A)": "(B)", "(B)": "(A)"}.get(example.answer)
        if swapped is None or len(example.choices or ()) != 2:
            raise UserError(f"row {example.id!r} has no two choices to swap; leave out --ood")
        try:
            question, prompt = (flip_polarity_text(text) for text in (example.question, example.prompt))
        except ValueError as error:
            raise UserError(f"row {example.id!r}: {error}; leave out --ood") from None
        return replace(example, question=question, prompt=prompt, answer=swapped)

    return mapped(examples, flip)
