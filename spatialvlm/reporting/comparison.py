"""Arms compared over seeds, paired by question, and verdicts on whether a claim holds.

A *score* maps a question's id to the fraction of it that is correct (0 or 1 for a greedy choice); an arm has
one per seed. Questions are the same for all seeds and arms, so differences are paired. Means go over the
questions of a task, then over tasks, so that each task has equal weight (the paper's Total).

Intervals are 95 % and cover two sources of chance: the sample of questions and, with several seeds, the seed
of the training. The variances of both means are added, and Student's t has Welch and Satterthwaite's degrees
of freedom; with few seeds the interval is wide, and is meant to be. One is added to the sum of squares,
spread over the tasks, as Agresti and Min (2005, Statistics in Medicine 24, 729-740) add pairs that differ:
three changed questions among hundreds prove nothing, and what nobody solves has an interval all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy.stats import t as student

from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import markdown, percent

Score = Mapping[str, float]  # question -> fraction that is correct
HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"
VERDICTS = (
    "Held: the whole 95 % interval of the difference (points, paired by question) is above 0. Not held: the "
    "whole interval is below 0. Undecided: it contains 0. Beside it is the same difference with the images "
    "shuffled among the questions of a task: what of it needs no image."
)


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


@dataclass(frozen=True)
class Scores:
    """An arm's scores in a test, one per seed: with the images, and with those of other questions."""

    own: Sequence[Score]
    shuffled: Sequence[Score] = ()

    def minus(self, other: Scores) -> Scores:
        """Return the differences per seed and question, each of the two if both have it."""
        both = self.shuffled and other.shuffled
        shuffled = difference(self.shuffled, other.shuffled) if both else ()
        return Scores(difference(self.own, other.own), shuffled)


def questions(records: Sequence[Record]) -> Questions:
    return Questions({record["id"]: record["task"] for record in records})


def value(record: Record) -> float:
    """Return the score of an answer, or 1 if it is correct (with several samples: any of them), else 0."""
    return record.get("score", float(record["correct"]))


def score(records: Sequence[Record], value: Callable[[Record], float] = value) -> Score:
    return {record["id"]: value(record) for record in records}


def difference(first: Sequence[Score], second: Sequence[Score]) -> list[Score]:
    """Return first - second, per seed and question of the second."""
    pairs = zip(first, second, strict=True)
    return [{id: one[id] - other[id] for id in other} for one, other in pairs]


def looking(arms: Mapping[str, Scores]) -> dict[str, Scores]:
    """Return by how much each arm's scores with the images are above those with images shuffled."""
    return {name: Scores(difference(arm.own, arm.shuffled)) for name, arm in arms.items()}


def mean(scores: Sequence[Score], questions: Questions) -> Estimate:
    """Return the mean over questions, then tasks, and all seeds, with its interval; n is questions.

    Raises:
        ValueError: no scores, or a question without one.
    """
    if not scores or not questions.task_of:
        raise ValueError("no mean of no scores")
    tasks = questions.tasks
    added = 1 / len(tasks)
    by_question = {id: fmean(each[id] for each in scores) for id in questions.task_of}
    by_task = {task: [by_question[id] for id in questions.of(task).task_of] for task in tasks}
    value = fmean(fmean(values) for values in by_task.values())
    parts = [  # (variance, degrees of freedom) of each source of chance
        ((variance(values) + added / (len(values) - 1)) / len(values) / len(tasks) ** 2, len(values) - 1)
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


# ---- claims


@dataclass(frozen=True)
class Claim:
    """A claim of a paper that a difference is above 0.

    Args:
        text: the claim in words.
        difference: as measured, with the images.
        seeds: number of trainings per arm.
        published: the paper's difference in points, if it reports one.
        shuffled: the same difference with the images shuffled, if it was measured.
    """

    text: str
    difference: Estimate
    seeds: int = 1
    published: float | None = None
    shuffled: Estimate | None = None

    @property
    def verdict(self) -> str:
        return verdict(self.difference)


def claim(
    text: str, first: Scores, second: Scores, questions: Questions, published: float | None = None
) -> Claim:
    """Measure the claim that `first` is above `second` in the mean over some questions."""
    found = first.minus(second)
    shuffled = mean(found.shuffled, questions) if found.shuffled else None
    return Claim(text, mean(found.own, questions), len(found.own), published, shuffled)


def verdict(estimate: Estimate) -> str:
    """Return whether "this is above 0" holds: the whole interval is above 0, below, or neither."""
    low, high = estimate.interval
    if low > 0:
        return HELD
    return NOT_HELD if high < 0 else UNDECIDED


# ---- tables


def claims_table(claims: Iterable[Claim]) -> str:
    """Format claims with published and own differences in points, number of questions and seeds, verdicts."""
    rows = [
        [
            each.text,
            "-" if each.published is None else f"{each.published:+.1f}",
            percent(each.difference, sign=True),
            f"{each.difference.n}, {each.seeds}",
            "-" if each.shuffled is None else percent(each.shuffled, sign=True),
            f"**{each.verdict}**",
        ]
        for each in claims
    ]
    return markdown(("claim", "published", "here", "questions, seeds", "images shuffled", "verdict"), rows)


def scores_table(
    arms: Mapping[str, Scores],
    columns: Mapping[str, Questions],
    published: Mapping[str, Sequence[float]] | None = None,
    sign: bool = False,
    last: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """Format mean scores in percent, each arm above its published row, and last with the images shuffled.

    Args:
        columns: the questions of each; the last one's are those of the column with the images shuffled.
        published: figures by arm and column.
        sign: format differences.
        last: rows of exact figures.
    """
    total, everything = list(columns.items())[-1]
    blind = any(arm.shuffled for arm in arms.values())

    def figures(name: str, values: Sequence[float]) -> list[str]:
        return [name, *(f"{value:.1f}" for value in values), *([""] if blind else [])]

    rows = []
    for name, arm in arms.items():
        rows.append([name, *(percent(mean(arm.own, part), sign) for part in columns.values())])
        if blind:
            rows[-1].append(percent(mean(arm.shuffled, everything), sign) if arm.shuffled else "")
        if published and name in published:
            rows.append(figures(f"{name}, published", published[name]))
    rows += [figures(name, values) for name, values in (last or {}).items()]
    return markdown(("", *columns, *([f"{total}, images shuffled"] if blind else [])), rows)


def replace_section(text: str, name: str, content: str) -> str:
    """Return `text` with section `name` replaced, or appended if missing."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{start}\n{content.strip()}\n{end}"
    if start in text and end in text:
        before, rest = text.split(start, 1)
        return before + section + rest.split(end, 1)[1]
    return text.rstrip("\n") + ("\n\n" if text.strip() else "") + section + "\n"
