"""vsGRPO's rewards: format by the letter, words exact, numbers by their relative error, tricky texts."""

import math

import pytest
import tiny

from spatialvlm.example import Example
from spatialvlm.tasks.vsi import reward as rewards_vsi
from spatialvlm.tasks.vsi.reward import accuracy, habits, has_format, reward


def word(answer="front-left", vocabulary=("front-left", "front-right", "back-left", "back-right")):
    meta = {"vocabulary": vocabulary}
    return Example("w", (tiny.image(0),), "Where?", answer, "object_rel_direction_hard", meta=meta)


def number(answer="2.0", task="object_abs_distance"):
    return Example("n", (tiny.image(0),), "How far?", answer, task)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("front-left", 1),
        ("Front-Left.", 1),
        (" front - left ", 1),  # a tokenizer of words writes it so
        ("FRONT-LEFT", 1),
        ("front left", 0),
        ("front-right", 0),
        ("front-left or front-right", 0),
        ("The answer is front-left", 0),
        ("left", 0),
        ("", 0),
        (".", 0),
        ("front-left\nfront-right", 0),
    ],
)
def test_words_are_right_or_not(text, expected):
    assert accuracy(text, word()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0", 1),
        ("2", 1),
        ("2 . 0", 1),
        ("2.0 meters", 1),
        ("about 2 meters", 1),
        ("two", 1),
        ("2.", 1),
        ("2.5", 0.75),
        ("2 . 5", 0.75),
        ("1.6", 0.75),  # 0.4 / 1.6: too little by a factor counts as too much by it
        ("3", 0.5),
        ("4", 0),
        ("1", 0),
        ("100", 0),
        ("0", 0),
        ("-2", 0),
        ("minus two", 0),
        ("nan", 0),
        ("inf", 0),
        ("1e999", 0),
        ("", 0),
        ("far", 0),
        ("2 to 3", 0),
        ("2 or 3", 0),
        ("200 cm", 0),  # units are not converted
        ("I think that it is 2.0 meters", 0),  # more than a short answer
    ],
)
def test_numbers_by_their_relative_error(text, expected):
    assert accuracy(text, number()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2.0", 1), ("2.42", 0.6), ("1.58", 0.6), ("3.0", 0.1), ("3.01", 0), ("0", 0), ("-2", 0), ("none", 0)],
)
def test_mean_relative_accuracy_instead(text, expected):
    assert accuracy(text, number(), "mra") == pytest.approx(expected)


def test_the_two_rewards_of_numbers_differ_in_what_they_forgive():
    relative = [accuracy(text, number("10")) for text in ("19", "5.9")]
    mra = [accuracy(text, number("10"), "mra") for text in ("19", "5.9")]
    assert relative == pytest.approx([0.1, 1 - 4.1 / 5.9]) and mra == pytest.approx([0, 0.2])


@pytest.mark.parametrize("answer", ["0", "-1", "nan", "inf"])
def test_a_true_number_that_is_none_is_refused(answer):
    with pytest.raises(ValueError, match="'n': the true number must be above 0"):
        accuracy("1", number(answer))


GOOD = "<think>the sofa is near</think><answer>2.0</answer>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, 1),
        (GOOD.replace("><", ">\n <") + "\n", 1),
        (GOOD.replace("<", "< ").replace(">", " >").replace("/", "/ "), 1),
        (GOOD.upper(), 1),
        ("<think></think><answer>2</answer>", 1),  # `habits` counts it as empty
        ("<think>a\nb\n\nc</think>\n\n<answer>2</answer>", 1),
        ("<think>a</think><answer></answer>", 0),
        ("<think>a</think><answer> </answer>", 0),
        ("<think>a</think>", 0),
        ("<answer>2</answer>", 0),
        ("2.0", 0),
        ("", 0),
        ("<answer>2</answer><think>a</think>", 0),
        ("Well: " + GOOD, 0),
        (GOOD + " Done.", 0),
        (GOOD + GOOD, 0),
        (GOOD + "<answer>3</answer>", 0),
        ("<think>a</think> so <answer>2</answer>", 0),
        ("<think>a<think>b</think></think><answer>2</answer>", 0),
        ("<think>a <answer>2</answer></think>", 0),
        ("<think>a</think><answer>2", 0),
        ("<observe>a</observe><answer>2</answer>", 0),
        ("<think>a</think><observe>b</observe><answer>2</answer>", 0),
        ("<think>is 2 < 3 or > 1?</think><answer>2</answer>", 1),
    ],
)
def test_format(text, expected):
    assert has_format(text, "think") == expected
    swapped = text.lower().replace("think", "\1").replace("observe", "think").replace("\1", "observe")
    assert has_format(swapped, "observe") == expected


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (GOOD, "think", 2),
        (GOOD.replace("2.0", "2.5"), "think", 1.75),
        (GOOD.replace("2.0", "9"), "think", 1),
        ("<answer>2.0</answer>", "think", 1),  # right, without the format
        ("2.0", "think", 0),  # not where the answer belongs
        (GOOD, "vanilla", 0),
        ("2.0", "vanilla", 1),
        ("<answer>1</answer><answer>2.0</answer>", "think", 0),  # two answers are none
        ("</answer>2.0<answer>", "think", 0),
        (GOOD, "observe", 1),
        ("<observe>two chairs here</observe><answer>2</answer>", "observe", 2),
    ],
)
def test_format_and_answer_add_up(text, mode, expected):
    assert reward(text, number(), mode) == pytest.approx(expected)


def test_habits_are_shares_of_completions():
    texts = [GOOD, GOOD.replace("the sofa is near", "so"), "<think></think>", "2.0"]
    assert habits(texts, "think") == {"format": 0.5, "empty_thoughts": 0.5}
    assert habits(texts, "observe") == {"format": 0, "empty_thoughts": 0}
    assert habits(texts, "vanilla") == {} == habits([], "think")
    three = "<observe>a b c</observe><answer>d</answer>"
    assert habits([three], "observe") == {"format": 1, "empty_thoughts": 0}


def test_every_right_answer_is_worth_all_and_none_more():
    for text in ("0.1", "1", "350", "12.5", "1000", "7.0"):
        for kind in ("relative", "mra"):
            assert reward(text, number(text), "vanilla", kind) == 1
            for guess in range(1, 400, 7):
                found = reward(str(guess), number(text), "vanilla", kind)
                assert 0 <= found <= 1 and math.isfinite(found)
                assert found < 1 or abs(guess / float(text) - 1) <= (0.05 if kind == "mra" else 0)
    assert rewards_vsi.parse_number("1,000") == 1000
