"""Images that rows only link to: fetched once, by several threads, into a cache in the user's home."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from PIL import Image
from tqdm import tqdm

from spatialvlm import distributed
from spatialvlm.disk import CACHE_ELSEWHERE, cache_folder, disk_errors, whole
from spatialvlm.errors import UserError

THREADS, TIMEOUT = 16, 30  # at a time; seconds without an answer
WAITS = (0.5, 2.0)  # seconds before the second and the third try
_AGENT = {"User-Agent": "spatialvlm"}  # some servers refuse Python's own name


def cached(link: str) -> Path:
    """Where the image of a link lies once it is fetched."""
    code = hashlib.sha256(link.encode()).hexdigest()[:16]
    return cache_folder() / "images" / f"{code}-{Path(urlsplit(link).path).name}"


def fetch(links: Sequence[str], otherwise: str) -> None:
    """Downloads what the cache does not hold yet; a file is there whole or not at all, so a fetch that was
    stopped goes on where it was.

    The main process fetches first; on other machines of a launch, each one what it does not see then.

    Args:
        links: web addresses of images; what is fetched must be one.
        otherwise: what else the user can do where the network is missing, as a command.

    Raises:
        UserError: a link that cannot be fetched or holds no image, a disk that cannot be written.
    """
    distributed.on_main(lambda: _fetch(links, otherwise))
    distributed.agree(lambda: _fetch(links, otherwise) or [])


def _fetch(links: Sequence[str], otherwise: str) -> None:
    missing = [link for link in dict.fromkeys(links) if not cached(link).is_file()]
    if not missing:
        return
    pool = ThreadPoolExecutor(min(THREADS, len(missing)))
    quiet = not distributed.state().is_main_process
    try:
        parts = [pool.submit(_store, link) for link in missing]
        for part in tqdm(as_completed(parts), "images", len(parts), unit="image", disable=quiet):
            part.result()
    except _Failed as error:
        pool.shutdown(cancel_futures=True)  # before counting: the fetches under way end first
        there = sum(cached(link).is_file() for link in missing)
        raise UserError(
            f"{error}; {there} of {len(missing)} missing images were fetched and stay in {cache_folder() / 'images'}: "
            f"check the network and run again, or {otherwise}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Failed(Exception):
    """One image cannot be had; the message says which and why."""


def _store(link: str) -> None:
    content = _get(link)
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNGs
        raise _Failed(f"what {link} holds is no whole image ({error})") from None
    target = cached(link)
    with disk_errors(target, CACHE_ELSEWHERE), whole(target, shared=True) as aside:
        aside.write_bytes(content)


def _get(link: str) -> bytes:
    for wait in (*WAITS, None):
        try:
            with urlopen(Request(link, headers=_AGENT), timeout=TIMEOUT) as answer:
                return answer.read()
        except (OSError, HTTPException, ValueError) as error:
            lasting = isinstance(error, ValueError) or (isinstance(error, HTTPError) and error.code < 500)
            if lasting or wait is None:  # another try would fare no better
                raise _Failed(f"{link} cannot be fetched ({error})") from None
        time.sleep(wait)
