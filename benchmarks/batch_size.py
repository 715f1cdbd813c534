"""How many greedy answers depend on the batch they are computed in, by dtype.

python benchmarks/batch_size.py                             # embedded model, CV-Bench: 20 minutes on 2 cores
python benchmarks/batch_size.py --limit 100 --dtypes bfloat16

No answer depends on it in float32. In 16 bits a batch of another size or with other padding rounds sums in
another order, which decides between answers that are all but equally likely.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from spatialvlm import cli  # before transformers, whose notices it hides

# isort: split
import torch

from spatialvlm.errors import require_above_zero
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.evaluation.tables import text_table
from spatialvlm.models import loading, precision
from spatialvlm.tasks.cvbench import data as cvbench


@dataclass
class Args:
    limit: int = field(default=800, metadata={"help": "questions of the embedded CV-Bench"})
    batch_sizes: list[int] = field(
        default_factory=lambda: [64, 16, 1],
        metadata={"help": "the first is what the others are compared with"},
    )
    dtypes: list[str] = field(
        default_factory=lambda: ["float32", "bfloat16", "float16"], metadata={"help": "of the weights"}
    )


def converted(model, dtype: torch.dtype):
    """The float32 model as it would be loaded in `dtype`, which `--dtype float16` is refused for on a CPU."""
    for parameter in model.parameters():  # buffers, rotary frequencies among them, stay float32
        parameter.data = parameter.data.to(dtype)
    precision.float32_stream(model)
    return model


def main(args: Args) -> dict:
    require_above_zero(limit=args.limit)
    examples = cvbench.load("embedded", split="test", limit=args.limit)
    found: dict[str, dict] = {}
    for name in args.dtypes:
        model, processor = loading.load(loading.ModelArgs(profile="embedded", dtype="float32"))
        model = converted(model, getattr(torch, name))
        answered = {size: predict(model, processor, examples, batch_size=size) for size in args.batch_sizes}
        first = answered[args.batch_sizes[0]]
        for size, records in answered.items():
            pairs = list(zip(first, records, strict=True))
            found[f"{name}, {size}"] = {
                "accuracy": metrics.accuracy(records).as_dict(),
                "other answers": sum(one["completions"] != other["completions"] for one, other in pairs),
                "now right": sum(other["correct"] > one["correct"] for one, other in pairs),
                "now wrong": sum(other["correct"] < one["correct"] for one, other in pairs),
            }
            print(json.dumps({f"{name}, {size}": found[f"{name}, {size}"]}), flush=True)
    counts = ("other answers", "now right", "now wrong")
    rows = [("dtype, batch", "accuracy", *counts)]
    rows += [
        (name, f"{100 * row['accuracy']['value']:.1f}", *(str(row[count]) for count in counts))
        for name, row in found.items()
    ]
    print(text_table(rows))
    return found


if __name__ == "__main__":
    cli.run(main, Args)
