"""Frames of a video, sampled uniformly: from an mp4, a folder or list of images, or a rendered room.

Which frames are taken is lmms-eval's rule (`load_video_decord`), and thereby VSI-Bench's: `num_frames` from
the first to the last. Videos are decoded by PyAV, whose wheels bring FFmpeg along. H.264 has no checksums: a
damaged frame is found where the decoder stumbles over it, which is mostly, not always.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spatialvlm.errors import UserError, require_at_least
from spatialvlm.example import open_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

Source = str | Path | Sequence[Image.Image | str | Path]


@dataclass(frozen=True)
class Frames:
    """What was sampled of a video.

    Args:
        images: RGB, in the order of time.
        indices: their numbers in the video, from 0.
        total: how many frames the video has.
        interval: seconds from one of them to the next, on average; None where that is not known.
    """

    images: tuple[Image.Image, ...]
    indices: tuple[int, ...]
    total: int
    interval: float | None = None

    def __len__(self) -> int:
        return len(self.images)


def uniform(total: int, count: int) -> list[int]:
    """The numbers of `count` frames spread over `total`, the first and the last among them; all of them where
    there are no more than `count`.
    """
    if total <= count:
        return list(range(total))
    return np.linspace(0, total - 1, count, dtype=int).tolist()


def frames(source: Source, num_frames: int = 16) -> Frames:
    """`num_frames` frames spread over the source, fewer where it has fewer.

    Args:
        source: a video file; a folder of images, taken in the order of the numbers in their names; or a
            sequence of images or paths, of which only those that are sampled are looked at (`rooms.Film` is
            one).

    Raises:
        UserError: nothing there, no frame in it, a frame that is missing or broken; the message names it.
    """
    require_at_least(1, num_frames=num_frames)
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return _of_images(in_folder(path), num_frames, str(path))
        if not path.is_file():
            raise UserError(f"video {path} does not exist; give a video file or a folder of its frames")
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return _of_video(path, num_frames)
        raise UserError(f"{path} is no video ({', '.join(VIDEO_SUFFIXES)}) and no folder of frames")
    return _of_images(source, num_frames, "the list of frames")


def _of_images(images: Sequence[Image.Image | str | Path], num_frames: int, name: str) -> Frames:
    indices = uniform(len(images), num_frames)
    if not indices:
        raise UserError(f"{name} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    found = [images[index] for index in indices]
    opened = [open_image(Path(image) if isinstance(image, str) else image) for image in found]
    return Frames(tuple(opened), tuple(indices), len(images))


def in_folder(folder: Path) -> list[Path]:
    """The images in a folder, `frame_10` after `frame_9`."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(images, key=lambda file: [_key(part) for part in re.split(r"(\d+)", file.stem)])


def _key(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdigit() else (0, part)


def _of_video(path: Path, num_frames: int) -> Frames:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"video {path} holds no images; give another file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            # else a damaged frame comes out as the decoder guesses it
            stream.codec_context.options = {"err_detect": "explode"}
            # the times of all frames without decoding them, and of those that decoding can begin at
            packets = [p for p in container.demux(stream) if p.pts is not None and not p.is_discard]
            times = sorted(packet.pts for packet in packets)
            keys = sorted(((p.pts, p.dts) for p in packets if p.is_keyframe), key=lambda times: times[0])
            if not times or len(times) < stream.frames:  # a file that names no number of frames says 0
                raise UserError(
                    f"video {path} is cut short: {len(times)} of {stream.frames} frames; fetch it again"
                )
            indices = uniform(len(times), num_frames)
            wanted = [(index, times[index]) for index in indices]
            images = _decoded(container, stream, wanted, keys, str(path))
            apart = float((wanted[-1][1] - wanted[0][1]) * stream.time_base)
            interval = apart / (len(wanted) - 1) if len(wanted) > 1 else None
            return Frames(tuple(images), tuple(indices), len(times), interval)
    except av.FFmpegError as error:
        raise UserError(f"video {path} cannot be read ({error.strerror}); fetch it again") from None


def _decoded(
    container: Any, stream: Any, wanted: Sequence[tuple[int, int]], keys: Sequence[tuple[int, int]], name: str
) -> list[Image.Image]:
    """The frames with these (numbers, times), ascending, decoded from the nearest key frame before each.

    Args:
        keys: (presentation, decoding) times of the frames that decoding can begin at.
    """
    images, reached, decoder = [], None, None
    for index, time in wanted:
        key = keys[max(bisect_right(keys, time, key=lambda times: times[0]) - 1, 0)]
        if reached is None or key[0] > reached:
            container.seek(key[0] if key[1] is None else key[1], stream=stream)  # mkv has no decoding times
            decoder = container.decode(stream)
        frame = next((frame for frame in decoder if frame.pts is not None and frame.pts >= time), None)
        if frame is None or frame.pts != time or frame.is_corrupt:
            raise UserError(f"video {name}: frame {index} cannot be decoded; fetch the file again")
        reached = time
        images.append(frame.to_image().rotate(frame.rotation, expand=True))
    return images
