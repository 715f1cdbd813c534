"""Make Sparkle's data: 34,000 basic questions about 2,000 images, their tests, and the composite tests.

python make_data/sparkle.py                                          # the paper's form, 448 pixels
python make_data/sparkle.py --form embedded                          # 126 pixels, larger glyphs, fewer nodes
python make_data/sparkle.py --capabilities direction distance        # an ablation by capability
python make_data/sparkle.py --numbers false                          # without questions answered by a number
python make_data/sparkle.py --style background=beige lines=true noise=12 jitter=0.3       # for robustness
python make_data/sparkle.py --push_to_hub me/sparkle                 # and upload it to the hub

Writes a data set in the hub's format, card included: `datasets.load_dataset(<folder>)` reads its splits
train, validation, test and composite. Composite items (shortest paths, tours) are never in training. No
model, GPU or network is needed. The folder is there whole or not at all. Takes half a minute on 2 CPU cores.
"""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from spatialvlm import cli
from spatialvlm.disk import whole_folder
from spatialvlm.errors import UserError, first_line, require_at_least
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.data import CONFIGURATIONS, FORMS, Form
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES
from spatialvlm.worlds.plane.nodes import Style

BLOCK = 20  # images rendered by one process before it hands them over


@dataclass
class Args:
    form: Literal["paper", "embedded"] = field(
        default="paper", metadata={"help": "as published, or for a small vision tower of 14-pixel patches"}
    )
    configurations: int = field(
        default=CONFIGURATIONS["train"], metadata={"help": "images in the training split"}
    )
    test_items: int = field(default=200, metadata={"help": "test questions per task; 200 as published"})
    pairs: int | None = field(
        default=None,
        metadata={"help": "questions per training image; by default each family once, and one more"},
    )
    capabilities: list[str] = field(
        default_factory=lambda: list(CAPABILITIES),
        metadata={"help": "basic capabilities: direction, distance, localization"},
    )
    numbers: bool = field(
        default=True,
        metadata={"help": "whether to include families whose answer is a number (false: the ablation)"},
    )
    min_nodes: int | None = field(
        default=None, metadata={"help": "minimum number of nodes; by default the form's"}
    )
    max_nodes: int | None = field(
        default=None, metadata={"help": "maximum number of nodes; by default the form's"}
    )
    gap: float | None = field(
        default=None, metadata={"help": "minimum units between nodes; by default the form's"}
    )
    removed: float = field(
        default=sparkle_composite.REMOVED,
        metadata={"help": "fraction of lines missing in the grids with gaps"},
    )
    style: list[str] = field(
        default_factory=list,
        metadata={"help": f"name=value ...: {' '.join(setting.name for setting in fields(Style))}"},
    )
    seed: int = field(default=0, metadata={"help": "random seed of nodes, questions and noise"})
    num_workers: int = field(
        default=2, metadata={"help": "number of processes; the data does not depend on it"}
    )
    push_to_hub: str | None = field(default=None, metadata={"help": "owner/name on the hub to upload to"})
    output_dir: str | None = field(
        default=None, metadata={"help": "new folder; results/sparkle_data/<form>-<seed> by default"}
    )

    def __post_init__(self) -> None:
        sizes = {"configurations": self.configurations, "test_items": self.test_items}
        require_at_least(1, num_workers=self.num_workers, **sizes)


def form_of(args: Args) -> Form:
    form = FORMS[args.form]
    fewest, most = form.nodes[0], form.nodes[1] if args.max_nodes is None else args.max_nodes
    return replace(
        form,
        nodes=(min(fewest, most) if args.min_nodes is None else args.min_nodes, most),
        gap=form.gap if args.gap is None else args.gap,
        style=form.style.changed(args.style),
    )


def main(args: Args) -> Path:
    form = form_of(args)
    families = len(sparkle.chosen(args.capabilities, args.numbers))
    common = {"capabilities": args.capabilities, "numbers": args.numbers, "seed": args.seed, "form": form}
    once = common | {"pairs": families}  # in tests each family once per image
    composite = sparkle_composite.series(args.form, args.removed, args.seed, form)
    splits = {  # the series, and its number of images
        "train": (sparkle.series(args.form, "train", pairs=args.pairs, **common), args.configurations),
        "validation": (sparkle.series(args.form, "validation", **once), CONFIGURATIONS["validation"]),
        "test": (sparkle.series(args.form, "test", **once), args.test_items),
        sparkle_composite.SPLIT: (composite, args.test_items * len(composite.tasks)),
    }
    final = Path(args.output_dir or Path("results/sparkle_data", f"{args.form}-{args.seed}"))
    started, counts = time.monotonic(), {}
    with whole_folder(final) as folder, ProcessPoolExecutor(args.num_workers) as pool:
        for split, (series, images) in splits.items():
            counts[split] = Counter()
            made = tqdm(
                pool.map(partial(encoded, series), range(images), chunksize=BLOCK),
                desc=split,
                total=images,
                unit="image",
            )
            sparkle.write(folder / sparkle.file_name(split), counting(made, counts[split]))
        asks = {name: family.asks for name, family in FAMILIES.items()}
        asks |= {task.name: task.asks for task in composite.tasks}
        text = card(counts, asks, settings(args, form))
        (folder / "README.md").write_text(text, encoding="utf-8")
    pairs = ", ".join(f"{sum(tasks.values())} {split}" for split, tasks in counts.items())
    print(f"{pairs} questions written to {final} in {time.monotonic() - started:.0f} s", flush=True)
    if args.push_to_hub:
        push(final, args.push_to_hub)
    return final


def encoded(series: Callable[[int], list[Example]], index: int) -> list[rows.Row]:
    """The rows of an image's questions, all with its bytes."""
    examples, buffer = series(index), io.BytesIO()
    examples[0].images[0].save(buffer, "PNG")
    return [sparkle.row(example, buffer.getvalue()) for example in examples]


def counting(groups: Iterable[list[rows.Row]], counts: Counter[str]) -> Iterator[rows.Row]:
    for row in chain.from_iterable(groups):
        counts[row["task"]] += 1
        yield row


def settings(args: Args, form: Form) -> dict[str, Any]:
    """Everything that decides about the rows, for the card."""
    names = ("form", "configurations", "test_items", "capabilities", "numbers", "removed", "seed")
    return (
        {name: getattr(args, name) for name in names}
        | {"pairs": args.pairs or len(sparkle.chosen(args.capabilities, args.numbers)) + 1}
        | {"nodes": form.nodes, "gap": form.gap}
        | asdict(form.style)
    )


def card(
    counts: Mapping[str, Mapping[str, int]], asks: Mapping[str, str], settings: Mapping[str, Any]
) -> str:
    """The README.md of the data set.

    Args:
        counts: number of questions by split and task.
        asks: each task's question in one line.
        settings: everything that decides about the rows.
    """
    size = sum(sum(tasks.values()) for tasks in counts.values())
    band = next(
        name
        for name, most in (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6))
        if size < most
    )
    files = "".join(f"      - split: {split}\n        path: {sparkle.file_name(split)}\n" for split in counts)
    total = " | ".join(str(sum(counts[split].values())) for split in counts)
    table = "\n".join(
        f"| {task} | {words} | {' | '.join(str(counts[split].get(task, 0)) for split in counts)} |"
        for task, words in asks.items()
        if any(task in tasks for tasks in counts.values())
    )
    made = "\n".join(f"- `{name}`: {value}" for name, value in settings.items())
    return CARD.format(
        band=band,
        files=files,
        splits=" | ".join(counts),
        rules="---|" * len(counts),
        table=table,
        total=total,
        made=made,
    )


def push(folder: Path, name: str) -> None:
    """Upload the folder to the hub's data set `name`.

    Raises:
        UserError: the hub refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(name, repo_type="dataset", exist_ok=True)
        hub.upload_folder(folder_path=str(folder), repo_id=name, repo_type="dataset")
    except Exception as error:  # the hub's errors have no common ancestor
        raise UserError(
            f"--push_to_hub {name}: {first_line(error)}; log in with `hf auth login` and check the name. "
            f"{folder} is "
            "whole"
        ) from None
    print(f"sent to https://huggingface.co/datasets/{name}", flush=True)


CARD = """---
license: apache-2.0
language: en
task_categories:
  - visual-question-answering
tags:
  - spatial-reasoning
  - synthetic
size_categories:
  - {band}
configs:
  - config_name: default
    data_files:
{files}---
# Nodes on a plane: basic spatial questions, paths and tours

Labelled nodes at random places of a 10 x 10 plane, drawn, and questions about them in three capabilities
(direction, distance, localization), after Sparkle (Tang et al., arXiv 2410.16162), which published neither
code nor the exact questions: the families are ours. `composite`, for tests only, asks for shortest paths
through grids and for shortest tours. Everything is made by rule: there is no person, photograph or published
data in it, and every answer is exact.

| task | asks | {splits} |
|---|---|{rules}
{table}
| all | | {total} |

Columns: `image`, `question`, `prompt` (the question and how to answer), `answer`, `task`, `capability`,
`answer_type`, `options` (labels that the question lists), `nodes` (label, x, y; units of the plane, y
upwards); of paths `edges`, `start` and `end`; of paths and tours `optimum`, the length of the shortest. Any
route of that length is right; `answer` is one of them.

No question lies near the border of a sector or cell, or between distances that are nearly the same. Labels
are given to places at random, and short lists of answers are equally frequent, so that the text alone gives
nothing away.

Made with:

{made}
"""

if __name__ == "__main__":
    cli.run(main, Args)
