"""PixMo-Count (Deitke et al., arXiv 2409.17146): how many things of a kind a photograph from the web shows.

Rows hold `image_url`, `image_sha256`, `count`, `points` and `label`; the photographs are not among them. They
are fetched once into a cache, by several threads, and checked: bytes of another sha256 are another image.
Some links are dead by now, so questions without their image are left out, and a message counts them.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from spatialvlm.disk import cache_folder, disk_errors, whole
from spatialvlm.errors import UserError, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.downloads import THREADS, DownloadError, download
from spatialvlm.images import ImageError, check_file

HUB_ID = "allenai/pixmo-count"
COLUMNS = ("image_url", "image_sha256", "count", "label")


def load(
    path: str | Path = HUB_ID,
    split: str = "test",
    limit: int | None = None,
    start: int = 0,
    cache: str | Path | None = None,
) -> list[Example]:
    """Questions "How many LABEL are in the image?", answered by a number; task `PixMo-Count`.

    Args:
        path: a hub id, or a parquet, jsonl or json file or a folder of those, with PixMo-Count's own columns.
        split: `train`, `validation` or `test`.
        limit: look at no more rows than this, from row `start` on.
        cache: folder for the photographs, `pixmo-count` in the cache where None; what is there is not fetched
        again.

    Returns: one Example for each row whose photograph is available, with its path as image. A message on
    stderr counts the others by reason.

    Raises:
        UserError: nothing at `path`; a row without a field or with one that cannot be (the message names it);
            no photograph at all; a cache that cannot be written.
    """
    from spatialvlm import distributed  # imports torch, which reading data does not need

    table = rows.read(path, split)
    chosen = range(start, len(table) if limit is None else min(len(table), start + limit))
    if not chosen:
        raise UserError(f"{path} (split {split}) has {len(table)} rows, none from row {start} on")
    found = [(number, *_checked(*table[number])) for number in chosen]
    folder = Path(cache) if cache else cache_folder() / "pixmo-count"
    wanted = {code: link for _, link, code, _, _ in found}
    reasons = distributed.on_main(lambda: fetch(wanted, folder))
    _say(found, reasons, folder, quiet=not distributed.state().is_main_process)
    return [
        Example(
            id=f"pixmo-{split}-{number}",
            images=(folder / code,),
            question=f"How many {label} are in the image?",
            answer=str(count),
            task="PixMo-Count",
        )
        for number, _, code, count, label in found
        if code not in reasons
    ]


def _checked(where: str, row: rows.Row) -> tuple[str, str, int, str]:
    """(link, sha256, count, label) of a row. Raises UserError where one cannot be."""
    link, code, count, label = (rows.need(row, name, where) for name in COLUMNS)
    if not (isinstance(link, str) and re.match(r"https?://.", link)):
        raise UserError(f"{where}: 'image_url' {shown(link)} is no web address; correct or remove the row")
    if not (isinstance(code, str) and re.fullmatch(r"[0-9a-f]{64}", code)):
        raise UserError(
            f"{where}: 'image_sha256' {shown(code)} is no sha256 in hex; correct or remove the row"
        )
    if (count := rows.as_whole(count, "count", where)) < 0:
        raise UserError(f"{where}: 'count' {count} is no whole number from 0 on; correct or remove the row")
    return link, code, count, rows.as_text(label, "label", where).strip()


def _say(found: Sequence[Any], reasons: dict[str, str], folder: Path, quiet: bool) -> None:
    lost = Counter(reasons[code] for _, _, code, _, _ in found if code in reasons)
    why = "; ".join(f"{count} {reason}" for reason, count in lost.most_common())
    if lost.total() == len(found):
        raise UserError(
            f"PixMo-Count: none of {len(found)} photographs could be downloaded ({why}); check the "
            "network, or give "
            "a folder that holds them under the names of their sha256"
        )
    if lost and not quiet:
        print(
            f"PixMo-Count: {lost.total()} of {len(found)} questions are left out, since their photographs "
            f"cannot be downloaded ({why}); the others are in {folder}",
            file=sys.stderr,
        )


# ---- the photographs


def fetch(wanted: dict[str, str], folder: Path) -> dict[str, str]:
    """Makes sure that the photographs are in a folder, each under its sha256.

    A file is there whole or not at all, so a stopped fetch resumes where it was. One that is there
    already is checked, and fetched again where its bytes are others.

    Args:
        wanted: links by sha256.

    Returns: for each that is missing, why: `not answered`, `HTTP 404`, `other bytes`, `no image`, ...

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} for images ({error.strerror})") from None
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = pool.map(partial(_have, folder), wanted.items())
        bar = tqdm(jobs, "photographs", len(wanted), unit="image", delay=2)
        return {code: reason for code, reason in zip(wanted, bar, strict=True) if reason}


def _have(folder: Path, wanted: tuple[str, str]) -> str | None:
    """Why a photograph is not in the folder; None where it is."""
    code, link = wanted
    target = folder / code
    if not (target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == code):
        try:
            content = download(link)
        except DownloadError as error:
            return error.reason
        if hashlib.sha256(content).hexdigest() != code:
            return "other bytes"
        with disk_errors(target, "give another --image_cache"), whole(target, shared=True) as aside:
            aside.write_bytes(content)
    try:
        check_file(target)
    except ImageError:
        return "no image"
    return None
