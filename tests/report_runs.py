"""Run folders as an evaluation leaves them, with answers that a test chooses: no model is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from spatialvlm.evaluation.benchmark import STRICT_CHOICE, to_record
from spatialvlm.evaluation.summary import summarize
from spatialvlm.example import Example
from spatialvlm.run_folder import DataSource, Run
from spatialvlm.tasks.cvbench.scoring import BENCHMARK

Say = Callable[[Example], list[str]]


def right(example: Example) -> list[str]:
    return [example.answer]


def always_a(example: Example) -> list[str]:
    return ["A"]


def mute(example: Example) -> list[str]:
    """Right, but for counts, which it says nothing about."""
    return ["<tag>&</script>"] if example.task == "Count" else [example.answer]


def write(folder: Path, examples: Sequence[Example], say: Say, limit: int | None = None, **arguments) -> Path:
    """A finished run on CV-Bench's form; `arguments` go over those of an evaluation of `limit` questions."""
    limit = limit or len(examples)
    config = {"data": "embedded", "split": None, "limit": limit, "seed": 0, "ood": False} | arguments
    rows = {"path": "embedded", "limit": limit, "flipped": config["ood"]}
    run = Run(folder, config, data=DataSource("cvbench", rows))
    records = [to_record(e, say(e), STRICT_CHOICE, STRICT_CHOICE.gold(e)) for e in examples]
    run.add_predictions(records)
    run.write_summary(summarize(records, BENCHMARK.aggregate, STRICT_CHOICE, "CV-Bench"))
    return folder


def write_training(folder: Path, rewards: Sequence[float]) -> Path:
    """The metrics of a training, a row per step."""
    run = Run(folder, {"data": "embedded", "seed": 0})
    for step, reward in enumerate(rewards, start=1):
        run.log(step, reward=reward, loss=1 / step)
    return folder
