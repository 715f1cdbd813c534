"""Scenes drawn once and kept on disk in shards, so that a stopped run draws none twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spatialvlm.disk import whole
from spatialvlm.worlds.clevr import scenes
from spatialvlm.worlds.clevr.facts import Scene

SHARD = 500


def draw(folder: Path, seed: str, count: int, size: int, patch: int, workers: int | None = None) -> None:
    """Writes `count` scenes of the series `seed` as shards of 500: images (500, size, size, 3) uint8, the
    object on each patch (500, size/patch, size/patch) int8 (-1: ground) and the scenes as JSON lines. Shards
    that are there already stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(s, rows) for s, rows in _shards(count) if not _file(folder, s, rows).exists()]
    if not missing:
        return
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = [pool.submit(_shard, folder, seed, s, rows, size, patch) for s, rows in missing]
        for job in tqdm(jobs, desc=f"drawing {seed} scenes", unit="shard"):
            job.result()


def _shards(count: int) -> list[tuple[int, int]]:
    """Number and length of each shard; the last may be short."""
    return [(s, min(SHARD, count - s * SHARD)) for s in range(-(-count // SHARD))]


def _file(folder: Path, shard: int, count: int) -> Path:
    return folder / (f"{shard:04d}.npz" if count == SHARD else f"{shard:04d}-{count}.npz")


def _shard(folder: Path, seed: str, shard: int, count: int, size: int, patch: int) -> None:
    images = np.empty((count, size, size, 3), np.uint8)
    owners = np.empty((count, size // patch, size // patch), np.int8)
    rows = []
    for k in range(count):
        scene = scenes.make(seed, shard * SHARD + k)
        drawn = scenes.render_scene(scene, size, size)
        images[k], owners[k] = np.asarray(drawn.image), _owner(drawn.objects, patch, len(scene["objects"]))
        rows.append(json.dumps(scene))
    with whole(_file(folder, shard, count)) as aside:
        np.savez(aside, images=images, owners=owners, scenes=np.array("\n".join(rows)))


def _owner(objects: np.ndarray, patch: int, count: int) -> np.ndarray:
    """The object that covers most of each patch, if any covers 8 % of it; ground otherwise."""
    rows, columns = (side // patch for side in objects.shape)
    blocks = objects.reshape(rows, patch, columns, patch)
    share = np.stack([(blocks == k).mean((1, 3)) for k in range(count)])
    return np.where(share.max(0) >= 0.08, share.argmax(0), -1).astype(np.int8)


def read(folder: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, list[Scene]]]:
    """Shards in order: images, owners, scenes."""
    for shard, rows in _shards(count):
        with np.load(_file(folder, shard, rows), allow_pickle=False) as stored:
            found = [json.loads(row) for row in str(stored["scenes"]).split("\n")]
            yield stored["images"], stored["owners"], found
