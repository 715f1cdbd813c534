"""Scores with their uncertainty: fractions with 95 % intervals, and paired differences.

A *record* is a dict with at least `id`, `task` and `correct` (bool), as `spatialvlm.evaluation.evaluate`
writes them. Of several sampled answers `correct` means that any is right; `num_correct` of `num_samples` are.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import binomtest, bootstrap

Record = dict


@dataclass(frozen=True)
class Estimate:
    """A fraction (or a difference of two), its 95 % interval, and the number of questions behind it."""

    value: float
    interval: tuple[float, float]
    n: int

    def as_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def of(cls, part: Mapping) -> Estimate:
        """The estimate of a task or an aggregate in a summary."""
        return cls(part.get("value", part.get("accuracy")), tuple(part["interval"]), part["n"])


def proportion(correct: int, n: int) -> Estimate:
    """Correct / n with Wilson's score interval. Raises ValueError unless 0 <= correct <= n and n > 0."""
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"no proportion of {correct} in {n}")
    low, high = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return Estimate(correct / n, (float(low), float(high)), n)


def average(scores: Sequence[float], num_samples: int = 1) -> Estimate:
    """The mean score of independent questions, each scored between 0 and 1 from `num_samples` answers to it.

    Answers to one question go together, so the interval is Wilson's at the effective number of answers,
    p (1 - p) / (variance of the mean), as for samples in clusters (Franco et al. 2019, Journal of
    Survey Statistics and Methodology 7, 334-364): one per question where all scores are 0 or 1, at most
    `num_samples`. Scores of 0 and 1 have the interval of their `proportion`.
    """
    n, value, variance = len(scores), float(np.mean(scores)), float(np.var(scores))
    effective = n if value in (0, 1) else n * num_samples
    if variance:
        effective = min(effective, n * value * (1 - value) / variance)
    z = NormalDist().inv_cdf(0.975)
    centre = value + z**2 / (2 * effective)
    margin = z * math.sqrt(value * (1 - value) / effective + (z / (2 * effective)) ** 2)
    low, high = ((centre + side) / (1 + z**2 / effective) for side in (-margin, margin))
    return Estimate(value, (max(low, 0.0), min(high, 1.0)), n)


def accuracy(records: Sequence[Record]) -> Estimate:
    """The fraction of records that are correct, all questions alike (micro); of `scored` ones the mean score.

    Records with a `cluster` (the orders of one question) are not independent of one another, and the interval
    takes account of it.
    """
    if records and "cluster" in records[0]:
        return _of_clusters(records)
    if records and "score" in records[0]:
        return average([record["score"] for record in records], records[0].get("num_samples", 1))
    return proportion(sum(record["correct"] for record in records), len(records))


def clusters(records: Sequence[Record]) -> list[list[float]]:
    """The scores of each cluster's records."""
    return [
        [record.get("score", float(record["correct"])) for record in part]
        for part in group(records, "cluster").values()
    ]


def _of_clusters(records: Sequence[Record]) -> Estimate:
    samples = records[0].get("num_samples", 1) if "score" in records[0] else 1
    by_size: dict[int, list[float]] = defaultdict(list)
    for scores in clusters(records):
        by_size[len(scores)].append(float(np.mean(scores)))
    parts = [average(means, size * samples) for size, means in by_size.items()]
    found = mean(parts, weights=[size * len(means) for size, means in by_size.items()])
    return Estimate(found.value, found.interval, len(records))


def group(records: Iterable[Record], key: str = "task") -> dict[str, list[Record]]:
    """Records by a field of theirs, in order of first appearance."""
    groups = defaultdict(list)
    for record in records:
        groups[record[key]].append(record)
    return dict(groups)


def by_task(records: Sequence[Record]) -> dict[str, Estimate]:
    """The accuracy of each task."""
    return {task: accuracy(part) for task, part in group(records).items()}


def mean(parts: Sequence[Estimate], weights: Sequence[float] | None = None) -> Estimate:
    """The weighted mean of independent estimates, the same weight for each by default.

    The interval puts together the parts' own intervals (MOVER: Zou, Huang and Zhang 2009, Computational
    Statistics and Data Analysis 53), so it stays sound at 0 and 1, and of one part alone it is that part's.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("no mean of no parts")
    weights = np.full(len(parts), 1.0) if weights is None else np.asarray(weights, dtype=float)
    weights = weights / weights.sum()
    values = np.array([part.value for part in parts])
    lows, highs = np.array([part.interval for part in parts]).T
    value = float(weights @ values)
    low = value - math.hypot(*(weights * (values - lows)))
    high = value + math.hypot(*(weights * (highs - values)))
    interval = (max(low, float(lows.min())), min(high, float(highs.max())))  # rounding may leave them
    return Estimate(value, interval, sum(part.n for part in parts))


def mean_of_tasks(records: Sequence[Record]) -> Estimate:
    """The plain mean of the tasks' accuracies, however many questions each has."""
    return mean(list(by_task(records).values()))


def chance(
    records: Sequence[Record], guesses: int = 1, score: Callable[[float, float], float] | None = None
) -> float:
    """The blind baseline on the records of one task, where any of the guesses may be right.

    Uniform guesses among lettered choices, each on its own: the mean of 1 - (1 - 1 / `num_choices`)^guesses.
    For free answers: the better of the most common gold answer given every time and, where known, guesses
    among `vocabulary_size` words. Where `score` (parsed, gold) tells how right a number is, the best of up to
    100 of the gold answers, given every time.
    """

    def hit(options: int) -> float:
        return 1 - (1 - 1 / options) ** guesses

    if all("num_choices" in record for record in records):
        return sum(hit(record["num_choices"]) for record in records) / len(records)
    guessed = sum(hit(record["vocabulary_size"]) for record in records if "vocabulary_size" in record)
    golds = [record["gold"] for record in records]
    if score:
        tried = {golds[at * len(golds) // 100] for at in range(100)}
        constant = max(sum(score(guess, gold) for gold in golds) for guess in tried)
    else:
        constant = max(Counter(golds).values())
    return max(constant, guessed) / len(records)


# ---- two models on the same questions


def paired_difference(before: Sequence[bool], after: Sequence[bool]) -> Estimate:
    """accuracy(after) - accuracy(before) on the same questions, in the same order.

    The interval is Newcombe's for paired proportions (1998, Statistics in Medicine 17, 2635-2650, method 10):
    Wilson's intervals of both, combined with their correlation phi.

    Raises:
        ValueError: different numbers of questions, or none.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} answers before and {len(after)} after are not the same questions")
    n = len(before)
    table = Counter((bool(first), bool(second)) for first, second in zip(before, after, strict=True))
    both, lost, won, neither = (table[cell] for cell in [(1, 1), (1, 0), (0, 1), (0, 0)])
    old, new = proportion(both + lost, n), proportion(both + won, n)
    covariance = both * neither - lost * won
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)  # Newcombe's continuity correction
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    phi = covariance / math.sqrt(margins) if margins else 0.0

    def together(first: float, second: float) -> float:
        return math.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0))

    difference = (won - lost) / n
    low = difference - together(new.value - new.interval[0], old.interval[1] - old.value)
    high = difference + together(new.interval[1] - new.value, old.value - old.interval[0])
    return Estimate(difference, (low, high), n)


def paired_mean_difference(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """mean(after) - mean(before) of scores of the same questions; the interval is a percentile bootstrap's
    over questions (9,999 resamples, a fixed seed).

    Raises:
        ValueError: different numbers of questions, or none.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} scores before and {len(after)} after are not the same questions")
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    if len(differences) == 1 or not differences.std():  # nothing to resample
        return Estimate(float(differences[0]), (float(differences[0]),) * 2, len(differences))
    rng = np.random.default_rng(0)
    found = bootstrap((differences,), np.mean, method="percentile", batch=100, rng=rng).confidence_interval
    return Estimate(float(differences.mean()), (float(found.low), float(found.high)), len(differences))


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """The exact two-sided McNemar p-value of "before and after are right equally often"."""
    won = sum(second and not first for first, second in zip(before, after, strict=True))
    lost = sum(first and not second for first, second in zip(before, after, strict=True))
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def compare(before: Sequence[Record], after: Sequence[Record]) -> dict[str, Estimate]:
    """Paired differences, after - before: one per task, then `mean_of_tasks` and `micro`. Of records with a
    `score` they are differences of mean scores.

    Raises:
        ValueError: the two hold different questions.
    """
    newer = {record["id"]: record for record in after}
    if len(before) != len(after) or any(record["id"] not in newer for record in before):
        raise ValueError("records before and after are not of the same questions")

    def difference(records: Sequence[Record]) -> Estimate:
        name = "score" if "score" in records[0] else "correct"
        both = [record[name] for record in records], [newer[record["id"]][name] for record in records]
        return paired_mean_difference(*both) if name == "score" else paired_difference(*both)

    tasks = {task: difference(part) for task, part in group(before).items()}
    return tasks | {"mean_of_tasks": mean(list(tasks.values())), "micro": difference(before)}


# ---- several answers per question, and numbers


def best_of_k(scores: Sequence[float], k: int) -> float:
    """The expected best of k scores sampled from these without replacement; Pass@k where they are 0 and 1.

    Raises:
        ValueError: k is not within 1..n.
    """
    n = len(scores)
    if not 1 <= k <= n:
        raise ValueError(f"no best of {k} in {n}")
    ways = (math.comb(below, k - 1) * score for below, score in enumerate(sorted(scores)))
    return sum(ways) / math.comb(n, k)  # `below` scores lie under the best of a draw


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k answers, sampled from n of which `correct` are right, is right.

    The unbiased estimate of Chen et al. 2021 (arXiv 2107.03374): 1 - C(n - correct, k) / C(n, k).

    Raises:
        ValueError: k is not within 1..n, or correct not within 0..n.
    """
    if not (1 <= k <= n and 0 <= correct <= n):
        raise ValueError(f"no Pass@{k} of {correct} right answers in {n}")
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def scored(records: Sequence[Record], k: int) -> list[Record]:
    """Add `score` to sampled records, the unbiased estimate of Pass@k per question.

    That is `pass_at_k`; of answers that can be partly right, `best_of_k`.
    """

    def score(record: Record) -> float:
        if "scores" in record:
            return best_of_k(record["scores"], k)
        return pass_at_k(record["num_samples"], record["num_correct"], k)

    return [record | {"score": score(record)} for record in records]


def off_by(predicted: float | str | None, gold: float) -> float:
    """How far a count is off; infinitely where the answer is no number, or there is none."""
    return abs(predicted - gold) if isinstance(predicted, int | float) else math.inf


def close_call(predicted: Sequence[float | str | None], gold: Sequence[float]) -> Estimate | None:
    """Of the wrong counts, the fraction off by exactly one; None where none is wrong."""
    wrong = [(p, g) for p, g in zip(predicted, gold, strict=True) if p != g]
    return proportion(sum(off_by(p, g) == 1 for p, g in wrong), len(wrong)) if wrong else None


def mean_relative_accuracy(predicted: float | None, gold: float) -> float:
    """VSI-Bench's score of a number: the fraction of thresholds t in 0.50, ..., 0.95 with error <= 1 - t.

    The error is |predicted - gold| / gold, compared in float arithmetic as the official scorer does (an error
    of 0.2 scores 0.6, not 0.7); an unparsed number scores 0.

    Raises:
        ValueError: gold is not above 0.
    """
    if gold <= 0:
        raise ValueError(f"relative accuracy needs a true value above 0, not {gold}")
    if predicted is None:
        return 0.0
    thresholds = np.linspace(0.5, 0.95, 10)
    return float((abs(predicted - gold) / gold <= 1 - thresholds).mean())
