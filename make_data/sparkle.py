"""Make Sparkle's data: 34,000 basic questions about 2,000 pictures, their tests, and the composite tests.

python make_data/sparkle.py                                          # the paper's form, 448 pixels
python make_data/sparkle.py --form embedded                          # 112 pixels, larger glyphs, fewer nodes
python make_data/sparkle.py --capabilities direction distance        # an ablation by capability
python make_data/sparkle.py --numbers false                          # without questions answered by a number
python make_data/sparkle.py --style background=beige lines=true noise=12 jitter=0.3       # for robustness
python make_data/sparkle.py --push_to_hub me/sparkle                 # and send it to the hub

Writes a data set in the hub's form, card included: `datasets.load_dataset(<folder>)` reads its splits train,
validation, test and composite. Composite items (shortest paths, tours) are never in training. No model, GPU
or network is needed. The folder is there whole or not at all. Takes half a minute on 2 CPU cores.
"""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.tasks.clevr import described_files
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle import files as sparkle_files
from spatialvlm.tasks.sparkle.data import CONFIGURATIONS, FORMS, Form
from spatialvlm.tasks.sparkle.questions import CAPABILITIES, FAMILIES

BLOCK = 20  # pictures made by one process before it hands them over


@dataclass
class Args:
    form: Literal["paper", "embedded"] = field(
        default="paper", metadata={"help": "as published, or for a small vision tower of 14-pixel patches"}
    )
    configurations: int = field(
        default=CONFIGURATIONS["train"], metadata={"help": "pictures in the training split"}
    )
    test_items: int = field(default=200, metadata={"help": "test questions of each task"})
    pairs: int | None = field(
        default=None,
        metadata={"help": "questions a training picture; each family once, and one more, by default"},
    )
    capabilities: list[str] = field(
        default_factory=lambda: list(CAPABILITIES),
        metadata={"help": "basic capabilities to ask for: direction, distance, localization"},
    )
    numbers: bool = field(
        default=True, metadata={"help": "with the families whose answer is a number (false: the ablation)"}
    )
    min_nodes: int | None = field(default=None, metadata={"help": "fewest nodes of a picture; by form"})
    max_nodes: int | None = field(default=None, metadata={"help": "most nodes of a picture; by form"})
    gap: float | None = field(default=None, metadata={"help": "units between nodes at least; by form"})
    removed: float = field(
        default=sparkle_composite.REMOVED, metadata={"help": "share of lines missing in the grids with gaps"}
    )
    style: list[str] = field(
        default_factory=list,
        metadata={
            "help": "name=value ...: width radius glyph text shape node label background lines noise jitter"
        },
    )
    seed: int = field(default=0, metadata={"help": "of everything that is drawn"})
    num_workers: int = field(default=2, metadata={"help": "processes that draw; changes no row"})
    push_to_hub: str | None = field(default=None, metadata={"help": "owner/name to send the data set to"})
    output_dir: str | None = field(
        default=None, metadata={"help": "new folder; results/sparkle_data/<form>-<seed> by default"}
    )

    def __post_init__(self) -> None:
        for name in ("configurations", "test_items", "num_workers"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")


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
    asked = {"capabilities": args.capabilities, "numbers": args.numbers, "seed": args.seed, "form": form}
    once = asked | {"pairs": families}  # in tests each family once a picture
    composite = sparkle_composite.series(args.form, args.removed, args.seed, form)
    splits = {  # what makes a picture's questions, and how many pictures
        "train": (sparkle.series(args.form, "train", pairs=args.pairs, **asked), args.configurations),
        "validation": (sparkle.series(args.form, "validation", **once), CONFIGURATIONS["validation"]),
        "test": (sparkle.series(args.form, "test", **once), args.test_items),
        sparkle_composite.SPLIT: (composite, args.test_items * len(composite.tasks)),
    }
    final = Path(args.output_dir or Path("results/sparkle_data", f"{args.form}-{args.seed}"))
    started, counts = time.monotonic(), {}
    with described_files.whole_folder(final) as folder, ProcessPoolExecutor(args.num_workers) as pool:
        for split, (series, pictures) in splits.items():
            counts[split] = Counter()
            made = tqdm(
                pool.map(partial(encoded, series), range(pictures), chunksize=BLOCK),
                desc=split,
                total=pictures,
                unit="picture",
            )
            sparkle_files.write(folder / sparkle_files.file_name(split), counting(made, counts[split]))
        asks = {name: family.asks for name, family in FAMILIES.items()}
        asks |= {task.name: task.asks for task in composite.tasks}
        card = sparkle_files.card(counts, asks, settings(args, form))
        (folder / "README.md").write_text(card, encoding="utf-8")
    pairs = ", ".join(f"{sum(tasks.values())} {split}" for split, tasks in counts.items())
    print(f"{pairs} questions written to {final} in {time.monotonic() - started:.0f} s", flush=True)
    if args.push_to_hub:
        sparkle_files.push(final, args.push_to_hub)
    return final


def encoded(series: Callable[[int], list[Example]], index: int) -> list[rows.Row]:
    """The rows of a picture's questions, which share its bytes."""
    examples, buffer = series(index), io.BytesIO()
    examples[0].images[0].save(buffer, "PNG")
    return [sparkle_files.row(example, buffer.getvalue()) for example in examples]


def counting(pictures: Iterable[list[rows.Row]], counts: Counter[str]) -> Iterator[rows.Row]:
    for row in chain.from_iterable(pictures):
        counts[row["task"]] += 1
        yield row


def settings(args: Args, form: Form) -> dict[str, Any]:
    """What decides about the rows, as the card tells it."""
    told = ("form", "configurations", "test_items", "capabilities", "numbers", "removed", "seed")
    return (
        {name: getattr(args, name) for name in told}
        | {"pairs": args.pairs or len(sparkle.chosen(args.capabilities, args.numbers)) + 1}
        | {"nodes": form.nodes, "gap": form.gap}
        | asdict(form.style)
    )


if __name__ == "__main__":
    cli.run(main, Args)
