"""A study as commands of their own: several at a time, none run twice, its tables in RESULTS.md."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join

from tqdm import tqdm

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.models import loading
from spatialvlm.reporting.comparison import replace_section

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class StudyArgs:
    """Where a study's runs and tables go; the subclass has what is trained."""

    workers: int = field(
        default=2, metadata={"help": "commands at a time; the CPU cores are divided among them"}
    )
    output_dir: str = field(default="results", metadata={"help": "folder of the study's runs"})
    results: str = field(
        default=str(ROOT / "RESULTS.md"), metadata={"help": "Markdown file that gets the tables"}
    )


@dataclass(frozen=True)
class Arm:
    """One arm of a study: a training script with a configuration.

    Args:
        folder: of its run, within the study's.
        script: path within the repository.
        config: name of a file in runs/.
        flags: changes to the configuration.
    """

    folder: str
    script: str
    config: str
    flags: tuple[str, ...] = ()


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


def training(
    arm: Arm, path: Path, profile: str, seed: int, flags: Sequence[str], marks: Sequence[str]
) -> Job:
    """Return the job that trains an arm at a seed, or resumes it, into the run folder `path`."""
    config = str(loading.config_for(arm.config, profile))
    command = (arm.script, "--config", config, "--seed", str(seed), *arm.flags, *flags)
    command += ("--output_dir", str(path), "--resume")
    return Job(path.name, command, tuple(path / mark for mark in marks))


def as_flags(**values: int | None) -> list[str]:
    """Return the values that are given as flags."""
    return [word for name, value in values.items() if value for word in (f"--{name}", str(value))]


def select(flag: str, names: Collection[str], known: Collection[str]) -> list[str]:
    """Return the names of `known`, in their order, that a flag lists; `all` stands for every one.

    Raises:
        UserError: an unknown name.
    """
    if unknown := set(names) - {"all", *known}:
        raise UserError(f"{flag} {min(unknown)}: must be all, or some of {', '.join(known)}")
    return [name for name in known if {"all", name} & set(names)]


def run(stages: Sequence[Sequence[Job]], folder: Path, workers: int) -> float:
    """Run the jobs that are not done, stage after stage, `workers` at a time.

    The folder gets `commands.txt`, `logs/` and `seconds.txt`.

    Returns:
        The seconds that this and all earlier calls for the folder took.

    Raises:
        UserError: a command fails (the message has its last line), or `workers` is less than 1.
    """
    require_at_least(1, workers=workers)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [job for stage in stages for job in stage]
    commands = "".join(f"python {join(job.command)}\n" for job in jobs)
    (folder / "commands.txt").write_text(commands.replace(f"{ROOT}/", ""))
    threads = max(1, (os.cpu_count() or 1) // workers)
    with tqdm(total=len(jobs), initial=sum(job.done for job in jobs)) as bar:
        started = time.monotonic()
        try:
            for stage in stages:
                _run_stage([job for job in stage if not job.done], folder, workers, threads, bar)
        finally:
            with (folder / "seconds.txt").open("a") as file:
                file.write(f"{time.monotonic() - started:.0f}\n")
    return sum(float(line) for line in (folder / "seconds.txt").read_text().split())


def _run_stage(jobs: Sequence[Job], folder: Path, workers: int, threads: int, bar: tqdm) -> None:
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(_run_job, job, folder, threads): job for job in jobs}
        try:
            for each in as_completed(running):
                each.result()
                bar.set_postfix_str(running[each].name, refresh=False)
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


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
