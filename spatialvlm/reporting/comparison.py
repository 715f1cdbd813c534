"""Arms compared over several seeds, and verdicts on whether a claim holds.

A *score* maps a question's id to its fraction of correct answers (0 or 1 for a greedy answer), one per seed.
Questions are the same for all seeds and arms, so differences are paired. Means go over the questions of a
task, then over tasks, so that each task has equal weight (the paper's Total).

Intervals are 95 % and cover two sources of chance: the sample of questions and the seed of the training. The
variances of both means are added, and Student's t has Welch and Satterthwaite's degrees of freedom; with few
seeds the interval is wide, and is meant to be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy.stats import t as student

from spatialvlm.evaluation.metrics import Estimate, Record

Score = Mapping[str, float]  # question -> fraction of correct answers
HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"


@dataclass(frozen=True)
class Questions:
    """The task of each question, in the order of the test."""

    task_of: Mapping[str, str]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(self.task_of.values()))

    def of(self, *tasks: str) -> Questions:
        """Return the questions of some tasks."""
        return Questions({id: task for id, task in self.task_of.items() if task in tasks})


def questions(records: Sequence[Record]) -> Questions:
    return Questions({record["id"]: record["task"] for record in records})


def score(records: Sequence[Record]) -> Score:
    """Return 1 for a correct answer (with several samples: any of them), else 0."""
    return {record["id"]: float(record["correct"]) for record in records}


def difference(first: Sequence[Score], second: Sequence[Score]) -> list[Score]:
    """Return first - second, per seed and question."""
    pairs = zip(first, second, strict=True)
    return [{id: one[id] - other[id] for id in one} for one, other in pairs]


def mean(scores: Sequence[Score], questions: Questions) -> Estimate:
    """Return the mean over questions, then tasks, and all seeds, with its interval; n is questions.

    Raises:
        ValueError: no scores, or a question without one.
    """
    if not scores or not questions.task_of:
        raise ValueError("no mean of no scores")
    tasks = questions.tasks
    by_question = {id: fmean(each[id] for each in scores) for id in questions.task_of}
    by_task = {task: [by_question[id] for id in questions.of(task).task_of] for task in tasks}
    value = fmean(fmean(values) for values in by_task.values())
    parts = [  # (variance, degrees of freedom) of each source of chance
        (variance(values) / len(values) / len(tasks) ** 2, len(values) - 1)
        for values in by_task.values()
        if len(values) > 1
    ]
    if len(scores) > 1:
        means = [
            fmean(fmean(one[id] for id in questions.of(task).task_of) for task in tasks) for one in scores
        ]
        parts.append((variance(means) / len(means), len(means) - 1))
    total = sum(part for part, _ in parts)
    if not total:
        return Estimate(value, (value, value), len(questions.task_of))
    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(student.ppf(0.975, freedom)) * math.sqrt(total)
    return Estimate(value, (value - half, value + half), len(questions.task_of))


def verdict(estimate: Estimate) -> str:
    """Return whether "this is above 0" holds: the whole interval is above 0, below, or neither."""
    low, high = estimate.interval
    if low > 0:
        return HELD
    return NOT_HELD if high < 0 else UNDECIDED


# ---- in words


def replace_section(text: str, name: str, content: str) -> str:
    """Return `text` with section `name` replaced, or appended if missing."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{start}\n{content.strip()}\n{end}"
    if start in text and end in text:
        before, rest = text.split(start, 1)
        return before + section + rest.split(end, 1)[1]
    return text.rstrip("\n") + ("\n\n" if text.strip() else "") + section + "\n"
