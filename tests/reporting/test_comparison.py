"""Comparisons over seeds: the right means, intervals that hold both sources of chance, honest verdicts."""

import random

import pytest
from scipy.stats import t as student

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.tables import percent
from spatialvlm.papers import sat_study
from spatialvlm.reporting import comparison
from spatialvlm.reporting.comparison import Questions, Scores

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
    error = ((sum((value - average) ** 2 for value in values) + 1) / 39 / 40) ** 0.5
    low, high = comparison.mean([scores], questions).interval
    assert high - average == pytest.approx(student.ppf(0.975, 39) * error) == pytest.approx(average - low)


def test_seeds_that_disagree_widen_the_interval():
    questions = QUESTIONS.of("Depth")
    same = [dict.fromkeys(questions.task_of, 0.5)] * 3
    apart = [dict.fromkeys(questions.task_of, value) for value in (0.4, 0.5, 0.6)]
    low, high = comparison.mean(same, questions).interval
    assert high - 0.5 == pytest.approx(student.ppf(0.975, 39) / (39 * 40) ** 0.5) == pytest.approx(0.5 - low)
    low, high = comparison.mean(apart, questions).interval
    parts = 1 / 39 / 40, 0.1**2 / 3  # of questions and of seeds, with 39 and 2 degrees of freedom
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 39 + parts[1] ** 2 / 2)
    half = student.ppf(0.975, freedom) * sum(parts) ** 0.5
    assert high - 0.5 == pytest.approx(half) == pytest.approx(0.5 - low)


@pytest.mark.parametrize("won", range(1, 9))
def test_few_questions_that_change_prove_no_more_than_paired_proportions_say(won):
    """Of 128 questions that nobody solved before, over four tasks, some are solved now."""
    tasks = Questions({str(number): str(number % 4) for number in range(128)})
    gain = comparison.mean([{id: float(int(id) < won) for id in tasks.task_of}], tasks)
    newcombe = metrics.paired_difference([False] * 128, [number < won for number in range(128)])
    assert comparison.verdict(gain) == comparison.verdict(newcombe) == ("held" if won > 4 else "undecided")


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
    blind = [draw(0.5, f"{seed}", QUESTIONS) for seed in range(3)]

    def scores(share, mark, questions=QUESTIONS):
        own = [draw(share, f"{name}{seed}{mark}", questions) for seed in range(3)]
        return Scores(own, [{id: each[id] for id in questions.task_of} for each in blind])

    return {
        "": scores(share, ""),
        "-ood": scores(flipped, "o", part),
        "-pass4": scores(four, "p"),
        "-pass4-ood": scores(four, "q", part),
    }


def test_the_papers_claims_follow_the_figures():
    """Made so that all hold but SFT's at four samples, and nothing is left with the images shuffled."""
    arms = {
        "base": arm(0.4, 0.4, 0.5, "b"),
        "GRPO-v1": arm(0.5, 0.5, 0.6, "1"),
        "SFT": arm(0.6, 0.2, 0.6, "s"),
        "GRPO-v2": arm(0.85, 0.85, 0.95, "2"),
    }
    arms |= {f"{name}, balanced": arms[name] for name in ("SFT", "GRPO-v1", "GRPO-v2")}
    tests = {test: {name: of[test] for name, of in arms.items()} for test in sat_study.TESTS}
    answers = sat_study.Answers(QUESTIONS, tests)
    claims = sat_study.claims(answers)
    verdicts = {key: claim.verdict for key, claim in claims.items()}
    assert verdicts.pop("sft_above_v2_pass4") == "not held" and verdicts.pop("sft_looks") == "held"
    assert set(verdicts.values()) == {"held"} and len(verdicts) == 6
    published = {key: claim.published for key, claim in claims.items() if claim.published}
    expected = {"sft_above_base": 14.63, "v2_above_base": 20.22, "v2_above_sft": 5.59, "v2_above_v1": 17.61}
    expected |= {"sft_above_v2_pass4": 2.91, "gap": 4.18}
    assert published == pytest.approx(expected, abs=0.01)
    for key, claim in claims.items():
        assert claim.seeds == 3 and claim.difference.n == (80 if key == "gap" else 160)
        if not key.endswith("looks"):
            assert claim.shuffled.value == 0 and comparison.verdict(claim.shuffled) == "undecided"
    text = sat_study.section(answers, "Facts.")
    for words in ("72.4", "+12.0", "**not held**", "balanced polarity", "Facts."):
        assert words in text
    assert text.count("| GRPO-v2's ID-OOD gap is smaller than SFT's") == 2
    depth = QUESTIONS.of("Depth").task_of
    right = 100 * sum(sum(s[id] for id in depth) for s in arms["SFT"][""].own) / 120
    assert f"{right:.1f} (" in text


def test_a_claim_is_measured_with_the_images_and_with_others():
    part = QUESTIONS.of("Depth")
    ones, zeros = ([dict.fromkeys(part.task_of, value)] for value in (1.0, 0.0))
    found = comparison.claim("a above b", Scores(ones, zeros), Scores(zeros, ones), part, 5.0)
    assert (found.difference.value, found.shuffled.value, found.verdict) == (1, -1, "held")
    row = comparison.claims_table([found]).splitlines()[2].split("|")
    cells = [cell.strip().split(" ")[0] for cell in row[1:-1]]
    assert cells == ["a", "+5.0", "+100.0", "40,", "-100.0", "**held**"]
    alone = comparison.claim("a", Scores(ones), Scores(zeros, ones), part)
    assert alone.shuffled is None and "| -" in comparison.claims_table([alone])


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
