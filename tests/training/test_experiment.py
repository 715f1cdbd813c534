"""The table of a run: tasks or groups of tasks, whole and partial scores, paired differences."""

import re

import pytest

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.tables import percent
from spatialvlm.training.experiment import Answered, comparison


def records(scores, partial):
    """One record a score, of the tasks a-1, a-2 and b in turn."""
    tasks = ("a-1", "a-2", "b")
    return [
        {"id": str(number), "task": tasks[number % 3], "correct": score == 1}
        | ({"score": score, "scores": [score]} if partial else {})
        for number, score in enumerate(scores)
    ]


BEFORE = [0.0, 0.4, 1.0, 0.2, 1.0, 0.0] * 4
AFTER = [0.5, 0.4, 1.0, 0.8, 1.0, 1.0] * 4


def row(table, name):
    return next(line for line in table.splitlines() if line.startswith(f"{name} "))


def test_partial_scores_are_means_and_their_differences_are_paired():
    before, after = records(BEFORE, True), records(AFTER, True)
    table = comparison(Answered(before, before), Answered(after, before), "Title")
    assert table.startswith("Title")
    assert row(table, "a-1").split()[1:3] == ["8", "10.0"]  # (0 + 0.2) / 2
    assert " 65.0 (" in row(table, "a-1") and "+55.0 (" in row(table, "a-1")
    gain = metrics.paired_mean_difference(BEFORE[::3], AFTER[::3])
    low, high = (100 * end for end in gain.interval)
    assert f"+55.0 ({low:+.1f} to {high:+.1f})" in row(table, "a-1")
    assert "+35.0 (" in row(table, "Total")  # (55 + 0 + 50) / 3
    assert table.splitlines()[-1] == "percent, 95 % intervals; Total is the mean of the three tasks"


def test_tasks_of_one_group_share_a_row():
    before, after = records(BEFORE, False), records(AFTER, False)
    table = comparison(
        Answered(before, before), Answered(after, before), "Title", group=lambda task: task.split("-")[0]
    )
    assert "a-1" not in table
    assert row(table, "a").split()[1:3] == ["16", "25.0"]
    assert "+0.0 (" in row(table, "a") and "+50.0 (" in row(table, "b") and "+25.0 (" in row(table, "Total")
    assert table.endswith("mean of the two tasks")
    assert before[0]["task"] == "a-1", "the records stay as they are"


@pytest.mark.parametrize("tested_before", [True, False])
def test_the_rows_with_images_shuffled_show_their_own_scores(tested_before):
    after, before = records(AFTER, False), records(BEFORE, False)
    right = {"a-1": 2, "a-2": 6, "b": 3}  # of 8 each
    shuffled = records([float(number < right[task]) for number in range(8) for task in right], False)
    eighth = records(
        [1.0] * 3 + [0.0] * 21, False
    )  # of each task, what the base model has without its images
    base = Answered(before, eighth) if tested_before else None
    seeing, blind = comparison(base, Answered(after, shuffled), "Title").split("images shuffled")
    own, trained = metrics.by_task(shuffled), metrics.by_task(after)
    assert all(own[task].value != trained[task].value for task in own)
    for task in ("a-1", "a-2", "b"):
        assert percent(trained[task]) in row(seeing, task) and percent(trained[task]) not in blind
        cells = row(blind, task).split(maxsplit=2)
        assert cells[1] == "8" and percent(own[task]) in cells[2]
        assert (f"+{100 * (right[task] - 1) / 8:.1f} (" in cells[2]) == tested_before
    assert percent(metrics.mean_of_tasks(shuffled)) in row(blind, "Total")
    assert ("12.5 (" in row(blind, "Total")) == tested_before


def test_without_a_test_before_there_is_no_difference():
    after = records(AFTER, True)
    table = comparison(None, Answered(after, after), "A title of many words")
    assert "base" not in table and "difference" not in table
    starts = {re.search(r"\d+\.\d", line).start() for line in table.splitlines()[1:5]}
    assert len(starts) == 1, "columns line up whatever the title's length"


def test_other_questions_are_refused():
    with pytest.raises(ValueError, match="not of the same questions"):
        after = records(AFTER, True)
        comparison(Answered(records(BEFORE, True)[1:], after), Answered(after, after), "Title")
