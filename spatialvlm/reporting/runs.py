"""Run folders as the report loads them: tests with their answers, trainings with their curves.

A test is a folder with predictions.jsonl and summary.json, at any depth below the folders given; a training
has metrics.jsonl. A summary must be that of the answers beside it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.evaluation import compare, metrics
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks import registry
from spatialvlm.training.checkpoints import PREFIX

TOLERANCE = 1e-9  # between two orders of the same float sum
_SEED = re.compile(r"[-_]?seed\d+")
_FLIPPED = re.compile(r"[-_]ood\b")
_UNFINISHED = "has answers and no summary: it is unfinished and left out; finish it, or wait"
_MARKS = ("predictions.jsonl", "metrics.jsonl")


@dataclass(frozen=True)
class Test:
    """One evaluation: its folder, its name among the others, config, summary and answers."""

    folder: Path
    name: str
    config: dict[str, Any]
    summary: dict[str, Any]
    records: list[Record]

    @property
    def arguments(self) -> dict[str, Any]:
        return self.config.get("arguments", {})

    @property
    def benchmark(self) -> str:
        """The benchmark's title."""
        name = self.summary["benchmark"]
        return registry.benchmark(name).title if name in registry.BENCHMARKS else name

    @property
    def stage(self) -> str:
        """The test within a training: `base`, `trained-ood`, `shuffled`, ...; empty for an evaluation."""
        return self.arguments.get("evaluated", "")

    @property
    def flipped(self) -> bool:
        """Whether the questions are polarity-flipped (out of distribution)."""
        return bool(self.arguments.get("ood") or self.stage.endswith("-ood"))

    @property
    def ablation(self) -> str:
        """`shuffled` or `blank` if the images were not the questions' own; else empty."""
        if self.arguments.get("shuffle_images") or "shuffled" in self.stage:
            return "shuffled"
        return "blank" if self.arguments.get("blank_image") else ""

    @property
    def num_samples(self) -> int:
        return self.summary["num_samples"]

    @property
    def kind(self) -> str:
        """Sampling, polarity and ablation in words; tests of one kind stand in one table."""
        words = [f"Pass@{self.num_samples}" if self.num_samples > 1 else "greedy"]
        words += ["polarity-flipped"] if self.flipped else []
        return ", ".join(words + ([f"images {self.ablation}"] if self.ablation else []))

    @property
    def source(self) -> str:
        """Where the questions came from; tests with one source share them."""
        return json.dumps(self.config.get("data"), sort_keys=True)

    def questions(self) -> Sequence[Example]:
        """Load the questions from where the run had them.

        Raises:
            UserError: the run does not record it, or they are not available here.
        """
        if "data" not in self.config:
            raise UserError("the run does not record where its questions came from; evaluate again")
        source = DataSource.of(self.config, self.folder / "config.json")
        if source.loader == "vsibench" and source.arguments.get("folder") is None:
            raise UserError("the run used the hub's videos, which are not downloaded for a report")
        return registry.load_rows(source)

    @property
    def arm(self) -> str:
        """The name without seed and polarity; the runs of one arm differ in the seed alone."""
        return _FLIPPED.sub("", _SEED.sub("", self.name)) or self.name


@dataclass(frozen=True)
class Training:
    """The metrics of one training, one row per step."""

    name: str
    rows: list[dict[str, float]]


@dataclass(frozen=True)
class Runs:
    tests: list[Test]
    trainings: list[Training]
    unfinished: list[str]  # one line each


def load(paths: Sequence[str | Path]) -> Runs:
    """Load every test and training below some folders, in the order of their paths.

    Raises:
        UserError: a folder that does not exist or holds no run, or a file that is damaged or does not fit the
            one beside it; the message names it.
    """
    folders = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give run folders, or a folder of them")
        below = [
            folder
            for folder in sorted({file.parent for file in path.rglob("*.jsonl")})
            if not any(part.startswith((PREFIX, ".")) for part in folder.relative_to(path).parts)
        ]
        if not any((each / name).is_file() for each in below for name in _MARKS):
            raise UserError(f"{path}: no run there (no predictions.jsonl or metrics.jsonl below it)")
        folders += [folder for folder in below if folder not in folders]
    tests, trainings, unfinished = [], [], []
    for folder, name in zip(folders, _names(folders), strict=True):
        if (folder / "predictions.jsonl").is_file():
            if (folder / "summary.json").is_file():
                tests.append(_test(folder, name))
            else:
                unfinished.append(f"{folder} {_UNFINISHED}")
        if (folder / "metrics.jsonl").is_file():
            trainings.append(Training(name, _curves(folder / "metrics.jsonl")))
    return Runs(tests, trainings, unfinished)


def _names(folders: Sequence[Path]) -> list[str]:
    """Paths relative to the deepest folder that contains all of them."""
    if len(folders) == 1:
        return [folders[0].resolve().name]
    above = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    relative = [folder.resolve().relative_to(above).as_posix() for folder in folders]
    return [above.name if name == "." else name for name in relative]


def _test(folder: Path, name: str) -> Test:
    records = compare.records(str(folder))
    for number, row in enumerate(records):
        where = f"{folder / 'predictions.jsonl'} row {number}"
        if not isinstance(row["correct"], bool):
            raise UserError(
                f"{where}: 'correct' must be true or false, not {row['correct']!r}; score it again"
            )
        texts = row.get("completions")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where} has no 'completions', a list of texts; evaluate again")
        if not isinstance(row.get("prompt"), str) or not row["prompt"]:
            raise UserError(f"{where} has no 'prompt'; evaluate again")
        if "score" in row and not _is_fraction(row["score"]):
            raise UserError(
                f"{where}: 'score' must lie between 0 and 1, not {row['score']!r}; score it again"
            )
    config, summary = json_object(folder / "config.json"), json_object(folder / "summary.json")
    _check_summary(folder / "summary.json", summary, records)
    return Test(folder, name, config, summary, records)


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1  # false for NaN


def _check_summary(file: Path, summary: dict[str, Any], records: Sequence[Record]) -> None:
    for name in ("benchmark", "n", "num_samples", "tasks", "aggregates"):
        if name not in summary:
            raise UserError(f"{file} has no '{name}'; run the evaluation again to rewrite it")
    by_task, written = metrics.by_task(records), summary["tasks"]
    same = summary["n"] == len(records) and written.keys() == by_task.keys()
    if not same or any(
        not math.isclose(written[task].get("accuracy", math.nan), part.value, abs_tol=TOLERANCE)
        for task, part in by_task.items()
    ):
        raise UserError(
            f"{file} is not the summary of the {len(records)} answers beside it; run the evaluation "
            "again to rewrite it"
        )


def json_object(path: Path) -> dict:
    """Load a file of a run. Raises UserError if it is missing, damaged, or no JSON object."""
    if not path.is_file():
        raise UserError(f"{path} is missing; give whole run folders")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run the evaluation again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object; run the evaluation again")
    return content


def _curves(path: Path) -> list[dict[str, float]]:
    """A training's metrics, without the line that a running training is just writing."""
    content, rows = path.read_text(encoding="utf-8"), []
    for number, line in enumerate(content[: content.rfind("\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is damaged ({error}); remove that line") from None
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise UserError(f"{path}, line {number} has no 'step'; remove that line")
        rows.append(row)
    return rows
