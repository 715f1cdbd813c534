"""Frames for VSI-Bench's questions: its videos from a folder or the hub, each decoded once.

A scene's sampled frames are kept as PNG files in the user's cache, so that eighteen questions about it, a run
that goes on and another model's do not decode its video again; where a scene is a folder of images, those are
taken as they lie. Everything is found and decoded before a model is asked: a video that is missing or broken
is named then.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from spatialvlm import distributed
from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.files import downloads, rows, video

Name = TypeVar("Name")
Scene = tuple[str, str]  # data set and name: ("scannet", "scene0277_02")
LISTED = "frames.json"


def with_frames(
    examples: Sequence[Example], folder: str | Path | None, num_frames: int, hub_id: str
) -> list[Example]:
    """The same questions with their frames, each scene's a `Video` of paths, spread from first to last.

    Args:
        folder: of the videos, as `find` looks for them; the hub's, which are fetched, where None.
        hub_id: of the data set with `scannet.zip`, `arkitscenes.zip` and `scannetpp.zip`.

    Raises:
        UserError: a video that is not there or is broken, a number of frames below 1.
    """
    if num_frames < 1:
        raise UserError(f"--num_frames must be at least 1, not {num_frames}")
    scenes = sorted({(example.meta["source"], example.meta["scene"]) for example in examples})

    def prepare() -> dict[Scene, Video]:
        if folder is None:
            return sampled(fetch(scenes, hub_id), num_frames)
        return sampled({scene: find(Path(folder), scene) for scene in scenes}, num_frames)

    found = distributed.on_main(prepare)
    return [
        replace(example, images=found[example.meta["source"], example.meta["scene"]]) for example in examples
    ]


def find(folder: Path, scene: Scene) -> Path:
    """A scene's video or folder of images: `<data set>/<scene>.mp4` or `<data set>/<scene>/`, with or without
    the data set.

    Raises:
        UserError: none of those is there.
    """
    source, name = scene
    for place in (folder / source, folder):
        for found in [place / f"{name}{suffix}" for suffix in video.VIDEO_SUFFIXES] + [place / name]:
            if found.exists():
                return found
    raise UserError(
        f"--frames {folder} has no video of scene {source}/{name}: neither {source}/{name}.mp4 nor a folder "
        f"of images {source}/{name}/; add it, or fetch the videos of the data set's page"
    )


def fetch(scenes: Sequence[Scene], hub_id: str) -> dict[Scene, Path]:
    """The hub's videos of these scenes, taken out of its archives into the user's cache.

    Raises:
        UserError: an archive that cannot be had or is broken, or holds no video of a scene.
    """
    target = downloads.cache_folder().parent / "vsibench"
    found = {scene: target / scene[0] / f"{scene[1]}.mp4" for scene in scenes}
    for source in sorted({source for source, _ in scenes}):
        missing = {name: file for (of, name), file in found.items() if of == source and not file.is_file()}
        if not missing:
            continue
        archive = rows.hub_file(hub_id, f"{source}.zip")
        try:
            with zipfile.ZipFile(archive) as opened, _cache_errors(target):
                members = {Path(member).name: member for member in opened.namelist()}
                for name, file in missing.items():
                    if file.name not in members:
                        raise UserError(f"{archive} holds no video of scene {source}/{name}; fetch it again")
                    _take(opened, members[file.name], file)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{archive} is no whole archive ({error}); delete it and run again") from None
    return found


def _take(archive: zipfile.ZipFile, member: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with archive.open(member) as packed, aside.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    aside.replace(file)


def sampled(videos: Mapping[Name, Path], num_frames: int) -> dict[Name, Video]:
    """The frames of every video or folder of images, by its name; videos are decoded on all cores, once.

    Raises:
        UserError: a video that is broken, a folder without images.
    """
    files = [file for file in videos.values() if not file.is_dir() and not _kept(file, num_frames).is_dir()]
    keep = partial(_keep, num_frames=num_frames)
    if len(files) > 2:
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(files))) as pool:
            for _ in tqdm(pool.map(keep, files), "videos", len(files), unit="video"):
                pass
    else:
        for file in files:
            keep(file)
    return {scene: _frames(file, num_frames) for scene, file in videos.items()}


def _kept(file: Path, num_frames: int) -> Path:
    """The folder of a video's frames; another one when the video changes."""
    there = file.stat()
    state = f"{file.resolve()} {there.st_size} {there.st_mtime_ns} {num_frames}"
    code = hashlib.sha256(state.encode()).hexdigest()[:16]
    return downloads.cache_folder().parent / "frames" / f"{file.stem}-{code}"


def _keep(file: Path, num_frames: int) -> None:
    """Decodes a video's frames into their folder, which is there whole or not at all."""
    folder, sampled = _kept(file, num_frames), video.frames(file, num_frames)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with _cache_errors(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for index, image in zip(sampled.indices, sampled.images, strict=True):
            image.save(aside / f"{index:06}.png", compress_level=1)
        (aside / LISTED).write_text(json.dumps({"interval": sampled.interval}), encoding="utf-8")
        if not folder.is_dir():  # two runs at once decode alike
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)


def _frames(file: Path, num_frames: int) -> Video:
    folder = file if file.is_dir() else _kept(file, num_frames)
    images = video.in_folder(folder)
    if not images:
        raise UserError(
            f"{folder} holds no image ({', '.join(video.IMAGE_SUFFIXES)}); add the scene's frames"
        )
    chosen = [images[number] for number in video.uniform(len(images), num_frames)]
    if file.is_dir():  # nothing says how far apart they were taken
        return Video(chosen)
    interval = json.loads((folder / LISTED).read_text(encoding="utf-8"))["interval"]
    return Video(chosen, interval) if interval else Video(chosen)


@contextmanager
def _cache_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); free some space, or set XDG_CACHE_HOME elsewhere"
        ) from None
