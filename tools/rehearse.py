"""The published commands from checkpoint to table, on stand-ins for the published files, timed and measured.

python tools/rehearse.py                     # GPU: two steps of the published sizes; CPU: of smaller ones
python tools/rehearse.py --commands grpo     # some of grpo, sft, eval_cvbench, eval_sat
python tools/rehearse.py --shape small       # a small model with the published vocabulary: two minutes

Makes a random PaliGemma 2 3B (6 GB) and files of SAT and CV-Bench in their published layout, then runs the
scripts themselves with --profile paper. Training is stopped after its first checkpoint, as a scheduler stops
it (SIGTERM), and resumed. Prints time and memory of each command, its memory beside the plan of
tools/memory.py for the same flags, and what was changed from the published flags and why; rehearsal.json has
the same.

Memory is what the command takes beyond its state before the model is loaded: on a GPU torch's peak of
allocated memory, on a CPU the process's pages, mapped weights among them (Linux alone tells; what is freed is
given back at once, where glibc would keep up to 2 GB of it). All of it takes 7 GB of disk, and on a CPU 13 GB
of memory and some 12 minutes of 2 cores. The stand-ins stay in --folder for the next time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from spatialvlm import cli  # before transformers, whose notices it hides

# isort: split
import memory
import psutil
import stand_ins
import torch
from transformers import PaliGemmaProcessor

from spatialvlm import disk, run_folder
from spatialvlm.errors import UserError
from spatialvlm.evaluation.tables import text_table
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {
    "grpo": "model/pali_sat_grpo.py",
    "sft": "model/pali_sat_sft.py",
    "eval_cvbench": "eval_paligemma_cvbench.py",
    "eval_sat": "eval_paligemma_sat.py",
}
CONFIGS = {"grpo": "pali_sat_grpo_v2.yaml", "sft": "pali_sat_sft.yaml"}
DISK = {"paligemma2-3b": 7.5e9, "small": 0.3e9}  # bytes of the stand-ins, run folders and checkpoints
TWO_STEPS = {"max_steps": 2, "save_steps": 1, "log_completions_steps": 1}
ON_CPU = {  # in place of the published sizes, so that a step takes minutes
    "grpo": {
        "dtype": "bfloat16",
        "train_limit": 16,
        "prompts_per_device": 2,
        "gradient_accumulation_steps": 1,
        "num_generations": 2,
        "max_completion_length": 4,
        "max_resamples": 2,
        "eval_limit": 2,
        "eval_batch_size": 2,
    },
    "sft": {
        "dtype": "bfloat16",
        "train_limit": 16,
        "per_device_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "eval_limit": 2,
        "eval_batch_size": 2,
    },
    "eval_cvbench": {"dtype": "bfloat16", "limit": 4, "batch_size": 4},
    "eval_sat": {"dtype": "bfloat16", "limit": 1, "batch_size": 2},
}
ON_GPU = {
    "grpo": {"train_limit": 1000, "eval_limit": 64},
    "sft": {"train_limit": 1000, "eval_limit": 64},
    "eval_cvbench": {"limit": 256},
    "eval_sat": {"limit": 64},
}
WHY = (
    "the number of steps, of training rows and of test questions, to end soon; on a CPU also dtype, prompts, "
    "completions, tokens and batches, because a published step would take an hour there"
)
READY = "profile: "  # a script prints it just before the model is loaded


@dataclass
class Args:
    shape: stand_ins.Shape = field(
        default="paligemma2-3b", metadata={"help": "small = narrow layers, for trying this tool out"}
    )
    commands: list[str] = field(default_factory=lambda: list(SCRIPTS), metadata={"help": "which to run"})
    folder: str = field(
        default="results/rehearsal", metadata={"help": "for the stand-ins, the runs and rehearsal.json"}
    )

    def __post_init__(self) -> None:
        if unknown := [name for name in self.commands if name not in SCRIPTS]:
            raise UserError(f"--commands {unknown[0]}: must be of {', '.join(SCRIPTS)}")


# ---- the stand-ins


def make_files(folder: Path, shape: stand_ins.Shape) -> None:
    """Make what is not there yet."""
    free, needed = shutil.disk_usage(_existing(folder)).free / 1e9, DISK[shape] / 1e9
    if free < needed and not (folder / f"checkpoint-{shape}").is_dir():
        raise UserError(f"{folder}: {free:.1f} GB are free, {needed:.1f} are needed; give another --folder")
    rows = 2000 if shape == "paligemma2-3b" else 40
    parts = {
        "checkpoint": lambda path: stand_ins.write_checkpoint(path, shape),
        "SAT": lambda path: stand_ins.write_sat(path, rows),
        "CV-Bench": lambda path: stand_ins.write_cvbench(path, rows // 10),
    }
    for name, write in parts.items():
        path = folder / f"{name}-{shape}"
        if not path.is_dir():
            print(f"making {path}", flush=True)
            with disk.whole(path) as aside:
                write(aside)


def _existing(path: Path) -> Path:
    return next(each for each in (path.resolve(), *path.resolve().parents) if each.exists())


# ---- one command


def _words(flags: Mapping[str, object]) -> list[str]:
    return [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]


def flags_of(name: str, folder: Path, shape: str, on_gpu: bool) -> dict[str, object]:
    """The flags of a command: where its files are, and what differs from the published ones."""
    data, tests = (folder / f"{each}-{shape}" for each in ("SAT", "CV-Bench"))
    files = {"profile": "paper", "model": folder / f"checkpoint-{shape}"}
    if name in CONFIGS:
        files |= {"data": data, "eval_data": tests}
    else:
        files |= {"data": tests if name == "eval_cvbench" else data}
    sizes = (ON_GPU if on_gpu else ON_CPU)[name] | (TWO_STEPS if name in CONFIGS else {})
    return files | sizes | {"output_dir": folder / "runs" / name}


def run(
    script: str, words: Sequence[str], log: Path, marks: Mapping[str, tuple[Path, int]], stop: Path | None
) -> dict:
    """Run a script, and measure it from outside.

    Args:
        marks: files and how many lines they are waited for to have, by what that means.
        stop: send it SIGTERM once this folder is there.

    Returns:
        `seconds` in all, `code`, the marks' seconds (None: never), and on Linux `memory` and `memory_before`:
        the most bytes that it held, and those when it said that it loads the model.
    """
    start, seen, before, now, most = time.monotonic(), {}, None, None, None
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, script, *words],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # or glibc keeps what is freed
        )
        while process.poll() is None:
            now, most = _resident(process.pid) or (now, most)
            if before is None and READY in log.read_text(errors="replace"):
                before = now
            for name, (path, lines) in marks.items():
                if name not in seen and path.is_file() and path.read_bytes().count(b"\n") >= lines:
                    seen[name] = time.monotonic() - start
            if stop is not None and stop.is_dir():
                process.terminate()
                stop = None
            time.sleep(0.05)
    found = {"seconds": time.monotonic() - start, "code": process.returncode}
    found |= {name: seen.get(name) for name in marks}
    return found | {"memory": most, "memory_before": before}


def _resident(pid: int) -> tuple[int, int] | None:
    """Bytes that a process holds now, and has held at most; None where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    kilobytes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
    return (int(kilobytes["VmRSS"]) * 1024, int(kilobytes["VmHWM"]) * 1024) if kilobytes else None


def rehearse(name: str, folder: Path, shape: str, on_gpu: bool) -> list[dict]:
    """Run a command to its end, a training in two parts, and return what each part took."""
    given = flags_of(name, folder, shape, on_gpu)
    words = _words(given)
    out = Path(given["output_dir"])
    disk.remove(out)
    metrics, predictions = out / "metrics.jsonl", "predictions.jsonl"
    parts = [("", words, {"first answers": (out / predictions, 1)}, None)]
    if name in CONFIGS:
        tested = {part: (out / part / predictions, 1) for part in ("base", "trained")}
        first = {"first answers": tested["base"], "first step": (metrics, 1)}
        second = {"first answers": tested["trained"], "first step": (metrics, 2)}
        parts = [("", words, first, out / "checkpoint-1"), (" --resume", [*words, "--resume"], second, None)]
    planned = plan(name, given, on_gpu)
    found = []
    for more, given_now, marks, stop in parts:
        log = folder / f"{name}{more.replace(' --', '-')}.log"
        print(f"\n$ python {SCRIPTS[name]} {' '.join(given_now)}", flush=True)
        before = _peaks(out)
        part = run(SCRIPTS[name], given_now, log, marks, stop)
        if part["code"] != (-signal.SIGTERM if stop else 0):
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"{name}{more} ended with code {part['code']}; {log} ends with: {last}")
        print(f"{part['seconds']:.0f} s; {log}", flush=True)
        if on_gpu:
            peaks = [peak for path, peak in _peaks(out).items() if path not in before]
            # What was stopped has written none since its first step.
            part |= {"memory": None if stop else max(peaks), "memory_before": 0}
        if part["memory"] and part["memory_before"] is not None:
            part["taken"] = part["memory"] - part["memory_before"]
        part |= {"command": name + more, "flags": given_now, "planned": planned}
        part["steps"] = run_folder.read_lines(metrics)[-1:]
        found.append(part)
    return found


def _peaks(out: Path) -> dict[Path, int]:
    """The peak in each summary of a run: of all that its process did until then."""
    return {path: json.loads(path.read_text())["peak_memory_bytes"] for path in out.rglob("summary.json")}


# ---- the plan


def plan(name: str, given: Mapping[str, object], on_gpu: bool) -> int:
    """Bytes at the highest moment of a command, by tools/memory.py."""
    flags = {"config": loading.RUNS / CONFIGS[name]} if name in CONFIGS else {}
    dtype = loading.resolve_dtype("auto", torch.device("cuda" if on_gpu else "cpu"))
    flags |= {"dtype": str(dtype).removeprefix("torch.")} | dict(given)
    flags |= {"device": "cuda" if on_gpu else "cpu", "text_tokens": _text_tokens(given)}
    flags |= {"answer_tokens": 2}  # of SFT: yes or no, and the end
    made = memory.plan(memory.parsed(SCRIPTS[name], *_words(flags)))
    return made.highest()[1]


def _text_tokens(given: Mapping[str, object]) -> int:
    """Tokens of the longest prompt besides those of its images."""
    processor = PaliGemmaProcessor.from_pretrained(given["model"])
    sets = [(given["data"], given.get("train_limit") or given.get("limit"))]
    sets += [(given["eval_data"], given["eval_limit"])] if "eval_data" in given else []
    prompts = [
        processor.tokenizer.bos_token + example.prompt + "\n" for set in sets for example in _load(*set)
    ]
    return max(map(len, processor.tokenizer(prompts)["input_ids"]))


def _load(folder: Path, limit: int) -> Sequence[Example]:
    if folder.name.startswith("SAT"):
        return sat.load(folder, "train", limit, max_images=2)
    return cvbench.load(folder, limit=limit)


# ---- the report


def table(parts: Sequence[Mapping]) -> str:
    """Format seconds and gigabytes of each command, beside the plan."""

    def seconds(part: Mapping, name: str) -> str:
        return f"{part[name]:.0f}" if part.get(name) is not None else "-"

    header = ("command", "seconds", "to first answers", "to first step", "of that the step")
    rows = [(*header, "GB taken", "planned", "taken / planned")]
    for part in parts:
        times = [seconds(part, name) for name in ("seconds", "first answers", "first step")]
        times.append(seconds(part["steps"][0], "seconds") if part["steps"] else "-")
        taken = part.get("taken")
        sizes = [f"{taken / 1e9:.2f}" if taken else "-", f"{part['planned'] / 1e9:.2f}"]
        rows.append((part["command"], *times, *sizes, f"{taken / part['planned']:.2f}" if taken else "-"))
    return text_table(rows)


def main(args: Args) -> list[dict]:
    folder = Path(args.folder).resolve()
    on_gpu = torch.cuda.is_available()
    make_files(folder, args.shape)
    facts = {"load_before": os.getloadavg(), "cores": os.cpu_count(), "memory": psutil.virtual_memory().total}
    parts = [part for name in args.commands for part in rehearse(name, folder, args.shape, on_gpu)]
    changed = {name: (ON_GPU if on_gpu else ON_CPU)[name] for name in args.commands}
    print(f"\n{table(parts)}\nload {facts['load_before'][0]:.1f} to {os.getloadavg()[0]:.1f}")
    print(f"changed: {WHY}")
    report = {"arguments": asdict(args), **run_folder.environment(), **facts, "load_after": os.getloadavg()}
    disk.write_json(folder / "rehearsal.json", report | {"changed": changed, "why": WHY, "commands": parts})
    print(f"written to {folder / 'rehearsal.json'}; the stand-ins stay in {folder} for the next time")
    return parts


if __name__ == "__main__":
    cli.run(main, Args)
