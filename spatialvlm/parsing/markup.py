"""Markup of an answer, taken off: tags, boxes, JSON, LaTeX and markdown become plain text with marks.

What stands in `<answer>` tags, in `\\boxed{...}` or under "answer" in JSON is put between the characters
`OPEN` and `CLOSE`, which no text holds otherwise, so that one look sees what is announced last.
"""

from __future__ import annotations

import re
import unicodedata

from spatialvlm.parsing.english import part, pattern, phrases

OPEN, CLOSE = "\ue000", "\ue001"  # private use: around what markup announces
TAGGED = "\ue002"  # after OPEN where the markup is a closed tag, which settles the answer
HEAD, TAIL = 2_000, 6_000  # characters of a huge text that are parsed
MARKS = 20  # of those that end a text
LONG = 500  # a shorter text may say a phrase as often as it likes
_RUN = re.compile(r"([\W_])\1{3,}")  # dots, blanks, line ends
_LOOP = re.compile(r"(.{2,60}?)\1{9,}", re.DOTALL)
_ENDLESS_WORD = re.compile(r"[A-Za-z0-9]{300,}")


# ---- marks

_ANSWER_TAG = re.compile(
    rf"[<\[]\s{{0,3}}(?P<end>[/\\])?\s{{0,3}}{part('tag_of_answer')}\s{{0,3}}(?:[>\]]|\Z)"
    r"|<\|(?:(?P<begun>begin)|end)_of_(?:box|solution|answer)\|>|<\|(?:(?P<started>start)|end)_response\|>",
    re.I,
)
_ASIDE_TAG = re.compile(rf"<(?P<name>{part('aside_name')})>[^<>]{{0,2000}}</(?P=name)>", re.I)
_BOX = re.compile(r"\\?\b[f]?boxed\s{0,3}\{|\\[f]?boxed\s{0,3}\{|\\fbox\s{0,3}\{")
_BRACE = re.compile(r"[{}]")
_PAIR = re.compile(
    r"""["'](?P<key>[\w -]{1,40})["']\s{0,9}:\s{0,9}"""
    r"""(?P<value>"(?:[^"\\]|\\.){0,4000}(?:"|\Z)|'[^'\n]{0,4000}(?:'|\Z)|\[[^\[\]{}]{0,2000}\]"
    r"|[^,{}\[\]\s"'][^,{}\[\]\n"']{0,199})""",
    re.DOTALL,
)
_WORD_OF_KEY = re.compile(r"[a-z]+|[A-Z][a-z]*|[^\W\da-zA-Z_]+")
_NAMES = {kind: re.compile(part(f"{kind}_name"), re.I) for kind in ("aside", "answer", "measure")}

# ---- plain text

_TAG = re.compile(r"</?\s{0,3}\|?[a-z_]{2,}[^<>\n]{0,120}>", re.I)  # two letters at least: "<B>" is an answer
_ANSWER_IN_BRACKETS = re.compile(r"<\s{0,3}(?:final\s)?answer\s{0,3}[:=]([^<>\n]{1,100})>", re.I)
_END_TOKENS = re.compile(
    r"(?:</s>|<eos>|<pad>|<end_of_turn>|<\|[a-z_]+\|>|<\uff5c[^<>\n]{1,30}\uff5c>)\s*\Z",
)
_ASKED_AND_ANSWERED = re.compile(r"(?:\A|(?<=[\ue000\ue002]))\s*Q(?:uestion)?\s*:[^\n]*\n\s*A\s*:")
_QUESTION = re.compile(r"(?:\A|(?<=[.!?\n\ue000\ue001]))[^.!?\n\ue000\ue001]*[?؟](?=\s|$|\ue001)")
_ASKS = re.compile(rf"\W*{phrases('asks')}", re.I)
_ASKS_THE_USER = pattern("asks_the_user")
_POWER_OF_TEN = re.compile(
    r"(?<=\d)\s{0,3}(?:[×·*x]|\\times|\\cdot)\s{0,3}10\s{0,2}(?:\^|\*\*)\{?([-+]?\d{1,4})\}?"
)
_FRACTION = re.compile(
    r"(?<=\d)?\\[dtc]?frac\s{0,3}\{\s{0,3}(\d{1,15})\s{0,3}\}\s{0,3}\{\s{0,3}(\d{1,15})\s{0,3}\}"
    r"|\\[dtc]?frac(\d)(\d)"
)
_ROOT = re.compile(
    r"\\sqrt\s{0,3}\{\s{0,3}(-?[\d.]{1,20})\s{0,3}\}|\\sqrt\s?(\d)|√\s?\(\s?([\d.]{1,20})\s?\)"
    r"|\bsqrt\s?\(\s?([\d.]{1,20})\s?\)"
)
_VULGAR = re.compile(r"(\d?)\s?([¼½¾⅐-⅞])")
_CONFIRMATION = re.compile(r"\bthat(?:'?s| is) right\b(?=\s*[,.!])", re.I)
_CHECKED, _UNCHECKED = re.compile(r"☑|\[[xX✓✔]\]"), re.compile(r"☐|\[ \]")
_REMARK = pattern("remark")


def inside_answer_tags(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>` (or after it, unclosed); None without tags."""
    parts = re.split(r"<answer>", text, flags=re.I)
    if len(parts) > 2 and not parts[-1].strip():  # "<answer>B<answer>": the second one was to close the first
        parts.pop()
    return re.split(r"</answer>", parts[-1], flags=re.I)[0].strip() if len(parts) > 1 else None


def shortened(text: str) -> str:
    """The head and the tail of a huge text, where an answer stands, without a loop's further rounds."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n\n{text[-TAIL:]}"
    text = _RUN.sub(r"\1\1\1", text)
    return _LOOP.sub(r"\1\1\1", _ENDLESS_WORD.sub(" ", text)) if len(text) > LONG else text


def plain(text: str) -> str:
    """A text without thoughts as plain text, with `OPEN` and `CLOSE` around what markup announces."""
    text = text.strip()
    for _ in range(MARKS):
        if end := _END_TOKENS.search(text, max(0, len(text) - 100)):
            text = text[: end.start()].rstrip()
    text = shortened(text.translate({0xE000: None, 0xE001: None, 0xE002: None, 0: None}))
    text = _ASIDE_TAG.sub(" ", _ANSWER_IN_BRACKETS.sub(r" answer: \1 ", text))
    text = _marked_boxes(_marked_tags(_marked_pairs(text)))
    text = _TAG.sub(" ", text)
    text = _VULGAR.sub(_as_fraction, text)
    text = re.sub(r"[²³]", r"^\g<0>", text)  # before NFKC turns "10³" into "103"
    text = shortened(unicodedata.normalize("NFKC", text)).replace("−", "-").replace("’", "'")
    return _plain_latex(text)


def _plain_latex(text: str) -> str:
    text = _POWER_OF_TEN.sub(r"e\1", text)
    text = _FRACTION.sub(lambda match: f" {match[1] or match[3]}⁄{match[2] or match[4]} ", text)
    text = _ROOT.sub(lambda match: f"√{next(filter(None, match.groups()))}", text)
    text = re.sub(r"(?<![#\w])#(?=\d)", "no. ", re.sub(r"\\pm\b", "±", text))
    text = re.sub(r"\^\s{0,3}\{?\s{0,3}\\circ\s{0,3}\}?", "°", text)
    text = re.sub(r"\\(?:times|cdot)\b", "×", text)
    text = re.sub(r"\\approx\b|\\sim\b", "≈", text)
    text = re.sub(r"\^\{(\w{1,20})\}", r"^\1", text).replace("{,}", ",")
    text = re.sub(r"\\[()\[\]]|\\[a-zA-Z]+|\\,|[{}$*`#]", " ", text)  # LaTeX and markdown
    text = re.sub(r"(?<![A-Za-z0-9_])_+|_+(?![A-Za-z0-9_])", " ", text)
    text = _CONFIRMATION.sub("that's correct", _ASKED_AND_ANSWERED.sub(" ", text))
    text = _without_unchecked(_REMARK.sub(" ", text))
    without_questions = _QUESTION.sub(_question, text)
    return (without_questions if without_questions.strip() or _ASKS.match(text) else text).strip()


def _question(match: re.Match) -> str:
    if re.match(r"\W*(?:hm+|or|maybe|perhaps)\b", match[0], re.I):
        return match[0]  # a doubt about the answer
    return " Please upload. " if _ASKS_THE_USER.search(match[0]) else " "


def _without_unchecked(text: str) -> str:
    """A list of options with marks, without those that are not checked."""
    if not (_CHECKED.search(text) and _UNCHECKED.search(text)):
        return text
    return " ".join(
        re.split(r"[☐☑\n]|-?\s?\[[ xX✓✔]\]", piece, maxsplit=1)[0] for piece in _CHECKED.split(text)[1:]
    )


def _as_fraction(match: re.Match) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[2]).split("⁄")
    return f"{match[1]} {top}⁄{bottom}" if match[1] else f" {top}⁄{bottom}"


def unmarked(text: str) -> str:
    """A plain text without the marks."""
    return text.replace(OPEN + TAGGED, " ").replace(OPEN, " ").replace(CLOSE, " ").strip()


def _marked_tags(text: str) -> str:
    """Marks around what answer tags hold; an empty pair announces nothing."""
    pieces, last, opened = [], 0, None
    for tag in _ANSWER_TAG.finditer(text):
        closes = bool(tag["end"]) or (tag[0].startswith("<|") and not (tag["begun"] or tag["started"]))
        content = text[last : tag.start()]
        if opened is not None and content.strip(" .…_?\n-"):
            pieces.append(f"\n{OPEN}{TAGGED}{content}{CLOSE}\n")
        else:
            pieces.append(content + " ")
        opened = None if closes else tag
        last = tag.end()
    rest = text[last:]
    if opened is not None and rest.strip() and not re.match(r"\s*tags?\b", rest):
        rest = f"\n{OPEN}{rest}{CLOSE}"
    return "".join(pieces) + rest


def _marked_boxes(text: str) -> str:
    """Marks around what `\\boxed{...}` holds, braces balanced, or to the end where they are not."""
    if "box" not in text:
        return text
    pieces, last = [], 0
    for box in _BOX.finditer(text):
        if box.start() < last:
            continue
        depth, end = 1, len(text)
        for brace in _BRACE.finditer(text, box.end()):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                end = brace.start()
                break
        content = text[box.end() : end]
        full = re.search(r"\w|[√½¼¾]", re.sub(r"\\[a-zA-Z]+", " ", content))
        pieces += [text[last : box.start()], f" {OPEN}{content}{CLOSE} " if full else " "]
        last = min(end + 1, len(text))
    return "".join(pieces) + text[last:]


def _marked_pairs(text: str) -> str:
    """Marks around the values of JSON that answer; pairs about something else are left out."""
    if "{" not in text:
        return text
    pairs = list(_PAIR.finditer(text))
    kinds = {match.start(): _kind_of_key(match["key"]) for match in pairs}
    answer = "answer" if "answer" in kinds.values() else "measure"
    values = [match["value"].strip("\"' ") for match in pairs if kinds[match.start()] == answer]
    if answer == "measure" and len(values) > 1:
        return text
    found = ", ".join(filter(None, values))  # a letter and its words under keys of their own belong together
    left_out = ("aside", "measure", "answer", "other" if answer == "answer" else "")
    text = _PAIR.sub(lambda match: " " if kinds[match.start()] in left_out else match[0], text)
    return f"{text} {OPEN}{found}{CLOSE} " if found else text


def _kind_of_key(key: str) -> str:
    """Whether a key of JSON names the answer, a measure, or something else ("aside")."""
    words = _WORD_OF_KEY.findall(key) or [key]
    for kind, names in _NAMES.items():
        if any(names.fullmatch(word) for word in (*words, key)):
            return kind
    return "other"
