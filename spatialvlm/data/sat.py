"""SAT (Ray et al., arXiv 2412.07755): multiple-choice questions about simulated indoor scenes, as its files
are.

Rows hold `image_bytes` (one or two pictures), `question`, `answers` (the right one first), `question_type`
and `correct_answer`. The prompt is the one of the paper that trains PaliGemma 2 on it (see
`questions.sat_prompt`).
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from spatialvlm.cli import UserError
from spatialvlm.data import rows
from spatialvlm.data.questions import LETTERS, sat_prompt
from spatialvlm.example import Example

ANSWER_FORMS = ("natural", "letter", "mixed")


def draw_answer_form(rng: Random, answer_form: str) -> str:
    """`natural` or `letter`; one of the two by chance where `mixed` is asked for.

    Raises:
        UserError: none of `ANSWER_FORMS`.
    """
    if answer_form not in ANSWER_FORMS:
        raise UserError(f"--answer_form must be one of {', '.join(ANSWER_FORMS)}, not {answer_form!r}")
    return rng.choice(("natural", "letter")) if answer_form == "mixed" else answer_form


def load(
    path: str | Path = "array/SAT",
    split: str = "train",
    limit: int | None = None,
    answer_form: str = "natural",
    max_images: int = 1,
    seed: int = 0,
) -> list[Example]:
    """Questions with shuffled choices, in the files' order.

    Args:
        path: a hub id, or a parquet or jsonl file or a folder of those, with SAT's own columns.
        split: `train`, `val` or `test`.
        limit: at most this many examples (after those with too many images are left out).
        answer_form: `natural` (the answer is the choice's text), `letter`, or `mixed` (drawn for every row).
        max_images: rows with more images are left out; 1 is the paper's choice.
        seed: of the shuffling; a row's choices depend on it and the row's number alone.

    Raises:
        UserError: nothing at `path`, or a row without question, answers or image; the message names the row.
    """
    examples: list[Example] = []
    for number, (where, row) in enumerate(rows.read(path, split)):
        if limit is not None and len(examples) >= limit:
            break
        pictures = rows.need(row, "image_bytes", where)
        pictures = list(pictures) if isinstance(pictures, list | tuple) else [pictures]
        if len(pictures) <= max_images:
            rng = Random(f"sat-{split}-{seed}-{number}")
            examples.append(_example(f"sat-{split}-{number}", where, row, pictures, answer_form, rng))
    if not examples:
        raise UserError(f"{path} holds no SAT row with at most {max_images} image(s)")
    return examples


def _example(name: str, where: str, row: rows.Row, pictures: list, answer_form: str, rng: Random) -> Example:
    question = rows.need(row, "question", where)
    choices = rows.need(row, "answers", where)
    if not isinstance(choices, list | tuple) or len(choices) < 2:
        raise UserError(f"{where}: 'answers' must be a list of two or more, not {choices!r}")
    right = choices[0]
    choices = [str(choice) for choice in choices]
    rng.shuffle(choices)
    form = draw_answer_form(rng, answer_form)
    return Example(
        id=name,
        images=tuple(rows.picture(value, f"{where} image {i}") for i, value in enumerate(pictures)),
        question=question,
        answer=LETTERS[choices.index(str(right))] if form == "letter" else str(right),
        task=row.get("question_type") or "sat",
        choices=tuple(choices),
        prompt=sat_prompt(question, choices, form),
        meta={"answer_form": form},
    )
