"""Run folders as the report reads them: tests with their answers, trainings with their curves.

A test is a folder with predictions.jsonl and summary.json, wherever it lies below the folders given; a
training one with metrics.jsonl. Nothing is believed twice: a summary must be that of the answers beside it.
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
from spatialvlm.tasks.registry import BENCHMARKS, benchmark
from spatialvlm.training.checkpoints import PREFIX

ALMOST = 1e-9  # two ways of the same float arithmetic
_SEED = re.compile(r"[-_]?seed\d+")
_TURNED = re.compile(r"[-_]ood\b")
_UNFINISHED = "has answers and no summary: it is unfinished and left out; finish it, or wait"


@dataclass(frozen=True)
class Test:
    """One evaluation: its folder, its name among the others, arguments, summary and answers."""

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
        return benchmark(name).title if name in BENCHMARKS else name

    @property
    def part(self) -> str:
        """Which part of a training this tests: `base`, `trained-ood`, `shuffled`, ...; empty for others."""
        return self.arguments.get("evaluated", "")

    @property
    def turned(self) -> bool:
        """Whether the questions' polarity is turned (out of distribution)."""
        return bool(self.arguments.get("ood") or self.part.endswith("-ood"))

    @property
    def control(self) -> str:
        """`shuffled` or `blank`, where the images were not the questions' own; else empty."""
        if self.arguments.get("shuffle_images") or self.part == "shuffled":
            return "shuffled"
        return "blank" if self.arguments.get("blank_image") else ""

    @property
    def num_samples(self) -> int:
        return self.summary["num_samples"]

    @property
    def kind(self) -> str:
        """What sets it apart from tests that it cannot stand in one row with, in words."""
        words = [f"Pass@{self.num_samples}" if self.num_samples > 1 else "greedy"]
        words += ["polarity turned"] if self.turned else []
        return ", ".join(words + ([f"images {self.control}"] if self.control else []))

    @property
    def way(self) -> str:
        """The name without seed and without what `turned` says: runs of one way differ in the seed alone."""
        return _TURNED.sub("", _SEED.sub("", self.name)) or self.name


@dataclass(frozen=True)
class Training:
    """The curves of one training: a row a step."""

    name: str
    rows: list[dict[str, float]]


@dataclass(frozen=True)
class Found:
    tests: list[Test]
    trainings: list[Training]
    unfinished: list[str]  # in words


def read(paths: Sequence[str | Path]) -> Found:
    """Every test and training below the folders, in the order of their paths.

    Raises:
        UserError: a folder that is not there or holds no run, or a file that is damaged or does not fit the
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
    names = _names(folders)
    for folder, name in zip(folders, names, strict=True):
        if (folder / "predictions.jsonl").is_file():
            if (folder / "summary.json").is_file():
                tests.append(_test(folder, name))
            else:
                unfinished.append(f"{folder} {_UNFINISHED}")
        if (folder / "metrics.jsonl").is_file():
            trainings.append(Training(name, _curves(folder / "metrics.jsonl")))
    return Found(tests, trainings, unfinished)


_MARKS = ("predictions.jsonl", "metrics.jsonl")


def _names(folders: Sequence[Path]) -> list[str]:
    """Paths below the deepest folder that holds them all, with `/`."""
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
                f"{where}: 'correct' must be true or false, not {row['correct']!r}; score it anew"
            )
        said = row.get("completions")
        if not isinstance(said, list) or not said or not all(isinstance(text, str) for text in said):
            raise UserError(f"{where} has no 'completions', a list of texts; evaluate again")
        if not isinstance(row.get("prompt"), str) or not row["prompt"]:
            raise UserError(f"{where} has no 'prompt'; evaluate again")
        if "score" in row and not _is_share(row["score"]):
            raise UserError(f"{where}: 'score' must lie within 0 and 1, not {row['score']!r}; score it anew")
    test = Test(
        folder, name, json_object(folder / "config.json"), json_object(folder / "summary.json"), records
    )
    _check(test)
    return test


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1  # NaN is neither


def _check(test: Test) -> None:
    """Raises UserError where the summary is not that of the answers."""
    file = test.folder / "summary.json"
    for name in ("benchmark", "n", "num_samples", "tasks", "aggregates"):
        if name not in test.summary:
            raise UserError(f"{file} has no '{name}'; run the evaluation again to write it anew")
    found = metrics.by_task(test.records)
    written = test.summary["tasks"]
    same = test.summary["n"] == len(test.records) and written.keys() == found.keys()
    if not same or any(
        not math.isclose(written[task].get("accuracy", math.nan), part.value, abs_tol=ALMOST)
        for task, part in found.items()
    ):
        raise UserError(
            f"{file} is not the summary of the {len(test.records)} answers beside it; run the evaluation "
            "again to write it anew"
        )


def json_object(path: Path) -> dict:
    """What a file of a run holds. Raises UserError where it is missing, damaged, or no JSON object."""
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
    """A training's metrics; of one that runs, the line that is being written is left out."""
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
