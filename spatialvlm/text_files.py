"""Text files and JSON as people have them: byte order marks, UTF-16, any line ends; errors in one line."""

from __future__ import annotations

import json
import re
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError

_NO_TEXT = {  # what files of other kinds begin with
    b"\x1f\x8b": "is compressed (gzip): unpack it with gunzip",
    b"(\xb5/\xfd": "is compressed (zstd): unpack it with unzstd",
    b"PK\x03\x04": "is a zip archive or a spreadsheet: unpack it, or save its table as jsonl",
    b"PAR1": "is a parquet file: give it the ending .parquet",
}
_NO_JSON = {  # how texts of other kinds begin, where JSON should stand
    r"(?i)\s*<(?:!doctype )?html": "is a web page: download the file itself",
    r"\s*<": "looks like XML: write a JSON record per line",
    r"(?:---\s*\n|- *\w+:(?: |\n)|[A-Za-z_]\w*:(?: |\n))": "looks like YAML: write a JSON record per line",
    r"[^\n{}\[\]#`]*[,;\t][^\n{}\[\]]*\n": "looks like a table in CSV: convert it by "
    "pandas.read_csv(FILE).to_json('rows.jsonl', orient='records', lines=True)",
}
LFS = b"version https://git-lfs.github.com/spec/"  # in the place of a file that was not fetched


def read(file: str | Path) -> str:
    """The text of a file, without byte order mark, with `\\n` as line ends.

    It is UTF-8, or UTF-16 or UTF-32 by its first bytes.

    Raises:
        UserError: it cannot be read, is of another kind or in another encoding; the message names file, line
            and byte.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from None
    if reason := no_text(content[:64]):
        raise UserError(f"{file} {reason}")
    encoding = json.detect_encoding(content)  # of any text that begins with an ASCII character
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", content[: error.start])) + 1
        raise UserError(
            f"{file} line {line} is not {encoding.removesuffix('-sig').upper()} (byte "
            f"0x{content[error.start]:02x}, number {error.start:,}); save it as UTF-8, such as by: "
            "iconv -f CP1252 -t UTF-8"
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.lstrip("\ufeff").replace("\n\ufeff", "\n")  # also of files that were put together
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file} line {line} holds a byte 0, which no text does; save the file as UTF-8")
    return text


def no_text(begin: bytes) -> str | None:
    """What a file is that begins so, and what to do; None where it may be text."""
    if begin.startswith(LFS):
        return "holds Git LFS's pointer and not the file: fetch it with git lfs pull"
    return next((reason for mark, reason in _NO_TEXT.items() if begin.startswith(mark)), None)


def lines(file: str | Path) -> list[tuple[int, str]]:
    """(number, stripped text) of each line that is not blank; Unicode's other separators end no line."""
    numbered = enumerate(read(file).split("\n"), 1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]


def json_value(file: str | Path) -> Any:
    """The one JSON value that a file holds.

    Raises:
        UserError: as `read`; it is empty, not JSON, or more than one value.
    """
    found = _values(file, "fetch it again")
    if len(found) != 1:
        much = f"{len(found):,} JSON values, and should hold one" if found else "nothing"
        raise UserError(f"{file} holds {much}; fetch it again")
    return found[0]


def json_rows(file: str | Path) -> list[Any]:
    """The JSON values of a file, however they are set out; where it is one list, what is in it.

    One per line, one after the other or over several lines each: whatever the file's ending promises.

    Raises:
        UserError: as `read`; a value that is not JSON; the message names row and line.
    """
    found = _values(file, "correct or remove row {row}")
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def _values(file: str | Path, remedy: str) -> list[Any]:
    text, at, found = read(file), 0, []
    while (at := _SPACE.match(text, at).end()) < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, at) + 1
            kind = next((kind for look, kind in _NO_JSON.items() if re.match(look, text)), None)
            if kind and not found:
                raise UserError(f"{file} {kind}") from None
            reason = f"{_reason(error, text)}; {remedy.format(row=len(found))}"
            raise UserError(f"{file} line {line} is not JSON: {reason}") from None
        found.append(value)
    return found


def loads(text: str, where: str) -> Any:
    """A JSON text's value. Raises UserError naming `where`; also for a name that a record has twice."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {_reason(error, text)}") from None


def _reason(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    if too_long := re.search("[0-9]{4301}", text):  # more than Python converts
        line, begin = text.count("\n", 0, too_long.start()) + 1, text.rfind("\n", 0, too_long.start())
        return f"a number of more than 4,300 digits at line {line} column {too_long.start() - begin}"
    return str(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in record if names.count(name) > 1)
        raise ValueError(f"a record has '{twice[:40]}' twice")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_SPACE = re.compile(r"[ \t\n]*")
