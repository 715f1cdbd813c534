"""Studies against a server that does all that servers do: finished, counted by reason, nothing sent twice."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections import Counter
from random import Random
from urllib.parse import quote

import pytest
from chat_server import Served, completion, completion_of, last_text, serving
from PIL import Image
from server_replies import ANSWER, FAILED, LONG, REFUSED, REPLIES, WIRES, delta, error, stream

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.prompting import study
from spatialvlm.prompting.server import Cache, ServerArgs, ServerClient, hide
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.prompting.strategy import Aids
from spatialvlm.run_folder import Run
from spatialvlm.tasks import registry

IMAGE = Image.new("RGB", (4, 4), (200, 10, 10))
FAULTS = ["429 0", "500", "503", "408", "cut", "cut_in_body", "half_json", "page", "slow 0.6"]  # once each
GRAPH = '{"objects": [], "relations": []}'


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Pauses between attempts take a hundredth of their time."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 100))


def examples(count: int) -> list[Example]:
    made = [
        Example(f"q{n}", (IMAGE,), f"question {n}?", "(A)", "Count", ("one", "two"), prompt=f"question {n}?")
        for n in range(count)
    ]
    return made


class Questions:
    """A server that does something for each question, and counts what it did.

    Args:
        does: by question: what it sends, or a fault that comes once and is followed by an answer.
        query: which query of a question meets it; the others get a graph.
    """

    def __init__(self, does: list[str | Served], query: int = 1):
        self.does, self.query = does, query
        self.came: Counter[tuple[int, int]] = Counter()  # (question, query)
        self.other: list[dict] = []  # requests that were refused for a parameter
        self.refuses: dict[str, str] = {}  # parameter -> what the server says of it
        self.answers = 10**9  # requests that are answered before the key is refused
        self.check: str | Served = "answer"  # to the short question, and how often that came
        self.checks = 0

    def __call__(self, _: int, request: dict) -> str | Served:
        for parameter, words in self.refuses.items():
            if parameter in request:
                self.other.append(request)
                return Served(error(words, "unsupported_parameter", param=parameter), 400)
        text = last_text(request)
        if text == "Say yes.":
            self.checks += 1
            return self.check
        self.answers -= 1
        if self.answers < 0:
            return "401"
        number = int(re.search(r"question (\d+)\?", text)[1])
        query = 2 if "Scene graph of the image:" in text else 1
        self.came[number, query] += 1
        if query != self.query:
            return Served(completion(GRAPH, "stop"))
        what = self.does[number]
        first = self.came[number, query] == 1
        return what if isinstance(what, Served) or first else Served(completion(ANSWER, "stop"))


class Always(Questions):
    """The same, where a fault comes every time."""

    def __call__(self, before: int, request: dict) -> str | Served:
        what = super().__call__(before, request)
        number = re.search(r"question (\d+)\?", last_text(request))
        return self.does[int(number[1])] if number else what


def ask(base_url: str, folder, count: int, strategy: str = "think", **changed) -> dict:
    """The summary of a study of `count` questions in the folder."""
    flags = {"base_url": base_url, "concurrency": 4, "timeout": 0.5, "max_attempts": 3, **changed}
    args = ServerArgs(**flags)
    client = ServerClient(args, "tiny", Cache(folder / "cache"), max_new_tokens=20)
    benchmark = registry.benchmark("cvbench")
    rule, made = benchmark.rules["strict"], examples(count)
    gold = study.parse_gold(made, rule, benchmark.title)
    run = Run(folder, {"count": count})
    parts = (client, made, gold, STRATEGIES[strategy], Aids(), benchmark, rule, run)
    return study.run(*parts, prices=(args.price_in, args.price_out), retry_refused=args.retry_refused)


def rows(folder) -> dict[str, dict]:
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in lines}) == len(lines)
    return {row["id"]: row for row in lines}


def test_a_study_against_a_server_that_does_it_all(tmp_path, capsys):
    """Every form of reply and refusal, and every fault once; stopped, resumed, started again."""
    replies = [(Served(body), expected) for body, expected in REPLIES.values()]
    replies += [(served, REPLIES["plain"][1]) for served in WIRES.values()]
    replies += [(fault, REPLIES["plain"][1]) for fault in FAULTS]
    refused = [Served(body, status) for status, body, _ in REFUSED.values()]
    failed = [Served(body) for body in list(FAILED.values())[::4]]
    does = [what for what, _ in replies] + refused
    Random(0).shuffle(does)
    for n, what in enumerate(failed):  # never three in a row, in any order of replies
        does.insert(100 + 15 * n, what)  # after the stop, and never three in a row
    count = len(does)
    assert count >= 50
    server = Questions(does)
    server.refuses = {
        "max_tokens": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "seed": "Unrecognized request argument supplied: seed",
    }
    server.answers = count // 2
    with serving(server) as (state, base_url):
        with pytest.raises(UserError, match="set OPENAI_API_KEY"):
            ask(base_url, tmp_path, count)
        assert 0 < len(rows(tmp_path)) < count
        server.answers = 10**9
        summary = ask(base_url, tmp_path, count, price_in=1.0)
        attempts = {n: 1 for n in range(count)}
        attempts |= {n: 2 for n, what in enumerate(does) if isinstance(what, str)}
        attempts |= {n: 4 for n, what in enumerate(does) if what in failed}
        assert server.came == {(n, 1): times for n, times in attempts.items()}
        assert server.checks == len(failed)
        assert len(server.other) <= 2 * 2 * 4  # each parameter once, in each session and conversation
        asked, came = dict(server.came), len(state.requests)
        assert ask(base_url, tmp_path, count, price_in=1.0) == summary
        assert len(state.requests) == came  # the second start sends nothing

        found, expected_reasons = rows(tmp_path), Counter()
        for n, what in enumerate(does):
            row = found[f"q{n}"]
            expected = next((expected for reply, expected in replies if reply is what), None)
            if expected:
                assert (row["replies"], row["finish"]) == ([expected.text], [expected.finish])
                assert row.get("thoughts", [""]) == [expected.thoughts]
                assert row["correct"] or expected.text != ANSWER
                assert not (row["correct"] and expected.reason)
                expected_reasons[expected.reason] += 1
            else:
                assert row["replies"] == row["completions"] == [""] and not row["correct"]
                expected_reasons[row["finish"][0]] += 1
        reasons = Counter(reason for _, _, reason in REFUSED.values()) + Counter(failed=len(failed))
        reasons += Counter(expected.reason for _, expected in replies)
        del reasons[None], expected_reasons[None]
        counted = summary["strategy"]
        assert counted["refusals"] == expected_reasons == reasons
        assert counted["finish"] == Counter(row["finish"][0] for row in found.values())
        assert counted["requests"] == summary["n"] == count
        unknown = sum(None in expected.usage for _, expected in replies)
        unknown += sum("usage" not in what.body for what in failed)
        assert counted["without_usage"] == unknown > 0
        assert counted["cost"] is counted["prompt_tokens"] is counted["completion_tokens"] is None
        with_usage = sum(None not in expected.usage for _, expected in replies)
        with_usage += sum("usage" in what.body for what in failed)
        assert counted["known_tokens"] == {
            "prompt_tokens": 100 * with_usage,
            "completion_tokens": 10 * with_usage,
        }
        assert counted["without"] == {"seed": count - len(REFUSED)}
        text = study.counts_text(counted)
        assert f"tokens and cost unknown: {unknown} replies" in text and "without a seed" in text
        assert all(f"{number} {reason}" in text for reason, number in reasons.items() if reason != "too long")
        assert capsys.readouterr().out.count("takes no 'seed'") == 2  # once in each session that sent any

        kept = (tmp_path / "predictions.jsonl").read_text()
        (tmp_path / "predictions.jsonl").unlink()
        ask(base_url, tmp_path, count)
        assert len(state.requests) == came  # all is in the cache, refusals too
        (tmp_path / "predictions.jsonl").write_text(kept)

        session = ask(base_url, tmp_path, count, retry_refused=True)["session"]
        number = sum(map(bool, map(study.refused, found.values())))
        assert session["answers_from_before"] == count - number and session["from_cache"] == 0
        again = {n for (n, _), times in server.came.items() if times > asked[n, 1]}
        assert again == {n for n in range(count) if study.refused(found[f"q{n}"])}
        assert rows(tmp_path).keys() == found.keys()


TOO_LONG = Served(error(LONG, "context_length_exceeded"), 400)
FINE = Served(completion(ANSWER, "stop"))


def test_a_refusal_of_the_second_query_keeps_what_the_first_gave(tmp_path):
    server = Questions([FINE, TOO_LONG], query=2)
    with serving(server) as (_, base_url):
        summary = ask(base_url, tmp_path, 2, "scene_graph")
    row = rows(tmp_path)["q1"]
    assert row["replies"] == [GRAPH, ""] and row["finish"] == ["stop", "too long"]
    assert row["notes"]["graph"] == GRAPH and row["completions"] == [""] and not row["correct"]
    assert LONG in row["refusal"]
    assert row["usage"] == {"requests": 2, "prompt_tokens": 100, "completion_tokens": 10}
    assert summary["strategy"]["refusals"] == {"too long": 1} and summary["strategy"]["too_long"] == 1


def test_after_a_refusal_of_the_first_query_no_second_is_sent(tmp_path):
    server = Questions([FINE, TOO_LONG], query=1)
    with serving(server) as (_, base_url):
        ask(base_url, tmp_path, 2, "scene_graph")
    row = rows(tmp_path)["q1"]
    assert row["replies"] == [""] and row["completions"] == [""] and not row["correct"]
    assert (1, 2) not in server.came and server.came[0, 2] == 1


def test_where_the_first_ten_are_refused_the_study_ends_and_can_be_repaired(tmp_path):
    server = Questions([TOO_LONG] * 30)
    with serving(server) as (state, base_url):
        message = r"first 10 questions were refused: too long .*5000 tokens.*--shots.*--retry_refused"
        with pytest.raises(UserError, match=message):
            ask(base_url, tmp_path, 30, concurrency=1)
        came = len(state.requests)
        assert came == 10
        with pytest.raises(UserError, match=message):
            ask(base_url, tmp_path, 30, concurrency=1)
        assert len(state.requests) == came
        server.does = [FINE] * 30
        summary = ask(base_url, tmp_path, 30, retry_refused=True)
        assert set(server.came.values()) == {1, 2} and len(server.came) == 30
    assert summary["strategy"]["refusals"] == {} and summary["aggregates"]["micro"]["value"] == 1


FILTERED = Served(error("flagged", "content_filter"), 400)


@pytest.mark.parametrize(
    ("does", "ends"),
    [
        ([TOO_LONG] * 3, True),  # all of a small study
        ([TOO_LONG, FILTERED] * 6, False),  # for two reasons
        ([FINE] + [TOO_LONG] * 11, False),  # not the first
        ([Served(completion_of({"content": None}, "length"))] * 12, False),  # replies, though empty
    ],
)
def test_a_study_ends_only_where_all_are_refused_for_one_reason(does, ends, tmp_path):
    with serving(Questions(does)) as (_, base_url):
        if ends:
            with pytest.raises(UserError, match="all of the first 3 questions were refused"):
                ask(base_url, tmp_path, len(does), concurrency=1)
        else:
            assert ask(base_url, tmp_path, len(does), concurrency=1)["n"] == len(does)


def test_a_resumed_study_whose_last_questions_are_all_refused_is_finished(tmp_path):
    server = Questions([FINE] * 2 + [TOO_LONG] * 12)
    server.answers = 2
    with serving(server) as (_, base_url):
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            ask(base_url, tmp_path, 14, concurrency=1)
        server.answers = 100
        assert ask(base_url, tmp_path, 14)["strategy"]["refusals"] == {"too long": 12}
        assert ask(base_url, tmp_path, 14, retry_refused=True)["strategy"]["refusals"] == {"too long": 12}


def test_a_server_without_temperature_is_told_of_and_its_replies_are_counted(tmp_path, capsys):
    server = Questions([FINE] * 3)
    server.refuses = {"temperature": "Unsupported value: 'temperature' does not support 0 with this model."}
    with serving(server) as (_, base_url):
        summary = ask(base_url, tmp_path, 3, concurrency=1)
    assert len(server.other) == 1  # decided once
    assert "takes no 'temperature', which is left out" in capsys.readouterr().out
    assert summary["strategy"]["without"] == {"temperature": 3}
    assert "not greedy: 3 replies" in study.counts_text(summary["strategy"])


def test_the_cache_of_another_name_of_the_token_limit_is_the_same(tmp_path):
    """Replies to `max_tokens` are those to `max_completion_tokens`."""
    server = Questions([FINE] * 3)
    with serving(server) as (state, base_url):
        cache = str(tmp_path / "cache")
        args = ServerArgs(base_url=base_url, concurrency=1, cache_dir=cache)
        for folder in ("one", "two"):
            client = ServerClient(args, "tiny", Cache(cache), max_new_tokens=20)
            benchmark = registry.benchmark("cvbench")
            rule, made = benchmark.rules["strict"], examples(3)
            gold = study.parse_gold(made, rule, benchmark.title)
            run = Run(tmp_path / folder, {})
            study.run(client, made, gold, STRATEGIES["think"], Aids(), benchmark, rule, run)
            assert len(state.requests) == 3
            server.refuses = {"max_tokens": "Unsupported parameter: 'max_tokens'"}
    assert not server.other


def test_a_parameter_that_cannot_be_replaced_is_the_studys_fault(tmp_path):
    server = Questions([FINE] * 3)
    server.refuses = {
        name: f"Unsupported parameter: '{name}'" for name in ("max_tokens", "max_completion_tokens")
    }
    message = "first 3 questions were refused: refused .*max_completion_tokens"
    with serving(server) as (_, base_url), pytest.raises(UserError, match=message):
        ask(base_url, tmp_path, 3, concurrency=1)


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (Served("<html>\n<b>sign in</b></html>"), "in 3 attempts .502: no chat completion: sign in."),
        (Served(error("Provider returned error", 502)), "in 3 attempts .502: Provider returned error"),
        (Served(error("Budget has been exceeded!", 400), 400), "402: Budget has been.*pay there"),
        (Served(error("slow"), 429, {"Retry-After": "3600"}), "no request for 3,600 seconds .429: slow"),
        (Served(error("No auth credentials found", 401)), "401: No auth.*set OPENAI_API_KEY"),
        (Served(error("m\x1b[31m is not a valid model ID"), 400), "400: m .31m is not.*check --model"),
        (Served(error("Insufficient credits"), 402), "402: Insufficient credits"),
    ],
)
def test_what_is_the_servers_own_ends_the_study_in_one_line(served, message, tmp_path):
    server = Questions([FINE, served])
    server.check = served
    with serving(server) as (_, base_url):
        with pytest.raises(UserError, match=f"{message}.*run the same command again to resume") as ended:
            ask(base_url, tmp_path, 2, concurrency=1)
        assert len(str(ended.value).splitlines()) == 1 and len(rows(tmp_path)) == 1
        assert server.came[1, 1] == (3 if "attempts" in message else 1)
        server.does = [FINE, FINE]
        assert ask(base_url, tmp_path, 2)["n"] == 2 and server.came[0, 1] == 1


BROKEN = Served("Internal Server Error", 500)
MIDDLE = stream(delta(content=ANSWER), {"error": {"message": "Internal error", "code": 500}})


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        (BROKEN, False),
        (BROKEN, True),
        (Served(MIDDLE), False),
        (Served({"error": "down"}), True),
        ("cut_in_body", True),
        ("slow 0.6", False),
    ],
    ids=["500", "500, last", "middle", "200", "cut", "time-out"],
)
def test_one_question_that_never_has_an_answer_is_counted(fault, last, tmp_path):
    """The server answers others; so the study goes on, and only --retry_refused asks again."""
    server = Always([fault, FINE] if not last else [FINE, fault])
    with serving(server) as (state, base_url):
        summary = ask(base_url, tmp_path, 2, concurrency=1)
        assert (
            summary["strategy"]["refusals"] == {"failed": 1}
            and summary["aggregates"]["micro"]["value"] == 0.5
        )
        assert summary["session"]["answered"] == 1 and summary["session"]["failed_attempts"] == 4
        row = rows(tmp_path)[f"q{int(last)}"]
        assert (row["replies"], row["finish"], row["completions"]) == ([""], ["failed"], [""])
        came = len(state.requests)
        assert came == 1 + 3 + 1 + 1  # the other, the attempts, the short question, once more
        ask(base_url, tmp_path, 2)
        assert len(state.requests) == came
        server.does = [FINE, FINE]
        summary = ask(base_url, tmp_path, 2, retry_refused=True)
        assert summary["strategy"]["refusals"] == {} and len(state.requests) == came + 1


@pytest.mark.parametrize(
    ("does", "check", "came"),
    [
        ([BROKEN] * 5, BROKEN, (3, 0, 0, 0, 0)),  # down: at once
        ([BROKEN] * 5, "cut", (3, 0, 0, 0, 0)),
        ([BROKEN] * 5, "answer", (4, 4, 3, 0, 0)),  # up, but not for questions
        ([BROKEN] * 5, Served(error("text alone"), 400), (4, 4, 3, 0, 0)),
        ([FINE, BROKEN, FINE, BROKEN, BROKEN], "answer", None),  # not in a row
        ([FINE, Served(error("slow"), 429)] * 2, "answer", (1, 3, 0, 0)),  # no question's fault
        ([FINE, Served(error("slow", "429"), 500)] * 2, "answer", (1, 3, 0, 0)),
        ([FINE, Served(error("budget has been exceeded"), 400)] * 2, "answer", (1, 1, 0, 0)),
    ],
    ids=["down", "cut", "broken", "no texts", "some", "rate limit", "rate limit, 500", "credit"],
)
def test_a_server_that_is_down_ends_the_study(does, check, came, tmp_path):
    server = Always(does)
    server.check = check
    with serving(server) as (_, base_url):
        if came is None:
            assert ask(base_url, tmp_path, 5, concurrency=1)["strategy"]["refusals"] == {"failed": 3}
            return
        with pytest.raises(UserError, match="run the same command again to resume"):
            ask(base_url, tmp_path, len(does), concurrency=1)
        assert tuple(server.came[n, 1] for n in range(len(does))) == came
        kept = (tmp_path / "predictions.jsonl").read_text().count("\n") if any(came[1:]) else 0
        assert kept == sum(map(bool, came)) - 1  # the last one is asked again
        server.does = [FINE] * len(does)
        assert ask(base_url, tmp_path, len(does))["n"] == len(does)


KEY = "sk-proj-Very/Secret+Key=42"


ECHOES = {
    "as it is": KEY,
    "capitals": KEY.upper(),
    "in part": KEY[:14] + "...",
    "quoted": quote(KEY, safe=""),
    "address": f"https://host/v1?key={quote(KEY)}&x=1",
    "base64": b64encode(KEY.encode()).decode(),
    "basic": b64encode(f"user:{KEY}".encode()).decode(),
    "no padding": b64encode(f"1:{KEY}".encode()).decode().rstrip("="),
    "JSON": json.dumps({"authorization": f"Bearer {KEY}"}),
}


@pytest.mark.parametrize("name", ECHOES)
def test_the_key_is_hidden_in_any_form(name):
    shown = hide(f"before {ECHOES[name]} after", KEY)
    assert shown.startswith("before ") and shown.endswith(" after") and "***" in shown
    assert not any(each in shown for each in ("ecret", "ECRET", "U2VjcmV0", "NlY3Jl", "TZWNyZX"))


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_no_message_and_no_file_holds_the_key(status, tmp_path, monkeypatch, capsys):
    """Neither a refusal, kept or printed, nor the line that ends a study."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = error(" ".join(ECHOES.values())[:250] + " 7", 429 if status == 200 else status)
    with serving(Questions([Served(said, status, {"X-Echo": KEY})] * 2)) as (_, base_url):
        with pytest.raises(UserError) as ended:
            ask(base_url, tmp_path, 2, concurrency=1)
        with pytest.raises(UserError, match="must not hold the key"):
            ask(f"{base_url}/{KEY}", tmp_path, 2)
    kept = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    shown = f"{ended.value}{kept}{capsys.readouterr()}"
    assert "***" in str(ended.value)
    assert not any(each in shown for each in ("ecret", "ECRET", "U2VjcmV0", "NlY3Jl", "TZWNyZX"))


def test_a_reply_that_repeats_the_key_is_kept_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = completion_of({"content": f"My key is {KEY}. {ANSWER}", "reasoning": f"{KEY}?"})
    with serving(Questions([Served(said)] * 2)) as (_, base_url):
        assert ask(base_url, tmp_path, 2)["aggregates"]["micro"]["value"] == 1
    kept = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert f"My key is ***. {ANSWER}" in kept and "ecret" not in kept


@pytest.mark.parametrize("key", ["", "none", "EMPTY", "x"])
def test_a_key_that_is_a_word_leaves_other_words_alone(key):
    assert hide("nonexistent maximum: emptying", key) == "nonexistent maximum: emptying"


@pytest.mark.parametrize("name", study.HUB_IDS)
def test_an_empty_answer_is_wrong_under_every_rule(name):
    benchmark = registry.benchmark(name)
    meta = {"vocabulary": ("yes", "no")}
    example = Example("q", (IMAGE,), "question?", "(A)", "Count", ("one", "two"), meta=meta)
    for rule in benchmark.rules.values():
        assert not any(rule.score_of(rule.parse("", example), gold) for gold in ("A", "no", 0))
