"""Comparisons over seeds: the right means, intervals that hold both sources of chance, honest verdicts."""

import random

import pytest
from scipy.stats import t as student

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.tables import percent
from spatialvlm.papers import sat
from spatialvlm.reporting import comparison
from spatialvlm.reporting.comparison import Questions

QUESTIONS = Questions(
    {f"{task}{i}": task for task in ("Count", "Relation", "Depth", "Distance") for i in range(40)}
)


def draw(share, seed, questions=QUESTIONS):
    """Answers of which a fraction is right, by chance."""
    rng = random.Random(seed)
    return {id: float(rng.random() < share) for id in questions.task_of}


def test_every_task_counts_alike():
    questions = Questions({"a": "one", "b": "two", "c": "two", "d": "two"})
    found = comparison.mean([{"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}] * 2, questions)
    assert found.value == 0.5 and found.n == 4


def test_one_seed_and_one_task_give_students_interval_over_questions():
    questions = QUESTIONS.of("Depth")
    scores = draw(0.6, 1, questions)
    values = list(scores.values())
    average = sum(values) / 40
    error = (sum((value - average) ** 2 for value in values) / 39 / 40) ** 0.5
    low, high = comparison.mean([scores], questions).interval
    assert high - average == pytest.approx(student.ppf(0.975, 39) * error) == pytest.approx(average - low)


def test_seeds_that_disagree_widen_the_interval():
    questions = QUESTIONS.of("Depth")
    same = [dict.fromkeys(questions.task_of, 0.5)] * 3
    apart = [dict.fromkeys(questions.task_of, value) for value in (0.4, 0.5, 0.6)]
    assert comparison.mean(same, questions).interval == (0.5, 0.5)
    low, high = comparison.mean(apart, questions).interval
    assert high - 0.5 == pytest.approx(student.ppf(0.975, 2) * 0.1 / 3**0.5) == pytest.approx(0.5 - low)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Questions of their own difficulty, seeds of their own skill: 95 % intervals must not be too narrow."""
    rng, held = random.Random(0), 0
    for _ in range(300):
        difficulty = {id: rng.gauss(0, 0.15) for id in QUESTIONS.task_of}
        skills = [rng.gauss(0, 0.05) for _ in range(3)]
        scores = [
            {id: float(rng.random() < 0.5 + skill + difficulty[id]) for id in QUESTIONS.task_of}
            for skill in skills
        ]
        low, high = comparison.mean(scores, QUESTIONS).interval
        held += low <= 0.5 <= high
    assert 0.92 <= held / 300 <= 0.995


@pytest.mark.parametrize(
    ("ours", "theirs", "word"), [(0.9, 0.5, "held"), (0.5, 0.9, "not held"), (0.7, 0.7, "undecided")]
)
def test_verdicts(ours, theirs, word):
    first, second = (
        [draw(share, f"{share}{seed}{who}") for seed in range(3)] for who, share in enumerate((ours, theirs))
    )
    assert comparison.verdict(comparison.mean(comparison.difference(first, second), QUESTIONS)) == word


def arm(share, flipped, four, name):
    part = QUESTIONS.of("Depth", "Distance")
    seeds = range(3)
    return sat.Scores(
        [draw(share, f"{name}{seed}") for seed in seeds],
        [draw(flipped, f"{name}{seed}o", part) for seed in seeds],
        [draw(four, f"{name}{seed}p") for seed in seeds],
        [draw(four, f"{name}{seed}q", part) for seed in seeds],
    )


def test_the_papers_claims_follow_the_figures():
    """Made so that the first claim holds, the second is the other way round, and the third holds."""
    arms = {
        "base": arm(0.4, 0.4, 0.5, "b"),
        "GRPO-v1": arm(0.5, 0.5, 0.6, "1"),
        "SFT": arm(0.6, 0.2, 0.6, "s"),
        "GRPO-v2": arm(0.85, 0.85, 0.95, "2"),
    }
    claims = sat.claims(arms, QUESTIONS).values()
    verdicts = [comparison.verdict(claim.difference) for claim in claims]
    assert verdicts == ["held", "not held", "held", "held"]
    published = [claim.published for claim in claims]
    assert published == pytest.approx([5.59, 2.91, 4.18, 17.61], abs=0.01)
    text = sat.section(
        arms, {name: arms[name] for name in ("SFT", "GRPO-v1", "GRPO-v2")}, QUESTIONS, "Facts."
    )
    for words in ("72.4", "+12.0", "**not held**", "balanced polarity", "Facts."):
        assert words in text
    depth = 100 * sum(sum(s[id] for id in QUESTIONS.of("Depth").task_of) for s in arms["SFT"].pass1) / 120
    assert f"{depth:.1f} (" in text


def test_sections_are_replaced_and_the_rest_stays():
    once = comparison.replace_section("# Results\n\nby hand\n", "speed", "one")
    twice = comparison.replace_section(comparison.replace_section(once, "memory", "two"), "speed", "three")
    assert "by hand" in twice and "two" in twice and "three" in twice and "one\n" not in twice
    assert comparison.replace_section(twice, "speed", "three") == twice


def test_no_scores():
    with pytest.raises(ValueError, match="no mean"):
        comparison.mean([], QUESTIONS)


def test_a_share_is_written_one_way_however_it_was_added_up():
    """A mean over tasks of 0.1625 can come out as 0.16250000000000003: tables and paper must agree."""
    added = metrics.Estimate(0.16250000000000003, (0.1, 0.2), 640)
    whole = metrics.Estimate(0.1625, (0.1, 0.2), 640)
    assert percent(added) == percent(whole) == "16.2 (10.0 to 20.0)"
