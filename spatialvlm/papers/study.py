"""A paper's study: arms trained over several seeds, a run folder each, and the scores that these hold.

A run has two parts per test, with the questions' own images and with those of other questions: `trained`
and `shuffled`, and, where the arm has a `base`, the same of the model before training. Tests beside the first
have a suffix (`trained-ood`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation.metrics import Record
from spatialvlm.models import loading
from spatialvlm.papers import commands
from spatialvlm.papers.commands import ROOT, Job
from spatialvlm.reporting import comparison
from spatialvlm.reporting.comparison import Claim, Questions, Scores
from spatialvlm.run_folder import read_lines

BEFORE, AFTER = ("base", "base-shuffled"), ("trained", "shuffled")
PREDICTIONS, SUMMARY = "predictions.jsonl", "summary.json"


@dataclass
class StudyArgs:
    """What a study trains, and where its runs and tables go."""

    profile: Literal["auto", "embedded", "paper"] = field(
        default="embedded", metadata={"help": "embedded model and rendered images, or as published"}
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "one run of each arm per seed"})
    ablations: list[str] = field(default_factory=list, metadata={"help": "further arms: all, or some"})
    max_steps: int | None = field(default=None, metadata={"help": "instead of the configurations' steps"})
    train_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations' training questions"}
    )
    eval_limit: int | None = field(
        default=None, metadata={"help": "instead of the configurations' test questions"}
    )
    workers: int = field(
        default=2, metadata={"help": "commands at a time; the CPU cores are divided among them"}
    )
    output_dir: str = field(default="results", metadata={"help": "folder of the study's runs"})
    results: str = field(
        default=str(ROOT / "RESULTS.md"), metadata={"help": "Markdown file that gets the tables"}
    )

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        sizes = {name: getattr(self, name) for name in ("max_steps", "train_limit", "eval_limit")}
        require_at_least(1, workers=self.workers, **sizes)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError("--seeds needs numbers, each once")


@dataclass(frozen=True)
class Arm:
    """One arm of a study: a training script with a configuration.

    Args:
        folder: the first part of its runs' names.
        script: path within the repository.
        config: name of a file in runs/.
        flags: changes to the configuration.
        base: name in tables of the model that it starts from, if its runs test that too.
    """

    folder: str
    script: str
    config: str
    flags: tuple[str, ...] = ()
    base: str = ""


@dataclass(frozen=True)
class Study:
    """Arms, by name, at some seeds, with the suffixes of their tests."""

    folder: Path
    arms: Mapping[str, Arm]
    seeds: Sequence[int]
    tests: Sequence[str] = ("",)

    @classmethod
    def of(
        cls,
        args: StudyArgs,
        arms: Mapping[str, Arm],
        further: Mapping[str, Arm],
        tests: Sequence[str] = ("",),
    ) -> Study:
        """The arms, and further ones that `--ablations` names or that are trained already.

        Raises:
            UserError: an unknown name, or another invalid argument.
        """
        args.check()
        names = {arm.folder for arm in further.values()}
        if unknown := set(args.ablations) - {"all", *names}:
            raise UserError(f"--ablations {min(unknown)}: must be all, or some of {', '.join(sorted(names))}")
        everything = cls(Path(args.output_dir), {**arms, **further}, args.seeds, tests)
        chosen = {
            name: arm
            for name, arm in everything.arms.items()
            if name in arms or {"all", arm.folder} & set(args.ablations) or everything.complete(name)
        }
        return cls(everything.folder, chosen, args.seeds, tests)

    @classmethod
    def found(
        cls,
        folder: Path,
        arms: Mapping[str, Arm],
        further: Mapping[str, Arm],
        tests: Sequence[str] = ("",),
    ) -> Study | None:
        """The study in a folder, with further arms as far as they are trained; None if it is not finished."""
        first = next(iter(arms.values())).folder
        seeds = sorted(int(path.name.rpartition("seed")[2]) for path in folder.glob(f"{first}-seed*"))
        everything = cls(folder, {**arms, **further}, seeds, tests)
        done = {name: arm for name, arm in everything.arms.items() if everything.complete(name)}
        ended = (folder / "seconds.txt").is_file()  # written last
        return cls(folder, done, seeds, tests) if seeds and ended and arms.keys() <= done.keys() else None

    def runs(self, name: str) -> list[Path]:
        return [self.folder / f"{self.arms[name].folder}-seed{seed}" for seed in self.seeds]

    def complete(self, name: str) -> bool:
        """Whether all tests of an arm are there, at all seeds."""
        files = [run / part / file for run in self.runs(name) for part in self._parts(name)
                 for file in (SUMMARY, PREDICTIONS)]  # fmt: skip
        return all(file.is_file() for file in files)

    def _parts(self, name: str) -> list[str]:
        stages = (*BEFORE, *AFTER) if self.arms[name].base else AFTER
        return [f"{stage}{test}" for stage in stages for test in self.tests]

    def run(self, args: StudyArgs, flags: Sequence[str] = ()) -> float:
        """Train and test what is not done yet; return the seconds that it took, with those of earlier calls.

        Args:
            flags: of all trainings.
        """
        for name in ("max_steps", "train_limit", "eval_limit"):
            if getattr(args, name) is not None:
                flags = [*flags, f"--{name}", str(getattr(args, name))]
        jobs = []
        for index, seed in enumerate(self.seeds):
            for name, arm in self.arms.items():
                run = self.runs(name)[index]
                command = [arm.script, "--config", str(loading.config_for(arm.config, args.profile))]
                command += ["--seed", str(seed), "--test_base", str(bool(arm.base)).lower(), *arm.flags]
                command += [*flags, "--output_dir", str(run), "--resume"]
                marks = tuple(run / part / SUMMARY for part in self._parts(name))
                jobs.append(Job(run.name, tuple(command), marks))
        return commands.run(jobs, self.folder, args.workers)

    def scores(
        self, test: str = "", value: Callable[[Record], float] = comparison.value
    ) -> dict[str, Scores]:
        """Load the scores of every arm in a test, those of models before training first."""

        def load(name: str, stages: Sequence[str]) -> Scores:
            return Scores(
                *(
                    [comparison.score(read_lines(run / f"{stage}{test}" / PREDICTIONS), value)
                     for run in self.runs(name)]
                    for stage in stages
                )
            )  # fmt: skip

        bases = {arm.base: load(name, BEFORE) for name, arm in self.arms.items() if arm.base}
        return bases | {name: load(name, AFTER) for name in self.arms}

    def records(self, test: str = "") -> list[Record]:
        """Load the first run's answers to a test: its questions are those of all."""
        return read_lines(self.runs(next(iter(self.arms)))[0] / f"{AFTER[0]}{test}" / PREDICTIONS)

    def facts(self, script: str, args: StudyArgs, seconds: float) -> str:
        """Format the command, how long it took, and what the intervals cover."""
        machine = f"{os.cpu_count()} CPU cores" if args.profile == "embedded" else "this machine"
        many = len(self.seeds) > 1
        covered = "and the seed of the training" if many else "alone; one seed of training"
        return (
            f"`python {script}` ({args.profile} profile, seed{'s' if many else ''} "
            f"{', '.join(map(str, self.seeds))}): {len(self.arms) * len(self.seeds)} commands in "
            f"{seconds / 60:.0f} minutes on {machine}, {args.workers} at a time. Percent; 95 % intervals "
            f"cover the choice of questions {covered} (`spatialvlm/reporting/comparison.py`)."
        )


def claims_section(claims: Mapping[str, Claim]) -> list[str]:
    """The paragraphs of a study on the claims of its paper."""
    title = "### Which of the paper's claims hold here"
    return [title, comparison.VERDICTS, comparison.claims_table(claims.values())]


def columns(questions: Questions, total: str) -> dict[str, Questions]:
    """Return the questions of each task, and all of them under the name of their total."""
    return {task: questions.of(task) for task in questions.tasks} | {total: questions}
