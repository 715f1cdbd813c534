"""Client of an OpenAI-compatible server: `--base_url http://localhost:8000/v1`.

Requests are chat completions at temperature 0, with images as PNG in data URLs. The openai client retries
408, 409, 429, 5xx, time-outs and cut connections after growing pauses; an incomplete reply is treated as a
502. Every complete reply goes into the cache before it is used, so that no request is paid for twice.

The key comes from the environment variable OPENAI_API_KEY alone; it is neither printed nor stored.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
from PIL import Image

from spatialvlm.disk import disk_errors, whole
from spatialvlm.errors import UserError, require_above_zero, require_at_least
from spatialvlm.example import open_image
from spatialvlm.prompting.strategy import Conversation, Dialogue, Message, Reply

KEY_VARIABLE = "OPENAI_API_KEY"
FINISHED = ("stop", "length", "content_filter")
RETRIED = (408, 409, 429)  # by the openai client, and 5xx
FIELDS = {"text": str, "finish": str, "prompt_tokens": int, "completion_tokens": int}  # of a cached reply


class Incomplete(Exception):
    """A reply of which something is missing."""


class Cancelled(openai.OpenAIError):
    """The study is being stopped; the openai client passes its own errors on without another attempt."""


@dataclass
class ServerArgs:
    """A server and how to use it."""

    base_url: str | None = field(
        default=None, metadata={"help": "address of an OpenAI-compatible server, http://localhost:8000/v1"}
    )
    concurrency: int = field(default=8, metadata={"help": "number of simultaneous conversations"})
    cache_dir: str | None = field(
        default=None, metadata={"help": "folder of cached replies, may be shared; default: in the run folder"}
    )
    timeout: float = field(default=120.0, metadata={"help": "seconds to wait for one reply"})
    max_attempts: int = field(default=8, metadata={"help": "maximum number of attempts per request"})
    price_in: float = field(default=0.0, metadata={"help": "price per million prompt tokens"})
    price_out: float = field(default=0.0, metadata={"help": "price per million completion tokens"})

    def __post_init__(self) -> None:
        require_at_least(1, concurrency=self.concurrency, max_attempts=self.max_attempts)
        require_at_least(0, price_in=self.price_in, price_out=self.price_out)
        require_above_zero(timeout=self.timeout)
        if self.base_url is None:
            return
        try:
            parts = urlsplit(self.base_url)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # invalid brackets or port
            valid = False
        if valid and ("@" in parts.netloc or parts.query):  # would be repeated in messages and config.json
            raise UserError(f"--base_url must hold no password and no query; put the key in {KEY_VARIABLE}")
        if not valid:
            raise UserError(f"--base_url {self.base_url!r} is no address such as http://localhost:8000/v1")


class Cache:
    """Replies on disk, one file per request, named by the request's hash; no question, image or key in it."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)  # fails before anything is paid for

    def get(self, key: str) -> dict[str, Any] | None:
        """The cached reply, or None. Raises UserError for a damaged file."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            reply = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(reply, dict) or {name: type(reply[name]) for name in FIELDS} != FIELDS:
                raise ValueError("no reply")
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); delete that file to repeat the request") from None
        return {name: reply[name] for name in FIELDS}

    def put(self, key: str, reply: Mapping[str, Any]) -> None:
        path = self._path(key)
        with disk_errors(path), whole(path, shared=True) as aside:
            aside.write_text(json.dumps(reply), encoding="utf-8")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class ServerClient:
    """Holds conversations with a model on a server. Raises UserError for a key that cannot be one."""

    def __init__(self, args: ServerArgs, model: str, cache: Cache, max_new_tokens: int, seed: int = 0):
        self.args, self.model, self.cache = args, model, cache
        self.max_new_tokens, self.seed = max_new_tokens, seed
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UserError(f"{KEY_VARIABLE} holds characters that no key has; set it again")
        hooks = {"request": [self._before_request], "response": [self._after_response]}
        self._openai = openai.OpenAI(
            base_url=args.base_url,
            api_key=self._key or "none",  # servers of one's own do not need any
            max_retries=args.max_attempts - 1,
            timeout=args.timeout,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks),
        )
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}  # per request, so that identical ones are sent once
        self._counts: Counter[str] = Counter()

    def talk(
        self, conversations: Iterable[tuple[str, Conversation]]
    ) -> Generator[tuple[str, Dialogue], None, None]:
        """Hold `concurrency` conversations at a time, each in a thread; yield them as they end.

        Where one fails, or the study is stopped, no further request is sent; those on their way are awaited
        and cached.

        Raises:
            UserError: the server refuses a request, or all attempts failed.
        """
        running: set[Future] = set()
        self._stopping.clear()
        pool = ThreadPoolExecutor(self.args.concurrency, thread_name_prefix="conversation")
        try:
            for id, conversation in conversations:
                running.add(pool.submit(self._hold, id, conversation))
                if len(running) == self.args.concurrency:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in done)
        finally:
            self._stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _hold(self, id: str, conversation: Conversation) -> tuple[str, Dialogue]:
        replies: list[Reply] = []
        messages = next(conversation)
        while True:
            replies.append(self.reply(messages))
            try:
                messages = conversation.send(replies[-1].text)
            except StopIteration as end:
                return id, Dialogue(end.value, tuple(replies))

    def facts(self) -> dict[str, int]:
        """Requests answered in this session, attempts that failed, replies from the cache."""
        with self._lock:
            counts = Counter(self._counts)
        failed = counts["sent"] - counts["answered"]
        return {"answered": counts["answered"], "failed_attempts": failed, "from_cache": counts["from_cache"]}

    def reply(self, messages: Sequence[Message]) -> Reply:
        """The reply to a query, from the cache or from the server; raises as `talk`."""
        request = {
            "model": self.model,
            "messages": [{"role": each.role, "content": content(each)} for each in messages],
            "max_tokens": self.max_new_tokens,
            "temperature": 0,
            "seed": self.seed,
        }
        unique = json.dumps({"base_url": self.args.base_url, **request}, sort_keys=True)
        key = hashlib.sha256(unique.encode()).hexdigest()
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if cached := self.cache.get(key):
                self._count("from_cache")
                return Reply(**cached)
            reply = self._send(request)
            self.cache.put(key, {name: getattr(reply, name) for name in FIELDS})
            self._count("answered")
            return reply

    def _send(self, request: dict[str, Any]) -> Reply:
        try:
            return parse(self._openai.chat.completions.with_raw_response.create(**request).text)
        except openai.APIStatusError as error:
            status, problem = error.status_code, f"{error.status_code}: {self._message(error)}"
            if status < 500 and status not in RETRIED:
                advice = f"set {KEY_VARIABLE}" if status in (401, 403) else "check --model and --base_url"
                raise UserError(f"{self.args.base_url} refuses the request ({problem}); {advice}") from None
        except openai.APIConnectionError as error:  # includes time-outs
            problem = self._message(error)
        raise UserError(
            f"{self.args.base_url} gave no answer in {self.args.max_attempts} attempts ({problem}); "
            f"its replies "
            "so far are kept: run the same command again to resume"
        )

    def _before_request(self, _: Any) -> None:
        if self._stopping.is_set():
            raise Cancelled
        self._count("sent")

    def _after_response(self, response: Any) -> None:
        """Mark a success without a complete reply as 502 (bad gateway), which the openai client retries."""
        if response.is_success:
            response.read()
            try:
                parse(response.text)
            except Incomplete:
                response.status_code = 502

    def _message(self, error: Exception) -> str:
        """An error in one short line, without the key, which some servers repeat."""
        text = " ".join(str(error).split()) or type(error).__name__
        return (text.replace(self._key, "***") if self._key else text)[:300]

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def content(message: Message) -> list[dict[str, Any]]:
    """Texts and images of a turn in the protocol's form. Raises UserError for a broken image."""
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": _url(part) if isinstance(part, Path) else _png(part)}}
        for part in message.parts
    ]


@lru_cache(maxsize=64)  # both queries of a question show the same file
def _url(path: Path) -> str:
    return _png(path)


def _png(image: Image.Image | Path) -> str:
    buffer = io.BytesIO()
    open_image(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def parse(text: str) -> Reply:
    """The reply in a chat completion.

    Raises:
        Incomplete: the JSON is cut off, or has no choice, no text, or no reason why it ended.
    """
    try:
        body = json.loads(text)
    except ValueError:
        raise Incomplete(f"no complete JSON: {text[:80]!r}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise Incomplete(f"no choices: {text[:80]!r}")
    choice = _fields(choices[0])
    reply, finish = _fields(choice.get("message")).get("content"), choice.get("finish_reason")
    if finish not in FINISHED:
        raise Incomplete(f"ended for the reason {finish!r}")
    if not isinstance(reply, str) and finish != "content_filter":
        raise Incomplete("no text")
    usage = _fields(body.get("usage"))
    prompt, completion = (
        count if isinstance(count := usage.get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    )
    # Half a surrogate pair could not be sent back.
    return Reply((reply or "").encode("utf-8", "replace").decode(), finish, prompt, completion)


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
