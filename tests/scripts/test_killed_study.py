"""A study against a server, killed by SIGKILL: with the same command it goes on, and asks for nothing twice.

pytestmark = pytest.mark.slow

The server, in the test's process, counts what comes and what it answers; the script is a process of its own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import processes
import pytest
from chat_server import ChatServer, Served, key_of, last_text, serving
from processes import KillAt

QUESTIONS, REQUESTS = 6, 12  # scene_graph asks twice a question
WAIT = 900  # seconds at most, on a very busy machine


def say(request: dict) -> str:
    return "<answer>A</answer>" if "<answer>" in last_text(request) else '{"objects": [], "relations": []}'


@pytest.fixture
def start(tmp_path):
    """(base_url, conversations at a time, where it dies) -> the script at work in a process of its own."""

    def start(base_url: str, concurrency: int, point: processes.Point | None = None):
        flags = (
            f"--profile embedded --strategy scene_graph --limit {QUESTIONS} --base_url {base_url} --model m"
        )
        flags += (
            f" --concurrency {concurrency} --max_attempts 1 --timeout 600 --output_dir {tmp_path / 'run'}"
        )
        options = {"logs": (tmp_path / "log", tmp_path / "log"), "prepare": point and KillAt(*point)}
        return processes.start("eval_cot.py", *flags.split(), folder=tmp_path, **options)

    return start


def ended(process, folder: Path) -> dict:
    """The summary, once the script has come to its end."""
    process.join(WAIT)
    assert process.exitcode == 0, (folder / "log").read_text()[-2000:]
    rows = [json.loads(line) for line in (folder / "run/predictions.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == QUESTIONS
    return json.loads((folder / "run/summary.json").read_text())


def kept(folder: Path) -> int:
    return len(list((folder / "run/cache").rglob("[!.]*.json")))


def repeated(state: ChatServer) -> dict[str, int]:
    return {key: came for key, came in state.came.items() if came > 1}


def test_killed_while_requests_are_on_their_way(start, tmp_path):
    """Seven answers, one of them a refusal, then silence, and the kill: no answer is ever repeated."""
    silent, answers, refused = [True], [7], []

    def behave(_, request) -> str | Served:
        answers[0] -= 1
        if silent[0] and answers[0] < 0:
            return "stall"
        if "<answer>" in last_text(request) and not refused:
            refused.append(key_of(request))
        return Served("", 413) if key_of(request) in refused else "answer"

    with serving(behave, say) as (state, base_url):
        process = start(base_url, 3)
        end = time.monotonic() + WAIT
        while not (state.at_a_time == 3 and sum(state.answered.values()) == kept(tmp_path) == 7):
            assert process.is_alive() and time.monotonic() < end, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.05)
        process.kill()
        process.join()
        assert not (tmp_path / "run/summary.json").exists()
        unanswered = {key for key in state.came if not state.answered[key]}
        silent[0] = False
        state.release.set()
        summary = ended(start(base_url, 3), tmp_path)
        assert set(state.answered.values()) == {1} and sum(state.answered.values()) == REQUESTS
        assert repeated(state) == dict.fromkeys(unanswered, 2) and len(unanswered) == 3
        ended(start(base_url, 3), tmp_path)
        assert sum(state.came.values()) == REQUESTS + 3
    assert summary["strategy"]["requests"] == REQUESTS and summary["n"] == QUESTIONS
    assert summary["strategy"]["prompt_tokens"] == 100 * (REQUESTS - 1)
    assert summary["strategy"]["refusals"] == {"too large": 1}


def test_killed_with_a_reply_in_hand_that_is_not_kept_yet(start, tmp_path):
    """At the worst moment, between a reply's last byte and its file, that one reply is lost and no other."""
    with serving(lambda *_: "answer", say) as (state, base_url):
        process = start(base_url, 1, ("os.rename", str(tmp_path / "run/cache"), 4))
        process.join(WAIT)
        assert process.exitcode == -9, (tmp_path / "log").read_text()[-2000:]
        assert sum(state.came.values()) == 5 and kept(tmp_path) == 4
        ended(start(base_url, 1), tmp_path)
        assert list(repeated(state).values()) == [2] and len(state.came) == REQUESTS
