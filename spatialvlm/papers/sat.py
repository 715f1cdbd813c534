"""Paper A: training on SAT, tests on CV-Bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example
from spatialvlm.files.rows import read as read_rows
from spatialvlm.models import loading
from spatialvlm.reporting.cards import write_adapter_card
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import thoughts
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench.scoring import BENCHMARK
from spatialvlm.tasks.sat import data as sat
from spatialvlm.training.experiment import Experiment, RunArgs
from spatialvlm.worlds.clevr import series


@dataclass
class ExperimentArgs(RunArgs):
    """Data, tests and the run folder, by default as published."""

    FLAG_GROUP: ClassVar = "data"

    data: str = field(
        default="array/SAT",
        metadata={"help": "SAT rows (hub id, file, folder), a CLEVR folder, or 'embedded'"},
    )
    train_limit: int = field(default=15_000, metadata={"help": "training questions"})
    answer_form: Literal["natural", "letter", "mixed"] = field(
        default="natural", metadata={"help": "target of training: the choice's text, its letter, or a mix"}
    )
    polarity: Literal["closer", "balanced"] = field(
        default="closer",
        metadata={
            "help": "of depth and distance (rendered and CLEVR); balanced: half of them ask for farther"
        },
    )
    eval_data: str = field(default=cvbench.HUB_ID, metadata={"help": "CV-Bench rows, or 'embedded'"})
    full_test: bool = field(
        default=False,
        metadata={"help": "also Pass@4 at temperature 1.0, and Depth and Distance polarity-flipped (OOD)"},
    )
    run_name: str = field(default="v2", metadata={"help": "first part of the run folder's name"})


def training_set(args: ExperimentArgs, with_thoughts: bool = False) -> Sequence[Example]:
    """Load the training questions that `args` describe.

    Args:
        with_thoughts: whether rows with thoughts can be learnt.

    Raises:
        UserError: besides the loaders', rows with thoughts where they cannot be.
    """
    loading.require_device(args)
    if args.data == "embedded":
        return series.sat(
            "train", args.train_limit, args.seed, args.answer_form, args.polarity, share_scenes=True
        )
    if clevr.is_official_folder(args.data):
        return clevr.load_sat(args.data, args.train_limit, args.answer_form, args.polarity, seed=args.seed)
    if args.polarity != "closer":
        raise UserError("--polarity balanced is for rendered and CLEVR scenes; SAT's rows are as they are")
    if thoughts.lie_at(args.data):
        if not with_thoughts:
            _, row = read_rows(args.data, "train")[0]
            raise UserError(
                f"--data {args.data}: SAT's rows have image_bytes or images, question, answers, question_type"
                f" and correct_answer, these {', '.join(row)}; rows with thoughts: model/pali_sat_sft.py"
            )
        return thoughts.load(args.data, limit=args.train_limit)
    form = args.answer_form
    return sat.load(args.data, "train", args.train_limit, form, seed=args.seed, training=True)


class SATExperiment(Experiment):
    """Tested on CV-Bench; with `--full_test` also Pass@4 and polarity-flipped."""

    def __init__(
        self, script: str, args, model, max_new_tokens: int = 16, train_set: Sequence[Example] = ()
    ) -> None:
        source = {"path": args.eval_data, "limit": args.eval_limit}
        test_set = cvbench.load(**source)
        super().__init__(
            script,
            args,
            model,
            test_set,
            BENCHMARK,
            write_adapter_card,
            max_new_tokens,
            test_data=DataSource("cvbench", source),
            train_set=train_set,
        )

    def test(self, name: str, model, processor, examples: Sequence[Example]) -> list[Record]:
        """Greedy answers, in the run folder's part `name`; with `--full_test` the other tests' beside it."""
        records = super().test(name, model, processor, examples)
        if self.args.full_test:
            flipped = DataSource("cvbench", {**self.test_data.arguments, "flipped": True})
            questions = [e for e in cvbench.flip_polarity(examples) if e.task in cvbench.TASKS_3D]
            self.part(f"{name}-ood", model, processor, questions, data=flipped)
            self.part(f"{name}-pass4", model, processor, examples, num_samples=4)
            self.part(f"{name}-pass4-ood", model, processor, questions, num_samples=4, data=flipped)
        return records
