"""Files that rows only link to: downloaded once, by several threads, into a cache in the user's home."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from spatialvlm.disk import CACHE_ELSEWHERE, cache_folder, disk_errors, whole
from spatialvlm.errors import UserError
from spatialvlm.images import ImageError, open_image, open_lazily

THREADS, TIMEOUT = 16, 30  # at a time; seconds without an answer
WAITS = (0.5, 2.0)  # seconds before the second and the third try
MAX_BYTES = 2**27  # of one file
_AGENT = {"User-Agent": "Mozilla/5.0 (compatible; spatialvlm)"}  # many servers refuse Python's own name


class DownloadError(Exception):
    """A link that cannot be downloaded; `reason` is a word or two that can be counted (`HTTP 404`)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def download(link: str) -> bytes:
    """The content of a link, retried where the server is busy or silent.

    Raises:
        DownloadError: no web address, no answer after three tries, refused, or more than `MAX_BYTES`.
    """
    for wait in (*WAITS, None):
        final = wait is None
        try:
            with urlopen(Request(link, headers=_AGENT), timeout=TIMEOUT) as answer:
                content = answer.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise DownloadError("too large", f"{link} holds more than {MAX_BYTES:,} bytes")
            return content
        except HTTPError as error:
            reason, cause = f"HTTP {error.code}", error
            final |= error.code < 500 and error.code != 429  # another try would fare no better
        except (OSError, HTTPException) as error:  # no such host, a time-out, a connection that broke off
            reason, cause = "not answered", error
        except ValueError as error:  # such as a port that is no number
            reason, cause, final = "no web address", error, True
        if final:
            raise DownloadError(reason, f"{link} cannot be downloaded ({cause})")
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def cached(link: str) -> Path:
    """Where the image of a link lies once it is downloaded."""
    code = hashlib.sha256(link.encode()).hexdigest()[:16]
    return cache_folder() / "images" / f"{code}-{Path(urlsplit(link).path).name}"


def fetch(links: Sequence[str], otherwise: str) -> None:
    """Download the images that the cache does not hold yet.

    The main process downloads first; on other machines of a launch, each one what it does not see then.

    Args:
        links: web addresses of images.
        otherwise: what else the user can do where the network is missing, as a command.

    Raises:
        UserError: a link that cannot be downloaded or holds no image, a disk that cannot be written.
    """
    from spatialvlm import distributed  # imports torch, which reading data does not need

    quiet = not distributed.state().is_main_process
    distributed.on_main(lambda: _fetch(links, otherwise, quiet))
    distributed.agree(lambda: _fetch(links, otherwise, quiet) or [])


def _fetch(links: Sequence[str], otherwise: str, quiet: bool) -> None:
    missing = [link for link in dict.fromkeys(links) if not cached(link).is_file()]
    if not missing:
        return
    pool = ThreadPoolExecutor(min(THREADS, len(missing)))
    try:
        jobs = [pool.submit(_store, link) for link in missing]
        for job in tqdm(as_completed(jobs), "images", len(jobs), unit="image", disable=quiet):
            job.result()
    except DownloadError as error:
        pool.shutdown(cancel_futures=True)  # before counting: the downloads under way end first
        there = sum(cached(link).is_file() for link in missing)
        raise UserError(
            f"{error}; {there} of {len(missing)} missing images were downloaded and stay in "
            f"{cache_folder() / 'images'}: check the network and run again, or {otherwise}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _store(link: str) -> None:
    content = download(link)
    try:
        open_image(open_lazily(content))
    except (UserError, ImageError) as error:
        raise DownloadError("no image", f"what {link} holds is no whole image ({error})") from None
    target = cached(link)
    with disk_errors(target, CACHE_ELSEWHERE), whole(target, shared=True) as aside:
        aside.write_bytes(content)
