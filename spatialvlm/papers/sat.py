"""Train on SAT's questions, test on CV-Bench: what GRPO and SFT of paper A share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench.scoring import CVBENCH
from spatialvlm.tasks.sat import data as sat
from spatialvlm.training.experiment import Experiment, RunArgs
from spatialvlm.worlds.clevr import series


@dataclass
class ExperimentArgs(RunArgs):
    """Data, tests and the run folder; the defaults are the published ones."""

    data: str = field(
        default="array/SAT",
        metadata={"help": "SAT rows (hub id, file, folder), a CLEVR folder, or 'embedded'"},
    )
    train_limit: int = field(default=15_000, metadata={"help": "training questions"})
    answer_form: Literal["natural", "letter", "mixed"] = field(
        default="natural", metadata={"help": "what is learnt to say: the choice's text, its letter, or both"}
    )
    polarity: Literal["closer", "balanced"] = field(
        default="closer",
        metadata={"help": "of depth and distance (rendered and CLEVR); balanced asks for farther as often"},
    )
    eval_data: str = field(default=cvbench.HUB_ID, metadata={"help": "CV-Bench rows, or 'embedded'"})
    full_test: bool = field(
        default=False,
        metadata={"help": "also Pass@4 at temperature 1.0, and Depth and Distance turned (OOD)"},
    )
    run_name: str = field(default="v2", metadata={"help": "first part of the run folder's name"})


def training_set(args: ExperimentArgs) -> Sequence[Example]:
    """SAT's questions as `args` ask for them."""
    if args.data == "embedded":
        return series.sat(
            "train", args.train_limit, args.seed, args.answer_form, args.polarity, share_scenes=True
        )
    if clevr.is_official_folder(args.data):
        return clevr.load_sat(args.data, args.train_limit, args.answer_form, args.polarity, seed=args.seed)
    if args.polarity != "closer":
        raise UserError("--polarity balanced is for rendered and CLEVR scenes; SAT's rows are as they are")
    return sat.load(args.data, "train", args.train_limit, args.answer_form, seed=args.seed)


class SATExperiment(Experiment):
    """Tested on CV-Bench; with `--full_test` in three more ways."""

    def __init__(self, script: str, args, model) -> None:
        test_set = cvbench.load(args.eval_data, limit=args.eval_limit)
        super().__init__(script, args, model, test_set, CVBENCH)

    def test(self, name: str, model, processor) -> list[Record]:
        """Greedy answers to the test, in the run folder's part `name`; with `--full_test` the others too."""
        records = super().test(name, model, processor)
        if self.args.full_test:
            turned = [e for e in cvbench.flip_polarity(self.test_set) if e.task in cvbench.TASKS_3D]
            self.part(f"{name}-ood", model, processor, turned)
            self.part(f"{name}-pass4", model, processor, self.test_set, num_samples=4)
            self.part(f"{name}-pass4-ood", model, processor, turned, num_samples=4)
        return records
