"""vsGRPO's tables: ways of training side by side by family of questions, and what the paper leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.reporting.comparison import markdown, percent
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.vsi.questions import FAMILIES, family

Answers = Sequence[Record]
SHORT = {
    "object_counting": "count",
    "object_abs_distance": "absolute distance",
    "object_rel_distance": "relative distance",
    "object_rel_direction": "relative direction",
    "object_size_estimation": "object size",
    "room_size_estimation": "room size",
}


def answers(folder: Path) -> list[Record]:
    """A test's records, with their families as tasks."""
    rows = read_lines(folder / "predictions.jsonl")
    return [record | {"task": family(record["task"])} for record in rows]


def scores(records: Answers) -> dict[str, Estimate]:
    """By family, and `mean` over them."""
    found = metrics.by_task(records)
    return {name: found[name] for name in FAMILIES if name in found} | {
        "mean": metrics.mean_of_tasks(records)
    }


def ways_table(ways: Mapping[str, Answers]) -> str:
    """A row a family, a column a way."""
    found = {way: scores(records) for way, records in ways.items()}
    first = next(iter(found.values()))
    rows = [[SHORT.get(name, name), str(part.n), *(percent(each[name]) for each in found.values())]
            for name, part in first.items()]  # fmt: skip
    return markdown(("", "n", *found), rows)


def change(before: Answers, after: Answers, families: Sequence[str] = FAMILIES) -> Estimate:
    """The paired difference of the mean over some families."""
    pair = [[record for record in records if record["task"] in families] for records in (before, after)]
    return metrics.compare(*pair)["mean_of_tasks"]


def gains_table(base: Answers, ways: Mapping[str, Answers], shuffled: Mapping[str, Answers]) -> str:
    """What each way gained over the untrained model, and what of its score is left without its own video."""
    rows = [
        [way, percent(change(base, records), sign=True), percent(scores(shuffled[way])["mean"])]
        for way, records in ways.items()
    ]
    return markdown(("", "gain of the mean", "mean with the videos shuffled"), rows)


def steps(folder: Path, names: Sequence[str], last: int) -> dict[str, tuple[float, float]]:
    """(the first step's, the mean of the last steps') figures of a training, those that it has."""
    rows = read_lines(folder / "metrics.jsonl")
    there = [name for name in names if name in rows[0]]
    return {
        name: (rows[0][name], sum(row[name] for row in rows[-last:]) / len(rows[-last:])) for name in there
    }


def habits_table(folders: Mapping[str, Path], last: int = 5) -> str:
    """Format, empty thoughts and KL of trainings: at the first step, and over the last ones."""
    names = {
        "format": "format",
        "empty_thoughts": "empty thoughts",
        "completion_length": "tokens",
        "kl": "KL",
    }
    rows = []
    for way, folder in folders.items():
        found = steps(folder, list(names), last)
        rows.append([way, *(_course(name, found.get(name)) for name in names)])
    return markdown(("", *names.values()), rows)


def _course(name: str, pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    if name in ("format", "empty_thoughts"):
        return f"{100 * pair[0]:.0f} % to {100 * pair[1]:.0f} %"
    return f"{pair[0]:.1f} to {pair[1]:.1f}" if name == "completion_length" else f"{pair[1]:.3f}"
