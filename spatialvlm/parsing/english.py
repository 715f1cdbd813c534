"""The English phrases of `english.toml`, compiled; its head says how they are written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

KINDS = tomllib.loads(Path(__file__).with_name("english.toml").read_text(encoding="utf-8"))
_PARTS = KINDS.pop("parts")


def expression(notation: str) -> str:
    """The regular expression of a line of phrases, or of a part."""
    whole = re.sub(r"<([a-z_]+)>", lambda part: expression(_PARTS[part[1]]), notation)
    groups = re.sub(r"(?<!\\)\((?!\?)", "(?:", whole)
    return groups.replace(" ?", r"\s*").replace(" ", r"\s+").replace("~", r"\w*")


def pattern(*kinds: str) -> re.Pattern:
    """What finds any phrase of these kinds as whole words."""
    lines = [line for kind in kinds for line in KINDS[kind]["phrases"].strip().splitlines()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(expression, lines))})(?!\w)", re.I | re.M)
