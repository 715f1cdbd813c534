"""VSR (Liu et al., "Visual Spatial Reasoning", TACL 2023): is a caption true of its photograph?

Rows hold `image` (a file name of COCO 2017), `image_link` (where COCO has it), `caption`, `label` (1: true,
0: false) and `relation`. There are two ways to split the same captions: `vsr_random`, and `vsr_zeroshot`,
whose parts share no concept. The two do share rows with each other (`shared_with_training`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from spatialvlm.errors import UserError, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.downloads import cached, fetch
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.worlds.clevr.questions import vsr_prompt

HUB_ID, ZEROSHOT_ID = "cambridgeltl/vsr_random", "cambridgeltl/vsr_zeroshot"
_SHORT = {"vsr_random": HUB_ID, "vsr_zeroshot": ZEROSHOT_ID}
EMBEDDED_SIZE = 600  # captions over rendered scenes, where no limit is given
UNALLOCATED = "Unallocated"
# The groups of the paper's table of relations, as analysis_scripts/rel_meta_category_dict.txt of
# cambridgeltl/visual-spatial-reasoning has them. It lists `among` twice, and the authors' script keeps the
# second; `congruent` occurs in the data and not in the table, so we put it with what has no group.
GROUPS = {
    "Adjacency": "adjacent to, alongside, at the side of, at the right side of, at the left side of, "
    "attached to, at the back of, ahead of, against, at the edge of",
    "Directional": "off, past, toward, down, deep down, up, away from, along, around, from, into, to, "
    "across, across from, through, down from",
    "Orientation": "facing, facing away from, parallel to, perpendicular to",
    "Projective": "on top of, beneath, beside, behind, left of, right of, under, in front of, below, above, "
    "over, in the middle of",
    "Proximity": "by, close to, near, far from, far away from",
    "Topological": "connected to, detached from, has as a part, part of, contains, within, at, on, in, with, "
    "surrounding, consists of, out of, between, inside, outside, touching",
    UNALLOCATED: "beyond, next to, opposite to, after, among, enclosed by, congruent",
}
GROUP_OF = {relation: group for group, listed in GROUPS.items() for relation in listed.split(", ")}
_SPLITS = {"train": ("train",), "dev": ("dev", "val"), "test": ("test",)}  # and what file names have for them

Pair = tuple[str, str]  # the image's file name, the caption


def load(
    path: str | Path = HUB_ID,
    split: str = "test",
    limit: int | None = None,
    image_folder: str | Path | None = None,
    need_images: bool = True,
) -> Sequence[Example]:
    """Captions in the files' order, with the relation's group as task; all checked now, made when looked at.

    Images are, in this order: bytes in the row; a file of the row's name in `image_folder` (where it is not
    given: beside the rows), or in `train2017` or `val2017` therein; the row's `image_link`, downloaded into
    the user's cache, where what is there already stays.

    Args:
        path: a hub id (of VSR's own, the last part will do; `@revision` may follow); a parquet, jsonl or json
            file or a folder of those; or `embedded` for rendered scenes.
        split: `train`, `dev` (which the hub calls `validation`) or `test`; a file has but one.
        limit: at most the first so many.
        need_images: False looks for no image and fetches none, where answers are there already.

    Returns: Examples whose `meta` has `relation`, `vocabulary` and `pair`, which identifies the row.

    Raises:
        UserError: nothing at `path`, no such split, a row that is not whole, a label other than 0 and 1, an
            image that is not available; the message names the row.
    """
    if str(path) == "embedded":
        from spatialvlm.worlds.clevr import series

        return series.vsr(split, limit or EMBEDDED_SIZE)
    table = read(path, split)
    size = len(table) if limit is None else min(limit, len(table))
    if not size:
        raise UserError(f"{path} holds no VSR row")
    folder = Path(image_folder) if image_folder else rows.beside(path)
    if image_folder and not folder.is_dir():
        raise UserError(f"--image_folder {image_folder}: no such folder")
    relations, pairs, links = [], [], []
    for number in range(size):
        where, row = table[number]
        _check(where, row)
        relations.append(relation(row))
        pairs.append(pair(row))
        if need_images and isinstance(image := _image(where, row, folder, bool(image_folder)), str):
            links.append(image)
    _say_unknown(relations)
    _say_repeated(pairs)
    fetch(links, "download COCO's train2017 and val2017 and give the folder they are in with --image_folder")

    def make(number: int) -> Example:
        where, row = table[number]
        image = _image(where, row, folder, bool(image_folder)) if need_images else Path(pair(row)[0])
        return Example(
            id=f"vsr-{_name(path, split)}-{number}",
            images=(cached(image) if isinstance(image, str) else image,),
            question=row["caption"],
            answer="yes" if rows.as_yes_no(row["label"], "label", where) else "no",
            task=group(relation(row)),
            prompt=vsr_prompt(row["caption"]),
            meta={"relation": relation(row), "vocabulary": ("yes", "no"), "pair": pair(row)},
        )

    return LazyExamples(make, range(size), kept=1)  # photographs are not to pile up


def group(relation: str) -> str:
    """The relation's group in the VSR paper; `Unallocated` where it lists none."""
    return GROUP_OF.get(relation, UNALLOCATED)


def relation(row: rows.Row) -> str:
    """A row's relation as VSR writes it, where it is one of VSR's in another case; else as it stands."""
    plain = row["relation"].strip().lower()
    return plain if plain in GROUP_OF else row["relation"]


def pair(row: rows.Row) -> Pair:
    """(image, caption): the image by its file name, or by a hash of its bytes where it has none."""
    image = row["image"]
    if isinstance(image, dict):
        image = image.get("path") or row.get("image_link") or image.get("bytes")
    if isinstance(image, Image.Image):
        image = image.tobytes()
    name = hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else Path(str(image)).name
    return name, row["caption"]


# ---- rows


def read(path: str | Path, split: str) -> rows.Rows:
    """The rows of a split, from where `load` takes them.

    Raises:
        UserError: nothing there, no such split, or rows of both ways to split in one folder.
    """
    split = "dev" if split in ("val", "validation") else split
    if split not in _SPLITS:
        raise UserError(f"--split {split}: VSR has {', '.join(_SPLITS)}")
    saved = any((Path(path) / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
    if saved or not Path(path).is_dir():
        name, pinned, revision = str(path).partition("@")
        if name in _SHORT and not Path(path).exists():
            path = f"{_SHORT[name]}{pinned}{revision}"
        return rows.read(path, "validation" if split == "dev" else split)
    files = next((found for end in rows.SUFFIXES if (found := sorted(Path(path).rglob(f"*{end}")))), [])

    def of(split: str) -> list[Path]:
        return [file for file in files if any(name in file.name for name in _SPLITS[split])]

    chosen = of(split)
    if not chosen and any(map(of, _SPLITS)):
        raise UserError(f"{path} has no file of the split {split}, only {', '.join(filter(of, _SPLITS))}")
    ways = [
        way for way in ("random", "zeroshot") if any(way in str(file.relative_to(path)) for file in chosen)
    ]
    if len(ways) > 1:
        raise UserError(f"{path} holds vsr_random and vsr_zeroshot, which overlap; give one file or folder")
    if not chosen:
        return rows.read(path, split)
    return rows.Rows([part for file in chosen for part in rows.read(file, split).tables])


def _name(path: str | Path, split: str) -> str:
    """What ids begin with: `random-test`, or a file's own name."""
    name = Path(path).name.partition("@")[0].removeprefix("vsr_")
    return Path(name).stem if Path(path).is_file() else f"{name}-{split}"


def _check(where: str, row: rows.Row) -> None:
    for name in ("image", "caption", "label", "relation"):
        rows.need(row, name, where)
    for name in ("caption", "relation"):
        rows.as_text(row[name], name, where)
    rows.as_yes_no(row["label"], "label", where)


def _image(where: str, row: rows.Row, folder: rows.Folder | None, must_be_there: bool) -> Any:
    """An image, its path, or (as text) the link to fetch it from."""
    value = row["image"]
    if isinstance(value, dict) and not value.get("bytes"):
        value = value.get("path")
    if not isinstance(value, str):
        return rows.as_image(value, where)
    places = [folder / Path(part, value) for part in ("", "train2017", "val2017")] if folder else []
    if found := next(filter(rows.is_file, places), None):
        return rows.checked_file(found, where)
    if not isinstance(packed := rows.as_image(value, where), Path):
        return packed
    if must_be_there:
        raise UserError(f"{where}: image {shown(value)} is not in {folder}, nor in its train2017 or val2017")
    link = rows.need(row, "image_link", where)
    if not isinstance(link, str) or not link.startswith(("http://", "https://")):
        raise UserError(
            f"{where}: 'image_link' must be a web address, not {shown(link)}; correct or remove the row"
        )
    return link


def _say_unknown(relations: Iterable[str]) -> None:
    counts = Counter(relation for relation in relations if relation not in GROUP_OF)
    if counts:
        listed = ", ".join(f"{name!r} ({count})" for name, count in counts.most_common())
        print(f"warning: not among VSR's relations, counted as {UNALLOCATED}: {listed}", file=sys.stderr)


def _say_repeated(pairs: Sequence[Pair]) -> None:
    first: dict[Pair, int] = {}
    again = [number for number, each in enumerate(pairs) if first.setdefault(each, number) != number]
    if again:
        print(
            f"warning: {len(again)} rows repeat the image and caption of an earlier one and count again; "
            f"the first is row {again[0]}, which repeats row {first[pairs[again[0]]]}",
            file=sys.stderr,
        )


# ---- test captions among an adapter's training data


def shared_with_training(adapter: str | Path, pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Counts the test's pairs in the training data of an adapter, and warns on stderr where there are any.

    What it was trained on stands in its run folder's config.json; where that training started from another
    adapter, that one's data counts too.

    Returns: for each training data of VSR {`data`, `pairs`: how many distinct pairs of the test it holds, or
        None where its rows are not available}; empty where the adapter was trained on something else.

    Raises:
        UserError: the run folder's config.json is damaged.
    """
    tested, found = set(pairs), []
    for data in dict.fromkeys(_training_data(Path(adapter))):
        if not _may_be_vsr(data):
            continue
        try:
            trained = {pair(row) for _, row in read(data, "train") if _is_vsr(row)}
        except UserError as error:
            _warn(f"the adapter was trained on {data}, and whether the test was in it is not known: {error}")
            found.append({"data": data, "pairs": None})
            continue
        if not trained:
            continue
        found.append({"data": data, "pairs": len(tested & trained)})
        if shared := found[-1]["pairs"]:
            _warn(
                f"{shared} of the test's {len(tested)} pairs of image and caption are in the adapter's "
                f"training data {data}: this is no score on unseen pairs"
            )
    return found


def _training_data(adapter: Path) -> list[str]:
    """`--data` of the run that an adapter or checkpoint lies in, and of those that it started from."""
    config = adapter.resolve().parent / "config.json"
    if not config.is_file():
        return []
    try:
        arguments = json.loads(config.read_text(encoding="utf-8"))["arguments"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{config} is no run's config.json; the adapter's training data is unknown") from None
    data, before = arguments.get("data"), arguments.get("adapter")
    return ([data] if data else []) + (_training_data(Path(before)) if before else [])


def _may_be_vsr(data: str) -> bool:
    """Hub ids by their name, so that no other data set is fetched; what lies here by its first row."""
    if data == "embedded" or clevr.is_official_folder(data):
        return False
    return Path(data).exists() or "vsr" in data.lower()


def _is_vsr(row: dict[str, Any]) -> bool:
    return isinstance(row.get("caption"), str) and row.get("image") is not None


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
