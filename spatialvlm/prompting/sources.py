"""The questions of a prompting study, by the benchmark's name."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import Benchmark
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples, prefetch
from spatialvlm.prompting.strategy import Strategy
from spatialvlm.prompting.views import two_views
from spatialvlm.tasks import registry
from spatialvlm.tasks.clevr import scoring as clevr_scoring
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.sat import scoring as sat_scoring
from spatialvlm.tasks.vsr import data as vsr
from spatialvlm.worlds.clevr import series

NAMES = ("cvbench", "sat", "vsr", "clevr")
HUB_IDS = {
    "cvbench": cvbench.HUB_ID,
    "sat": sat.HUB_ID,
    "vsr": vsr.HUB_ID,
    "clevr": "MMInstruction/Clevr_CoGenT_ValB",
}
EMBEDDED_SIZE = 200  # rendered questions, where no limit is given


def load(
    name: str,
    strategy: Strategy,
    path: str,
    split: str | None = None,
    limit: int | None = None,
    image_folder: str | None = None,
) -> tuple[Sequence[Example], Benchmark]:
    """(questions, how they are scored).

    Args:
        name: one of `NAMES`.
        strategy: questions with another number of pictures than it takes are left out, and said to be.
        path: as the evaluation of that benchmark takes it; `embedded` for rendered scenes.
        limit: at most this many questions (of SAT: before each is asked in all orders of its choices).

    Raises:
        UserError: as the readers; no question has as many pictures as the strategy needs.
    """
    if name == "sat" and path == "embedded" and strategy.images == 2:
        examples = two_views(split or "test", limit or EMBEDDED_SIZE)
        return (sat.circular(examples) if (split or "test") == "test" else examples), sat_scoring.BENCHMARK
    if path == "embedded":
        limit = limit or EMBEDDED_SIZE
    if name == "cvbench":
        found, benchmark = cvbench.load(path, split or "test", limit), registry.benchmark("cvbench")
    elif name == "sat":
        found, benchmark = _sat(path, split or "test", limit, strategy.images), sat_scoring.BENCHMARK
    elif name == "vsr":
        found, benchmark = vsr.load(path, split or "test", limit, image_folder), registry.benchmark("vsr")
    elif path == "embedded":
        made = series.clevr(split or "test", limit)
        return _fitting(clevr_scoring.with_vocabulary(made), strategy), clevr_scoring.BENCHMARK
    else:
        found, benchmark = clevr_scoring.load(path, split, limit), clevr_scoring.benchmark(path)
    return _fitting(found, strategy), benchmark


def _sat(path: str, split: str, limit: int | None, images: int | None) -> Sequence[Example]:
    """SAT's questions, those with the number of pictures that is needed; its limit is counted after that."""
    if images is None or path == "embedded":
        return sat_scoring.arrange(path, split, limit)
    fitting = _of_size(sat.load(path, split, max_images=images), images)[:limit]
    return sat.circular(fitting) if split == "test" else fitting


def _fitting(examples: Sequence[Example], strategy: Strategy) -> Sequence[Example]:
    if strategy.images is None:
        return examples
    fitting = _of_size(examples, strategy.images)
    if not len(fitting):
        raise UserError(
            f"--strategy {strategy.name} takes questions about {strategy.images} picture(s), and there are "
            "none here; SAT has some of two (--benchmark sat)"
        )
    if len(fitting) < len(examples):
        print(f"left out: {len(examples) - len(fitting)} questions of another number of pictures")
    return fitting


def _of_size(examples: Sequence[Example], images: int) -> LazyExamples:
    prefetch(examples)
    fitting = [number for number, example in enumerate(examples) if len(example.images) == images]
    return LazyExamples(lambda number: examples[number], fitting)
