"""VSI-100k as files: annotation from wherever it is, frames, rows in parquet, and a folder to go on with.

What takes long, reading scans and drawing frames, is kept scene by scene in `<folder>.partial`, so that the
same command goes on where it was stopped; the folder itself is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from spatialvlm.errors import UserError
from spatialvlm.files import rows, video
from spatialvlm.run_folder import differences, disk_errors, plain
from spatialvlm.tasks.vsi import scannet
from spatialvlm.tasks.vsi.vsi_100k import TEXTS
from spatialvlm.worlds.rooms import annotation, rooms
from spatialvlm.worlds.rooms.annotation import SceneAnnotation

_NUMBERS = pa.list_(pa.float64())
_BOX = {"label": pa.string(), "centroid": _NUMBERS, "axes_lengths": _NUMBERS, "normalized_axes": _NUMBERS}
SCHEMA = pa.schema(
    {name: pa.string() for name in TEXTS}
    | {"frames": pa.list_(pa.string()), "labels": pa.list_(pa.string()), "measures": _NUMBERS}
    | {"geometry": pa.list_(pa.struct(_BOX)), "distance": pa.string()}
)
ROW_GROUP = 5000  # rows held before they are written
META_INFO = "meta_info.json"


# ---- a folder to go on with


@contextmanager
def resumable_folder(folder: Path, arguments: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end; what a stop left of it is gone on with.

    Raises:
        UserError: `folder` is there already, or what was left of it was asked for with other arguments.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; give another --output_dir, or delete it")
    partial, asked = folder.with_name(f"{folder.name}.partial"), plain(arguments)
    with disk_errors(folder):
        if (partial / "arguments.json").is_file():
            before = json.loads((partial / "arguments.json").read_text(encoding="utf-8"))
            if changed := differences(before, asked):
                raise UserError(
                    f"{partial} was begun with other arguments ({'; '.join(changed)}); give another "
                    "--output_dir, or delete it"
                )
            print(f"{folder} was not finished when it was stopped; going on", flush=True)
        write_json(partial / "arguments.json", asked)
        yield partial
        os.rename(partial, folder)


def write_json(file: Path, content: Any) -> None:
    """Writes a file that is there whole or not at all, and its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(file)


# ---- annotation


def annotations(
    data: str, kept: Path, label_map: str | None = None, limit: int | None = None, workers: int = 1
) -> list[SceneAnnotation]:
    """The scenes of a file in VSI-Bench's form (`.json`) or of a folder of ScanNet's scans, by name.

    Args:
        kept: folder in which each scan is kept once it is read, and found when the command is given again.
        label_map: of scans, `scannet.read_label_map`'s file.
        limit: at most this many, the first by name.
        workers: processes that read scans.

    Raises:
        UserError: nothing there, or a scene that is not whole.
    """
    if Path(data).is_file():
        found = annotation.read(data)
        return [found[scene] for scene in sorted(found)[:limit]]
    folders = scannet.scans(data)[:limit]
    labels = scannet.read_label_map(label_map) if label_map else None
    missing = [folder for folder in folders if not (kept / f"{folder.name}.json").is_file()]
    with (
        ProcessPoolExecutor(workers) as pool,
        tqdm(total=len(folders), initial=len(folders) - len(missing), desc="scans", unit="scan") as bar,
    ):
        for _ in pool.map(partial(_keep, kept, labels), missing):
            bar.update()
    return [annotation.read(kept / f"{folder.name}.json")[folder.name] for folder in folders]


def _keep(kept: Path, labels: Mapping[str, str] | None, folder: Path) -> None:
    read = scannet.read(folder, labels)
    write_json(kept / f"{folder.name}.json", annotation.to_meta_info([replace(read, points=None)]))


# ---- frames


def frame_files(folder: Path, scene: str, num_frames: int, beside: Path) -> list[str]:
    """The names, relative to the folder `beside`, of a scene's frames: `num_frames` of the images in
    `folder/<scene>/color/` or `folder/<scene>/`, spread from first to last; or `folder/<scene>.mp4`.

    Raises:
        UserError: none of those is there.
    """
    for place in (folder / scene / "color", folder / scene):
        images = video.in_folder(place) if place.is_dir() else []
        if images:
            chosen = [images[number] for number in video.uniform(len(images), num_frames)]
            return [os.path.relpath(image, beside) for image in chosen]
    found = [folder / f"{scene}{suffix}" for suffix in video.VIDEO_SUFFIXES]
    if there := [file for file in found if file.is_file()]:
        return [os.path.relpath(there[0], beside)]
    raise UserError(
        f"--frames {folder} has no frames of scene {scene}: neither images in {scene}/ nor {scene}.mp4; add "
        "them, or leave out --frames"
    )


def draw_frames(scene: str, num_frames: int, folder: Path) -> None:
    """Draws a rendered room's frames into `folder/<scene>/`, which is there whole or not at all."""
    if (folder / scene).is_dir():
        return
    film, aside = rooms.Film(rooms.named(scene)), folder / f".{scene}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for number in video.uniform(len(film), num_frames):
        film[number].save(aside / f"{number:02}.png")
    aside.rename(folder / scene)


# ---- rows


def write_parquet(file: Path, made: Iterable[rows.Row]) -> int:
    """Writes rows in a stream; returns how many there were."""
    count, held = 0, []
    with parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for row in made:
            held.append(row)
            count += 1
            if len(held) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(held, SCHEMA))
                held = []
        writer.write_table(pa.Table.from_pylist(held, SCHEMA))
    return count
