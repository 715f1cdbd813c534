"""Words that the project does not use, because a reader at another lab would stumble over them."""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What to write instead, and what must not stand in any text: Markdown, comments, docstrings, help, messages.
BANNED = {
    "fix, repair, correct": r"mend(s|ed|ing)?",
    "recompute, remake, again": r"anew",
    "resume, continue": r"(go(es)?|going|gone|went) on with",
    "image": r"pictures?",
    "unparsed": r"unread",
    "blind baseline, without the image": r"without looking",
    "polarity-flipped": r"turned (question|questions|form|wording|around)|polarity (is |was )?turned",
    "incorrect, invalid": r"(makes?|making) no sense",
    "cannot be downloaded, is not available": r"(cannot|could not|can|could|to) be had",
    "maximum, at most": r"(makes?|made) do",
    "exclude from training": r"not to be trained on",
    "fraction": r"(the|a|its|this) share",
    "split, shard": r"shares? out|shared out|deal(s|t)? out|dealt",
    "per": (
        r"(answers?|batch(es)?|completions?|examples?|files?|frames?|images?|items?|options?|pixels?|prompts?|"
        r"questions?|rows?|samples?|scenes?|seconds?|steps?|tokens?|videos?) an? "
        r"(answer|batch|completion|file|frame|group|image|kind|minute|process|prompt|question|row|room|run|sample|"
        r"scene|second|split|step|task|type|video)"
    ),
    "request, expect, pass": r"(is|are|was|were) told(?! apart)|told to|as asked|what (is|was) asked",
    "sample, render, materialize": r"drawn ahead|draws? (the )?(examples|questions|rows|scenes|completions)",
}
# Texts that stand as they are: questions that adapters and published tables rest on, and a
# key of summary.json.
ALLOWED = {
    ("spatialvlm/tasks/sparkle/questions.py", "image"),
    ("spatialvlm/tasks/whatsup/data.py", "image"),
    ("tests/tasks/test_sparkle.py", "image"),
    ("tests/tasks/test_sparkle_reward.py", "image"),
    ("spatialvlm/evaluation/summary.py", "unparsed"),
    ("paper/checked.typ", "per"),
    ("tests/parsing/test_answers.py", "request, expect, pass"),
}

SUFFIXES = {".py", ".md", ".yaml", ".toml", ".txt", ".html", ".js", ".typ"}
# Prompts, the embedded model's vocabulary, what models write, and lists of these words.
SKIPPED = (
    "spatialvlm/parsing/english.toml",
    "spatialvlm/prompting/prompts/",
    "pretrain/build.py",
    "tests/test_words.py",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)


def texts(path: Path) -> str:
    """The prose of a file: all of it, or the comments and string literals (but keys) of Python code."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return source
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds and " " in token.string.strip())


def files() -> list[str]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    return [
        name
        for name in names
        if Path(name).suffix in SUFFIXES and not name.startswith(SKIPPED) and (ROOT / name).is_file()
    ]


def findings(name: str) -> list[str]:
    text = re.sub(r"\s*\n[\s#]*", " ", texts(ROOT / name))
    return [
        f"{name}: ...{text[max(0, match.start() - 40) : match.end() + 40]}... write: {instead}"
        for instead, pattern in BANNED.items()
        if (name, instead) not in ALLOWED
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE)
    ]


def test_no_text_uses_a_banned_word():
    found = [finding for name in files() for finding in findings(name)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("instead", BANNED)
def test_the_words_to_write_are_not_banned_themselves(instead):
    assert not any(re.search(rf"\b(?:{pattern})\b", instead) for pattern in BANNED.values())
