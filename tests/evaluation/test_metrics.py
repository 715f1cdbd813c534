"""Metrics against published values, brute force and simulation."""

from itertools import combinations

import numpy as np
import pytest

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Estimate


def records(**tasks):
    """Records by task from strings: "110" is right, right, wrong."""
    return [
        {"id": f"{task}-{index}", "task": task, "correct": mark == "1"}
        for task, marks in tasks.items()
        for index, mark in enumerate(marks)
    ]


def test_wilson_interval_is_the_published_one():
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
    for correct, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)]:
        assert metrics.proportion(correct, n).interval == pytest.approx((low, high), abs=5e-5)
    assert metrics.proportion(29, 29).interval == pytest.approx((0.8830, 1), abs=5e-5)


@pytest.mark.parametrize("correct, n", [(0, 0), (3, 2), (-1, 5)])
def test_no_proportion_of_nothing(correct, n):
    with pytest.raises(ValueError, match="no proportion"):
        metrics.proportion(correct, n)


def test_accuracy_by_task_keeps_the_order_and_every_row():
    made = metrics.by_task(records(Relation="1100", Count="111"))
    assert list(made) == ["Relation", "Count"]
    assert [(estimate.value, estimate.n) for estimate in made.values()] == [(0.5, 4), (1.0, 3)]


def test_micro_and_mean_of_tasks_differ_where_tasks_differ_in_size():
    made = records(Count="1111", Depth="10", Distance="0")
    assert metrics.accuracy(made).value == pytest.approx(5 / 7)
    assert metrics.mean_of_tasks(made).value == pytest.approx(0.5)


def test_mean_of_one_part_is_that_part():
    part = metrics.proportion(3, 10)
    whole = metrics.mean([part])
    assert (whole.value, whole.n) == (part.value, part.n) and whole.interval == pytest.approx(part.interval)


def test_mean_weighs_its_parts():
    parts = [metrics.proportion(10, 10), metrics.proportion(0, 10), metrics.proportion(5, 10)]
    made = metrics.mean(parts, weights=[1, 1, 2])
    assert made.value == pytest.approx(0.5) and made.n == 30
    assert metrics.mean(parts, weights=[3, 0, 0]).interval == pytest.approx(parts[0].interval)


def test_interval_of_a_mean_covers_the_truth_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    truths, sizes = np.array([0.95, 0.5, 0.8]), (40, 30, 60)
    covered = 0
    for _ in range(600):
        made = metrics.mean(
            [metrics.proportion(int(rng.binomial(n, p)), n) for p, n in zip(truths, sizes, strict=True)]
        )
        covered += made.interval[0] <= truths.mean() <= made.interval[1]
    assert 0.92 <= covered / 600 <= 0.98


def test_mean_of_nothing():
    with pytest.raises(ValueError, match="no mean"):
        metrics.mean([])


def from_table(both, lost, won, neither):
    before = [True] * (both + lost) + [False] * (won + neither)
    after = [True] * both + [False] * lost + [True] * won + [False] * neither
    return before, after


@pytest.mark.parametrize(
    "table, low, high",
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10
        ((20, 12, 2, 16), 0.0562, 0.3292),
        ((59, 6, 16, 80), -0.1186, -0.0046),  # Cavo et al., as in the R package contingencytables
    ],
)
def test_paired_difference_is_the_published_one(table, low, high):
    made = metrics.paired_difference(
        *from_table(*table)
    )  # after - before: the published one with its sign turned
    assert made.value == pytest.approx((table[2] - table[1]) / sum(table))
    assert (-made.interval[1], -made.interval[0]) == pytest.approx((low, high), abs=5e-5)


def test_paired_difference_covers_the_truth_95_percent_of_the_time():
    rng = np.random.default_rng(1)
    cells = np.array([0.5, 0.1, 0.25, 0.15])
    covered = 0
    for _ in range(600):
        made = metrics.paired_difference(*from_table(*rng.multinomial(80, cells)))
        covered += made.interval[0] <= cells[2] - cells[1] <= made.interval[1]
    assert 0.92 <= covered / 600 <= 0.98


def test_pairing_narrows_the_interval():
    same = metrics.paired_difference(*from_table(60, 0, 20, 20))
    crossed = metrics.paired_difference(*from_table(40, 20, 40, 0))
    assert same.value == crossed.value == 0.2
    assert same.interval[0] > 0.1 > crossed.interval[0]


def test_paired_difference_wants_the_same_questions():
    with pytest.raises(ValueError, match="not the same questions"):
        metrics.paired_difference([True], [True, False])


def test_mcnemar():
    assert metrics.mcnemar(*from_table(5, 0, 0, 5)) == 1.0
    assert metrics.mcnemar(*from_table(0, 2, 8, 0)) == pytest.approx(2 * (1 + 10 + 45) / 1024)


def test_compare_matches_questions_by_id():
    before, after = records(Count="1000", Depth="00"), records(Count="1110", Depth="01")
    made = metrics.compare(before, after[::-1])
    assert list(made) == ["Count", "Depth", "mean_of_tasks", "micro"]
    assert [estimate.value for estimate in made.values()] == pytest.approx([0.5, 0.5, 0.5, 0.5])
    assert made["micro"] == metrics.paired_difference(
        [r["correct"] for r in before], [r["correct"] for r in after]
    )
    with pytest.raises(ValueError, match="same questions"):
        metrics.compare(before, after[1:])


def test_chance_is_a_guess_among_choices_or_the_commonest_answer():
    assert metrics.chance([{"num_choices": 2, "gold": "A"}, {"num_choices": 4, "gold": "A"}]) == 0.375
    free = [{"gold": answer} for answer in ("left", "right", "right", "above", "below")]
    assert metrics.chance(free) == 0.4
    assert metrics.chance([record | {"vocabulary_size": 2} for record in free]) == 0.5
    assert metrics.chance([record | {"vocabulary_size": 10} for record in free]) == 0.4


def test_chance_of_several_guesses():
    lettered = [{"num_choices": 2, "gold": "A"}, {"num_choices": 4, "gold": "A"}]
    assert metrics.chance(lettered, 4) == pytest.approx((15 / 16 + 175 / 256) / 2)
    free = [{"gold": answer, "vocabulary_size": 3} for answer in ("left", "left", "right", "above")]
    assert metrics.chance(free, 1) == 0.5 and metrics.chance(free, 2) == pytest.approx(5 / 9)


def test_pass_at_k_by_counting_every_subset():
    right = [True, True, False, False, False]
    for k in range(1, 6):
        draws = [any(draw) for draw in combinations(right, k)]
        assert metrics.pass_at_k(5, 2, k) == pytest.approx(sum(draws) / len(draws))
    assert metrics.pass_at_k(4, 0, 4) == 0 and metrics.pass_at_k(4, 4, 1) == 1
    for bad in [(4, 2, 5), (4, 5, 1), (4, 2, 0)]:
        with pytest.raises(ValueError, match="no Pass@"):
            metrics.pass_at_k(*bad)


def test_scored_records_count_by_their_share():
    sampled = [
        {"id": str(right), "task": "Count", "correct": right > 0, "num_correct": right, "num_samples": 4}
        for right in (0, 1, 2, 4)
    ]
    assert metrics.accuracy(sampled) == metrics.proportion(3, 4)
    found = [metrics.accuracy(metrics.scored(sampled, k)) for k in (1, 2, 3, 4)]
    assert [estimate.value for estimate in found] == pytest.approx(
        [7 / 16, (0.5 + 5 / 6 + 1) / 4, 2.75 / 4, 0.75]
    )
    assert found[3].interval == pytest.approx(metrics.proportion(3, 4).interval)
    assert metrics.mean_of_tasks(metrics.scored(sampled, 1)).value == pytest.approx(7 / 16)


def test_average_of_right_and_wrong_is_the_proportion():
    for right, n in [(0, 20), (3, 17), (20, 20)]:
        made, expected = metrics.average([1.0] * right + [0.0] * (n - right), 4), metrics.proportion(right, n)
        assert (made.value, made.n) == (expected.value, expected.n)
        assert made.interval == pytest.approx(expected.interval, abs=1e-12)


def test_average_takes_answers_for_independent_only_where_they_look_it():
    def width(scores):
        low, high = metrics.average(scores, 4).interval
        return high - low

    together, apart = width([1.0, 0.0] * 20), width([0.5] * 40)
    assert apart == pytest.approx(np.diff(metrics.proportion(80, 160).interval)[0])
    assert together > width([0.75, 0.25] * 20) >= apart


@pytest.mark.parametrize("k", [1, 2, 4])
def test_interval_of_pass_at_k_covers_the_truth_95_percent_of_the_time(k):
    rng = np.random.default_rng(k)
    truth = 1 - np.mean((1 - rng.beta(1, 2, 10**6)) ** k)
    covered = 0
    for _ in range(600):
        right = rng.binomial(4, rng.beta(1, 2, 60))
        low, high = metrics.average([metrics.pass_at_k(4, int(each), k) for each in right], 4).interval
        covered += low <= truth <= high
    assert 0.92 <= covered / 600 <= 0.98


def test_close_call_is_a_share_of_the_wrong_counts():
    made = metrics.close_call([3, 4, None, 7, 2, "y"], [3, 5, 1, 5, 3, 2])
    assert (made.value, made.n) == (2 / 5, 5)
    assert metrics.close_call([3], [3]) is None


@pytest.mark.parametrize(
    "predicted, gold, expected",
    [
        (10, 10, 1.0),
        (12, 10, 0.6),
        (8, 10, 0.6),
        (15, 10, 0.1),
        (15.1, 10, 0.0),
        (0, 10, 0.0),
        (None, 10, 0.0),
    ],
)
def test_mean_relative_accuracy(predicted, gold, expected):
    assert metrics.mean_relative_accuracy(predicted, gold) == pytest.approx(expected)


def test_mean_relative_accuracy_of_nothing():
    with pytest.raises(ValueError, match="above 0"):
        metrics.mean_relative_accuracy(1, 0)


def test_estimate_as_dict():
    assert Estimate(0.5, (0.2, 0.8), 6).as_dict() == {"value": 0.5, "interval": (0.2, 0.8), "n": 6}
