"""An image as every viewer shows it, from any file and in any mode: one rule for all that look at images.

- The first frame or page, upright by its EXIF or XMP orientation (where EXIF is broken, as it is stored).
- Colours as 8 bits of red, green and blue; what is transparent lies over white. Profiles of colours (ICC)
  change nothing, and CMYK is converted without one.
- Greys of 16 bits by their high byte, as viewers do, so that 65,535 is white. Greys of 32 bits and floats,
  which have no white of their own: stretched from the least (black) to the greatest (white) finite value; not
  a number is black.
- Refused by name: what Pillow cannot read, more pixels than Pillow's limit of 178,956,970, a side more than
  `MAX_ASPECT` times the other, which models refuse.

Depth maps hold measurements, not light: `open_depth`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from spatialvlm.errors import UserError

_GREATEST = 65535  # of 16 bits
MAX_ASPECT = 200  # Qwen2-VL's and Qwen2.5-VL's own limit
_WHITE = (255, 255, 255, 255)
_BITS, _WHITE_IS, _SIGNS = 258, 262, 339  # numbers of TIFF's tags
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NO_IMAGES = {  # what people take for images, by how it begins
    b"": "an empty file",
    b"\xff\x0a": "a JPEG XL image: convert it to PNG or JPEG",
    b"\0\0\0\x0cJXL ": "a JPEG XL image: convert it to PNG or JPEG",
    b"<svg": "an SVG drawing: convert it to PNG",
    b"<?xml": "an SVG drawing or another XML file",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"%pdf": "a PDF file",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file with 'git lfs pull'",
}
_TAIL = 2**16  # bytes at the end of a file that are searched for its mark first

# Pillow warns of broken EXIF, and of half the pixels that it refuses, which many photographs have.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # image generators write more than a megabyte


class ImageError(ValueError):
    """Why something is no image that can be used: a few words, without its name."""


def open_image(image: Image.Image | Path) -> Image.Image:
    """The image in RGB as viewers show it, decoded; see the rule above.

    Raises:
        UserError: it is missing, broken, or refused; the message names the file.
    """
    return _decoded(image, _as_shown)


def open_depth(path: Path) -> Image.Image:
    """A depth map in RGB, near objects bright.

    With 8 bits a channel it is shown as it is. With more it holds distances, as RGB-D cameras and
    `clevr_desc` write them: the nearest is white, the farthest black, and what was not measured (0, the
    greatest of 16 bits, not a number, infinite) black. Where it takes up 16 bits from 0 to 65,535, with
    levels near both ends too, it was scaled by a program that estimates depth (MiDaS), which makes near
    objects bright: shown as it is.

    Raises:
        UserError: as `open_image`.
    """
    return _decoded(path, _depth_as_shown)


def open_lazily(content: bytes | bytearray) -> Image.Image:
    """The image in a file's content, checked as in `check_file`, and every checksum of a PNG."""
    try:
        image = Image.open(io.BytesIO(content))
        _check(image, io.BytesIO(content))
        if image.format == "PNG":
            with Image.open(io.BytesIO(content)) as again:
                again.verify()
    except Exception as error:  # of some thirty formats, whose errors have no common ancestor
        raise _named(error, content) from None
    return image


def check_file(path: Path) -> None:
    """Check the header, the sides and the end of a file; no pixel of a PNG, JPEG or WebP is decoded.

    Raises:
        ImageError: it is no image, only a part of one, or refused.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            _check(image, file)
    except Exception as error:  # as above
        raise _named(error, path) from None


def short_name(path: Path) -> str:
    """A file's name as messages show it, on one line and short, whatever was taken for a name."""
    name = " ".join(str(path).split())
    return name if len(name) <= 200 else f"{name[:100]}... ({len(name):,} characters)"


def check_size(image: Image.Image) -> None:
    """Raise ImageError where an image has sides that no model takes."""
    short, long = sorted(image.size)
    if not short:
        raise ImageError("it has no pixel")
    if long > MAX_ASPECT * short:
        raise ImageError(
            f"its sides, {image.width:,} and {image.height:,} pixels, are more than {MAX_ASPECT} to 1, which "
            "models refuse"
        )


def _check(image: Image.Image, file: BinaryIO) -> None:
    """Raise for sides that models refuse, and for a file that is cut off."""
    check_size(image)
    if image.format not in ("PNG", "JPEG", "MPO", "WEBP"):  # rare, and nothing but decoding tells
        image.load()
        return
    size = file.seek(0, io.SEEK_END)
    if image.format == "WEBP":
        file.seek(4)
        whole = size >= 8 + int.from_bytes(file.read(4), "little")
    elif image.format == "PNG":
        whole = _holds(file, size, 0, b"IEND\xae\x42\x60\x82")
    else:  # an EXIF thumbnail before the pixels has a mark of its own, and so may a film behind them
        whole = _holds(file, size, _start_of_pixels(file), b"\xff\xd9")
    if not whole:
        raise ImageError("image file is truncated")


def _holds(file: BinaryIO, size: int, start: int, mark: bytes) -> bool:
    """Whether a mark stands somewhere from a place on; most files end with it."""
    for begin in (max(start, size - _TAIL), start):
        file.seek(begin)
        if mark in file.read():
            return True
    return False


def _start_of_pixels(file: BinaryIO) -> int:
    """Where a JPEG's headers end, each of which has its length."""
    at = 2
    while True:
        file.seek(at)
        header = file.read(4)
        if len(header) < 4 or header[0] != 0xFF or header[1] == 0xDA:
            return at
        at += 2 + int.from_bytes(header[2:], "big")


def _content(source: Path | bytes | bytearray) -> bytes | bytearray:
    return source.read_bytes() if isinstance(source, Path) else source


def _named(error: Exception, source: Path | bytes | bytearray | None) -> ImageError:
    """An error of Pillow's in words that name no object in memory."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(f"{str(error).partition(', ')[0]}: scale it down")
    if not isinstance(error, UnidentifiedImageError) or source is None:
        return ImageError(" ".join(str(error).split()) or type(error).__name__)
    head = _content(source)[:64].lstrip().lower()
    if head[4:8] == b"ftyp":
        heic = head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
        kind = "a HEIC image: convert it to PNG or JPEG" if heic else "a video or another MP4 file"
        return ImageError(kind)
    kinds = (kind for begin, kind in _NO_IMAGES.items() if (head.startswith(begin) if begin else not head))
    return ImageError(next(kinds, "no image in a form that can be read"))


def _decoded(image: Image.Image | Path, show: Callable[[Image.Image], Image.Image]) -> Image.Image:
    try:
        if isinstance(image, Image.Image):
            return show(image)  # decodes one that was opened lazily
        with Image.open(image) as opened:
            return show(opened)
    except FileNotFoundError:
        raise UserError(f"image {short_name(image)} does not exist") from None
    except Exception as error:  # of some thirty formats, whose errors have no common ancestor
        in_memory = isinstance(image, Image.Image)
        name = getattr(image, "filename", "") or "in memory" if in_memory else short_name(image)
        reason = _named(error, None if in_memory else image)
        raise UserError(
            f"image {name} cannot be read ({reason}); replace the file or remove its row"
        ) from None


def _as_shown(image: Image.Image) -> Image.Image:
    check_size(image)
    image.load()  # before EXIF, which may stand at the end of a file
    return _in_rgb(_upright(image))


def _depth_as_shown(image: Image.Image) -> Image.Image:
    check_size(image)
    image.load()
    image = _upright(image)
    if not image.mode.startswith(("I", "F")):
        return _in_rgb(image)
    depth = np.asarray(image, dtype=float)
    measured = np.isfinite(depth) & (depth != 0)
    if image.mode.startswith("I") and depth.max() == _GREATEST:
        measured &= depth != _GREATEST
        if depth.min() == 0 and _takes_up_all(depth[measured]):
            return Image.fromarray(_stretched(depth)).convert("RGB")
    return Image.fromarray(_stretched(np.where(measured, -depth, np.nan))).convert("RGB")


def _takes_up_all(levels: np.ndarray) -> bool:
    """Whether levels between the least and the greatest of 16 bits come near both, and not one or two."""
    levels = np.unique(levels)
    return all(near.sum() > 2 for near in (levels < 0.05 * _GREATEST, levels > 0.95 * _GREATEST))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # whatever broken EXIF raises, viewers show the image as it is stored
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        turned.info.pop(name, None)  # so that nobody turns it again
    return turned


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey(image)).convert("RGB")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        shown = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), opaque).convert("RGB")
    else:
        shown = image.convert("RGB")
    shown.info.pop("icc_profile", None)  # it is of the mode before
    return shown


def _grey(image: Image.Image) -> np.ndarray:
    """Greys of more than 8 bits as (height, width) uint8."""
    levels, tags = np.asarray(image), getattr(image, "tag_v2", {})  # a TIFF's
    if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SIGNS, (1,)) == (1,):
        levels = levels.view(np.uint32)  # for which Pillow has no mode
    if image.mode.startswith("I;16") and tags.get(_WHITE_IS) == 0:
        levels = 65535 - levels
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):  # a PGM's maximum is 65,535
        return _stretched(levels.astype(float))
    shown = (levels.clip(0, 65535) >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        shown[levels == clear] = 255
    return shown


def _stretched(levels: np.ndarray) -> np.ndarray:
    """(height, width) uint8: the least finite level 0, the greatest 255; a constant image is black."""
    finite = np.isfinite(levels)
    least, greatest = (levels[finite].min(), levels[finite].max()) if finite.any() else (0.0, 0.0)
    scale = greatest - least
    levels = np.nan_to_num(levels, nan=least, posinf=greatest, neginf=least)
    return np.rint(255 * (levels - least) / (scale or 1.0)).astype(np.uint8)
