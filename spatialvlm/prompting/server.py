"""An OpenAI-compatible server as the client of a study: `--base_url http://localhost:8000/v1`.

Requests are chat completions at temperature 0, pictures as PNG in data URLs. Some conversations run at a
time. What can pass is asked for again, later and later, with chance in the waiting: 408, 409, 425, 429, 5xx
(not before Retry-After, of an hour at most), time-outs, cut connections and half answers. Every whole reply
goes into the cache before anything else is done with it. An answer that the server itself cut off at the
greatest length is whole, and counted as cut off.

The key comes from the environment variable OPENAI_API_KEY alone; it is neither printed nor stored.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import openai
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.example import open_image
from spatialvlm.prompting.cache import Cache, key_of
from spatialvlm.prompting.client import Reply, Talk
from spatialvlm.prompting.strategy import Conversation, Message

KEY_VARIABLE = "OPENAI_API_KEY"
PASSING = {408, 409, 425, 429}  # beside 5xx
FINISHED = ("stop", "length", "content_filter")
LONGEST_PAUSE = 3600.0  # seconds; a server that asks for more is asked again then


class Halved(Exception):
    """A reply of which something is missing."""


class Cancelled(Exception):
    """The study is being stopped: no request is to be sent any more."""


@dataclass
class ServerArgs:
    """Where a server is and how it is spoken to."""

    base_url: str | None = field(
        default=None, metadata={"help": "OpenAI-compatible server to ask, http://localhost:8000/v1 for one"}
    )
    concurrency: int = field(default=8, metadata={"help": "conversations with the server at a time"})
    cache_dir: str | None = field(
        default=None, metadata={"help": "folder of replies, may be shared; in the run folder where not given"}
    )
    timeout: float = field(default=120.0, metadata={"help": "seconds to wait for one reply"})
    max_attempts: int = field(default=8, metadata={"help": "how often a request is sent before giving up"})
    price_in: float = field(default=0.0, metadata={"help": "price of a million tokens of prompts"})
    price_out: float = field(default=0.0, metadata={"help": "price of a million tokens of replies"})

    def check(self) -> None:
        """Raises UserError for figures out of range and a base_url that is none, or holds a password."""
        for name in ("concurrency", "max_attempts"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if not self.timeout > 0:
            raise UserError(f"--timeout must be more than 0, not {self.timeout}")
        for name in ("price_in", "price_out"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"--{name} must not be negative, not {getattr(self, name)}")
        if self.base_url is not None:
            _check_address(self.base_url)


def _check_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, or a port, that make no address
        known = False
    if known and ("@" in parts.netloc or parts.query):  # not to be repeated, nor kept in config.json
        raise UserError(f"--base_url must hold no password and no query; put the key in {KEY_VARIABLE}")
    if not known:
        raise UserError(f"--base_url {base_url!r} is no address such as http://localhost:8000/v1")


def _key() -> str:
    """The key of the environment; `none` where there is none, which servers of one's own do not mind."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY_VARIABLE} holds characters that no key has; set it anew")
    return key or "none"


class ServerClient:
    """Asks a server.

    Args:
        args: address, number at a time, time limit, attempts.
        model: the model's name on that server.
        cache: where replies are kept.
        max_new_tokens: greatest length of a reply.
        first_pause: seconds before the second attempt; each later pause is twice as long, up to a minute.
    """

    def __init__(
        self,
        args: ServerArgs,
        model: str,
        cache: Cache,
        max_new_tokens: int,
        seed: int = 0,
        first_pause: float = 1.0,
    ):
        self.args, self.model, self.cache = args, model, cache
        self.max_new_tokens, self.seed, self.first_pause = max_new_tokens, seed, first_pause
        self._key = _key()
        self._openai = openai.OpenAI(
            base_url=args.base_url, api_key=self._key, max_retries=0, timeout=args.timeout
        )
        self._random = Random()  # of pauses: they change no answer
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}  # one a request, so that twins are sent once
        self._counts: Counter[str] = Counter()

    # ---- conversations

    def talk(self, conversations: Iterable[tuple[str, Conversation]]) -> Iterator[tuple[str, Talk]]:
        """Each conversation in a thread of its own, `concurrency` at a time, as they end.

        Where one fails, or the study is stopped, no further request is sent; those on their way are waited
        for, and go into the cache.

        Raises:
            UserError: the server refuses a request, or all attempts failed.
        """
        waiting = iter(conversations)
        running: set[Future] = set()
        self._stopping.clear()
        pool = ThreadPoolExecutor(self.args.concurrency, thread_name_prefix="conversation")
        try:
            for id, conversation in waiting:
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

    def _hold(self, id: str, conversation: Conversation) -> tuple[str, Talk]:
        replies: list[Reply] = []
        messages = next(conversation)
        while True:
            replies.append(self.reply(messages))
            try:
                messages = conversation.send(replies[-1].text)
            except StopIteration as end:
                return id, Talk(end.value, tuple(replies))

    def facts(self) -> dict[str, int]:
        """Requests sent and answered in this session, attempts that failed, replies from the cache."""
        with self._lock:
            return {name: self._counts[name] for name in ("answered", "failed_attempts", "from_cache")}

    # ---- one request

    def reply(self, messages: Sequence[Message]) -> Reply:
        """The reply to a query, from the cache or from the server.

        Raises:
            UserError: as `talk`.
            Cancelled: the study is being stopped.
        """
        request = {
            "model": self.model,
            "messages": [{"role": each.role, "content": content(each)} for each in messages],
            "max_tokens": self.max_new_tokens,
            "temperature": 0,
            "seed": self.seed,
        }
        asked = {"base_url": self.args.base_url, **request}
        with self._lock:
            mine = self._asking.setdefault(key_of(asked), threading.Lock())
        with mine:
            if kept := self.cache.get(asked):
                self._count("from_cache")
                return Reply(**kept, from_cache=True)
            found = self._ask(request)
            kept = asdict(found)
            del kept["from_cache"]
            self.cache.put(asked, kept)
            self._count("answered")
            return found

    def _ask(self, request: dict[str, Any]) -> Reply:
        pause, trouble = self.first_pause, ""
        for attempt in range(1, self.args.max_attempts + 1):
            if self._stopping.is_set():
                raise Cancelled
            told = 0.0
            try:
                raw = self._openai.chat.completions.with_raw_response.create(**request)
                return read(raw.text)
            except openai.APIStatusError as error:
                trouble = f"{error.status_code}: {self._message(error)}"
                if error.status_code not in PASSING and error.status_code < 500:
                    raise UserError(self._refused(error.status_code, trouble)) from None
                told = min(retry_after(error.response.headers.get("retry-after")) or 0.0, LONGEST_PAUSE)
            except (openai.APIConnectionError, Halved) as error:  # time-outs are connection errors too
                trouble = self._message(error)
            self._count("failed_attempts")
            if attempt < self.args.max_attempts:
                self._stopping.wait(max(pause * self._random.uniform(0.5, 1.0), told))
                pause = min(2 * pause, 60.0)
        raise UserError(
            f"{self.args.base_url} failed {self.args.max_attempts} times in a row ({trouble}); what it has "
            "answered is kept: run the same command again to go on"
        )

    def _refused(self, status: int, trouble: str) -> str:
        advice = f"set {KEY_VARIABLE}" if status in (401, 403) else "check --model and --base_url"
        return f"{self.args.base_url} refuses the request ({trouble}); {advice}"

    def _message(self, error: Exception) -> str:
        """An error in one short line, without the key, which some servers repeat."""
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(self._key, "***")[:300] if self._key != "none" else text[:300]

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def content(message: Message) -> list[dict[str, Any]]:
    """A turn as the protocol has it, in its order. Raises UserError for a broken picture."""
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in message.parts
    ]


def data_url(image: Image.Image | Path) -> str:
    """A picture as PNG, which loses nothing, in base64."""
    return _file_url(image) if isinstance(image, Path) else _url(image)


@lru_cache(maxsize=64)  # both queries of a question show the same file
def _file_url(path: Path) -> str:
    return _url(path)


def _url(image: Image.Image | Path) -> str:
    buffer = io.BytesIO()
    open_image(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read(text: str) -> Reply:
    """A chat completion's reply.

    Raises:
        Halved: it is no whole JSON, or has no choice, no text, or no reason why it ended.
    """
    try:
        body = json.loads(text)
    except ValueError:
        raise Halved(f"half an answer: {text[:80]!r}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise Halved(f"an answer without choices: {text[:80]!r}")
    choice = _fields(choices[0])
    said, finish = _fields(choice.get("message")).get("content"), choice.get("finish_reason")
    if finish not in FINISHED:
        raise Halved(f"an answer that ended for the reason {finish!r}")
    if not isinstance(said, str) and finish != "content_filter":
        raise Halved("an answer without text")
    usage = _fields(body.get("usage"))
    spent = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    # Half a pair of surrogates could not be sent back.
    whole = (said or "").encode("utf-8", "replace").decode()
    return Reply(whole, finish, *(count if isinstance(count, int) else 0 for count in spent))


def _fields(part: object) -> dict[str, Any]:
    return part if isinstance(part, dict) else {}


def retry_after(header: str | None) -> float | None:
    """Seconds to wait, of a header that gives seconds or a date; None where it is absent or unreadable."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
