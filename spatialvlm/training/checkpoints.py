"""Checkpoints that are whole or not there at all: written aside, hashed, renamed.

    checkpoint-40/   adapter_config.json, adapter_model.safetensors   the adapter, as PEFT loads it
                     optimizer.safetensors, trainer.json              moments, schedule, `steps` and `drawn`
                     metrics.jsonl                                    the rows logged up to this step
                     manifest.json                                    step, arguments, SHA-256 of each file

All that is random in training follows from the seed and the counters in trainer.json (`drawn` is the place in
the data), so they stand for the generators' states, and a run resumed from a checkpoint ends as one that was
never stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save

from spatialvlm import distributed
from spatialvlm.disk import disk_errors, remove, whole
from spatialvlm.errors import UserError
from spatialvlm.run_folder import Run, differences, plain, read_lines

PREFIX = "checkpoint-"


@dataclass
class Checkpoints:
    """The checkpoints of one run, in its folder.

    Args:
        run: the run's folder, of the main process; None on the others, which write nothing.
        arguments: all arguments of the run; resuming with others is refused.
        every: steps from one checkpoint to the next.
        keep: number of the newest to keep.
        may_differ: arguments that change no result.
    """

    run: Run | None
    arguments: Mapping[str, Any]
    every: int = 50
    keep: int = 2
    may_differ: Sequence[str] = ()

    def due(self, step: int, last: int) -> bool:
        """Whether `step` of `last` ends with a checkpoint."""
        return step % self.every == 0 or step == last

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Write checkpoint-`step` by `write`, whole or not at all; the oldest beyond `keep` go.

        Does nothing without a run (other processes than the main one).

        Raises:
            UserError: no space, or no permission; what was there before is untouched.
        """
        if self.run is None:
            return
        target = self.run.folder / f"{PREFIX}{step}"
        with disk_errors(target), whole(target) as aside:
            aside.mkdir()
            write(aside)
            rows = [json.dumps(row) + "\n" for row in self.run.metrics() if row["step"] <= step]
            (aside / "metrics.jsonl").write_text("".join(rows), encoding="utf-8")
            files = {file.name: _digest(file) for file in sorted(aside.iterdir())}
            manifest = {"step": step, "arguments": plain(self.arguments), "files": files}
            (aside / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for old in newest_first(self.run.folder)[self.keep :]:
            remove(old)

    def newest(self, path: str | Path) -> Path | None:
        """The newest whole checkpoint in a run's folder, or `path` itself if it is a checkpoint.

        Prints which ones it passes over. None if there is none yet. The same on every process.

        Raises:
            UserError: none that is there is whole, or it was made with other arguments (they are named).
        """
        return distributed.on_main(lambda: self._newest(Path(path)))

    def _newest(self, path: Path) -> Path | None:
        candidates = [path] if path.name.startswith(PREFIX) else newest_first(path)
        for candidate in candidates:
            if damage := _damage(candidate):
                print(f"{candidate} is damaged ({damage}); looking for the one before", flush=True)
                continue
            made_with = json.loads((candidate / "manifest.json").read_text(encoding="utf-8"))["arguments"]
            if changed := differences(made_with, plain(self.arguments), self.may_differ):
                raise UserError(
                    f"{candidate} was made with other arguments ({'; '.join(changed)}); "
                    "resume with the same ones, or start a new run without --resume"
                )
            return candidate
        if candidates:
            raise UserError(f"no checkpoint in {path} is whole; delete them to train from the start")
        return None

    def restore(self, checkpoint: Path | None) -> int:
        """Restore the run's metrics as of the checkpoint (none without one), and return its step."""
        step = int(checkpoint.name.removeprefix(PREFIX)) if checkpoint else 0
        if self.run is not None:
            for left in self.run.folder.glob(f".{PREFIX}*"):
                shutil.rmtree(left)  # left by an interrupted save
            rows = read_lines(checkpoint / "metrics.jsonl") if checkpoint else []
            self.run.rewind(step, rows)
        return step


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, the newest first; whole or not."""
    steps = {path: path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*")}
    return sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda p: -int(steps[p]))


# ---- the state of a training


def save_state(folder: Path, model, optimizer, scheduler, more: Mapping[str, Any]) -> None:
    """Write adapter, optimizer and scheduler, and `more` (numbers and texts), as safetensors and JSON."""
    adapter = {name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    _write(folder / "adapter_model.safetensors", save(adapter, {"format": "pt"}))
    model.peft_config["default"].save_pretrained(str(folder))
    state = optimizer.state_dict()
    moments = {
        f"{index}.{name}": value.contiguous()
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    _write(folder / "optimizer.safetensors", save(moments))
    content = {"param_groups": state["param_groups"], "scheduler": scheduler.state_dict(), **more}
    _write(folder / "trainer.json", json.dumps(content, indent=2).encode())


def load_state(folder: Path, model, optimizer, scheduler) -> dict[str, Any]:
    """Restore what `save_state` wrote, bit for bit, and return its `more`.

    Raises:
        UserError: the adapter's weights have other names than the model's; other libraries named them.
    """
    weights = load_file(folder / "adapter_model.safetensors")
    if homeless := set_peft_model_state_dict(model, weights).unexpected_keys:
        raise UserError(
            f"{folder}: {len(homeless)} of its {len(weights)} weights have no place in the model, first "
            f"{homeless[0]}; resume with the libraries of config.json"
        )
    content = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": content.pop("param_groups")})
    scheduler.load_state_dict(content.pop("scheduler"))
    return content


# ---- files


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(
        content
    )  # through Python: a full disk is an OSError, which safetensors' own writer hides


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if all are as written."""
    try:
        files = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return "it has no manifest.json"
    except (ValueError, KeyError, TypeError):
        return "manifest.json cannot be read"
    for name, digest in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if _digest(checkpoint / name) != digest:
            return f"{name} is not as it was written"
    return None
