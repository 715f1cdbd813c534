"""The published accuracy reward."""

import pytest

from spatialvlm.tasks.sat.reward import accuracy


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("red cube", "red cube", 1.0),
        ("Red Cube.", "red cube", 1.0),
        ("(B)", "(B)", 1.0),
        ("b", "(B)", 1.0),
        ("( B )", "(B)", 1.0),
        ("left", "right", 0.0),
        ("left or right", "left", 0.0),
        ("The answer is B", "(B)", 0.0),
        ("", "left", -0.2),
        (" \n ", "left", -0.2),
        (".", "left", 0.0),
        ("right\nleft", "left", 1.0),
        ("left\nright", "left", 0.0),
        ("left\n", "left", 1.0),
        ("1,000", "1000", 1.0),
        ("3", "13", 0.0),
        ("on the left - behind", "on the left, behind", 1.0),
    ],
)
def test_accuracy(completion, answer, expected):
    assert accuracy(completion, answer) == expected
