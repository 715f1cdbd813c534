"""Client of an OpenAI-compatible server: `--base_url http://localhost:8000/v1`.

Requests are chat completions at temperature 0, with images as PNG in data URLs. The openai client retries
408, 409, 429, 5xx, time-outs and cut connections after growing pauses; an incomplete reply is treated as a
502. Every complete reply goes into the cache before it is used, so that no request is paid for twice.

A question that the server refuses (too long, filtered, ...) gets an empty reply with the reason; what is the
server's own trouble (a wrong key, an unknown model, credit used up) ends the study.

A query that has no answer in all attempts (5xx, time-outs, cut connections) is counted as `failed` where the
server then answers a short question, and again not this one. Where it does not answer the short question
either, at the third such query in a row, and where the last attempt met a rate limit, the study ends.

The key comes from the environment variable OPENAI_API_KEY alone; it is neither printed nor stored.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import string
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any
from urllib.parse import quote, urlsplit

import openai
from PIL import Image

from spatialvlm.disk import disk_errors, whole
from spatialvlm.errors import UserError, require_above_zero, require_at_least
from spatialvlm.images import open_image
from spatialvlm.prompting import replies
from spatialvlm.prompting.strategy import (
    FAILED,
    REFUSED,
    Conversation,
    Dialogue,
    Message,
    Reply,
    missing,
)

KEY_VARIABLE = "OPENAI_API_KEY"
RETRIED = (408, 409, 429)  # by the openai client, and 5xx
IN_A_ROW = 3  # queries without an answer, after which a server is taken to be down
RESUME = "its replies so far are kept: run the same command again to resume"
FIELDS = {  # of a cached reply: the first four always, the others where they hold something
    "text": (str,),
    "finish": (str,),
    "prompt_tokens": (int, NoneType),
    "completion_tokens": (int, NoneType),
    "thoughts": (str,),
    "refusal": (str,),
    "without": (list,),
}
ADVICE = {status: f"set {KEY_VARIABLE}" for status in (401, 403)} | {402: "pay there, or use another key"}
SECRET = 16  # characters of a key; a shorter one is a word
ALWAYS = tuple(FIELDS)[:4]
# Other names of parameters, for servers that refuse the usual ones; None: leave it out, and what follows.
OTHERWISE: dict[str, tuple[str | None, str]] = {
    "max_tokens": ("max_completion_tokens", ""),
    "temperature": (None, "its replies are sampled at its own temperature, not greedy, and vary"),
    "seed": (None, "its replies may vary from run to run"),
}


class Unanswered(UserError):
    """No answer to a query in all attempts; `reply` is what stands for it if others are answered."""

    def __init__(self, message: str, reply: Reply) -> None:
        super().__init__(message)
        self.reply = reply


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
    retry_refused: bool = field(
        default=False, metadata={"help": "send again what the server refused (too long, filtered, ...)"}
    )

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

    def get(self, key: str) -> Reply | None:
        """The cached reply, or None. Raises UserError for a damaged file."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            reply = json.loads(path.read_text(encoding="utf-8"))
            kept = {name: reply[name] for name in FIELDS if name in reply or name in ALWAYS}
            if not all(type(value) in FIELDS[name] for name, value in kept.items()):
                raise ValueError("no reply")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); delete that file to repeat the request") from None
        return Reply(**kept | {"without": tuple(kept.get("without", ()))})

    def put(self, key: str, reply: Reply) -> None:
        kept = {name: value for name, value in asdict(reply).items() if value or name in ALWAYS}
        path = self._path(key)
        with disk_errors(path), whole(path, shared=True) as aside:
            aside.write_text(json.dumps(kept), encoding="utf-8")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class ServerClient:
    """Holds conversations with a model on a server. Raises UserError for a key that cannot be one."""

    patience = 10

    def __init__(self, args: ServerArgs, model: str, cache: Cache, max_new_tokens: int, seed: int = 0):
        self.args, self.model, self.cache = args, model, cache
        self.max_new_tokens, self.seed = max_new_tokens, seed
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UserError(f"{KEY_VARIABLE} holds characters that no key has; set it again")
        if len(self._key) >= SECRET and args.base_url and self._key in args.base_url:
            raise UserError(f"--base_url must not hold the key; it comes from {KEY_VARIABLE}")
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
        self._in_a_row = 0  # queries without an answer since the last one that had one
        self._otherwise: dict[str, str | None] = {}  # parameters that the server does not take as they are
        self._sent: set[str] = set()  # requests of this session, which `retry_refused` does not repeat

    def talk(
        self, conversations: Iterable[tuple[str, Conversation]]
    ) -> Generator[tuple[str, Dialogue], None, None]:
        """Hold `concurrency` conversations at a time, each in a thread; yield them as they end.

        Where one fails, or the study is stopped, no further request is sent; those on their way are awaited
        and cached.

        Raises:
            UserError: the server cannot be used, or gives no answers.
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
        """A conversation to its end; one with a refused query has no answer, and nothing further is sent."""
        held: list[Reply] = []
        messages, refused = next(conversation), False
        while True:
            if not refused:
                held.append(self.reply(messages))
                refused = _refused(held[-1])
            try:
                messages = conversation.send("" if refused else held[-1].text)
            except StopIteration as end:
                outcome = replace(end.value, text="") if refused else end.value
                return id, Dialogue(outcome, tuple(held))

    def facts(self) -> dict[str, int]:
        """Requests answered in this session, attempts that failed, replies from the cache."""
        with self._lock:
            counts = Counter(self._counts)
        failed = counts["sent"] - counts["answered"] - counts["checked"]
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
            cached = self.cache.get(key)
            again = self.args.retry_refused and key not in self._sent
            if cached and not (again and _refused(cached)):
                self._count("from_cache")
                return cached
            self._sent.add(key)
            try:
                reply = self._send(request, self._openai)
            except Unanswered as error:
                reply = self._failed(request, error)
            self.cache.put(key, reply)
            if reply.finish != FAILED:
                self._in_a_row = 0
                self._count("answered")
            return reply

    def _failed(self, request: dict[str, Any], error: Unanswered) -> Reply:
        """The reply to a query that alone has no answer; raises the error where no other has one."""
        with self._lock:
            self._in_a_row += 1
            down = self._in_a_row >= IN_A_ROW
        once = self._openai.with_options(max_retries=0)
        if down or not self._is_up(once):
            raise error
        try:
            return self._send(request, once)
        except Unanswered as again:
            return again.reply

    def _is_up(self, client: openai.OpenAI) -> bool:
        """Whether the server answers, or refuses, a short question without an image."""
        messages = [{"role": "user", "content": [{"type": "text", "text": "Say yes."}]}]
        request = {"model": self.model, "messages": messages, "max_tokens": self.max_new_tokens}
        try:
            client.chat.completions.with_raw_response.create(**self._accepted(request))
        except openai.APIStatusError as error:
            return error.status_code < 500 and error.status_code not in RETRIED
        except openai.APIConnectionError:
            return False
        self._count("checked")
        return True

    def _send(self, request: dict[str, Any], client: openai.OpenAI) -> Reply:
        """The server's reply to a request; an empty one with its reason where it refuses to reply.

        Raises:
            Unanswered: no answer in all attempts, for whatever reason but a limit of rates.
            UserError: another trouble of the server's own.
        """
        while True:
            sent = self._accepted(request)
            try:
                answer = client.chat.completions.with_raw_response.create(**sent)
                return self._finished(replies.parse(answer.content), sent)
            except openai.APIStatusError as error:
                content, status = error.response.content, error.status_code
                words, from_json = replies.words_of(content)
                reason = replies.refusal(status, words, from_json)
                adaptable = status in (400, 422) and reason in (None, "refused")
                if adaptable and self._adapt(replies.unsupported(words, sent)):
                    continue
                if reason:
                    return Reply("", reason, 0, 0, refusal=self._shown(words))
                reply = None
                try:
                    reply = self._finished(replies.parse(content), sent)  # no answer in all attempts
                except replies.Incomplete:
                    words = f"no chat completion: {words}" if status == 502 else words
                except replies.ErrorReply:
                    pass
                raise self._own_trouble(status, words, error.response.headers, reply) from None
            except openai.APIConnectionError as error:  # includes time-outs
                raise self._own_trouble(None, str(error)) from None

    def _finished(self, reply: Reply, sent: Mapping[str, Any]) -> Reply:
        """The reply with what its request left out, and without the key, which some servers repeat."""
        left_out = [name for name, (other, _) in OTHERWISE.items() if not other and name not in sent]
        if len(self._key) >= SECRET and self._key in reply.text + reply.thoughts:
            text, thoughts = hide(reply.text, self._key), hide(reply.thoughts, self._key)
            reply = replace(reply, text=text, thoughts=thoughts)
        return replace(reply, refusal=self._shown(reply.refusal), without=tuple(left_out))

    def _accepted(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with the parameters that the server takes."""
        with self._lock:
            otherwise = dict(self._otherwise)
        names = {name: otherwise.get(name, name) for name in request}
        return {names[name]: value for name, value in request.items() if names[name]}

    def _adapt(self, names: Sequence[str]) -> bool:
        """Rename, or leave out, what the server does not take; whether there is such a thing."""
        names = [name for name in names if name in OTHERWISE]
        for name in names:
            other, consequence = OTHERWISE[name]
            with self._lock:
                new = name not in self._otherwise
                self._otherwise[name] = other
            if new and consequence:
                print(f"the server takes no {name!r}, which is left out: {consequence}", flush=True)
        return bool(names)

    def _own_trouble(
        self,
        status: int | None,
        words: str,
        headers: Mapping[str, str] | None = None,
        reply: Reply | None = None,
    ) -> UserError:
        """The error that ends a study; `reply`: what came in place of an answer, if anything."""
        problem = self._shown(f"{status}: {words}" if status else words) or "no words"
        if status is not None and status < 500 and status not in RETRIED:
            advice = ADVICE.get(status, "check --model and --base_url")
            return UserError(f"{self.args.base_url} refuses the request ({problem}); {advice}; {RESUME}")
        if wait := replies.long_wait(headers or {}):
            return UserError(
                f"{self.args.base_url} takes no request for {wait} ({problem}); {RESUME} after that"
            )
        message = (
            f"{self.args.base_url} gave no answer in {self.args.max_attempts} attempts ({problem}); {RESUME}"
        )
        if status == 429:  # no question's fault
            return UserError(message)
        return Unanswered(message, reply or Reply("", FAILED, 0, 0, refusal=self._shown(words)))

    def _before_request(self, _: Any) -> None:
        if self._stopping.is_set():
            raise Cancelled
        self._count("sent")

    def _after_response(self, response: Any) -> None:
        """Tell the openai client what to retry.

        A success without a complete reply becomes a 502 (bad gateway), and one with an error in it gets that
        error's status. What the server refuses to this question alone is not retried.
        """
        response.read()
        if response.is_success:
            try:
                if replies.parse(response.content).finish == FAILED:
                    response.status_code = 502
            except replies.Incomplete:
                response.status_code = 502
            except replies.ErrorReply as error:
                response.status_code = error.status
        if not response.is_success:
            response.status_code = replies.meant(response.status_code, response.content)
            words, from_json = replies.words_of(response.content)
            if replies.refusal(response.status_code, words, from_json):
                response.headers["x-should-retry"] = "false"

    def _shown(self, words: str) -> str:
        """Words of a server in one short line without the key, which some servers repeat."""
        printable = "".join(each if each.isprintable() else " " for each in words)
        return hide(" ".join(printable.split()), self._key)[:300]

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


def _refused(reply: Reply) -> bool:
    return missing(reply.text, reply.finish) in REFUSED


def hide(text: str, key: str) -> str:
    """The text without the key: whole, in part, as in an address or in base64."""
    if len(key) < 8:  # no secret, and perhaps a word ("none", "EMPTY")
        return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "***", text) if key else text
    lower = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # keeps the length
    parts = {form[at : at + 8].lower() for form in (key, quote(key, safe="")) for at in range(len(form) - 7)}
    plain, shown = text.translate(lower), list(text)
    for at in range(len(plain) - 7):
        if plain[at : at + 8] in parts:
            shown[at : at + 8] = "\0" * 8

    def encoded(match: re.Match[str]) -> str:
        word = match[0].rstrip("=").translate(str.maketrans("-_", "+/"))
        opened = [base64.b64decode(word[at : at + (len(word) - at) // 4 * 4]).lower() for at in range(4)]
        return "***" if any(part.encode() in each for part in parts for each in opened) else match[0]

    return re.sub(r"[A-Za-z0-9+/_-]{10,}={0,2}", encoded, re.sub("\0+", "***", "".join(shown)))
