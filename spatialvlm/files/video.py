"""Frames of a video, sampled uniformly: from an mp4, a folder or list of images, or a rendered room.

Which frames are taken is lmms-eval's rule (`load_video_decord`), and thereby VSI-Bench's: `num_frames` from
the first to the last, by number, also where the rate varies. They are frames as a player shows them: none
that a trimmed video hides, upright, with square pixels. Videos are decoded by PyAV, whose wheels bring FFmpeg
along. H.264 has no checksums: a damaged frame is found where the decoder stumbles over it, which is mostly,
not always. MPEG-TS, GIF and fragmented MP4 do not say how long they are: what is there is the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spatialvlm import text_files
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.images import open_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".3gp", ".ts", ".mpg", ".mpeg", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

HIDING = ("vp8", "mpeg4")  # codecs with packets that show no frame
MISSING = 0.25  # seconds of a Matroska file's length that its packets may leave out

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
    """The images in a folder, `frame_10` after `frame_9`; of `1.color.png` and `1.depth.png` the former.

    Raises:
        UserError: two images of one number.
    """
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if _of_one_number(images):
        images = [file for file in images if re.search(r"color|colour|rgb", file.stem.lower())] or images
    if twice := _of_one_number(images):
        one, other = sorted(file.name for file in twice)
        raise UserError(
            f"{folder} holds two images of one number, {one} and {other}: leave there the frames alone"
        )
    return sorted(images, key=lambda file: [_key(part) for part in re.split(r"(\d+)", file.stem)])


def _of_one_number(images: Sequence[Path]) -> tuple[Path, Path] | None:
    found: dict[tuple[int, ...], Path] = {}
    for image in images:
        numbers = tuple(map(int, re.findall(r"\d+", image.stem)))
        if numbers and found.setdefault(numbers, image) is not image:
            return found[numbers], image
    return None


def _key(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdigit() else (0, part)


def _of_video(path: Path, num_frames: int) -> Frames:
    import av

    try:
        expected, is_exact = _announced(path)
        total, taken = _shown(path, uniform(expected, num_frames))
        if total < expected and is_exact:
            raise UserError(
                f"video {path}: {expected - total} of its {expected} frames cannot be decoded; fetch it again"
            )
        if total != expected:
            total, taken = _shown(path, uniform(total, num_frames))
    except av.FFmpegError as error:
        with path.open("rb") as file:
            begin = file.read(64)
        if reason := text_files.no_text(begin):
            raise UserError(f"video {path} {reason}") from None
        if begin.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            raise UserError(
                f"video {path} is a web page and no video: fetch it again, perhaps signed in"
            ) from None
        raise UserError(f"video {path} cannot be read ({error.strerror}); fetch it again") from None
    if not taken:
        raise UserError(f"video {path} holds no images; give another file")
    indices, seconds, images = zip(*taken, strict=True)
    if sizes := {image.size for image in images} - {images[0].size}:
        (width, height), (other, another) = images[0].size, min(sizes)
        raise UserError(
            f"video {path} changes from {width} x {height} to {other} x {another} pixels; convert it to one "
            "size"
        )
    interval = (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else 0
    return Frames(images, indices, total, interval if interval > 0 else None)


def _opened(path: Path) -> Any:
    import av

    return av.open(str(path), metadata_errors="replace")  # titles in any encoding


def _packets(container: Any, *streams: Any) -> Iterator[Any]:
    try:
        yield from container.demux(*streams)
    except IndexError:  # PyAV 18.1 at the end of a file in which another stream began later: all is read
        return


def _images_of(container: Any, path: Path) -> Any:
    """The stream that a player shows."""
    from av.stream import Disposition

    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:  # the cover of a recording
        raise UserError(f"video {path} holds no images; give another file")
    if stream.codec_context is None:
        raise UserError(f"video {path} is in a codec that FFmpeg does not know; convert it to another")
    return stream


def _announced(path: Path) -> tuple[int, bool]:
    """(number of frames shown, whether it is exact), from a video's packets, without decoding them.

    Raises:
        UserError: the file is cut short, as far as its format says how long it is.
    """
    with _opened(path) as container:
        stream = _images_of(container, path)
        format = container.format.name
        indexed = len(stream.index_entries)  # of MP4 after trimming
        listed = indexed if "mp4" in format else stream.frames
        count, broken, times, first, end = 0, 0, [], None, 0.0
        for packet in _packets(container):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None:
                if not packet.size:  # the end of a stream
                    continue
            else:
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
            if packet.stream is stream:
                count += 1
                broken = broken or (count if packet.is_corrupt else 0)
                if first is None and packet.is_keyframe:  # decoding begins here
                    first = packet.pts if packet.pts is not None else -math.inf
                if packet.size and not packet.is_discard and first is not None:
                    times.append(packet.pts)
        length = (container.duration or 0) / 1e6
        if count < listed and count != indexed:  # AVI counts frames that were dropped in recording
            raise UserError(f"video {path} is cut short: {count} of {listed} frames; fetch it again")
        if broken and format != "mpegts":  # whose packets are said to be where recordings are joined
            raise UserError(f"video {path} is damaged at frame {broken - 1}; fetch it again")
        if "matroska" in format and end < length - MISSING:
            raise UserError(f"video {path} is cut short: {end:.1f} of {length:.1f} seconds; fetch it again")
        shown = sum(time is None or time >= first for time in times)
        return shown, stream.codec_context.name not in HIDING


def _shown(path: Path, wanted: Sequence[int]) -> tuple[int, list[tuple[int, float, Image.Image]]]:
    """How many frames a player shows, and the wanted ones: (number, seconds, image).

    All are decoded in order, for what a frame needs may lie anywhere before it: trimmed videos hide key
    frames, and what AVI calls a frame's time is another's. It takes as long as seeking 16 frames, or less
    but where key frames are dense.
    """
    taken, number = [], -1
    with _opened(path) as container:
        stream = _images_of(container, path)
        stream.thread_type = "AUTO"
        # else a damaged frame comes out as the decoder guesses it
        stream.codec_context.options = {"err_detect": "explode"}
        rate, aspect = stream.guessed_rate or 0, stream.sample_aspect_ratio or Fraction(1)
        chosen = set(wanted)
        frames = (frame for packet in _packets(container, stream) for frame in packet.decode())
        for number, frame in enumerate(frames):
            if frame.is_corrupt:
                raise UserError(f"video {path}: frame {number} cannot be decoded; fetch the file again")
            if number in chosen:
                time = frame.time if frame.time is not None else number / rate if rate else 0.0
                taken.append((number, time, _upright(frame, aspect)))
    return number + 1, taken


def _upright(frame: Any, aspect: Fraction) -> Image.Image:
    """A frame as it is shown: its pixels made square, turned and mirrored as its header says."""
    image = frame.to_image()
    if aspect != 1:  # enlarged, as players do, in one direction
        width, height = round(image.width * max(aspect, 1)), round(image.height / min(aspect, 1))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    xx, xy, _, yx, yy, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()  # x to x and y, y to x and y
    if abs(xy) + abs(yx) > abs(xx) + abs(yy):
        image, xx, yy = image.transpose(Image.Transpose.TRANSPOSE), yx, xy
    if xx < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if yy < 0 else image
