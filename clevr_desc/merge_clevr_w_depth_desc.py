"""Describe CLEVR's scenes: scenes, questions and images joined into one data set with three descriptions.

python clevr_desc/merge_clevr_w_depth_desc.py                         # rendered scenes, 400 questions
python clevr_desc/merge_clevr_w_depth_desc.py --data ../CLEVR_CoGenT_v1.0 --split valB
python clevr_desc/merge_clevr_w_depth_desc.py --data ../CLEVR_v1.0 --no_images --format jsonl
python clevr_desc/merge_clevr_w_depth_desc.py --data ../CLEVR_v1.0 --depth ../depth  # CLEVR_val_000000.png
python clevr_desc/merge_clevr_w_depth_desc.py --data ../CLEVR_CoGenT_v1.0 --split valB --push_to_hub me/new

Every question gets its scene as a list (structured), as an ordered list (ordered) and in sentences (nlp);
left, right, front and behind are the camera's. `--world_axes` gives the published order, along the world's x
and y, which is wrong. README.md here has the columns, what the error costs, and time and memory as measured.
It says at the end how many questions have their gold answer by the description. The output folder is there
whole or not at all; a run that was stopped starts again.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image
from tqdm import tqdm

from spatialvlm import cli
from spatialvlm.disk import whole_folder
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import described, described_files

DepthOf = Callable[[Example], Image.Image | Path | None]


@dataclass
class Args:
    data: str = field(
        default="embedded",
        metadata={"help": "CLEVR's folder (scenes/, questions/, images/), or 'embedded': rendered scenes"},
    )
    split: str | None = field(
        default=None, metadata={"help": "val, valA, valB, ... of the folder, 'val' by default; test embedded"}
    )
    limit: int | None = field(default=None, metadata={"help": "at most this many questions, the first ones"})
    world_axes: bool = field(
        default=False, metadata={"help": "sides along the world's x and y: the published, wrong order"}
    )
    no_images: bool = field(default=False, metadata={"help": "leave images out (the column is empty)"})
    depth: str | None = field(
        default=None,
        metadata={
            "help": "'rendered' from the scenes; a folder of depth maps called like the images; or rows "
            "of image and depth with such paths; rendered scenes have theirs, with --no_images none"
        },
    )
    depth_split: str | None = field(
        default=None,
        metadata={
            "help": "split of the depth data set; that of the questions by default, val of valA and valB"
        },
    )
    format: Literal["parquet", "jsonl", "hub"] = field(
        default="parquet",
        metadata={"help": "parquet holds images, jsonl their paths; hub is parquet, sent by --push_to_hub"},
    )
    push_to_hub: str | None = field(default=None, metadata={"help": "owner/name to send the data set to"})
    output_dir: str | None = field(
        default=None, metadata={"help": "new folder; results/merge_clevr_w_depth_desc/<data>-<split>-<axes>"}
    )

    def __post_init__(self) -> None:
        if (self.format == "hub") > (self.push_to_hub is not None):
            raise UserError("--format hub needs --push_to_hub owner/name")
        if self.push_to_hub and self.format == "jsonl":
            raise UserError("--push_to_hub sends parquet; leave out --format jsonl")
        if self.no_images and self.depth:
            raise UserError("--no_images leaves depth maps out too; leave out --depth")
        if self.data == "embedded" and self.joins_depth:
            raise UserError(f"rendered scenes have depth maps of their own; leave out --depth {self.depth}")

    @property
    def joins_depth(self) -> bool:
        """Whether depth maps come from others' files."""
        return self.depth not in (None, "rendered")


def main(args: Args) -> Path:
    if args.data != "embedded" and not clevr.is_official_folder(args.data):
        raise UserError(
            f"--data {args.data}: no CLEVR folder (scenes/, questions/, images/), and not 'embedded'"
        )
    if args.joins_depth:
        of = clevr.split_of(clevr.question_files(args.data, args.split)[0].name) or "train"
        described_files.check_depths(args.depth, args.depth_split or of.rstrip("AB"), of, Path(args.data))
    axes = "world" if args.world_axes else "camera"
    examples = described.load(
        args.data, args.split, args.limit, axes, images=not args.no_images, progress=True
    )
    split = examples[0].meta["split"]
    name = f"{Path(args.data).resolve().name}-{split}-{axes}"
    final = Path(args.output_dir or Path("results", Path(__file__).stem, name))
    suffix = "jsonl" if args.format == "jsonl" else "parquet"
    write = described_files.write_jsonl if suffix == "jsonl" else described_files.write_parquet
    said: Counter[str] = Counter()
    with whole_folder(final) as folder, tempfile.TemporaryDirectory() as scratch:
        depth_of = depth_maps(args, examples, split, folder / "depth" if suffix == "jsonl" else Path(scratch))
        images = described_files.Images(folder, final, embed=suffix == "parquet")
        write(folder / f"{split}.{suffix}", merged(examples, args, axes, images, depth_of, said))
    print(f"{len(examples)} questions written to {final / f'{split}.{suffix}'}")
    print("what their descriptions answer:", ", ".join(f"{n} {what}" for what, n in said.items()), flush=True)
    if args.push_to_hub:
        described_files.push(final / f"{split}.parquet", args.push_to_hub, split)
    return final


def depth_maps(args: Args, examples: Sequence[Example], split: str, folder: Path) -> DepthOf:
    """Gives a question's depth map or None: by our renderer, or found in a data set and put into `folder`."""
    if args.no_images or (args.depth is None and args.data != "embedded"):
        return lambda example: None
    if not args.joins_depth:
        return lambda example: described_files.render_depth(
            example.meta["described_scene"], *example.open_images()[0].size
        )
    scenes = (example.meta["described_scene"] for example in examples)
    wanted = {scene["image_filename"]: scene["image_index"] for scene in scenes}
    found = described_files.find_depths(
        args.depth, args.depth_split or split.rstrip("AB"), wanted, Path(args.data), folder
    )
    print(f"depth maps for {len(found)} of {len(wanted)} scenes", flush=True)
    return lambda example: found.get(example.meta["image_filename"])


def merged(
    examples: Sequence[Example],
    args: Args,
    axes: str,
    images: described_files.Images,
    depth_of: DepthOf,
    said: Counter,
) -> Iterator[dict]:
    """The row of every question; counts in `said` what the descriptions answer."""
    for example in tqdm(examples, desc="described", unit="q", dynamic_ncols=True):
        name = example.meta["image_filename"]
        image = depth = None
        if not args.no_images:
            image = images.hold("images", name, lambda example=example: example.images[0])
            depth = images.hold("depth", name, lambda example=example: depth_of(example))
        said[described.verdict(example)] += 1
        yield described_files.row(example, axes, image, depth)


if __name__ == "__main__":
    cli.run(main, Args)
