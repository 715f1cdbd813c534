"""DPO's wrong answers: never right, of the right one's form, the same for a seed and row in every order."""

import random

import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi import reward as rewards_vsi
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.questions import DIRECTION_WORDS

IMAGE = (tiny.image(0),)
NUMBERS = {  # how answers of a family are written, and up to what
    "object_counting": ("{:.0f}", 2, 30),
    "object_abs_distance": ("{:.1f}", 0.1, 9),
    "object_size_estimation": ("{:.0f}", 1, 400),
    "room_size_estimation": ("{:.1f}", 0.5, 120),
}


def example(id, task, answer, vocabulary=None):
    meta = {"vocabulary": vocabulary} if vocabulary else {}
    return Example(id, IMAGE, "What?", answer, task, meta=meta)


def questions(count):
    """Of all families, with the extremes of their answers."""
    rng = random.Random(0)
    for number in range(count):
        task = [*NUMBERS, "object_rel_distance", *DIRECTION_WORDS][number % 8]
        if task in NUMBERS:
            form, low, high = NUMBERS[task]
            value = low if number < 80 else rng.uniform(low, high)
            yield example(f"row-{number}", task, form.format(value))
        else:
            words = DIRECTION_WORDS.get(task) or tuple(rng.sample(["sofa", "bed", "desk", "lamp", "sink"], 4))
            yield example(f"row-{number}", task, rng.choice(words), words)


def test_wrong_answers_are_wrong_and_of_the_same_form():
    found = 0
    for asked in questions(8000):
        wrong = vsi.rejected(asked)
        found += 1
        assert wrong != asked.answer and rewards_vsi.accuracy(asked.answer, asked) == 1
        if "vocabulary" in asked.meta:
            assert wrong in asked.meta["vocabulary"]
            assert rewards_vsi.accuracy(wrong, asked) == 0
            continue
        right, value = float(asked.answer), float(wrong)
        assert answers.number(wrong) == value > 0
        assert abs(value - right) > 0.2 * right and value <= 3 * right + 1
        assert len(wrong.partition(".")[2]) == len(asked.answer.partition(".")[2])
        if asked.task == "object_counting":
            assert wrong.isdecimal() and value >= 1
    assert found == 8000
    assert {vsi_questions.family(asked.task) for asked in questions(8)} == set(vsi_questions.FAMILIES)


def test_too_much_and_too_little_come_about_equally_often():
    ratios = [
        float(vsi.rejected(asked)) / float(asked.answer)
        for asked in (example(f"row-{number}", "object_size_estimation", "200") for number in range(2000))
    ]
    assert 0.45 < sum(ratio > 1 for ratio in ratios) / 2000 < 0.55
    assert min(ratios) < 0.4 and max(ratios) > 2.5


def test_a_wrong_answer_follows_from_seed_and_row_alone():
    asked = list(questions(400))
    first = [vsi.rejected(each) for each in asked]
    again = [vsi.rejected(each) for each in reversed(asked)][::-1]
    other = [vsi.rejected(each, seed=1) for each in asked]
    assert first == again and sum(a != b for a, b in zip(first, other, strict=True)) > 200


def test_counts_written_with_a_point_stay_whole():
    wrong = {vsi.rejected(example(f"row-{n}", "object_counting", "2.0")) for n in range(200)}
    assert wrong == {"1", "3", "4", "5", "6"}


@pytest.mark.parametrize("answer", ["0", "-3", "nan", "inf", "many", "1/2"])
def test_what_is_no_number_above_0_is_refused(answer):
    with pytest.raises(UserError, match="row 'row-1': the answer must be a number above 0"):
        vsi.rejected(example("row-1", "object_counting", answer))


def test_a_word_without_another_is_refused():
    with pytest.raises(UserError, match="row 'row-1': no word but 'left'"):
        vsi.rejected(example("row-1", "object_rel_direction_easy", "left", ("left", "Left")))
