"""What the embedded model can do, measured on scenes it never saw, and its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Rule
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.worlds.clevr import series as rendered

Scores = dict[str, dict[str, dict]]


def read_exact(text: str, example: Example) -> str | None:
    """The whole text in lower case: a free answer is right if it says the gold answer and nothing else."""
    return " ".join(text.lower().split()) or None


EXACT = Rule("exact", "the whole text, but for case", read_exact)


def measure(model, processor, each: int, official: str | None = None) -> Scores:
    """Accuracy by kind with 95 % intervals, on the right images and on shuffled ones.

    Args:
        each: questions of every kind, each over a scene of its own.
        official: a folder in CLEVR's official form; adds the free questions and the official ones on it.

    Returns:
        {form: {kind: {"n", "accuracy", "interval", "shuffled"}}}.
    """
    kinds = {"free": 6, "cvbench": 4, "sat, choice's text": 4, "sat, letter": 4, "clevr": 8}
    series = {
        "free": rendered.free("test", kinds["free"] * each),
        "cvbench": rendered.cvbench("test", kinds["cvbench"] * each),
        "sat, choice's text": rendered.sat("test", kinds["sat, choice's text"] * each),
        "sat, letter": rendered.sat("test", kinds["sat, letter"] * each, answer_form="letter"),
        "clevr": rendered.clevr("test", kinds["clevr"] * each // 2),
    }
    if official is not None:
        series["free, official images"] = clevr.load_free(official)
        series["clevr, official images"] = clevr.load(official)
    return {form: _scores(model, processor, series[form], form) for form in series}


def _scores(model, processor, examples: Sequence[Example], form: str) -> dict[str, dict]:
    rule = STRICT_CHOICE if form == "cvbench" else EXACT
    seen = metrics.by_task(predict(model, processor, examples, rule, progress=form))
    blind = metrics.by_task(predict(model, processor, shuffle_images(examples), rule))
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
    left_out = ("output_dir", "work_dir", "official", "tower")  # folders of this machine
    settings = "\n".join(f"- `{k}`: {value}" for k, value in asdict(args).items() if k not in left_out)
    tables = "\n\n".join(f"### {form}\n\n{table(rows)}" for form, rows in scores.items())
    (folder / "README.md").write_text(
        CARD.format(
            times=times,
            device=device,
            settings=settings,
            tables=tables,
            tower=TOWER if args.tower else "",
            torch=torch.__version__,
            transformers=transformers.__version__,
        )
    )


TOWER = """

The vision stage was run for an earlier model, with the settings above, and its rows of the curve are from
that run; this model started from that one's tower (`--tower`)."""

CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# The embedded model

A PaliGemma 2 of 5.5 million weights (SigLIP tower: 6 layers, width 192, 126 px, 81 image tokens; Gemma
2: 4 layers, width 192), trained from random weights on rendered CLEVR scenes. It answers short
questions about them, and knows nothing else; how well, by kind and by form, is in the tables below.

```python
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

model = PaliGemmaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
processor = AutoProcessor.from_pretrained(folder)
```

## How it was made

`python -m pretrain.embedded` on {device} (torch {torch}, transformers {transformers}).
Training: {times}. Drawing the scenes and asking
the questions comes on top. The curve is in `curve.jsonl`. Settings:

{settings}

Data: scenes of the series `pretrain` and questions over them (`pretrain/quiz.py`); no
published image or question. **It favours the letter A, and was made to:** lettered questions are learnt
with their options shuffled, but the last stage lists the right one first, as SAT's own files do. Models that
were never trained to reason in letters have this selection bias (Zheng et al., ICLR 2024). So it sees more
than it says in letters, as the paper's base model does, and training has something to show.{tower}

## What it can do

In percent, on scenes of the `test` split (never trained on). Free answers count only if they are the
gold answer, word for word. "Images shuffled" is the same questions, each with another one's image: what
the text alone gives away. Rows named "official images" are published CLEVR images, which it never saw;
the free questions there are ours.

{tables}
"""
