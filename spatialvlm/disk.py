"""Writing to the disk: files and folders that are whole or not there at all, errors in one line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError

CACHE_ELSEWHERE = "set XDG_CACHE_HOME to another folder"
# What fcntl says on file systems without locks, as NFS and Lustre can be.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/spatialvlm`; where that is not set, `~/.cache/spatialvlm`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spatialvlm"


@contextmanager
def disk_errors(path: Path, elsewhere: str = "choose another --output_dir") -> Iterator[None]:
    """Turn what a disk or its permissions refuse into a UserError with its remedy.

    Args:
        path: what is written, for the message.
        elsewhere: how the user writes to another place.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space left to write {path}; free some and run the same command again (a training: with "
                f"--resume), what is computed so far is kept; or {elsewhere}"
            ) from None
        raise UserError(f"cannot write {path} ({error.strerror}); {elsewhere}") from None


@contextmanager
def whole(path: Path, shared: bool = False) -> Iterator[Path]:
    """A hidden path beside `path` to write a file or folder to, which becomes `path` at the end.

    The content is on the disk before it gets its name. What an error or an earlier kill left is removed.

    Args:
        shared: several processes may write the same path, as in a cache: each writes under a name of its own,
            and a folder that is there by then stays.
    """
    aside = unfinished(path, f"{os.getpid()}-{threading.get_ident()}" if shared else "partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(aside)
    try:
        yield aside
        sync(aside)
        if not (shared and path.is_dir()):
            if path.is_dir():
                remove(path)
            aside.replace(path)
            _sync_one(path.parent)
    finally:
        remove(aside)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file, and hold it; a process that ends lets it go."""
    with file.open("w") as held:
        try:
            fcntl.lockf(held, fcntl.LOCK_EX)
        except OSError as error:  # without locks work is done twice, never wrongly
            if error.errno not in NO_LOCKS:
                raise
        yield


def unfinished(path: Path, writer: str = "partial") -> Path:
    """Where `whole` writes before `path` is there."""
    return path.with_name(f".{path.name}.{writer}{path.suffix}")  # numpy adds a suffix that is missing


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there. Raises UserError where the disk refuses."""
    with disk_errors(path), whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is whole or not there. Raises UserError where the disk refuses."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def remove(path: Path) -> None:
    """Remove what is there, if anything; a folder is renamed first so leftovers are never mistaken for it."""
    if path.is_dir():
        gone = path.with_name(f".{path.name}.removed")
        shutil.rmtree(gone, ignore_errors=True)
        shutil.rmtree(path.rename(gone), ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make sure that a file, or a folder with all that is in it, is on the disk."""
    for each in path.rglob("*") if path.is_dir() else ():
        _sync_one(each)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `folder` at the end; what a stop left of it is deleted.

    Raises:
        UserError: `folder` exists, or cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; give another --output_dir, or delete it")
    if unfinished(folder).exists():
        print(f"{folder} was not finished when it was stopped; starting again", flush=True)
    with disk_errors(folder), whole(folder) as aside:
        aside.mkdir()
        yield aside
