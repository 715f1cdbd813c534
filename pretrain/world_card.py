"""What the embedded model can do in a further world, on items it never saw, and the adapter's card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

import peft
import torch
from peft import PeftModel
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration

from pretrain.card import EXACT, Scores, table
from pretrain.worlds import World
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example
from spatialvlm.models import loading


def examples(world: World, each: int) -> list[Example]:
    """`each` short questions of every kind over the test split, each kind at most once per item."""
    found: dict[str, list[Example]] = {}
    index, ask = 0, world.plans["short"].ask
    while index < each or min(map(len, found.values())) < each:
        item, rng = world.make("test", index), Random(f"card-{world.name}-{index}")
        images = tuple(Image.fromarray(image) for image in item.images)
        asked = {made.kind: made for made in (ask(item, rng) for _ in range(60)) if made}
        for kind, made in sorted(asked.items()):
            listed = found.setdefault(kind, [])
            if len(listed) < each:
                id = f"{world.name}-{kind}-{index}"
                listed.append(Example(id, images, made.prompt, made.answer, kind))
        index += 1
    return [example for _, listed in sorted(found.items()) for example in listed]


def measure(world: World, folder: Path, processor, each: int) -> Scores:
    """Accuracy by kind on the right images and on shuffled ones, as `card.measure` has them."""
    model = PaliGemmaForConditionalGeneration.from_pretrained(
        loading.EMBEDDED, dtype=torch.float32, attn_implementation="eager"
    )
    model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval()
    asked = examples(world, each)
    seen = metrics.by_task(predict(model, processor, asked, EXACT, progress=world.name))
    blind = metrics.by_task(predict(model, processor, shuffle_images(asked), EXACT))
    return {
        "short questions": {
            kind: {"n": one.n, "accuracy": one.value, "interval": one.interval, "shuffled": blind[kind].value}
            for kind, one in seen.items()
        }
    }


def write(folder: Path, world: World, scores: Scores, curve: Sequence[dict], args) -> None:
    """README.md (the card), accuracy.json and curve.jsonl beside the weights."""
    (folder / "accuracy.json").write_text(json.dumps(scores, indent=1) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    seconds = {row["stage"]: row["seconds"] for row in curve}  # the last row of a stage has its whole time
    left_out = ("output_dir", "work_dir")
    (folder / "README.md").write_text(
        CARD.format(
            name=world.name,
            taught=world.taught.strip(),
            frames=world.frames,
            times=", ".join(f"{stage} {value / 60:.0f} min" for stage, value in seconds.items()),
            threads=torch.get_num_threads(),
            settings="\n".join(f"- `{k}`: {v}" for k, v in asdict(args).items() if k not in left_out),
            tables="\n\n".join(f"## {form.capitalize()}\n\n{table(rows)}" for form, rows in scores.items()),
            peft=peft.__version__,
        )
    )


CARD = """\
---
license: apache-2.0
library_name: peft
base_model: spatialvlm/embedded
---
# The embedded model in the world of {name}

A PEFT adapter for the embedded model in the folder above, made by
`python -m pretrain.world_adapter --world {name}`; `models.load` merges it into the model.

{taught}

In percent, on {frames} image(s) per item of the `test` series, never trained on. An answer counts if it is
the gold answer, word for word. "Images shuffled" is the same questions, each with another item's images:
what the text alone gives away.

{tables}

## How it was made

{times} on {threads} CPU threads (torch.compile, bfloat16), peft {peft}; `curve.jsonl` has the curve.

{settings}
"""
