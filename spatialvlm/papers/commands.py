"""A study as commands of their own: several at a time, each with its share of the cores, none done twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from shlex import join

from tqdm import tqdm

from spatialvlm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """One command: it has been done where all of `marks` are there.

    Args:
        name: of its log and in messages.
        command: a script of this repository, and its flags.
        marks: files that it leaves when it is done.
    """

    name: str
    command: tuple[str, ...]
    marks: tuple[Path, ...]

    @property
    def done(self) -> bool:
        return all(mark.exists() for mark in self.marks)


def chosen(flag: str, asked: Collection[str], known: Collection[str]) -> list[str]:
    """The names of `known`, in their order, that a flag asks for: `all`, or some of them.

    Raises:
        UserError: it asks for another.
    """
    if unknown := set(asked) - {"all", *known}:
        raise UserError(f"{flag} {min(unknown)}: must be of all, {', '.join(known)}")
    return [name for name in known if {"all", name} & set(asked)]


def run(stages: Sequence[Sequence[Job]], folder: Path, workers: int) -> float:
    """Runs what has not been done, stage after stage, `workers` commands at a time; returns the seconds that
    it took, over all times that it was called for this folder.

    The folder gets `commands.txt`, `logs/` and `seconds.txt`.

    Raises:
        UserError: a command fails (the message has its last words), or `workers` is less than 1.
    """
    if workers < 1:
        raise UserError("--workers must be at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [job for stage in stages for job in stage]
    commands = "".join(f"python {join(job.command)}\n" for job in jobs)
    (folder / "commands.txt").write_text(commands.replace(f"{ROOT}/", ""))
    threads = max(1, (os.cpu_count() or 1) // workers)
    with tqdm(total=len(jobs), initial=sum(job.done for job in jobs)) as bar:
        started = time.monotonic()
        try:
            for stage in stages:
                _together([job for job in stage if not job.done], folder, workers, threads, bar)
        finally:
            with (folder / "seconds.txt").open("a") as file:
                file.write(f"{time.monotonic() - started:.0f}\n")
    return sum(float(line) for line in (folder / "seconds.txt").read_text().split())


def _together(jobs: Sequence[Job], folder: Path, workers: int, threads: int, bar: tqdm) -> None:
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(_do, job, folder, threads): job for job in jobs}
        try:
            for each in as_completed(running):
                each.result()
                bar.set_postfix_str(running[each].name, refresh=False)
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _do(job: Job, folder: Path, threads: int) -> None:
    """Runs a command; its output goes to a log. Raises UserError with the command's last words."""
    log = folder / "logs" / f"{job.name.replace('/', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / job.command[0]), *job.command[1:]]
    with log.open("a") as output:
        done = subprocess.run(
            command, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
        )
    if done.returncode:
        words = [line for line in log.read_text().replace("\r", "\n").splitlines() if line.strip()]
        raise UserError(f"{job.name} ended with code {done.returncode}: {words[-1]} (all of it in {log})")
