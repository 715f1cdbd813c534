"""Paper B, vsGRPO: training on VSI-100k, tests on VSI-Bench.

The data are the folder that `make_data/vsi_100k.py` writes and VSI-Bench, or questions over rooms rendered on
access. Those are tested in the form of training, without options: words by exact match, numbers by their mean
relative accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.example import Example
from spatialvlm.files.lazy import mapped
from spatialvlm.models import loading
from spatialvlm.reporting.cards import write_adapter_card
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.registry import load_rows
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.data import Mode
from spatialvlm.tasks.vsi.questions import FAMILIES, family
from spatialvlm.tasks.vsi.scoring import VSIBENCH
from spatialvlm.training.experiment import Experiment, RunArgs

KEPT = 64  # examples that stay in memory, with their frames


@dataclass
class VSIArgs(RunArgs):
    """Data, tests and the run folder, by default as published."""

    FLAG_GROUP: ClassVar = "data"
    BY_PROFILE: ClassVar = {"model": {"paper": loading.PUBLISHED, "embedded": str(loading.EMBEDDED)}}
    data: str = field(
        default="results/vsi_100k/scans-0",
        metadata={"help": "folder that make_data/vsi_100k.py wrote, or 'embedded': rendered rooms"},
    )
    train_limit: int = field(default=117_000, metadata={"help": "maximum number of training questions"})
    families: list[str] = field(
        default_factory=lambda: list(FAMILIES),
        metadata={"help": "families of questions trained on; the others are held out"},
    )
    num_frames: int = field(default=16, metadata={"help": "frames per video, evenly spread"})
    min_pixels: int = field(default=4 * 28 * 28, metadata={"help": "minimum per frame (Qwen)"})
    max_pixels: int = field(default=128 * 28 * 28, metadata={"help": "maximum per frame (Qwen)"})
    eval_data: str = field(default=vsibench.HUB_ID, metadata={"help": "VSI-Bench rows, or 'embedded'"})
    eval_frames: str | None = field(
        default=None,
        metadata={
            "help": "VSI-Bench's videos: <data set>/<scene>.mp4, or folders of frames; by default the hub's, "
            "downloaded"
        },
    )
    run_name: str = field(default="v", metadata={"help": "first part of the run folder's name"})

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        if not self.families or set(self.families) - set(FAMILIES):
            raise UserError(f"--families must be some of {', '.join(FAMILIES)}, not {self.families}")
        require_at_least(1, num_frames=self.num_frames)
        if not 1 <= self.min_pixels <= self.max_pixels:
            raise UserError(f"--min_pixels {self.min_pixels} must be between 1 and --max_pixels")
        if self.eval_data == "embedded" and self.eval_frames:
            raise UserError(
                "--eval_frames is for VSI-Bench; rendered rooms have their own frames: leave it out"
            )


def load_model(args: VSIArgs):
    """Load the model; returns (model, processor)."""
    return loading.load(args, train_adapter=True, pixels=(args.min_pixels, args.max_pixels))


# ---- training


def training_set(args: VSIArgs) -> Sequence[Example]:
    """Load the training questions that `args` describe, each with a `Video` and without a prompt.

    Raises:
        UserError: as `vsi.load`; a row without frames, or of a room that VSI-Bench tests.
    """
    loading.require_device(args)
    limit, frames = args.train_limit, args.num_frames
    if args.data == "embedded":
        return vsi_rooms.load("train", limit, args.seed, frames, "words", args.families)
    tested = tuple if args.eval_data == "embedded" else partial(vsibench.scenes, args.eval_data)
    return vsi.load(
        args.data, "train", limit, args.families, frames, need_frames=True, tested=tested, training=True
    )


def with_prompt(examples: Sequence[Example], mode: Mode) -> Sequence[Example]:
    """Return the examples with the prompt of training."""
    return mapped(
        examples,
        lambda example: replace(example, prompt=vsibench.training_prompt(example.question, mode)),
        KEPT,
    )


# ---- the test


def test_set(args: VSIArgs, mode: Mode) -> Sequence[Example]:
    """Load the questions of the test with their frames and the prompt of evaluation.

    Raises:
        UserError: as `vsi_rooms.load`, or as `vsibench.load` and `vsibench.with_frames`.
    """
    return load_rows(test_data(args, mode))


def test_data(args: VSIArgs, mode: Mode) -> DataSource:
    """Where the questions of the test and their frames come from."""
    rows = {"limit": args.eval_limit, "num_frames": args.num_frames, "mode": mode}
    if args.eval_data == "embedded":
        rooms = {"split": "test", "seed": vsi_rooms.TEST_SEED, "form": "words"}
        return DataSource("vsi_rooms", rows | rooms | {"limit": args.eval_limit or vsi_rooms.QUESTIONS})
    return DataSource("vsibench", rows | {"path": args.eval_data, "folder": args.eval_frames})


class VSIExperiment(Experiment):
    """Tested by family: on VSI-Bench, or in words on rendered rooms.

    Its table gives all questions of a family equal weight; the mean of relative direction's three types, and
    the official total over it, are in `eval_vsibench.py`.
    """

    def __init__(
        self,
        script: str,
        args: VSIArgs,
        model,
        mode: Mode,
        max_new_tokens: int = 16,
        train_set: Sequence[Example] = (),
    ) -> None:
        benchmark = vsi.inside_answer(vsi.BENCHMARK if args.eval_data == "embedded" else VSIBENCH, mode)
        questions, data = test_set(args, mode), test_data(args, mode)
        super().__init__(
            script,
            args,
            model,
            questions,
            benchmark,
            write_adapter_card,
            max_new_tokens=max_new_tokens,
            group=family,
            test_data=data,
            train_set=train_set,
        )
