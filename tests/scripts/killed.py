"""A script in a process that dies by SIGKILL at a chosen point: when it opens or renames some file."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

# What scripts need, for a fork server to import once. It does not know this folder, and would pass over this
# module itself without a word.
LIBRARIES = [
    "datasets",
    "matplotlib.figure",
    "torch",
    "trl",
    "peft.tuners.lora",
    "spatialvlm.tasks.cvbench.data",
    "spatialvlm.papers.sat",
    "spatialvlm.training.grpo",
    "spatialvlm.training.sft",
]
Point = tuple[str, str, int]  # audit event, part of a path, how many times it may pass before it kills


def run(script: Path, flags: list[str], log: Path, point: Point | None = None) -> None:
    """`python script flags`, as a user would; what it prints goes to `log`."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1), os.dup2(output, 2)
    import torch

    torch.set_num_threads(1)
    if point:
        sys.addaudithook(_Killer(*point))
    sys.argv = [str(script), *flags]
    runpy.run_path(str(script), run_name="__main__")


def server():
    """Forks processes from one that has the libraries imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


def finish(process, folder: Path) -> None:
    process.join(300)
    assert process.exitcode == 0, (folder / "log").read_text()[-2000:]


class _Killer:
    def __init__(self, event: str, part: str, passes: int) -> None:
        self.event, self.part, self.passes = event, part, passes

    def __call__(self, event: str, arguments: tuple) -> None:
        if event != self.event or not any(self.part in str(argument) for argument in arguments[:2]):
            return
        if event == "open" and "r" in str(arguments[1]):  # only what is written
            return
        if self.passes:
            self.passes -= 1
        else:
            os.kill(os.getpid(), signal.SIGKILL)
