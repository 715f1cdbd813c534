"""CLEVR's questions with thoughts to learn: `ahmedheakl/clevr-cogent-r1`, and rows of that kind anywhere.

Such sets name their columns differently, so each field goes by the first of its `NAMES` that a row has. The
target of training is `<think>...</think><answer>...</answer>`, and the prompt is the one that vsGRPO trains
thoughts with; the answer reader takes what stands in `<answer>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spatialvlm.errors import RowError, UserError, shown
from spatialvlm.example import Example, without_image_tokens
from spatialvlm.files import rows
from spatialvlm.files.exclusion import usable_rows
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.parsing.answers import inside_answer_tags
from spatialvlm.parsing.thoughts import without_thoughts
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.vsi.data import TRAINING
from spatialvlm.worlds.clevr.official_answers import family

HUB_ID = "ahmedheakl/clevr-cogent-r1"
MAX_NEW_TOKENS = 256  # of a test of who learnt thoughts, as of the published runs with thoughts
NAMES = {
    "image": ("image", "images"),
    "question": ("problem", "question"),
    "thoughts": ("thinking", "reasoning", "thoughts"),
    "answer": ("answer", "solution"),
}
SAT_COLUMNS = frozenset(("image_bytes", "answers", "correct_answer"))  # which these rows do not have


def lie_at(path: str) -> bool:
    """Whether a path has rows, and not SAT's: by the first one's columns. Raises UserError as `rows.read`."""
    if path == "embedded" or clevr.is_official_folder(path):
        return False
    table = rows.read(path, "train")
    return len(table) > 0 and SAT_COLUMNS.isdisjoint(table[0][1])


def load(path: str | Path = HUB_ID, split: str = "train", limit: int | None = None) -> LazyExamples:
    """The questions to train on, in the files' order; all checked now, and made when looked at.

    Args:
        path: a hub id, or a parquet or jsonl file or a folder of those. A row has `image` or `images`;
            `problem` or `question`; `thinking`, `reasoning` or `thoughts`; and `solution` or `answer`, which
            may hold `<think>...</think><answer>...</answer>` itself, in place of a column of thoughts.
        limit: maximum number of rows; those that cannot be used are left out and counted.

    Returns:
        Examples with the question's family as task, whose `answer` is the whole target.

    Raises:
        UserError: nothing at `path`, no such columns (the message names what is missing and what is there),
            or more than 1 % of rows that cannot be used.
    """
    table, folder = rows.read(path, split), rows.beside(path)
    if not len(table):
        raise UserError(f"{path} holds no row")
    _check_columns(*table[0])

    def make(number: int) -> Example:
        where, row = table[number]
        # R1's sets mark in the text where the image goes; it goes first here, by the model's own tokens.
        text = rows.as_text(_value(row, "question", where), "question", where)
        question = without_image_tokens(text).strip()
        listed = _value(row, "image", where)
        listed = listed if isinstance(listed, list) else [listed]
        images = [rows.as_image(image, where, folder) for image in listed]
        rows.require_files(images, where)
        return Example(
            id=f"clevr-thoughts-{split}-{number}",
            images=tuple(images),
            question=question,
            answer=f"<think>{_thoughts(row, where)}</think><answer>{_answer(row, where)}</answer>",
            task=family(question) or "other",
            prompt=f"{question} {TRAINING['think']}",
        )

    chosen = usable_rows(range(len(table)), lambda number: bool(make(number)), f"{path} {split}", limit)
    return LazyExamples(make, chosen.numbers, kept=1, facts={"excluded": chosen.excluded})


def are_in(examples: Sequence[Example]) -> bool:
    """Whether the targets of training begin with thoughts, as `load`'s do."""
    return examples[0].answer.startswith("<think>")


def _check_columns(where: str, row: rows.Row) -> None:
    inside = any("<think>" in str(row.get(name)) for name in NAMES["answer"])
    missing = [
        " or ".join(f"'{name}'" for name in names)
        for field, names in NAMES.items()
        if row.keys().isdisjoint(names) and not (field == "thoughts" and inside)
    ]
    if missing:
        raise UserError(
            f"{where} has no {', no '.join(missing)}, which questions with thoughts have; its columns are "
            f"{', '.join(row)}: rename them, or give rows in SAT's form (image_bytes, question, answers, ...)"
        )


def _value(row: rows.Row, field: str, where: str) -> Any:
    """The first of a field's columns that is not empty. Raises RowError where none is."""
    filled = (name for name in NAMES[field] if row.get(name) not in (None, "", []))
    return rows.need(row, next(filled, NAMES[field][0]), where)


def _thoughts(row: rows.Row, where: str) -> str:
    """The thoughts without tags, of their own column or of the answer's. Raises RowError where none are."""
    for name in (*NAMES["thoughts"], *NAMES["answer"]):
        text = row.get(name) if isinstance(row.get(name), str) else ""
        inside, closed, _ = text.partition("<think>")[2].partition("</think>")
        found = inside if closed else text if name in NAMES["thoughts"] else ""
        if found := re.sub(r"</?think>", "", found).strip():
            return rows.as_text(found, name, where)
    raise RowError(f"{where} has no thoughts; fix or remove the row", "no thoughts")


def _answer(row: rows.Row, where: str) -> str:
    """The answer without tags. Raises RowError where it is empty or of another type."""
    value = _value(row, "answer", where)
    if isinstance(value, bool):
        value = "yes" if value else "no"
    text = without_thoughts(rows.as_word(value, "answer", where))
    tagged = inside_answer_tags(text)
    answer = text.strip() if tagged is None else tagged
    if not answer:
        message = f"{where} has no answer, but {shown(value)}; fix or remove the row"
        raise RowError(message, "no answer")
    return answer
