"""Data sets of the hub: their revisions, the files of a split, and as much of a file as is read.

An id is `owner/name`, or `owner/name@revision` for a branch, tag or commit. What is fetched stays: whole
files in the hub library's cache, pieces of large ones in ours, where a later start continues. Without a
network the revision and the files that were read last are read again.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from spatialvlm import disk
from spatialvlm.disk import CACHE_ELSEWHERE, cache_folder, disk_errors, locked
from spatialvlm.errors import UserError, first_line

SUFFIXES = (".parquet", ".jsonl", ".json")
SAME_SPLIT = {"val": "validation", "dev": "validation"}
LISTING = "the list of its files"
BLOCK = 2**20  # bytes of a file that are fetched together, at least
AHEAD = 16  # blocks at most, where a file is read in its order
SECONDS = 10  # from one line about a long download to the next

T = TypeVar("T")


def is_hub_id(path: str | Path) -> bool:
    """Whether a path that is not there reads like an id, and not like a place on this machine."""
    name = str(path).partition("@")[0]
    parts = name.split("/")
    is_file = not {Path(name).suffix, Path(path).suffix}.isdisjoint(SUFFIXES)
    return len(parts) == 2 and all(parts) and name[0] not in "./~" and not is_file


def on_hub(path: str | Path) -> bool:
    """Whether `path` means a data set on the hub, and no file or folder here."""
    return not Path(path).exists() and is_hub_id(path)


def without_revision(path: str | Path) -> str:
    """The `owner/name` of an id; any other path as it is."""
    return str(path).partition("@")[0] if on_hub(path) else str(path)


class Unreachable(UserError):
    """The hub does not answer."""


class MissingFile(UserError):
    """A data set of the hub has no file of that name."""


@dataclass(frozen=True)
class HubFile:
    """A file of a data set at a commit; its size in bytes."""

    id: str  # as the user gave it
    commit: str
    path: str
    size: int


# ---- revisions

_COMMITS: dict[tuple[str, Path], str] = {}  # of this process, by id and cache


def commit(id: str | Path) -> str:
    """The commit that an id means, the same one throughout a process.

    Raises:
        UserError: no such data set or revision, or the hub does not answer and no commit of it is here.
    """
    name, _, revision = str(id).partition("@")
    known = _COMMITS.get((str(id), cache_folder()))
    if known or _is_commit(revision):
        return known or revision
    from huggingface_hub import HfApi

    try:
        found = _asked(str(id), "it", lambda: HfApi().dataset_info(name, revision=revision or "main").sha)
        _remember(_folder(id) / f"{_plain(revision or 'main')}.json", {"commit": found})
    except Unreachable as error:
        if (found := last_commit(id)) is None:
            raise
        print(f"warning: {error}. Reading the last one that is here, {found[:12]}", file=sys.stderr)
    _COMMITS[str(id), cache_folder()] = found
    return found


def last_commit(id: str | Path) -> str | None:
    """The commit of an id that this process reads, or that was read last; None where none was."""
    from huggingface_hub import constants

    name, _, revision = str(id).partition("@")
    if _is_commit(revision) or not is_hub_id(id):
        return revision or None
    if known := _COMMITS.get((str(id), cache_folder())):
        return known
    if known := _remembered(_folder(id) / f"{_plain(revision or 'main')}.json"):
        return known["commit"]
    place = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs", revision or "main")
    return place.read_text(encoding="utf-8").strip() if place.is_file() else None


def _is_commit(revision: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


# ---- files


def files(id: str | Path, split: str, config: str | None = None) -> list[HubFile]:
    """The files of a split, as the data set's card or their names have it; fetches none of them.

    Args:
        split: `validation` also by the names val and dev.
        config: a named configuration; the default one where None, or where there is none of that name.

    Raises:
        UserError: no such data set, revision or split, files of another kind than `SUFFIXES`.
        Unreachable: the hub does not answer, and they were never listed.
    """
    at = commit(id)
    place = _folder(id) / at / f"splits-{_plain(config or '')}.json"
    if (splits := _remembered(place)) is None:
        name = without_revision(id)
        splits = _asked(str(id), LISTING, lambda: _splits(name, at, config))
        _remember(place, splits)
    wanted = SAME_SPLIT.get(split, split)
    every = [path for listed in splits.values() for path, _ in listed]
    if not any(map(_is_rows, every)):
        there = f"{every[0]} is none of" if every else "it has none of"
        raise UserError(f"{id}: {there} {', '.join(SUFFIXES)}; convert it, and give the file")
    found = next((name for name in splits if SAME_SPLIT.get(name, name) == wanted), None)
    if found is None:
        raise UserError(f"{id} has no split {split!r} on the hub, but {', '.join(splits) or 'none'}")
    listed = [HubFile(str(id), at, path, size) for path, size in splits[found]]
    if others := [file.path for file in listed if not _is_rows(file.path)]:
        raise UserError(f"{id}: {others[0]} is none of {', '.join(SUFFIXES)}; convert it, and give the file")
    return listed


def _is_rows(path: str) -> bool:
    return Path(path).suffix in SUFFIXES


def _splits(name: str, at: str, config: str | None) -> dict[str, list[tuple[str, int]]]:
    """(path, size) of the files of every split, as `datasets` resolves them."""
    import datasets
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import RevisionNotFoundError

    if config is not None and config not in datasets.get_dataset_config_names(name, revision=at):
        config = None
    try:
        listed = datasets.load_dataset_builder(name, config, revision=at).config.data_files or {}
    except (DataFilesNotFoundError, EmptyDatasetError):
        return {}
    except DatasetNotFoundError as error:
        if isinstance(error.__cause__, RevisionNotFoundError):
            raise error.__cause__ from None
        HfApi().auth_check(name, repo_type="dataset")  # raises what this error hides
        raise
    system = HfFileSystem()
    splits = {
        str(split): [system.resolve_path(url).path_in_repo for url in urls] for split, urls in listed.items()
    }
    paths = [path for each in splits.values() for path in each]
    found = HfApi().get_paths_info(name, paths, revision=at, repo_type="dataset")
    sizes = {entry.path: entry.size for entry in found}
    return {split: [(path, sizes[path]) for path in each] for split, each in splits.items()}


class Folder:
    """The folder of a hub's data set: `folder / name` is a file's path here, once it is downloaded.

    A name is relative to the data set, or to the folder of its rows.
    """

    def __init__(self, id: str | Path) -> None:
        self.id = id

    def __truediv__(self, name: str | Path) -> Path:
        for place in ("", *sorted({posixpath.dirname(each) for each in self._names if _is_rows(each)})):
            path = posixpath.normpath(posixpath.join(place, str(name)))
            if path in self._names:
                return download(self.id, path)
        return Path(name)

    @cached_property
    def _names(self) -> frozenset[str]:
        from huggingface_hub import HfApi

        name, at = without_revision(self.id), commit(self.id)
        place = _folder(self.id) / at / "names.json"
        if (names := _remembered(place)) is None:
            found = _asked(str(self.id), LISTING, lambda: HfApi().dataset_info(name, revision=at).siblings)
            _remember(place, names := [each.rfilename for each in found])
        return frozenset(names)


def snapshot(id: str | Path) -> Path | None:
    """The folder of a data set in the hub library's cache, as `hf download` leaves it; None where none is."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        place = snapshot_download(
            without_revision(id), repo_type="dataset", revision=commit(id), local_files_only=True
        )
    except (LocalEntryNotFoundError, UserError):
        return None
    return Path(place)


def download(id: str | Path, path: str) -> Path:
    """A whole file of a data set, in the hub library's cache: rows in jsonl, lists of ids and the like.

    Raises:
        MissingFile: the data set has none of that name.
        UserError: it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    name, at = without_revision(id), commit(id)
    place = _asked(str(id), path, lambda: hf_hub_download(name, path, repo_type="dataset", revision=at))
    return Path(place)


def open_file(id: str | Path, path: str, size: int | None = None) -> Path | RangeFile:
    """A file to read in pieces: where the hub library's cache has it, that one; else it is fetched as read.

    Args:
        size: in bytes, where it is known.

    Raises:
        MissingFile: the data set has none of that name.
        UserError: the hub cannot be asked.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    name, at = without_revision(id), commit(id)
    there = try_to_load_from_cache(name, path, revision=at, repo_type="dataset")
    if isinstance(there, str):
        return Path(there)
    place = _folder(id) / at / f"size-{_plain(path)}.json"
    if size is None and (size := _remembered(place)) is None:
        found = _asked(
            str(id), path, lambda: HfApi().get_paths_info(name, [path], revision=at, repo_type="dataset")
        )
        if not found:
            raise MissingFile(f"{id} has no file {path} on the hub; give another revision of it")
        _remember(place, size := found[0].size)
    return RangeFile(HubFile(str(id), at, path, size))


# ---- files that are fetched as they are read


class RangeFile(io.RawIOBase):
    """A hub's file of which only what is read is fetched, once, in blocks that stay in the user's cache.

    Blocks read one after the other are fetched together, up to `AHEAD` of them. Processes that read the same
    file share its blocks.
    """

    def __init__(self, file: HubFile) -> None:
        self.file = file
        folder = _folder(file.id) / file.commit
        self.content, self.marks = folder / file.path, folder / f"{file.path}.blocks"  # a byte for each block
        self.at = 0
        self._there = b""
        self._said = time.monotonic()

    def __reduce__(self) -> tuple[type[RangeFile], tuple[HubFile]]:
        return RangeFile, (self.file,)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place; returns it."""
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.file.size}[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        """Read from here on, as much as the buffer holds; what is missing is fetched.

        Raises:
            UserError: it cannot be downloaded, or the disk is full.
        """
        into = memoryview(buffer).cast("B")
        end = min(self.at + len(into), self.file.size)
        count = max(0, end - self.at)
        if count:
            self._need(range(self.at // BLOCK, (end - 1) // BLOCK + 1))
            with self.content.open("rb") as content:
                count = os.preadv(content.fileno(), [into[:count]], self.at)
            self.at += count
        return count

    def _need(self, blocks: range) -> None:
        """Fetch those of some blocks that are not there."""
        if all(self._there[block : block + 1] == b"1" for block in blocks):
            return
        size = self.file.size
        elsewhere = f"{CACHE_ELSEWHERE}: all of {self.file.path} takes {size / 1e9:.1f} GB there"
        with disk_errors(self.content, elsewhere):
            self.content.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.marks.with_name(f".{self.marks.name}.lock")):
                if not (self.marks.is_file() and self.content.is_file()):
                    self.content.touch()
                    os.truncate(self.content, size)
                    self.marks.write_bytes(b"0" * -(-size // BLOCK))
                self._there = self.marks.read_bytes()
                for block in blocks:
                    if self._there[block : block + 1] != b"1":
                        self._load(block, blocks.stop - block)

    def _load(self, first: int, count: int) -> None:
        """Fetch `count` blocks, or half as many as lie before them, up to the next one that is there."""
        before = first - self._there.rfind(b"0", 0, first) - 1
        stop = min(first + max(count, min(before // 2, AHEAD)), len(self._there))
        there = self._there.find(b"1", first, stop)
        stop = there if there != -1 else stop
        for start in range(first, stop, AHEAD):
            end = min(start + AHEAD, stop)
            content = self._fetched(start * BLOCK, min(end * BLOCK, self.file.size))
            with self.content.open("r+b") as file:
                os.pwrite(file.fileno(), content, start * BLOCK)
                os.fsync(file.fileno())
            with self.marks.open("r+b") as file:  # only now, so that a block that is marked is whole
                os.pwrite(file.fileno(), b"1" * (end - start), start)
            self._there = self._there[:start] + b"1" * (end - start) + self._there[end:]
            self._say()

    def _fetched(self, start: int, end: int) -> bytes:
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        file, name = self.file, without_revision(self.file.id)
        url = hf_hub_url(name, file.path, repo_type="dataset", revision=file.commit)

        def fetch() -> bytes:
            headers = build_hf_headers() | {
                "Range": f"bytes={start}-{end - 1}",
                "Accept-Encoding": "identity",
            }
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            answer = http_backoff("GET", url, headers=headers, timeout=timeout, max_retries=4)
            hf_raise_for_status(answer)
            return answer.content if answer.status_code == 206 else answer.content[start:end]

        try:
            content = _asked(file.id, file.path, fetch)
        except Unreachable as error:
            raise UserError(f"{error}; what was fetched stays, and the same command continues") from None
        if len(content) != end - start:
            raise UserError(
                f"{file.id}: {file.path} came with {len(content)} bytes of {end - start}; try again"
            )
        return content

    def _say(self) -> None:
        """One line now and then of how far a long download is."""
        if time.monotonic() - self._said > SECONDS:
            self._said = time.monotonic()
            there = min(self._there.count(b"1") * BLOCK, self.file.size)
            tqdm.write(  # a bar that is shown stays whole
                f"{self.file.id}: {there / 1e6:,.0f} MB of {self.file.path} are here "
                f"(all of it: {self.file.size / 1e6:,.0f} MB)",
                file=sys.stderr,
            )


# ---- answers


def _asked(id: str, what: str, ask: Callable[[], T]) -> T:
    """What the hub answers; its refusals and its silence in one line each."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import logging

    name, _, revision = id.partition("@")
    begin = f"{name} is no file or folder here, and from the hub"
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the library writes two lines per try, and we one of how it ended
    try:
        return ask()
    except UserError:
        raise
    except Exception as error:  # the hub's errors have no common ancestor
        cause, said = error, first_line(error)
    finally:
        logging.set_verbosity(verbosity)
    log_in = "log in with `hf auth login`"
    if isinstance(cause, GatedRepoError):
        accept = "it is gated: accept its conditions on its page"
        raise UserError(f"{begin} it cannot be downloaded: {accept}, and {log_in}")
    if isinstance(cause, RepositoryNotFoundError):
        reason = "no such data set, or a private one"
        raise UserError(f"{begin} it cannot be downloaded: {reason}; check the name, or {log_in}")
    if isinstance(cause, RevisionNotFoundError):
        raise UserError(f"{name} has no revision {revision!r} on the hub; check what follows the @")
    if isinstance(cause, RemoteEntryNotFoundError):
        raise MissingFile(f"{id} has no file {what} on the hub; give another revision of it")
    answered = isinstance(cause, HfHubHTTPError) and cause.response.status_code < 500
    raise (UserError if answered else Unreachable)(
        f"{begin} {what} cannot be downloaded: {said}; check the name and the network, or {log_in} "
        "where it is gated"
    )


# ---- what is remembered of a data set


def _folder(id: str | Path) -> Path:
    return cache_folder() / "hub" / str(id).partition("@")[0].replace("/", "--")


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)


def _remember(file: Path, content: Any) -> None:
    with disk_errors(file, CACHE_ELSEWHERE), disk.whole(file, shared=True) as aside:
        aside.write_text(json.dumps(content), encoding="utf-8")


def _remembered(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
