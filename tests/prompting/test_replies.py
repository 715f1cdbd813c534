"""What servers send, form by form: what becomes the answer, what is a reason, what ends the study."""

import json
from contextlib import suppress

import pytest
from chat_server import completion_of
from hypothesis import given, settings
from hypothesis import strategies as st
from server_replies import FAILED, OWN, REFUSED, REPLIES

from spatialvlm.prompting import replies
from spatialvlm.prompting.replies import ErrorReply, Incomplete
from spatialvlm.prompting.strategy import missing


def content_of(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def status_of(status: int, body: object) -> int:
    """The status that a reply counts as; an error may come with 200."""
    return replies.meant(sent_as(status, body), content_of(body))


def sent_as(status: int, body: object) -> int:
    if status != 200:
        return status
    try:
        reply = replies.parse(content_of(body))
        raise AssertionError(f"a reply: {reply}")
    except Incomplete:
        return 502
    except ErrorReply as error:
        return error.status


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply(name):
    body, expected = REPLIES[name]
    reply = replies.parse(content_of(body))
    assert (reply.text, reply.finish, reply.thoughts) == (expected.text, expected.finish, expected.thoughts)
    assert missing(reply.text, reply.finish) == expected.reason
    assert (reply.prompt_tokens, reply.completion_tokens) == expected.usage
    assert reply.refusal == ("I cannot." if expected.reason == "declined" else "")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_has_its_reason(name):
    status, body, reason = REFUSED[name]
    assert replies.refusal(status_of(status, body), *replies.words_of(content_of(body))) == reason


@pytest.mark.parametrize("name", OWN)
def test_what_is_the_servers_own_has_none(name):
    status, body, retried = OWN[name]
    status = status_of(status, body)
    assert replies.refusal(status, *replies.words_of(content_of(body))) is None
    assert (status in (408, 409, 429) or status >= 500) == retried


@pytest.mark.parametrize("name", FAILED)
def test_what_failed_is_told_from_an_empty_answer(name):
    reply = replies.parse(content_of(FAILED[name]))
    assert (reply.text, reply.finish) == ("", "failed")


UNSUPPORTED = [
    ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", ["max_tokens"]),
    ("Unsupported value: 'temperature' does not support 0 with this model.", ["temperature"]),
    ("`temperature` is deprecated for this model.", ["temperature"]),
    ("`temperature` must be strictly positive", ["temperature"]),
    ("Unrecognized request argument supplied: seed", ["seed"]),
    ("Argument not supported on this model: seed", ["seed"]),
    ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', ["seed"]),
    ("openai does not support parameters: {'temperature': 0, 'seed': 0}", ["temperature", "seed"]),
    ("Extra inputs are not permitted extra_forbidden body seed", ["seed"]),
    ("Malformed input request: #: extraneous key [seed] is not permitted", ["seed"]),
    ("This model doesn't support the seed field. Remove seed and try again.", ["seed"]),
    ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens", []),
    ("Invalid value for 'messages'", []),
    ("the seeds are not supported", []),
]


@pytest.mark.parametrize(("words", "names"), UNSUPPORTED)
def test_parameters_that_a_server_does_not_take(words, names):
    assert replies.unsupported(words, ("max_tokens", "temperature", "seed")) == names


# Any JSON, and JSON with the names that count in any place.
NAMES = st.sampled_from(
    [
        "choices",
        "message",
        "content",
        "type",
        "text",
        "error",
        "code",
        "usage",
        "delta",
        "thinking",
        "index",
        "object",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("text")
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(ANY, ANY, st.sampled_from([200, 400, 403, 413, 429, 500]))
def test_no_reply_and_no_error_raises(whole, content, status):
    """Every body is a reply, incomplete, or an error: no other exception, whatever stands where."""
    for body in (
        whole,
        {"choices": whole},
        completion_of({"content": content, "refusal": whole}, whole, usage=whole),
    ):
        sent = json.dumps(body).encode()
        with suppress(Incomplete, ErrorReply):
            replies.parse(sent).text.encode()
        replies.refusal(status, *replies.words_of(sent))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"data: ", b": x\n", b'{"choices": [', b'data: {"choices": [']),
)
def test_no_bytes_raise(end, beginning):
    with suppress(Incomplete, ErrorReply):
        replies.parse(beginning + end)
    replies.words_of(beginning + end)
