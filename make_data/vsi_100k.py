"""Make VSI-100k: questions about rooms in six families, from 3D annotation (vsGRPO, arXiv 2504.00883).

python make_data/vsi_100k.py                                          # rendered rooms with their frames
python make_data/vsi_100k.py --data scans --frames frames --label_map scannetv2-labels.combined.tsv
python make_data/vsi_100k.py --data scannet_meta_info_train.json      # annotation in VSI-Bench's format
python make_data/vsi_100k.py --data scans --frames frames --leave_out nyu-visionx/VSI-Bench

`scans` is ScanNet's own folder of scans; `frames` holds `<scene>/` with images, or `<scene>.mp4`. ScanNet has
VSI-Bench's rooms: exclude them from training (--leave_out) if you test on VSI-Bench. Answers are numbers, or
words where VSI-Bench gives options. Families are in the paper's proportions: where scenes allow too few
questions of one, all are lowered alike. No room is in both splits.

The folder then holds train.parquet, validation.parquet, README.md (its card), summary.json and
meta_info.json, all annotation, for `python -m spatialvlm.tasks.vsi.verify`. It is there whole or not at all;
run the same command again to resume a stopped run with the scans and frames that it had.

On 2 CPU cores: 1,500 scenes of annotation (71,564 questions) take 53 seconds and 0.5 GB, a scan of 200,000
vertices half a second to one, a rendered room with its frames a quarter of a second.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import DatasetCard
from tqdm import tqdm

from spatialvlm import cli
from spatialvlm.disk import disk_errors, whole, write_text
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.files import video
from spatialvlm.reporting.cards import LICENCE, dataset_card
from spatialvlm.run_folder import differences, plain
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi import scannet
from spatialvlm.tasks.vsi import vsi_100k as vsi
from spatialvlm.tasks.vsi.questions import FAMILIES, PAPER, PAPER_SCENES, Candidate, room_of
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import SceneAnnotation
from spatialvlm.worlds.clevr import rooms
from spatialvlm.worlds.clevr.facts import Scene

EMBEDDED_ROOMS = 60  # rendered rooms, where no limit is given
ABOUT = """\
Questions about indoor scenes in six families, made from 3D annotation by the rules of VSI-100k (vsGRPO, arXiv
2504.00883, which published neither code nor data), in VSI-Bench's words and without options."""
SOURCES = {  # whether the rooms are rendered -> their origin and terms of use
    True: "The rooms are rendered: there is no person, photograph or published data in them.",
    False: "The rooms come from others' annotation (such as ScanNet's), whose terms of use hold for this "
    "dataset too: check that they allow redistribution.",
}
COLUMNS = {
    "question": "in words",
    "answer": "a number, or a word where VSI-Bench gives options",
    "family": "one of the six",
    "question_type": "VSI-Bench's name of the type",
    "scene_name": "the room",
    "frames": "images of the room, relative to this folder",
    "labels": "the objects in the question",
    "measures": "the figures behind the answer",
    "geometry": "the objects' boxes",
    "distance": "the rule that distances were measured by",
}


@dataclass
class Args:
    data: str = field(
        default="embedded",
        metadata={"help": "folder of ScanNet scans, *_meta_info*.json, or 'embedded': rendered rooms"},
    )
    frames: str | None = field(
        default=None, metadata={"help": "folder with each scene's frames or video; not of rendered rooms"}
    )
    num_frames: int = field(
        default=16, metadata={"help": "frames per scene, spread from first to last; 16 as in the paper"}
    )
    label_map: str | None = field(
        default=None, metadata={"help": "scannetv2-labels.combined.tsv; without it annotators' words stay"}
    )
    limit: int | None = field(
        default=None, metadata={"help": "maximum number of scenes, the first by name; 60 rendered rooms"}
    )
    leave_out: str | None = field(
        default=None,
        metadata={"help": "VSI-Bench rows (hub id or file) whose rooms are excluded from training"},
    )
    distance: Literal["centers", "closest"] = field(
        default="centers", metadata={"help": "between centers (the paper's), or closest points (VSI-Bench's)"}
    )
    proportions: Literal["paper", "available"] = field(
        default="paper", metadata={"help": "of the families: the paper's, or all that scenes allow"}
    )
    validation_share: float = field(
        default=0.05, metadata={"help": "fraction of the rooms for validation.parquet"}
    )
    seed: int = field(default=0, metadata={"help": "random seed of the questions and of the split"})
    workers: int = field(default=2, metadata={"help": "number of processes; the data does not depend on it"})
    output_dir: str | None = field(
        default=None, metadata={"help": "new folder; by default results/vsi_100k/<data>-<seed>"}
    )

    def __post_init__(self) -> None:
        require_at_least(1, num_frames=self.num_frames, workers=self.workers, limit=self.limit)
        if not 0 <= self.validation_share < 1:
            raise UserError(f"--validation_share must be from 0 to below 1, not {self.validation_share}")
        if self.data == "embedded" and self.frames:
            raise UserError("rendered rooms come with their own frames; leave out --frames")

    def settings(self) -> dict[str, Any]:
        """The arguments that decide about the data."""
        return {name: value for name, value in asdict(self).items() if name not in ("output_dir", "workers")}


def main(args: Args) -> Path:
    final = Path(
        args.output_dir or Path("results", Path(__file__).stem, f"{Path(args.data).stem}-{args.seed}")
    )
    with resumable_folder(final, args.settings()) as folder:
        scenes = read_scenes(args, folder)
        frames = frames_of(args, scenes, folder, final)
        chosen = choose(args, scenes)
        summary = write(args, scenes, chosen, frames, folder)
    print(table(summary), f"written to {final}", sep="\n", flush=True)
    return final


@contextmanager
def resumable_folder(folder: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end and is kept after a stop.

    Raises:
        UserError: `folder` exists, or its unfinished version has other arguments.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; give another --output_dir, or delete it")
    partial_folder, settings = folder.with_name(f"{folder.name}.partial"), plain(settings)
    with disk_errors(folder):
        if (partial_folder / "arguments.json").is_file():
            before = json.loads((partial_folder / "arguments.json").read_text(encoding="utf-8"))
            if changed := differences(before, settings):
                raise UserError(
                    f"{partial_folder} was begun with other arguments ({'; '.join(changed)}); give another "
                    "--output_dir, or delete it"
                )
            print(f"{folder} was not finished when it was stopped; resuming", flush=True)
        write_text(partial_folder / "arguments.json", json.dumps(settings))
        yield partial_folder
        os.rename(partial_folder, folder)


# ---- scenes


def read_scenes(args: Args, folder: Path) -> list[SceneAnnotation]:
    if args.data == "embedded":
        scenes = [rooms.annotation(room) for room in rendered_rooms(args)]
    elif Path(args.data).is_file():
        by_name = annotation.read(args.data)
        scenes = [by_name[scene] for scene in sorted(by_name)[: args.limit]]
    else:
        scenes = read_scans(args, folder / "scans")
    if args.leave_out:
        tested = {room_of(scene) for scene in vsibench.scenes(args.leave_out)}
        kept = [scene for scene in scenes if room_of(scene.scene) not in tested]
        print(f"{len(scenes) - len(kept)} of {len(scenes)} scenes are left out (--leave_out)", flush=True)
        scenes = kept
    if not scenes:
        raise UserError("no scene is left to ask about")
    return scenes


def rendered_rooms(args: Args) -> list[Scene]:
    make = partial(rooms.make, f"vsi-100k-{args.seed}")
    return in_parallel(args, make, range(args.limit or EMBEDDED_ROOMS), "rooms")


def read_scans(args: Args, folder: Path) -> list[SceneAnnotation]:
    """ScanNet's scans by name, each kept in the folder once it is read, for a resumed run."""
    scans = scannet.scans(args.data)[: args.limit]
    labels = scannet.read_label_map(args.label_map) if args.label_map else None
    missing = [scan for scan in scans if not (folder / f"{scan.name}.json").is_file()]
    with (
        ProcessPoolExecutor(args.workers) as pool,
        tqdm(total=len(scans), initial=len(scans) - len(missing), desc="scans", unit="scan") as bar,
    ):
        for _ in pool.map(partial(read_scan, folder, labels), missing):
            bar.update()
    return [annotation.read(folder / f"{scan.name}.json")[scan.name] for scan in scans]


def read_scan(folder: Path, labels: Mapping[str, str] | None, scan: Path) -> None:
    scene = scannet.read(scan, labels)
    write_text(folder / f"{scan.name}.json", json.dumps(annotation.to_meta_info([scene])))


def in_parallel(args: Args, function, items: Sequence, title: str) -> list:
    with ProcessPoolExecutor(args.workers) as pool:
        done = pool.map(function, items, chunksize=1 if title == "frames" else 8)
        return list(tqdm(done, title, len(items), unit="scene", dynamic_ncols=True))


# ---- frames


def frames_of(
    args: Args, scenes: Sequence[SceneAnnotation], folder: Path, final: Path
) -> dict[str, list[str]]:
    """Names of each scene's frames, relative to the data's folder; none without --frames."""
    names = [scene.scene for scene in scenes]
    if args.data == "embedded":
        render = partial(render_frames, num_frames=args.num_frames, folder=folder / "frames")
        in_parallel(args, render, rendered_rooms(args), "frames")
        return {name: frame_files(folder / "frames", name, args.num_frames, folder) for name in names}
    if args.frames is None:
        return {name: [] for name in names}
    return {name: frame_files(Path(args.frames), name, args.num_frames, final) for name in names}


def render_frames(room: Scene, num_frames: int, folder: Path) -> None:
    """Render a room's frames into `folder/<scene>/`, which is there whole or not at all."""
    name, film = rooms.name(room), rooms.Film(room)
    if (folder / name).is_dir():
        return
    with whole(folder / name) as aside:
        aside.mkdir()
        for number in video.uniform(len(film), num_frames):
            film[number].save(aside / f"{number:02}.png")


def frame_files(folder: Path, scene: str, num_frames: int, beside: Path) -> list[str]:
    """Names of a scene's frames, relative to the folder `beside`.

    They are `num_frames` of the images in `folder/<scene>/color/` or `folder/<scene>/`, spread from first to
    last; or `folder/<scene>.mp4`.

    Raises:
        UserError: none of those is there.
    """
    for place in (folder / scene / "color", folder / scene):
        images = video.in_folder(place) if place.is_dir() else []
        if images:
            chosen = [images[number] for number in video.uniform(len(images), num_frames)]
            return [os.path.relpath(image, beside) for image in chosen]
    for suffix in video.VIDEO_SUFFIXES:
        if (file := folder / f"{scene}{suffix}").is_file():
            return [os.path.relpath(file, beside)]
    raise UserError(
        f"--frames {folder} has no frames of scene {scene}: neither images in {scene}/ nor {scene}.mp4; add "
        "them, or leave out --frames"
    )


# ---- questions


def choose(args: Args, scenes: Sequence[SceneAnnotation]) -> dict[str, dict[str, list[Candidate]]]:
    """The questions, by scene and family."""
    ask = partial(vsi_questions.candidates, seed=args.seed, distance=args.distance)
    names = [scene.scene for scene in scenes]
    candidates = dict(zip(names, in_parallel(args, ask, scenes, "scenes"), strict=True))
    counts = {name: {scene: len(of[name]) for scene, of in candidates.items()} for name in FAMILIES}
    available = {name: sum(counts[name].values()) for name in FAMILIES}
    wanted = vsi_questions.targets(len(scenes), available, args.proportions)
    taken = {name: vsi_questions.evenly(counts[name], wanted[name], args.seed) for name in FAMILIES}
    return {
        scene: {name: of[name][: taken[name][scene]] for name in FAMILIES} for scene, of in candidates.items()
    }


def write(
    args: Args,
    scenes: Sequence[SceneAnnotation],
    chosen: Mapping[str, Mapping[str, list[Candidate]]],
    frames: Mapping[str, list[str]],
    folder: Path,
) -> dict:
    """Write both splits, the annotation, the card and summary.json; return the summary."""
    held = vsi_questions.validation_rooms([scene.scene for scene in scenes], args.validation_share, args.seed)
    splits: dict[str, list[SceneAnnotation]] = {"train": [], "validation": []}
    for scene in scenes:
        splits["validation" if room_of(scene.scene) in held else "train"].append(scene)
    counts = {name: sum(len(listed[name]) for listed in chosen.values()) for name in FAMILIES}
    summary = {"scenes": len(scenes), "families": counts, "splits": {}}
    for split, of in splits.items():
        if of:
            count = vsi.write_parquet(folder / f"{split}.parquet", rows(args, of, chosen, frames, split))
            summary["splits"][split] = {"scenes": len(of), "rows": count}
    write_text(folder / "meta_info.json", json.dumps(annotation.to_meta_info(scenes)))
    write_text(folder / "summary.json", json.dumps(summary))
    rendered = args.data == "embedded"
    card(summary["splits"], args.settings(), rendered).save(folder / "README.md")
    return summary


def card(splits: Mapping[str, Mapping], settings: Mapping[str, Any], rendered: bool) -> DatasetCard:
    """The data set's card; `splits` as in the summary."""
    counts = {name: split["rows"] for name, split in splits.items()}
    about = f"{ABOUT} {SOURCES[rendered]}"
    licence = LICENCE if rendered else None
    return dataset_card("VSI-100k", about, counts, COLUMNS, settings, licence)


def rows(args: Args, scenes: Sequence[SceneAnnotation], chosen, frames, split: str) -> Iterator[dict]:
    for scene in tqdm(scenes, f"{split} rows", unit="scene", dynamic_ncols=True):
        for listed in chosen[scene.scene].values():
            for number, candidate in enumerate(listed):
                yield vsi.row(scene, candidate, number, frames[scene.scene], args.distance)


def table(summary: dict) -> str:
    total, paper = sum(summary["families"].values()), sum(PAPER.values())
    lines = [f"{'family':<24}{'rows':>8}{'%':>7}{'paper':>8}{'%':>7}   (paper: at {PAPER_SCENES:,} scenes)"]
    for name, count in summary["families"].items():
        here, there = 100 * count / total, 100 * PAPER[name] / paper
        lines.append(f"{name:<24}{count:>8}{here:>7.1f}{PAPER[name]:>8}{there:>7.1f}")
    splits = ", ".join(f"{split} {of['rows']} of {of['scenes']}" for split, of in summary["splits"].items())
    return "\n".join([*lines, f"{'all':<24}{total:>8}{'':>7}{paper:>8}", f"rows of scenes: {splits}"])


if __name__ == "__main__":
    cli.run(main, Args)
