"""Scripts as a user runs them, each in a process of its own, which may die by SIGKILL at a chosen point.

A process is forked from a server that has the libraries imported, which takes seconds; what is ours it
imports itself, from another folder, with the paths that `python script.py` has.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 600  # seconds that a script may take at most, on a very busy machine
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@cache
def _server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["libraries"])
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), before]
    )  # or it finds no `libraries`
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ["PYTHONPATH"] = before
    return context


def _child(script: str, flags: list[str], folder: str, logs: tuple[str, str], environment: Mapping, prepare):
    for number, log in zip((1, 2), logs, strict=True):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.update(environment)
    import libraries
    import torch

    torch.set_num_threads(1)  # OMP_NUM_THREADS comes too late for a library that is imported already
    sys.path[:] = [os.path.dirname(script), *libraries.PLAIN]
    sys.path += filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [script, *flags]
    if prepare:
        prepare()
    runpy.run_path(script, run_name="__main__")


def start(script: str, *flags: object, folder: Path, logs=None, environment: Mapping = {}, prepare=None):  # noqa: B006
    """Starts `python <script> <flags>` in another folder; returns the process.

    Args:
        script: A path in the repository.
        logs: Files that stdout and stderr are appended to.
        environment: Variables on top of this process's.
        prepare: Called in the process before the script.
    """
    path = str(ROOT / script)
    logs = logs or (os.devnull, os.devnull)
    arguments = (
        path,
        [*map(str, flags)],
        str(folder),
        tuple(map(str, logs)),
        ENVIRONMENT | environment,
        prepare,
    )
    process = _server().Process(target=_child, args=arguments)
    process.start()
    return process


def together(script: str, flags: tuple, folder: Path, environments: list[dict]) -> SimpleNamespace:
    """Exit codes, stdout and stderr of a process for each environment, all at work at once."""
    with tempfile.TemporaryDirectory() as kept:
        logs = (Path(kept, "stdout"), Path(kept, "stderr"))
        processes = [
            start(script, *flags, folder=folder, logs=logs, environment=each) for each in environments
        ]
        for process in processes:
            process.join(LIMIT)
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        out, err = (log.read_text() for log in logs)
    code = -signal.SIGKILL if None in codes else next(filter(None, codes), 0)
    return SimpleNamespace(codes=codes, returncode=code, stdout=out, stderr=err)


def run(script: str, *flags: object, folder: Path) -> str:
    """stdout of `python <script> <flags>` in another folder; the exit code must be 0."""
    done = together(script, flags, folder, [{}])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_two(script: str, *flags: object, folder: Path, paths: str = "") -> SimpleNamespace:
    """Return code, stdout and stderr of two processes, each with what torchrun tells it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    launch |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    ranks = [launch | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    return together(script, flags, folder, ranks)


def launch(script: str, *flags: object, folder: Path) -> subprocess.CompletedProcess:
    """`accelerate launch --num_processes 2 --cpu`, as README has it, in fresh interpreters."""
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu", str(ROOT / script)]
    return subprocess.run(
        [sys.executable, *launcher, *map(str, flags)],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def run_fresh(script: str, *flags: object, folder: Path, environment: Mapping = {}) -> str:  # noqa: B006
    """As `run`, in a fresh interpreter; `script` may be the dotted name of a module."""
    name = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
    done = subprocess.run(
        [sys.executable, *name, *map(str, flags)],
        cwd=folder,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


Point = tuple[str, str, int]  # audit event, part of a path, how many times it may pass before it kills


class KillAt:
    """For `start(prepare=...)`: kills the process when it opens or renames some file."""

    def __init__(self, event: str, part: str, passes: int) -> None:
        self.event, self.part, self.passes = event, part, passes

    def __call__(self) -> None:
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple) -> None:
        if event != self.event or not any(self.part in str(argument) for argument in arguments[:2]):
            return
        if event == "open" and "r" in str(arguments[1]):  # only what is written
            return
        if self.passes:
            self.passes -= 1
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def finish(process, folder: Path) -> None:
    """Waits for a process that logs to `folder`; its exit code must be 0."""
    process.join(LIMIT)
    assert process.exitcode == 0, (folder / "log").read_text()[-2000:]
