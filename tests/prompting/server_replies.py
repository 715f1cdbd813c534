"""Replies and errors of OpenAI-compatible servers, in the forms that these have, and what each must become.

The forms are those of OpenAI, Azure, OpenRouter, vLLM, SGLang, text-generation-inference, llama.cpp, Ollama,
LiteLLM, Anthropic's, Google's, Mistral's and others' compatible servers.
"""

from __future__ import annotations

import gzip
import json
from typing import NamedTuple

from chat_server import Served, completion, completion_of

ANSWER = "<answer>A</answer>"
THOUGHTS = "Is it <answer>B</answer>? No."


class Expected(NamedTuple):
    """What must become of a reply."""

    text: str = ANSWER
    finish: str = "stop"
    reason: str | None = None  # why there is no answer
    thoughts: str = ""
    usage: tuple[int | None, int | None] = (100, 10)


def empty(finish: str = "stop", reason: str = "empty", thoughts: str = "", usage=(100, 10)) -> Expected:
    return Expected("", finish, reason, thoughts, usage)


def body_of(content: object, finish: object = "stop", **more) -> dict:
    return completion_of({"content": content}, finish, **more)


def without(whole: dict, name: str) -> dict:
    return {key: value for key, value in whole.items() if key != name}


PLAIN = completion(ANSWER, "stop")
CHOICE = PLAIN["choices"][0]
TOOL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"answer": "B"}'}}


def stream(*chunks: dict | str, line: str = "\n\n") -> str:
    return "".join(f"data: {each if isinstance(each, str) else json.dumps(each)}{line}" for each in chunks)


def delta(finish: str | None = None, **fields) -> dict:
    return {"object": "chat.completion.chunk", "choices": [{"delta": fields, "finish_reason": finish}]}


# ---- replies of status 200: {what it is: (body, what must become of it)}

REPLIES: dict[str, tuple[object, Expected]] = {
    "plain": (PLAIN, Expected()),
    # contents
    "null": (body_of(None), empty()),
    "empty": (body_of(""), empty()),
    "blank": (body_of(" \n"), empty()._replace(text=" \n")),
    "no content": (completion_of({}), empty()),
    "no message": (PLAIN | {"choices": [{"finish_reason": "stop"}]}, empty()),
    "message null": (PLAIN | {"choices": [{"message": None, "finish_reason": "stop"}]}, empty()),
    "choice null": (PLAIN | {"choices": [None]}, empty("unknown")),
    "message a text": (PLAIN | {"choices": [{"message": ANSWER, "finish_reason": "stop"}]}, Expected()),
    "text of a choice": (PLAIN | {"choices": [{"text": ANSWER, "finish_reason": "stop"}]}, Expected()),
    "delta": (PLAIN | {"choices": [{"delta": {"content": ANSWER}, "finish_reason": "stop"}]}, Expected()),
    "number": (body_of(3), Expected("3")),
    "parts": (
        body_of([{"type": "text", "text": "<answer>"}, {"type": "text", "text": "A</answer>"}]),
        Expected(),
    ),
    "output_text": (body_of([{"type": "output_text", "text": ANSWER, "annotations": []}]), Expected()),
    "text with value": (body_of([{"type": "text", "text": {"value": ANSWER}}]), Expected()),
    "parts without type": (body_of([{"text": ANSWER}]), Expected()),
    "list of texts": (body_of(["<answer>", "A</answer>"]), Expected()),
    "part as dict": (body_of({"type": "text", "text": ANSWER}), Expected()),
    "dict of parts": (body_of({"parts": [{"text": ANSWER}]}), Expected()),
    "parsed JSON": (body_of({"answer": "A"}), Expected('{"answer": "A"}')),
    "refusal part": (body_of([{"type": "refusal", "refusal": "I cannot."}]), empty("refusal", "declined")),
    "no parts": (body_of([]), empty()),
    "image part": (
        body_of([{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": ANSWER}]),
        Expected(),
    ),
    "image alone": (body_of([{"type": "image", "image": "B"}]), empty()),
    "null parts": (body_of([None, {"type": "text", "text": None}, {"type": "text"}]), empty()),
    "thinking part": (
        body_of(
            [{"type": "thinking", "thinking": THOUGHTS, "signature": "s"}, {"type": "text", "text": ANSWER}]
        ),
        Expected(thoughts=THOUGHTS),
    ),
    "thinking parts": (
        body_of([{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHTS}]}]),
        empty(thoughts=THOUGHTS),
    ),
    "thought part": (
        body_of([{"text": THOUGHTS, "thought": True}, {"text": ANSWER}]),
        Expected(thoughts=THOUGHTS),
    ),
    "reasoning part": (
        body_of([{"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHTS}]}]),
        empty(thoughts=THOUGHTS),
    ),
    # beside the content
    "refused by the model": (
        completion_of({"content": None, "refusal": "I cannot."}),
        empty("refusal", "declined"),
    ),
    "refusal null": (completion_of({"content": ANSWER, "refusal": None}), Expected()),
    **{
        name: (completion_of({"content": ANSWER, name: THOUGHTS}), Expected(thoughts=THOUGHTS))
        for name in ("reasoning_content", "reasoning", "thinking", "analysis")
    },
    "thinking took all": (
        completion_of({"content": None, "reasoning_content": THOUGHTS}, "length"),
        empty("length", thoughts=THOUGHTS),
    ),
    "reasoning details": (
        completion_of({"content": "", "reasoning_details": [{"type": "reasoning.text", "text": THOUGHTS}]}),
        empty(thoughts=THOUGHTS),
    ),
    "reasoning twice": (
        completion_of(
            {
                "content": ANSWER,
                "reasoning": THOUGHTS,
                "reasoning_details": [{"type": "reasoning.text", "text": "x"}],
            }
        ),
        Expected(thoughts=THOUGHTS),
    ),
    "tool calls": (completion_of({"content": None, "tool_calls": [TOOL]}, "tool_calls"), empty("tool_calls")),
    "function call": (
        completion_of({"content": None, "function_call": TOOL["function"]}, "function_call"),
        empty("tool_calls"),
    ),
    "tool part": (body_of([{"type": "tool_use", "input": {"answer": "B"}}], "tool_use"), empty("tool_calls")),
    # why it ended
    **{
        f"finish {name}": (body_of(ANSWER, name), Expected(finish=finish))
        for name, finish in {
            "STOP": "stop",
            "eos_token": "stop",
            "end_turn": "stop",
            "stop_sequence": "stop",
            "FINISH_REASON_STOP": "stop",
            "length": "length",
            "MAX_TOKENS": "length",
            "model_length": "length",
            "SAFETY": "content_filter",
            "Something_New": "something_new",
            "": "unknown",
        }.items()
    },
    "finish null": (body_of(ANSWER, None), Expected(finish="unknown")),
    "finish a list": (body_of(ANSWER, ["stop"]), Expected(finish="unknown")),
    "finish with a type": (body_of(ANSWER, {"type": "stop", "matched": 1}), Expected()),
    "finish missing": (PLAIN | {"choices": [without(CHOICE, "finish_reason")]}, Expected(finish="unknown")),
    **{
        f"filtered, {name}": (body_of(None, name), empty("content_filter", "filtered"))
        for name in (
            *("content_filter", "content_filter: RECITATION", "SAFETY", "RECITATION", "PROHIBITED_CONTENT"),
            *("BLOCKLIST", "FinishReason.IMAGE_SAFETY", "safety: HARM_CATEGORY_HARASSMENT", "MODEL_ARMOR"),
        )
    },
    "filtered in the middle": (body_of(ANSWER, "content_filter"), Expected(finish="content_filter")),
    # choices
    "several": (PLAIN | {"choices": [CHOICE, body_of("B")["choices"][0] | {"index": 1}]}, Expected()),
    "several, the other way": (
        PLAIN | {"choices": [body_of("B")["choices"][0] | {"index": 1}, CHOICE]},
        Expected(),
    ),
    "filtered prompt": (
        without(PLAIN, "usage") | {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        empty("content_filter", "filtered", usage=(None, None)),
    ),
    "blocked prompt": (
        {"object": "chat.completion", "choices": None, "promptFeedback": {"blockReason": "SAFETY"}},
        empty("content_filter", "filtered", usage=(None, None)),
    ),
    "blocked prompt, nothing else": (
        {"prompt_feedback": {"block_reason": "PROHIBITED_CONTENT"}},
        empty("content_filter", "filtered", usage=(None, None)),
    ),
    "an error that is none": (PLAIN | {"error": {"code": 0, "message": "success"}}, Expected()),
    "an error of nothing": (PLAIN | {"error": {"message": "", "code": None}}, Expected()),
    # what it took
    "no usage": (without(PLAIN, "usage"), Expected(usage=(None, None))),
    "usage null": (PLAIN | {"usage": None}, Expected(usage=(None, None))),
    "usage a list": (PLAIN | {"usage": ["free"]}, Expected(usage=(None, None))),
    "usage in part": (PLAIN | {"usage": {"prompt_tokens": 100}}, Expected(usage=(100, None))),
    "usage as texts": (PLAIN | {"usage": {"prompt_tokens": "100", "completion_tokens": "10.0"}}, Expected()),
    "usage as floats": (PLAIN | {"usage": {"prompt_tokens": 100.0, "completion_tokens": 10.0}}, Expected()),
    "usage of zeros": (
        PLAIN | {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        Expected(usage=(None, None)),
    ),
    "usage impossible": (
        PLAIN | {"usage": {"prompt_tokens": -1, "completion_tokens": True}},
        Expected(usage=(None, None)),
    ),
    # around it
    "more fields": (PLAIN | {"service_tier": None, "x": [{}], "error": None, "id": 3}, Expected()),
    "few fields": (
        {"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}]},
        Expected(usage=(None, None)),
    ),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(), Expected()),
    "blanks": (" \n\n \t\r\n" * 500 + json.dumps(PLAIN) + "\n\n", Expected()),
    "comments": (": OPENROUTER PROCESSING\n\n" * 50 + json.dumps(PLAIN) + "\n: end\n", Expected()),
    "raw line ends": (
        json.dumps(body_of("<answer>A|</answer>")).replace("|", "\n"),
        Expected("<answer>A\n</answer>"),
    ),
    "invalid UTF-8": (json.dumps(body_of("A |")).encode().replace(b"|", b"\xf0\x9f"), Expected("A \ufffd")),
    "half a pair": (body_of("a \ud83d b"), Expected("a ? b")),
    "NUL": (body_of(f"\0{ANSWER}"), Expected(f"\0{ANSWER}")),
    "1 MB": (body_of("word " * 200_000 + ANSWER), Expected("word " * 200_000 + ANSWER)),
    "deep thoughts": (
        body_of(f"<think>{THOUGHTS}</think>{ANSWER}"),
        Expected(f"<think>{THOUGHTS}</think>{ANSWER}"),
    ),
    # a stream that nobody asked for
    "stream": (
        stream(
            delta(role="assistant", content=""),
            delta(reasoning_content=THOUGHTS),
            delta(content="<answer>A\u2028"),
            delta(content="</answer>"),
            delta("stop"),
            {"choices": [], "usage": PLAIN["usage"]},
            "[DONE]",
        ),
        Expected("<answer>A\u2028</answer>", thoughts=THOUGHTS),
    ),
    "stream of comments": (
        ": PROCESSING\n\nevent: message\r\nid: 1\r\n"
        + stream(delta("length", content=ANSWER), line="\r\n\r\n"),
        Expected(finish="length", usage=(None, None)),
    ),
    "stream of one completion": (stream(PLAIN, "[DONE]"), Expected()),
    "empty stream": (stream(delta("stop", content=""), "[DONE]"), empty(usage=(None, None))),
}

# ---- the same through the wire: {what it is: how it is sent}

WIRES = {
    "chunked": Served(PLAIN, headers={"Transfer-Encoding": "chunked"}),
    "gzip": Served(gzip.compress(json.dumps(PLAIN).encode()), headers={"Content-Encoding": "gzip"}),
    "another charset": Served(PLAIN, headers={"X-Charset": "latin-1"}),
}


def error(message: str, code: object = None, type: object = "invalid_request_error", **more) -> dict:
    return {"error": {"message": message, "type": type, "param": None, "code": code, **more}}


# ---- what a server refuses: {what it is: (status, body, reason)}

LONG = "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens."
REFUSED: dict[str, tuple[int, object, str]] = {
    "OpenAI, too long": (400, error(LONG, "context_length_exceeded"), "too long"),
    "vLLM, too long": (
        400,
        {"object": "error", "message": LONG, "type": "BadRequestError", "code": 400},
        "too long",
    ),
    "vLLM, max_tokens": (
        400,
        error(
            "'max_tokens' or 'max_completion_tokens' is too large: 512. The maximum context length is 600."
        ),
        "too long",
    ),
    "vLLM, prompt": (
        400,
        error("The decoder prompt (length 9000) is longer than the maximum model length of 4096.", 400),
        "too long",
    ),
    "text-generation-inference": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096",
            "error_type": "validation",
        },
        "too long",
    ),
    "SGLang": (
        400,
        error("The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
        "too long",
    ),
    "llama.cpp": (
        400,
        error(
            "the request exceeds the available context size, try increasing it",
            400,
            "exceed_context_size_error",
        ),
        "too long",
    ),
    "llama.cpp, 500": (
        500,
        error("the request exceeds the available context size", 500, "server_error"),
        "too long",
    ),
    "llama.cpp, batch": (
        500,
        error("input is too large to process. increase the physical batch size", 500, "server_error"),
        "too long",
    ),
    "token budget": (400, error("The prompt exceeds the token budget: too many tokens"), "too long"),
    "Ollama": (400, {"error": "the input length exceeds the context length"}, "too long"),
    "LM Studio": (
        400,
        {"error": "The number of tokens to keep from the initial prompt is greater than the context length."},
        "too long",
    ),
    "Anthropic": (
        400,
        {"type": "error", **error("prompt is too long: 210000 tokens > 200000 maximum")},
        "too long",
    ),
    "Google": (
        400,
        [
            error(
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).", 400
            )
        ],
        "too long",
    ),
    "Mistral": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
            "code": "3051",
        },
        "too long",
    ),
    "LiteLLM": (
        400,
        error("litellm.ContextWindowExceededError: BadRequestError: OpenAIException", "400", None),
        "too long",
    ),
    "OpenRouter": (
        400,
        error(
            "Provider returned error",
            400,
            metadata={"raw": json.dumps(error(LONG, "context_length_exceeded"))},
        ),
        "too long",
    ),
    "rate limit, at once": (
        429,
        error("Request too large for gpt-4o on tokens per min (TPM): Limit 10000, Requested 15000."),
        "too long",
    ),
    "Groq": (
        413,
        error(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000",
            "rate_limit_exceeded",
            "tokens",
        ),
        "too long",
    ),
    "413": (413, "<html><head><title>413 Request Entity Too Large</title></head></html>", "too large"),
    "413, nothing": (413, "", "too large"),
    "Anthropic, image": (
        400,
        error("messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6291456 bytes"),
        "too large",
    ),
    "dimensions": (
        400,
        error("At least one of the image dimensions exceed max allowed size: 8000 pixels"),
        "too large",
    ),
    "images": (400, error("At most 1 image(s) may be provided in one request.", 400), "too large"),
    "OpenAI, image": (
        400,
        error(
            "You uploaded an unsupported image. Please make sure your image is valid.", "image_parse_error"
        ),
        "invalid image",
    ),
    "image, by its URL": (400, error("The provided URL does not appear to be valid."), "invalid image"),
    "image, unknown": (400, error("The model could not load the image: unknown format"), "invalid image"),
    "video": (400, error("Only 8 frames per second; this one exceeds the size"), "too large"),
    "image too small": (
        400,
        error("The image length and width do not meet the model restrictions. [height:1 or width:1]"),
        "invalid image",
    ),
    "Azure, prompt": (
        400,
        error(
            "The response was filtered due to the prompt triggering our content management policy.",
            "content_filter",
            None,
            innererror={"code": "ResponsibleAIPolicyViolation"},
        ),
        "filtered",
    ),
    "moderation": (
        403,
        error(
            'm requires moderation. Your input was flagged for "violence".',
            403,
            metadata={"reasons": ["violence"]},
        ),
        "filtered",
    ),
    "inspection": (
        400,
        error("Input data may contain inappropriate content.", "data_inspection_failed"),
        "filtered",
    ),
    "DeepSeek": (400, error("Content Exists Risk"), "filtered"),
    "451": (451, error("Unavailable for legal reasons"), "filtered"),
    "LiteLLM, filtered": (
        400,
        error("litellm.ContentPolicyViolationError: litellm.BadRequestError: AzureException", "400", None),
        "filtered",
    ),
    "xAI": (
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. API key ID: k, Failed check: SAFETY_CHECK_TYPE_X",
        },
        "filtered",
    ),
    "guardrail": (403, {"error": "Request blocked by guardrail"}, "filtered"),
    "Together": (422, error("Input validation error: `inputs` must have less than 4097 tokens."), "too long"),
    "422, FastAPI": (
        422,
        {"detail": [{"type": "value_error", "loc": ["body", "messages", 0], "msg": "no", "input": LONG}]},
        "refused",
    ),
    "400, a word": (400, "no", "refused"),
    "400, nothing": (400, "", "refused"),
    "400, another type": (400, {"error": [3, None, {"message": None}]}, "refused"),
    # in a reply of status 200
    "200, too long": (200, error(LONG, 400), "too long"),
    "200, without a code": (200, error(LONG, "context_length_exceeded"), "too long"),
    "200, vLLM": (
        200,
        {"object": "error", "message": LONG, "type": "BadRequestError", "code": 400},
        "too long",
    ),
    "200, filtered": (200, error("flagged", "403"), "filtered"),
    "200, in a choice": (
        200,
        PLAIN
        | {"choices": [{"error": {"code": 400, "message": LONG}, "finish_reason": "error", "message": {}}]},
        "too long",
    ),
    "200, in a stream": (200, stream(delta(content=""), error(LONG, 400)), "too long"),
    "200, in the middle of a stream": (
        200,
        stream(delta(content=ANSWER), error("flagged by moderation", 400), "[DONE]"),
        "filtered",
    ),
}

# ---- not of this question alone: {what it is: (status, body, whether it is tried again)}

OWN: dict[str, tuple[int, object, bool]] = {
    "key": (401, error("Incorrect API key provided", "invalid_api_key"), False),
    "key, 400": (
        400,
        [error("API key not valid. Please pass a valid API key.", 400, status="INVALID_ARGUMENT")],
        False,
    ),
    "key, 403": (403, error("Your key has no access", "forbidden"), False),
    "credits": (402, error("Insufficient credits", 402), False),
    "credits, 200": (200, error("Insufficient credits. Add more", 402), False),
    **{
        f"credit used up, {words}": (status, error(words, code, type), False)
        for status, words, code, type in (
            (400, "Budget has been exceeded! Current cost: 10.2, Max budget: 10.0", "400", "budget_exceeded"),
            (400, "Access denied, please make sure your account is in good standing.", "Arrearage", None),
            (400, "Your credit balance is too low to access the API.", None, "invalid_request_error"),
            (400, "You have reached your specified API usage limits.", None, "invalid_request_error"),
            (400, "Billing hard limit has been reached", "billing_hard_limit_reached", None),
            (403, "Sorry, your account balance is insufficient", 30001, None),
            (403, "Your team has used all available credits or reached its monthly spending limit", "", ""),
            (412, "Account x is suspended, possibly due to the monthly spending limit", None, None),
            (429, "You exceeded your current quota, check your plan and billing", None, "insufficient_quota"),
            (429, "\u4f59\u989d\u4e0d\u8db3", "1113", None),
            (500, "ExceededBudget: User=u over budget. Spend=11.0, Budget=10.0", None, "budget_exceeded"),
        )
    },
    "model": (404, error("The model `m` does not exist", "model_not_found"), False),
    "model, 400": (400, error("m is not a valid model ID", 400), False),
    "model, DeepSeek": (400, error("Model Not Exist"), False),
    "model, LiteLLM": (400, error("Invalid model name passed in model=m"), False),
    "model, gone": (400, error("The model `m` has been decommissioned and is no longer supported"), False),
    "no images": (400, error("m is not a multimodal model", 400, "BadRequestError"), False),
    "no images, llama.cpp": (
        500,
        error("image input is not supported - hint: you may need to provide the mmproj", 500, "server_error"),
        False,
    ),
    "no images, DeepSeek": (
        422,
        error(
            "Failed to deserialize the JSON body: messages[0]: unknown variant `image_url`, expected `text`"
        ),
        False,
    ),
    "no images, LM Studio": (400, {"error": "Model does not support images."}, False),
    "address, LM Studio": (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, False),
    "memory, Ollama": (
        500,
        error("model requires more system memory (8.0 GiB) than is available (4.0 GiB)", None, "api_error"),
        False,
    ),
    "a firewall": (403, "<html>Request blocked. content policy</html>", False),
    "route": (404, {"detail": "Not Found"}, False),
    "another method": (405, "<html>405 Not Allowed</html>", False),
    "rate limit": (
        429,
        error("Rate limit reached on tokens per min (TPM): Limit 10000, Used 9000.", "rate"),
        True,
    ),
    "rate limit, Google": (
        429,
        error("You exceeded your current quota, check your plan and billing details. Retry in 23s.", 429),
        True,
    ),
    "rate limit, LiteLLM": (400, error("litellm.RateLimitError: AzureException", None), True),
    "rate limit, by its code": (400, error("call later", "429"), True),
    "time-out, by its code": (400, error("litellm.Timeout", "408"), True),
    "crash": (400, {"error": "The model has crashed without additional information."}, True),
    "out of memory": (
        424,
        {"error": "Request failed during generation: CUDA out of memory", "error_type": "generation"},
        True,
    ),
    "trouble, by its code": (400, error("Provider returned error", 502), True),
    "overloaded": (503, error("The model is overloaded: reduce the length of your request", None), True),
    "500": (500, error("Internal server error"), True),
    "502": (502, "<html><h1>502 Bad Gateway</h1>request too large, content filter</html>", True),
    "200, a page": (200, "<html>sign in</html>", True),
    "200, no completion": (200, {"status": "ok"}, True),
    "200, choices by name": (200, {"choices": {"0": "A"}}, True),
    "200, a list": (200, [], True),
    "200, nothing": (200, "", True),
    "200, half": (200, json.dumps(PLAIN)[:90], True),
    "200, two": (200, json.dumps(PLAIN) * 2, True),
    "200, brackets": (200, "[" * 100_000, True),
    "200, half a stream": (200, stream(delta(content="<answer>A")), True),
    "200, error in the middle of a stream": (
        200,
        stream(delta(content="(A) is"), {"error": {"message": "Internal error", "code": 500}}),
        True,
    ),
    "200, another form of it": (
        200,
        stream(delta(content=ANSWER)) + 'event: error\ndata: {"message": "out of memory"}\n\n',
        True,
    ),
    "200, llama.cpp's form of it": (
        200,
        stream(delta("stop", content=ANSWER)) + 'error: {"code": 500, "message": "slot"}\n\n',
        True,
    ),
    "200, vLLM's form of it": (
        200,
        stream(delta(content=ANSWER), {"object": "error", "message": "died", "code": 500}, "[DONE]"),
        True,
    ),
    "200, error beside an answer": (200, PLAIN | error("Upstream error", 502), True),
    "200, error in a choice": (
        200,
        PLAIN | {"choices": [CHOICE | {"error": {"code": 502, "message": "Upstream"}}]},
        True,
    ),
    "200, error in a choice of a stream": (
        200,
        stream(
            {"choices": [{"delta": {"content": ANSWER}, "error": {"code": 502, "message": "x"}}]}, "[DONE]"
        ),
        True,
    ),
    "200, provider": (200, error("Provider returned error", 502), True),
    "200, rate limit": (200, error("Rate limit exceeded", 429), True),
    "200, key": (200, error("No auth credentials found", 401), False),
    "200, without a code": (200, {"error": "something"}, True),
}

# ---- replies that stay empty in all attempts, and are then counted

FAILED: dict[str, object] = {
    "no choices": {"id": "x", "choices": []},
    "error without a word": body_of(None, "error"),
    "error after words": body_of("The image is invalid, and the content filter has no credits", "error"),
    "aborted": body_of("", "abort"),
    **{
        f"{name} after a part": body_of(ANSWER, name)
        for name in (
            "error",
            "abort",
            "failed",
            "too long",
            "insufficient_system_resource",
            "timeout",
            "error: 502",
        )
    },
    "error in a stream": stream(delta(content=ANSWER), delta("error"), "[DONE]"),
    "no choices, nothing": {"object": "chat.completion", "usage": PLAIN["usage"]},
    "choices null": PLAIN | {"choices": None},
}
