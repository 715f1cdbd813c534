"""Thoughts before an answer, in the marks that models of 2024 to 2026 write: the first step of parsing."""

from __future__ import annotations

import re

HEAD, TAIL = 20_000, 60_000  # characters of a huge text
_RUN = re.compile(r"([\W_])\1{4,}")  # dots, blanks, line ends

# Names of tags around thoughts, of DeepSeek-R1, Qwen, Claude, Hunyuan, EXAONE, Reka, Video-R1 and others.
_THOUGHTS = (
    r"think|thinking|thoughts?|reasoning|scratchpad|rethink|cot|inner_monologue|seed:think|inner_thoughts?"
)
# ... and around what goes before an answer; only closed by their own names (LLaVA-CoT, Video-R1).
_PREPARING = (
    r"summary|caption|reason|analysis|reflection|reflect|observe|observation|description|perception|plan"
    r"|info|rationale|explanation|details|evidence|verification|verify|critique|context|scene|internal"
    r"|look|step"
)
_SPECIAL = r"\s{0,2}\|?"
_MARK = re.compile(
    # closing marks, also without an opening one: Qwen3's template writes that itself
    r"(?P<close>"
    rf"[<\[◁]{_SPECIAL}[/\\]\s{{0,2}}\|?(?:[a-z]{{1,10}}:)?(?:{_THOUGHTS}){_SPECIAL}[>\]▷]|<\|(?:end_of"
    rf"|end)_(?:{_THOUGHTS})\|>|<\|(?:{_THOUGHTS})_end\|>|<\|inner_suffix\|>"
    r"|\[unused17\]|<unused95>|<ctrl95>|<\|channel\|>\s{0,2}final\s{0,2}(?:<\|message\|>)?|assistantfinal"
    r"|<channel\|>|here(?:'s| is) my response:)"
    # those that close nothing where nothing is open
    rf"|(?P<inner></\s{{0,2}}(?:{_PREPARING})\s{{0,2}}>|\[/(?:{_PREPARING})\]|<\|(?:end|call|return)\|>"
    r"|<\|begin_of_solution\|>|<\|start_response\|>)|(?P<open>"
    rf"[<\[◁]{_SPECIAL}(?:[a-z]{{1,10}}:)?(?:{_THOUGHTS})(?:\s[^<>\n]{{0,80}})?{_SPECIAL}[>\]▷]"
    rf"|<(?:{_PREPARING})(?:\s[^<>\n]{{0,80}})?>|\[(?:{_PREPARING})\]|<\|(?:begin_of|start_of|start"
    rf"|begin)_(?:{_THOUGHTS})\|>|<\|(?:{_THOUGHTS})_(?:start|begin)\|>"
    r"|<\|inner_prefix\|>|\[unused16\]|<unused94>(?:thought)?|<ctrl94>(?:thought)?"
    r"|<\|channel\|?>\s{0,2}(?:analysis|commentary|thought|thinking)[^<\n]{0,80}(?:<\|message\|>)?"
    r"|\Aanalysis(?=[A-Z])"  # gpt-oss without its special tokens: "analysisThe user ... assistantfinal"
    r"|here(?:'s| is) my thought process:)",
    re.I,
)
_GPT_OSS = re.compile(r"\A\s*analysis(?=[A-Z])")
_HEADED = re.compile(  # "## Thinking", "**Reasoning:** ...", "Thought: ..." opening a text
    r"\A\W{0,20}(?:thinking(?:\s+process)?|thoughts?(?:\s+process)?|reasoning|analysis|chain of thought"
    r"|rationale)[\s*_]{0,5}(?P<mark>[:：]|\n)",
    re.I,
)
_ANSWER_HEADING = re.compile(
    r"(?:^|\n|(?<=[.!?]\s))[^\w\n<]{0,20}(?:(?:final|my|the|correct)\s+)?(?:answer|response|conclusion"
    r"|result|solution|output|verdict|decision)\b",
    re.I,
)
_NEXT_TURN = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|end_of_text|im_start|end|eom_id|return)\|>|<end_of_turn>"
    r"|<start_of_turn>|</s>|<eos>|\n\s{0,20}(?:human|user|question|q|assistant)\s?:",
    re.I,
)
_SAYS_SOMETHING = re.compile(r"\w|[✅❌👍👎]")
_OWN_ROLE = re.compile(
    r"\A(?:\s{0,9}(?:<\|[a-z_]{1,40}\|>|<s>|<bos>|<start_of_turn>)){0,9}\s{0,9}(?:(?:model"
    r"|assistant)\s{0,9}(?:\n|:|(?=<))|(?<=>))",
    re.I,
)
_ROLE = re.compile(r"<\|[^<>|]{1,40}\|>\s{0,3}(?:assistant|user|system)?|\A\s{0,3}(?:assistant|user|system)")
_AGENT_STEP = re.compile(
    r"^\W{0,9}(?:thought|action|action input|observation|plan|tool|tool call)\s?\d{0,3}\s?:[^\n]*$",
    re.I | re.M,
)
_ANSWER_AT_END = re.compile(r"\n\s{0,20}<answer>[^<>]{1,400}</answer>\s{0,20}\Z", re.I)


def head_and_tail(text: str) -> str:
    """The head and the tail of a huge text, where marks and answers stand; any other text as it is."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n\n{text[-TAIL:]}"


def without_thoughts(text: str) -> str:
    """A text without its thoughts, whatever tags those hold; thoughts that never end conclude nothing.

    Of a huge text the head and the tail are looked at. Only an `<answer>` in a line of its own that ends the
    text is an answer although `</think>` is missing.
    """
    text = _RUN.sub(r"\1\1\1\1", head_and_tail(text))
    kept, start, opened, within = [], 0, None, ""
    for mark in _MARK.finditer(text):
        kind = mark.lastgroup
        if kind == "open" and mark[0].lower() == "analysis" and not _GPT_OSS.match(text):
            continue
        if kind == "open" and opened is None:
            kept.append(text[start : mark.start()])
            opened, within = mark.end(), _name(mark[0])
        elif kind == "close" and opened is None:
            kept, start = [], mark.end()  # all before was thoughts
        elif opened is not None and (kind == "close" or (kind == "inner" and _name(mark[0]) in ("", within))):
            start, opened = mark.end(), None
    if opened is None:
        kept.append(text[start:])
    elif final := _ANSWER_AT_END.search(text, max(opened, len(text) - 1000)):
        kept.append(final[0])
    return _without_headed(_first_turn("".join(kept)))


def _name(mark: str) -> str:
    """The name of a tag that prepares an answer; empty for other marks."""
    name = re.fullmatch(rf"[<\[]/?({_PREPARING})(?:\s[^<>]*)?[>\]]", mark, re.I)
    return name[1].lower() if name else ""


def _first_turn(text: str) -> str:
    """A text up to the turn of somebody else that a model went on to write."""
    text, start = _OWN_ROLE.sub("", text), 0
    for turn in _NEXT_TURN.finditer(text):
        if _SAYS_SOMETHING.search(_ROLE.sub("", text[start : turn.start()])):
            text = text[: turn.start()]
            break
        start = turn.end()
    return "" if re.match(r"\s*(?:human|user)\s*:", text, re.I) else text


def _without_headed(text: str) -> str:
    """A text without thoughts that a heading announces, up to the heading of the answer."""
    heading = _HEADED.match(text)
    if not heading:
        return text
    if answer := _ANSWER_HEADING.search(text, heading.end()):
        return text[answer.start() :]
    rest = _AGENT_STEP.sub("", text[heading.end() :]).strip()
    _, line_end, after = rest.partition("\n\n")
    return after if line_end else rest.partition("\n")[2]
