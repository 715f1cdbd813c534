"""SAT (Ray et al., arXiv 2412.07755): multiple-choice questions about simulated indoor scenes.

Rows hold `image_bytes` (one or two images), `question`, `answers` (the right one first), `question_type` and
`correct_answer`; those of SAT-v2 (`array/SAT-v2`) hold `images` in place of `image_bytes`. Whether they are
the same rows is not known, so a run records which set it read. The prompt is the one of the paper that trains
PaliGemma 2 on SAT (see `worlds.clevr.questions.sat_prompt`). The splits of `array/SAT`: `train` (175,000
synthetic questions), `static` (127,000 of them about one image), `val` (4,000 synthetic ones) and `test` (150
about real photographs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from spatialvlm.errors import RowError, UserError, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.exclusion import usable_rows
from spatialvlm.files.lazy import LazyExamples, facts_of, prefetch
from spatialvlm.worlds.clevr.questions import LETTERS, choose_answer_form, sat_prompt

HUB_ID = "array/SAT"
EMBEDDED_SIZE = 200  # questions over rendered scenes, before their orders, where no limit is given


def load(
    path: str | Path = HUB_ID,
    split: str = "train",
    limit: int | None = None,
    answer_form: str = "natural",
    max_images: int = 1,
    seed: int = 0,
    training: bool = False,
) -> LazyExamples:
    """Questions with shuffled choices, in the files' order; all checked now, and made when looked at.

    Args:
        path: a hub id (`array/SAT`, `array/SAT-v2`, `...@revision`), or a parquet or jsonl file or a folder
            of those, with SAT's or SAT-v2's own columns; names of images are relative to the file.
        split: `train`, `static`, `val` or `test`.
        limit: at most this many examples (after those with too many images are left out).
        answer_form: `natural` (the answer is the choice's text), `letter`, or `mixed` (drawn for every row).
        max_images: rows with more images are left out; 1 is the paper's choice.
        seed: of the shuffling; a row's choices depend on it and the row's number alone.
        training: rows that are not whole are left out and counted (`files.exclusion`), not refused.

    Returns: Examples with `question_type` as task. A choice that a row lists twice is shown once. Their
    `facts` say which set it is, by its columns, and what training leaves out.

    Raises:
        UserError: nothing at `path`, or a row that is not whole: an empty or other than textual field,
            fewer than two choices, a `correct_answer` other than the first of `answers`, more choices than
            letters, an image that is none; the message names the row. In training, more than 1 % such rows.
    """
    table, folder = rows.read(path, split), rows.beside(path)

    def made(number: int, where: str, row: rows.Row) -> Example:
        rng = Random(f"sat-{split}-{seed}-{number}")
        return _example(f"sat-{split}-{number}", where, row, folder, answer_form, rng)

    def make(number: int) -> Example:
        return made(number, *table[number])

    def wanted(number: int) -> bool:
        where, row = table[number]
        if len(_images(row, where)) > max_images:
            return False
        made(number, where, row)  # raises where the row is not whole
        return True

    chosen = usable_rows(range(len(table)), wanted, f"{path} {split}", limit, training)
    if not chosen.numbers:
        raise UserError(f"{path} holds no SAT row with at most {max_images} image(s)")
    facts = {"set": "SAT-v2" if _column(table[chosen.numbers[0]][1]) == "images" else "SAT"}
    facts |= {"excluded": chosen.excluded} if training else {}
    return LazyExamples(make, chosen.numbers, kept=1, facts=facts)  # images are not to pile up


def load_test(
    path: str | Path,
    split: str | None = None,
    limit: int | None = None,
    answer_form: str = "natural",
    max_images: int = 2,
    circular: bool | None = None,
    seed: int = 0,
    images: int | None = None,
) -> Sequence[Example]:
    """The questions of an evaluation; arguments as in `load`.

    Args:
        path: rows as in `load`, or `embedded` for rendered scenes.
        split: `test` by default.
        limit: at most this many questions, however often each is asked.
        circular: every question in all orders of its choices; by default on the test split alone.
        images: only questions with this number of images; `limit` then counts those alone.
    """
    split = split or "test"
    if str(path) == "embedded":
        from spatialvlm.worlds.clevr import series, two_views

        make = two_views.two_views if images == 2 else partial(series.sat, answer_form=answer_form)
        examples = make(split, limit or EMBEDDED_SIZE, seed=seed)
    elif images is None:
        examples = load(path, split, limit, answer_form, max_images, seed)
    else:
        examples = with_images(load(path, split, None, answer_form, images, seed), images)[:limit]
    return in_all_orders(examples) if (split == "test" if circular is None else circular) else examples


def with_images(examples: Sequence[Example], count: int) -> Sequence[Example]:
    """The questions with a number of images; all are loaded to count them."""
    prefetch(examples)
    fitting = [number for number, example in enumerate(examples) if len(example.images) == count]
    return LazyExamples(lambda number: examples[number], fitting, facts=facts_of(examples))


def in_all_orders(examples: Sequence[Example]) -> Sequence[Example]:
    """Every question once with each of its choices in the first place, the others following in their order.

    So the right answer stands in every place once, as SAT's card asks for; two choices are simply swapped.
    Ids are `ID/0`, `ID/1`, ...; the first is the question as it was.
    """
    orders = [(at, turn) for at, example in enumerate(examples) for turn in range(len(example.choices))]

    def make(index: int) -> Example:
        at, turn = orders[index]
        example = examples[at]
        choices = (*example.choices[turn:], *example.choices[:turn])
        natural = example.answer in example.choices
        answer = example.answer if natural else LETTERS[choices.index(right_choice(example))]
        prompt = sat_prompt(example.question, choices, "natural" if natural else "letter")
        meta = example.meta | {"cluster": example.id}  # the orders of one question go together
        turned = {"choices": choices, "answer": answer, "prompt": prompt, "meta": meta}
        return replace(example, id=f"{example.id}/{turn}", **turned)

    return LazyExamples(make, range(len(orders)), kept=1, sources=(examples,), facts=facts_of(examples))


def right_choice(example: Example) -> str:
    """The text of the right choice, whether the answer is that text or its letter."""
    if example.answer in example.choices:
        return example.answer
    return example.choices[LETTERS.index(example.answer)]


def _column(row: rows.Row) -> str:
    """The column of images: SAT's own, or SAT-v2's."""
    return "images" if "images" in row and "image_bytes" not in row else "image_bytes"


def _images(row: rows.Row, where: str) -> list:
    value = rows.need(row, _column(row), where)
    return list(value) if isinstance(value, list | tuple) else [value]


def _example(
    id: str, where: str, row: rows.Row, folder: rows.Folder | None, answer_form: str, rng: Random
) -> Example:
    question = rows.as_text(rows.need(row, "question", where), "question", where)
    kind = rows.as_text(rows.need(row, "question_type", where), "question_type", where)
    listed = rows.as_texts(rows.need(row, "answers", where), "answers", where)
    if len(listed) < 2:
        message = f"{where}: 'answers' must be a list of two or more, not {shown(listed)}"
        raise RowError(message, "'answers' is no list of two or more")
    choices = list(dict.fromkeys(listed))
    right = choices[0]
    if not 2 <= len(choices) <= len(LETTERS):
        message = f"{where}: 'answers' has {len(choices)} different choices; 2 to {len(LETTERS)} can be"
        raise RowError(message, "too few or too many choices")
    said = rows.as_word(rows.need(row, "correct_answer", where), "correct_answer", where)
    same = [rows.as_id(each, "correct_answer", where) for each in (said, right)]  # 3 of "3.0", no blanks
    if same[0] != same[1]:
        message = f"{where}: 'correct_answer' {shown(said)} is not the first of 'answers', {shown(right)}"
        raise RowError(message, "'correct_answer' is not the first of 'answers'")
    rng.shuffle(choices)
    form = choose_answer_form(rng, answer_form)
    images = [
        rows.as_image(value, f"{where} image {number}", folder)
        for number, value in enumerate(_images(row, where))
    ]
    rows.require_files(images, where)
    return Example(
        id=id,
        images=tuple(images),
        question=question,
        answer=LETTERS[choices.index(right)] if form == "letter" else right,
        task=kind,
        choices=tuple(choices),
        prompt=sat_prompt(question, choices, form),
        meta={"answer_form": form},
    )
