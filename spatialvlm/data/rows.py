"""Rows of a data set wherever they lie: a parquet, jsonl or json file, a folder of those, or a hub id.

Nothing is decoded here: pictures stay bytes until `picture` wraps them, and are decoded when they are looked
at.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from spatialvlm.cli import UserError

SUFFIXES = (".parquet", ".jsonl", ".json")

Row = dict[str, Any]


def read(path: str | Path, split: str) -> Iterator[tuple[str, Row]]:
    """(a name for the row in messages, the row) of every row.

    Args:
        path: a file, a folder, or a hub id (`owner/name`).
        split: of a hub id; of a folder it picks the files that bear it in their names, all files where none
            does.

    Raises:
        UserError: nothing there, a file that is not what its name says, or a hub data set that cannot be had.
    """
    if Path(path).is_file():
        files = [Path(path)]
    elif Path(path).is_dir():
        for suffix in SUFFIXES:  # a mirror of the hub holds .json files of another kind beside its parquet
            files = sorted(Path(path).rglob(f"*{suffix}"))
            if files:
                break
        files = [file for file in files if split in file.name] or files
        if not files:
            raise UserError(f"folder {path} holds no {', '.join(SUFFIXES)} file to read rows from")
    elif is_hub_id(path):
        yield from _hub_rows(str(path), split)
        return
    else:
        raise UserError(f"no such file or folder: {path}")
    for file in files:
        for number, row in enumerate(_file_rows(file)):
            if not isinstance(row, dict):
                raise UserError(f"{file} row {number} is no record with named fields")
            yield f"{file} row {number}", row


def is_hub_id(path: str | Path) -> bool:
    """Whether a path that is not there reads like `owner/name`, and not like a place on this machine."""
    text = str(path)
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and text[0] not in "./~" and not Path(text).suffix


def _file_rows(file: Path) -> Iterator[Any]:
    try:
        if file.suffix == ".parquet":
            from pyarrow import parquet

            for batch in parquet.ParquetFile(file).iter_batches(batch_size=64):
                yield from batch.to_pylist()
        elif file.suffix == ".jsonl":
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        try:
                            yield json.loads(line)
                        except ValueError as error:
                            raise UserError(f"{file} line {number} is not JSON: {error}") from None
        else:
            rows = json.loads(file.read_text(encoding="utf-8"))
            yield from rows if isinstance(rows, list) else [rows]
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise UserError(f"{file} cannot be read ({error})") from None


def _hub_rows(name: str, split: str) -> Iterator[tuple[str, Row]]:
    import datasets

    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub's errors have no common ancestor
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{name} is no file or folder here, and from the hub (split {split}) it cannot be had: {reason}; "
            "check the name and the network, or log in with `hf auth login` where it is gated"
        ) from None
    table = table.cast(_undecoded(table.features))
    for number, row in enumerate(table):
        yield f"{name} {split} row {number}", row


def _undecoded(feature: Any) -> Any:
    """The same features with pictures left as bytes, so that reading a row decodes none."""
    import datasets

    if isinstance(feature, datasets.Image):
        return datasets.Image(decode=False)
    if isinstance(feature, dict):
        return datasets.Features({name: _undecoded(inner) for name, inner in feature.items()})
    if isinstance(feature, datasets.List):
        return datasets.List(_undecoded(feature.feature), length=feature.length)
    return feature


def need(row: Any, name: str, where: str) -> Any:
    """A field that must be there and not empty. Raises UserError naming row and field."""
    value = row.get(name) if isinstance(row, dict) else None
    if value is None or (isinstance(value, str | list | tuple) and not len(value)):
        raise UserError(f"{where} has no '{name}'; mend or remove the row")
    return value


def picture(value: Any, where: str, folder: Path | None = None) -> Image.Image | Path:
    """A picture as rows hold it: PIL, bytes, `{'bytes', 'path'}`, or a path (relative to `folder`).

    Raises:
        UserError: it is none of those, or its bytes are no picture; the message names the row.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, bytes | bytearray):
        try:
            opened = Image.open(io.BytesIO(value))  # reads the header only
            opened.filename = where  # so that a later failure to decode can name the row
            return opened
        except OSError as error:
            raise UserError(f"{where}: the image cannot be read ({error}); mend or remove the row") from None
    if isinstance(value, str) and value:
        return folder / value if folder else Path(value)
    raise UserError(f"{where} has no readable image, but {type(value).__name__}; mend or remove the row")
