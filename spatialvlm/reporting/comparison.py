"""Ways of training compared over several seeds, and whether the figures bear a claim out.

A *score* is a dict from a question's id to its share of right answers (0 or 1 for a greedy answer), one a
seed. Questions are the same for all seeds and ways, so differences are taken question by question. Means go
over the questions of a task, then over tasks, so each task counts alike (the paper's Total).

Intervals are 95 % and hold two sources of chance: which questions were asked, and the seed of the training.
Their variances, of the mean over questions and of the mean over seeds, are added, and Student's t is taken
with Welch and Satterthwaite's degrees of freedom; with few seeds that is wide, and on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy.stats import t as student

from spatialvlm.evaluation.metrics import Estimate, Record

Score = Mapping[str, float]  # question -> share of right answers
HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"


@dataclass(frozen=True)
class Questions:
    """Which task each question is of, in the order of the test."""

    task_of: Mapping[str, str]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(self.task_of.values()))

    def of(self, *tasks: str) -> Questions:
        """Those of the tasks given."""
        return Questions({id: task for id, task in self.task_of.items() if task in tasks})


def questions(records: Sequence[Record]) -> Questions:
    return Questions({record["id"]: record["task"] for record in records})


def score(records: Sequence[Record]) -> Score:
    """1 for a question answered right (any sample, where there are several), else 0."""
    return {record["id"]: float(record["correct"]) for record in records}


def difference(first: Sequence[Score], second: Sequence[Score]) -> list[Score]:
    """first - second, seed by seed and question by question."""
    pairs = zip(first, second, strict=True)
    return [{id: one[id] - other[id] for id in one} for one, other in pairs]


def mean(scores: Sequence[Score], asked: Questions) -> Estimate:
    """The mean over tasks of the mean over questions, over all seeds, with its interval; n is questions.

    Raises:
        ValueError: no scores, or a question without one.
    """
    if not scores or not asked.task_of:
        raise ValueError("no mean of no scores")
    tasks = asked.tasks
    by_question = {id: fmean(each[id] for each in scores) for id in asked.task_of}
    of_task = {task: [by_question[id] for id, t in asked.task_of.items() if t == task] for task in tasks}
    value = fmean(fmean(values) for values in of_task.values())
    parts = [  # (variance, degrees of freedom) of each source of chance
        (variance(values) / len(values) / len(tasks) ** 2, len(values) - 1)
        for values in of_task.values()
        if len(values) > 1
    ]
    if len(scores) > 1:
        means = [fmean(fmean(one[id] for id in asked.of(task).task_of) for task in tasks) for one in scores]
        parts.append((variance(means) / len(means), len(means) - 1))
    total = sum(part for part, _ in parts)
    if not total:
        return Estimate(value, (value, value), len(asked.task_of))
    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(student.ppf(0.975, freedom)) * math.sqrt(total)
    return Estimate(value, (value - half, value + half), len(asked.task_of))


def verdict(estimate: Estimate) -> str:
    """Whether "this is above 0" holds: the whole interval above 0, the whole below, or neither."""
    low, high = estimate.interval
    if low > 0:
        return HELD
    return NOT_HELD if high < 0 else UNDECIDED


# ---- in words


def percent(estimate: Estimate, sign: bool = False) -> str:
    """`73.2 (70.8 to 75.4)`, a share in percent; with `sign` a difference, `+3.1 (-0.4 to +6.6)`."""
    low, high = estimate.interval
    if not sign:  # Student's interval does not know that shares end at 0 and 1
        low, high = max(low, 0), min(high, 1)
    form = "+.1f" if sign else ".1f"
    value, low, high = (100 * round(each, 6) for each in (estimate.value, low, high))  # 16.25 one way alone
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns lined up."""
    table = [list(header), ["---"] * len(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    table[1] = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    )


def replace_section(text: str, name: str, content: str) -> str:
    """`text` with the content of section `name` replaced; the section is added at the end where missing."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{start}\n{content.strip()}\n{end}"
    if start in text and end in text:
        before, rest = text.split(start, 1)
        return before + section + rest.split(end, 1)[1]
    return text.rstrip("\n") + ("\n\n" if text.strip() else "") + section + "\n"
