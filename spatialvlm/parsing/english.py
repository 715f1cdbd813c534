"""The English phrases of `english.toml`, compiled; its head says how they are written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

KINDS = tomllib.loads(Path(__file__).with_name("english.toml").read_text(encoding="utf-8"))
_PARTS = KINDS.pop("parts")
_EDGE = r"(?!(?<=\w)\w)"  # not inside a word


def _expression(notation: str) -> str:
    """The regular expression of any of some lines in the notation of the file."""
    lines = "|".join(notation.strip("\n").split("\n"))
    whole = re.sub(r"(?<!\?P)<([a-z_]+)>", lambda name: part(name[1]), lines)
    groups = re.sub(r"(?<!\\)\((?!\?)", "(?:", whole)
    return groups.replace(" ?", r"\s*").replace(" ", r"\s+").replace("~", r"\w*")


def part(name: str) -> str:
    """The regular expression of one part, which more is to stand around."""
    return f"(?:{_expression(_PARTS[name])})"


def phrases(*kinds: str) -> str:
    """The regular expression of any phrase of these kinds, as whole words."""
    return f"{_EDGE}(?:{'|'.join(_expression(KINDS[kind]['phrases']) for kind in kinds)}){_EDGE}"


def pattern(*kinds: str) -> re.Pattern:
    """What finds any phrase of these kinds, in any case."""
    return re.compile(phrases(*kinds), re.I | re.M)
