"""The folder that a run writes: its arguments, its results, and enough to resume it.

config.json          all arguments, where the rows came from, git commit, versions, device
metrics.jsonl/.csv   one row per training step
completions.jsonl    samples of completions in training, with their rewards
predictions.jsonl    one row per question, written per batch: a killed run loses at most one batch
summary.json/.csv    the scores
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from spatialvlm import disk
from spatialvlm.disk import disk_errors
from spatialvlm.errors import UserError
from spatialvlm.files import hub

LIBRARIES = [
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "datasets",
    "tokenizers",
    "pillow",
    "numpy",
]


@dataclass(frozen=True)
class DataSource:
    """Where the rows of a run come from: `data` in config.json, enough to load them again.

    Args:
        loader: a name in `spatialvlm.tasks.registry.LOADERS`; `registry.load_rows(source)` calls it.
        arguments: its keyword arguments (path, split, limit, seed, ...), as JSON can hold them.
        facts: what else is to be recorded of the rows, such as which set they are.
    """

    loader: str
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The entry in config.json; `revision` is the `fingerprint` of the path where there is one."""
        path = self.arguments.get("path")
        entry = {"loader": self.loader, "arguments": plain(self.arguments)}
        return entry | {"revision": fingerprint(path) if path else None} | plain(self.facts)

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str | Path) -> DataSource:
        """The source that a run recorded.

        Args:
            config: the content of its config.json.
            name: of that file, for the message.

        Raises:
            UserError: it records none, or not in this form.
        """
        match config.get("data"):
            case {"loader": str(loader), "arguments": dict(arguments)}:
                return cls(loader, arguments)
        raise UserError(f"{name} does not record where its rows came from ('data'); run it again")


class Run:
    """A run folder, new or resumed.

    Args:
        folder: where to write; made where it is not there.
        config: all arguments of the run. A folder that holds a run already is resumed where its
            arguments are the same, and refused where not.
        may_differ: arguments that change no result, and so may differ on resume.
        facts: more to record that does not affect whether it can resume (the model's device).
        data: where the rows come from.

    Raises:
        UserError: the folder holds a run with other arguments (the message names them) or a damaged file,
            cannot be written, or is held by another process.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Any],
        may_differ: Sequence[str] = ("output_dir", "run_name", "batch_size"),
        facts: Mapping[str, Any] | None = None,
        data: DataSource | None = None,
    ):
        self.folder = Path(folder)
        arguments = plain(config)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
        if (self.folder / "config.json").exists():
            self._check_same(arguments, may_differ)
            for name in ("metrics.jsonl", "completions.jsonl"):  # before anything is appended
                _cut_torn_line(self.folder / name)
            self.predictions()
        else:
            recorded = {"arguments": arguments} | ({"data": data.record()} if data else {})
            disk.write_json(self.folder / "config.json", recorded | environment() | dict(facts or {}))
        self._columns: list[str] | None = None

    def _check_same(self, arguments: dict, may_differ: Sequence[str]) -> None:
        config = self._read_json("config.json")
        if not isinstance(config.get("arguments"), dict):
            path = self.folder / "config.json"
            raise UserError(f"{path} is damaged (no 'arguments'); delete the folder to start again")
        if changed := differences(config["arguments"], arguments, may_differ):
            raise UserError(
                f"{self.folder} holds a run with other arguments ({'; '.join(changed)}); "
                "use another --output_dir or --run_name, or delete the folder"
            )
        if "processes" in config["arguments"]:
            (_, before), (_, now) = _per_step(config["arguments"]), _per_step(arguments)
            if before != now:
                _say(f"prompts per step: {now}, not {before}; results agree up to rounding, dropout apart")
        before, now = [config, *config.get("resumed", [])][-1], environment()
        if changed := _changed_environment(before, now):
            _say(f"resuming what was made with {changed}: results may differ in their last digits")
            resumed = [*config.get("resumed", []), now]
            disk.write_json(self.folder / "config.json", config | {"resumed": resumed})

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_lock": None}  # other processes get the paths, this one keeps the folder

    # ---- predictions

    def predictions(self) -> list[dict]:
        """The rows written so far; a torn last line is cut off the file."""
        return read_lines(self.folder / "predictions.jsonl")

    def add_predictions(self, records: Sequence[Mapping]) -> None:
        """Append rows; they are on the disk when this returns."""
        self._append("predictions.jsonl", _jsonl(records), synced=True)

    def replace_predictions(self, records: Sequence[Mapping]) -> None:
        """Write predictions.jsonl with these rows alone."""
        disk.write_text(self.folder / "predictions.jsonl", _jsonl(records))

    # ---- metrics

    def log(self, step: int, **metrics: float) -> None:
        """Append a row to metrics.jsonl and metrics.csv; a new metric adds a column."""
        row = {"step": step, **metrics}
        self._append("metrics.jsonl", json.dumps(row) + "\n")
        if self._columns is None or not row.keys() <= set(self._columns):
            self._write_metrics_table(self.metrics())
        else:
            self._append("metrics.csv", _csv([row], self._columns, header=False))

    def metrics(self) -> list[dict]:
        """The rows logged so far; a torn last line is cut off the file."""
        return read_lines(self.folder / "metrics.jsonl")

    def add_completions(self, rows: Sequence[Mapping]) -> None:
        """Append samples of completions in training (step, prompt, completions, rewards, ...)."""
        self._append("completions.jsonl", _jsonl(rows))

    def rewind(self, step: int, rows: Sequence[Mapping]) -> None:
        """Forget what was logged after `step`, where training resumes.

        Args:
            rows: the metrics up to that step, as the checkpoint holds them.
        """
        _, damaged = _readable(self.folder / "metrics.jsonl")
        completions, more = _readable(self.folder / "completions.jsonl")
        if damaged or more:
            _say(
                f"{self.folder}: damaged lines (metrics.jsonl {damaged}, completions.jsonl {more}); "
                f"metrics up to "
                f"step {step} are the checkpoint's, damaged completions are left out"
            )
        disk.write_text(self.folder / "metrics.jsonl", _jsonl(rows))
        self._write_metrics_table(rows)
        if (self.folder / "completions.jsonl").exists():
            kept = [row for row in completions if row["step"] <= step]
            disk.write_text(self.folder / "completions.jsonl", _jsonl(kept))

    def _write_metrics_table(self, rows: Sequence[dict]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        disk.write_text(self.folder / "metrics.csv", _csv(rows, self._columns))

    # ---- summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, and summary.csv with one row per aggregate and per task."""
        disk.write_json(self.folder / "summary.json", summary)
        scores = [("aggregate", name, part) for name, part in summary["aggregates"].items()]
        for task, part in summary["tasks"].items():
            scores.append(("task", task, part))
            more = {name: score for name, score in part.items() if name.startswith("pass@")}
            scores += [(name, task, {"n": part["n"], **score}) for name, score in more.items()]
        rows = [
            {"kind": kind, "name": name, "n": part["n"], "value": part.get("value", part.get("accuracy"))}
            | {"low": part["interval"][0], "high": part["interval"][1], "chance": part.get("chance")}
            for kind, name, part in scores
        ]
        disk.write_text(
            self.folder / "summary.csv", _csv(rows, ["kind", "name", "n", "value", "low", "high", "chance"])
        )

    def summary(self) -> dict | None:
        """The summary written earlier, or None."""
        return self._read_json("summary.json") if (self.folder / "summary.json").exists() else None

    # ---- files

    def _append(self, name: str, text: str, synced: bool = False) -> None:
        path = self.folder / name
        with disk_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(text)
            if synced:
                file.flush()
                os.fsync(file.fileno())

    def _read_json(self, name: str) -> dict:
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("no JSON object")
            return content
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); delete the folder to start again") from None


def read_lines(path: Path) -> list[dict]:
    """The rows of a jsonl file; none where there is no file. A truncated last line is cut off.

    Raises:
        UserError: another line is damaged.
    """
    _cut_torn_line(path)
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number} is damaged ({error}); remove that line") from None
    return rows


def _readable(path: Path) -> tuple[list[dict], int]:
    """(the rows of a jsonl file that are whole, how many are not)."""
    rows, damaged = [], 0
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            damaged += 1
    return rows, damaged


def _cut_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            with disk_errors(path):
                os.truncate(path, complete)


def _jsonl(rows: Sequence[Mapping]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# ---- one run at a time


class _Lock:
    """A run folder's lock, held as long as any `Run` of this process has the folder.

    POSIX locks belong to a process: they end with it, however it ends, and a fork does not inherit them.
    """

    def __init__(self, folder: Path) -> None:
        self.file = (folder / ".lock").open("w")
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(
                f"another process is writing to {folder}; wait for it, or give another --output_dir"
            ) from None
        except OSError as error:
            if error.errno not in disk.NO_LOCKS:
                raise
            _say(
                f"this file system has no locks ({error.strerror}): nothing keeps a second run from writing "
                "to the same folder"
            )

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


_LOCKS: WeakValueDictionary[Path, _Lock] = WeakValueDictionary()


def _lock(folder: Path) -> _Lock:
    folder = folder.resolve()
    lock = _LOCKS.get(folder) or _Lock(folder)
    _LOCKS[folder] = lock
    return lock


# ---- arguments


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they will be read back from JSON."""
    return json.loads(json.dumps(dict(config), default=str))


# What multiplies to the prompts of a training step; `processes` is recorded among a run's arguments.
PER_STEP = ("prompts_per_device", "per_device_batch_size", "gradient_accumulation_steps", "processes")


def differences(before: Mapping, now: Mapping, may_differ: Sequence[str] = ()) -> list[str]:
    """The arguments that changed, as text; `may_differ` does not count.

    How a step's prompts are split over passes and processes changes no result, so of that only their number
    is compared. Runs of earlier versions do not say how many processes they had: there the flags must be the
    same.
    """
    changed = []
    if "processes" in before and "processes" in now:
        may_differ = (*may_differ, *PER_STEP)
        (made, factors), (wanted, others) = _per_step(before), _per_step(now)
        if made != wanted:
            again = Fraction(made * now.get("gradient_accumulation_steps", 1), wanted)
            remedy = f"--gradient_accumulation_steps {again} makes them {made}"
            if again.denominator > 1:
                remedy = f"launch {before['processes']} processes as before"
            changed = [f"prompts per step were {factors}, now {others}: {remedy}"]
    else:
        may_differ = (*may_differ, "processes")
    return changed + [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}{_pin(name, before)}"
        for name in sorted(before.keys() | now.keys())
        if name not in may_differ and _compared(name, before) != _compared(name, now)
    ]


def _compared(name: str, arguments: Mapping) -> Any:
    """An argument; a hub's data set without its revision, since its state is the commit that was read."""
    value = arguments.get(name)
    return hub.without_revision(value) if isinstance(value, str) and f"{name}_state" in arguments else value


def _pin(state: str, before: Mapping) -> str:
    """How to read the commit of a hub's data set that a run read; empty for any other argument."""
    name = state.removesuffix("_state")
    if state not in ("data_state", "eval_data_state") or not hub.on_hub(before.get(name) or ""):
        return ""
    return f" (--{name} {hub.without_revision(before[name])}@{before[state]} reads what it was)"


def _per_step(arguments: Mapping) -> tuple[int, str]:
    """(prompts per training step over all processes, how they come about)."""
    factors = {name: arguments[name] for name in PER_STEP if name in arguments}
    count = math.prod(factors.values())
    return count, f"{count} ({' x '.join(f'{name} {factor}' for name, factor in factors.items())})"


def _csv(rows: Sequence[Mapping], columns: Sequence[str], header: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# ---- what a result depends on


@cache
def environment() -> dict[str, Any]:
    """Command, git commit and whether files differ from it, versions of Python and libraries, device."""
    import torch

    from spatialvlm import devices

    device = torch.cuda.get_device_name() if devices.uses_cuda() else f"cpu ({platform.processor() or '?'})"
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": commit,
        "git_dirty": None if changes is None else bool(changes),
        "versions": versions,
        "device": device,
    }


def _changed_environment(before: Mapping, now: Mapping) -> str:
    """What differs between two environments, as text; empty where nothing does."""

    def described(environment: Mapping) -> dict[str, Any]:
        commit = f"{environment.get('git_commit')}{' with changes' if environment.get('git_dirty') else ''}"
        versions = environment.get("versions")
        return {"commit": commit, "device": environment.get("device"), **(versions or {})}

    old, new = described(before), described(now)
    return ", ".join(
        f"{name} {old.get(name)} (now {new[name]})" for name in new if old.get(name) != new[name]
    )


@cache
def _say(line: str) -> None:
    """Print a line once per process: a training opens a folder for each of its tests."""
    print(line, flush=True)


def _git(*arguments: str) -> str | None:
    """What git says about the package's own repository; None without git or repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def fingerprint(path: str | Path) -> str | None:
    """The state of data or weights: a file's or folder's hash, a hub id's commit in the cache, or None.

    The hash is of names, sizes and modification times, so that gigabytes cost nothing.
    """
    if not Path(path).exists():
        return hub.last_commit(path) or _cached_model(str(path))
    path = Path(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    described = [
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _cached_model(hub_id: str) -> str | None:
    from huggingface_hub import constants

    id, _, revision = hub_id.partition("@")
    folder = Path(constants.HF_HUB_CACHE, f"models--{id.replace('/', '--')}")
    commit = folder / "refs" / (revision or "main")
    if commit.is_file():
        return commit.read_text().strip()
    return revision if revision and (folder / "snapshots" / revision).is_dir() else None


def fresh_folder(folder: str | Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... without a run: training overwrites none."""
    return _numbered(Path(folder))[1]


def newest_folder(folder: str | Path) -> Path:
    """The last of folder, folder-2, folder-3, ... that holds a run; the folder itself if none does."""
    return _numbered(Path(folder))[0]


def _numbered(folder: Path) -> tuple[Path, Path]:
    """(the last with a run, the first without one) of folder, folder-2, folder-3, ..."""
    last = following = folder
    number = 1
    while (following / "config.json").exists():
        last, number = following, number + 1
        following = folder.with_name(f"{folder.name}-{number}")
    return last, following
