"""Train on VSI-100k's questions, test on VSI's before and after: what GRPO, SFT and DPO of vsGRPO share.

The data are the folder that `make_data/vsi_100k.py` writes and VSI-Bench, or questions over rendered rooms,
made as they are looked at. Those are tested in the form that is trained on, without options: words by exact
match, numbers by their mean relative accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import Benchmark, Parsed, Rule, micro_and_mean
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.example import Example
from spatialvlm.files.lazy import mapped
from spatialvlm.models import loading
from spatialvlm.run_folder import read_lines
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsi import reward as rewards_vsi
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.data import Mode
from spatialvlm.tasks.vsi.questions import FAMILIES, family
from spatialvlm.tasks.vsi.scoring import VSIBENCH, score
from spatialvlm.training.experiment import Experiment, RunArgs

KEPT = 64  # examples that stay in memory, with their frames


@dataclass
class VSIArgs(RunArgs):
    """Data, tests and the run folder; the defaults are the published ones."""

    BY_PROFILE: ClassVar = {"model": {"paper": loading.PUBLISHED, "embedded": str(loading.ROOMS)}}
    data: str = field(
        default="results/vsi_100k/scans-0",
        metadata={"help": "folder that make_data/vsi_100k.py wrote, or 'embedded': rendered rooms"},
    )
    train_limit: int = field(default=117_000, metadata={"help": "training questions, at most"})
    families: list[str] = field(
        default_factory=lambda: list(FAMILIES),
        metadata={"help": "families of questions trained on; what is left out is held out"},
    )
    num_frames: int = field(default=16, metadata={"help": "frames of a video, spread from first to last"})
    min_pixels: int = field(default=4 * 28 * 28, metadata={"help": "least of a frame (Qwen)"})
    max_pixels: int = field(default=128 * 28 * 28, metadata={"help": "most of a frame (Qwen)"})
    eval_data: str = field(default=vsibench.HUB_ID, metadata={"help": "VSI-Bench rows, or 'embedded'"})
    eval_frames: str | None = field(
        default=None,
        metadata={
            "help": "VSI-Bench's videos: <data set>/<scene>.mp4, or folders of frames; the hub's are fetched "
            "where not given"
        },
    )
    run_name: str = field(default="v", metadata={"help": "first part of the run folder's name"})

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        if not self.families or set(self.families) - set(FAMILIES):
            raise UserError(f"--families must be some of {', '.join(FAMILIES)}, not {self.families}")
        if self.num_frames < 1:
            raise UserError(f"--num_frames must be at least 1, not {self.num_frames}")
        if not 1 <= self.min_pixels <= self.max_pixels:
            raise UserError(f"--min_pixels {self.min_pixels} must be between 1 and --max_pixels")
        if self.eval_data == "embedded" and self.eval_frames:
            raise UserError("--eval_frames is of VSI-Bench; rendered rooms draw their own: leave it out")


def load_model(args: VSIArgs):
    """Load the model; returns (model, processor)."""
    return loading.load(args, train_adapter=True, pixels=(args.min_pixels, args.max_pixels))


# ---- training


def training_set(args: VSIArgs) -> Sequence[Example]:
    """VSI-100k's questions as `args` ask for them, each with a `Video`; still to be asked (`asked`).

    Raises:
        UserError: as `vsi.load`; a row without frames, or of a room that VSI-Bench's rows ask about.
    """
    limit, frames = args.train_limit, args.num_frames
    if args.data == "embedded":
        return vsi_rooms.load("train", limit, args.seed, frames, "words", args.families)
    tested = () if args.eval_data == "embedded" else vsibench.scenes(args.eval_data)
    return vsi.load(args.data, "train", limit, args.families, frames, need_frames=True, tested=tested)


def asked(examples: Sequence[Example], mode: Mode) -> Sequence[Example]:
    """The examples with the prompt of training."""
    return mapped(
        examples,
        lambda example: replace(example, prompt=vsibench.training_prompt(example.question, mode)),
        KEPT,
    )


# ---- the test


def read_words(text: str, example: Example) -> Parsed:
    """A word of the example's vocabulary, or a number, read as the rewards read them."""
    vocabulary = example.meta.get("vocabulary")
    if vocabulary is None:
        return rewards_vsi.parse_number(text)
    return next((word for word in vocabulary if rewards_vsi.same_word(text, word)), None)


def gold_words(example: Example) -> str | float:
    return example.answer if "vocabulary" in example.meta else float(example.answer)


WORDS = Benchmark(
    "VSI, in words",
    vsi.load,
    {
        "strict": Rule(
            "strict", "the very word, or a number's mean relative accuracy", read_words, gold_words, score
        )
    },
    micro_and_mean,
)


def inside_answer(benchmark: Benchmark, mode: Mode) -> Benchmark:
    """The benchmark, read inside the only `<answer>` where there is one; of vanilla as it is."""
    if mode == "vanilla":
        return benchmark

    def within(rule: Rule) -> Rule:
        def read(text: str, example: Example) -> Parsed:
            return rule.read(rewards_vsi.answer_text(text, mode) or text, example)

        return replace(rule, read=read, read_gold=rule.gold)

    return replace(benchmark, rules={name: within(rule) for name, rule in benchmark.rules.items()})


def test_set(args: VSIArgs, mode: Mode) -> Sequence[Example]:
    """The questions of the test with their frames, and the prompt of evaluation.

    Raises:
        UserError: as `vsi_rooms.load`, or as `vsibench.load` and `vsibench.with_frames`.
    """
    if args.eval_data == "embedded":
        limit, frames = args.eval_limit or vsi_rooms.QUESTIONS, args.num_frames
        return vsi_rooms.load("test", limit, vsi_rooms.TEST_SEED, frames, "words", mode=mode)
    rows = vsibench.load(args.eval_data, limit=args.eval_limit, mode=mode)
    return vsibench.with_frames(rows, args.eval_frames, args.num_frames, vsibench.HUB_ID)


class VSIExperiment(Experiment):
    """Tested by family: on VSI-Bench, or in words on rendered rooms.

    Its table takes all questions of a family alike; the mean of relative direction's three types, and the
    official total over it, are `eval_vsibench.py`'s.
    """

    def __init__(self, script: str, args: VSIArgs, model, mode: Mode, max_new_tokens: int = 16) -> None:
        benchmark = inside_answer(WORDS if args.eval_data == "embedded" else VSIBENCH, mode)
        questions = test_set(args, mode)
        super().__init__(script, args, model, questions, benchmark, "strict", max_new_tokens, family)


# ---- tables


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
