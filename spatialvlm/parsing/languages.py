"""The words of thirteen languages that an answer is made of, from the table in `languages.toml`.

`spatialvlm.parsing.translation` puts the English in place of the words.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

_TABLE = tomllib.loads(Path(__file__).with_name("languages.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, eq=False)
class Language:
    """One language of the table, whose head says what the columns are."""

    name: str
    phrases: dict[str, list[str]]  # by the English
    numbers: str = ""
    others: str = ""
    joins: str = ""
    frequent: str = ""
    one: str = ""


def _language(name: str, columns: dict) -> Language:
    phrases = {english: words.split(" | ") for english, words in columns["phrases"].items()}
    return Language(name, **{**columns, "phrases": phrases})


ENGLISH = frozenset(_TABLE.pop("english").split())
LANGUAGES = {name: _language(name, columns) for name, columns in _TABLE.items()}
LATIN = {
    name: LANGUAGES[name] for name in ("Spanish", "Portuguese", "French", "German", "Indonesian", "Italian")
}
