"""Each kind of English phrase is found in its examples, and not in plain answers."""

import pytest

from spatialvlm.parsing.english import KINDS, pattern


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_found_in_its_examples(kind):
    assert KINDS[kind]["examples"]
    for example in KINDS[kind]["examples"]:
        assert pattern(kind).search(example), example


@pytest.mark.parametrize(
    "text", ["B", "(C) the lamp", "There are 3 chairs.", "1.5 m", "Yes.", "The red cube"]
)
def test_no_refusal_is_found_in_a_plain_answer(text):
    assert not pattern("no_image", "request", "assistant", "error", "server", "limit", "unable").search(text)
