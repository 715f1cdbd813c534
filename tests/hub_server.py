"""A hub on loopback: data sets with revisions, whole files and ranges of them; it counts the bytes it sends.

    with HubServer() as hub:
        hub.add("array/SAT", {"SAT_train.parquet": content, "README.md": text})
        subprocess.run(command, env=os.environ | hub.environment(tmp_path))
        assert hub.sent["array/SAT", "SAT_train.parquet"] < 10_000_000

    python tests/hub_server.py FOLDER     # serves FOLDER/<owner>/<name>/ and prints the variables to set

It answers what `huggingface_hub` and `datasets` ask of a data set (the API's info, tree and paths-info, and
`resolve` with HEAD, ETag and Range). Parquet files and archives are served as the hub serves large files: by
a redirect to another address.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".parquet", ".zip")
PIECE = 2**16  # bytes written at a time, so that a broken connection costs few


class HubServer:
    """Serves data sets until it is closed; `sent` counts bytes by data set and file, `asked` the requests."""

    def __init__(self) -> None:
        self.commits: dict[
            str, dict[str, dict[str, bytes | Path]]
        ] = {}  # data set -> commit -> file -> content
        self.refs: dict[str, dict[str, str]] = {}  # data set -> branch or tag -> commit
        self.gated: set[str] = set()
        self.sent: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.breaks: list[int] = []  # each of the next bodies ends after so many bytes
        self.away = False  # answers nothing at all
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: Mapping[str, bytes | str | Path], revision: str = "main") -> str:
        """Publish files as a new commit of a data set, at the tip of `revision`; returns the commit.

        Args:
            files: content by path, or a file on this disk that is read when it is asked for.
        """
        content = {path: each.encode() if isinstance(each, str) else each for path, each in files.items()}
        digest = hashlib.sha1(repr((name, revision, len(self.commits.get(name, {})))).encode())
        for path, each in content.items():
            digest.update(path.encode() + _etag(path, each).encode())
        commit = digest.hexdigest()
        self.commits.setdefault(name, {})[commit] = content
        self.refs.setdefault(name, {})[revision] = commit
        return commit

    def reset(self) -> None:
        """Count from nothing again."""
        self.sent.clear()
        self.asked.clear()

    def environment(self, folder: Path) -> dict[str, str]:
        """What a command needs to use this hub, with its caches in a folder."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_CACHE": str(folder / "hf" / "hub"),
            "HF_DATASETS_CACHE": str(folder / "hf" / "datasets"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes = b"") -> None:
        if self.hub.away:
            self.close_connection = True
            return
        path = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if path[:2] == ["api", "datasets"]:
            self._api("/".join(path[2:4]), path[4:], body)
        elif path[0] == "datasets" and path[3] == "resolve":
            self._resolve("/".join(path[1:3]), path[4], "/".join(path[5:]))
        elif path[0] == "large":  # where large files are redirected to
            self._file("/".join(path[1:3]), path[3], "/".join(path[4:]))
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    def _commit(self, name: str, revision: str) -> str | None:
        """The commit of a revision; None where the answer is given already."""
        if name not in self.hub.commits:
            self._refuse(401, "RepoNotFound", "Repository not found")  # as the hub answers without a token
            return None
        commit = self.hub.refs[name].get(revision, revision)
        if commit not in self.hub.commits[name]:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        what, revision = (rest + ["", ""])[:2] if rest else ("revision", "main")
        if what == "auth-check" and name in self.hub.gated:
            self._refuse(403, "GatedRepo", f"Access to dataset {name} is restricted")
            return
        if (commit := self._commit(name, revision or "main")) is None:
            return
        files = self.hub.commits[name][commit]
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            gated = "auto" if name in self.hub.gated else False
            about = {"id": name, "sha": commit, "private": False, "gated": gated, "tags": [], "downloads": 0}
            self._json(about | {"siblings": siblings, "disabled": False, "likes": 0})
        elif what == "tree":
            self._json(self._tree(files, "/".join(rest[2:])))
        elif what == "paths-info":
            form = self.headers.get("Content-Type", "").startswith("application/x-www-form")
            asked = parse_qs(body.decode())["paths"] if form else json.loads(body)["paths"]
            self._json([_entry(path, files[path]) for path in asked if path in files])
        else:
            self._refuse(404, "EntryNotFound", "no such page")

    def _tree(self, files: Mapping[str, bytes | Path], folder: str) -> list[dict]:
        inside = {
            path: each for path, each in files.items() if path.startswith(f"{folder}/" if folder else "")
        }
        entries = [_entry(path, each) for path, each in inside.items()]
        folders = {str(parent) for path in inside for parent in Path(path).parents} - {".", folder}
        entries += [{"type": "directory", "path": each, "oid": "0" * 40, "size": 0} for each in folders]
        if "recursive=true" in self.path.lower() or "recursive=1" in self.path:
            return entries
        return [each for each in entries if str(Path(each["path"]).parent) == (folder or ".")]

    def _resolve(self, name: str, revision: str, path: str) -> None:
        if (commit := self._commit(name, revision)) is None:
            return
        if name in self.hub.gated:
            self._refuse(401, "GatedRepo", f"Access to dataset {name} is restricted")
        elif path not in self.hub.commits[name][commit]:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        elif path.endswith(LARGE):
            content = self.hub.commits[name][commit][path]
            headers = {
                "Location": f"{self.hub.url}/large/{name}/{commit}/{quote(path)}",
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(_size(content)),
                "X-Linked-ETag": f'"{_etag(path, content)}"',
            }
            self._send(302, b"", headers)
        else:
            self._file(name, commit, path)

    def _file(self, name: str, commit: str, path: str) -> None:
        content = self.hub.commits[name][commit][path]
        headers = {"ETag": f'"{_etag(path, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        self.hub.asked[name, path] += self.command == "GET"
        if asked:
            first, _, last = asked.partition("-")
            start, end = int(first), min(int(last or _size(content) - 1) + 1, _size(content))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{_size(content)}"
            self._send(206, _read(content, start, end), headers, (name, path))
        else:
            self._send(200, _read(content, 0, _size(content)), headers, (name, path))

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        about = {"X-Error-Code": name, "X-Error-Message": message} | dict(headers or {})
        self._send(code, json.dumps({"error": message}).encode(), about)

    def _send(
        self, code: int, body: bytes, headers: Mapping[str, str], counted: tuple[str, str] | None = None
    ) -> None:
        self.send_response(code)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(body)
        if counted and self.hub.breaks:
            end = min(end, self.hub.breaks.pop(0))
        for start in range(0, end, PIECE):
            self.wfile.write(body[start : min(start + PIECE, end)])
            if counted:
                self.hub.sent[counted] += min(start + PIECE, end) - start
        if end < len(body):
            self.wfile.flush()
            self.close_connection = True


@cache
def _etag(path: str, content: bytes | Path) -> str:
    if isinstance(content, Path):
        content = f"{content} {content.stat().st_size} {content.stat().st_mtime_ns}".encode()
    return (hashlib.sha256 if path.endswith(LARGE) else hashlib.sha1)(content).hexdigest()


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _read(content: bytes | Path, start: int, end: int) -> bytes:
    if not isinstance(content, Path):
        return content[start:end]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _entry(path: str, content: bytes | Path) -> dict:
    code = hashlib.sha1(_etag(path, content).encode()).hexdigest()
    entry = {"type": "file", "path": path, "size": _size(content), "oid": code}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": _etag(path, content), "size": _size(content), "pointerSize": 134}
    return entry


def main(folder: Path) -> None:
    """Serve the data sets in a folder until the process is interrupted."""
    with HubServer() as hub:
        for place in sorted(folder.glob("*/*/")):
            files = {str(file.relative_to(place)): file for file in place.rglob("*") if file.is_file()}
            hub.add(str(place.relative_to(folder)), files)
        for name, value in hub.environment(folder / "caches").items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
