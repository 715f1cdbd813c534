"""A server on this machine that speaks the chat completions protocol, and misbehaves as the test wants."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Served(NamedTuple):
    """A reply as it is sent; a body of another type than bytes or text is sent as JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = {}


# (how often this very request came before, the request) -> what to do
Behave = Callable[[int, dict], str | Served]


class ChatServer:
    """What came in, and what was answered, by the content of the request.

    Args:
        behave: what to do with a request: `answer`, one of the faults in `_Handler`, or what to send.
        say: (request) -> the reply's text; its last text where None.
    """

    def __init__(self, behave: Behave, say: Callable[[dict], str] | None = None):
        self.behave, self.say = behave, say or (lambda request: f"reply to {last_text(request)}")
        self.lock = threading.Lock()
        self.came: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.at_a_time = self.most_at_a_time = 0
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.times: list[float] = []
        self.release = threading.Event()  # what `hold` and `stall` wait for


@contextmanager
def serving(behave: Behave, say: Callable[[dict], str] | None = None) -> Iterator[tuple[ChatServer, str]]:
    """(the server, its base_url), up until the block ends."""
    state = ChatServer(behave, say)
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()


def last_text(request: dict) -> str:
    return next(part["text"] for part in request["messages"][-1]["content"] if part["type"] == "text")


def in_turn(*faults: str) -> Behave:
    """Every request meets these faults one after the other, and is then answered."""
    return lambda before, _: faults[before] if before < len(faults) else "answer"


def one_each(faults: Sequence[str]) -> Behave:
    """Every request meets one of the faults, by its content, and is then answered."""

    def behave(before: int, request: dict) -> str:
        return "answer" if before else faults[int(key_of(request), 16) % len(faults)]

    return behave


def completion_of(message: dict, finish: object = "stop", **more: Any) -> dict:
    """A completion of any message; `more` are fields of the whole."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return completion("", "") | {"choices": [choice]} | more


def key_of(request: dict) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    state: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state, key = self.state, key_of(request)
        with state.lock:
            before = state.came[key]
            state.came[key] += 1
            state.requests.append(request)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.times.append(time.monotonic())
            state.at_a_time += 1
            state.most_at_a_time = max(state.most_at_a_time, state.at_a_time)
        try:
            self._do(state.behave(before, request), request, key)
        finally:
            with state.lock:
                state.at_a_time -= 1

    def _do(self, what: str | Served, request: dict, key: str) -> None:
        if isinstance(what, Served):
            with self.state.lock:
                self.state.answered[key] += 1
            body = what.body if isinstance(what.body, str | bytes) else json.dumps(what.body)
            self._send(what.status, body, what.headers)
            return
        kind, _, figure = what.partition(" ")
        body = json.dumps(completion(self.state.say(request), "length" if kind == "long" else "stop"))
        if kind in ("answer", "long", "hold"):
            if kind == "hold":
                self.state.release.wait(20)
            with self.state.lock:
                self.state.answered[key] += 1
            self._send(200, body)
        elif kind == "stall":  # nothing, for as long as the test wants
            self.state.release.wait(120)
            self.close_connection = True
        elif kind == "slow":
            self.state.release.wait(float(figure))
            self.close_connection = True
        elif kind == "cut":  # not a word
            self.close_connection = True
        elif kind == "cut_in_body":  # the connection ends before the length that was promised
            self._send(200, body[:40], promised=len(body))
            self.close_connection = True
        elif kind == "half_json":
            self._send(200, body[: len(body) // 2])
        elif kind == "no_choices":
            self._send(200, json.dumps({"id": "x", "choices": []}))
        elif kind == "page":
            self._send(200, "<html>maintenance</html>", kind="text/html")
        else:  # a status, and what Retry-After says
            error = {"error": {"message": f"no: {self.headers['Authorization']}", "type": "x"}}
            self._send(int(kind), json.dumps(error), {"Retry-After": figure} if figure else {})

    def _send(
        self,
        status: int,
        body: str | bytes,
        headers: dict | None = None,
        promised: int | None = None,
        kind: str = "application/json",
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        if "Transfer-Encoding" in (headers or {}):
            chunks = [content[at : at + 7] for at in range(0, len(content), 7)]
            content = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in [*chunks, b""])
        else:
            self.send_header("Content-Length", str(promised or len(content)))
        self.end_headers()
        self.wfile.write(content)


def completion(text: str | None, finish: str | None) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]} | {
        "usage": usage
    }
