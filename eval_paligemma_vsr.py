"""Evaluate on VSR: is a caption about two things true of the photograph?

python eval_paligemma_vsr.py                               # GPU: PaliGemma 2, random test; CPU: embedded
python eval_paligemma_vsr.py --split dev --limit 1000      # the published row of paper A: 72.50
python eval_paligemma_vsr.py --data cambridgeltl/vsr_zeroshot --image_folder ../coco
python eval_paligemma_vsr.py --data dev.jsonl --image_folder ../coco     # train2017/ and val2017/ within
python eval_paligemma_vsr.py --adapter results/pali_sat_sft/sft-embedded-seed0/adapter --blank_image
accelerate launch eval_paligemma_vsr.py                    # sharded over all GPUs

Images come from the row, from --image_folder, or once from COCO, into the user's cache. Paper A
gives no prompt for VSR; ours is "Is the following statement true or false? {caption} Answer yes or no."
Prints accuracy by the seven groups of relations of the VSR paper, then by relation (`relations` in
summary.json), beside chance: a guess, or the more common label of each. Where the adapter was trained on
captions of this very test, a warning says how many (`trained_on` in summary.json).

The embedded model answers 600 captions over rendered scenes, of the three groups that can be rendered, in 1
to 2 minutes on 2 CPU cores. It was never trained on this form, and scores at chance.
Published: 6.1 GB model, 0.3 GB data (VSR, its images from COCO); 7 GB of disk, 4 GB of memory, 11.2 GB on the
GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from spatialvlm import cli, distributed
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks.vsr import data as vsr
from spatialvlm.tasks.vsr.scoring import BENCHMARK, by_relation, relation_table


@dataclass
class Args(evaluate.Args):
    BY_PROFILE: ClassVar = {"data": {"paper": vsr.HUB_ID, "embedded": "embedded"}}
    image_folder: str | None = field(
        default=None,
        metadata={"help": "folder of the images, or of train2017/ and val2017/; fetched where not given"},
    )


def overlap(adapter: str, examples: Sequence[Example]) -> list[dict]:
    """The test's captions that the adapter was trained on; rendered scenes have none."""
    pairs = [example.meta["pair"] for example in examples if "pair" in example.meta]
    return vsr.shared_with_training(adapter, pairs) if pairs else []


def main(args: Args) -> dict:
    loading.fill_defaults(args, "data")
    rows = {"path": args.data, "split": args.split or "test", "limit": args.limit}
    rows["image_folder"] = args.image_folder
    examples = vsr.load(**rows)
    model, processor = loading.load(args)
    trained_on = distributed.on_main(lambda: overlap(args.adapter, examples) if args.adapter else [])

    def facts(records: list[Record]) -> dict:
        relations = {example.id: example.meta["relation"] for example in examples}
        return {"relations": by_relation(records, relations), "trained_on": trained_on}

    data = DataSource("vsr", rows)
    _, summary = evaluate.run(model, processor, examples, BENCHMARK, args, facts, data)
    distributed.on_main(lambda: print(f"\n{relation_table(summary['relations'])}", flush=True))
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
