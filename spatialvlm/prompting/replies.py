"""What OpenAI-compatible servers send: completions in their many forms, and errors with their reasons.

A server may put thoughts beside the answer, the answer into parts, or an error into a reply of status 200.
Whatever holds a completion is read; what is not the answer (thoughts, calls of tools, a refusal) never is.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from spatialvlm.prompting.strategy import FAILED, REFUSED, Reply

FINISH = {  # a reason why a reply ended, by what servers call it; other names stay as they are
    "stop": "stop stop_sequence stop_token eos eos_token end end_turn endoftext finished complete completed",
    "length": "length model_length max_length max_tokens max_new_tokens max_output_tokens token_limit",
    "content_filter": "content_filter contentfilter content_filtered filtered safety image_safety recitation "
    "image_recitation blocklist prohibited_content image_prohibited_content spii sensitive model_armor "
    "content_policy content_policy_violation guardrail_intervened",
    "error": "error abort aborted server_error internal_error insufficient_system_resource timeout cancelled",
    "tool_calls": "tool_calls tool_call tool_use function_call",
}
NAMES = {name: finish for finish, names in FINISH.items() for name in names.split()}
UNKNOWN = "unknown"  # no reason, or one that is no text
BLOCKED = ("prompt_filter_results", "promptFeedback", "prompt_feedback")  # say why there is no choice
# Fields of a message beside its content that hold reasoning.
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thoughts", "analysis", "reasoning_details")

# Why a server refuses a question, in the order tried, by the words of its error (lower case).
REFUSALS = {
    reason: "|".join(patterns)
    for reason, patterns in {
        "filtered": (
            r"content[ _-]?filter|content[ _-]?(management[ _-])?policy|content (exists )?risk|high risk",
            r"usage (polic|guideline)|guardrail|responsible ?ai|moderation|flagged|unsafe",
            r"safety_check|safety (system|filter|reason|polic)",
            r"inappropriate|data_?inspection|sensitive (content|information)|prohibited_content",
            r"(prompt|content|output|input).{0,30} blocked|\u654f\u611f|\u4e0d\u5b89\u5168",
        ),
        "too long": (
            r"context[ _]?(length|window|size)|contextwindow|longer than the (model|max|context)",
            r"(prompt|inputs?|messages?|request) (is|are) too long|string_above_max_length|input length",
            r"too many (input |prompt |total )?tokens|`inputs` (tokens|must have)|reduce the length",
            r"max(imum)?[ _](prompt|input|sequence|seq|model|context)[ _]len",
            r"max(imum)? (number of |allowed )?(input |prompt )?tokens",
            r"token(s| count| limit).{0,60}exceed|exceed.{0,60}token|max_tokens must be at least 1, got -",
            r"physical batch size",
        ),
        "too large": (
            r"(payload|request|entity|body|image|file|content|input|message).{0,40}too[ _](large|big)",
            r"(image|request|body|payload|file).{0,60}exceed|exceed.{0,60}(\bmb\b|bytes|pixels|size)",
            r"too many (images|pixels)|at most \d+ image",
        ),
        "invalid image": (
            r"image_parse_error|invalid_?(base64_)?image|image.{0,60}(too small|not meet|truncated)",
            r"url does not appear to be valid",
            r"(invalid|unsupported|corrupt|malformed|broken|cannot|could not|failed|unable).{0,60}image",
            r"image.{0,60}(invalid|unsupported|corrupt|malformed|broken|cannot|could not|failed|unable)",
        ),
    }.items()
}
CREDIT = "|".join(  # used up; comes with many statuses, and ends a study
    (
        r"insufficient[ _-]?(quota|credit|balance|fund)|billing[_ ](not[_ ]active|hard)|payment required",
        r"(credit|balance|fund)s?( \S+)? (is |are )?(insufficient|too low|not enough|used up|depleted)",
        r"(out of|no|more|all available|any|monthly included) credits|(spend(ing)?|credit) limit|arrear",
        r"(?<!token )(?<!thinking )budget.{0,20}exceed|exceed.{0,20}(?<!token )(?<!thinking )budget",
        r"over budget|exceeded_current_quota|api usage limits|organization has been disabled",
        r"in good standing|account \S+ is (suspended|not active)|\u6b20\u8d39|\u4f59\u989d\u4e0d\u8db3",
    )
)
UNFIT = "|".join(  # a server, or a model, that can answer no question
    (
        r"not a multimodal|(not|n't) support.{0,20}(image|vision|multimodal)|support image input|mmproj",
        r"(image|vision|multimodal)( input)?s? (is|are) not supported|unknown variant `image_url`",
        r"unexpected endpoint|requires more (system )?memory",
    )
)
# A server's own troubles that come as 400 or 422 as well: they end a study.
OWN = "|".join(
    (
        r"api[ _-]?key|unauthori[sz]ed|authenticat|credential|insufficient_quota|billing|out of credits",
        r"(invalid|unknown|unsupported|nonexistent|no such)\W{1,3}model|model_not_found|not a valid model",
        r"model( \S{1,100})?,? ((is|was|has|been|does|could) )*"
        r"((not|no longer) (be )?(found|exist|available)|unavailable|unknown|decommissioned)",
        UNFIT,
    )
)
RATE = r"rate.?limit|(tokens|requests|images) per (second|min|hour|day)|overloaded|too many requests"
CRASH = r"has crashed|out of memory|failed during generation"  # also with a status below 500
TOO_MUCH_AT_ONCE = r"request too large|must be reduced"  # a rate limit that no pause helps with
REFUSED_STATUS = {413: "too large", 414: "too long", 431: "too large", 451: "filtered"}  # whatever the words
OWN_STATUS = (401, 402, 404, 405, 407, 408, 409, 410, 426, 429)
UNSUPPORTED = (
    r"(unsupported|(not|n't)( be| currently)? (support|permit|allow|accept|availab|recogni)\w*"
    r"|unrecogni[sz]ed|unknown|unexpected|extra|extraneous|deprecated|forbidden|cannot find|instead"
    r"|strictly positive|greater than (0|zero)|above (0|zero)|> ?0|only the default|remove)"
)
# Where servers put what is wrong. What they repeat of a request ("input", "body") is not among them.
WORDS = (
    *("message", "msg", "error", "errors", "detail", "details", "description", "error_description", "title"),
    *("type", "error_type", "code", "status", "reason", "param", "loc", "innererror", "metadata", "raw"),
)
LONGEST_WAIT = 120  # seconds that the openai client waits at most
LONGEST = 2000  # characters of an error's words that are looked at


class Incomplete(Exception):
    """A reply of which something is missing."""


class ErrorReply(Exception):
    """An error in a reply of status 200; `status` is the one it should have had."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


# ---- completions


def parse(content: bytes) -> Reply:
    """The reply in a chat completion, also in one sent as a stream of events.

    Raises:
        Incomplete: no completion, or one that is cut off.
        ErrorReply: an error in place of one.
    """
    text = content.decode("utf-8-sig", "replace")  # JSON is in UTF-8, whatever a header says
    try:
        return _reply(_body(text))
    except (ValueError, RecursionError):
        raise Incomplete(f"no complete JSON: {text.strip()[:80]!r}") from None


def _body(text: str) -> Any:
    """The JSON of a reply, or of its events joined. Raises ValueError where it is damaged."""
    # Servers and proxies send blank lines and comments (": PROCESSING") to keep a connection open.
    text = re.sub(r"\A(\s|\ufeff|\0|:[^\n]*(\n|\Z))+", "", text)
    if re.match(r"(data|event|id|retry):", text):
        return _joined(re.split(r"\r\n|\r|\n", text))
    body, end = json.JSONDecoder(strict=False).raw_decode(text)
    if re.sub(r"\s|\0|^:.*$|^data: *\[DONE\]", "", text[end:], flags=re.MULTILINE):
        raise ValueError("more than one JSON value")
    return body


def _joined(lines: list[str]) -> dict[str, Any]:
    """The chunks of a stream as one completion. Raises ValueError where the stream was cut off."""
    message: dict[str, Any] = {}
    whole: dict[str, Any] = {"choices": []}
    finish, ended = None, False
    event = ""
    for line in lines:
        name, _, data = (part.strip() for part in line.partition(":"))
        if name == "event" or not line:
            event = data
        if data == "[DONE]":
            ended = True
        elif data and name in ("data", "error"):  # llama.cpp writes "error: {...}"
            value = json.loads(data, strict=False)
            chunk = _fields(value)
            whole |= {name: chunk[name] for name in ("usage", *BLOCKED) if chunk.get(name)}
            choice = _first(chunk.get("choices"))
            failed = value if "error" in (name, event) else None
            if error := _error(value) or choice.get("error") or failed:
                whole["error"] = error
            finish = choice.get("finish_reason") or finish
            for name, value in _fields(choice.get("message") or choice.get("delta")).items():
                if name == "content" or name == "refusal" or name in THOUGHTS:
                    message.setdefault(name, []).append(value)  # parts, joined as such
                    whole["choices"] = [{"message": message}]
    if whole["choices"] or finish:
        whole["choices"] = [{"message": message, "finish_reason": finish}]
    if not (ended or finish or "error" in whole):
        raise ValueError("no end of the stream")
    return whole


def _reply(body: Any) -> Reply:
    whole = _fields(body)
    choices = whole.get("choices")
    choice = _first(choices)
    error = _error(body) or choice.get("error")
    told = error_words(error) and _count(_fields(error).get("code")) not in (0, 200)  # those mean success
    if error and (told or not choices):  # whatever came before it
        raise ErrorReply(error_status(error))
    completion = "choices" in whole or "usage" in whole or whole.get("object") == "chat.completion"
    if not (isinstance(choices, list) or (choices is None and (completion or any(map(whole.get, BLOCKED))))):
        raise Incomplete(f"no choices: {json.dumps(body)[:80]}")
    message = choice.get("message") or choice.get("delta") or choice.get("text")
    fields = message if isinstance(message, dict) else {"content": message}
    kinds: dict[str, list[str]] = {"answer": [], "thoughts": [], "refusal": []}
    for kind, part in _parts(fields.get("content")):
        kinds[kind].append(part)
    for name in ("refusal", *THOUGHTS):
        value = fields.get(name)
        repeated = name == "reasoning_details" and kinds["thoughts"]  # the same in another form
        if value and not repeated:
            kinds["refusal" if name == "refusal" else "thoughts"] += [part for _, part in _parts(value)]
    answer, thoughts, refusal = ("".join(parts) for parts in kinds.values())
    finish = finish_name(choice.get("finish_reason") or choice.get("finishReason"))
    if finish == "error":  # a part of an answer is none
        answer, finish = "", FAILED
    elif not choices:
        finish = "content_filter" if any(map(whole.get, BLOCKED)) else FAILED
    elif refusal.strip() and not answer.strip():
        finish = "refusal"
    usage = _fields(whole.get("usage"))
    prompt = _count(usage.get("prompt_tokens")) or None  # no prompt has 0 tokens: some servers write that
    written = _count(usage.get("completion_tokens"))
    return Reply(
        _sendable(answer),
        finish,
        prompt,
        None if written == 0 and answer else written,
        thoughts=_sendable(thoughts),
        refusal=_sendable(refusal),
    )


def finish_name(finish: object) -> str:
    """A finish reason by its common name; as the server writes it, in lower case, where it has none."""
    if isinstance(finish, dict):
        finish = finish.get("type")
    if not isinstance(finish, str) or not finish.strip():
        return UNKNOWN
    name = re.sub(r"^finish_?reason[._]", "", finish.strip().lower())
    if name in REFUSED:  # those names are ours
        return "error"
    return NAMES.get(name) or NAMES.get(re.split(r"[^a-z_]", name)[0]) or _sendable(name)[:40]


def _parts(content: object) -> Iterator[tuple[str, str]]:
    """The texts of a message's content, whatever its form: (`answer`, `thoughts` or `refusal`, text)."""
    if isinstance(content, str):
        yield "answer", content
    elif isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif isinstance(content, dict):
        kind = str(content.get("type") or "").lower()
        names = ("text", "value", "content", "parts", "refusal", "thinking", "reasoning", "summary")
        name = next((name for name in names if content.get(name)), None)
        if re.search("think|reason|thought|summary", kind) or content.get("thought") is True:
            yield from (("thoughts", part) for _, part in _parts(content.get(name or "")))
        elif kind == "refusal" or (not kind and name == "refusal"):
            yield from (("refusal", part) for _, part in _parts(content.get(name or "")))
        elif "text" in kind or kind in ("", "message"):
            if name in ("text", "value", "content", "parts"):
                yield from _parts(content[name])
            elif not kind and content and not name:  # an answer that a server read as JSON
                yield "answer", json.dumps(content)
    elif content is not None:
        yield "answer", json.dumps(content)


def _first(choices: object) -> dict[str, Any]:
    """The choice of index 0, else the first one, else an empty one; a bare text is a choice's message."""
    every = choices if isinstance(choices, list) else []
    found = [{"message": each} if isinstance(each, str) else _fields(each) for each in every]
    return next((each for each in found if each.get("index") == 0), found[0] if found else {})


def _count(value: object) -> int | None:
    """A number of tokens; None where it is unknown."""
    if isinstance(value, str):
        value = float(value) if re.fullmatch(r"\s*\d{1,15}(\.0*)?\s*", value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < math.inf and value == int(value) else None


def _sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which could not be sent back."""
    return text.encode("utf-8", "replace").decode()


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ---- errors


def _error(body: Any) -> Any:
    """The error in a body, or None; Google's come in a list."""
    body = _fields(body[0] if isinstance(body, list) and body else body)
    return body.get("error") or (body if body.get("object") == "error" else None)


def error_status(error: Any) -> int:
    """The status that an error in a reply of status 200 names, or that follows from its words; else 502."""
    if status := _named_status(error):
        return status
    words = error_words(error).lower()
    if re.search(r"rate.?limit|overloaded|capacity", words):
        return 429
    if re.search(r"permission|forbidden", words):
        return 403
    if refusal(400, words) not in (None, "refused") or re.search(
        r"invalid.?request|bad.?request|validation", words
    ):
        return 400
    return 404 if re.search(OWN, words) else 502


def _named_status(error: Any) -> int | None:
    statuses = [_count(_fields(error).get(name)) for name in ("code", "status", "status_code")]
    return next((status for status in statuses if status is not None and 400 <= status < 600), None)


def meant(status: int, content: bytes) -> int:
    """The status that an error's words mean: 402 for credit used up, 429 for a rate limit, ..."""
    words, from_json = words_of(content)
    words = words.lower()
    if from_json and re.search(CREDIT, words):
        return 402
    limited = status not in OWN_STATUS and (status < 500 or from_json) and re.search(RATE, words)
    if status == 429 or limited:
        return 429
    if status >= 500 and from_json and re.search(UNFIT, words):
        return 400
    if status in (400, 422, 424) and re.search(CRASH, words):
        return 500
    if status in (400, 422, 500) and from_json:
        named = _named_status(_error(_body(content.decode("utf-8-sig", "replace"))))
        return named if named and (named >= 500 or named in (408, 429)) else status
    return status


def long_wait(headers: Mapping[str, str]) -> str | None:
    """How long a server wants no request (Retry-After), in words, where that is longer than is waited."""
    wait = headers.get("retry-after", "")
    try:
        seconds = float(wait)
    except ValueError:
        date = parsedate_tz(wait)
        seconds = mktime_tz(date) - time.time() if date else 0.0
    return f"{seconds:,.0f} seconds" if LONGEST_WAIT < seconds < math.inf else None


def error_words(error: Any) -> str:
    """What an error says in its message, code and type, in one line."""
    return " ".join(" ".join(_words(error)).split())[:LONGEST]


def words_of(content: bytes) -> tuple[str, bool]:
    """(what the body of an error says, whether it is JSON); the text of a page, without its tags."""
    text = content.decode("utf-8-sig", "replace")
    try:
        body = _body(text)
    except (ValueError, RecursionError):
        return " ".join(re.sub(r"<[^>]{0,500}>", " ", text[:20_000]).split())[:LONGEST], False
    whole = _fields(body)
    if "choices" in whole:  # what the model wrote is no error's
        choice = _first(whole["choices"])
        finish = f"finish_reason {finish_name(choice.get('finish_reason'))}" if choice else "no choices"
        return error_words(_error(body) or choice.get("error") or finish), True
    return error_words(body) or " ".join(text.split())[:LONGEST], True


def _words(error: Any) -> Iterator[str]:
    if isinstance(error, str | int) and not isinstance(error, bool):
        yield _sendable(str(error))
    elif isinstance(error, list):
        for each in error:
            yield from _words(each)
    elif isinstance(error, dict):
        for name in WORDS:
            if name in error:
                yield from _words(error[name])


def refusal(status: int, words: str, from_json: bool = True) -> str | None:
    """Why a server refuses a question, or None where the trouble is the server's own.

    Args:
        words, from_json: what the error says (`words_of`); a page behind a 5xx is a gateway's.
    """
    words = words.lower()
    if status == 429 or (status >= 400 and re.search(RATE, words)):
        return "too long" if re.search(TOO_MUCH_AT_ONCE, words) else None
    if status in OWN_STATUS or status < 400 or (status >= 500 and not from_json):
        return None
    if status == 403:  # a page is a firewall's
        return "filtered" if from_json and re.search(REFUSALS["filtered"], words) else None
    if re.search(UNFIT, words):
        return None
    for reason, pattern in REFUSALS.items():
        if reason == "invalid image" and re.search(OWN, words):  # "not a valid model", "no image input"
            return None
        if re.search(pattern, words):
            return reason
    return REFUSED_STATUS.get(status, "refused") if status < 500 else None


def unsupported(words: str, parameters: Iterable[str]) -> list[str]:
    """The parameters that an error calls unsupported."""
    words = words.lower()
    return [
        name
        for name in parameters
        if re.search(rf"\b{UNSUPPORTED}\b.{{0,80}}\b{name}\b|\b{name}\b.{{0,80}}{UNSUPPORTED}", words)
    ]
