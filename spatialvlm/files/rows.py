"""Rows of a data set wherever they lie: a parquet, jsonl or json file, a folder of those, or a hub id.

Large tables stay on the disk (`files.tables`). Nothing is decoded here: images stay bytes until `as_image`
wraps them, and are decoded when they are looked at.
"""

from __future__ import annotations

import ast
import base64
import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spatialvlm import images, text_files
from spatialvlm.disk import disk_errors
from spatialvlm.errors import RowError, UserError, shown
from spatialvlm.example import without_image_tokens
from spatialvlm.files import hub
from spatialvlm.files.hub import SUFFIXES
from spatialvlm.files.tables import Row, open_parquet, readable

_LISTS = ("rows", "data", "questions", "logs", "samples", "predictions", "results")  # of rows in one record
_TABLES = {  # by their endings, what pandas reads them with
    ".csv": "read_csv(FILE)",
    ".tsv": "read_csv(FILE, sep='\\t')",
    ".xlsx": "read_excel(FILE)",
    ".xls": "read_excel(FILE)",
}
_SPLIT_NAMES = ("train", "val", "validation", "dev", "test")  # that file names may have


class Rows(Sequence[tuple[str, Row]]):
    """(a name for the row in messages, the row) of every row, read from the disk on access."""

    def __init__(self, tables: Sequence[tuple[str, Sequence[Row]]]) -> None:
        self.tables = tables  # (name, rows)
        self.ends = list(accumulate(len(table) for _, table in tables))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> tuple[str, Row]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        at = bisect_right(self.ends, index)
        name, table = self.tables[at]
        number = index - (self.ends[at - 1] if at else 0)
        return f"{name} row {number}", {key: _plain(value) for key, value in table[number].items()}


def read(path: str | Path, split: str, config: str | None = None) -> Rows:
    """All rows, of which a large parquet file's are read (and the hub's fetched) when they are looked at.

    Args:
        path: a file, a folder, a data set written by `save_to_disk`, or a hub id (`owner/name`, or
            `owner/name@revision`).
        split: of a hub id or a saved data set; of a folder, the files with it in their names, or all
            where no name has a split.
        config: of a hub id the named configuration, where there is one of that name; else the default one.

    Raises:
        UserError: nothing there, a file that is not what its name says, or a hub data set that cannot be
        downloaded.
    """
    if Path(path).is_file():
        files = [Path(path)]
    elif any((Path(path) / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return Rows([(str(path), _saved(Path(path), split))])
    elif Path(path).is_dir():
        for suffix in SUFFIXES:  # a mirror of the hub holds .json files of another kind beside its parquet
            files = sorted(Path(path).rglob(f"*{suffix}"))
            if files:
                break
        files = _of_split(files, split)
        if not files:
            raise UserError(f"folder {path} holds no {', '.join(SUFFIXES)} file to read rows from")
    elif hub.is_hub_id(path):
        try:
            listed = hub.files(path, split, config)
        except hub.Unreachable:
            folder = hub.snapshot(path)
            if folder is None or not any(file.suffix in SUFFIXES for file in folder.rglob("*")):
                raise
            return read(folder, split)
        names = [f"{path} {split}" if len(listed) == 1 else f"{path} {file.path}" for file in listed]
        return Rows([(name, _from_hub(file, name)) for name, file in zip(names, listed, strict=True)])
    else:
        raise UserError(f"no such file or folder: {path}")
    return Rows([(str(file), _from_file(file)) for file in files])


def _of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The files with the split in their names; all where no name has any."""
    names = "|".join(re.escape(name) for name in dict.fromkeys((split, *_SPLIT_NAMES)) if name)
    found = {file: re.search(rf"(?<![a-zA-Z])({names})(?![a-z])", file.stem) for file in files}
    if not any(found.values()):
        return list(files)
    same = hub.SAME_SPLIT
    wanted = same.get(split, split)
    of = [file for file, match in found.items() if match and same.get(match[1], match[1]) == wanted]
    if not of:
        there = ", ".join(sorted({match[1] for match in found.values() if match}))
        raise UserError(f"{files[0].parent} has no file of split '{split}', only of: {there}")
    return of


Folder = Path | hub.Folder


def beside(path: str | Path) -> Folder | None:
    """The folder that file names in the rows of `path` are relative to; None where there is none."""
    if Path(path).is_dir():
        return Path(path)
    if Path(path).is_file():
        return Path(path).parent
    return hub.Folder(path) if hub.is_hub_id(path) else None


def _from_hub(file: hub.HubFile, name: str) -> Sequence[Row]:
    if not file.path.endswith(".parquet"):
        return _from_file(hub.download(file.id, file.path))
    state = f"{hub.without_revision(file.id)} {file.commit} {file.path}"
    return open_parquet(hub.open_file(file.id, file.path, file.size), name, state)


def _from_file(file: Path) -> Sequence[Row]:
    if file.suffix == ".parquet":
        status = file.stat()
        return open_parquet(file, str(file), f"{file.resolve()} {status.st_size} {status.st_mtime_ns}")
    if file.suffix.lower() in _TABLES:
        raise UserError(
            f"{file} is a table of another kind; convert it: pandas.{_TABLES[file.suffix.lower()]}"
            f".to_json({file.stem + '.jsonl'!r}, orient='records', lines=True)"
        )
    rows = text_files.json_rows(file)
    if len(rows) == 1 and isinstance(rows[0], dict):
        lists = [name for name in _LISTS if isinstance(rows[0].get(name), list)]
        rows = rows[0][lists[0]] if len(lists) == 1 else rows
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{file} row {number} is no record with named fields")
    if len(rows) == 1 and _is_whole_table(rows[0]):
        raise UserError(
            f"{file} holds one record of columns ({', '.join([*rows[0]][:8])}) and no rows; write them one "
            "per line, as pandas does with .to_json(FILE, orient='records', lines=True)"
        )
    return rows


def _is_whole_table(row: Row) -> bool:
    """Whether a record is all of a table, as pandas writes it by default: a record of values per column."""
    columns = [value.keys() if isinstance(value, dict) else None for value in row.values()]
    return len(columns) > 1 and columns[0] is not None and all(keys == columns[0] for keys in columns)


def _saved(folder: Path, split: str) -> Sequence[Row]:
    import datasets
    from datasets.exceptions import DatasetsError

    with readable(folder, DatasetsError):
        saved = datasets.load_from_disk(str(folder))
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise UserError(f"{folder} has no split {split!r}, but {', '.join(saved)}")
        saved = saved[split]
    return _Table(saved)


class _Table(Sequence[Row]):
    """A `datasets.Dataset`, whose rows come as they are stored: images as bytes, which it would decode."""

    def __init__(self, table: Any) -> None:
        self.table = table.with_format("arrow")

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Row:
        return self.table[index].to_pylist()[0]


# ---- fields of a row: what was meant, whatever pandas, JSON or a spreadsheet made of it


def _plain(value: Any) -> Any:
    """None for NaN, which pandas makes of it; a number for a Decimal."""
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def need(row: Any, name: str, where: str) -> Any:
    """A required field that is not empty. Raises RowError naming row and field."""
    value = row.get(name) if isinstance(row, dict) else None
    if value is None or (isinstance(value, str | list | tuple) and not len(value)):
        raise RowError(f"{where} has no '{name}'; fix or remove the row", f"no '{name}'")
    return value


def text(row: Any, name: str, where: str) -> str:
    """A required text, stripped. Raises RowError naming row and field."""
    return as_text(need(row, name, where), name, where).strip()


def as_text(value: Any, name: str, where: str) -> str:
    """A value that must be a non-empty text, unchanged. Raises RowError naming row and field."""
    if not isinstance(value, str) or not without_image_tokens(value).strip():
        message = f"{where}: '{name}' must be a text, not {shown(value)}; fix or remove the row"
        raise RowError(message, f"'{name}' is no text")
    if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
        message = f"{where}: '{name}' holds half a character (a lone surrogate); fix or remove the row"
        raise RowError(message, f"'{name}' is no text")
    return value


def as_texts(value: Any, name: str, where: str) -> list[str]:
    """A list of non-empty texts, as a list or as the text that JSON or Python makes of one.

    Also `{'text': [...], 'label': [...]}` and `{'A': ..., 'B': ...}`. Whole numbers in it are written in
    digits. Raises RowError naming row and field.
    """
    found = list_in(value) if isinstance(value, str) else value
    if isinstance(found, dict):
        found = found.get("text") or _lettered(found)
    if not isinstance(found, list | tuple):
        message = f"{where}: '{name}' must be a list of texts, not {shown(value)}; fix or remove the row"
        raise RowError(message, f"'{name}' is no list of texts")
    return [as_word(each, name, where) for each in found]


def _lettered(record: Mapping[str, Any]) -> list[Any] | None:
    """The values under A, B, C, ...; a table has empty ones where other rows have more."""
    filled = {key: value for key, value in record.items() if value is not None}
    letters = [chr(ord("A") + number) for number in range(len(filled))]
    return [filled[letter] for letter in letters] if sorted(filled) == letters else None


def list_in(text: str) -> Any:
    """What a text holds that JSON or Python's `str` wrote; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if str(value) == text.strip() else None  # numpy's ['a' 'b'] would be one text


def as_word(value: Any, name: str, where: str) -> str:
    """A text, unchanged, or a number as people write it: 3 for 3.0. Raises RowError naming row and field."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    return as_text(value, name, where)


def as_whole(value: Any, name: str, where: str) -> int:
    """A whole number, also one written as 3.0 or "3". Raises RowError naming row and field."""
    written = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    if written or (isinstance(value, float) and value.is_integer()):
        value = int(written[1]) if written else int(value)
    if type(value) is not int or abs(value) >= 2**63:
        message = f"{where}: '{name}' must be a whole number, not {shown(value)}; correct or remove the row"
        raise RowError(message, f"'{name}' is no whole number")
    return value


def as_letter(value: Any, count: int, name: str, where: str) -> str:
    """The letter of one of `count` choices, also as `(b)`, `B.` or `b `. Raises RowError naming the row."""
    written = _LETTER.fullmatch(value) if isinstance(value, str) else None
    if written and ord(letter := written[1].upper()) < ord("A") + count:
        return letter
    message = (
        f"{where}: '{name}' {shown(value)} is not the letter of one of its {count} choices; correct the row"
    )
    raise RowError(message, f"'{name}' is no choice's letter")


def as_known(value: Any, known: Iterable[str], name: str, where: str) -> str:
    """One of some names, also in another case. Raises RowError naming row and field."""
    said = as_text(value, name, where).strip()
    if found := next((each for each in known if each.lower() == said.lower()), None):
        return found
    message = f"{where}: '{name}' {shown(value)} is none of {', '.join(known)}; correct or remove the row"
    raise RowError(message, f"unknown '{name}'")


def as_yes_no(value: Any, name: str, where: str) -> bool:
    """A boolean, also as 1 or 0, or as a text. Raises RowError naming row and field."""
    written = value.strip().lower() if isinstance(value, str) else value
    if isinstance(written, str | int | float) and written in _YES_NO:
        return _YES_NO[written]
    message = f"{where}: '{name}' must be yes or no (1 or 0), not {shown(value)}; correct or remove the row"
    raise RowError(message, f"'{name}' is not yes or no")


def as_id(value: Any, name: str, where: str) -> str:
    """An id as text: 12 for 12.0 and "12.0". Raises RowError naming row and field."""
    if isinstance(value, str):
        return re.sub(r"^([0-9]+)\.0$", r"\1", as_text(value, name, where).strip())
    return str(as_whole(value, name, where))


_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,18})(?:\.0*)?\s*")
_LETTER = re.compile(r"\s*\(?([A-Za-z])[).:]?\s*")
_YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False, 1: True, 0: False}
_YES_NO |= {"1.0": True, "0.0": False}


def as_image(value: Any, where: str, folder: Folder | None = None) -> Image.Image | Path:
    """An image as rows hold it, whose header, sides and end are checked (`spatialvlm.images`).

    PIL's; a file's bytes, or those in base64, also as a data URL; `{'bytes', 'path'}`; a path (relative to
    `folder`); levels of 8 bits as an array; or a list of one of those. A path where no file is comes back
    unchecked: see `require_files`.

    Raises:
        RowError: it is none of those, or no image that can be used; the message names the row.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    while isinstance(value, list | tuple) and len(value) == 1 and not isinstance(value[0], list | tuple):
        value = value[0]
        value = (value.get("bytes") or value.get("path")) if isinstance(value, dict) else value
    if isinstance(value, str | Path) and str(value).strip():
        path = folder / value if folder else Path(value)
        if is_file(path):
            return checked_file(path, where)
        value = _in_base64(str(value), where) or path
        if isinstance(value, Path):
            return value
    if isinstance(value, list | tuple | np.ndarray):
        value = _of_levels(value)
    try:
        if isinstance(value, Image.Image):
            images.check_size(value)
            return value
        if isinstance(value, bytes | bytearray):
            opened = images.open_lazily(value)
            opened.filename = where  # so that a later failure to decode can name the row
            return opened
    except images.ImageError as error:
        message = f"{where}: the image cannot be read ({error}); fix or remove the row"
        raise RowError(message, "broken image") from None
    message = f"{where} has no readable image, but {type(value).__name__}; fix or remove the row"
    raise RowError(message, "no image")


def checked_file(path: Path, where: str) -> Path:
    """The path of an image, once its header, sides and end are checked; raises as `as_image`."""
    if not is_file(path):
        message = f"{where}: image {images.short_name(path)} does not exist; add it or remove the row"
        raise RowError(message, "no image")
    status = path.stat()
    try:
        _check_file(path, status.st_size, status.st_mtime_ns)
    except images.ImageError as error:
        message = f"{where}: image {path} cannot be read ({error}); replace it or remove the row"
        raise RowError(message, "broken image") from None
    return path


@lru_cache(maxsize=2**14)  # many questions are about one image
def _check_file(path: Path, size: int, changed: int) -> None:
    images.check_file(path)


def require_files(of: Iterable[Image.Image | Path], where: str) -> None:
    """Check images that are paths, as `checked_file`."""
    for image in of:
        if isinstance(image, Path):
            checked_file(image, where)


def is_file(path: Path) -> bool:
    """Whether a file is there; False of a name that none can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


# How PNG, JPEG, GIF, WebP, BMP and TIFF begin in base64.
_BASE64_HEADS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")
_LONGEST_NAME = 255
_URL_ALPHABET = str.maketrans("-_", "+/")  # base64's other one


def _in_base64(text: str, where: str) -> bytes | None:
    """The bytes that a text holds; None where it is a path.

    Raises:
        RowError: an address on the web, or a data URL without base64.
    """
    if text.startswith(("http://", "https://")):
        message = f"{where}: its image is on the web, {shown(text)}; download it and give the file's name"
        raise RowError(message, "image on the web")
    kind, comma, packed = text.partition(",")
    if text.startswith("data:") and not (comma and kind.endswith(";base64")):
        message = f"{where} has no readable image, but {shown(text)}; give it in base64"
        raise RowError(message, "no image")
    packed = (packed if text.startswith("data:") else text).strip()
    if (plain := packed.translate(_URL_ALPHABET)).startswith(_BASE64_HEADS):  # no path, which has both too
        packed = f"{plain}{'=' * (-len(''.join(plain.split())) % 4)}"
    may_be_a_path = not text.startswith("data:") and len(packed) <= _LONGEST_NAME
    if may_be_a_path and not packed.startswith(_BASE64_HEADS):
        return None
    packed = "".join(packed.split())
    try:
        return base64.b64decode(packed, validate=True)
    except ValueError:
        return None


def _of_levels(value: Any) -> Any:
    """An image of (height, width) or (height, width, 1, 3 or 4) levels of 8 bits; else the value itself."""
    try:
        levels = np.asarray(value)
        if levels.dtype.kind in "iu" and levels.size and 0 <= levels.min() <= levels.max() <= 255:
            levels = levels[..., 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
            return Image.fromarray(levels.astype(np.uint8))
    except (ValueError, TypeError):  # rows of different lengths, another number of channels
        pass
    return value


def write_parquet(file: Path, schema: Any, made: Iterable[Row], group: int, **options: Any) -> int:
    """Write rows in a stream, `group` of them at a time; return how many there were.

    Args:
        schema: pyarrow's, of all columns.
        options: of pyarrow's ParquetWriter.
    """
    import pyarrow as pa
    from pyarrow import parquet

    count, held = 0, []
    with disk_errors(file), parquet.ParquetWriter(file, schema, compression="zstd", **options) as writer:
        for row in made:
            held.append(row)
            count += 1
            if len(held) == group:
                writer.write_table(pa.Table.from_pylist(held, schema))
                held = []
        writer.write_table(pa.Table.from_pylist(held, schema))
    return count
