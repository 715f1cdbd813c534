"""What'sUp (Kamath et al., EMNLP 2023): captions one by one, by pairs and by sets.

A pair of a controlled set is two images of the same two things whose captions are opposites (left and
right, on and under, in front and behind); it is right where both are. A set is right where all four are
(`evaluate_scores` of amitakamath/whatsup_vlms, dataset_zoo/aro_datasets.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Benchmark, micro_and_mean
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.tasks.whatsup import data as whatsup
from spatialvlm.tasks.whatsup.data import OPPOSITES, SET

_PAIR = {relation: "-".join(pair) for pair in OPPOSITES for relation in pair}


def pairs_and_sets(records: Sequence[Record]) -> dict[str, Estimate]:
    """`<task> pair` and `<task> set` of every task whose questions come in sets, each with its interval.

    The two pairs of a set are not independent of each other, and the interval counts them so.

    Raises:
        ValueError: a set without one of its four questions.
    """
    found = {}
    for task, part in metrics.group(records).items():
        if not all(_relation(record) for record in part):
            continue
        pairs, sets = [], []
        for cluster, group in metrics.group(part, "cluster").items():
            if len(group) != SET:
                raise ValueError(f"set {cluster} has {len(group)} answers of {SET}")
            by_pair = metrics.group([record | {"pair": _PAIR[_relation(record)]} for record in group], "pair")
            for both in by_pair.values():
                pairs.append({"cluster": cluster, "correct": all(record["correct"] for record in both)})
            sets.append({"correct": all(record["correct"] for record in group)})
        found |= {f"{task} pair": metrics.accuracy(pairs), f"{task} set": metrics.accuracy(sets)}
    return found


def _relation(record: Record) -> str | None:
    """The relation that is right, of a question that comes in a set: what its id ends in."""
    relation = record["id"].rpartition("-")[2]
    return relation if relation in _PAIR else None


def aggregate(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, of one answer per question, pairs and sets."""
    single = all(record.get("num_samples", 1) == 1 for record in records)
    return micro_and_mean(records) | (pairs_and_sets(records) if single else {})


def load(path: str, split: str | None = None, limit: int | None = None) -> Sequence[Example]:
    """What'sUp has no splits but one."""
    return whatsup.load(path, limit)


BENCHMARK = Benchmark("What'sUp", load, {"strict": STRICT_CHOICE}, aggregate)
