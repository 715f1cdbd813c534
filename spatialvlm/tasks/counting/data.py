"""Counting: four data sets as one kind of question, "How many ...?", answered by a number.

CLEVR (CoGenT's ValB), SAT's static questions about counts, CV-Bench's Count and PixMo-Count; or rendered
scenes in the place of each. SAT's questions show their choices, as its prompt has them; CV-Bench's do not, so
that a wrong answer can be wrong by any number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples, mapped
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.counting import pixmo
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.worlds.clevr import series as rendered
from spatialvlm.worlds.clevr.official_questions import FAMILIES
from spatialvlm.worlds.clevr.questions import CVBENCH_TASKS, SAT_KINDS

EMBEDDED_SIZE = 200  # questions of each embedded data set, where no limit is given
EMBEDDED_SPLIT = "test"
INSTRUCTION = "{} Write only the answer between <answer> and </answer>, such as <answer>3</answer>."


@dataclass(frozen=True)
class Source:
    """A data set with questions about counts.

    Args:
        title: its name in tables.
        hub_id: where it is published.
        split: the one that is asked by default; None leaves it to the data set's own `load`.
        rendered: (split, how many) -> the same form over rendered scenes.
        turn: (which question of how many in turn is a count, how many) in the rendered form.
    """

    title: str
    hub_id: str
    split: str | None
    rendered: Callable[[str, int], Sequence[Example]]
    turn: tuple[int, int]


def _things(split: str, limit: int) -> Sequence[Example]:
    return rendered.free(split, limit, kinds=("count",))


SOURCES = {
    "clevr": Source(
        "CLEVR",
        "MMInstruction/Clevr_CoGenT_ValB",
        None,
        rendered.clevr,
        (FAMILIES.index("count"), len(FAMILIES)),
    ),
    "sat": Source("SAT", sat.HUB_ID, "static", rendered.sat, (SAT_KINDS.index("count"), len(SAT_KINDS))),
    "cvbench": Source(
        "CV-Bench",
        cvbench.HUB_ID,
        "test",
        rendered.cvbench,
        (CVBENCH_TASKS.index("Count"), len(CVBENCH_TASKS)),
    ),
    "pixmo": Source("PixMo-Count", pixmo.HUB_ID, "test", _things, (0, 1)),
}


def load(
    name: str,
    path: str | Path | None = None,
    split: str | None = None,
    counting_only: bool = True,
    start: int = 0,
    limit: int | None = None,
    image_cache: str | Path | None = None,
) -> Sequence[Example]:
    """The questions of one data set; those about counts have its title as task, others their own task.

    Args:
        name: one of `SOURCES`.
        path: where it lies, as its own `load` says; its hub id where None; `embedded` for rendered scenes.
        counting_only: leave out CLEVR's other questions (the other data sets are asked for counts alone).
        start: the number of the first question.
        limit: at most this many from there on.
        image_cache: where PixMo-Count's photographs are kept (`pixmo.load`).

    Returns: Examples without choices, answered by a number in digits (or yes, no, a word); `meta["source"]`
    is the data set's title, `meta["options"]` the choices that the prompt shows, where it shows some.

    Raises:
        UserError: as the data set's own `load`; no such data set; no question from `start` on; a count that
            is no whole number.
    """
    if name not in SOURCES:
        raise UserError(f"--dataset {name}: must be among {', '.join(SOURCES)}")
    source = SOURCES[name]
    path = str(path or source.hub_id)
    if path == "embedded":
        examples = _embedded(source, split or EMBEDDED_SPLIT, counting_only, start, limit)
    elif name == "pixmo":  # what is not asked is not fetched
        examples = pixmo.load(path, split or source.split, limit, start, image_cache)
    else:
        examples = _LOADERS[name](path, split or source.split, counting_only)
        examples = examples[start:] if limit is None else examples[start : start + limit]
    if not len(examples):
        raise UserError(f"{path} has no {source.title} question about a count from number {start} on")
    return mapped(examples, lambda example: _as_count(example, source))


def instructed(examples: Sequence[Example]) -> Sequence[Example]:
    """The same questions with the request to write the answer between tags, for models that chat."""
    return mapped(examples, lambda example: replace(example, prompt=INSTRUCTION.format(example.prompt)))


def joined(parts: Sequence[Sequence[Example]]) -> Sequence[Example]:
    """The questions of all parts, one after the other, made when looked at."""
    places = [(part, index) for part, examples in enumerate(parts) for index in range(len(examples))]

    def make(number: int) -> Example:
        part, index = places[number]
        return parts[part][index]

    return LazyExamples(make, range(len(places)), kept=1, sources=parts)


def _embedded(
    source: Source, split: str, counting_only: bool, start: int, limit: int | None
) -> Sequence[Example]:
    number, of = source.turn
    everything = source.title == "CLEVR" and not counting_only
    wanted = start + (limit or EMBEDDED_SIZE)
    examples = source.rendered(split, wanted if everything else wanted * of)
    return examples[start:] if everything else examples[number::of][start:]


def _as_count(example: Example, source: Source) -> Example:
    """A question of one of the data sets in the form that all have here."""
    answer, meta = example.answer, example.meta | {"source": source.title}
    if source.title == "CV-Bench":
        answer, prompt = example.choices["ABCDEF".index(answer.strip("()"))], example.question
    else:
        prompt = example.prompt
    if example.choices and prompt != example.question:
        meta["options"] = example.choices
    is_count = answer.isascii() and answer.isdecimal()
    if source.title != "CLEVR" and not is_count:
        raise UserError(
            f"row {example.id!r}: the count {answer!r} is no whole number; mend or remove the row"
        )
    task = source.title if is_count else example.task
    return replace(example, answer=answer, prompt=prompt, task=task, choices=None, meta=meta)


def _load_clevr(path: str, split: str | None, counting_only: bool) -> Sequence[Example]:
    return _where(clevr.load(path, split), lambda example: not counting_only or example.answer.isdecimal())


def _load_sat(path: str, split: str, counting_only: bool) -> Sequence[Example]:
    return _where(sat.load(path, split), lambda example: all(map(str.isdecimal, example.choices)))


def _load_cvbench(path: str, split: str, counting_only: bool) -> Sequence[Example]:
    return cvbench.load(path, split, tasks=("Count",))


def _where(examples: Sequence[Example], wanted: Callable[[Example], bool]) -> Sequence[Example]:
    """Those that are wanted: each is looked at once now, and made again when its turn comes."""
    numbers = [number for number, example in enumerate(examples) if wanted(example)]
    return LazyExamples(lambda number: examples[number], numbers, kept=1)


_LOADERS = {"clevr": _load_clevr, "sat": _load_sat, "cvbench": _load_cvbench}
