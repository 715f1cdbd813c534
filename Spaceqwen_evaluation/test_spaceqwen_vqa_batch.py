"""Count with Qwen2.5-VL and SpaceQwen: CLEVR (CoGenT ValB), SAT, CV-Bench and PixMo-Count.

python test_spaceqwen_vqa_batch.py --counting_only                       # GPU: Qwen2.5-VL-3B; CPU: embedded
python test_spaceqwen_vqa_batch.py --counting_only --model remyxai/SpaceQwen2.5-VL-3B-Instruct
python test_spaceqwen_vqa_batch.py --dataset clevr --samples 100 --batch_size 4
python test_spaceqwen_vqa_batch.py --dataset sat --data ../sat.parquet
accelerate launch test_spaceqwen_vqa_batch.py --counting_only            # sharded over all GPUs

Prints and writes, for each data set: accuracy; the fraction within --threshold of the right count; and
close-call, the fraction of the wrong counts that are off by exactly one. All come with n and 95 % intervals,
and in the paper's profile beside what is published. Answers are greedy. Every --interim_every questions the
scores so far are printed and written. A stopped run resumes when its command is given again. The embedded
model took 2.5 minutes for its 800 questions on 2 CPU cores that other work used as well.
Published: 7.5 GB model, 3.6 GB data (CoGenT ValB, SAT static, CV-Bench 2D, PixMo's links); 16 GB of disk, 4
GB of memory, 12.9 GB on the GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.evaluation.summary import table as table_of_tasks
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.models.qwen import ChatProcessor
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.counting import data as counting
from spatialvlm.tasks.counting.data import SOURCES
from spatialvlm.tasks.counting.published import ACCURACY_AND_CLOSE_CALL, QWEN
from spatialvlm.tasks.counting.scoring import benchmark, fractions, table


@dataclass
class Args(loading.ModelArgs):
    BY_PROFILE: ClassVar = {
        "data": {"paper": None, "embedded": "embedded"},
        "model": {"paper": QWEN, "embedded": str(loading.EMBEDDED)},
    }
    model: str | None = field(
        default=None, metadata={"help": "hub id or folder: Qwen2-VL, Qwen2.5-VL or PaliGemma; by profile"}
    )
    dataset: list[str] = field(
        default_factory=lambda: list(SOURCES),
        metadata={"help": f"some of {', '.join(SOURCES)}; all by default"},
    )
    data: str | None = field(
        default=None, metadata={"help": "a file or folder of the one --dataset, or 'embedded'; by profile"}
    )
    split: str | None = field(default=None, metadata={"help": "split of each data set; its own by default"})
    counting_only: bool = field(
        default=False, metadata={"help": "without CLEVR's questions that no number answers"}
    )
    start_sample: int = field(default=0, metadata={"help": "number of the first question of each data set"})
    samples: int | None = field(
        default=None, metadata={"help": "maximum number of questions per data set; embedded: 200"}
    )
    batch_size: int = field(
        default=16, metadata={"help": "questions per batch and device; changes no float32 score"}
    )
    threshold: int = field(default=1, metadata={"help": "maximum error of a count to be within"})
    interim_every: int = field(
        default=100, metadata={"help": "questions from one interim result to the next"}
    )
    max_new_tokens: int | None = field(
        default=None,
        metadata={"help": "maximum length of an answer, in tokens; 1024 for models that chat, else 16"},
    )
    rule: Literal["strict", "official", "paper"] = field(
        default="strict", metadata={"help": "who parses: ours, R1-V, or paper A's script"}
    )
    image_cache: str | None = field(
        default=None, metadata={"help": "folder for PixMo-Count's photographs; ~/.cache where not given"}
    )
    output_dir: str | None = field(
        default=None,
        metadata={"help": "run folder; results/<script>/<model>-<hash of the arguments> by default"},
    )

    def __post_init__(self) -> None:
        require_at_least(
            1,
            batch_size=self.batch_size,
            samples=self.samples,
            interim_every=self.interim_every,
            max_new_tokens=self.max_new_tokens,
        )
        require_at_least(0, start_sample=self.start_sample, threshold=self.threshold)
        self.dataset = list(dict.fromkeys(name.lower() for name in self.dataset))
        if unknown := [name for name in self.dataset if name not in SOURCES]:
            raise UserError(f"--dataset {unknown[0]}: must be among {', '.join(SOURCES)}")
        if self.data not in (None, "embedded") and len(self.dataset) > 1:
            raise UserError(f"--data {self.data} is one data set; name it with --dataset")


def count(model, processor, examples: Sequence[Example], args: Args, data: DataSource) -> dict:
    """Answer all questions into the run folder, with the scores so far now and then; returns the summary."""
    scored = benchmark(args.threshold)
    settings = evaluate.Settings(
        scored.rules[args.rule],
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        num_workers=evaluate.default_workers(model.device),
    )
    gold = evaluate.gold_answers(examples, settings, scored.title)  # before there is a folder
    folder = distributed.on_main(lambda: evaluate.open_run(model, args, scored.title, data))
    comparable = loading.resolve_profile(args)[0] == "paper" and not args.adapter
    name, _ = loading.split_revision(loading.model_name(args))
    published = ACCURACY_AND_CLOSE_CALL.get(name) if comparable else None

    def facts(records: list[Record]) -> dict:
        by_source = {
            source: {name: estimate.as_dict() for name, estimate in each.items()}
            for source, each in fractions(records, args.threshold).items()
        }
        return {"threshold": args.threshold, "counting": by_source, "questions": len(examples)}

    def report(summary: dict) -> None:
        print(f"\n{summary['n']} of {len(examples)} questions")
        if summary["n"] == len(examples) and not args.counting_only:
            print(f"{table_of_tasks(summary)}\n")
        by_source = {
            source: {name: Estimate(**part) for name, part in each.items()}
            for source, each in summary["counting"].items()
        }
        print(table(by_source, args.threshold, published), flush=True)

    _, summary = evaluate.answer_into(
        folder,
        model,
        processor,
        examples,
        gold,
        scored,
        settings,
        facts=facts,
        interim_every=args.interim_every,
        report=report,
    )
    distributed.on_main(lambda: report(summary))
    distributed.on_main(lambda: print(f"written to {folder.folder}", flush=True))
    return summary


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    rows = {"names": args.dataset, "path": args.data, "split": args.split, "limit": args.samples}
    rows |= {"counting_only": args.counting_only, "start": args.start_sample, "image_cache": args.image_cache}
    examples = counting.load(**rows)
    model, processor = loading.load(args)
    chats = isinstance(processor, ChatProcessor)
    args.max_new_tokens = args.max_new_tokens or (1024 if chats else 16)
    examples = counting.instructed(examples) if chats else examples
    return count(model, processor, examples, args, DataSource("counting", rows | {"instruct": chats}))


if __name__ == "__main__":
    cli.run(main, Args)
