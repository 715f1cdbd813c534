"""Make VSI-100k: questions about rooms in six families, from 3D annotation (vsGRPO, arXiv 2504.00883).

python make_data/vsi_100k.py                                          # rendered rooms with their frames
python make_data/vsi_100k.py --data scans --frames frames --label_map scannetv2-labels.combined.tsv
python make_data/vsi_100k.py --data scannet_meta_info_train.json      # annotation in VSI-Bench's form
python make_data/vsi_100k.py --data scans --frames frames --leave_out nyu-visionx/VSI-Bench

`scans` is ScanNet's own folder of scans; `frames` holds `<scene>/` with images, or `<scene>.mp4`. ScanNet has
the rooms that VSI-Bench asks about: what is trained on these data is tested on VSI-Bench only where they are
left out (--leave_out). The answer is a number, or a word where VSI-Bench gives options. Families are in the
paper's proportions: where scenes allow too few questions of one, all are lowered alike (--proportions
available takes what there is). No room is in both splits. The folder then holds train.parquet,
validation.parquet, README.md (its card), summary.json and meta_info.json, all annotation, which
`python -m spatialvlm.tasks.vsi.vsi_100k verify` reads. It is there whole or not at all; a run that was
stopped goes on with the scans and frames that it had.

On 2 CPU cores, shared with other work: 1,500 scenes of annotation (71,564 questions) took 53 seconds and
0.5 GB, reading a scan of 200,000 vertices half a second to one, a rendered room with 16 frames two seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.reporting.cards import vsi_card
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import files as vsi_files
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.questions import FAMILIES, PAPER, PAPER_SCENES, Candidate
from spatialvlm.worlds.rooms import annotation, rooms
from spatialvlm.worlds.rooms.annotation import SceneAnnotation

EMBEDDED_ROOMS = 60  # rendered rooms, where no limit is given


@dataclass
class Args:
    data: str = field(
        default="embedded",
        metadata={"help": "folder of ScanNet scans, *_meta_info*.json, or 'embedded': rendered rooms"},
    )
    frames: str | None = field(
        default=None,
        metadata={"help": "folder with each scene's frames or video; rendered rooms draw theirs"},
    )
    num_frames: int = field(default=16, metadata={"help": "frames of a scene, spread from first to last"})
    label_map: str | None = field(
        default=None, metadata={"help": "scannetv2-labels.combined.tsv; without, annotators' words stay"}
    )
    limit: int | None = field(default=None, metadata={"help": "at most this many scenes, the first by name"})
    leave_out: str | None = field(
        default=None,
        metadata={"help": "VSI-Bench rows (hub id or file) whose rooms are not to be trained on"},
    )
    distance: Literal["centers", "closest"] = field(
        default="centers", metadata={"help": "between centers (the paper's), or closest points (VSI-Bench's)"}
    )
    proportions: Literal["paper", "available"] = field(
        default="paper", metadata={"help": "of the families: the paper's, or as many as scenes allow"}
    )
    validation_share: float = field(default=0.05, metadata={"help": "of the rooms, for validation.parquet"})
    seed: int = field(default=0, metadata={"help": "of the choice of questions and of the split"})
    workers: int = field(default=2, metadata={"help": "processes; the data does not depend on it"})
    output_dir: str | None = field(
        default=None, metadata={"help": "new folder; results/vsi_100k/<data>-<seed>"}
    )

    def __post_init__(self) -> None:
        if min(self.num_frames, self.workers, 1 if self.limit is None else self.limit) < 1:
            raise UserError("--num_frames, --workers and --limit must be at least 1")
        if not 0 <= self.validation_share < 1:
            raise UserError(f"--validation_share must be from 0 to below 1, not {self.validation_share}")
        if self.data == "embedded" and self.frames:
            raise UserError("rendered rooms draw their own frames; leave out --frames")


def main(args: Args) -> Path:
    final = Path(
        args.output_dir or Path("results", Path(__file__).stem, f"{Path(args.data).stem}-{args.seed}")
    )
    arguments = {name: value for name, value in asdict(args).items() if name not in ("output_dir", "workers")}
    with vsi_files.resumable_folder(final, arguments) as folder:
        scenes = read_scenes(args, folder)
        frames = find_frames(args, scenes, folder, final)
        chosen = choose(args, scenes)
        summary = write(args, scenes, chosen, frames, folder)
    print(table(summary), f"written to {final}", sep="\n", flush=True)
    return final


def read_scenes(args: Args, folder: Path) -> list[SceneAnnotation]:
    if args.data == "embedded":
        numbers = range(args.limit or EMBEDDED_ROOMS)
        named = partial(rooms.make, "train", args.seed)
        scenes = [rooms.annotation(room) for room in in_parallel(args, named, numbers, "rooms")]
    else:
        kept = folder / "scans"
        scenes = vsi_files.annotations(args.data, kept, args.label_map, args.limit, args.workers)
    if args.leave_out:
        tested = {vsi_questions.room(scene) for scene in vsibench.scenes(args.leave_out)}
        kept_scenes = [scene for scene in scenes if vsi_questions.room(scene.scene) not in tested]
        print(
            f"{len(scenes) - len(kept_scenes)} of {len(scenes)} scenes are left out (--leave_out)", flush=True
        )
        scenes = kept_scenes
    if not scenes:
        raise UserError("no scene is left to ask about")
    return scenes


def find_frames(
    args: Args, scenes: Sequence[SceneAnnotation], folder: Path, final: Path
) -> dict[str, list[str]]:
    """Names of each scene's frames, relative to the data's folder; none where no --frames are given."""
    names = [scene.scene for scene in scenes]
    if args.data == "embedded":
        draw = partial(vsi_files.draw_frames, num_frames=args.num_frames, folder=folder / "frames")
        in_parallel(args, draw, names, "frames")
        return {
            name: vsi_files.frame_files(folder / "frames", name, args.num_frames, folder) for name in names
        }
    if args.frames is None:
        return {name: [] for name in names}
    return {name: vsi_files.frame_files(Path(args.frames), name, args.num_frames, final) for name in names}


def in_parallel(args: Args, function, items: Sequence, title: str) -> list:
    with ProcessPoolExecutor(args.workers) as pool:
        done = pool.map(function, items, chunksize=1 if title == "frames" else 8)
        return list(tqdm(done, title, len(items), unit="scene", dynamic_ncols=True))


def choose(args: Args, scenes: Sequence[SceneAnnotation]) -> dict[str, dict[str, list[Candidate]]]:
    """By scene and family, the questions that are asked."""
    ask = partial(vsi_questions.candidates, seed=args.seed, distance=args.distance)
    found = dict(
        zip([scene.scene for scene in scenes], in_parallel(args, ask, scenes, "scenes"), strict=True)
    )
    counts = {name: {scene: len(listed[name]) for scene, listed in found.items()} for name in FAMILIES}
    available = {name: sum(counts[name].values()) for name in FAMILIES}
    wanted = vsi_questions.targets(len(scenes), available, args.proportions)
    shares = {name: vsi_questions.evenly(counts[name], wanted[name], args.seed) for name in FAMILIES}
    return {
        scene: {name: listed[name][: shares[name][scene]] for name in FAMILIES}
        for scene, listed in found.items()
    }


def write(
    args: Args,
    scenes: Sequence[SceneAnnotation],
    chosen: Mapping[str, Mapping[str, list[Candidate]]],
    frames: Mapping[str, list[str]],
    folder: Path,
) -> dict:
    """Writes both splits, the annotation and summary.json, and returns what that holds."""
    held = vsi_questions.validation_rooms([scene.scene for scene in scenes], args.validation_share, args.seed)
    splits: dict[str, list[SceneAnnotation]] = {"train": [], "validation": []}
    for scene in scenes:
        splits["validation" if vsi_questions.room(scene.scene) in held else "train"].append(scene)
    counts = {name: sum(len(listed[name]) for listed in chosen.values()) for name in FAMILIES}
    summary = {"scenes": len(scenes), "families": counts, "splits": {}}
    for split, of in splits.items():
        if of:
            count = vsi_files.write_parquet(
                folder / f"{split}.parquet", rows(args, of, chosen, frames, split)
            )
            summary["splits"][split] = {"scenes": len(of), "rows": count}
    vsi_files.write_json(folder / vsi_files.META_INFO, annotation.to_meta_info(scenes))
    vsi_files.write_json(folder / "summary.json", summary)
    made = {name: value for name, value in asdict(args).items() if name not in ("output_dir", "workers")}
    vsi_card(summary["splits"], made, rendered=args.data == "embedded").save(folder / "README.md")
    return summary


def rows(args: Args, scenes: Sequence[SceneAnnotation], chosen, frames, split: str) -> Iterator[dict]:
    for scene in tqdm(scenes, f"{split} rows", unit="scene", dynamic_ncols=True):
        for listed in chosen[scene.scene].values():
            for number, candidate in enumerate(listed):
                yield vsi.row(scene, candidate, number, frames[scene.scene], args.distance)


def table(summary: dict) -> str:
    total, paper = sum(summary["families"].values()), sum(PAPER.values())
    lines = [f"{'family':<24}{'rows':>8}{'%':>7}{'paper':>8}{'%':>7}   (paper: at {PAPER_SCENES:,} scenes)"]
    for name, count in summary["families"].items():
        shares = 100 * count / total, 100 * PAPER[name] / paper
        lines.append(f"{name:<24}{count:>8}{shares[0]:>7.1f}{PAPER[name]:>8}{shares[1]:>7.1f}")
    splits = ", ".join(f"{split} {of['rows']} of {of['scenes']}" for split, of in summary["splits"].items())
    return "\n".join([*lines, f"{'all':<24}{total:>8}{'':>7}{paper:>8}", f"rows of scenes: {splits}"])


if __name__ == "__main__":
    cli.run(main, Args)
