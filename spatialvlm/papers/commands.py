"""A study as commands of their own: several at a time, none run twice, its tables in RESULTS.md."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from shlex import join

from tqdm import tqdm

from spatialvlm.errors import UserError
from spatialvlm.reporting.comparison import replace_section

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """One command; it is done when all of `marks` exist.

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


def run(jobs: Sequence[Job], folder: Path, workers: int) -> float:
    """Run the jobs that are not done, `workers` at a time.

    The folder gets `commands.txt`, `logs/` and `seconds.txt`.

    Returns:
        The seconds that this and all earlier calls for the folder took.

    Raises:
        UserError: a command fails; the message has its last line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"python {join(job.command)}\n" for job in jobs)
    (folder / "commands.txt").write_text(lines.replace(f"{ROOT}/", ""))
    threads = max(1, (os.cpu_count() or 1) // workers)
    left = [job for job in jobs if not job.done]
    started = time.monotonic()
    try:
        with tqdm(total=len(jobs), initial=len(jobs) - len(left)) as bar, ThreadPoolExecutor(workers) as pool:
            running = {pool.submit(_run_job, job, folder, threads): job for job in left}
            try:
                for each in as_completed(running):
                    each.result()
                    bar.set_postfix_str(running[each].name, refresh=False)
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        with (folder / "seconds.txt").open("a") as file:
            file.write(f"{time.monotonic() - started:.0f}\n")
    return sum(float(line) for line in (folder / "seconds.txt").read_text().split())


def _run_job(job: Job, folder: Path, threads: int) -> None:
    log = folder / "logs" / f"{job.name.replace('/', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / job.command[0]), *job.command[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("a") as output:
        done = subprocess.run(command, stdout=output, stderr=output, env=environment)
    if done.returncode:
        lines = [line for line in log.read_text().replace("\r", "\n").splitlines() if line.strip()]
        raise UserError(f"{job.name} ended with code {done.returncode}: {lines[-1]} (whole log: {log})")


def write_section(path: str, name: str, section: str) -> None:
    """Replace section `name` of a Markdown file, or append it; print it too."""
    results = Path(path)
    before = results.read_text(encoding="utf-8") if results.is_file() else "# Results\n"
    results.write_text(replace_section(before, name, section), encoding="utf-8")
    print(f"{section}\n\nwritten to {results}")
