"""The client of servers against a real one on this machine that misbehaves in every way it can."""

import base64
import io
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from chat_server import in_turn, last_text, one_each, serving
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.prompting.server import Cache, ServerArgs, ServerClient
from spatialvlm.prompting.strategy import Outcome, assistant, user

IMAGE = Image.new("RGB", (4, 4), (200, 10, 10))
FAULTS = ["429 0", "429 0.05", "500", "503", "408", "cut", "cut_in_body", "half_json", "no_choices"]
FAULTS += ["page", "slow 0.6"]


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """The pauses between attempts, in order; each takes a hundredth of its time."""
    slept, sleep = [], time.sleep

    def shorter(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds / 100)

    monkeypatch.setattr(time, "sleep", shorter)
    return slept


def client(base_url: str, folder, **changed) -> ServerClient:
    args = ServerArgs(**{"base_url": base_url, "concurrency": 4, "timeout": 0.5, **changed})
    return ServerClient(args, "tiny", Cache(folder), max_new_tokens=20)


def conversation(name: str):
    """Two queries, the second with the reply to the first."""
    first = yield [user(IMAGE, f"{name}, first")]
    second = yield [user(IMAGE, f"{name}, second after {first}")]
    return Outcome(second)


def conversations(count: int):
    return [(f"q{number}", conversation(f"q{number}")) for number in range(count)]


def answers(count: int) -> dict[str, str]:
    return {f"q{n}": f"reply to q{n}, second after reply to q{n}, first" for n in range(count)}


def test_a_misbehaving_server_loses_nothing(tmp_path):
    """Every fault in turn, twice for some, before each answer: 24 requests, all answered once."""
    with serving(one_each(FAULTS)) as (state, base_url):
        asking = client(base_url, tmp_path)
        talks = dict(asking.talk(conversations(12)))
    assert {id: talk.outcome.text for id, talk in talks.items()} == answers(12)
    assert set(state.answered.values()) == {1} and len(state.answered) == 24
    assert state.most_at_a_time <= 4 + 1  # a request that timed out may still be at work there
    facts = asking.facts()
    assert facts["answered"] == 24 and facts["from_cache"] == 0
    assert facts["failed_attempts"] == sum(state.came.values()) - 24 == 24


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_retried(fault, tmp_path):
    with serving(in_turn(fault)) as (state, base_url):
        found = client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    assert (found.text, found.finish) == ("reply to how many?", "stop")
    assert (found.prompt_tokens, found.completion_tokens) == (100, 10)
    assert list(state.came.values()) == [2]


def test_a_server_that_never_recovers_ends_in_one_line_and_keeps_what_it_answered(tmp_path):
    def behave(_, request):
        return "answer" if last_text(request) == "q0, first" else "500"

    with serving(behave) as (state, base_url):
        with pytest.raises(UserError, match="no answer in 3 attempts .500.*run the same command again"):
            dict(client(base_url, tmp_path, max_attempts=3, concurrency=1).talk(conversations(2)))
        assert sum(state.came.values()) == 1 + 3 + 1  # a short question; no second conversation
    assert len(list(tmp_path.rglob("*.json"))) == 1


@pytest.mark.parametrize(("status", "advice"), [(401, "set OPENAI_API_KEY"), (404, "check --model")])
def test_what_is_the_servers_own_is_not_retried_and_ends_in_one_line(status, advice, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with serving(in_turn(*[str(status)] * 9)) as (state, base_url):
        with pytest.raises(UserError, match=f"{advice}.*run the same command again") as refused:
            client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
        assert list(state.came.values()) == [1]
        assert state.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert str(status) in str(refused.value) and "secret" not in str(refused.value)


def test_the_key_is_stored_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with serving(in_turn("429 0")) as (_, base_url):
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text()) == {
        "text": "reply to how many?",
        "finish": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 10,
    }


def test_a_reply_cut_off_at_the_maximum_length_is_complete_and_marked(tmp_path):
    with serving(lambda *_: "long") as (state, base_url):
        found = client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    assert found.finish == "length" and list(state.came.values()) == [1]


def test_a_request_is_a_chat_completion_with_images_in_order(tmp_path):
    messages = [user(IMAGE, "example"), assistant("left"), user("before", IMAGE, "after")]
    with serving(in_turn()) as (state, base_url):
        client(base_url, tmp_path).reply(messages)
    (request,) = state.requests
    assert {name: request[name] for name in ("model", "max_tokens", "temperature", "seed")} == {
        "model": "tiny",
        "max_tokens": 20,
        "temperature": 0,
        "seed": 0,
    }
    assert [each["role"] for each in request["messages"]] == ["user", "assistant", "user"]
    kinds = [[part["type"] for part in each["content"]] for each in request["messages"]]
    assert kinds == [["image_url", "text"], ["text"], ["text", "image_url", "text"]]
    url = request["messages"][0]["content"][0]["image_url"]["url"]
    head, _, data = url.partition(",")
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/png;base64" and sent.tobytes() == IMAGE.tobytes()


def test_a_resumed_study_repeats_no_request(tmp_path):
    """Stopped as Ctrl-C stops it: requests on their way are awaited and kept."""
    with serving(in_turn()) as (state, base_url):
        talks = client(base_url, tmp_path).talk(conversations(12))
        first = dict([next(talks), next(talks), next(talks)])
        talks.close()
        before = sum(state.came.values())
        assert 6 <= before < 24
        again = client(base_url, tmp_path)
        rest = dict(again.talk((id, each) for id, each in conversations(12) if id not in first))
        assert set(state.came.values()) == {1} and len(state.came) == 24
        assert again.facts()["answered"] == 24 - before
        whole = client(base_url, tmp_path)
        assert {id: talk.outcome.text for id, talk in whole.talk(conversations(12))} == answers(12)
        assert whole.facts() == {"answered": 0, "failed_attempts": 0, "from_cache": 24}
        assert sum(state.came.values()) == 24
    assert {id: talk.outcome.text for id, talk in (first | rest).items()} == answers(12)


def test_identical_simultaneous_requests_are_sent_once(tmp_path):
    def same():
        return Outcome((yield [user(IMAGE, "the same")]))

    with serving(in_turn("429 0.05")) as (state, base_url):
        asking = client(base_url, tmp_path)
        talks = dict(asking.talk((str(number), same()) for number in range(8)))
    assert len(talks) == 8 and list(state.answered.values()) == [1]
    assert asking.facts()["from_cache"] == 7


def test_another_model_length_or_server_is_another_request(tmp_path):
    with serving(in_turn()) as (state, base_url):
        asking = client(base_url, tmp_path)
        for model, length in (("tiny", 20), ("other", 20), ("tiny", 21), ("tiny", 20)):
            asking.model, asking.max_new_tokens = model, length
            asking.reply([user(IMAGE, "how many?")])
    assert len(state.came) == 3


@pytest.mark.parametrize("content", ['{"text": "re', "{}", "[1]", '{"text": 3, "finish": "stop"}'])
def test_a_damaged_file_of_the_cache_is_named(content, tmp_path):
    with serving(in_turn()) as (_, base_url):
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
        (file,) = tmp_path.rglob("*.json")
        file.write_text(content)
        with pytest.raises(UserError, match=f"{file.name} is damaged"):
            client(base_url, tmp_path).reply([user(IMAGE, "how many?")])


def test_retry_after_is_waited_for(tmp_path, pauses):
    """In seconds, or until a date."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with serving(in_turn("429 2.5", f"429 {soon}")) as (_, base_url):
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    assert pauses[0] == 2.5 and 25 < pauses[1] <= 30


@pytest.mark.parametrize("header", ["0", "-1", "soon", "Thu, 01 Jan 2026 00:00:00 GMT", "inf"])
def test_a_server_that_names_no_time_is_still_given_some(header, tmp_path, pauses):
    """Retry-After: 0, eight times, would use up all attempts within milliseconds."""
    with serving(in_turn(*[f"429 {header}"] * 3)) as (state, base_url):
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    assert list(state.came.values()) == [4]
    assert [pause > 0.3 for pause in pauses] == [True] * 3


def test_a_server_that_asks_for_hours_ends_the_study(tmp_path, pauses):
    with serving(in_turn("429 1e12")) as (state, base_url):
        with pytest.raises(UserError, match="1,000,000,000,000 seconds .429.*run the same command again"):
            client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
        assert list(state.came.values()) == [1] and not pauses
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])


@pytest.mark.parametrize("key", ["sk-caf\u00e9", "sk-\nhost: x", "\u201csk\u201d"])
def test_an_invalid_key_is_refused_and_not_printed(key, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY holds characters") as refused:
        client("http://localhost:1/v1", tmp_path)
    assert "sk" not in str(refused.value)


def test_a_line_end_after_the_key_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret\n")
    with serving(in_turn()) as (state, base_url):
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    assert state.headers[0]["authorization"] == "Bearer sk-very-secret"


def test_pauses_grow_and_vary(tmp_path, pauses):
    with serving(in_turn("500", "500", "500", "500")) as (state, base_url):
        client(base_url, tmp_path).reply([user(IMAGE, "how many?")])
    assert len(state.times) == 5
    for pause, longest in zip(pauses, (0.5, 1, 2, 4), strict=True):
        assert 0.75 * longest <= pause < longest


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"concurrency": 0}, "--concurrency must be at least 1"),
        ({"max_attempts": 0}, "--max_attempts must be at least 1"),
        ({"timeout": 0.0}, "--timeout must be greater than 0"),
        ({"timeout": float("nan")}, "--timeout must be greater than 0"),
        ({"price_in": -1.0}, "--price_in must be at least 0"),
        ({"price_out": float("nan")}, "--price_out must be at least 0"),
        ({"base_url": "localhost:8000"}, "no address such as"),
        ({"base_url": "http://me:key@host/v1"}, "must hold no password"),
        ({"base_url": "http://host/v1?key=secret"}, "and no query"),
        ({"base_url": "http://host:port/v1"}, "no address such as"),
        ({"base_url": "http://[host/v1"}, "no address such as"),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value),
)
def test_flags_out_of_range(changed, message):
    with pytest.raises(UserError, match=message):
        ServerArgs(**changed)


def test_a_broken_image_is_named(tmp_path):
    broken = tmp_path / "cut.png"
    buffer = io.BytesIO()
    IMAGE.resize((64, 64)).save(buffer, "PNG")
    broken.write_bytes(buffer.getvalue()[:60])
    with serving(in_turn()) as (state, base_url):
        with pytest.raises(UserError, match="cut.png cannot be read"):
            client(base_url, tmp_path / "cache").reply([user(broken, "how many?")])
        assert not state.came
