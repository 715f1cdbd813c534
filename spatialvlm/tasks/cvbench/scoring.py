"""CV-Bench (Tong et al., arXiv 2406.16860): a letter a question, and 1/2 * (2D + 3D) in all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Benchmark, Rule, parse_as_rewarded
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench.data import TASKS_2D, TASKS_3D

_FIRST_LETTER = re.compile(r"[\(\s]*([A-Z])[\)\.\s]*", re.IGNORECASE)


def parse_official(text: str, example: Example) -> str | None:
    """The first letter of the text, whatever it belongs to: "The answer is A" says T, "Based on" says B.

    lmms-eval 0.7.3, `tasks/cv_bench/utils.py`; the benchmark's authors published the formula of the total
    (`aggregate`) but no answer parser.
    """
    found = _FIRST_LETTER.match(text.strip())
    return found[1].upper() if found else None


def gold_official(example: Example) -> str:
    return example.answer.strip("()")


def gold_paper(example: Example) -> str:
    """What paper A compares with: the letter, since its CV-Bench prompt asks for one."""
    return gold_official(example).lower()


def aggregate(records: Sequence[Record]) -> dict[str, Estimate]:
    """CV-Bench's totals: `official`, `mean_of_tasks` (the paper's Total) and `micro`.

    Official is 1/2 * (2D + 3D), where 2D = (ADE20K + COCO) / 2 and 3D = Omni3D, each the accuracy over all
    its questions; it is left out where one half has no questions. Scenes without a `source`, the embedded
    ones, count as one source a half.
    """
    totals = {}
    halves = [_sources(records, tasks) for tasks in (TASKS_2D, TASKS_3D)]
    if all(halves):
        totals["official"] = metrics.mean(
            [source for half in halves for source in half],
            weights=[1 / len(half) for half in halves for _ in half],
        )
    return totals | {"mean_of_tasks": metrics.mean_of_tasks(records), "micro": metrics.accuracy(records)}


def _sources(records: Sequence[Record], tasks: Sequence[str]) -> list[Estimate]:
    """The accuracy on each source of images, over the questions of these tasks."""
    asked = [{"source": None} | record for record in records if record["task"] in tasks]
    return [metrics.accuracy(part) for part in metrics.group(asked, "source").values()]


def load(path: str, split: str | None = None, limit: int | None = None) -> Sequence[Example]:
    return cvbench.load(path, split or "test", limit, need_images=False)


BENCHMARK = Benchmark(
    "CV-Bench",
    load,
    {
        "strict": STRICT_CHOICE,
        "official": Rule(
            "official", "the first letter of the text (lmms-eval 0.7.3)", parse_official, gold_official
        ),
        "paper": Rule(
            "paper", "the last line is the letter, but for case and ( ) . , -", parse_as_rewarded, gold_paper
        ),
    },
    aggregate,
)
