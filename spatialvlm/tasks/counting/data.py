"""Counting: four data sets as one kind of question, "How many ...?", answered by a number.

CLEVR (CoGenT's ValB), SAT's static questions about counts, CV-Bench's Count and PixMo-Count; or rendered
scenes in the place of each. SAT's questions show their choices, as its prompt has them; CV-Bench's do not, so
that a wrong answer can be wrong by any number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples, mapped
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.counting import pixmo
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.worlds.clevr.official_answers import FAMILIES
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
        split: its split by default; None leaves it to the data set's own `load`.
        kinds: of questions, in turn, of its form over rendered scenes.
    """

    title: str
    hub_id: str
    split: str | None
    kinds: tuple[str, ...]


SOURCES = {
    "clevr": Source("CLEVR", "MMInstruction/Clevr_CoGenT_ValB", None, FAMILIES),
    "sat": Source("SAT", sat.HUB_ID, "static", SAT_KINDS),
    "cvbench": Source("CV-Bench", cvbench.HUB_ID, "test", CVBENCH_TASKS),
    "pixmo": Source("PixMo-Count", pixmo.HUB_ID, "test", ("count",)),
}


def load(
    path: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    names: Sequence[str] = tuple(SOURCES),
    counting_only: bool = True,
    start: int = 0,
    image_cache: str | Path | None = None,
    instruct: bool = False,
) -> Sequence[Example]:
    """The questions of several data sets, one set after the other.

    Args:
        path: as in `load_one`; or `NAME` or `NAME=PATH` for one of `SOURCES`.
        names: of the data sets, some of `SOURCES`.
        instruct: with the request to write the answer between tags, for models that chat.

    Other arguments, Returns and Raises are those of `load_one`.
    """
    name, _, place = str(path or "").partition("=")
    if name in SOURCES:
        names, path = (name,), place or None
    parts = [load_one(name, path, split, counting_only, start, limit, image_cache) for name in names]
    places = [(part, index) for part, examples in enumerate(parts) for index in range(len(examples))]

    def make(number: int) -> Example:
        part, index = places[number]
        return parts[part][index]

    examples = LazyExamples(make, range(len(places)), kept=1, sources=parts)
    return instructed(examples) if instruct else examples


def load_one(
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
    is the data set's title, `meta["vocabulary"]` the answers that a question allows: the choices that its
    prompt shows, counts, or CLEVR's words.

    Raises:
        UserError: as the data set's own `load`; no such data set; no question from `start` on; a count that
            is no whole number.
    """
    if name not in SOURCES:
        raise UserError(f"--dataset {name}: must be among {', '.join(SOURCES)}")
    source = SOURCES[name]
    path = str(path or source.hub_id)
    if path == "embedded":
        examples = _rendered(name, split or EMBEDDED_SPLIT, counting_only, start, limit)
    elif name == "pixmo":  # what is not asked is not fetched
        examples = pixmo.load(path, split or source.split, limit, start, image_cache)
    else:
        split = split or source.split
        if name == "cvbench":
            examples = cvbench.load(path, split, tasks=("Count",))
        elif name == "sat":
            examples = _where(sat.load(path, split), lambda each: all(map(str.isdecimal, each.choices)))
        else:
            examples = clevr.load(path, split)
            if counting_only:
                examples = _where(examples, lambda each: each.answer.isdecimal())
        examples = examples[start:] if limit is None else examples[start : start + limit]
    if not len(examples):
        raise UserError(f"{path} has no {source.title} question about a count from number {start} on")
    return mapped(examples, lambda example: _as_count(example, source))


def instructed(examples: Sequence[Example]) -> Sequence[Example]:
    """The same questions with the request to write the answer between tags, for models that chat."""
    return mapped(examples, lambda example: replace(example, prompt=INSTRUCTION.format(example.prompt)))


def _rendered(name: str, split: str, counting_only: bool, start: int, limit: int | None) -> Sequence[Example]:
    from spatialvlm.worlds.clevr import series

    kinds = SOURCES[name].kinds
    make = {"clevr": series.clevr, "sat": series.sat, "cvbench": series.cvbench}.get(name)
    make = make or partial(series.free, kinds=kinds)
    stop = start + (limit or EMBEDDED_SIZE)
    if name == "clevr" and not counting_only:
        return make(split, stop)[start:]
    count = [kind.lower() for kind in kinds].index("count")
    return make(split, stop * len(kinds))[count :: len(kinds)][start:]


def _as_count(example: Example, source: Source) -> Example:
    """A question of one of the data sets in the form that all have here."""
    answer, meta = example.answer, example.meta | {"source": source.title}
    if source.title == "CV-Bench":
        answer, prompt = example.choices["ABCDEF".index(answer.strip("()"))], example.question
    else:
        prompt = example.prompt
    is_count = answer.isascii() and answer.isdecimal()
    if source.title != "CLEVR" and not is_count:
        raise UserError(
            f"row {example.id!r}: the count {answer!r} is no whole number; correct or remove the row"
        )
    if example.choices and prompt != example.question:  # the prompt shows them
        meta["vocabulary"] = example.choices
    elif is_count:
        meta["vocabulary"] = clevr.COUNTS
    else:
        meta["vocabulary"] = clevr.vocabulary(example)
    task = source.title if is_count else example.task
    return replace(example, answer=answer, prompt=prompt, task=task, choices=None, meta=meta)


def _where(examples: Sequence[Example], wanted: Callable[[Example], bool]) -> Sequence[Example]:
    """Those that are wanted: all are made once now, to decide, and again on access."""
    numbers = [number for number, example in enumerate(examples) if wanted(example)]
    return LazyExamples(lambda number: examples[number], numbers, kept=1)
