"""Sparkle's training: what its SFT and GRPO share. Basic capabilities alone are trained on, and tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES
from spatialvlm.tasks.sparkle.scoring import BASIC, with_vocabulary
from spatialvlm.training.experiment import Experiment, RunArgs

MADE = "made"
# By profile. At 224 pixels the labels are too small; ours has learnt to read them where `labels` is there.
MODELS = {
    "paper": "google/paligemma2-3b-mix-448",
    "embedded": str(loading.LABELS),
}


@dataclass
class SparkleArgs(RunArgs):
    """Data, tests and the run folder; the defaults are the published ones."""

    data: str = field(
        default=MADE,
        metadata={"help": "made = in --form, as they are looked at; or a folder of make_data/sparkle.py"},
    )
    form: Literal["paper", "embedded"] = field(
        default="paper",
        metadata={"help": "of questions that are made; embedded = larger glyphs, fewer nodes"},
    )
    capabilities: list[str] = field(
        default_factory=lambda: list(CAPABILITIES),
        metadata={"help": "basic capabilities trained on: direction, distance, localization"},
    )
    numbers: bool = field(
        default=True, metadata={"help": "with the families whose answer is a number (false: the ablation)"}
    )
    configurations: int = field(
        default=sparkle.CONFIGURATIONS["train"],
        metadata={"help": "pictures trained on, of those that are made"},
    )
    train_limit: int = field(default=34_000, metadata={"help": "training questions, at most"})
    eval_data: str = field(
        default=MADE, metadata={"help": "test questions, of all capabilities: made, or a folder as --data"}
    )
    run_name: str = field(default="all", metadata={"help": "first part of the run folder's name"})

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        sparkle.chosen(self.capabilities, self.numbers)
        if self.configurations < 1:
            raise UserError(f"--configurations must be at least 1, not {self.configurations}")
        if self.data != MADE and self.configurations != sparkle.CONFIGURATIONS["train"]:
            raise UserError(
                f"--configurations {self.configurations} is of questions that are made, and --data has its "
                "own; give one of the two (make_data/sparkle.py --configurations makes such a folder)"
            )
        if self.eval_limit is not None and self.eval_limit < 2 * len(FAMILIES):
            raise UserError(
                f"--eval_limit {self.eval_limit}: the test needs two pictures, that is {2 * len(FAMILIES)} "
                "questions, so that images can be shuffled among them"
            )
        self.model = self.model or MODELS[loading.resolve_profile(self)[0]]


def training_set(args: SparkleArgs) -> Sequence[Example]:
    """Basic questions as `args` ask for them.

    Raises:
        UserError: as `sparkle.load`; a file's question is one of the test.
    """
    found = sparkle.load(
        args.form if args.data == MADE else args.data,
        "train",
        args.train_limit,
        args.capabilities,
        args.numbers,
        args.configurations,
        seed=args.seed,
    )
    if args.data != MADE:  # a single file is read whatever its name says of the split
        tested = {example.id for example in test_set(args)}
        if both := next((example.id for example in found if example.id in tested), None):
            raise UserError(
                f"--data {args.data}: its question {both!r} is one of the test; give the training split"
            )
    return _in_memory(found, args)


def test_set(args: SparkleArgs) -> Sequence[Example]:
    """The basic questions of the test split, each family once a picture, whatever is trained on."""
    source = args.form if args.eval_data == MADE else args.eval_data
    found = sparkle.load(source, "test", args.eval_limit, pairs=len(FAMILIES))
    return _in_memory(with_vocabulary(found), args)


def _in_memory(examples: Sequence[Example], args: SparkleArgs) -> Sequence[Example]:
    """The embedded form's pictures are 40 kB each and are made once; the paper's are made when looked at."""
    return list(examples) if args.form == "embedded" else examples


class SparkleExperiment(Experiment):
    """Tested on the basic questions, with a row of the table for each capability."""

    def __init__(self, script: str, args: SparkleArgs, model) -> None:
        super().__init__(
            script, args, model, test_set(args), BASIC, group=lambda task: FAMILIES[task].capability
        )
