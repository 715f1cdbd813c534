"""Replies on disk, one file a request, named by the hash of what was asked: nothing is paid for twice."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.run_folder import disk_errors

FIELDS = {"text": str, "finish": str, "prompt_tokens": int, "completion_tokens": int}  # of a reply


class Cache:
    """Replies by request. Files appear whole, so a stop at any moment leaves none that is torn.

    A file holds the reply alone: no question, no picture and no key.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The reply kept for a request, or None. Raises UserError for a file that is damaged."""
        path = self._path(request)
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(kept, dict) or {name: type(kept[name]) for name in FIELDS} != FIELDS:
                raise ValueError("no reply")
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); delete that file to ask again") from None
        return {name: kept[name] for name in FIELDS}

    def put(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        path = self._path(request)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(reply, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)

    def _path(self, request: Mapping[str, Any]) -> Path:
        key = key_of(request)
        return self.folder / key[:2] / f"{key}.json"


def key_of(request: Mapping[str, Any]) -> str:
    """A request's hash: of all it says, pictures included, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
