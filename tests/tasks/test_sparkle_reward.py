"""Rewards of Sparkle's families: a right answer alone is worth 1; numbers are worth their nearness."""

from __future__ import annotations

import pytest

from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle import reward as rewards_sparkle
from spatialvlm.tasks.sparkle.questions import FAMILIES
from spatialvlm.tasks.sparkle.scoring import BASIC

EXAMPLES = {example.task: example for example in sparkle.load("embedded", limit=17)}


def reward(task: str, completion: str) -> float:
    return rewards_sparkle.basic(completion, EXAMPLES[task])


def changed(example) -> str:
    """Another answer of the same form."""
    answer = example.answer
    others = {
        "direction": ("above", "below"),
        "cell": ("center", "upper left"),
        "quadrant": ("upper left", "lower right"),
        "yes_no": ("yes", "no"),
        "count": ("0", "1"),
        "number": ("0.1", "9.9"),
        "ratio": ("0.1", "9.9"),
        "coordinates": ("(0.0, 0.0)", "(9.9, 9.9)"),
    }.get(example.meta["answer_type"])
    if others:
        return next(other for other in others if other[:3] != answer[:3])
    labels = answer.split(", ")
    return (
        ", ".join(labels[::-1]) if len(labels) > 1 else next(n for n in example.meta["nodes"] if n != answer)
    )


def test_every_family_is_there():
    assert set(EXAMPLES) == set(FAMILIES)


@pytest.mark.parametrize("task", FAMILIES)
def test_the_answer_and_nothing_else_is_worth_one(task):
    example = EXAMPLES[task]
    for said in (example.answer, f" {example.answer.upper()}. ", f"{example.answer}\n"):
        assert reward(task, said) == 1, said
    for said in (
        f"The answer is {example.answer}",
        f"{example.answer} {example.answer}",
        f"{example.answer} because of the picture",
        "I do not know",
    ):
        assert reward(task, said) == 0, said
    assert reward(task, "") == reward(task, " \n") == reward(task, " . ") == -0.2
    assert 0 <= reward(task, changed(example)) < 1


def test_words_as_a_tokenizer_that_keeps_them_apart_gives_them_back():
    for task, example in EXAMPLES.items():
        apart = example.answer
        for sign in "(),.":
            apart = apart.replace(sign, f" {sign} ")
        assert reward(task, " ".join(apart.split())) == 1, apart


def test_a_number_is_worth_more_the_nearer_it_is():
    true = float(EXAMPLES["distance_exact"].answer)
    worth = [
        reward("distance_exact", f"{true * share:.3f}") for share in (0, 0.5, 0.7, 0.92, 1, 1.08, 1.3, 2, 3)
    ]
    assert worth == pytest.approx([0, 0.5, 0.7, 1, 1, 1, 0.7, 0, 0], abs=0.01)


def test_coordinates_are_worth_half_an_axis():
    x, y = (float(value) for value in EXAMPLES["location_coordinates"].answer.strip("()").split(","))
    off = 2 if x < 5 else -2
    assert reward("location_coordinates", f"({x + off:.1f}, {y:.1f})") == 0.5
    assert reward("location_coordinates", f"({x:.1f}, {y + 0.4 * (1 if y < 5 else -1):.1f})") == 1
    assert (
        reward("location_coordinates", "(0.000001, 10000000000000000000000)") <= 0.5
    )  # read as powers of ten
    assert reward("location_coordinates", f"({y + 11:.1f}, {x + 11:.1f})") == 0


def test_nothing_is_worth_one_that_is_not_scored_right():
    """Every answer of one question, given to all others of its type."""
    rule = BASIC.rules["strict"]
    examples = list(sparkle.load("embedded", limit=68))
    seen = set()
    for one in examples:
        for other in examples:
            if one.meta["answer_type"] == other.meta["answer_type"]:
                worth = rewards_sparkle.basic(one.answer, other)
                score = rule.score_of(rule.parse(one.answer, other), rule.gold(other))
                assert (worth == 1) == (score == 1), (one.answer, other.question, other.answer)
                assert 0 <= worth <= 1
                seen.add(score)
    assert seen == {0.0, 1.0}
