"""Rows of parquet files in record batches: only rows that are looked at are read, and memory stays flat.

Rows that were read once are on the disk as Arrow files, parts of a few megabytes each that are mapped into
memory, so that rows can be accessed in any order. SAT's files need that: each is one group of up to 4.6 GB of
nested bytes, in which no row can be found without those before it, and which Arrow's own scanner refuses.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from spatialvlm.disk import CACHE_ELSEWHERE, cache_folder, disk_errors, locked, whole
from spatialvlm.errors import UserError, first_line

IN_MEMORY = 2**25  # bytes of a table that is held in memory
PART_BYTES = 2**23  # of the rows of a part
MAPPED_PARTS = 4  # at a time, so that a long table does not fill the memory
READ_AHEAD = 2**20  # bytes per column: parquet's pages, of which SAT's have a million bytes

Row = dict[str, Any]
_READING = threading.Lock()  # threads of one process; processes wait for a file's lock


class ArrowRows(Sequence[Row]):
    """Rows of a table in memory, images as the bytes that are stored."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> Row:
        return self.table.slice(range(len(self))[index], 1).to_pylist()[0]


@dataclass(frozen=True)
class _Group:
    """A row group: its first row, its rows, and how many of them make a part."""

    first: int
    rows: int
    per_part: int


class ParquetRows(Sequence[Row]):
    """Rows of a parquet file that may be larger than memory; `open_parquet` chooses.

    A row that is looked at is read together with those before it in its row group, and they are put into the
    user's cache. There a second start finds them, as do the other processes of a launch.

    Args:
        source: a path, or a file object that can be pickled.
        name: of the file, for messages.
        state: what the rows depend on; another one has other parts.
        metadata: the file's footer.
    """

    def __init__(self, source: Any, name: str, state: str, metadata: Any) -> None:
        self.source, self.name = source, name
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        ends = list(accumulate(group.num_rows for group in groups))
        self.groups = [
            _Group(end - group.num_rows, group.num_rows, _rows_per_part(group))
            for group, end in zip(groups, ends, strict=True)
        ]
        self.ends = ends
        self.size = sum(group.total_byte_size for group in groups)
        code = hashlib.sha256(f"{state} {PART_BYTES}".encode()).hexdigest()[:16]
        self.folder = cache_folder() / "rows" / f"{Path(name).stem}-{code}"
        self._stream: tuple[int, int, Iterator[Any]] | None = (
            None  # row group, next part, the parts from there
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_stream": None}

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Row:
        index = range(len(self))[index]
        number = bisect_right(self.ends, index)
        group = self.groups[number]
        part, row = divmod(index - group.first, group.per_part)
        return self._part(number, part)[row]

    def _part(self, group: int, part: int) -> ArrowRows:
        file = self.folder / f"{group}-{part}.arrow"
        if not file.is_file():
            with _READING:
                self._read(group, part)
        return _map(file)

    def _read(self, group: int, part: int) -> None:
        """Put the parts of a row group up to this one into the cache, but those that are there."""
        elsewhere = f"{CACHE_ELSEWHERE}: all rows of {self.name} take up to {self.size / 1e9:.1f} GB there"
        stream, self._stream = self._stream, None  # an error ends it
        if stream is None or stream[0] != group or stream[1] > part:
            stream = (group, 0, self._parts(group))
        for number in range(stream[1], part + 1):
            with readable(self.name):
                table = next(stream[2], None)
            if table is None:
                raise UserError(f"{self.name} cannot be read: it ends before its last row; get it again")
            file = self.folder / f"{group}-{number}.arrow"
            with disk_errors(file, elsewhere):
                self.folder.mkdir(parents=True, exist_ok=True)
                with locked(self.folder / ".lock"):
                    if not file.is_file():
                        _write(file, table)
        self._stream = (group, part + 1, stream[2])

    def _parts(self, group: int) -> Iterator[Any]:
        """The tables of a row group's parts."""
        import pyarrow as pa

        size, left = self.groups[group].per_part, self.groups[group].rows
        held: list[Any] = []
        for batch in _file(self.source).iter_batches(size, row_groups=[group], use_threads=False):
            held.append(batch)
            while (there := sum(each.num_rows for each in held)) >= min(size, left) > 0:
                table = pa.Table.from_batches(held)
                yield table.slice(0, size)
                left -= min(size, left)
                held = table.slice(size).to_batches() if there > size else []


def open_parquet(source: Any, name: str, state: str) -> Sequence[Row]:
    """Open a parquet file of any size; of a large one only the footer is read now.

    Args:
        source: a path, or a file object that can be pickled.
        name: of the file, for messages.
        state: what its rows depend on; what the cache holds of another state is not used.

    Raises:
        UserError: it is no parquet file; on access, a broken part of it or a full disk.
    """
    with readable(name):
        file = _file(source)
        metadata = file.metadata
        size = sum(metadata.row_group(each).total_byte_size for each in range(metadata.num_row_groups))
        if size <= IN_MEMORY:
            return ArrowRows(_with_index(file.read(use_threads=False)))
    return ParquetRows(source, name, state, metadata)


def _with_index(table: Any) -> Any:
    """The table with pandas' index as a column where it is a range that does not just count the rows."""
    for index in (table.schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(index, dict) and index.get("kind") == "range":
            numbers = range(index["start"], index["stop"], index["step"])
            name = index.get("name") or "__index_level_0__"
            if numbers != range(len(table)) and len(numbers) == len(table) and name not in table.column_names:
                table = table.append_column(name, [list(numbers)])
    return table


@contextmanager
def readable(name: str | Path, *others: type[Exception]) -> Iterator[None]:
    """Turn what Arrow (and `others`) say of a file that cannot be read into one line naming it."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ValueError, ArrowException, *others) as error:
        raise UserError(f"{name} cannot be read ({_innermost(error)})") from None


def _innermost(error: BaseException) -> str:
    """The first cause, in one line: `datasets` wraps it in a general message."""
    return _innermost(error.__cause__) if error.__cause__ else first_line(error)


def _file(source: Any) -> Any:
    from pyarrow import parquet

    # Buffered, a column of gigabytes is read in pieces; pre_buffer would read all of it at once.
    return parquet.ParquetFile(source, pre_buffer=False, buffer_size=READ_AHEAD)


def _rows_per_part(group: Any) -> int:
    return max(1, PART_BYTES * group.num_rows // max(1, group.total_byte_size))


def _write(file: Path, table: Any) -> None:
    from pyarrow import ipc

    with whole(file, shared=True) as aside, ipc.new_file(str(aside), table.schema) as writer:
        writer.write_table(table)


@lru_cache(MAPPED_PARTS)
def _map(file: Path) -> ArrowRows:
    import pyarrow as pa
    from pyarrow import ipc

    with readable(f"{file} (part of a cache, which may be deleted)"):
        return ArrowRows(ipc.open_file(pa.memory_map(str(file))).read_all())
