"""An image is what every viewer shows: orientation, transparency, depth of colour; the rest is named."""

import base64
import io
import re
import struct
import zlib
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from spatialvlm import images
from spatialvlm.errors import RowError, UserError
from spatialvlm.files import rows
from spatialvlm.images import open_depth, open_image, open_lazily

PACKAGE = Path(images.__file__).parent
TURN = Image.Transpose
STORED = {  # by EXIF orientation, how a camera stores the upright image
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95, "subsampling": 0}}


def scene() -> Image.Image:
    """No two corners alike, so that every turn and flip shows."""
    image = Image.new("RGB", (48, 32), (200, 60, 40))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 24, 16), fill=(30, 120, 220))
    pen.ellipse((26, 16, 44, 30), fill=(250, 220, 30))
    pen.polygon([(5, 28), (13, 17), (21, 28)], fill=(20, 180, 60))
    return image


UPRIGHT = scene()
GREY = UPRIGHT.convert("L")
GREYS = np.asarray(GREY)
ALPHA = np.full(GREYS.shape, 255, np.uint8)
ALPHA[:, :10], ALPHA[:, 10:20] = 0, 128
BLACK = Image.new("RGB", UPRIGHT.size)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **LOSSLESS.get(kind, {}) | options)
    return content.getvalue()


def with_orientation(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = UPRIGHT.transpose(STORED[orientation]) if orientation in STORED else UPRIGHT
    return saved(stored, kind, exif=exif)


def png16(levels: np.ndarray, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow writes of greys alone."""
    height, width = levels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in levels)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def long_text() -> PngImagePlugin.PngInfo:
    """The workflow that an image generator keeps in its images."""
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "node " * 300_000, zip=True)
    return info


def over_white(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    part = alpha[..., None] / 255
    mixed = np.asarray(image.convert("RGB")) * part + 255 * (1 - part)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def cleared(image: Image.Image, where: np.ndarray) -> Image.Image:
    levels = np.array(image.convert("RGB"))
    levels[where] = 255
    return Image.fromarray(levels)


def stretched(levels: np.ndarray) -> Image.Image:
    least, greatest = int(levels.min()), int(levels.max())
    grey = np.rint((levels.astype(float) - least) * 255 / (greatest - least))
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def of_every_kind() -> dict[str, tuple[bytes, Image.Image]]:
    """Files by name, each with what a viewer shows."""
    palette, wide = UPRIGHT.quantize(8), GREYS.astype(np.uint16) * 257
    shown = palette.convert("RGB")
    clear, grey = palette.getpixel((0, 31)), int(GREYS[31, 0])
    colour = UPRIGHT.getpixel((0, 31))
    alpha = Image.fromarray(ALPHA)
    rgba, la = UPRIGHT.copy(), GREY.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    blended, blended_grey = over_white(UPRIGHT, ALPHA), over_white(GREY, ALPHA)
    in_grey, of_colour = GREY.convert("RGB"), (np.asarray(UPRIGHT) == colour).all(-1)
    no_colour, no_grey = cleared(UPRIGHT, of_colour), cleared(GREY, grey == GREYS)
    deep = np.asarray(UPRIGHT).astype(np.uint16) * 257
    floats = GREYS.astype(np.float32) / 255
    holes = floats.copy()
    holes[0, :3] = np.nan, np.inf, -np.inf
    holes_shown = np.array(stretched(GREYS))
    holes_shown[0, :3] = [[0], [255], [0]]
    lab = ImageCms.profileToProfile(
        UPRIGHT, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    pages = {"save_all": True, "append_images": [BLACK]}
    made = {
        "palette": (saved(palette, "PNG"), shown),
        "palette with transparency": (
            saved(palette, "PNG", transparency=clear),
            cleared(shown, np.asarray(palette) == clear),
        ),
        "RGBA": (saved(rgba, "PNG"), blended),
        "RGBA in WebP": (saved(rgba, "WEBP"), blended),
        "LA": (saved(la, "PNG"), blended_grey),
        "RGB with a transparent colour": (saved(UPRIGHT, "PNG", transparency=colour), no_colour),
        "L with a transparent level": (saved(GREY, "PNG", transparency=grey), no_grey),
        "1": (saved(GREY.convert("1"), "PNG"), GREY.convert("1").convert("RGB")),
        "opaque RGBA": (saved(UPRIGHT.convert("RGBA"), "PNG"), UPRIGHT),
        "16 bits, grey": (saved(Image.fromarray(wide), "PNG"), in_grey),
        "16 bits, grey, TIFF": (saved(Image.fromarray(wide), "TIFF"), in_grey),
        "16 bits, grey, PGM": (b"P5 48 32 65535\n" + wide.astype(">u2").tobytes(), in_grey),
        "16 bits, RGB": (png16(deep, 2), UPRIGHT),
        "16 bits, RGBA": (png16(np.dstack([deep, ALPHA * np.uint16(257)]), 6), blended),
        "16 bits, LA": (png16(np.dstack([wide, ALPHA * np.uint16(257)]), 4), blended_grey),
        "16 bits, transparent level": (png16(wide, 0, (b"tRNS", struct.pack(">H", grey * 257))), no_grey),
        "32 bits": (saved(Image.fromarray(GREYS.astype(np.int32) * 1000), "TIFF"), stretched(GREYS)),
        "floats": (saved(Image.fromarray(floats), "TIFF"), stretched(GREYS)),
        "floats with holes": (saved(Image.fromarray(holes), "TIFF"), Image.fromarray(holes_shown)),
        "floats, constant": (saved(Image.fromarray(floats * 0 + 3), "TIFF"), BLACK),
        "floats, none finite": (saved(Image.fromarray(floats * np.nan), "TIFF"), BLACK),
        "CMYK": (saved(UPRIGHT.convert("CMYK"), "TIFF"), UPRIGHT),
        "CMYK in JPEG": (saved(UPRIGHT.convert("CMYK"), "JPEG"), UPRIGHT),
        "YCbCr": (saved(UPRIGHT.convert("YCbCr"), "TIFF"), UPRIGHT),
        "LAB": (saved(lab, "TIFF"), UPRIGHT),
        "GIF of two": (saved(palette, "GIF", **pages), shown),
        "WebP of two": (saved(UPRIGHT, "WEBP", **pages), UPRIGHT),
        "TIFF of two": (saved(UPRIGHT, "TIFF", **pages), UPRIGHT),
        "MPO of two": (saved(UPRIGHT, "MPO", quality=95, subsampling=0, **pages), UPRIGHT),
        "broken EXIF": (saved(UPRIGHT, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"), UPRIGHT),
        "EXIF of nonsense": (saved(UPRIGHT, "JPEG", exif=b"Exif\0\0nonsense"), UPRIGHT),
        "orientation 99": (with_orientation(99, "PNG"), UPRIGHT),
        "a film behind a JPEG": (saved(UPRIGHT, "JPEG") + b"ftyp" + bytes(10**6), UPRIGHT),
        "a long text in a PNG": (saved(UPRIGHT, "PNG", pnginfo=long_text()), UPRIGHT),
        "junk behind a PNG": (saved(UPRIGHT, "PNG") + bytes(10**6), UPRIGHT),
    }
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation in range(1, 9):
            made[f"{kind} of orientation {orientation}"] = with_orientation(orientation, kind), UPRIGHT
    return made


MADE = of_every_kind()
NEARLY = ("JPEG", "MPO", "YCbCr", "LAB", "EXIF")  # levels of up to 20 apart


@pytest.mark.parametrize("name", MADE)
def test_an_image_is_what_viewers_show(name, tmp_path):
    content, wanted = MADE[name]
    file = tmp_path / "image"
    file.write_bytes(content)
    images.check_file(file)
    found = open_image(open_lazily(content))
    assert found.mode == "RGB" and found.size == wanted.size
    apart = np.abs(np.asarray(found, int) - np.asarray(wanted, int))
    assert apart.max() <= (20 if any(word in name for word in NEARLY) else 1 * (name in BLENDED))
    for again in (open_image(file), open_image(found)):  # from a file; and nothing is turned twice
        assert again.tobytes() == found.tobytes()


BLENDED = {"RGBA", "RGBA in WebP", "LA", "16 bits, RGBA", "16 bits, LA"}  # rounded otherwise


def test_a_turned_image_is_sent_upright_by_whoever_saves_it():
    found = open_image(open_lazily(with_orientation(6, "JPEG")))
    assert Image.open(io.BytesIO(saved(found, "PNG", exif=found.getexif()))).getexif().get(0x0112) is None


HEIC = b"\0\0\0\x18ftypheic" + bytes(80)
REFUSED = {
    "empty": (b"", "an empty file"),
    "HEIC": (HEIC, "a HEIC image"),
    "JPEG XL": (b"\xff\x0a" + bytes(80), "a JPEG XL image"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(80), "a video"),
    "text": (b"no image at all", "no image in a form that can be read"),
    "cut PNG": (saved(UPRIGHT, "PNG")[:-60], "truncated"),
    "cut JPEG": (saved(UPRIGHT, "JPEG")[:-20], "truncated"),
    "cut JPEG with a thumbnail": (
        saved(UPRIGHT, "JPEG", exif=b"Exif\0\0" + b"\xff\xd9" * 2000)[:-20],
        "trunc",
    ),
    "cut WebP": (saved(UPRIGHT, "WEBP")[:-20], "."),
    "cut GIF": (saved(UPRIGHT, "GIF")[:-20], "."),
    "cut TIFF": (saved(UPRIGHT, "TIFF")[:-20], "."),
    "too many pixels": (saved(Image.new("1", (20000, 9500)), "PNG"), "190000000 pixels"),
    "aspect": (saved(Image.new("1", (2010, 10)), "PNG"), "2,010 and 10 pixels, are more than 200 to 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_named_from_bytes_and_files(name, tmp_path):
    content, reason = REFUSED[name]
    file = tmp_path / "image.png"
    file.write_bytes(content)
    with pytest.raises(RowError, match=reason) as of_bytes:
        rows.as_image(content or bytearray(), "set row 3")
    with pytest.raises(RowError, match=reason) as of_file:
        rows.as_image("image.png", "set row 3", tmp_path)
    with pytest.raises(UserError, match=reason) as opened:
        open_image(file)
    for error in (of_bytes, of_file, opened):
        text = str(error.value)
        assert "\n" not in text and "object at 0x" not in text
    assert str(of_bytes.value).startswith("set row 3") and str(of_file.value).startswith("set row 3: image ")
    assert "image.png" in str(of_file.value) and "image.png" in str(opened.value)


def test_an_image_of_200_to_1_and_one_pixel_are_read():
    for size in ((200, 1), (1, 1), (3, 3)):
        assert open_image(open_lazily(saved(Image.new("RGB", size), "PNG"))).size == size


def test_damaged_files_are_images_or_named(tmp_path):
    """Bits turned, parts missing, zeroed or put in, in files of every kind."""
    rng, file = Random(0), tmp_path / "image"
    counts = Counter()
    for name in list(MADE) * 4:
        content = bytearray(MADE[name][0])
        at = rng.randrange(len(content))
        damaged = rng.choice((content[:at], content[:at] + bytes(9) + content[at + 9 :], content[:]))
        for _ in range(2):
            at = rng.randrange(len(damaged) + 1)
            damaged[at : at + 1] = rng.randbytes(1)
        damaged[at:at] = rng.randbytes(rng.randrange(3))
        file.write_bytes(damaged)
        try:
            found = open_image(rows.as_image(bytes(damaged), "set row 3"))
            images.check_file(file)
            assert found.mode == open_depth(file).mode == "RGB"
            counts["shown"] += 1
        except (UserError, images.ImageError) as error:
            assert "\n" not in str(error) and " at 0x" not in str(error)
            counts["named"] += 1
    assert min(counts.values()) > 50


def test_nothing_else_opens_an_image_or_changes_its_mode():
    """But depth maps that are copied, and arrays, whose mode is known."""
    elsewhere = {
        f"{file.relative_to(PACKAGE)}: {found}"
        for file in PACKAGE.rglob("*.py")
        for found in re.findall(r"Image\.open\(|\w+\.convert\(", file.read_text(encoding="utf-8"))
        if file.name != "images.py"
    }
    assert elsewhere == {"tasks/clevr/described_files.py: Image.open("}


# ---- how rows hold images


PNG = saved(UPRIGHT, "PNG")
IN_BASE64 = base64.b64encode(PNG).decode()
HELD = {
    "PIL": UPRIGHT,
    "bytes": PNG,
    "bytearray": bytearray(PNG),
    "dict of bytes": {"bytes": PNG, "path": None},
    "dict of a path": {"bytes": None, "path": "one.png"},
    "path": "one.png",
    "list of one": [PNG],
    "list of a dict": [{"bytes": PNG, "path": "x"}],
    "base64": IN_BASE64,
    "base64 in lines": "\n".join(IN_BASE64[at : at + 76] for at in range(0, len(IN_BASE64), 76)),
    "data URL": f"data:image/png;base64,{IN_BASE64}",
    "array": np.asarray(UPRIGHT),
    "lists of levels": np.asarray(UPRIGHT).tolist(),
}


@pytest.mark.parametrize("name", HELD)
def test_an_image_in_a_row_is_read_whatever_holds_it(name, tmp_path):
    (tmp_path / "one.png").write_bytes(PNG)
    found = rows.as_image(HELD[name], "row 0", tmp_path)
    assert open_image(found).tobytes() == UPRIGHT.tobytes()


@pytest.mark.parametrize(
    "value, message",
    [
        ("https://example.org/one.png", "row 0: its image is on the web, 'https://example.org/one.png'"),
        ("data:image/svg+xml,%3Csvg", "give it in base64"),
        ([PNG, PNG], "no readable image, but list"),
        (np.zeros((4, 4, 7), np.uint8), "no readable image, but ndarray"),
        (np.zeros((4, 4)), "no readable image, but ndarray"),
        ([], "no readable image, but list"),
        (7, "no readable image, but int"),
        ("   ", "no readable image, but str"),
    ],
)
def test_what_holds_no_one_image_is_named(value, message):
    with pytest.raises(RowError, match=message):
        rows.as_image(value, "row 0")


def test_base64_of_no_image_is_named_by_what_it_is():
    with pytest.raises(RowError, match="row 0: the image cannot be read .a HEIC image"):
        rows.as_image(base64.b64encode(HEIC * 3).decode(), "row 0")


def test_a_missing_file_whose_name_could_be_base64_is_missing(tmp_path):
    path = rows.as_image("a" * 64, "row 0", tmp_path)
    with pytest.raises(RowError, match="does not exist"):
        rows.require_files([path], "row 0")


# ---- depth maps


def depth_file(folder, levels: np.ndarray, kind: str = "PNG"):
    file = folder / f"depth.{kind.lower()}"
    Image.fromarray(levels).save(file, kind)
    return file


RAMP = np.linspace(500, 5000, 64 * 64).reshape(64, 64)  # millimetres


@pytest.mark.parametrize(
    "levels, kind",
    [
        (RAMP.astype(np.uint16), "PNG"),
        (RAMP.astype(np.float32) / 1000, "TIFF"),
        (RAMP.astype(np.int32), "TIFF"),
    ],
)
def test_a_map_of_distances_is_shown_with_near_objects_bright(levels, kind, tmp_path):
    found = np.asarray(open_depth(depth_file(tmp_path, levels, kind)))[..., 0]
    wanted = 255 * (5000 - RAMP) / 4500
    assert np.abs(found - wanted).max() <= 1 and len(np.unique(found)) == 256


def test_what_was_not_measured_is_black_in_a_depth_map(tmp_path):
    levels = RAMP.astype(np.uint16)
    levels[0, 0] = 0
    found = np.asarray(open_depth(depth_file(tmp_path, levels)))[..., 0]
    assert found[0, 0] == 0 and found[0, 1] == 255
    floats = RAMP.astype(np.float32)
    floats[0, :3] = np.nan, np.inf, 0
    found = np.asarray(open_depth(depth_file(tmp_path, floats, "TIFF")))[..., 0]
    assert found[0, :4].tolist() == [0, 0, 0, 255]


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
@pytest.mark.parametrize("unmeasured", [(0, 65535), (65535,), (0, 65535, 65300, 200)])
def test_a_map_of_distances_with_both_ends_of_16_bits_is_one_of_distances(unmeasured, kind, tmp_path):
    """0 where a camera measured nothing, 65,535 where all is too far or near: not MiDaS's two ends."""
    levels = RAMP.astype(np.uint16)
    levels[0, : len(unmeasured)] = unmeasured
    file = depth_file(tmp_path, levels, kind)
    found = np.asarray(open_depth(file))[..., 0].astype(int)
    if len(unmeasured) < 3:
        assert found[0, : len(unmeasured)].tolist() == [0] * len(unmeasured) and found[-1, -1] == 0
    assert found[1, 0] > 250 and found[1, 0] > found[40, 0]


def test_a_map_of_two_values_is_one_of_distances(tmp_path):
    levels = np.full((64, 64), 65535, np.uint16)
    levels[:9], levels[9:20] = 0, 3000
    found = np.asarray(open_depth(depth_file(tmp_path, levels)))
    assert not found[:9].any() and not found[20:].any()
    levels[12:20] = 1000
    assert np.asarray(open_depth(depth_file(tmp_path, levels)))[[0, 10, 15, 40], 0, 0].tolist() == [
        0,
        0,
        255,
        0,
    ]


def test_a_depth_map_that_was_scaled_already_is_shown_as_it_is(tmp_path):
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    found = np.asarray(open_depth(depth_file(tmp_path, levels.astype(np.uint16))))[..., 0]
    assert np.abs(found - levels / 257).max() <= 1
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    assert (np.asarray(open_depth(depth_file(tmp_path, grey)))[..., 0] == grey).all()
