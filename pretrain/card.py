"""What the embedded model can do, measured on scenes it never saw, and its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from random import Random

import torch
import transformers
from PIL import Image

from pretrain import nodes_world, scenes_world
from pretrain.worlds import World
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Rule
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.worlds.clevr import official_questions
from spatialvlm.worlds.clevr import series as rendered
from spatialvlm.worlds.clevr.questions import CVBENCH_TASKS, FREE_KINDS, SAT_KINDS

Scores = dict[str, dict[str, dict]]
MAX_NEW_TOKENS = 24


def read_exact(text: str, example: Example) -> str | None:
    """The whole text in lower case: a free answer is right if it says the gold answer and nothing else."""
    return " ".join(text.lower().split()) or None


EXACT = Rule("exact", "the whole text, but for case", read_exact)


def measure(model, processor, each: int, official: str | None = None) -> Scores:
    """Accuracy by kind with 95 % intervals, on the right images and on shuffled ones.

    Args:
        each: questions of every kind, each over an image of its own; of nodes half as many.
        official: a folder in CLEVR's official form; adds the free questions and the official ones on it.

    Returns:
        {form: {kind: {"n", "accuracy", "interval", "shuffled"}}}.
    """
    fewer = max(2, each // 2)  # of the many kinds of nodes; at least two images, to shuffle them
    forms: dict[str, Sequence[Example]] = {
        "free": rendered.free("test", len(FREE_KINDS) * each),
        "two things or more": _asked(scenes_world.WORLD, "pairs", each),
        "cvbench": rendered.cvbench("test", len(CVBENCH_TASKS) * each),
        "cvbench, out of distribution": rendered.cvbench("test", len(CVBENCH_TASKS) * each, ood=True),
        "sat": rendered.sat("test", len(SAT_KINDS) * each),
        "clevr": rendered.clevr("test", len(official_questions.FAMILIES) * each),
        "rooms": _asked(scenes_world.WORLD, "rooms", each),
        "nodes": _asked(nodes_world.WORLD, "short", fewer),
        "nodes, Sparkle's form": _asked(nodes_world.WORLD, "forms", fewer),
        "nodes, routes": _asked(nodes_world.WORLD, "routes", fewer),
    }
    if official is not None:
        forms["free, official images"] = clevr.load_free(official)
        forms["clevr, official images"] = clevr.load(official)
    return {form: _scores(model, processor, examples, form) for form, examples in forms.items()}


def _asked(world: World, plan: str, each: int) -> list[Example]:
    """So many questions of every kind of a plan, over images of the test split."""
    examples, wanted = [], world.plans[plan]
    left = {kind: each for kind in wanted.askers}
    for number in count():
        facts = world.make("test", number)
        if not wanted.only(facts):
            continue
        image = Image.fromarray(world.draw(facts).image)
        for kind in [kind for kind, missing in left.items() if missing]:
            asked = wanted.askers[kind][0](facts, Random(f"card-{plan}-{kind}-{number}"))
            if asked:
                id = f"{world.name}-{plan}-{kind}-{number}"
                prompt, answer = asked.prompt, asked.answer
                examples.append(
                    Example(id, (image,), prompt, answer, kind, prompt=prompt, meta={"item": number})
                )
                left[kind] -= 1
        if not any(left.values()):
            return examples
    raise AssertionError("items never end")


def _scores(model, processor, examples: Sequence[Example], form: str) -> dict[str, dict]:
    rule = STRICT_CHOICE if form.startswith("cvbench") else EXACT
    seen = metrics.by_task(
        predict(model, processor, examples, rule, progress=form, max_new_tokens=MAX_NEW_TOKENS)
    )
    blind = metrics.by_task(
        predict(model, processor, shuffle_images(examples), rule, max_new_tokens=MAX_NEW_TOKENS)
    )
    return {
        task: {
            "n": found.n,
            "accuracy": found.value,
            "interval": found.interval,
            "shuffled": blind[task].value,
        }
        for task, found in seen.items()
    }


def table(scores: dict[str, dict]) -> str:
    """One form's scores in percent, as a Markdown table."""
    lines = ["| kind | n | accuracy | 95 % interval | images shuffled |", "|---|---|---|---|---|"]
    for kind, row in scores.items():
        low, high = row["interval"]
        lines.append(
            f"| {kind} | {row['n']} | {100 * row['accuracy']:.1f} | {100 * low:.1f} - {100 * high:.1f} "
            f"| {100 * row['shuffled']:.1f} |"
        )
    return "\n".join(lines)


def write(folder: Path, scores: Scores, args, curve: Sequence[dict]) -> None:
    """README.md (the card), accuracy.json and curve.jsonl beside the weights."""
    (folder / "accuracy.json").write_text(json.dumps(scores, indent=1) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    seconds = {row["stage"]: row["seconds"] for row in curve}  # the last row of a stage has its whole time
    times = ", ".join(f"{stage} {value / 60:.0f} min" for stage, value in seconds.items())
    device = "a GPU" if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    left_out = ("output_dir", "work_dir", "official")  # folders of this machine
    settings = "\n".join(f"- `{k}`: {value}" for k, value in asdict(args).items() if k not in left_out)
    tables = "\n\n".join(f"### {form}\n\n{table(rows)}" for form, rows in scores.items())
    text = CARD.format(
        times=times,
        device=device,
        settings=settings,
        tables=tables,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )
    (folder / "README.md").write_text(text)


CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# The embedded model

A PaliGemma 2 of 5.5 million weights (SigLIP tower: 6 layers, width 192, 126 px, 81 image tokens; Gemma
2: 4 layers, width 192), trained from random weights on two rendered worlds: CLEVR's scenes, a third of them
on a bounded floor, and labelled nodes on a plane. It answers short questions about them, and knows nothing
else; how well, by kind and by form, is in the tables below.

```python
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

model = PaliGemmaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
processor = AutoProcessor.from_pretrained(folder)
```

## How it was made

`python -m pretrain.embedded` on {device} (torch {torch}, transformers {transformers}).
Training: {times}. Drawing the images and asking
the questions comes on top. The curve is in `curve.jsonl`. Settings:

{settings}

Data: items of the split `train` of both worlds and questions about them (`pretrain/scenes_world.py`,
`nodes_world.py`); no published image or question. What there is to see is taught in short free questions.
Of the benchmarks' forms a part is learnt: CLEVR's official families and VSI-100k's questions. Of Sparkle's
families most answers mean nothing but their form, and of a path half are any way along the lines. The wording
of SAT, CV-Bench and VSR, and options to choose from, it never met. So the model sees more than it says in
those forms, and training has something to show.

## What it can do

In percent, on scenes of the `test` split (never trained on). Free answers count only if they are the
gold answer, word for word. "Images shuffled" is the same questions, each with another one's image: what
the text alone gives away. Rows named "official images" are published CLEVR images, which it never saw;
the free questions there are ours.

{tables}
"""
