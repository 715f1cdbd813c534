"""CLEVR (Johnson et al., CVPR 2017) and Super-CLEVR: yes or no, a number, or a word for an attribute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import PAPER_TEXT, STRICT_FREE, Benchmark, Parsed, Rule, micro_and_mean
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.files.lazy import mapped
from spatialvlm.parsing.answers import inside_answer_tags
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import superclevr
from spatialvlm.worlds.clevr.facts import VALUES

EMBEDDED_SIZE = 800  # rendered questions by default
YES_NO, COUNTS = ("yes", "no"), tuple(str(count) for count in range(11))
SIDES = {"lateral": ("left", "right"), "sagittal": ("front", "behind"), "image y": ("above", "below")}


def parse_official(text: str, example: Example) -> Parsed:
    """The integer inside `<answer>`, else the last one in the text; of yes or no the text between the tags.

    R1-V's `test_qwen2vl_counting_superclevr.py`, whose data Super-CLEVR's hub form is; CLEVR's own authors
    classify among 28 answers and read no text.
    """
    tagged = inside_answer_tags(text)
    content = text if tagged is None else tagged
    numbers = re.findall(r"-?\d+", content)
    return int(numbers[-1]) if numbers else content.strip().lower() or None


def vocabulary(example: Example) -> tuple[str, ...]:
    """The answers that a question allows, by its family: what the answer is read against."""
    family = example.task
    if family == "relation":
        return SIDES[example.meta["axis"]]
    if family in ("depth", "distance"):  # "Which is closer to the camera, the red cube or the sphere?"
        return re.search(r", the (.+?) or the (.+?)\?$", example.question).groups()
    values = VALUES
    if example.answer in superclevr.SHAPES:
        values = VALUES | {"shape": superclevr.SHAPES}
    if family == "attribute" or family.startswith("query_"):
        return values[example.meta.get("attribute") or family.removeprefix("query_")]
    if example.answer in YES_NO:
        return YES_NO
    return COUNTS if example.answer.isdecimal() else sum(values.values(), ())


def with_vocabulary(examples: Sequence[Example]) -> Sequence[Example]:
    """The same examples with `meta["vocabulary"]`."""

    return mapped(
        examples,
        lambda example: replace(example, meta=example.meta | {"vocabulary": vocabulary(example)}),
    )


def aggregate(records: Sequence[Record]) -> dict[str, Estimate]:
    """`micro`, `mean_of_tasks` and, of wrong counts, the `close_call` share that is off by exactly one."""
    counts = [record for record in records if isinstance(record["gold"], int)]
    greedy = [record for record in counts if record.get("num_samples", 1) == 1]
    near = metrics.close_call([r["parsed"] for r in greedy], [r["gold"] for r in greedy])
    return micro_and_mean(records) | ({"close_call": near} if near else {})


def load(
    path: str, split: str | None = None, limit: int | None = None, form: str = "official"
) -> Sequence[Example]:
    """Load the questions of an evaluation, with their vocabulary.

    Args:
        path: as in `data.load`, or `embedded` for rendered scenes.
        split: as in `data.load`; `test` by default for rendered scenes.
        limit: maximum number of questions; `EMBEDDED_SIZE` by default for rendered scenes.
        form: `official`, or `free` for our own short questions.
    """
    if path == "embedded":
        from spatialvlm.worlds.clevr import series  # imports the renderer

        make = series.free if form == "free" else series.clevr
        return with_vocabulary(make(split or "test", limit or EMBEDDED_SIZE))
    make = clevr.load_free if form == "free" else clevr.load
    return with_vocabulary(make(path, split=split, limit=limit))


BENCHMARK = Benchmark(
    "CLEVR",
    load,
    {
        "strict": STRICT_FREE,
        "official": Rule("official", "the integer inside <answer>, or its text (R1-V)", parse_official),
        "paper": PAPER_TEXT,
    },
    aggregate,
)
SUPERCLEVR = replace(BENCHMARK, title="Super-CLEVR")  # the same questions and answers, about vehicles


def benchmark(path: str) -> Benchmark:
    """Which of the two lies at a path, by the form of a folder or the hub's name; both are read alike."""
    is_super = superclevr.questions_file(path) or "superclevr" in str(path).lower()
    return SUPERCLEVR if is_super else BENCHMARK
